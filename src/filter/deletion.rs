//! Which of the resources that were deleted a job tells.

use super::Filter;
use crate::ledger::Exclusion;
use crate::scope::Scope;
use crate::source::Tombstone;

/// The verdict on one resource that was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeletionVerdict {
    /// It is told.
    Tell,
    /// It is left out.
    Exclude(Exclusion),
    /// It is left out, because it can't be told whether it was in the cohort.
    OfUnknownPatients,
}

impl Filter {
    /// Judges one resource that was deleted, by type, time and patients.
    ///
    /// At the Patient level, one whose patients are unknown is told if its type is in the compartment: to delete what one
    /// never had does no harm, and the same goes for labels, which nobody knows of what was deleted. In a cohort it would say that somebody else had it.
    pub(crate) fn judge_deletion(&self, tombstone: &Tombstone) -> DeletionVerdict {
        let Tombstone { resource_type, id, deleted_at, patients } = tombstone;
        let exclude = DeletionVerdict::Exclude;
        if !self.wants(resource_type) {
            return exclude(Exclusion::Type);
        }
        if self.since.as_ref().is_some_and(|since| deleted_at < since) {
            return exclude(Exclusion::Since);
        }
        if self.until.as_ref().is_some_and(|until| deleted_at > until) {
            return exclude(Exclusion::Until);
        }
        if *deleted_at > self.transaction_time {
            return exclude(Exclusion::AfterT);
        }
        let is_inside = match (&self.scope, resource_type.as_str(), patients) {
            (Scope::Everything, ..) | (Scope::AnyPatient, "Patient", _) => true,
            (Scope::Cohort(cohort), "Patient", _) => cohort.patients.contains(id),
            (Scope::Cohort(cohort), "Group", _) => cohort.groups.contains(id),
            _ if !self.compartment.contains_type(resource_type) => false,
            (Scope::AnyPatient, _, patients) => patients.as_ref().is_none_or(|patients| !patients.is_empty()),
            (Scope::Cohort(_), _, None) => return DeletionVerdict::OfUnknownPatients,
            (Scope::Cohort(cohort), _, Some(patients)) => patients.iter().any(|id| cohort.patients.contains(id)),
        };
        if is_inside { DeletionVerdict::Tell } else { exclude(Exclusion::Scope) }
    }
}
