//! Members of a Group: who counts, and why the others don't.

use std::collections::BTreeSet;

use super::{CohortReport, PatientSet};
use crate::fhir::{DateTime, Instant};
use crate::resource::reference::{BaseUrls, Reference};
use crate::source::CohortIds;

/// Types listed by name in a report; members of further types are counted under [`FURTHER_TYPES`].
const MAX_OTHER_TYPES: usize = 256;
const FURTHER_TYPES: &str = "(further types)";

/// What decides on a member besides the member itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) transaction_time: &'a Instant,
    pub(super) base_urls: &'a BaseUrls,
}

/// A boolean element as it stands in the data. `null` is no value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Flag {
    #[default]
    Absent,
    Is(bool),
    /// Something that isn't a boolean.
    Odd,
}

/// One end of a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Edge {
    #[default]
    Absent,
    /// The transaction time is on the inner side.
    Inside,
    /// The transaction time is on the outer side.
    Outside,
    /// Something that isn't a date.
    Odd,
}

/// The member that is being read.
#[derive(Debug, Default)]
pub(super) struct Member {
    reference: String,
    pub(super) inactive: Flag,
    pub(super) start: Edge,
    pub(super) end: Edge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Current,
    Inactive,
    Ended,
    NotYetStarted,
    Unknown,
}

impl Member {
    /// Starts anew.
    pub(super) fn clear(&mut self) {
        self.set_reference(None);
        self.inactive = Flag::Absent;
        self.clear_period();
    }

    pub(super) fn clear_period(&mut self) {
        self.start = Edge::Absent;
        self.end = Edge::Absent;
    }

    /// Says that the period isn't one.
    pub(super) fn spoil_period(&mut self) {
        self.start = Edge::Odd;
        self.end = Edge::Odd;
    }

    pub(super) fn set_reference(&mut self, reference: Option<&str>) {
        self.reference.clear();
        self.reference.push_str(reference.unwrap_or_default());
    }

    pub(super) fn set_start(&mut self, text: &str, rules: Rules<'_>) {
        self.start = Edge::of(text, |date| date.starts_after(rules.transaction_time));
    }

    pub(super) fn set_end(&mut self, text: &str, rules: Rules<'_>) {
        self.end = Edge::of(text, |date| date.ended_before(rules.transaction_time));
    }

    /// What is certain counts before what can't be told: an inactive member with an odd period is inactive.
    fn standing(&self) -> Standing {
        match (self.inactive, self.start, self.end) {
            (Flag::Is(true), _, _) => Standing::Inactive,
            (_, _, Edge::Outside) => Standing::Ended,
            (_, Edge::Outside, _) => Standing::NotYetStarted,
            (Flag::Odd, _, _) | (_, Edge::Odd, _) | (_, _, Edge::Odd) => Standing::Unknown,
            (Flag::Absent | Flag::Is(false), Edge::Absent | Edge::Inside, Edge::Absent | Edge::Inside) => {
                Standing::Current
            }
        }
    }
}

impl Edge {
    fn of(text: &str, is_outside: impl FnOnce(&DateTime) -> bool) -> Self {
        match DateTime::parse(text) {
            Ok(date) if is_outside(&date) => Self::Outside,
            Ok(_) => Self::Inside,
            Err(_) => Self::Odd,
        }
    }
}

/// The patients found so far, and apart from them those of the Group that is being read.
///
/// A Group's own members count only when the whole Group was read, because what rules them out may come last.
/// The two sets share no patient, so together they stay within 40 bytes a patient.
#[derive(Debug)]
pub(super) struct Members {
    patients: PatientSet,
    reading: PatientSet,
    /// The same as ids, if a source wants them.
    listed: Option<Listed>,
    counts: CohortReport,
    nested: BTreeSet<String>,
}

/// The ids of the patients found so far, and of those of the Group that is being read.
#[derive(Debug, Default)]
struct Listed {
    patients: CohortIds,
    reading: CohortIds,
}

/// What a Group adds besides its patients.
#[derive(Debug, Default)]
pub(super) struct Added {
    pub(super) counts: CohortReport,
    /// Ids of the Groups among its members.
    pub(super) nested: BTreeSet<String>,
}

impl Members {
    pub(super) fn new(patients: PatientSet) -> Self {
        let reading = patients.sibling();
        Self { patients, reading, listed: None, counts: CohortReport::default(), nested: BTreeSet::new() }
    }

    /// Keeps the ids of the patients too.
    pub(super) fn list(&mut self) {
        self.listed = Some(Listed::default());
    }

    /// Takes one member of the Group that is being read.
    pub(super) fn take(&mut self, member: &Member, base_urls: &BaseUrls) {
        let counts = &mut self.counts;
        counts.members_listed += 1;
        let standing = member.standing();
        match standing {
            Standing::Inactive => counts.dropped_inactive += 1,
            Standing::Ended => counts.dropped_ended += 1,
            Standing::NotYetStarted => counts.dropped_not_yet_started += 1,
            Standing::Current | Standing::Unknown => {
                self.follow(base_urls.classify(&member.reference), standing == Standing::Current);
            }
        }
    }

    /// Counts an element of `member` that isn't an object.
    pub(super) fn take_odd(&mut self) {
        self.counts.members_listed += 1;
        self.counts.unreadable_references += 1;
    }

    fn follow(&mut self, reference: Reference<'_>, is_current: bool) {
        let counts = &mut self.counts;
        match reference {
            Reference::Local { resource_type: "Patient" | "Group", .. } if !is_current => {
                counts.unreadable_periods += 1;
            }
            Reference::Local { resource_type: "Patient", id } => {
                if self.patients.contains(id) || !self.reading.insert(id) {
                    counts.duplicates += 1;
                } else if let Some(listed) = &mut self.listed {
                    listed.reading.push(id);
                }
            }
            Reference::Local { resource_type: "Group", id } => {
                counts.nested_groups += 1;
                if !self.nested.contains(id) {
                    self.nested.insert(id.to_owned());
                }
            }
            Reference::Local { resource_type, .. } => count_type(counts, resource_type),
            Reference::Foreign { .. } => counts.foreign_references += 1,
            Reference::Other => counts.unreadable_references += 1,
        }
    }

    /// Number of different Groups among the members of the Group that is being read.
    pub(super) fn num_nested(&self) -> usize {
        self.nested.len()
    }

    /// How many patients there may be, if there are more by now.
    pub(super) fn exceeded_limit(&self) -> Option<usize> {
        let limit = self.patients.limit();
        (self.patients.len() + self.reading.len() > limit).then_some(limit)
    }

    /// Forgets the members of the Group that is being read.
    pub(super) fn roll_back(&mut self) {
        if self.counts.members_listed > 0 {
            self.reading.clear();
            if let Some(listed) = &mut self.listed {
                listed.reading.clear();
            }
            self.nested.clear();
            self.counts = CohortReport::default();
        }
    }

    /// Makes the members of the Group that was read part of the cohort.
    pub(super) fn commit(&mut self) -> Added {
        let sibling = self.patients.sibling();
        self.patients.append(std::mem::replace(&mut self.reading, sibling));
        if let Some(Listed { patients, reading }) = &mut self.listed {
            patients.append(reading);
        }
        Added { counts: std::mem::take(&mut self.counts), nested: std::mem::take(&mut self.nested) }
    }

    /// The patients, and their ids if they were kept.
    pub(super) fn into_patients(self) -> (PatientSet, Option<CohortIds>) {
        (self.patients, self.listed.map(|listed| listed.patients))
    }
}

fn count_type(counts: &mut CohortReport, resource_type: &str) {
    if let Some(count) = counts.other_types.get_mut(resource_type) {
        *count += 1;
        return;
    }
    let has_room = counts.other_types.len() < MAX_OTHER_TYPES;
    let name = if has_room { resource_type } else { FURTHER_TYPES };
    *counts.other_types.entry(name.to_owned()).or_default() += 1;
}
