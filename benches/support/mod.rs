//! What the benches share: synthetic data, a source that repeats it, a store that drops it, and measuring.

#![allow(dead_code, unused_imports, reason = "each bench is a crate of its own and uses a part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench that meets something unexpected should end loudly"
)]

mod export;
mod measure;
mod resources;
mod source;
mod store;

pub(crate) use export::{Export, configured, real_data, runtime};
pub(crate) use measure::{Machine, Meter, Quantiles, Selection, cpu_time, giga, row, wall_ms};
pub(crate) use resources::{HOSPITAL, Hospital, uuid};
pub(crate) use source::{Reads, Repeated, RepeatedSource};
pub(crate) use store::{DroppingStore, Stall};

/// Bytes of one piece of synthetic data: more than a last-level cache of 32 MiB holds.
pub(crate) const PIECE_BYTES: usize = 48 << 20;
