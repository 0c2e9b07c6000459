//! The engine's side of one range: memory, line ends, order.

use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::block::{Block, Shape};
use super::sift::{Sieve, SiftedBlock};
use crate::budget::{Buffers, Permit, Pool, Turn};
use crate::cpu::{CpuPool, Pending};
use crate::error::{Error, Result};
use crate::ledger::{Origin, RowPositions};
use crate::source::{BlockSink, Buffer, Cursor, Rows};
use crate::writer::Activity;

/// What all ranges of a job share.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) read: Pool,
    pub(super) cpu: CpuPool,
    pub(super) sieve: Arc<Sieve>,
    pub(super) buffers: Buffers,
    pub(super) block_bytes: usize,
    pub(super) line_limit_bytes: usize,
    /// Ends every wait for memory.
    pub(super) halt: CancellationToken,
    /// Number of the range whose turn it is.
    pub(super) head: watch::Sender<u64>,
    /// The range whose turn it is lacks memory that later ones hold.
    pub(super) starving: Notify,
    /// Whether the job moves.
    pub(super) activity: Arc<Activity>,
}

/// What a range hands on, in order.
#[derive(Debug)]
pub(super) enum Piece {
    /// A block on its way through the sieve.
    Block(Pending<Result<SiftedBlock>>),
    /// A line that is longer than the limit; its bytes were passed over.
    TooLong {
        /// Where it begins.
        origin: Origin,
        /// Its length without the line feed.
        length_bytes: u64,
    },
}

/// Takes the blocks of one range.
#[derive(Debug)]
pub(super) struct RangeSink {
    intake: Arc<Intake>,
    number: u64,
    out: mpsc::Sender<Piece>,
    start: Start,
    held: Held,
    has_rows: bool,
}

/// Where a range can be read on behind all that was handed on.
#[derive(Clone, Debug)]
pub(super) struct Stand {
    pub(super) cursor: Cursor,
    /// Rows between the range's start and the cursor.
    pub(super) rows_before: u64,
}

/// Where what comes next begins in its range.
///
/// A cursor is its source's own: whether it is an offset or the place of a row tells only what is handed over behind it.
#[derive(Debug)]
struct Start {
    cursor: Cursor,
    /// Bytes of lines, or rows, handed over since.
    passed: u64,
    /// Rows between the range's start and what comes next.
    rows_before: u64,
}

/// The beginning of a line whose end hasn't come yet.
#[derive(Debug)]
enum Held {
    /// Nothing.
    Nothing,
    /// The tail of the last block.
    Tail(Vec<u8>),
    /// A line that fills a buffer and goes on.
    Line(Buffer),
    /// A line over the limit, which is passed over.
    TooLong(Passed),
}

/// What has passed of a line over the limit.
#[derive(Clone, Copy, Debug)]
struct Passed {
    bytes: u64,
    /// Nothing but blanks: if it stays so, the line is no resource, however long.
    is_blank: bool,
}

impl Passed {
    /// The beginning of a line.
    fn new(bytes: &[u8]) -> Self {
        let passed = Self { bytes: 0, is_blank: true };
        let unmarked = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        Self { bytes: bytes.len() as u64, ..passed.and(unmarked) }
    }

    /// The same with what comes next of the line.
    fn and(self, bytes: &[u8]) -> Self {
        let is_blank = self.is_blank && bytes.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
        Self { bytes: self.bytes + bytes.len() as u64, is_blank }
    }
}

impl Start {
    /// Where lines of so many bytes begin; what comes next begins behind them.
    fn after_lines(&mut self, length_bytes: u64) -> Origin {
        let origin = Origin::Offset(self.cursor.offset().unwrap_or_default() + self.passed);
        self.passed += length_bytes;
        origin
    }

    /// Where so many rows begin; what comes next begins behind them.
    fn after_rows(&mut self, rows: u64, positions: RowPositions) -> Origin {
        // Told of every row, or of none.
        let positions = (positions.len() as u64 == rows).then(|| Arc::new(positions));
        let (cursor, place) = (Arc::from(self.cursor.as_bytes()), self.rows_before);
        let origin = Origin::Cursor { cursor, rows: self.passed, place, positions };
        self.passed += rows;
        self.rows_before += rows;
        origin
    }
}

impl RangeSink {
    /// Of a range that is read from a place within, `rows_before` is how many rows lie before it.
    pub(super) fn new(intake: Arc<Intake>, number: u64, rows_before: u64, out: mpsc::Sender<Piece>) -> Self {
        let start = Start { cursor: Cursor::start(), passed: 0, rows_before };
        Self { intake, number, out, start, held: Held::Nothing, has_rows: false }
    }

    /// Where the range can be read on, if the source has told a cursor since the last rows.
    pub(super) fn stand(&self) -> Option<Stand> {
        let Start { cursor, passed, rows_before } = &self.start;
        let cursor = match passed {
            0 => cursor.clone(),
            _ if self.has_rows => return None,
            passed => Cursor::from_offset(cursor.offset()? + passed),
        };
        Some(Stand { cursor, rows_before: *rows_before })
    }

    /// Ends the range: what is held is its last line.
    pub(super) async fn finish(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Nothing => Ok(()),
            Held::TooLong(passed) => self.end_line_too_long(passed).await,
            Held::Line(buffer) => self.send_lines(buffer).await,
            Held::Tail(tail) => {
                let mut buffer = self.room_for(tail.len() + 1).await?;
                buffer.append(&tail);
                self.send_lines(buffer).await
            }
        }
    }

    async fn send_lines(&mut self, mut buffer: Buffer) -> Result<()> {
        buffer.end_line();
        self.send_whole_lines(buffer).await
    }

    async fn send_whole_lines(&mut self, buffer: Buffer) -> Result<()> {
        let origin = self.start.after_lines(buffer.filled().len() as u64);
        self.send(buffer, origin, Shape::Lines).await
    }

    async fn send(&self, buffer: Buffer, origin: Origin, shape: Shape) -> Result<()> {
        self.intake.activity.moved();
        let (memory, filled, permit) = buffer.into_parts();
        let (sieve, limit) = (Arc::clone(&self.intake.sieve), self.intake.line_limit_bytes);
        let block = Block { memory: memory.into(), filled, permit, origin, shape };
        let sifted = self.intake.cpu.run(move || sieve.sift(block, limit));
        self.hand_on(Piece::Block(sifted)).await
    }

    async fn end_line_too_long(&mut self, passed: Passed) -> Result<()> {
        let origin = self.start.after_lines(passed.bytes + 1);
        if passed.is_blank {
            return Ok(());
        }
        self.hand_on(Piece::TooLong { origin, length_bytes: passed.bytes }).await
    }

    async fn hand_on(&self, piece: Piece) -> Result<()> {
        let sent = self.intake.halt.run_until_cancelled(self.out.send(piece)).await;
        match sent {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => Err(Error::cancelled()),
        }
    }

    /// A fresh buffer of at least so many bytes.
    async fn room_for(&self, bytes: usize) -> Result<Buffer> {
        // Few different sizes, so that memory fits again.
        let granule = (self.intake.block_bytes / 4).max(1);
        let size_bytes = bytes.max(self.intake.block_bytes).next_multiple_of(granule);
        let permit = self.permit(size_bytes, 0).await?;
        Ok(Buffer::new(self.intake.buffers.take_filled(size_bytes), 0, permit))
    }

    /// Waits for bytes of the read pool, besides those that the buffer at hand holds. The range whose turn it is takes all
    /// there is, and asks for what later ones hold when it needs more than they leave to it; a later one leaves room for
    /// two blocks.
    async fn permit(&self, bytes: usize, held_bytes: usize) -> Result<Permit> {
        let mut head = self.intake.head.subscribe();
        let reserve = self.intake.block_bytes * 2;
        let waiting = async {
            loop {
                let is_head = *head.borrow_and_update() >= self.number;
                if is_head {
                    let mut permit = std::pin::pin!(self.intake.read.acquire(Turn(0), bytes, 0));
                    if let Some(permit) = permit.as_mut().now_or_never() {
                        return permit;
                    }
                    // What is before the buffer at hand will be fanned out; what later ranges hold won't.
                    if held_bytes + bytes > reserve {
                        self.intake.starving.notify_one();
                    }
                    return permit.await;
                }
                let permit = self.intake.read.acquire(Turn(1 + self.number), bytes, reserve);
                tokio::select! {
                    permit = permit => return permit,
                    _ = head.changed() => {}
                }
            }
        };
        self.intake.halt.run_until_cancelled(waiting).await.ok_or_else(Error::cancelled)
    }

    /// Makes the buffer of a long line longer: twice as long, so that it isn't moved too often.
    async fn grow(&self, buffer: Buffer, room_bytes: usize) -> Result<Buffer> {
        if buffer.room_bytes() >= room_bytes {
            return Ok(buffer);
        }
        let (mut memory, filled, mut permit) = buffer.into_parts();
        // A line over the limit is passed over, so its buffer need not be longer.
        let longest = self.intake.line_limit_bytes + room_bytes + 1;
        let size_bytes = (filled + room_bytes + 1).max(longest.min(memory.len() * 2));
        let more = size_bytes.min(self.intake.read.size_bytes()).saturating_sub(permit.bytes());
        permit.merge(self.permit(more, permit.bytes()).await?);
        self.intake.buffers.fit();
        memory.reserve_exact(size_bytes - memory.len());
        memory.resize(size_bytes, 0);
        Ok(Buffer::new(memory, filled, permit).reserving_line_end())
    }
}

#[async_trait]
impl BlockSink for RangeSink {
    async fn buffer(&mut self, room_bytes: usize) -> Result<Buffer> {
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Line(buffer) => self.grow(buffer, room_bytes).await,
            Held::Tail(tail) => {
                let mut buffer = self.room_for(tail.len() + room_bytes + 1).await?;
                buffer.append(&tail);
                Ok(buffer.reserving_line_end())
            }
            held @ (Held::Nothing | Held::TooLong(_)) => {
                self.held = held;
                Ok(self.room_for(room_bytes + 1).await?.reserving_line_end())
            }
        }
    }

    async fn lines(&mut self, buffer: Buffer) -> Result<()> {
        if let Held::TooLong(passed) = self.held {
            return self.pass_over(buffer, passed).await;
        }
        let Some(last) = memchr::memrchr(b'\n', buffer.filled()) else {
            if buffer.filled().len() > self.intake.line_limit_bytes {
                self.held = Held::TooLong(Passed::new(buffer.filled()));
            } else if !buffer.filled().is_empty() {
                self.held = Held::Line(buffer);
            }
            return Ok(());
        };
        self.send_up_to(buffer, last + 1).await
    }

    async fn rows(&mut self, rows: Rows) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let (buffer, marks, positions) = rows.into_parts();
        self.has_rows = true;
        let origin = self.start.after_rows(marks.len() as u64, positions);
        self.send(buffer, origin, Shape::Rows(marks)).await
    }

    async fn row_too_long(&mut self, length_bytes: u64) -> Result<()> {
        self.has_rows = true;
        let origin = self.start.after_rows(1, RowPositions::default());
        self.hand_on(Piece::TooLong { origin, length_bytes }).await
    }

    fn line_limit_bytes(&self) -> usize {
        self.intake.line_limit_bytes
    }

    fn at(&mut self, cursor: Cursor) {
        self.start = Start { cursor, passed: 0, rows_before: self.start.rows_before };
    }
}

impl RangeSink {
    /// Sends the whole lines of a buffer and keeps the beginning of the next one.
    async fn send_up_to(&mut self, buffer: Buffer, end: usize) -> Result<()> {
        let tail = buffer.filled().get(end..).unwrap_or_default().to_vec();
        let (memory, _, permit) = buffer.into_parts();
        if !tail.is_empty() {
            self.held = if tail.len() > self.intake.line_limit_bytes {
                Held::TooLong(Passed::new(&tail))
            } else {
                Held::Tail(tail)
            };
        }
        self.send_whole_lines(Buffer::new(memory, end, permit)).await
    }

    /// Looks for the end of a line that is over the limit.
    async fn pass_over(&mut self, buffer: Buffer, passed: Passed) -> Result<()> {
        let Some(end) = memchr::memchr(b'\n', buffer.filled()) else {
            self.held = Held::TooLong(passed.and(buffer.filled()));
            return Ok(());
        };
        self.held = Held::Nothing;
        self.end_line_too_long(passed.and(buffer.filled().get(..end).unwrap_or_default())).await?;
        let (mut memory, filled, permit) = buffer.into_parts();
        memory.copy_within(end + 1..filled, 0);
        self.lines(Buffer::new(memory, filled - end - 1, permit)).await
    }
}
