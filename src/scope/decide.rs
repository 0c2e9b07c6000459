//! Whether one resource is inside the scope.

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
        match (self, resource_type.as_str()) {
            (Self::Everything, _) | (Self::AnyPatient, "Patient") => Admission::YES,
            (Self::Cohort(cohort), "Patient") => Admission::of(id.is_some_and(|id| cohort.patients.contains(id))),
            (Self::Cohort(cohort), "Group") => Admission::of(id.is_some_and(|id| cohort.groups.contains(id))),
            _ if !in_compartment => Admission::NO,
            (Self::AnyPatient, _) => any_patient(references, base_urls),
            (Self::Cohort(cohort), _) => members(cohort, references, base_urls),
        }
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

fn members<'a>(cohort: &Cohort, references: impl Iterator<Item = &'a str>, base_urls: &BaseUrls) -> Admission {
    let mut admission = Admission::NO;
    let mut names_others = false;
    for reference in references {
        match base_urls.classify(reference) {
            Reference::Local { resource_type: "Patient", id } if cohort.patients.contains(id) => {
                admission.admitted = true;
            }
            Reference::Local { resource_type: "Patient", .. } => names_others = true,
            Reference::Foreign { resource_type: "Patient", .. } => admission.foreign_references += 1,
            Reference::Local { .. } | Reference::Foreign { .. } | Reference::Other => {}
        }
    }
    admission.shared_with_non_members = admission.admitted && names_others;
    admission
}
