//! The end of what is kept for download.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::order::Origin;
use super::{JobService, JobView};
use crate::error::{ErrorKind, Result};
use crate::fhir::Instant;
use crate::request::JobId;

/// How long files are kept if nothing else is said (HealthLake contract, section 1.1).
pub(super) const FILES_LIFETIME: Duration = Duration::from_secs(48 * 60 * 60);

/// How often it is looked for what has expired.
const BETWEEN_LOOKS: Duration = Duration::from_secs(60);

/// Files that are being read, by job.
#[derive(Clone, Debug, Default)]
pub(super) struct Downloads(Arc<Mutex<HashMap<String, usize>>>);

/// A file that is being read, until this is dropped.
#[derive(Debug)]
pub(super) struct Download {
    downloads: Downloads,
    job: String,
}

impl Downloads {
    pub(super) fn begin(&self, job: &JobId) -> Download {
        *self.lock().entry(job.to_string()).or_default() += 1;
        Download { downloads: self.clone(), job: job.to_string() }
    }

    fn of(&self, job: &JobId) -> usize {
        self.lock().get(job.as_str()).copied().unwrap_or_default()
    }

    fn all(&self) -> usize {
        self.lock().values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let mut downloads = self.downloads.lock();
        if let Some(count) = downloads.get_mut(&self.job) {
            *count -= 1;
            if *count == 0 {
                downloads.remove(&self.job);
            }
        }
    }
}

impl JobService {
    /// Removes the Bulk Data exports whose time is over, with their files, and gives their number. One that is being
    /// downloaded is left until that is over.
    ///
    /// # Errors
    /// When the job store can't be read. An export that can't be removed is told in the log, and stays for the next time.
    pub async fn remove_expired(&self) -> Result<usize> {
        let mut removed = 0;
        for record in self.0.jobs.list().await? {
            let Ok(Some(view)) = JobView::of(&record) else { continue };
            if !self.has_expired(&view) || self.0.downloads.of(&view.id) > 0 {
                continue;
            }
            match self.remove(&view.id).await {
                Ok(()) => removed += 1,
                // Another server does it.
                Err(error) if error.kind() == ErrorKind::Fenced => {}
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(job = %view.id, error, "an export whose time is over isn't removed");
                }
            }
        }
        Ok(removed)
    }

    /// Looks once a minute for what has expired, for ever. A server runs this beside everything else.
    ///
    /// # Cancellation
    /// What is left of an export that was being removed is removed with the next look.
    pub async fn keep_removing_expired(&self) -> Infallible {
        loop {
            match self.remove_expired().await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "exports whose time is over are removed"),
                Err(error) => tracing::warn!(error = format!("{error:#}"), "it can't be looked for what has expired"),
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Number of files that are being read.
    #[must_use]
    pub fn downloads(&self) -> usize {
        self.0.downloads.all()
    }

    /// Until when the files of an export can be read by URLs that are signed now; as the view says, if none are.
    #[must_use]
    pub fn readable_until(&self, view: &JobView, signed_for: Option<Duration>) -> Option<Instant> {
        let expires = view.expires.as_ref()?;
        let Some(lifetime) = signed_for else { return Some(expires.clone()) };
        let now = self.0.clock.now();
        let lifetime = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
        let seconds = now.unix_seconds().saturating_add(lifetime).min(expires.unix_seconds());
        Some(Instant::from_unix(seconds, 0))
    }

    /// How long ago a job was submitted, by the time of day; nothing if the clock was set back since.
    #[must_use]
    pub fn age(&self, view: &JobView) -> Duration {
        let Some(submitted) = &view.submitted else { return Duration::ZERO };
        let seconds = self.0.clock.now().unix_seconds().saturating_sub(submitted.unix_seconds());
        Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    }

    /// When the files of an export go: of one that has ended, and whose files are kept for download.
    pub(super) fn expires(&self, view: &JobView) -> Option<Instant> {
        let ended = view.ended.as_ref().filter(|_| view.origin == Origin::Profile)?;
        let lifetime = i64::try_from(self.0.files_lifetime.as_secs()).unwrap_or(i64::MAX);
        Some(Instant::from_unix(ended.unix_seconds().saturating_add(lifetime), ended.nanos()))
    }

    /// By the time of day: if that is set back, files are kept for longer.
    pub(super) fn has_expired(&self, view: &JobView) -> bool {
        self.expires(view).is_some_and(|expires| {
            let now = self.0.clock.now();
            (now.unix_seconds(), now.nanos()) >= (expires.unix_seconds(), expires.nanos())
        })
    }
}
