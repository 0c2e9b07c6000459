//! How a job ended.

use super::manifest::{LedgerEntry, Manifest};
use super::state::JobState;
use crate::error::Error;
use crate::fhir::ResourceType;
use crate::ledger::LedgerRow;
use crate::request::JobId;
use crate::writer::{Leftover, ObjectReport};

/// How a job ended, and its books.
#[derive(Debug)]
#[non_exhaustive]
pub struct JobReport {
    /// The id of the job.
    pub job_id: JobId,
    /// The state in which it ended.
    pub state: JobState,
    /// Why it failed, or why its cancellation did.
    pub error: Option<Error>,
    /// What it produced; `None` if it failed.
    pub manifest: Option<Manifest>,
    /// The URL of the manifest, if it is stored.
    pub manifest_url: Option<String>,
    /// The books: a row for each type; `None` for resources whose type isn't known.
    pub ledger: Vec<(Option<ResourceType>, LedgerRow)>,
    /// The objects that are visible, in byte order of their keys.
    pub objects: Vec<ObjectReport>,
    /// What may be left in the store besides them.
    pub leftovers: Vec<Leftover>,
    /// Whether the job can be resumed: what is durable of it was kept.
    pub resumable: bool,
}

impl JobReport {
    /// The books as a manifest shows them.
    #[must_use]
    pub fn ledger_entries(&self) -> Vec<LedgerEntry> {
        let entry = |(name, row): &(Option<ResourceType>, LedgerRow)| {
            LedgerEntry::new(name.as_ref().map(ResourceType::as_str), row)
        };
        self.ledger.iter().map(entry).collect()
    }

    pub(super) fn failed(job_id: &JobId, error: Error) -> Self {
        Self {
            job_id: job_id.clone(),
            state: JobState::Failed,
            error: Some(error),
            manifest: None,
            manifest_url: None,
            ledger: Vec::new(),
            objects: Vec::new(),
            leftovers: Vec::new(),
            resumable: false,
        }
    }
}
