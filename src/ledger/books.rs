//! The books while they are kept: a row for each type and the place in the source.

use std::sync::Arc;

use super::{Count, END_OF_RANGE, Fate, LedgerRow, Mark, Notes, Position, RowPositions, Slot};

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
        /// Rows between the start of the range and the block.
        place: u64,
        /// The positions of the block's rows, if their source has told them.
        positions: Option<Arc<RowPositions>>,
    },
    /// Behind everything in the range.
    End,
}

/// A place in the snapshot: the number of a range, in this run's plan, and how far into it.
///
/// Numbers of ranges are never stored.
pub type Place = (usize, u64);

/// The place behind everything.
pub const END: Place = (usize::MAX, u64::MAX);

/// The rows of a job, in the order in which resources are counted: that of the snapshot.
///
/// Of a job that goes on, each row may be ahead: everything of its type up to a place was counted before, and is passed
/// over when it is read again.
#[derive(Debug)]
pub struct Books {
    rows: Vec<LedgerRow>,
    range: Arc<str>,
    range_index: usize,
    origin: Origin,
    bytes_into_block: u64,
    rows_into_block: u64,
    met: Met,
    /// Where the last line of the error report comes from.
    reported: Option<Position>,
    ahead: Vec<Option<(Place, Position)>>,
}

/// Whose resources a range has held so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Met {
    Nobody,
    Only(Slot),
    Several,
}

impl Met {
    fn and(self, slot: Slot) -> Self {
        match self {
            Self::Nobody => Self::Only(slot),
            Self::Only(only) if only == slot => self,
            Self::Only(_) | Self::Several => Self::Several,
        }
    }
}

impl Default for Books {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            range: Arc::from(""),
            range_index: 0,
            origin: Origin::Offset(0),
            bytes_into_block: 0,
            rows_into_block: 0,
            met: Met::Nobody,
            reported: None,
            ahead: Vec::new(),
        }
    }
}

impl Books {
    /// Goes on with another range of the snapshot. `only`: what lies before the place where it is read from was of this
    /// type, and of no other.
    pub fn begin_range(&mut self, index: usize, name: &Arc<str>, only: Option<Slot>) {
        self.begin_block(name, Origin::Offset(0));
        self.range_index = index;
        self.met = only.map_or(Met::Nobody, Met::Only);
    }

    /// Goes on behind the range's last resource.
    pub fn end_range(&mut self) {
        self.origin = Origin::End;
        self.bytes_into_block = 0;
        self.rows_into_block = 0;
    }

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
        self.pass(slot, fate, count.resources, bytes_into_block);
    }

    /// Passes resources over that were counted before.
    pub fn pass(&mut self, slot: Slot, fate: Fate, resources: u64, bytes_into_block: usize) {
        self.bytes_into_block = bytes_into_block as u64;
        self.rows_into_block += resources;
        self.met = self.met.and(slot);
        if fate == Fate::Quarantined {
            // What there is to report of it belongs to the error report, which may be behind.
            self.met = self.met.and(Slot::ERRORS);
        }
    }

    /// Counts lines that don't come from the source, such as those of the error report.
    pub fn record_aside(&mut self, slot: Slot, fate: Fate, count: Count) {
        self.row_mut(slot).record(fate, count);
        self.reported = Some(self.position());
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
            Origin::Cursor { cursor, rows, positions, .. } => {
                let last = self.rows_into_block.checked_sub(1).and_then(|last| usize::try_from(last).ok());
                let exact = positions.as_ref().zip(last).and_then(|(positions, last)| positions.get(last));
                match exact {
                    Some(exact) => (Arc::from(exact), 0),
                    None => (Arc::clone(cursor), rows + self.rows_into_block),
                }
            }
            Origin::End => (Arc::from([]), 0),
        };
        Position { range: Arc::clone(&self.range), cursor, rows_after, place: self.place().1 }
    }

    /// The place of that position.
    #[must_use]
    pub const fn place(&self) -> Place {
        let place = match &self.origin {
            Origin::Offset(offset) => *offset + self.bytes_into_block,
            Origin::Cursor { place, .. } => *place + self.rows_into_block,
            Origin::End => END_OF_RANGE,
        };
        (self.range_index, place)
    }

    /// The state of one type's books as of now.
    #[must_use]
    pub fn mark(&self, slot: Slot) -> Mark {
        let row = self.row(slot);
        let ahead = self.ahead.get(slot.index()).and_then(Option::as_ref);
        if slot == Slot::ERRORS {
            // A line of the report is written after the resource that it tells of is counted, and is not to be lost between.
            let position = self.reported.clone().or_else(|| ahead.map(|(_, position)| position.clone()));
            return Mark { position: position.unwrap_or_else(Position::start), row, alone: false };
        }
        match ahead {
            Some((place, position)) if *place > self.place() => Mark { position: position.clone(), row, alone: false },
            _ => Mark { position: self.position(), row, alone: self.met == Met::Only(slot) },
        }
    }

    /// Takes over the row of a type that was counted up to a place before.
    pub fn go_on(&mut self, slot: Slot, row: LedgerRow, place: Place, position: Position) {
        *self.row_mut(slot) = row;
        if self.ahead.len() <= slot.index() {
            self.ahead.resize(slot.index() + 1, None);
        }
        if let Some(ahead) = self.ahead.get_mut(slot.index()) {
            *ahead = Some((place, position));
        }
    }

    /// Up to which place of the range a type was counted before; 0: it wasn't.
    #[must_use]
    pub fn counted_up_to(&self, slot: Slot) -> u64 {
        match self.ahead.get(slot.index()) {
            Some(Some(((index, place), _))) if *index == self.range_index => *place,
            Some(Some(((index, _), _))) if *index > self.range_index => u64::MAX,
            _ => 0,
        }
    }

    /// Whether all rows are those of the place where the books stand: no type is ahead, but for those that are finished.
    #[must_use]
    pub fn is_level(&self) -> bool {
        let here = self.place();
        self.ahead.iter().flatten().all(|(place, _)| *place <= here || *place == END)
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
    fn a_place_among_rows_whose_positions_are_told_is_the_last_one_s() {
        let mut books = Books::default();
        let mut positions = RowPositions::default();
        [b"k8", b"k9"].iter().for_each(|position| positions.push(*position));
        let (cursor, positions) = (Arc::from(*b"k7"), Some(Arc::new(positions)));
        books.begin_block(&Arc::from("patient"), Origin::Cursor { cursor, rows: 0, place: 13, positions });
        assert_eq!(books.position().to_string(), "patient at k7");
        books.record(Slot::UNKNOWN, Fate::Written, Count::new(2, 50), 50);
        let position = books.position();
        assert_eq!((position.to_string(), position.rows_after, position.place), ("patient at k9".to_owned(), 0, 15));
    }

    #[test]
    fn a_place_among_rows_is_a_cursor_and_rows_after_it() {
        let mut books = Books::default();
        books.begin_block(
            &Arc::from("patient"),
            Origin::Cursor { cursor: Arc::from(*b"k7"), rows: 3, place: 13, positions: None },
        );
        books.record(Slot::UNKNOWN, Fate::Written, Count::new(2, 50), 60);
        assert_eq!(books.position().to_string(), "patient at k7 + 5");
        assert_eq!(books.place(), (0, 15));
    }

    #[test]
    fn a_type_that_is_alone_in_its_range_is_known_to_be() {
        let (range, other) = (Arc::from("a"), Slot::ERRORS);
        let mut books = Books::default();
        books.begin_range(0, &range, None);
        books.record(Slot::UNKNOWN, Fate::Written, Count::new(1, 10), 10);
        assert!(books.mark(Slot::UNKNOWN).alone);
        books.record(other, Fate::Written, Count::new(1, 10), 20);
        assert!(!books.mark(Slot::UNKNOWN).alone);
        books.begin_range(1, &range, Some(Slot::UNKNOWN));
        assert!(books.mark(Slot::UNKNOWN).alone);
        books.record(Slot::UNKNOWN, Fate::Quarantined, Count::new(1, 10), 10);
        assert!(!books.mark(Slot::UNKNOWN).alone, "its report may be behind");
        books.end_range();
        assert_eq!(books.position().to_string(), "a at its end");
    }

    #[test]
    fn a_type_that_is_ahead_is_passed_over_up_to_its_place() {
        let mut books = Books::default();
        let (before, here) = (Arc::from("a"), Arc::from("b"));
        let there = Position { range: Arc::clone(&here), cursor: Arc::from([]), rows_after: 0, place: 100 };
        let mut row = LedgerRow::default();
        row.record(Fate::Written, Count::new(7, 70));
        books.go_on(Slot::UNKNOWN, row, (1, 100), there.clone());
        books.begin_range(0, &before, None);
        assert_eq!(books.counted_up_to(Slot::UNKNOWN), u64::MAX);
        assert_eq!((books.mark(Slot::UNKNOWN).position, books.mark(Slot::UNKNOWN).row), (there, row));
        books.begin_range(1, &here, None);
        assert_eq!((books.counted_up_to(Slot::UNKNOWN), books.counted_up_to(Slot::ERRORS)), (100, 0));
        assert!(!books.is_level());
        books.record(Slot::UNKNOWN, Fate::Written, Count::new(1, 10), 110);
        assert!(books.is_level());
        assert_eq!(books.mark(Slot::UNKNOWN).position.to_string(), "b at 110");
    }
}
