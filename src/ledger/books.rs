//! The books while they are kept: a row for each type and the place in the source.

use std::sync::Arc;

use super::{Count, Fate, LedgerRow, Mark, Notes, Position, Slot};

/// Where the block that is being counted begins.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A byte offset of line-based data.
    Offset(u64),
    /// A cursor of the source, and rows between it and the block.
    Cursor {
        /// The cursor as its source wrote it.
        cursor: Arc<[u8]>,
        /// Rows after it.
        rows: u64,
    },
}

/// The rows of a job, in the order in which resources are counted: that of the snapshot.
#[derive(Debug)]
pub struct Books {
    rows: Vec<LedgerRow>,
    range: Arc<str>,
    origin: Origin,
    bytes_into_block: u64,
    rows_into_block: u64,
}

impl Default for Books {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            range: Arc::from(""),
            origin: Origin::Offset(0),
            bytes_into_block: 0,
            rows_into_block: 0,
        }
    }
}

impl Books {
    /// Goes on with another block.
    pub fn begin_block(&mut self, range: &Arc<str>, origin: Origin) {
        self.range = Arc::clone(range);
        self.origin = origin;
        self.bytes_into_block = 0;
        self.rows_into_block = 0;
    }

    /// Counts resources with their fate; they end `bytes_into_block` bytes into the block.
    pub fn record(&mut self, slot: Slot, fate: Fate, count: Count, bytes_into_block: usize) {
        self.row_mut(slot).record(fate, count);
        self.bytes_into_block = bytes_into_block as u64;
        self.rows_into_block += count.resources;
    }

    /// Counts lines that don't come from the source, such as those of the error report.
    pub fn record_aside(&mut self, slot: Slot, fate: Fate, count: Count) {
        self.row_mut(slot).record(fate, count);
    }

    /// Adds observations to a type's row.
    pub fn note(&mut self, slot: Slot, notes: Notes) {
        self.row_mut(slot).notes += notes;
    }

    /// The row of a type as of now.
    #[must_use]
    pub fn row(&self, slot: Slot) -> LedgerRow {
        self.rows.get(slot.index()).copied().unwrap_or_default()
    }

    /// The row of a type, to correct it when the job ends.
    pub fn row_mut(&mut self, slot: Slot) -> &mut LedgerRow {
        if self.rows.len() <= slot.index() {
            self.rows.resize(slot.index() + 1, LedgerRow::default());
        }
        #[expect(clippy::indexing_slicing, reason = "resized above")]
        &mut self.rows[slot.index()]
    }

    /// The position behind the last resource that was counted.
    #[must_use]
    pub fn position(&self) -> Position {
        let (cursor, rows_after) = match &self.origin {
            Origin::Offset(offset) => (Arc::from((offset + self.bytes_into_block).to_be_bytes()), 0),
            Origin::Cursor { cursor, rows } => (Arc::clone(cursor), rows + self.rows_into_block),
        };
        Position { range: Arc::clone(&self.range), cursor, rows_after }
    }

    /// The state of one type's books as of now.
    #[must_use]
    pub fn mark(&self, slot: Slot) -> Mark {
        Mark { position: self.position(), row: self.row(slot) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_names_the_place_behind_the_last_counted_resource() {
        let mut books = Books::default();
        books.begin_block(&Arc::from("Patient.ndjson"), Origin::Offset(1000));
        books.record(Slot::UNKNOWN, Fate::Written, Count::new(2, 50), 60);
        assert_eq!(books.mark(Slot::UNKNOWN).position.to_string(), "Patient.ndjson at 1060");
        assert_eq!(books.mark(Slot::UNKNOWN).row.written, Count::new(2, 50));
    }

    #[test]
    fn a_place_among_rows_is_a_cursor_and_rows_after_it() {
        let mut books = Books::default();
        books.begin_block(&Arc::from("patient"), Origin::Cursor { cursor: Arc::from(*b"k7"), rows: 3 });
        books.record(Slot::UNKNOWN, Fate::Written, Count::new(2, 50), 60);
        assert_eq!(books.position().to_string(), "patient at k7 + 5");
    }
}
