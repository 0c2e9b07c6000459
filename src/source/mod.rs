//! Where resources come from.
//!
//! A [`Source`] is opened for one job and gives a [`Snapshot`] with its transaction time. A snapshot plans
//! [`Range`]s, independent and ordered pieces of its scan, and reads each of them into a [`BlockSink`]. Sources
//! push: the sink owns memory, back-pressure and cancellation, so a source is a loop that fills buffers. Those whose
//! resources are rows, as a server's are, leave the buffers to a [`RowWriter`].

mod asked;
mod block;
#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod cursor;
mod deletion;
pub mod memory;
pub mod ndjson;
pub mod open;
#[cfg(feature = "postgres")]
pub mod postgres;
mod range;
mod row_writer;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use std::fmt;

use async_trait::async_trait;

pub use asked::{Asked, CohortIds};
pub(crate) use block::RowMark;
#[cfg(feature = "sqlite")]
use block::trim;
pub use block::{BlockSink, Buffer, RowOutcome, Rows};
pub use cursor::Cursor;
pub use deletion::{DeletionSink, Tombstone};
pub use memory::MemorySource;
pub use ndjson::NdjsonSource;
#[cfg(feature = "postgres")]
pub use postgres::PostgresSource;
pub use range::Range;
pub use row_writer::RowWriter;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteSource;

use crate::error::Result;
use crate::fhir::Instant;

/// Where resources come from: the trait that the author of a FHIR server implements.
///
/// In the repository, `examples/embed.rs` implements it for a store of many types, and `examples/embed_axum.rs` is a whole
/// server of one type with `$export`, in 79 lines. With the feature `testing`, `contract::check` of this module tells
/// whether a source keeps its promises.
#[async_trait]
pub trait Source: fmt::Debug + Send + Sync {
    /// The name of the source in messages and in the manifest: a path or URI without secrets.
    fn name(&self) -> String;

    /// Opens the source for one job.
    ///
    /// # Errors
    /// When the source isn't there, can't be read or holds nothing that could be exported.
    ///
    /// # Cancellation
    /// Dropping the future leaves nothing open.
    async fn open(&self) -> Result<Box<dyn Snapshot>>;

    /// Opens the source for a job that was interrupted, as of its transaction time if that is still to be had.
    ///
    /// A snapshot whose [transaction time](Snapshot::transaction_time) is the one asked for is taken for the same one, and
    /// the job goes on exactly. Otherwise files are compared by their [versions](Snapshot::version), and anything else goes
    /// on *time-bounded*: what is stamped after T by now counts as superseded, and the manifest says so.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    ///
    /// # Cancellation
    /// As of [`open`](Self::open).
    async fn reopen(&self, transaction_time: &Instant) -> Result<Box<dyn Snapshot>> {
        let _ = transaction_time;
        self.open().await
    }
}

/// A source as it stood at one instant.
#[async_trait]
pub trait Snapshot: fmt::Debug + Send + Sync {
    /// The transaction time T: what the snapshot holds is the source's state at this instant.
    fn transaction_time(&self) -> Instant;

    /// Whether a resource stamped after T belongs to the snapshot.
    fn after_transaction_time(&self) -> AfterTransactionTime;

    /// Cuts what is asked for into ranges, in the snapshot's order.
    ///
    /// The order of ranges and of resources in them is the order of the output, so it must be the same each
    /// time the same snapshot is planned for the same request.
    ///
    /// # Errors
    /// When the source can't be looked at.
    async fn plan(&self, asked: &Asked) -> Result<Plan>;

    /// What tells this version of a range from any other, such as a file's size and time, or an object's ETag.
    ///
    /// A job that was interrupted goes on exactly only if all its ranges still have the versions they had. `None` (the
    /// default) says that it can't be told.
    fn version(&self, range: &Range) -> Option<String> {
        let _ = range;
        None
    }

    /// Whether [`plan`](Self::plan) can make use of a cohort's ids ([`Asked::cohort`]).
    ///
    /// A job keeps only fingerprints of its patients unless the snapshot says so, because a list takes as much memory
    /// again while the plan is made. What the plan needs of the list behind that, such as a temporary table, is the
    /// snapshot's own.
    fn takes_cohort(&self) -> bool {
        false
    }

    /// Reports what was deleted from [`since`](Asked::since) on and isn't there again, in byte order of type and id, each
    /// resource once: the manifest's `deleted` objects. Nothing (the default) if the source doesn't keep track.
    ///
    /// It is called after all ranges were read, of a job that has a `since`. The engine leaves out what it doesn't need,
    /// by type, time and patients.
    ///
    /// # Errors
    /// As of [`read`](Self::read).
    ///
    /// # Cancellation
    /// The future may be dropped at any await.
    async fn deleted(&self, asked: &Asked, sink: &mut dyn DeletionSink) -> Result<()> {
        let _ = (asked, sink);
        Ok(())
    }

    /// The range of this name, which an earlier plan had for the same request, if it can still be read.
    ///
    /// A job that goes on time-bounded asks for ranges that the plan of the new snapshot doesn't have: a source that cuts
    /// types by what is in them cuts them in other places when there is more. What it finds no more is taken for empty.
    fn range(&self, name: &str) -> Option<Range> {
        let _ = name;
        None
    }

    /// How many ranges may be read side by side just now, each of which is kept whole in memory while others are before
    /// it; `None` (the default): as many as the job likes, a few blocks of each.
    fn side_by_side(&self) -> Option<usize> {
        None
    }

    /// Reads one range from a cursor to its end into the sink.
    ///
    /// The first thing is to tell the sink where it begins ([`BlockSink::at`]). Of line-based bytes, what follows the
    /// last line feed is a last line if this returns `Ok`, and no part of the data if it returns an error: a line that
    /// was cut is never exported.
    ///
    /// # Errors
    /// [`ErrorKind::Unreadable`](crate::ErrorKind::Unreadable) when only this range can't be read (to its end):
    /// the job goes on without it and tells so. [`ErrorKind::SnapshotLost`](crate::ErrorKind::SnapshotLost) when the
    /// snapshot is gone and the source isn't, as when a connection breaks: the job [reopens](Source::reopen) the source and
    /// goes on behind the last row that was handed over. Any other error ends the job. Errors of the sink are handed on.
    ///
    /// # Cancellation
    /// The future may be dropped at any await; the range may then be read again from any cursor.
    async fn read(&self, range: &Range, from: &Cursor, sink: &mut dyn BlockSink) -> Result<()>;
}

/// The ranges of a request, and what the source left out of them.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What is to be read, in order.
    pub ranges: Vec<Range>,
    /// What isn't read because its declared type wasn't asked for; listed in the manifest.
    pub skipped: Vec<Range>,
    /// What the source has already filtered; the engine checks it resource by resource.
    pub pushdown: Pushdown,
}

/// What a source says it has filtered itself.
///
/// Nothing is taken on trust: the engine filters again, and what comes all the same is left out, counted and told in the
/// manifest. Only if [`Config::verify_pushdown`](crate::job::Config::verify_pushdown) is turned off is it believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushdown {
    /// Only the asked types are delivered.
    pub types: bool,
    /// Only resources inside `since` and `until` are delivered, and those whose time can't be read.
    pub times: bool,
    /// Only what belongs to the asked cohort is delivered.
    pub cohort: bool,
}

/// What it means that a resource is stamped after T.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterTransactionTime {
    /// The snapshot is what was there: such a resource belongs to it, is counted and warned of (files).
    Kept,
    /// The snapshot ends at T: such a resource is excluded and comes with the next export (databases).
    Excluded,
}
