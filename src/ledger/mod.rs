//! The books of a job: what became of every resource that was read.
//!
//! Every counter that a manifest, progress, metrics or logs show comes from here. A resource is read once and has
//! exactly one [`Fate`]; a job completes only when, for each type, the fates add up to what was read.

mod books;
mod fate;
mod position;
mod row;
mod types;

pub use books::{Books, END, Origin, Place};
pub use fate::{Exclusion, Fate};
pub use position::{END_OF_RANGE, Mark, Position, RowPositions};
pub use row::{Count, LedgerRow, Notes};
pub use types::{MAX_TYPES, Slot, TypeTable};
