//! Positions in a range.

use std::fmt;

/// A position in a range that a source can read on from.
///
/// Opaque to everyone but its source: a byte offset, a key. The empty cursor is the range's start.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Cursor(Box<[u8]>);

impl Cursor {
    /// The start of a range.
    #[must_use]
    pub fn start() -> Self {
        Self::default()
    }

    /// A position that the source can find again.
    #[must_use]
    pub fn new(position: &[u8]) -> Self {
        Self(Box::from(position))
    }

    /// A byte offset as a cursor.
    #[must_use]
    pub fn from_offset(offset: u64) -> Self {
        if offset == 0 { Self::start() } else { Self(Box::from(offset.to_be_bytes())) }
    }

    /// The byte offset that [`from_offset`](Self::from_offset) was given; 0 for the start.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        if self.0.is_empty() {
            return Some(0);
        }
        let bytes: [u8; 8] = self.0.as_ref().try_into().ok()?;
        Some(u64::from_be_bytes(bytes))
    }

    /// The position as its source wrote it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset() {
            Some(offset) => write!(f, "Cursor({offset})"),
            None => write!(f, "Cursor({})", self.0.escape_ascii()),
        }
    }
}
