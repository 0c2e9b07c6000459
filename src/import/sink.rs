//! Takes what a source reads and hands whole lines to the scanner.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::batch::{Scanned, Scanner};
use crate::budget::{Pool, Turn};
use crate::cpu::{CpuPool, Pending};
use crate::error::{Error, Result};
use crate::source::{BlockSink, Buffer, Cursor, RowMark, Rows};

/// Bytes that are read together.
const BLOCK_BYTES: usize = 1 << 20;

/// A block on its way through the scanner.
pub(super) type Piece = Pending<Result<Scanned>>;

/// What the sinks of a load share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) scanner: Arc<Scanner>,
    pub(super) cpu: CpuPool,
    pub(super) pool: Pool,
    pub(super) line_limit_bytes: usize,
}

/// The sink of one range.
pub(super) struct LoadSink {
    shared: Arc<Shared>,
    out: mpsc::Sender<Piece>,
    cursor: Cursor,
    /// Bytes of lines that were handed on since the cursor.
    passed: u64,
    /// The beginning of a line whose end hasn't come yet.
    tail: Vec<u8>,
    /// Bytes of a line over the limit that were passed over.
    too_long: Option<u64>,
    /// Rows whose end isn't known as a cursor yet: that is where the next ones begin.
    held: Option<HeldRows>,
}

enum HeldRows {
    Rows { memory: Vec<u8>, marks: Vec<RowMark> },
    TooLong { length_bytes: u64 },
}

impl LoadSink {
    pub(super) fn new(shared: Arc<Shared>, out: mpsc::Sender<Piece>) -> Self {
        Self { shared, out, cursor: Cursor::start(), passed: 0, tail: Vec::new(), too_long: None, held: None }
    }

    /// Ends the range: what is held is its last line.
    pub(super) async fn finish(mut self) -> Result<()> {
        self.send_held().await?;
        if let Some(length_bytes) = self.too_long.take() {
            return self.pass_over(length_bytes).await;
        }
        let tail = std::mem::take(&mut self.tail);
        if tail.is_empty() {
            return Ok(());
        }
        self.send_lines(tail).await
    }

    async fn send_lines(&mut self, memory: Vec<u8>) -> Result<()> {
        self.passed += memory.len() as u64;
        let cursor = self.offset();
        let scanner = Arc::clone(&self.shared.scanner);
        self.send(self.shared.cpu.run(move || scanner.lines(memory, cursor))).await
    }

    async fn pass_over(&mut self, length_bytes: u64) -> Result<()> {
        self.passed += length_bytes + 1;
        let (limit_bytes, cursor) = (self.shared.line_limit_bytes, self.offset());
        self.send(self.shared.cpu.run(move || Ok(Scanned::too_long(length_bytes, limit_bytes, cursor)))).await
    }

    /// Sends the rows before those that come now.
    async fn send_held(&mut self) -> Result<()> {
        let Some(held) = self.held.take() else { return Ok(()) };
        let cursor = self.cursor.as_bytes().to_vec();
        let (scanner, limit_bytes) = (Arc::clone(&self.shared.scanner), self.shared.line_limit_bytes);
        let scanned = self.shared.cpu.run(move || match held {
            HeldRows::Rows { memory, marks } => scanner.rows(memory, &marks, cursor),
            HeldRows::TooLong { length_bytes } => Ok(Scanned::too_long(length_bytes, limit_bytes, cursor)),
        });
        self.send(scanned).await
    }

    async fn send(&self, piece: Piece) -> Result<()> {
        self.out.send(piece).await.map_err(|_| Error::cancelled())
    }

    /// The cursor behind the lines that were handed on.
    fn offset(&self) -> Vec<u8> {
        let offset = self.cursor.offset().unwrap_or_default() + self.passed;
        Cursor::from_offset(offset).as_bytes().to_vec()
    }
}

#[async_trait]
impl BlockSink for LoadSink {
    async fn buffer(&mut self, room_bytes: usize) -> Result<Buffer> {
        let tail = std::mem::take(&mut self.tail);
        let size_bytes = (tail.len() * 2).max(BLOCK_BYTES).max(tail.len() + room_bytes);
        let permit = self.shared.pool.acquire(Turn::default(), size_bytes, 0).await;
        let mut memory = tail;
        let filled = memory.len();
        memory.resize(size_bytes, 0);
        Ok(Buffer::new(memory, filled, permit))
    }

    async fn lines(&mut self, buffer: Buffer) -> Result<()> {
        let (mut memory, filled, _permit) = buffer.into_parts();
        memory.truncate(filled);
        if let Some(length_bytes) = self.too_long.take() {
            let Some(end) = memchr::memchr(b'\n', &memory) else {
                self.too_long = Some(length_bytes + memory.len() as u64);
                return Ok(());
            };
            self.pass_over(length_bytes + end as u64).await?;
            memory.drain(..=end);
        }
        let end = memchr::memrchr(b'\n', &memory).map_or(0, |last| last + 1);
        let tail = memory.split_off(end);
        if !memory.is_empty() {
            self.send_lines(memory).await?;
        }
        if tail.len() > self.shared.line_limit_bytes {
            self.too_long = Some(tail.len() as u64);
        } else {
            self.tail = tail;
        }
        Ok(())
    }

    async fn rows(&mut self, rows: Rows) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let (buffer, marks, _) = rows.into_parts();
        let (mut memory, filled, _permit) = buffer.into_parts();
        memory.truncate(filled);
        self.send_held().await?;
        self.held = Some(HeldRows::Rows { memory, marks });
        Ok(())
    }

    async fn row_too_long(&mut self, length_bytes: u64) -> Result<()> {
        self.send_held().await?;
        self.held = Some(HeldRows::TooLong { length_bytes });
        Ok(())
    }

    fn line_limit_bytes(&self) -> usize {
        self.shared.line_limit_bytes
    }

    fn at(&mut self, cursor: Cursor) {
        self.cursor = cursor;
        self.passed = 0;
    }
}
