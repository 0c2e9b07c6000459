//! What a cohort was made of, for the manifest.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// How the members of a Group became a cohort: every listed member is in exactly one of the counts.
///
/// `members_listed` is the sum of `patients_resolved`, `duplicates`, `nested_groups`, the three `dropped_…`,
/// `other_types`, `foreign_references`, `unreadable_references` and `unreadable_periods`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CohortReport {
    /// Id of the Group that was asked for; empty if patients were, and no Group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Ids of the Groups that were read: the one asked for and those nested in it, those that aren't actual included.
    pub groups_resolved: BTreeSet<String>,
    /// Ids of nested Groups that the snapshot doesn't hold.
    pub groups_missing: BTreeSet<String>,
    /// Ids of nested Groups with `actual: false`: they describe people and have no members.
    pub groups_not_actual: BTreeSet<String>,
    /// What a reader should know, in words.
    pub warnings: Vec<String>,
    /// Elements of `member` in all Groups that have members.
    pub members_listed: u64,
    /// Different Patients of the cohort.
    pub patients_resolved: u64,
    /// Members that name a Patient already in the cohort.
    pub duplicates: u64,
    /// Members that name a Group.
    pub nested_groups: u64,
    /// Members with `inactive: true`.
    pub dropped_inactive: u64,
    /// Members whose period ended before the transaction time.
    pub dropped_ended: u64,
    /// Members whose period starts after the transaction time.
    pub dropped_not_yet_started: u64,
    /// Members that are neither Patient nor Group, by type.
    pub other_types: BTreeMap<String, u64>,
    /// Members on a base that isn't the source's own.
    pub foreign_references: u64,
    /// Members without a reference that could be followed: identifier or display only, `urn:`, contained, junk.
    pub unreadable_references: u64,
    /// Patients and Groups left out because it can't be told whether they are members at the transaction time: their
    /// `inactive` isn't a boolean, or their period isn't one of dates.
    pub unreadable_periods: u64,
    /// How many patients the request names: only they are exported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patients_asked: Option<u64>,
    /// How many of the cohort's Patients the snapshot holds; known after the export.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patients_found: Option<u64>,
}

impl CohortReport {
    /// Whether people may be missing who should be in the cohort, so that the job can't end without errors.
    ///
    /// That is: a nested Group is missing or isn't actual, or a member's `inactive` or period can't be read. Members
    /// that the rules leave out (inactive, other types, foreign, identifier only) are reported and no error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        !self.groups_missing.is_empty() || !self.groups_not_actual.is_empty() || self.unreadable_periods > 0
    }

    /// What [`has_errors`](Self::has_errors) is about, in words.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let missing = self.groups_missing.iter().map(|id| format!("the nested Group/{id} is not in the snapshot"));
        let not_actual =
            self.groups_not_actual.iter().map(|id| format!("the nested Group/{id} has actual: false and no members"));
        let mut faults: Vec<String> = missing.chain(not_actual).collect();
        if self.unreadable_periods > 0 {
            faults.push(format!("{} members have an inactive or a period that can't be read", self.unreadable_periods));
        }
        faults
    }

    /// Adds the counts of one Group's members.
    pub(super) fn add_counts(&mut self, other: Self) {
        self.members_listed += other.members_listed;
        self.duplicates += other.duplicates;
        self.nested_groups += other.nested_groups;
        self.dropped_inactive += other.dropped_inactive;
        self.dropped_ended += other.dropped_ended;
        self.dropped_not_yet_started += other.dropped_not_yet_started;
        self.foreign_references += other.foreign_references;
        self.unreadable_references += other.unreadable_references;
        self.unreadable_periods += other.unreadable_periods;
        for (resource_type, count) in other.other_types {
            *self.other_types.entry(resource_type).or_default() += count;
        }
    }
}
