//! Going on with jobs that nobody runs any more: those of a process before this one, and of servers that are gone.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use super::JobService;
use super::order::{Kept, Origin};
use crate::error::{ErrorKind, Result};
use crate::job::config::OnCancel;
use crate::job::run::ResumeOptions;
use crate::job::store::JobRecord;
use crate::request::JobId;

/// How often it is looked for jobs that nobody runs any more: within the time for which they keep their places in line.
const BETWEEN_LOOKS: Duration = Duration::from_secs(20);

impl JobService {
    /// Goes on with the jobs that nobody runs any more, and gives their number.
    ///
    /// # Errors
    /// When the job store can't be read. A job that can't be gone on with is told in the log, and the others go on.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    pub async fn recover(&self) -> Result<usize> {
        self.look_for_left(&mut BTreeSet::new()).await
    }

    /// Looks three times a minute for jobs that nobody runs any more, and goes on with them, for ever. A server runs this
    /// beside everything else: so jobs of another server that is gone come to their end.
    ///
    /// # Cancellation
    /// Jobs that were gone on with go on.
    pub async fn keep_recovering(&self) -> Infallible {
        let mut told = BTreeSet::new();
        loop {
            tokio::time::sleep(BETWEEN_LOOKS).await;
            match self.look_for_left(&mut told).await {
                Ok(0) => {}
                Ok(recovered) => tracing::info!(recovered, "jobs that nobody ran any more are gone on with"),
                Err(error) => tracing::warn!(error = format!("{error:#}"), "it can't be looked for jobs to go on with"),
            }
        }
    }

    /// `told`: those that can't be gone on with, each of which is told once.
    async fn look_for_left(&self, told: &mut BTreeSet<String>) -> Result<usize> {
        let mut recovered = 0;
        for record in self.0.jobs.list().await? {
            if !record.is_interrupted() {
                continue;
            }
            match self.go_on(&record).await {
                Ok(true) => recovered += 1,
                Ok(false) => {}
                Err(error) => {
                    if told.insert(record.id.to_string()) {
                        tracing::warn!(job = %record.id, error = format!("{error:#}"), "a job can't be gone on with");
                    }
                }
            }
        }
        Ok(recovered)
    }

    async fn go_on(&self, record: &JobRecord) -> Result<bool> {
        let Some(kept) = Kept::of_record(record) else { return Ok(false) };
        if self.0.running.get(&record.id).is_some() || self.0.jobs.is_claimed(&record.id).await? {
            return Ok(false);
        }
        let data_store = self.known(&kept.datastore_id)?;
        let destination = self.destination(data_store, &kept, &record.id)?;
        if kept.origin == Origin::Profile && self.was_deleted(&record.id).await? {
            return self.remove(&record.id).await.map(|()| false);
        }
        let exporter = self.exporter_for(data_store, destination, &kept)?;
        match exporter.resume_with(&record.id, ResumeOptions::default().heed_cancel(true)).await {
            Ok(handle) => {
                self.watch(handle);
                Ok(true)
            }
            // Another server has it, or has brought it to its end meanwhile.
            Err(error) if error.kind() == ErrorKind::Fenced => Ok(false),
            Err(error) => self.is_over(&record.id).await.and_then(|over| if over { Ok(false) } else { Err(error) }),
        }
    }

    async fn is_over(&self, id: &JobId) -> Result<bool> {
        Ok(self.0.jobs.get(id).await?.is_none_or(|record| !record.is_interrupted()))
    }

    /// Whether its caller has deleted a job that nobody runs.
    async fn was_deleted(&self, id: &JobId) -> Result<bool> {
        let Some(claim) = self.0.jobs.claim(id).await? else { return Ok(false) };
        let wish = self.0.jobs.heartbeat(&claim).await?;
        Ok(wish.is_some_and(|wish| wish.on_cancel == Some(OnCancel::Discard)))
    }
}
