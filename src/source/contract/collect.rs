//! A sink that keeps what it is given.

use async_trait::async_trait;
use tokio::sync::watch;

use crate::budget::{Permit, Pool, Turn};
use crate::error::{Error, ErrorKind, Result};
use crate::source::{BlockSink, Buffer, Cursor, Range, Rows, Snapshot};

/// Bytes that the collecting sink lends out at once; above every buffer that a source of a test asks for.
const POOL_BYTES: usize = 64 << 20;

/// Everything that one read handed over.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    bytes: Vec<u8>,
    deleted: Vec<bool>,
    row_ends: Vec<usize>,
    cursors: Vec<(usize, Cursor)>,
    too_long: Vec<u64>,
    line_based: bool,
    calls: usize,
    largest_buffer_bytes: usize,
}

impl Collected {
    /// The bytes in their order; each row is followed by a line feed.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Of each row, whether it was marked as deleted.
    #[must_use]
    pub fn deleted(&self) -> &[bool] {
        &self.deleted
    }

    /// Where each row ends, behind its line feed.
    #[must_use]
    pub fn row_ends(&self) -> &[usize] {
        &self.row_ends
    }

    /// The cursors that were told, each with the number of bytes before it.
    #[must_use]
    pub fn cursors(&self) -> &[(usize, Cursor)] {
        &self.cursors
    }

    /// The lengths of the rows that were too long.
    #[must_use]
    pub fn too_long(&self) -> &[u64] {
        &self.too_long
    }

    /// Whether the bytes came as lines, not as rows.
    #[must_use]
    pub const fn is_line_based(&self) -> bool {
        self.line_based
    }

    /// How often the sink was called.
    #[must_use]
    pub const fn calls(&self) -> usize {
        self.calls
    }

    /// The most data that one buffer held, the line carried over included.
    #[must_use]
    pub const fn largest_buffer_bytes(&self) -> usize {
        self.largest_buffer_bytes
    }

    /// The lines or rows without their line feeds; the last one if it has none.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let mut lines: Vec<&[u8]> = self.bytes.split(|byte| *byte == b'\n').collect();
        lines.pop_if(|last| last.is_empty());
        lines.into_iter()
    }
}

/// What the sink does at the call of a given number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Trap {
    #[default]
    None,
    /// From this call on nothing returns any more.
    Hang(usize),
    /// This call is refused as if the job were cancelled.
    Refuse(usize),
}

/// A sink that keeps what it is given, and carries unfinished lines over as the engine does.
#[derive(Debug)]
pub(super) struct CollectingSink {
    pool: Pool,
    line_limit_bytes: usize,
    carried: usize,
    lent: bool,
    placed: bool,
    trap: Trap,
    refused: bool,
    hanging: watch::Sender<bool>,
    pub(super) collected: Collected,
    fault: Option<&'static str>,
}

impl CollectingSink {
    pub(super) fn new(line_limit_bytes: usize, trap: Trap) -> Self {
        Self {
            pool: Pool::new(POOL_BYTES),
            line_limit_bytes,
            carried: 0,
            lent: false,
            placed: false,
            trap,
            refused: false,
            hanging: watch::Sender::new(false),
            collected: Collected::default(),
            fault: None,
        }
    }

    pub(super) fn hanging(&self) -> watch::Receiver<bool> {
        self.hanging.subscribe()
    }

    async fn enter(&mut self) -> Result<()> {
        let call = self.collected.calls;
        self.collected.calls += 1;
        if self.refused {
            self.note("the source went on after the sink had refused");
            return Err(Error::cancelled());
        }
        match self.trap {
            Trap::Hang(at) if at <= call => {
                self.hanging.send_replace(true);
                std::future::pending().await
            }
            Trap::Refuse(at) if at == call => {
                self.refused = true;
                Err(Error::cancelled())
            }
            Trap::None | Trap::Hang(_) | Trap::Refuse(_) => Ok(()),
        }
    }

    /// What the source did wrong, now that its read has returned.
    pub(super) fn fault(&self, read_to_the_end: bool) -> Option<&'static str> {
        // It may hold the beginning of a line, or rows that are lost now.
        let kept_back = read_to_the_end && self.lent;
        self.fault.or(kept_back.then_some("the source kept a buffer back"))
    }

    fn note(&mut self, fault: &'static str) {
        self.fault.get_or_insert(fault);
    }

    fn note_unless_placed(&mut self) {
        if !self.placed {
            self.note("the source handed over without saying where that begins");
        }
    }

    async fn permit(&self, bytes: usize) -> Result<Permit> {
        if bytes > POOL_BYTES {
            return Err(Error::new(ErrorKind::LimitExceeded, "the source asks for too large a buffer"));
        }
        Ok(self.pool.acquire(Turn::default(), bytes, 0).await)
    }
}

#[async_trait]
impl BlockSink for CollectingSink {
    async fn buffer(&mut self, room_bytes: usize) -> Result<Buffer> {
        self.enter().await?;
        let permit = self.permit(self.carried + room_bytes).await?;
        let mut memory = vec![0; self.carried + room_bytes];
        let start = self.collected.bytes.len() - self.carried;
        if let (Some(to), Some(from)) = (memory.get_mut(..self.carried), self.collected.bytes.get(start..)) {
            to.copy_from_slice(from);
        }
        if self.lent {
            self.note("the source asked for a buffer before it had handed the last one over");
        }
        self.lent = true;
        Ok(Buffer::new(memory, self.carried, permit))
    }

    async fn lines(&mut self, buffer: Buffer) -> Result<()> {
        self.enter().await?;
        self.note_unless_placed();
        if !self.collected.row_ends.is_empty() {
            self.note("the source handed over lines and rows in one range");
        }
        self.collected.line_based = true;
        self.lent = false;
        self.collected.largest_buffer_bytes = self.collected.largest_buffer_bytes.max(buffer.filled().len());
        let start = self.collected.bytes.len() - self.carried;
        self.collected.bytes.truncate(start);
        self.collected.bytes.extend_from_slice(buffer.filled());
        let last_line = memchr::memrchr(b'\n', buffer.filled()).map_or(0, |feed| feed + 1);
        self.carried = buffer.filled().len() - last_line;
        Ok(())
    }

    async fn rows(&mut self, rows: Rows) -> Result<()> {
        self.enter().await?;
        self.note_unless_placed();
        if self.collected.line_based {
            self.note("the source handed over lines and rows in one range");
        }
        self.lent = false;
        self.placed = false;
        let (buffer, marks, _) = rows.into_parts();
        let start = self.collected.bytes.len();
        self.collected.bytes.extend_from_slice(buffer.filled());
        let mut row_start = 0;
        for mark in marks {
            if mark.end - row_start > self.line_limit_bytes + 1 {
                self.note("the source handed over a row above the line limit");
            }
            row_start = mark.end;
            self.collected.row_ends.push(start + mark.end);
            self.collected.deleted.push(mark.deleted);
        }
        Ok(())
    }

    async fn row_too_long(&mut self, length_bytes: u64) -> Result<()> {
        self.enter().await?;
        self.note_unless_placed();
        self.placed = false;
        self.collected.too_long.push(length_bytes);
        Ok(())
    }

    fn line_limit_bytes(&self) -> usize {
        self.line_limit_bytes
    }

    fn at(&mut self, cursor: Cursor) {
        self.placed = true;
        self.collected.cursors.push((self.collected.bytes.len(), cursor));
    }
}

/// Reads a range from a cursor and returns what came, also if the read failed.
///
/// A source that uses the sink in a wrong way is an error, even if the read returned `Ok`.
pub async fn read(snapshot: &dyn Snapshot, range: &Range, from: &Cursor) -> (Collected, Result<()>) {
    read_within(snapshot, range, from, POOL_BYTES / 4).await
}

/// Reads with a line limit.
pub(super) async fn read_within(
    snapshot: &dyn Snapshot,
    range: &Range,
    from: &Cursor,
    line_limit_bytes: usize,
) -> (Collected, Result<()>) {
    let mut sink = CollectingSink::new(line_limit_bytes, Trap::None);
    let result = snapshot.read(range, from, &mut sink).await;
    let result = match sink.fault(result.is_ok()) {
        Some(fault) => Err(broken(fault).with("range", &range.name)),
        None => result,
    };
    (sink.collected, result)
}

/// The error of a source that doesn't keep its contract.
pub(super) fn broken(message: &str) -> Error {
    Error::new(ErrorKind::Source, format!("contract broken: {message}"))
}
