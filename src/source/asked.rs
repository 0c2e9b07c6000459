//! What a job needs from a source.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::fhir::{Instant, ResourceType};
use crate::resource::Compartment;
use crate::resource::reference::BaseUrls;

/// What a job needs from a source; a source may leave out the rest, or not.
///
/// Every field narrows what is needed, so a source that looks at none of them is right, only slower. What it says in
/// its [`Pushdown`](super::Pushdown) to have left out, it must have left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Only these types; `None`: every type.
    pub types: Option<BTreeSet<ResourceType>>,
    /// Only resources modified at or after this instant, and those without a time.
    pub since: Option<Instant>,
    /// Only resources modified at or before this instant; those without a time are not needed.
    pub until: Option<Instant>,
    /// Only these types can be inside the request's level; `None`: every type can. It is no filter of the request: what
    /// is delivered all the same is counted as outside of the scope.
    pub level_types: Option<BTreeSet<ResourceType>>,
    /// Only resources with these ids: how Groups are fetched while a cohort is resolved. A source that can't look ids up
    /// delivers all that else is asked for.
    pub ids: Option<BTreeSet<String>>,
    /// Only what belongs to this cohort; given to a snapshot that [takes it](super::Snapshot::takes_cohort).
    pub cohort: Option<Arc<CohortIds>>,
}

impl Asked {
    /// Whether resources of a type can be needed, by `types` and `level_types`.
    #[must_use]
    pub fn wants_type(&self, resource_type: &ResourceType) -> bool {
        let holds = |types: &Option<BTreeSet<_>>| types.as_ref().is_none_or(|types| types.contains(resource_type));
        holds(&self.types) && holds(&self.level_types)
    }
}

/// The ids of a cohort, for a source that joins them with its own index.
///
/// What belongs to it: the Patients listed, every resource that the Patient compartment ties to one of them, and the
/// Groups listed; no other Patient and no other Group. It takes some 40 bytes a patient (an id and a byte) from the
/// moment when the cohort is read until the plan is made, and is given back then.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CohortIds {
    /// Each id with a line feed behind it: no id of a reference has one.
    patients: String,
    len: usize,
    groups: BTreeSet<String>,
    base_urls: BaseUrls,
    compartment: String,
}

impl CohortIds {
    /// A list of patients and Groups, under R4's own Patient compartment and without base URLs.
    pub fn new<'i>(patients: impl IntoIterator<Item = &'i str>, groups: BTreeSet<String>) -> Self {
        let compartment = Compartment::r4_patient().digest();
        let mut list = Self { groups, compartment, ..Self::default() };
        for id in patients {
            list.push(id);
        }
        list
    }

    /// The ids of its patients, each once, in the order in which the Groups name them.
    pub fn patients(&self) -> impl Iterator<Item = &str> {
        self.patients.split_terminator('\n')
    }

    /// Number of patients.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody is in the cohort.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The ids of its Groups.
    #[must_use]
    pub const fn groups(&self) -> &BTreeSet<String> {
        &self.groups
    }

    /// The bases on which an absolute reference names a patient of the cohort.
    #[must_use]
    pub const fn base_urls(&self) -> &BaseUrls {
        &self.base_urls
    }

    /// What tells the compartment that ties resources to patients from any other ([`Compartment::digest`]). A source
    /// whose index was made by another doesn't filter by it.
    #[must_use]
    pub fn compartment(&self) -> &str {
        &self.compartment
    }

    pub(crate) fn push(&mut self, id: &str) {
        self.patients.push_str(id);
        self.patients.push('\n');
        self.len += 1;
    }

    /// Moves the patients of another list behind one's own.
    pub(crate) fn append(&mut self, other: &mut Self) {
        if self.patients.is_empty() {
            std::mem::swap(&mut self.patients, &mut other.patients);
        } else {
            self.patients.push_str(&other.patients);
        }
        self.len += other.len;
        other.clear();
    }

    pub(crate) fn clear(&mut self) {
        self.patients = String::new();
        self.len = 0;
    }

    pub(crate) fn with_groups(self, groups: BTreeSet<String>) -> Self {
        Self { groups, ..self }
    }

    pub(crate) fn under(self, base_urls: BaseUrls, compartment: &Compartment) -> Self {
        Self { base_urls, compartment: compartment.digest(), ..self }
    }
}

impl fmt::Debug for CohortIds {
    /// Tells the numbers only: ids of patients belong in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CohortIds").field("patients", &self.len).field("groups", &self.groups.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_gives_back_what_was_put_in_and_tells_no_ids_in_logs() {
        let mut list = CohortIds::new(["a", "b-1"], BTreeSet::from(["g".to_owned()]));
        let mut more = CohortIds::new(["c"], BTreeSet::new());
        list.append(&mut more);
        assert_eq!(list.patients().collect::<Vec<_>>(), ["a", "b-1", "c"]);
        assert_eq!((list.len(), more.len(), list.groups().len()), (3, 0, 1));
        assert!(CohortIds::default().patients().next().is_none());
        assert_eq!(format!("{list:?}"), "CohortIds { patients: 3, groups: 1 }");
    }
}
