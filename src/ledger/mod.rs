//! The books of a job: what became of every resource that was read.
//!
//! Every counter that a manifest, progress, metrics or logs show comes from here. A resource is read once and has
//! exactly one [`Fate`]; a job completes only when, for each type, the fates add up to what was read.

mod balance;
mod fate;
mod row;

pub use fate::{Exclusion, Fate};
pub use row::{Count, LedgerRow, Notes};
