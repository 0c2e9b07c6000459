//! A job as those see it who ask for it.

use super::super::manifest::Manifest;
use super::super::state::JobState;
use super::super::store::JobRecord;
use super::order::{Kept, Origin, SkippedParameter};
use crate::engine::Progress;
use crate::error::Result;
use crate::fhir::Instant;
use crate::request::{DatastoreId, JobId, JobName, OutputDataConfig, RoleArn, TypeSelection};

/// A job of a service as it is now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JobView {
    /// Its id.
    pub id: JobId,
    /// The data store that it exports from.
    pub datastore_id: DatastoreId,
    /// How it was asked for.
    pub origin: Origin,
    /// Its state.
    pub state: JobState,
    /// The name that its caller gave it.
    pub name: Option<JobName>,
    /// When it was submitted.
    pub submitted: Option<Instant>,
    /// When it ended, if it has.
    pub ended: Option<Instant>,
    /// When its files go, if it has ended and they are kept for download.
    pub expires: Option<Instant>,
    /// Where the output goes, if its caller said so.
    pub output: Option<OutputDataConfig>,
    /// The role in whose name it is written.
    pub role: Option<RoleArn>,
    /// The job folder below the destination's prefix, without a slash at its end; empty in the flat layout.
    pub folder: String,
    /// The URL that was asked, without its body.
    pub request_url: String,
    /// Whether a poll's answer keeps the job's status apart.
    pub separate_status: bool,
    /// What was skipped of the request.
    pub skipped: Vec<SkippedParameter>,
    /// Who started it, if anybody was asked who he is.
    pub owner: Option<String>,
    /// The types that it exports.
    pub types: TypeSelection,
    /// Why it failed, or what it came to lack, in words that name no place: the log has the whole cause.
    pub message: Option<String>,
    /// What it produced, once it has ended with something.
    pub manifest: Option<Manifest>,
    /// How far it is, if it runs in this process.
    pub progress: Option<Progress>,
}

impl JobView {
    /// The view of a record; `None` if the job is none of a service.
    pub(super) fn of(record: &JobRecord) -> Result<Option<Self>> {
        let Some(kept) = Kept::of_record(record) else { return Ok(None) };
        Ok(Some(Self {
            id: record.id.clone(),
            datastore_id: DatastoreId::new(&kept.datastore_id)?,
            origin: kept.origin,
            state: record.state,
            name: kept.job_name(),
            submitted: Instant::parse(&record.submitted).ok(),
            ended: record.state.is_terminal().then(|| Instant::parse(&record.updated).ok()).flatten(),
            expires: None,
            output: kept.output()?,
            role: kept.role()?,
            folder: record.naming()?.folder().trim_end_matches('/').to_owned(),
            request_url: kept.request_url,
            separate_status: kept.separate_status,
            skipped: kept.skipped,
            owner: kept.owner,
            types: record.request()?.types().clone(),
            message: record.public_error(),
            manifest: record.manifest.clone().and_then(|manifest| serde_json::from_value(manifest).ok()),
            progress: None,
        }))
    }

    /// How much of the ranges is done, in whole percent: never 100 before the job has ended.
    #[must_use]
    pub fn percent(&self) -> u8 {
        if self.state.is_terminal() {
            return 100;
        }
        let Some(progress) = &self.progress else { return 0 };
        let done = progress.ranges_done.saturating_mul(100).checked_div(progress.ranges).unwrap_or(0);
        u8::try_from(done.min(99)).unwrap_or(99)
    }

    /// Its place in the list of its data store's jobs, as text that [`behind`](Self::behind) reads.
    #[must_use]
    pub fn place(&self) -> String {
        let submitted = self.submitted.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{submitted}/{}", self.id)
    }

    /// The index at which a list, in the order in which its jobs were submitted, goes on behind a place; `None` if the text
    /// is no place.
    ///
    /// If the job of the place is gone, those that were submitted in the same moment may come again; none is left out.
    #[must_use]
    pub fn behind(place: &str, list: &[Self]) -> Option<usize> {
        let (submitted, id) = place.split_once('/')?;
        let submitted = (!submitted.is_empty()).then(|| Instant::parse(submitted)).transpose().ok()?;
        let id = JobId::new(id).ok()?;
        let same = list.iter().position(|view| view.id == id);
        Some(same.map_or_else(|| list.partition_point(|view| view.submitted < submitted), |index| index + 1))
    }
}
