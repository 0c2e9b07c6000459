//! Events of `--progress json`: one JSON object a line.

use std::collections::BTreeMap;
use std::time::Duration;

use fhir_export::job::{CountEntry, LedgerEntry, WaitsFor};
use serde::Serialize;

use super::progress::Now;

/// Something that happened, or how far the job is.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Event<'a> {
    /// The job was started.
    Started { job_id: &'a str, source: &'a str, to: &'a str, level: String, query: String },
    /// How far the job is.
    Progress {
        elapsed_seconds: f64,
        /// The piece of the source that is being read.
        range: Option<&'a str>,
        ranges_done: usize,
        ranges: usize,
        types: Vec<TypeEvent<'a>>,
        /// Calls to the destination that failed and were repeated.
        failed_calls: u64,
        /// The same by cause: throttled, server_error, timeout, connection.
        failed_calls_by_cause: &'a BTreeMap<&'static str, u64>,
        /// What most of the time is spent on waiting for: source, cpu or store.
        bottleneck: Option<&'a str>,
    },
    /// The job is being cancelled.
    Cancelling { signal: &'a str, on_cancel: &'a str },
    /// A second signal: nothing is waited for any more.
    Stopped { signal: &'a str },
    /// The job ended: the last event.
    Finished(Box<Finished<'a>>),
}

/// How far one type is.
#[derive(Debug, Serialize)]
pub(crate) struct TypeEvent<'a> {
    #[serde(rename = "type")]
    resource_type: &'a str,
    read: CountEntry,
    written: CountEntry,
}

/// How the job ended.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finished<'a> {
    pub(crate) state: &'a str,
    pub(crate) exit_code: u8,
    pub(crate) manifest_url: Option<&'a str>,
    pub(crate) error: Option<String>,
    pub(crate) elapsed_seconds: f64,
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
    pub(crate) ledger: Vec<LedgerEntry>,
    pub(crate) warnings: &'a [String],
    /// What may be left in the store besides the objects.
    pub(crate) leftovers: Vec<String>,
    /// Whether `fhir-export resume` can go on with the job.
    pub(crate) resumable: bool,
}

impl<'a> Event<'a> {
    pub(crate) fn progress(now: &'a Now) -> Self {
        let progress = &now.progress;
        let types = progress.types.iter().map(|one| TypeEvent {
            resource_type: one.resource_type.as_str(),
            read: one.row.read.into(),
            written: one.row.written.into(),
        });
        Self::Progress {
            elapsed_seconds: rounded(now.elapsed),
            range: progress.range.as_deref(),
            ranges_done: progress.ranges_done,
            ranges: progress.ranges,
            types: types.collect(),
            failed_calls: now.failed_calls.values().sum(),
            failed_calls_by_cause: &now.failed_calls,
            bottleneck: progress.waited.bottleneck.map(WaitsFor::as_str),
        }
    }

    /// The event as a line.
    pub(crate) fn line(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

/// Seconds, to the millisecond.
pub(crate) fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}
