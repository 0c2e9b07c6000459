//! The unit that moves from a range to the sieve.

use crate::budget::{Memory, Permit};
use crate::ledger::Origin;
use crate::source::RowMark;

/// Contiguous raw lines or rows that were read together, whole.
#[derive(Debug)]
pub(super) struct Block {
    /// The bytes, and behind them what is left of the buffer.
    pub(super) memory: Memory,
    /// How many of them are data.
    pub(super) filled: usize,
    /// Pays for the memory in the read pool.
    pub(super) permit: Permit,
    /// Where the data begins in its range.
    pub(super) origin: Origin,
    /// Whether it is lines or rows.
    pub(super) shape: Shape,
}

/// How the resources of a block are told apart.
#[derive(Debug)]
pub(super) enum Shape {
    /// By line feeds; the last line has one too.
    Lines,
    /// By marks of the source.
    Rows(Vec<RowMark>),
}
