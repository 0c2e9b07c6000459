//! Loads a source into a store: NDJSON into a database, or one database into another.
//!
//! Lines are scanned on a CPU pool while the source reads on and the [`Target`] writes, and written in batches together with
//! how far the file has come: a load that was killed goes on there when it is started again. Of a resource that is met
//! again, by type and id, the version with the highest `lastUpdated` stays, of equal ones that with the highest
//! `versionId`, and of equal ones again the one that is there. What can't be kept (no resource, no `id`, too long) is
//! refused, told with file and line, and counted: read = inserted + replaced + kept + refused.
//!
//! Memory: two batches, eight blocks and a line at its limit; some 100 MiB with the usual sizes.

mod batch;
mod load;
pub mod open;
#[cfg(feature = "postgres")]
pub mod postgres;
mod report;
mod sink;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod version;

use std::collections::BTreeMap;

use async_trait::async_trait;

pub use batch::{Batch, Link, Row, RowHandle, Stamp};
pub use load::{Loading, load};
pub use report::{Event, FileProgress, LoadReport, Refused, Totals};

use crate::error::Result;

/// What became of the rows of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Resources that weren't there.
    pub inserted: u64,
    /// Resources that took the place of an older version.
    pub replaced: u64,
    /// Resources that were left out, because what is there is as new, or was deleted since.
    pub kept: u64,
}

/// Where rows go.
#[async_trait]
pub trait Target: Send {
    /// The name of the store in messages, without secrets.
    fn name(&self) -> String;

    /// Begins to load from a source, or goes on: returns how far the files of a load that wasn't finished have come.
    ///
    /// # Errors
    /// When the store can't be written to.
    async fn begin(&mut self, source: &str) -> Result<BTreeMap<String, FileProgress>>;

    /// Writes the rows of a batch and [how far its file has come](Batch::progress_with), both or neither.
    ///
    /// # Errors
    /// When the store can't be written to: nothing of the batch is.
    ///
    /// # Cancellation
    /// The batch may be written or not.
    async fn write(&mut self, batch: Batch) -> Result<Written>;

    /// Ends the load: what is built behind the first load is built, and what was noted for going on is forgotten.
    ///
    /// # Errors
    /// When the store can't be written to; the load can be gone on with.
    async fn finish(&mut self, source: &str) -> Result<()>;
}

#[cfg(feature = "sqlite")]
#[cfg(test)]
mod tests;
