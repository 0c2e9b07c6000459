//! The settings of an exporter, checked before anything starts.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::budget::{Budget, DEFAULT_BUDGET_BYTES};
use crate::clock::{self, Clock};
use crate::engine::OnBad;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::Policy;
use crate::request::{DatastoreId, JobId};
use crate::resource::reference::BaseUrls;
use crate::resource::{Compartment, Validation};
use crate::scope::PatientSet;
use crate::writer::{Compression, Layout, MEMBER_BYTES, Naming, PartSizing, Split};

/// Largest line limit by default, in bytes.
const DEFAULT_LINE_LIMIT_BYTES: usize = 64 << 20;

/// Name of the data store when the exporter has none.
const DEFAULT_DATASTORE_ID: &str = "00000000000000000000000000000000";

/// What happens to the objects of a job that is cancelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCancel {
    /// They are completed as far as they are durable.
    #[default]
    Seal,
    /// They are removed.
    Discard,
}

impl OnCancel {
    /// Both, with the words that stand for them in arguments and in job stores.
    pub const WORDS: [(&str, Self); 2] = [("seal", Self::Seal), ("discard", Self::Discard)];
}

/// The settings of an exporter.
///
/// All have defaults; [`check`](Self::check) tells whether they fit together.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Bytes that all buffered data of a job is charged to; 256 MiB by default.
    pub budget_bytes: usize,
    /// Longest line that is taken, in bytes; at most a quarter of the budget, at most 64 MiB by default.
    pub line_limit_bytes: Option<usize>,
    /// Patients of a cohort at most: a Group of more makes its job fail; 25 million by default. Each takes 40 bytes, besides
    /// the budget.
    pub cohort_limit_patients: usize,
    /// Threads that scan and compress; 0 (the default) is one for each core.
    pub threads: usize,
    /// Bytes that are read together; 1 MiB by default.
    pub block_bytes: usize,
    /// Ranges that are read side by side; 4 by default.
    pub read_ahead: usize,
    /// Compression of the objects; none by default.
    pub compression: Compression,
    /// Layout of the objects; HealthLake's by default.
    pub layout: Layout,
    /// When objects end early; never by default.
    pub split: Split,
    /// Size of all parts, in bytes, for stores that want equal parts; by default parts follow the offset.
    pub fixed_part_bytes: Option<usize>,
    /// Sizes of parts that no store in use would take, so that tests reach multipart with small data; takes the place of
    /// [`fixed_part_bytes`](Self::fixed_part_bytes), and isn't checked.
    #[cfg(any(test, feature = "testing"))]
    pub small_parts: Option<PartSizing>,
    /// Bytes after which a gzip member ends at the next line end; 1 MiB but in tests with small data.
    #[cfg(any(test, feature = "testing"))]
    pub member_bytes: usize,
    /// Folder for spilled parts; the system's temporary folder by default.
    pub spill_folder: PathBuf,
    /// Most bytes that are spilled at a time; 4 GiB by default.
    pub spill_limit_bytes: u64,
    /// How much of each line is checked; the full grammar of JSON by default.
    pub validation: Validation,
    /// What becomes of resources that aren't understood; quarantine by default.
    pub on_bad: OnBad,
    /// What becomes of a cancelled job's objects; sealed by default.
    pub on_cancel: OnCancel,
    /// How long a cancelled job may send what it has buffered; 30 s by default.
    pub seal_timeout: Duration,
    /// How long the requests that end one object may take after that; 30 s by default.
    pub closing_timeout: Duration,
    /// Jobs of the exporter that run at a time; others wait in QUEUED. Any number by default.
    pub jobs_at_once: Option<NonZeroUsize>,
    /// Those of them that run at a time under one [`QueueKey`](super::QueueKey). Any number by default.
    pub jobs_at_once_of_key: Option<NonZeroUsize>,
    /// How long a job may go without a block read or a byte durable before it fails; 10 min by default, `None`: for ever.
    pub stall_timeout: Option<Duration>,
    /// How often a job may be resumed without anything becoming durable before it is given up; 5 by default.
    pub fruitless_attempts: u32,
    /// Whether a database snapshot that is lost while the job runs is no error: what was changed since then comes with the
    /// next export. `false` by default: the job goes on and ends with errors.
    pub allow_time_bounded: bool,
    /// Whether what was deleted since the request's `_since` is told, if the source knows it; `true` by default.
    pub report_deletions: bool,
    /// Whether what a source says it has filtered itself is filtered again, and told if it wasn't; `true` by default. If
    /// not, it is believed of types and cohorts, and the scan has less to look for. Times are always looked at, because
    /// those that can't be read must be found.
    pub verify_pushdown: bool,
    /// The source's own bases, for absolute references; none by default.
    pub base_urls: BaseUrls,
    /// The id of the data store, in the names of objects.
    pub datastore_id: Option<DatastoreId>,
    /// What ties a resource to a patient; R4's Patient compartment by default.
    pub compartment: Arc<Compartment>,
    /// The embedder's own rule; none by default.
    pub policy: Option<Arc<dyn Policy>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            budget_bytes: DEFAULT_BUDGET_BYTES,
            line_limit_bytes: None,
            cohort_limit_patients: PatientSet::DEFAULT_LIMIT,
            threads: 0,
            block_bytes: 1 << 20,
            read_ahead: 4,
            compression: Compression::None,
            layout: Layout::HealthLake,
            split: Split::default(),
            fixed_part_bytes: None,
            #[cfg(any(test, feature = "testing"))]
            small_parts: None,
            #[cfg(any(test, feature = "testing"))]
            member_bytes: MEMBER_BYTES,
            spill_folder: std::env::temp_dir(),
            spill_limit_bytes: 4 << 30,
            validation: Validation::Full,
            on_bad: OnBad::Quarantine,
            on_cancel: OnCancel::Seal,
            seal_timeout: Duration::from_secs(30),
            closing_timeout: Duration::from_secs(30),
            jobs_at_once: None,
            jobs_at_once_of_key: None,
            stall_timeout: Some(Duration::from_secs(600)),
            fruitless_attempts: 5,
            allow_time_bounded: false,
            report_deletions: true,
            verify_pushdown: true,
            base_urls: BaseUrls::default(),
            datastore_id: None,
            compartment: Arc::new(Compartment::r4_patient()),
            policy: None,
            clock: clock::system(),
        }
    }
}

impl Config {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// When one can't work, saying which and why.
    pub fn check(&self) -> Result<()> {
        let budget = Budget::new(self.budget_bytes)?;
        let longest = budget.longest_line_bytes();
        let line_limit = self.line_limit_bytes();
        if line_limit > longest {
            return Err(refused(format!(
                "a line limit of {line_limit} bytes is too large: at most a quarter of the budget, {longest} bytes"
            )));
        }
        if self.block_bytes == 0 || self.block_bytes > budget.read.size_bytes() / 4 {
            return Err(refused(format!(
                "a block of {} bytes doesn't fit: from 1 byte to {} bytes, a sixteenth of the budget",
                self.block_bytes,
                budget.read.size_bytes() / 4
            )));
        }
        if let Some(size) = self.fixed_part_bytes
            && !(crate::destination::MIN_PART_BYTES..=budget.flight.size_bytes()).contains(&size)
        {
            return Err(refused(format!("parts of {size} bytes don't fit: from 5 MiB to three eighths of the budget")));
        }
        match self.compression {
            Compression::Gzip { level } if !(1..=9).contains(&level) => {
                Err(refused(format!("gzip has no level {level}: from 1 to 9")))
            }
            Compression::Gzip { .. } | Compression::None => Ok(()),
        }
    }

    /// Longest line that is taken, in bytes.
    #[must_use]
    pub fn line_limit_bytes(&self) -> usize {
        self.line_limit_bytes.unwrap_or_else(|| DEFAULT_LINE_LIMIT_BYTES.min(self.budget_bytes / 4))
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) const fn member_bytes(&self) -> usize {
        self.member_bytes
    }

    #[cfg(not(any(test, feature = "testing")))]
    #[expect(clippy::unused_self, reason = "tests set it")]
    pub(super) const fn member_bytes(&self) -> usize {
        MEMBER_BYTES
    }

    /// The names of a job's objects.
    pub(super) fn naming(&self, job: &JobId) -> Naming {
        let datastore_id = self.datastore_id.as_ref().map_or(DEFAULT_DATASTORE_ID, |id| id.as_str());
        Naming::new(self.layout, datastore_id, job.as_str(), self.compression.suffix())
    }

    pub(super) fn part_sizing(&self) -> PartSizing {
        #[cfg(any(test, feature = "testing"))]
        if let Some(sizing) = self.small_parts {
            return sizing;
        }
        match self.fixed_part_bytes {
            Some(size) => PartSizing::Fixed(size),
            None => PartSizing::for_budget(self.budget_bytes),
        }
    }
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_limit_over_a_quarter_of_the_budget_is_refused() {
        let config = Config { budget_bytes: 64 << 20, line_limit_bytes: Some((16 << 20) + 1), ..Config::default() };
        assert_eq!(config.check().unwrap_err().kind(), ErrorKind::InvalidConfig);
        assert!(Config { line_limit_bytes: Some(16 << 20), ..config }.check().is_ok());
    }

    #[test]
    fn the_default_settings_fit_together() {
        Config::default().check().unwrap();
    }

    #[test]
    fn what_cannot_work_is_named() {
        for (config, word) in [
            (Config { budget_bytes: 1 << 20, ..Config::default() }, "budget"),
            (Config { block_bytes: 0, ..Config::default() }, "block"),
            (Config { fixed_part_bytes: Some(1), ..Config::default() }, "parts"),
            (Config { compression: Compression::Gzip { level: 0 }, ..Config::default() }, "gzip"),
        ] {
            let error = config.check().unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
