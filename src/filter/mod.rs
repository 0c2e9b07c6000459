//! Which resources a job writes: the request's filters and scope, applied to the facts of one resource.
//!
//! Pure and quick: no allocation, nothing that waits. Reasons are tried in the order of [`Exclusion::ALL`], so that a
//! resource that could be left out for several has one fate.

mod deletion;
mod policy;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use deletion::DeletionVerdict;
pub use policy::{Candidate, Policy};

use crate::fhir::{Instant, Labels, ResourceType};
use crate::ledger::{Exclusion, Notes};
use crate::resource::reference::BaseUrls;
use crate::resource::{Compartment, Facts, LastUpdated, References, ScanPlan, Validation};
use crate::scope::{Fingerprint, Question, Scope};

/// What a job keeps.
#[derive(Debug)]
pub struct Filter {
    types: Option<BTreeSet<ResourceType>>,
    since: Option<Instant>,
    until: Option<Instant>,
    transaction_time: Instant,
    after_t: AfterT,
    scope: Scope,
    /// `None` if no label is asked for, so that `meta` isn't gone through.
    labels: Option<Labels>,
    compartment: Arc<Compartment>,
    base_urls: BaseUrls,
    policy: Option<Arc<dyn Policy>>,
    /// The snapshot was lost while the job ran.
    is_lost: AtomicBool,
}

/// What the filter is built from.
#[derive(Debug)]
pub struct FilterParts {
    /// Only these types; `None`: every type.
    pub types: Option<BTreeSet<ResourceType>>,
    /// Only resources modified at or after this instant, and those without a time.
    pub since: Option<Instant>,
    /// Only resources modified at or before this instant; those without a time are left out.
    pub until: Option<Instant>,
    /// The snapshot's transaction time.
    pub transaction_time: Instant,
    /// What becomes of resources stamped after it.
    pub after_t: AfterT,
    /// Whose data.
    pub scope: Scope,
    /// Only resources that bear all of these.
    pub labels: Labels,
    /// What ties a resource to a patient.
    pub compartment: Arc<Compartment>,
    /// The source's own bases.
    pub base_urls: BaseUrls,
    /// The embedder's own rule.
    pub policy: Option<Arc<dyn Policy>>,
}

/// What becomes of resources that are stamped after the transaction time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterT {
    /// They belong to the snapshot and are counted.
    Count,
    /// They are excluded.
    Exclude,
    /// They have taken the place of what belonged to the snapshot, which is lost.
    Supersede,
}

/// The verdict on one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is written.
    Keep,
    /// It is left out.
    Exclude(Exclusion),
    /// The snapshot is lost, and this may have taken the place of what was in it.
    Supersede,
    /// It can't be judged: a time filter is set and its `lastUpdated` isn't an instant.
    Malformed,
}

/// A judgement that may wait for look-ups.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Judgement {
    /// The verdict is clear.
    Settled(Verdict),
    /// It depends on whether the resource is inside the scope.
    Asked(Pending),
}

/// What a verdict hangs on that waits for look-ups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    question: Question,
    bears_labels: bool,
}

impl Pending {
    /// Number of patients that are looked up for it.
    pub(crate) const fn asked(&self) -> usize {
        self.question.asked()
    }
}

impl Filter {
    /// Builds the filter of a job.
    #[must_use]
    pub fn new(parts: FilterParts) -> Self {
        Self {
            types: parts.types,
            since: parts.since,
            until: parts.until,
            transaction_time: parts.transaction_time,
            after_t: parts.after_t,
            scope: parts.scope,
            labels: Some(parts.labels).filter(|labels| !labels.is_empty()),
            compartment: parts.compartment,
            base_urls: parts.base_urls,
            policy: parts.policy,
            is_lost: AtomicBool::new(false),
        }
    }

    /// What the scan must learn of each resource for this filter, checking it as far as `validation` says.
    #[must_use]
    pub fn scan_plan(&self, validation: Validation) -> ScanPlan {
        let compartment = match self.scope {
            Scope::Everything => None,
            Scope::AnyPatient | Scope::Cohort(_) => Some(Arc::clone(&self.compartment)),
        };
        ScanPlan { compartment, validation }
    }

    /// Says that the snapshot is lost: what it would exclude as stamped after T counts as superseded from now on.
    pub(crate) fn lose_snapshot(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
    }

    /// Whether a type was asked for.
    #[must_use]
    pub fn wants(&self, resource_type: &ResourceType) -> bool {
        self.types.as_ref().is_none_or(|types| types.contains(resource_type))
    }

    /// Judges one resource; what else there is to be said of it is added to `notes`.
    #[must_use]
    pub fn judge(
        &self,
        resource_type: &ResourceType,
        facts: &Facts<'_>,
        references: &References,
        body: &[u8],
        notes: &mut Notes,
    ) -> Verdict {
        let (mut asked, mut held) = (Vec::new(), Vec::new());
        match self.begin(resource_type, facts, references, notes, &mut asked) {
            Judgement::Settled(verdict) => verdict,
            Judgement::Asked(pending) => {
                self.look_up(&asked, &mut held);
                let verdict = Self::conclude(pending, &held, notes);
                self.keeps(&Candidate { resource_type, id: facts.id.as_deref(), body }, verdict)
            }
        }
    }

    /// Whether judging may be split into [`begin`](Self::begin) and [`conclude`](Self::conclude), so that the look-ups of
    /// many resources are made together: only a cohort has look-ups, and a policy wants to see the resource.
    pub(crate) const fn may_defer(&self) -> bool {
        matches!(self.scope, Scope::Cohort(_)) && self.policy.is_none()
    }

    /// Judges one resource as far as it can without looking patients up; those are added to `asked`.
    pub(crate) fn begin(
        &self,
        resource_type: &ResourceType,
        facts: &Facts<'_>,
        references: &References,
        notes: &mut Notes,
        asked: &mut Vec<Fingerprint>,
    ) -> Judgement {
        if !self.wants(resource_type) {
            return Judgement::Settled(Verdict::Exclude(Exclusion::Type));
        }
        let modified = match &facts.last_updated {
            LastUpdated::Missing => Ok(None),
            LastUpdated::Text(text) => Instant::parse(text).map(Some).map_err(|_| ()),
            LastUpdated::NotText => Err(()),
        };
        let verdict = match modified {
            Ok(modified) => self.judge_time(modified.as_ref(), notes),
            Err(()) if self.filters_by_time() => Verdict::Malformed,
            Err(()) => Verdict::Keep,
        };
        if verdict != Verdict::Keep {
            return Judgement::Settled(verdict);
        }
        let in_compartment = !matches!(self.scope, Scope::Everything) && self.compartment.contains_type(resource_type);
        let (id, references) = (facts.id.as_deref(), references.iter());
        let question = self.scope.ask(resource_type, id, in_compartment, references, &self.base_urls, asked);
        let bears_labels = self.labels.as_ref().is_none_or(|labels| question.is_refused() || facts.bears(labels));
        Judgement::Asked(Pending { question, bears_labels })
    }

    /// Looks up whether the cohort holds the patients that were asked for.
    pub(crate) fn look_up(&self, asked: &[Fingerprint], held: &mut Vec<bool>) {
        match &self.scope {
            Scope::Cohort(cohort) => cohort.patients.hold(asked, held),
            Scope::Everything | Scope::AnyPatient => held.clear(),
        }
    }

    /// Judges what was begun, by whether the cohort holds the patients that the resource asked for.
    pub(crate) fn conclude(pending: Pending, held: &[bool], notes: &mut Notes) -> Verdict {
        let admission = pending.question.answer(held);
        notes.foreign_references += u64::from(admission.foreign_references);
        if !admission.admitted {
            return Verdict::Exclude(Exclusion::Scope);
        }
        if !pending.bears_labels {
            return Verdict::Exclude(Exclusion::Filter);
        }
        notes.shared_with_non_members += u64::from(admission.shared_with_non_members);
        Verdict::Keep
    }

    fn keeps(&self, candidate: &Candidate<'_>, verdict: Verdict) -> Verdict {
        match &self.policy {
            Some(policy) if verdict == Verdict::Keep && !policy.keep(candidate) => Verdict::Exclude(Exclusion::Policy),
            _ => verdict,
        }
    }

    const fn filters_by_time(&self) -> bool {
        self.since.is_some() || self.until.is_some()
    }

    fn judge_time(&self, modified: Option<&Instant>, notes: &mut Notes) -> Verdict {
        let Some(modified) = modified else {
            // Without a time a resource may have changed since any instant, and can't be shown to be older than one.
            return if self.until.is_some() { Verdict::Exclude(Exclusion::Until) } else { Verdict::Keep };
        };
        if self.since.as_ref().is_some_and(|since| modified < since) {
            return Verdict::Exclude(Exclusion::Since);
        }
        if self.until.as_ref().is_some_and(|until| modified > until) {
            return Verdict::Exclude(Exclusion::Until);
        }
        if *modified > self.transaction_time {
            match self.after_t {
                AfterT::Exclude if self.is_lost.load(Ordering::Relaxed) => return Verdict::Supersede,
                AfterT::Exclude => return Verdict::Exclude(Exclusion::AfterT),
                AfterT::Supersede => return Verdict::Supersede,
                AfterT::Count => notes.stamped_after_t += 1,
            }
        }
        Verdict::Keep
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("keep"),
            Self::Exclude(exclusion) => write!(f, "exclude ({exclusion})"),
            Self::Supersede => f.write_str("supersede"),
            Self::Malformed => f.write_str("malformed"),
        }
    }
}

#[cfg(test)]
mod tests;
