//! Puts a service together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::super::config::Config;
use super::super::exporter::Exporter;
use super::super::store::{JobStore, MemoryJobStore};
use super::audit::AuditEvents;
use super::expiry::{Downloads, FILES_LIFETIME};
use super::places::{DataStore, NoOutputs, Outputs};
use super::running::Running;
use super::{Inner, JobService};
use crate::error::{Error, ErrorKind, Result};

/// Puts a service together.
#[derive(Debug, Default)]
#[must_use = "a service exists after build()"]
pub struct JobServiceBuilder {
    config: Config,
    jobs: Option<Arc<dyn JobStore>>,
    data_stores: Vec<DataStore>,
    outputs: Option<Arc<dyn Outputs>>,
    most_waiting: Option<usize>,
    files_lifetime: Option<Duration>,
    audit_events: Option<Arc<dyn AuditEvents>>,
}

impl JobServiceBuilder {
    /// Adds a data store.
    pub fn data_store(mut self, data_store: DataStore) -> Self {
        self.data_stores.push(data_store);
        self
    }

    /// Sets what all jobs have in common. `jobs_at_once` is the number that run together, `jobs_at_once_of_key` that of
    /// one account and Region; the rest waits in line, first come, first served.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Sets where jobs are kept; in memory without it.
    pub fn job_store(mut self, jobs: Arc<dyn JobStore>) -> Self {
        self.jobs = Some(jobs);
        self
    }

    /// Sets who opens the destinations that callers name; without it there are none.
    pub fn outputs(mut self, outputs: Arc<dyn Outputs>) -> Self {
        self.outputs = Some(outputs);
        self
    }

    /// Sets how many jobs may wait under one key; a job that would be one more is refused. Any number without it.
    pub fn most_waiting(mut self, most: usize) -> Self {
        self.most_waiting = Some(most);
        self
    }

    /// Sets how long the files of a Bulk Data export are kept from its end; 48 hours without it.
    /// [`JobService::keep_removing_expired`] removes them.
    pub fn files_lifetime(mut self, lifetime: Duration) -> Self {
        self.files_lifetime = Some(lifetime);
        self
    }

    /// Sets what gets a FHIR `AuditEvent` for each job that ends here; nothing without it.
    pub fn audit_events(mut self, events: Arc<dyn AuditEvents>) -> Self {
        self.audit_events = Some(events);
        self
    }

    /// Builds the service and starts its CPU pool.
    ///
    /// # Errors
    /// When there is no data store, two have the same id, or the settings don't fit together.
    pub fn build(self) -> Result<JobService> {
        let refused = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        let mut data_stores = BTreeMap::new();
        for data_store in self.data_stores {
            let id = data_store.id.to_string();
            if data_stores.insert(id.clone(), data_store).is_some() {
                return refused(format!("there are two data stores {id:?}"));
            }
        }
        let Some(first) = data_stores.values().next() else { return refused("a service needs a data store".into()) };
        let jobs = self.jobs.unwrap_or_else(|| Arc::new(MemoryJobStore::new()));
        let clock = Arc::clone(&self.config.clock);
        let exporter = Exporter::builder()
            .source(Arc::clone(&first.source))
            .config(self.config)
            .job_store(Arc::clone(&jobs))
            .build()?;
        Ok(JobService(Arc::new(Inner {
            exporter,
            jobs,
            data_stores,
            outputs: self.outputs.unwrap_or_else(|| Arc::new(NoOutputs)),
            running: Running::default(),
            downloads: Downloads::default(),
            files_lifetime: self.files_lifetime.unwrap_or(FILES_LIFETIME),
            clock,
            audit_events: self.audit_events,
            watchers: TaskTracker::new(),
            most_waiting: self.most_waiting,
            starting: tokio::sync::Mutex::default(),
        })))
    }
}
