//! Buffers on their way from a source to the engine.

use async_trait::async_trait;

use super::Cursor;
use crate::budget::Permit;
use crate::error::Result;
use crate::ledger::RowPositions;

/// Takes what a source reads: the engine's side of a range.
///
/// A source asks for a [`Buffer`], fills it and hands it back, either as line-based bytes
/// ([`lines`](Self::lines)) or as whole rows ([`rows`](Self::rows)), never both in one range.
#[async_trait]
pub trait BlockSink: Send {
    /// Waits until the budget has room and returns a buffer with room for at least `room_bytes` more bytes.
    ///
    /// It has to be handed over even if nothing came to it: of line-based bytes it may already hold the beginning of a
    /// line that the last buffer ended in.
    ///
    /// # Errors
    /// When the job is over.
    async fn buffer(&mut self, room_bytes: usize) -> Result<Buffer>;

    /// Hands over line-based bytes that follow directly on those before; they may end within a line.
    ///
    /// # Errors
    /// When the job is over.
    async fn lines(&mut self, buffer: Buffer) -> Result<()>;

    /// Hands over whole rows.
    ///
    /// # Errors
    /// When the job is over.
    async fn rows(&mut self, rows: Rows) -> Result<()>;

    /// Tells of a row that is longer than [`line_limit_bytes`](Self::line_limit_bytes): it goes to quarantine.
    ///
    /// # Errors
    /// When the job is over.
    async fn row_too_long(&mut self, length_bytes: u64) -> Result<()>;

    /// Longest line or row that is taken, in bytes.
    fn line_limit_bytes(&self) -> usize;

    /// Says that what is handed over from now on begins at this cursor.
    ///
    /// Rows: call it before each hand-over. Line-based bytes: call it once; the cursor is a byte offset and the engine
    /// counts on from it, so that such a range can be read from the start of any of its lines.
    fn at(&mut self, cursor: Cursor);
}

/// A buffer of the engine that a source appends to. The bytes are charged to the job's budget.
#[derive(Debug)]
pub struct Buffer {
    // Always as long as its capacity, so that sources read into initialised memory without `unsafe`.
    bytes: Vec<u8>,
    filled: usize,
    // Bytes at the end that only the engine may use: room for the line feed of a last line without one.
    reserved: usize,
    permit: Permit,
}

impl Buffer {
    /// Wraps memory that `permit` pays for, of which the first `filled` bytes are data.
    #[must_use]
    pub fn new(bytes: Vec<u8>, filled: usize, permit: Permit) -> Self {
        debug_assert!(filled <= bytes.len());
        Self { bytes, filled, reserved: 0, permit }
    }

    /// The part that is free to be written to.
    pub fn unfilled(&mut self) -> &mut [u8] {
        let end = self.bytes.len() - self.reserved;
        self.bytes.get_mut(self.filled..end).unwrap_or_default()
    }

    /// Says that the next `count` bytes of [`unfilled`](Self::unfilled) are data now.
    ///
    /// # Panics
    /// When the buffer hasn't so much room.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.room_bytes(), "advanced beyond the buffer's end");
        self.filled += count;
    }

    /// Appends as much of `data` as there is room for and returns how much that was.
    pub fn append(&mut self, data: &[u8]) -> usize {
        let room = self.unfilled();
        let count = room.len().min(data.len());
        if let (Some(to), Some(from)) = (room.get_mut(..count), data.get(..count)) {
            to.copy_from_slice(from);
        }
        self.filled += count;
        count
    }

    /// The data so far.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }

    /// How many more bytes fit.
    #[must_use]
    pub fn room_bytes(&self) -> usize {
        self.bytes.len() - self.reserved - self.filled
    }

    /// Keeps the last byte from the source, for [`end_line`](Self::end_line).
    pub(crate) fn reserving_line_end(mut self) -> Self {
        self.reserved = 1;
        self
    }

    /// Ends the last line if it isn't.
    pub(crate) fn end_line(&mut self) {
        self.reserved = 0;
        if !self.filled().ends_with(b"\n") {
            self.append(b"\n");
        }
    }

    /// Takes the buffer apart: the memory, how much of it is data, and the permit that pays for it.
    pub fn into_parts(self) -> (Vec<u8>, usize, Permit) {
        (self.bytes, self.filled, self.permit)
    }
}

/// Whole rows in one buffer: for sources that aren't line-based, such as databases.
#[derive(Debug)]
pub struct Rows {
    buffer: Buffer,
    marks: Vec<RowMark>,
    positions: RowPositions,
}

/// Where a row ends in its block, and what is to be known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowMark {
    /// Offset after the line feed that ends the row.
    pub(crate) end: usize,
    /// The source marks the row as deleted.
    pub(crate) deleted: bool,
    /// Raw line ends between tokens were turned into blanks.
    pub(crate) reflowed: bool,
}

/// What became of a row that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a row that didn't fit must be pushed again"]
pub enum RowOutcome {
    /// The row is in.
    Taken,
    /// The row doesn't fit: hand the rows over and push it to the next ones.
    Full,
}

impl Rows {
    /// Starts with an empty buffer.
    #[must_use]
    pub fn new(buffer: Buffer) -> Self {
        Self { buffer, marks: Vec::new(), positions: RowPositions::default() }
    }

    /// Appends a resource's body: bytes as they are, a BOM and blanks around it left out.
    ///
    /// A raw CR or LF between tokens becomes one blank, so that the row is one line of output; inside a string it is
    /// left, and the scan will quarantine the resource.
    pub fn push(&mut self, body: &[u8]) -> RowOutcome {
        self.push_marked(body, false)
    }

    /// Appends the body of a resource that the source keeps but marks as deleted: it is counted, not written.
    pub fn push_deleted(&mut self, body: &[u8]) -> RowOutcome {
        self.push_marked(body, true)
    }

    /// Says at which position the row is that was pushed last: from there a read begins with the next one.
    ///
    /// It is a place among the rows that holds also if others come or go, which a job needs that goes on without its
    /// snapshot. Tell it of every row of a block, or of none.
    pub fn at(&mut self, position: &[u8]) {
        self.positions.push(position);
    }

    fn push_marked(&mut self, body: &[u8], deleted: bool) -> RowOutcome {
        let body = trim(body);
        if self.buffer.room_bytes() < body.len() + 1 {
            return RowOutcome::Full;
        }
        let start = self.buffer.filled;
        self.buffer.append(body);
        self.buffer.append(b"\n");
        let row = self.buffer.bytes.get_mut(start..start + body.len()).unwrap_or_default();
        let reflowed = memchr::memchr2(b'\r', b'\n', row).is_some() && reflow(row);
        self.marks.push(RowMark { end: self.buffer.filled, deleted, reflowed });
        RowOutcome::Taken
    }

    /// Whether nothing was pushed yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    pub(crate) fn into_parts(self) -> (Buffer, Vec<RowMark>, RowPositions) {
        (self.buffer, self.marks, self.positions)
    }
}

/// A body without byte order mark and blanks around it.
pub(super) fn trim(body: &[u8]) -> &[u8] {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let Some(first) = body.iter().position(|byte| !blank(byte)) else { return &[] };
    let last = body.iter().rposition(|byte| !blank(byte)).unwrap_or(first);
    body.get(first..=last).unwrap_or_default()
}

/// Turns raw line ends outside strings into blanks and tells whether there was one.
fn reflow(row: &mut [u8]) -> bool {
    let (mut in_string, mut escaped, mut found) = (false, false, false);
    for byte in row {
        match *byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'\r' | b'\n' if !in_string => {
                *byte = b' ';
                found = true;
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Pool;

    fn rows(capacity: usize) -> Rows {
        let permit = Pool::new(capacity).try_acquire(capacity).unwrap();
        Rows::new(Buffer::new(vec![0; capacity], 0, permit))
    }

    #[test]
    fn a_row_becomes_one_line_and_nothing_else_changes() {
        let mut rows = rows(100);
        assert_eq!(rows.push(b" \xEF\xBB\xBF"), RowOutcome::Taken);
        assert_eq!(rows.push(b"\xEF\xBB\xBF {\"a\":\r\n\"x\\\"\\n y\"}\n"), RowOutcome::Taken);
        let (buffer, marks, _) = rows.into_parts();
        assert_eq!(buffer.filled(), b"\xEF\xBB\xBF\n{\"a\":  \"x\\\"\\n y\"}\n");
        assert_eq!(marks.iter().map(|mark| mark.reflowed).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn a_line_end_inside_a_string_is_left_to_the_scan() {
        let mut rows = rows(100);
        assert_eq!(rows.push(b"{\"a\":\"x\ny\"}"), RowOutcome::Taken);
        let (buffer, marks, _) = rows.into_parts();
        assert_eq!(buffer.filled(), b"{\"a\":\"x\ny\"}\n");
        assert_eq!(marks, [RowMark { end: 12, deleted: false, reflowed: false }]);
    }

    #[test]
    fn a_row_that_does_not_fit_leaves_the_others_alone() {
        let mut rows = rows(10);
        assert_eq!(rows.push(b"{\"a\":1}"), RowOutcome::Taken);
        assert_eq!(rows.push(b"{}"), RowOutcome::Full);
        assert_eq!(rows.into_parts().0.filled(), b"{\"a\":1}\n");
    }
}
