//! Jobs in memory.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;

use super::{CancelWish, Claim, JobRecord, JobStore, fenced, unknown};
use crate::error::{Error, ErrorKind, Result};
use crate::request::JobId;
use crate::writer::Entry;

/// A job store that lasts as long as the process. Clones share the jobs.
#[derive(Clone, Debug, Default)]
pub struct MemoryJobStore(Arc<Mutex<BTreeMap<String, Job>>>);

#[derive(Debug)]
struct Job {
    record: JobRecord,
    entries: Vec<Entry>,
    cancel: Option<CancelWish>,
    fence: u64,
    holder: Weak<dyn Any + Send + Sync>,
    /// Place in the order of submission.
    number: usize,
}

impl Job {
    fn claim(&mut self) -> Claim {
        let held: Arc<dyn Any + Send + Sync> = Arc::new(());
        self.holder = Arc::downgrade(&held);
        self.fence += 1;
        Claim::new(self.record.id.clone(), self.fence, held)
    }
}

impl MemoryJobStore {
    /// A store without jobs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Job>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held<T>(&self, claim: &Claim, act: impl FnOnce(&mut Job) -> T) -> Result<T> {
        match self.lock().get_mut(claim.job().as_str()) {
            Some(job) if job.fence == claim.fence() => Ok(act(job)),
            Some(_) => Err(fenced(claim.job())),
            None => Err(unknown(claim.job())),
        }
    }
}

#[async_trait]
impl JobStore for MemoryJobStore {
    async fn create(&self, record: &JobRecord) -> Result<Claim> {
        let mut jobs = self.lock();
        if jobs.contains_key(record.id.as_str()) {
            return Err(Error::new(ErrorKind::AlreadyExists, "there is a job of this id").with("job", &record.id));
        }
        let nobody: Arc<dyn Any + Send + Sync> = Arc::new(());
        let (holder, number) = (Arc::downgrade(&nobody), jobs.len());
        let mut job = Job { record: record.clone(), entries: Vec::new(), cancel: None, fence: 0, holder, number };
        let claim = job.claim();
        jobs.insert(record.id.to_string(), job);
        Ok(claim)
    }

    async fn get(&self, id: &JobId) -> Result<Option<JobRecord>> {
        Ok(self.lock().get(id.as_str()).map(|job| job.record.clone()))
    }

    async fn list(&self) -> Result<Vec<JobRecord>> {
        let jobs = self.lock();
        let mut jobs: Vec<&Job> = jobs.values().collect();
        jobs.sort_by(|a, b| (&a.record.submitted, a.number).cmp(&(&b.record.submitted, b.number)));
        Ok(jobs.into_iter().map(|job| job.record.clone()).collect())
    }

    async fn claim(&self, id: &JobId) -> Result<Option<Claim>> {
        let mut jobs = self.lock();
        let free = jobs.get_mut(id.as_str()).filter(|job| job.holder.upgrade().is_none());
        Ok(free.map(Job::claim))
    }

    async fn is_claimed(&self, id: &JobId) -> Result<bool> {
        Ok(self.lock().get(id.as_str()).is_some_and(|job| job.holder.upgrade().is_some()))
    }

    async fn update(&self, claim: &Claim, record: &JobRecord) -> Result<()> {
        self.held(claim, |job| job.record = record.clone())
    }

    async fn append(&self, claim: &Claim, entry: Entry) -> Result<()> {
        self.held(claim, |job| job.entries.push(entry))
    }

    async fn entries(&self, id: &JobId) -> Result<Vec<Entry>> {
        Ok(self.lock().get(id.as_str()).map(|job| job.entries.clone()).unwrap_or_default())
    }

    async fn heartbeat(&self, claim: &Claim) -> Result<Option<CancelWish>> {
        self.held(claim, |job| job.cancel)
    }

    async fn ask_cancel(&self, id: &JobId, wish: CancelWish) -> Result<()> {
        let mut jobs = self.lock();
        jobs.get_mut(id.as_str()).ok_or_else(|| unknown(id))?.cancel = Some(wish);
        Ok(())
    }

    async fn clear_cancel(&self, claim: &Claim) -> Result<()> {
        self.held(claim, |job| job.cancel = None)
    }

    async fn remove(&self, claim: Claim) -> Result<()> {
        self.held(&claim, |_| ())?;
        self.lock().remove(claim.job().as_str());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::store::contract;

    #[tokio::test]
    async fn it_keeps_the_contract() {
        contract::check(&MemoryJobStore::new()).await;
    }
}
