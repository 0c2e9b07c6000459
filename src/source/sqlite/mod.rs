//! An SQLite store: what [`import`](crate::import) fills, and a small server may write to.
//!
//! A snapshot is one read transaction on a thread of its own: writers go on beside it, and it doesn't see what they do.
//! Ranges are types in byte order of their names, resources in byte order of their ids. Types, times, ids and, if the
//! compartment index is that of the job's compartment, cohorts are filtered by the store; a cohort is joined once, when
//! the range is planned.
//!
//! The transaction time is taken while nobody writes: whoever stamps resources after he has begun to write (as
//! [`Store`](crate::import::sqlite::Store) does) can't stamp one with an earlier time that the snapshot doesn't hold.

mod query;
mod reading;
pub(crate) mod schema;
mod thread;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::{AfterTransactionTime, Asked, BlockSink, Cursor, DeletionSink, Plan, Range, Snapshot, Source};
use crate::clock::{self, Clock};
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::Instant;
use query::Query;
use thread::{Opened, SnapshotThread};

/// A source that reads an SQLite store.
///
/// # Example
/// ```
/// use fhir_export::import::sqlite::Store;
/// use fhir_export::source::{Source, SqliteSource};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("store.db");
/// let mut store = Store::open(&path)?;
/// store.write(|write| write.put(br#"{"resourceType":"Patient","id":"1"}"#).map(drop))?;
///
/// let snapshot = SqliteSource::new(&path).open().await?;
/// assert_eq!(snapshot.plan(&Default::default()).await?.ranges.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SqliteSource {
    path: PathBuf,
    clock: Arc<dyn Clock>,
}

impl SqliteSource {
    /// The store in a file, which is looked at when a job opens it.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), clock: clock::system() }
    }

    /// Takes the time from this clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[async_trait]
impl Source for SqliteSource {
    fn name(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    async fn open(&self) -> Result<Box<dyn Snapshot>> {
        let (thread, opened) = SnapshotThread::start(self.path.clone(), Arc::clone(&self.clock)).await?;
        Ok(Box::new(SqliteSnapshot { thread, opened }))
    }
}

/// A read transaction.
#[derive(Debug)]
struct SqliteSnapshot {
    thread: SnapshotThread,
    opened: Opened,
}

#[async_trait]
impl Snapshot for SqliteSnapshot {
    fn transaction_time(&self) -> Instant {
        self.opened.transaction_time.clone()
    }

    fn after_transaction_time(&self) -> AfterTransactionTime {
        AfterTransactionTime::Excluded
    }

    async fn plan(&self, asked: &Asked) -> Result<Plan> {
        let asked = asked.clone();
        self.thread.run(move |session| query::plan(session, &asked)).await
    }

    fn takes_cohort(&self) -> bool {
        self.opened.is_indexed
    }

    async fn deleted(&self, asked: &Asked, sink: &mut dyn DeletionSink) -> Result<()> {
        let mut from = None;
        loop {
            let (asked, after) = (asked.clone(), from.take());
            let tombstones = self.thread.run(move |session| query::tombstones(session, &asked, after.as_ref())).await?;
            let Some(last) = tombstones.last() else { return Ok(()) };
            from = Some((last.resource_type.clone(), last.id.clone()));
            for tombstone in tombstones {
                sink.deleted(tombstone).await?;
            }
        }
    }

    async fn read(&self, range: &Range, from: &Cursor, sink: &mut dyn BlockSink) -> Result<()> {
        let query = range.carried::<Query>().cloned().ok_or_else(|| {
            Error::new(ErrorKind::Internal, "the range isn't one of this source").with("range", &range.name)
        })?;
        reading::read(&self.thread, query, from, sink).await
    }
}

#[cfg(test)]
mod tests;
