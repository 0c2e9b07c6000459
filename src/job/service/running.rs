//! The jobs that run in this process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::handle::JobControl;
use crate::request::JobId;

/// Jobs that run here, by id.
#[derive(Debug, Default)]
pub(super) struct Running(Mutex<HashMap<String, Job>>);

#[derive(Debug)]
struct Job {
    control: JobControl,
    /// Nobody is to see it any more: its caller has deleted it, and it is removed when it has ended.
    is_deleted: bool,
}

impl Running {
    pub(super) fn add(&self, id: &JobId, control: JobControl) {
        self.lock().insert(id.to_string(), Job { control, is_deleted: false });
    }

    /// Takes a job out that has ended; tells whether it is to be removed.
    pub(super) fn end(&self, id: &JobId) -> bool {
        self.lock().remove(id.as_str()).is_some_and(|job| job.is_deleted)
    }

    pub(super) fn get(&self, id: &JobId) -> Option<JobControl> {
        self.lock().get(id.as_str()).map(|job| job.control.clone())
    }

    pub(super) fn is_deleted(&self, id: &JobId) -> bool {
        self.lock().get(id.as_str()).is_some_and(|job| job.is_deleted)
    }

    /// Hides a job that runs; `None` if it doesn't.
    pub(super) fn hide(&self, id: &JobId) -> Option<JobControl> {
        let mut jobs = self.lock();
        let job = jobs.get_mut(id.as_str())?;
        job.is_deleted = true;
        Some(job.control.clone())
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Job>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
