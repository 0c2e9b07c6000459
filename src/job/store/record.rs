//! The record of a job.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::super::config::{Config, OnCancel};
use super::super::manifest::LedgerEntry;
use super::super::state::JobState;
use crate::clock;
use crate::engine::OnBad;
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::{Instant, Labels, ResourceType, Token};
use crate::request::{DatastoreId, ExportRequest, JobId, Level, PatientReference, Period, TimeBound, TypeSelection};
use crate::resource::Validation;
use crate::resource::reference::BaseUrls;
use crate::writer::{Compression, Layout, Naming, Split};

/// Version of records and journals. A store refuses those of a newer one.
pub const RECORD_FORMAT: u32 = 1;

/// What is kept of a job besides its journal. No secrets: those come from where they came from at first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct JobRecord {
    /// The job's id.
    #[serde(serialize_with = "to_text", deserialize_with = "id_from_text")]
    pub id: JobId,
    /// Its state.
    #[serde(serialize_with = "to_text", deserialize_with = "state_from_text")]
    pub state: JobState,
    /// When it was submitted.
    pub submitted: String,
    /// When the record was last written.
    pub updated: String,
    /// Whose data: `system`, `patient` or `group/ID`.
    pub level: String,
    /// The types that were asked for; `None`: all.
    pub types: Option<Vec<String>>,
    /// `_since` as it was written.
    pub since: Option<String>,
    /// `_until` as it was written.
    pub until: Option<String>,
    /// The labels of `_security`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub security: Vec<String>,
    /// The labels of `_tag`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tags: Vec<String>,
    /// References to the patients that were asked for; `None`: whoever the level holds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub patients: Option<Vec<String>>,
    /// The source's name.
    pub source: String,
    /// The URL of the manifest, which stands for the destination.
    pub manifest_url: String,
    /// The transaction time T in seconds since 1970 and nanoseconds, once the snapshot was opened.
    pub transaction_time: Option<(i64, u32)>,
    /// What tells the cohort from another, if there is one.
    pub cohort_digest: Option<String>,
    /// Those settings that what is written depends on.
    pub settings: Settings,
    /// What the embedder wants to find again, such as the URIs that source and destination are opened by.
    pub context: serde_json::Value,
    /// How often the job was begun or resumed.
    pub attempts: u32,
    /// How many of the last attempts have made nothing durable.
    pub fruitless_attempts: u32,
    /// Bytes that were durable when the last attempt began.
    pub durable_bytes: u64,
    /// Whether the job can be resumed: it hasn't ended, or what it left can be gone on with.
    pub resumable: bool,
    /// Why it failed, or what it came to lack.
    pub error: Option<String>,
    /// The same in words that name no place, for those who asked for the job.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub public_error: Option<String>,
    /// The books when the job ended.
    pub ledger: Vec<LedgerEntry>,
    /// The manifest, if the job ended with one: for those who ask for it and can't read the destination.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub manifest: Option<serde_json::Value>,
}

/// The settings that what a job writes depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "independent settings of two values, as they are stored")]
pub struct Settings {
    /// The level of gzip; `None`: no compression.
    pub gzip_level: Option<u32>,
    /// Whether the layout is flat.
    pub flat: bool,
    /// Bytes of lines after which objects are split.
    pub split_bytes: Option<u64>,
    /// Resources after which objects are split.
    pub split_resources: Option<u64>,
    /// Size of all parts, if it is fixed.
    pub fixed_part_bytes: Option<u64>,
    /// The budget.
    pub budget_bytes: u64,
    /// Longest line that is taken.
    pub line_limit_bytes: u64,
    /// Whether what isn't understood ends the job.
    pub fail_on_bad: bool,
    /// Whether the grammar of JSON is checked only as far as brackets, strings and UTF-8.
    #[serde(default)]
    pub structure_only: bool,
    /// Whether a cancelled job is discarded.
    pub discard_on_cancel: bool,
    /// The source's own bases.
    pub base_urls: Vec<String>,
    /// The id of the data store.
    pub datastore_id: Option<String>,
}

impl Settings {
    /// What becomes of the objects of a cancelled job.
    #[must_use]
    pub const fn on_cancel(&self) -> OnCancel {
        if self.discard_on_cancel { OnCancel::Discard } else { OnCancel::Seal }
    }

    pub(in super::super) fn of(config: &Config) -> Self {
        Self {
            gzip_level: match config.compression {
                Compression::None => None,
                Compression::Gzip { level } => Some(level),
            },
            flat: config.layout == Layout::Flat,
            split_bytes: config.split.bytes,
            split_resources: config.split.resources,
            fixed_part_bytes: config.fixed_part_bytes.map(|bytes| bytes as u64),
            budget_bytes: config.budget_bytes as u64,
            line_limit_bytes: config.line_limit_bytes() as u64,
            fail_on_bad: config.on_bad == OnBad::Fail,
            structure_only: config.validation == Validation::Structure,
            discard_on_cancel: config.on_cancel == OnCancel::Discard,
            base_urls: config.base_urls.iter().collect(),
            datastore_id: config.datastore_id.as_ref().map(ToString::to_string),
        }
    }

    /// The settings of a job that goes on: those of the exporter, but for what the job was begun with.
    pub(in super::super) fn over(&self, config: &Config) -> Result<Config> {
        let size =
            |bytes: u64| usize::try_from(bytes).map_err(|_| damaged("a size is more than this machine can address"));
        let mut config = config.clone();
        config.compression = self.gzip_level.map_or(Compression::None, |level| Compression::Gzip { level });
        config.layout = if self.flat { Layout::Flat } else { Layout::HealthLake };
        config.split = Split { bytes: self.split_bytes, resources: self.split_resources };
        config.fixed_part_bytes = self.fixed_part_bytes.map(size).transpose()?;
        config.budget_bytes = size(self.budget_bytes)?;
        config.line_limit_bytes = Some(size(self.line_limit_bytes)?);
        config.on_bad = if self.fail_on_bad { OnBad::Fail } else { OnBad::Quarantine };
        config.validation = if self.structure_only { Validation::Structure } else { Validation::Full };
        config.on_cancel = self.on_cancel();
        config.base_urls = BaseUrls::new(&self.base_urls)?;
        config.datastore_id = self.datastore_id.as_deref().map(DatastoreId::new).transpose()?;
        config.check()?;
        Ok(config)
    }
}

impl JobRecord {
    /// The record of a job that is about to begin.
    pub(in super::super) fn new(
        id: &JobId,
        request: &ExportRequest,
        source: String,
        manifest_url: String,
        config: &Config,
        context: serde_json::Value,
    ) -> Self {
        let now = config.clock.now().to_string();
        let types = match request.types() {
            TypeSelection::All => None,
            TypeSelection::Only(types) => Some(types.iter().map(ToString::to_string).collect()),
        };
        Self {
            id: id.clone(),
            state: JobState::Submitted,
            submitted: now.clone(),
            updated: now,
            level: request.level().to_string(),
            types,
            since: request.period().since().map(|bound| bound.as_str().to_owned()),
            until: request.period().until().map(|bound| bound.as_str().to_owned()),
            security: request.labels().security.iter().map(ToString::to_string).collect(),
            tags: request.labels().tags.iter().map(ToString::to_string).collect(),
            patients: request.patients().map(|patients| patients.iter().map(ToString::to_string).collect()),
            source,
            manifest_url,
            transaction_time: None,
            cohort_digest: None,
            settings: Settings::of(config),
            context,
            attempts: 1,
            fruitless_attempts: 0,
            durable_bytes: 0,
            resumable: true,
            error: None,
            public_error: None,
            ledger: Vec::new(),
            manifest: None,
        }
    }

    /// Why it failed, for those who asked for the job; a record of an older program has no such words.
    pub(in super::super) fn public_error(&self) -> Option<String> {
        let is_untold = || self.error.is_some().then(|| ErrorKind::Internal.public_text().to_owned());
        self.public_error.clone().or_else(is_untold)
    }

    /// Whether the job can be gone on with: it has no end yet, or what it left was kept for that.
    #[must_use]
    pub const fn is_unfinished(&self) -> bool {
        self.resumable
    }

    /// Whether the job neither came to an end nor was given one: the process that ran it went away, or runs it still.
    #[must_use]
    pub const fn is_interrupted(&self) -> bool {
        self.resumable && !self.state.is_terminal()
    }

    /// How long ago the record was last written, in seconds; `None` if that can't be read.
    #[must_use]
    pub fn updated_seconds_ago(&self) -> Option<i64> {
        let updated = Instant::parse(&self.updated).ok()?;
        Some(clock::system().now().unix_seconds() - updated.unix_seconds())
    }

    /// Counts another attempt, and whether those before it were in vain. One that waited in line only wasn't.
    pub(in super::super) fn begin_attempt(&mut self, durable_bytes: u64) {
        if durable_bytes > self.durable_bytes {
            self.fruitless_attempts = 0;
        } else if self.state != JobState::Queued {
            self.fruitless_attempts += 1;
        }
        self.durable_bytes = durable_bytes;
        self.attempts += 1;
    }

    /// What was asked for.
    ///
    /// # Errors
    /// When the record is damaged.
    pub fn request(&self) -> Result<ExportRequest> {
        let types = match &self.types {
            None => TypeSelection::All,
            Some(names) => {
                let types: Option<Vec<_>> = names.iter().map(|name| ResourceType::r4(name)).collect();
                TypeSelection::only(types.ok_or_else(|| damaged("it asks for an unknown type"))?)?
            }
        };
        let bound = |text: &Option<String>| match text.as_deref().map(TimeBound::parse) {
            None => Ok(None),
            Some(Ok(bound)) => Ok(Some(bound)),
            Some(Err(error)) => Err(damaged("a time filter isn't an instant").caused_by(error)),
        };
        let period = Period::new(bound(&self.since)?, bound(&self.until)?)?;
        let request = ExportRequest::new(Level::parse(&self.level)?).with_types(types).with_period(period);
        let request = request.with_labels(Labels { security: tokens(&self.security)?, tags: tokens(&self.tags)? });
        let Some(patients) = &self.patients else { return Ok(request) };
        let patients = patients.iter().map(|patient| PatientReference::new(patient)).collect::<Result<_, _>>();
        Ok(request.with_patients(patients.map_err(|_| damaged("it asks for a patient who can't be one"))?))
    }

    /// The names of the job's objects.
    pub(in super::super) fn naming(&self) -> Result<Naming> {
        Ok(self.settings.over(&Config::default())?.naming(&self.id))
    }

    /// The transaction time T, once the snapshot was opened.
    #[must_use]
    pub fn transaction_time(&self) -> Option<Instant> {
        self.transaction_time.map(|(seconds, nanos)| Instant::from_unix(seconds, nanos))
    }
}

pub(super) fn damaged(why: &str) -> Error {
    Error::new(ErrorKind::Store, format!("the record of the job is damaged: {why}"))
}

fn tokens(texts: &[String]) -> Result<BTreeSet<Token>> {
    let tokens = texts.iter().map(|text| Token::parse(text)).collect::<Result<_, _>>();
    tokens.map_err(|error| damaged("a label that it asks for is none").caused_by(error))
}

fn to_text<S: Serializer>(value: &impl ToString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

fn id_from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<JobId, D::Error> {
    let text = String::deserialize(deserializer)?;
    JobId::new(&text).map_err(de::Error::custom)
}

fn state_from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<JobState, D::Error> {
    let text = String::deserialize(deserializer)?;
    let known = JobState::ALL.into_iter().find(|state| state.as_str() == text);
    known.ok_or_else(|| de::Error::custom("not a state"))
}

#[cfg(test)]
mod tests {
    use super::super::contract::record;
    use super::*;

    #[test]
    fn an_attempt_that_waited_in_line_only_was_not_in_vain() {
        let mut record = record("1");
        for (state, fruitless) in
            [(JobState::Queued, 0), (JobState::Submitted, 1), (JobState::Queued, 1), (JobState::InProgress, 2)]
        {
            record.state = state;
            record.begin_attempt(0);
            assert_eq!(record.fruitless_attempts, fruitless, "{state}");
        }
        record.begin_attempt(1);
        assert_eq!((record.fruitless_attempts, record.attempts), (0, 6));
    }
}
