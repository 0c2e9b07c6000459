//! The byte budget: all buffered data is charged to it.
//!
//! Backpressure is counted in bytes, because resources are of any size. One budget has three pools, so that
//! the stages wait on each other in one direction only: read waits for fill, fill for flight, flight for
//! nothing but the store. A [`Permit`] travels with the bytes that it pays for and returns them when dropped.

mod buffers;
mod pool;

pub(crate) use buffers::{Buffers, Memory};
pub use pool::{Permit, Pool, Turn};

use crate::error::{Error, ErrorKind, Result};

/// Smallest budget that the engine works in, in bytes: an eighth of it must hold a part of 8 MiB, the smallest target.
pub const MIN_BUDGET_BYTES: usize = 64 << 20;

/// Default budget, in bytes.
pub const DEFAULT_BUDGET_BYTES: usize = 256 << 20;

/// The bytes that one job may buffer, in three pools.
#[derive(Debug, Clone)]
pub struct Budget {
    total_bytes: usize,
    /// Blocks read and not yet fanned out: a quarter.
    pub read: Pool,
    /// Open parts: three eighths.
    pub fill: Pool,
    /// Parts on their way to the store: three eighths.
    pub flight: Pool,
    /// Idle memory, in the room that the pools leave.
    pub(crate) buffers: Buffers,
}

impl Budget {
    /// Shares out `total_bytes`.
    ///
    /// # Errors
    /// When it is less than [`MIN_BUDGET_BYTES`].
    pub fn new(total_bytes: usize) -> Result<Self> {
        if total_bytes < MIN_BUDGET_BYTES {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("a budget of {total_bytes} bytes is too small, the least is {MIN_BUDGET_BYTES} bytes"),
            ));
        }
        let read = total_bytes / 4;
        let fill = total_bytes / 8 * 3;
        let [read, fill, flight] = [read, fill, total_bytes - read - fill].map(Pool::new);
        let buffers = Buffers::new([read.clone(), fill.clone(), flight.clone()]);
        Ok(Self { total_bytes, read, fill, flight, buffers })
    }

    /// The whole budget, in bytes.
    #[must_use]
    pub const fn total_bytes(&self) -> usize {
        self.total_bytes
    }

    /// Longest line that the budget has room for, in bytes.
    #[must_use]
    pub const fn longest_line_bytes(&self) -> usize {
        self.total_bytes / 4
    }
}
