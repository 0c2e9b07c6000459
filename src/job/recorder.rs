//! The hand that keeps a job's record and journal while it runs.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;

use super::store::{CancelWish, Claim, JobRecord, JobStore, Lease};
use super::turns::QueueKey;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics;
use crate::request::JobId;
use crate::writer::{Entry, Journal};

/// The claim on a job, and its record as it was last written.
#[derive(Debug)]
pub(super) struct Recorder {
    store: Arc<dyn JobStore>,
    job: JobId,
    /// None once it was given up.
    claim: Mutex<Option<Arc<Claim>>>,
    clock: Arc<dyn Clock>,
    record: Mutex<JobRecord>,
}

impl Recorder {
    pub(super) fn new(store: Arc<dyn JobStore>, claim: Claim, clock: Arc<dyn Clock>, record: JobRecord) -> Self {
        let (job, claim) = (claim.job().clone(), Mutex::new(Some(Arc::new(claim))));
        Self { store, job, claim, clock, record: Mutex::new(record) }
    }

    /// Gives the claim up, though others may hold the recorder still.
    pub(super) fn release(&self) {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn claim(&self) -> Result<Arc<Claim>> {
        let claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner).clone();
        claim.ok_or_else(|| Error::new(ErrorKind::Fenced, "the job is no longer ours").with("job", &self.job))
    }

    /// The lease of the claim, if it has one.
    pub(super) fn lease(&self) -> Option<Lease> {
        self.claim().ok().and_then(|claim| claim.lease().cloned())
    }

    pub(super) fn record(&self) -> JobRecord {
        self.lock().clone()
    }

    /// Changes the record, and writes it.
    pub(super) async fn change(&self, change: impl FnOnce(&mut JobRecord) + Send) -> Result<()> {
        let record = {
            let mut record = self.lock();
            change(&mut record);
            record.updated = self.clock.now().to_string();
            record.clone()
        };
        self.store.update(self.claim()?.as_ref(), &record).await
    }

    /// Says that the job still runs, and asks whether it is to be cancelled.
    pub(super) async fn heartbeat(&self) -> Result<Option<CancelWish>> {
        self.store.heartbeat(self.claim()?.as_ref()).await
    }

    /// What was noted of the job.
    pub(super) async fn entries(&self) -> Result<Vec<Entry>> {
        self.store.entries(&self.job).await
    }

    /// How many jobs of a queue key have to end or leave before this one may run.
    pub(super) async fn place_in_line(&self, key: &QueueKey, most: NonZeroUsize) -> Result<u64> {
        self.store.place_in_line(self.claim()?.as_ref(), key, most).await
    }

    pub(super) async fn clear_cancel(&self) -> Result<()> {
        self.store.clear_cancel(self.claim()?.as_ref()).await
    }

    fn lock(&self) -> MutexGuard<'_, JobRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Journal for Recorder {
    async fn append(&self, entry: Entry) -> Result<()> {
        let begun = Instant::now();
        let appended = self.store.append(self.claim()?.as_ref(), entry).await;
        metrics::record(&metrics::JOURNAL_SECONDS, &[], begun.elapsed().as_secs_f64());
        appended
    }
}
