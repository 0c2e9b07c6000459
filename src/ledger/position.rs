//! Where in the source the books stand.

use std::fmt;
use std::sync::Arc;

use super::LedgerRow;

/// A position in a snapshot's scan: a range, a cursor of its source, and resources after it.
///
/// Never a range's number: a plan made again may cut the same data into other ranges.
#[derive(Clone, PartialEq, Eq)]
pub struct Position {
    /// Name of the range.
    pub range: Arc<str>,
    /// The cursor as its source wrote it.
    pub cursor: Arc<[u8]>,
    /// Rows after the cursor that belong to what is before the position.
    pub rows_after: u64,
    /// How far into its range it is: a byte offset, or rows since the range's start; [`END_OF_RANGE`] behind all of it.
    ///
    /// Cursors of rows are their source's own and can't be compared; this can, however the range is read.
    pub place: u64,
}

/// The positions of the rows of one block, one after the other, in one piece of memory.
///
/// A row's own position tells a place among rows exactly, also if others come or go before it; a count of rows from
/// the beginning of their block does so only in the same snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowPositions {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl RowPositions {
    /// Adds the position of the next row.
    pub fn push(&mut self, position: &[u8]) {
        self.bytes.extend_from_slice(position);
        self.ends.push(self.bytes.len());
    }

    /// Number of rows.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The position of the row at an index.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let start = index.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.bytes.get(start..*self.ends.get(index)?)
    }
}

/// The place behind everything in a range.
pub const END_OF_RANGE: u64 = u64::MAX;

impl Position {
    /// The very beginning, before the first range.
    #[must_use]
    pub fn start() -> Self {
        Self { range: Arc::from(""), cursor: Arc::from([]), rows_after: 0, place: 0 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.range)?;
        if self.place == END_OF_RANGE {
            return f.write_str(" at its end");
        }
        match <[u8; 8]>::try_from(self.cursor.as_ref()) {
            // A key may be as long as an offset; no offset is so large that all its bytes are letters.
            Ok(offset) if !offset.iter().all(u8::is_ascii_graphic) => write!(f, " at {}", u64::from_be_bytes(offset))?,
            _ if self.cursor.is_empty() => f.write_str(" at 0")?,
            _ => write!(f, " at {}", self.cursor.escape_ascii())?,
        }
        if self.rows_after > 0 {
            write!(f, " + {}", self.rows_after)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The state of one type's books after a resource: what a part's record holds, so that a resumed job can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Behind the last resource that the row counts.
    pub position: Position,
    /// The type's whole row as of that position.
    pub row: LedgerRow,
    /// Whether the position's range held nothing but resources of this type up to there: then it can be read on from there.
    pub alone: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_rows_are_kept_apart() {
        let mut positions = RowPositions::default();
        assert!(positions.is_empty());
        [&b"a"[..], b"", b"ccc"].iter().for_each(|position| positions.push(position));
        let all: Vec<_> = (0..4).map(|index| positions.get(index)).collect();
        assert_eq!(all, [Some(&b"a"[..]), Some(b""), Some(b"ccc"), None]);
    }

    #[test]
    fn offsets_and_keys_are_told_as_what_they_are() {
        let shown = |cursor: &[u8]| {
            Position { range: Arc::from("r"), cursor: Arc::from(cursor), rows_after: 0, place: 0 }.to_string()
        };
        assert_eq!(shown(&1234_u64.to_be_bytes()), "r at 1234");
        assert_eq!(shown(b""), "r at 0");
        assert_eq!(shown(b"pat-0042"), "r at pat-0042");
        assert_eq!(shown(b"k\xFF"), "r at k\\xff");
    }
}
