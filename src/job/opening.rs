//! What is found out before the first line is read: the snapshot, whose data, its ranges, and what earlier attempts have
//! come to.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::resume::{Progressed, reconcile};
use super::run::Job;
use super::state::JobState;
use crate::engine::ReadFrom;
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::{Instant, ResourceType};
use crate::request::Level;
use crate::scope::{Cohort, PatientSet, Scope, ScopeOf};
use crate::source::{AfterTransactionTime, Asked, CohortIds, Plan, Pushdown, Range, Snapshot};
use crate::writer::{Entry, Journal, Naming};

/// What was found out before the first line is read.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) snapshot: Arc<dyn Snapshot>,
    pub(super) transaction_time: Instant,
    pub(super) scope: Scope,
    pub(super) plan: Plan,
    /// Where the job went on without its snapshot, if it did.
    pub(super) lost_at: Option<String>,
    /// What a reader of the manifest should know.
    pub(super) warnings: Vec<String>,
    /// The source isn't what it was.
    pub(super) is_changed: bool,
}

impl Opened {
    /// Notes that the snapshot was lost while the job ran.
    pub(super) fn lose_snapshot(&mut self, at: String, is_allowed: bool) {
        self.lost_at.get_or_insert(at);
        self.is_changed |= !is_allowed;
        // Another snapshot may filter less.
        self.plan.pushdown = Pushdown::default();
    }
}

impl Job {
    /// Opens the snapshot, and goes on where earlier attempts ended.
    pub(super) async fn open(&self, naming: &Naming) -> Result<(Opened, Progressed)> {
        let before = self.recorder.get().map(|recorder| recorder.record()).and_then(|record| record.transaction_time());
        match before {
            Some(transaction_time) if self.resume.is_some() => self.open_again(naming, transaction_time).await,
            _ => Ok((self.open_first(naming).await?, Progressed::nothing())),
        }
    }

    async fn open_first(&self, naming: &Naming) -> Result<Opened> {
        self.refuse_existing(naming).await?;
        let snapshot: Arc<dyn Snapshot> = Arc::from(self.source.open().await?);
        let transaction_time = snapshot.transaction_time();
        let (scope, cohort_digest, cohort) =
            self.scope(snapshot.as_ref(), &transaction_time, PatientSet::new()?, true).await?;
        // The list of the cohort's ids goes with the question.
        let plan = snapshot.plan(&self.asked(cohort)).await?;
        if let Some(recorder) = self.recorder.get() {
            let ranges = plan.ranges.iter().map(|range| (range.name.clone(), snapshot.version(range)));
            recorder.append(Entry::Plan { ranges: ranges.collect() }).await?;
            let time = (transaction_time.unix_seconds(), transaction_time.nanos());
            recorder
                .change(|record| {
                    record.state = JobState::InProgress;
                    record.transaction_time = Some(time);
                    record.cohort_digest = cohort_digest;
                })
                .await?;
        }
        let (lost_at, warnings, is_changed) = (None, Vec::new(), false);
        Ok(Opened { snapshot, transaction_time, scope, plan, lost_at, warnings, is_changed })
    }

    async fn open_again(&self, naming: &Naming, transaction_time: Instant) -> Result<(Opened, Progressed)> {
        let Some(recorder) = self.recorder.get() else {
            return Err(Error::new(ErrorKind::Internal, "a job goes on that has no record"));
        };
        let options = self.resume.unwrap_or_default();
        let snapshot: Arc<dyn Snapshot> = Arc::from(self.source.reopen(&transaction_time).await?);
        let is_same = snapshot.transaction_time() == transaction_time;
        let digest = recorder.record().cohort_digest;
        let patients = match digest.as_deref().map(key_of) {
            Some(Some(key)) => PatientSet::with_key(&key),
            _ => PatientSet::new()?,
        };
        let (scope, digest_now, cohort) = self.scope(snapshot.as_ref(), &transaction_time, patients, false).await?;
        let plan_now = snapshot.plan(&self.asked(cohort)).await?;
        let entries = recorder.entries().await?;
        let recorded = entries.iter().rev().find_map(|entry| match entry {
            Entry::Plan { ranges } => Some(ranges.clone()),
            _ => None,
        });
        let is_bounded = snapshot.after_transaction_time() == AfterTransactionTime::Excluded && !is_same;
        let compared = compare(snapshot.as_ref(), &plan_now, &recorded.unwrap_or_default(), is_bounded, is_same);
        let mut changes = compared.changes;
        if digest != digest_now && !is_bounded {
            changes.push("the members of the Group".to_owned());
        }
        if let Some(first) = changes.first()
            && !options.allow_changed_source
        {
            let message = format!("the source has changed since the job began: {first}");
            return Err(Error::new(ErrorKind::SourceChanged, message)
                .with("source", self.source.name())
                .with("changes", changes.len()));
        }
        recorder.change(|record| record.state = JobState::InProgress).await?;
        let mut progressed = reconcile(self.destination.as_ref(), naming, recorder.as_ref(), entries).await?;
        for index in &compared.missing {
            if let Some(read) = progressed.restart.reads.get_mut(*index) {
                *read = ReadFrom::Nowhere;
            }
        }
        let mut warnings = std::mem::take(&mut progressed.warnings);
        warnings.extend(changes.iter().map(|change| format!("the source has changed since the job began: {change}")));
        let lost_at = is_bounded.then(|| goes_on_at(&compared.ranges, &progressed));
        let is_changed = !changes.is_empty() || (lost_at.is_some() && !self.allows_time_bounded());
        let plan = Plan { ranges: compared.ranges, ..plan_now };
        Ok((Opened { snapshot, transaction_time, scope, plan, lost_at, warnings, is_changed }, progressed))
    }

    pub(super) fn asked(&self, cohort: Option<CohortIds>) -> Asked {
        Asked {
            types: self.asked_types(),
            since: self.request.since().cloned(),
            until: self.request.until().cloned(),
            level_types: self.level_types(),
            ids: None,
            cohort: cohort.map(|ids| Arc::new(ids.under(self.config.base_urls.clone(), &self.config.compartment))),
        }
    }

    /// The types that can be inside the level.
    fn level_types(&self) -> Option<BTreeSet<ResourceType>> {
        let besides: &[&str] = match self.request.level() {
            Level::System => return None,
            Level::Patient => &["Patient"],
            Level::Group { .. } => &["Patient", "Group"],
        };
        let besides = besides.iter().filter_map(|name| ResourceType::r4(name));
        Some(self.config.compartment.types().cloned().chain(besides).collect())
    }

    /// A job writes into a folder of its own: what is there already is somebody else's.
    async fn refuse_existing(&self, naming: &Naming) -> Result<()> {
        let manifest = naming.manifest()?;
        let exists = |what: String| {
            Err(Error::new(ErrorKind::AlreadyExists, "the destination already holds an export").with("object", what))
        };
        if self.destination.size_bytes(&manifest).await?.is_some() {
            return exists(self.destination.url(&manifest));
        }
        let folder = naming.folder();
        let existing = self.destination.list(&folder).await?;
        let suffix = self.config.compression.suffix();
        match existing.into_iter().find(|object| !folder.is_empty() || object.key.as_str().ends_with(suffix)) {
            Some(object) => exists(self.destination.url(&object.key)),
            None => Ok(()),
        }
    }

    /// Whose data, what tells the cohort from any other, and its ids if the snapshot takes them.
    async fn scope(
        &self,
        snapshot: &dyn Snapshot,
        transaction_time: &Instant,
        patients: PatientSet,
        is_new: bool,
    ) -> Result<(Scope, Option<String>, Option<CohortIds>)> {
        let base_urls = &self.config.base_urls;
        let asked = ScopeOf { request: &self.request, snapshot, transaction_time, base_urls, is_new };
        let patients = patients.with_limit(self.config.cohort_limit_patients);
        let (scope, listed) = asked.resolve_into(patients).await?;
        let digest = match &scope {
            Scope::Cohort(cohort) => Some(digest_of(cohort)),
            Scope::Everything | Scope::AnyPatient => None,
        };
        Ok((scope, digest, listed))
    }
}

/// The key of the set, and a sum over patients and Groups under it.
fn digest_of(cohort: &Cohort) -> String {
    let (key, sum) = cohort.patients.digest();
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let groups: Vec<&str> = cohort.groups.iter().map(String::as_str).collect();
    format!("{key} {sum:032x} {}", groups.join(","))
}

fn key_of(digest: &str) -> Option<[u8; 16]> {
    let key = digest.split(' ').next()?;
    u128::from_str_radix(key, 16).ok().filter(|_| key.len() == 32).map(u128::to_be_bytes)
}

/// The ranges of a job that goes on, and how they differ from what they were.
struct Compared {
    /// As they were, in their order.
    ranges: Vec<Range>,
    /// Those that are no more.
    missing: Vec<usize>,
    changes: Vec<String>,
}

/// Compares the source's ranges with those that a job began with. What has come since isn't part of its snapshot.
fn compare(
    snapshot: &dyn Snapshot,
    plan: &Plan,
    recorded: &[(String, Option<String>)],
    is_bounded: bool,
    is_same: bool,
) -> Compared {
    let mut compared = Compared { ranges: Vec::new(), missing: Vec::new(), changes: Vec::new() };
    for (index, (name, version)) in recorded.iter().enumerate() {
        let found = plan.ranges.iter().find(|range| range.name == *name).cloned();
        let Some(range) = found.or_else(|| snapshot.range(name)) else {
            compared.missing.push(index);
            // A range of a database may be gone with its last row.
            if !is_bounded {
                compared.changes.push(format!("{name} is gone"));
            }
            compared.ranges.push(Range::new(name.clone()));
            continue;
        };
        let now = snapshot.version(&range);
        let is_unknown = version.is_none() && now.is_none() && !is_same;
        if !is_bounded && (now != *version || is_unknown) {
            compared.changes.push(if is_unknown {
                format!("it can't be told whether {name} has")
            } else {
                format!("{name} isn't what it was")
            });
        }
        compared.ranges.push(range);
    }
    compared
}

/// The first place that is read again.
fn goes_on_at(ranges: &[Range], progressed: &Progressed) -> String {
    let reads = progressed.restart.reads.iter().zip(ranges);
    let first = reads.filter_map(|(read, range)| match read {
        ReadFrom::Nowhere => None,
        ReadFrom::Start => Some(format!("{} at its start", range.name)),
        ReadFrom::Position(position, _) => Some(position.to_string()),
    });
    first.into_iter().next().unwrap_or_else(|| "its end".to_owned())
}
