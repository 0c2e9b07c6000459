//! Where jobs are kept, so that they survive the process that runs them.
//!
//! A [`JobStore`] holds a record of each job and its journal: what is durable of it, entry by entry. Whoever runs a job
//! holds its [`Claim`]. One process at a time has it, and each claim has a higher fence than the one before: what is
//! written with an old one is refused, so a process that lost its claim without knowing can't spoil anything.
//!
//! | store | for | claim | after a power failure |
//! | --- | --- | --- | --- |
//! | [`MemoryJobStore`] | tests, and jobs that needn't survive | while the claim is held | everything is gone |
//! | `SqliteJobStore` (feature `sqlite`) | one machine | an operating system lock, gone with its process | the last parts may be sent again |
//! | `PostgresJobStore` (feature `postgres`) | several servers | a lease, which ends if it isn't renewed | as the database is set |

#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod lease;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod record;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "testing")]
pub mod stored;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "testing"))]
mod wire;

use std::any::Any;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use async_trait::async_trait;

pub use lease::Lease;
pub use memory::MemoryJobStore;
#[cfg(feature = "postgres")]
pub use postgres::PostgresJobStore;
pub use record::{JobRecord, RECORD_FORMAT, Settings};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteJobStore;

use super::config::OnCancel;
use super::turns::QueueKey;
use crate::error::Result;
use crate::request::JobId;
use crate::writer::Entry;

/// Keeps records and journals of jobs.
#[async_trait]
pub trait JobStore: fmt::Debug + Send + Sync {
    /// Adds a job and claims it for its creator.
    ///
    /// # Errors
    /// When there is a job of this id, or the store can't be written to.
    async fn create(&self, record: &JobRecord) -> Result<Claim>;

    /// The record of a job; `None` if there is no such job.
    ///
    /// # Errors
    /// When the store can't be read, or the record is of a newer version or damaged.
    async fn get(&self, id: &JobId) -> Result<Option<JobRecord>>;

    /// The records of all jobs, in the order in which they were submitted.
    ///
    /// # Errors
    /// As of [`get`](Self::get).
    async fn list(&self) -> Result<Vec<JobRecord>>;

    /// Claims a job that nobody holds; `None` if somebody does, or there is no such job.
    ///
    /// # Errors
    /// When the store can't be written to.
    async fn claim(&self, id: &JobId) -> Result<Option<Claim>>;

    /// Whether somebody holds a job: a look, which takes nothing from anybody.
    ///
    /// # Errors
    /// When the store can't be read.
    async fn is_claimed(&self, id: &JobId) -> Result<bool>;

    /// Replaces the record of a job. When this returns, it survives a power failure, if the store does so at all.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if somebody else has claimed the job; any other if the store can't
    /// be written to.
    async fn update(&self, claim: &Claim, record: &JobRecord) -> Result<()>;

    /// Adds an entry to a job's journal. When this returns, the entry survives the end of the process.
    ///
    /// # Errors
    /// As of [`update`](Self::update).
    async fn append(&self, claim: &Claim, entry: Entry) -> Result<()>;

    /// The journal of a job, in the order in which it was written.
    ///
    /// # Errors
    /// When the store can't be read, or an entry is of a newer version or damaged.
    async fn entries(&self, id: &JobId) -> Result<Vec<Entry>>;

    /// Says that the job still runs, and asks whether it is to be cancelled.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if somebody else has claimed the job; any other if the store can't
    /// be reached.
    async fn heartbeat(&self, claim: &Claim) -> Result<Option<CancelWish>>;

    /// Leaves word that a job is to be cancelled; whoever runs it sees it with its next heartbeat.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such job; any other if the store can't be
    /// written to.
    async fn ask_cancel(&self, id: &JobId, wish: CancelWish) -> Result<()>;

    /// Takes such a word back.
    ///
    /// # Errors
    /// As of [`update`](Self::update).
    async fn clear_cancel(&self, claim: &Claim) -> Result<()>;

    /// Whether the store keeps the lines of queue keys, because several servers share it. If not, each process keeps its
    /// own.
    fn keeps_lines(&self) -> bool {
        false
    }

    /// Puts a job in the line of a queue key, if it isn't there, and tells how many jobs have to end or leave before it
    /// may run. 0: it has its turn, and keeps it until its record says that it is over.
    ///
    /// At most `most` jobs of a key have their turns at a time, whoever runs them, in the order in which they were created.
    /// A job that nobody holds keeps its place for a while, so that whoever goes on with it finds it there.
    ///
    /// # Errors
    /// As of [`update`](Self::update).
    async fn place_in_line(&self, _claim: &Claim, _key: &QueueKey, _most: NonZeroUsize) -> Result<u64> {
        Ok(0)
    }

    /// Removes a job with its journal.
    ///
    /// # Errors
    /// As of [`update`](Self::update).
    async fn remove(&self, claim: Claim) -> Result<()>;
}

/// That a job is to be cancelled, and what becomes of its objects; `None`: as the job's settings say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CancelWish {
    /// What becomes of the objects.
    pub on_cancel: Option<OnCancel>,
}

/// The right to run a job. It ends when the claim is dropped, or with the process.
pub struct Claim {
    job: JobId,
    fence: u64,
    lease: Option<Lease>,
    // Held, not looked at: dropping it is what lets others in.
    _held: Arc<dyn Any + Send + Sync>,
}

impl Claim {
    /// A claim that lasts as long as `held` is held.
    #[must_use]
    pub fn new(job: JobId, fence: u64, held: Arc<dyn Any + Send + Sync>) -> Self {
        Self { job, fence, lease: None, _held: held }
    }

    /// The same, which stands only as long as its lease: behind it nothing is written, sent, completed or removed.
    #[must_use]
    pub fn leased(self, lease: Lease) -> Self {
        Self { lease: Some(lease), ..self }
    }

    /// The lease, if the claim has one.
    #[must_use]
    pub const fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// Whether its lease has ended.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lease.as_ref().is_some_and(Lease::is_lost)
    }

    /// The job.
    #[must_use]
    pub const fn job(&self) -> &JobId {
        &self.job
    }

    /// The number of this claim among the job's: the highest one counts.
    #[must_use]
    pub const fn fence(&self) -> u64 {
        self.fence
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("job", &self.job).field("fence", &self.fence).finish_non_exhaustive()
    }
}

fn fenced(id: &JobId) -> crate::Error {
    crate::Error::new(crate::ErrorKind::Fenced, "another process has taken the job over").with("job", id)
}

fn unknown(id: &JobId) -> crate::Error {
    crate::Error::new(crate::ErrorKind::NotFound, "there is no such job").with("job", id)
}
