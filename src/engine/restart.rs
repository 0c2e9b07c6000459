//! Where a job goes on that was interrupted.

use crate::ledger::{Count, LedgerRow, Place, Position};
use crate::writer::{Content, Start};

/// What the engine takes over from earlier attempts of a job.
#[derive(Debug, Default)]
pub(crate) struct Restart {
    /// Up to where each type was counted; `None`: resources of no known type.
    pub(crate) points: Vec<Point>,
    /// How each range is read, in the order of the plan; ranges beyond it are read from their start.
    pub(crate) reads: Vec<ReadFrom>,
    /// Objects that are open, and sequences that go on.
    pub(crate) starts: Vec<(Content, Start)>,
    /// Rows as of the last range's end that was noted.
    pub(crate) noted: Vec<(Option<Content>, LedgerRow)>,
    /// Ranges before this one aren't noted again.
    pub(crate) first_to_note: usize,
    /// Errors that the report holds already.
    pub(crate) errors: u64,
}

impl Restart {
    /// What is durable of objects that are open.
    pub(crate) fn durable_parts(&self) -> impl Iterator<Item = (&Content, Count)> {
        self.starts.iter().filter_map(|(content, start)| match start {
            Start::Open(open) => Some((content, open.durable())),
            Start::Next { .. } => None,
        })
    }
}

/// Up to where one type was counted.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) content: Option<Content>,
    pub(crate) row: LedgerRow,
    pub(crate) place: Place,
    pub(crate) position: Position,
}

/// How one range is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ReadFrom {
    /// From its start.
    #[default]
    Start,
    /// From a position: what lies before it is of one type and durable.
    Position(Position, Content),
    /// Not at all: everything in it is durable.
    Nowhere,
}
