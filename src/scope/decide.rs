//! Whether one resource is inside the scope.

use super::patient_set::Fingerprint;
use super::{Cohort, Scope};
use crate::fhir::ResourceType;
use crate::resource::reference::{BaseUrls, Reference};

/// What the scope says of one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// It belongs to the export.
    pub admitted: bool,
    /// It is admitted for a member of the cohort and names a Patient outside of it besides.
    pub shared_with_non_members: bool,
    /// Number of its compartment references to Patients on bases that aren't the source's own.
    pub foreign_references: u32,
}

impl Admission {
    const YES: Self = Self { admitted: true, shared_with_non_members: false, foreign_references: 0 };
    const NO: Self = Self { admitted: false, shared_with_non_members: false, foreign_references: 0 };

    const fn of(admitted: bool) -> Self {
        if admitted { Self::YES } else { Self::NO }
    }
}

/// What a scope says of a resource, or must look up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Nothing is to be looked up.
    Answered(Admission),
    /// It is admitted if the cohort holds one of the patients that it asks for.
    Members {
        /// Number of patients that it asks for.
        asked: usize,
        /// References to Patients on other bases.
        foreign_references: u32,
    },
}

impl Question {
    /// The answer, by whether the cohort holds each of the patients that were asked for.
    pub(crate) fn answer(self, held: &[bool]) -> Admission {
        match self {
            Self::Answered(admission) => admission,
            Self::Members { foreign_references, .. } => {
                let admitted = held.contains(&true);
                let shared_with_non_members = admitted && held.contains(&false);
                Admission { admitted, shared_with_non_members, foreign_references }
            }
        }
    }

    /// Whether it is clear that the resource isn't admitted.
    pub(crate) const fn is_refused(&self) -> bool {
        matches!(self, Self::Answered(Admission { admitted: false, .. }))
    }

    /// Number of patients that it asks for.
    pub(crate) const fn asked(&self) -> usize {
        match self {
            Self::Answered(_) => 0,
            Self::Members { asked, .. } => *asked,
        }
    }
}

impl Scope {
    /// Decides on one resource.
    ///
    /// `in_compartment` says that its type is one of the Patient compartment, `references` are the texts of its
    /// compartment references. They are looked at only where they count: not at the System level, not of Patients
    /// (their own id decides; `Patient.link` is another person) and, in a cohort, not of Groups.
    pub fn admits<'a>(
        &self,
        resource_type: &ResourceType,
        id: Option<&str>,
        in_compartment: bool,
        references: impl Iterator<Item = &'a str>,
        base_urls: &BaseUrls,
    ) -> Admission {
        let (mut asked, mut held) = (Vec::new(), Vec::new());
        let question = self.ask(resource_type, id, in_compartment, references, base_urls, &mut asked);
        if let Self::Cohort(cohort) = self {
            cohort.patients.hold(&asked, &mut held);
        }
        question.answer(&held)
    }

    /// Decides on one resource as far as it can without looking patients up; those are added to `asked`.
    pub(crate) fn ask<'a>(
        &self,
        resource_type: &ResourceType,
        id: Option<&str>,
        in_compartment: bool,
        references: impl Iterator<Item = &'a str>,
        base_urls: &BaseUrls,
        asked: &mut Vec<Fingerprint>,
    ) -> Question {
        let answered = match (self, resource_type.as_str()) {
            (Self::Everything, _) | (Self::AnyPatient, "Patient") => Admission::YES,
            (Self::Cohort(cohort), "Patient") => {
                asked.extend(id.map(|id| cohort.patients.fingerprint_of(id)));
                return Question::Members { asked: usize::from(id.is_some()), foreign_references: 0 };
            }
            (Self::Cohort(cohort), "Group") => Admission::of(id.is_some_and(|id| cohort.groups.contains(id))),
            _ if !in_compartment => Admission::NO,
            (Self::AnyPatient, _) => any_patient(references, base_urls),
            (Self::Cohort(cohort), _) => return members(cohort, references, base_urls, asked),
        };
        Question::Answered(answered)
    }
}

fn any_patient<'a>(references: impl Iterator<Item = &'a str>, base_urls: &BaseUrls) -> Admission {
    let mut admission = Admission::NO;
    for reference in references {
        match base_urls.classify(reference) {
            Reference::Local { resource_type: "Patient", .. } => admission.admitted = true,
            Reference::Foreign { resource_type: "Patient", .. } => admission.foreign_references += 1,
            Reference::Local { .. } | Reference::Foreign { .. } | Reference::Other => {}
        }
    }
    admission
}

fn members<'a>(
    cohort: &Cohort,
    references: impl Iterator<Item = &'a str>,
    base_urls: &BaseUrls,
    asked: &mut Vec<Fingerprint>,
) -> Question {
    let (before, mut foreign_references) = (asked.len(), 0);
    for reference in references {
        match base_urls.classify(reference) {
            Reference::Local { resource_type: "Patient", id } => asked.push(cohort.patients.fingerprint_of(id)),
            Reference::Foreign { resource_type: "Patient", .. } => foreign_references += 1,
            Reference::Local { .. } | Reference::Foreign { .. } | Reference::Other => {}
        }
    }
    Question::Members { asked: asked.len() - before, foreign_references }
}
#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{CohortReport, PatientSet};
    use super::*;

    fn cohort(patients: &[&str], groups: &[&str]) -> Scope {
        let mut set = PatientSet::with_key(&[7; 16]);
        for patient in patients {
            set.insert(patient);
        }
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Scope::Cohort(Arc::new(Cohort { patients: set, groups, report: CohortReport::default() }))
    }

    fn ask(scope: &Scope, resource_type: &str, id: Option<&str>, references: &[&str]) -> Admission {
        let resource_type = ResourceType::new(resource_type).unwrap();
        let in_compartment = matches!(resource_type.as_str(), "Patient" | "Group" | "Observation");
        let base_urls = BaseUrls::new(["https://own.example/fhir"]).unwrap();
        scope.admits(&resource_type, id, in_compartment, references.iter().copied(), &base_urls)
    }

    #[test]
    fn the_system_level_admits_everything() {
        assert_eq!(ask(&Scope::Everything, "Binary", None, &[]), Admission::YES);
        assert_eq!(ask(&Scope::Everything, "Observation", None, &["https://other.example/Patient/1"]), Admission::YES);
    }

    #[test]
    fn the_patient_level_admits_patients_and_what_refers_to_one_whether_or_not_it_is_there() {
        let scope = Scope::AnyPatient;
        assert_eq!(ask(&scope, "Patient", None, &[]), Admission::YES);
        for references in [
            &["Patient/nobody"][..],
            &["Practitioner/1", "https://own.example/fhir/Patient/1"],
            &["Patient/1/_history/2"],
        ] {
            assert_eq!(ask(&scope, "Observation", None, references), Admission::YES, "{references:?}");
        }
        assert_eq!(ask(&scope, "Group", Some("g"), &["Patient/1"]), Admission::YES);
        for references in [&[][..], &["Practitioner/1"], &["#p", "urn:uuid:1", "", "Patient?identifier=1"]] {
            assert_eq!(ask(&scope, "Observation", None, references), Admission::NO, "{references:?}");
        }
        assert_eq!(ask(&scope, "Location", None, &["Patient/1"]), Admission::NO);
    }

    #[test]
    fn references_to_patients_elsewhere_are_counted_and_admit_nothing() {
        let elsewhere =
            ["https://other.example/Patient/1", "https://own.example/fhir2/Patient/1", "https://o.example/Device/1"];
        let counted = Admission { foreign_references: 2, ..Admission::NO };
        assert_eq!(ask(&Scope::AnyPatient, "Observation", None, &elsewhere), counted);
        assert_eq!(ask(&cohort(&["1"], &[]), "Observation", None, &elsewhere), counted);
    }

    #[test]
    fn a_cohort_admits_its_patients_what_refers_to_them_and_its_groups() {
        let scope = cohort(&["1", "2"], &["g", "nested"]);
        assert_eq!(ask(&scope, "Patient", Some("1"), &[]), Admission::YES);
        assert_eq!(ask(&scope, "Observation", None, &["Patient/2", "Patient/1"]), Admission::YES);
        let shared = Admission { shared_with_non_members: true, ..Admission::YES };
        assert_eq!(ask(&scope, "Observation", None, &["Patient/2", "Patient/3"]), shared);
        assert_eq!(ask(&scope, "Observation", None, &["Patient/3", "Patient/2"]), shared);
        assert_eq!(ask(&scope, "Group", Some("nested"), &[]), Admission::YES);
    }

    #[test]
    fn a_cohort_admits_no_other_patient_and_no_other_group_though_they_link_to_a_member() {
        let scope = cohort(&["1"], &["g"]);
        for (resource_type, id) in [
            ("Patient", Some("3")),
            ("Patient", None),
            ("Group", Some("other")),
            ("Group", None),
            ("Location", Some("1")),
        ] {
            assert_eq!(ask(&scope, resource_type, id, &["Patient/1"]), Admission::NO, "{resource_type}/{id:?}");
        }
        assert_eq!(ask(&scope, "Observation", Some("1"), &["Patient/3", "Group/g", "Practitioner/1"]), Admission::NO);
    }

    #[test]
    fn an_empty_cohort_admits_nobody() {
        let scope = cohort(&[], &["g"]);
        assert_eq!(ask(&scope, "Patient", Some("1"), &[]), Admission::NO);
        assert_eq!(ask(&scope, "Observation", None, &["Patient/1"]), Admission::NO);
        assert_eq!(ask(&scope, "Group", Some("g"), &[]), Admission::YES);
    }
}
