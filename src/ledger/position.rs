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
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.range)?;
        match <[u8; 8]>::try_from(self.cursor.as_ref()) {
            Ok(offset) => write!(f, " at {}", u64::from_be_bytes(offset))?,
            Err(_) if self.cursor.is_empty() => f.write_str(" at 0")?,
            Err(_) => write!(f, " at {}", self.cursor.escape_ascii())?,
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
}
