//! From a request to its scope.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::patient_search::missing_patients;
use super::resolve::resolve_cohort_into;
use super::{Cohort, CohortReport, PatientSet, Scope};
use crate::error::{Error, Result};
use crate::fhir::Instant;
use crate::request::{ExportRequest, Fault, FaultKind, Faults, Level, PatientReference, Refusal};
use crate::resource::reference::{BaseUrls, Reference};
use crate::source::{CohortIds, Snapshot};

/// What the scope of a request is resolved from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScopeOf<'a> {
    pub(crate) request: &'a ExportRequest,
    pub(crate) snapshot: &'a dyn Snapshot,
    pub(crate) transaction_time: &'a Instant,
    pub(crate) base_urls: &'a BaseUrls,
    /// The job is new, so whoever it names has to be there. One that goes on goes on without who is gone.
    pub(crate) is_new: bool,
}

impl ScopeOf<'_> {
    /// Resolves the scope into an empty set of patients; with the cohort's ids, if the snapshot takes them.
    ///
    /// # Errors
    /// As of [`resolve_cohort`](super::resolve_cohort), and
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest) when the request names patients who aren't there
    /// or, at the Group level, aren't members.
    ///
    /// # Cancellation
    /// The future may be dropped at any await; nothing stays behind.
    pub(crate) async fn resolve_into(self, patients: PatientSet) -> Result<(Scope, Option<CohortIds>)> {
        match (self.request.level(), self.request.patients()) {
            (Level::System, None) => Ok((Scope::Everything, None)),
            (Level::Patient, None) => Ok((Scope::AnyPatient, None)),
            (Level::System, Some(_)) => Err(for_no_system()),
            (Level::Group { id }, None) => {
                let (cohort, ids) = self.cohort(patients, id.as_str()).await?;
                Ok((Scope::Cohort(Arc::new(cohort)), ids))
            }
            (level, Some(references)) => {
                let group = if let Level::Group { id } = level { Some(id.as_str()) } else { None };
                self.listed(patients, references, group).await
            }
        }
    }

    async fn cohort(&self, patients: PatientSet, group: &str) -> Result<(Cohort, Option<CohortIds>)> {
        resolve_cohort_into(patients, self.snapshot, group, self.transaction_time, self.base_urls).await
    }

    /// The patients that the request names. No Group belongs to them: it would tell of its other members.
    async fn listed(
        &self,
        mut patients: PatientSet,
        references: &BTreeSet<PatientReference>,
        group: Option<&str>,
    ) -> Result<(Scope, Option<CohortIds>)> {
        let ids = self.ids_of(references)?;
        let mut report = CohortReport::default();
        if let Some(group) = group {
            let (cohort, _) = self.cohort(patients.sibling(), group).await?;
            if self.is_new {
                let others = ids.iter().filter(|id| !cohort.patients.contains(id)).cloned().collect();
                refuse(&others, "isn't a member of the Group", "patients of the Group's cohort")?;
            }
            report = cohort.report;
        } else if self.is_new {
            let missing = missing_patients(self.snapshot, &ids).await?;
            refuse(&missing, "isn't there", "patients of this data store")?;
        }
        for id in &ids {
            patients.insert(id);
        }
        report.patients_asked = Some(patients.len() as u64);
        let listed = CohortIds::new(ids.iter().map(String::as_str), BTreeSet::new());
        let listed = self.snapshot.takes_cohort().then_some(listed);
        Ok((Scope::Cohort(Arc::new(Cohort { patients, groups: BTreeSet::new(), report })), listed))
    }

    fn ids_of(&self, references: &BTreeSet<PatientReference>) -> Result<BTreeSet<String>> {
        let (mut ids, mut faults) = (BTreeSet::new(), Faults::default());
        for reference in references {
            match self.base_urls.classify(reference.as_str()) {
                Reference::Local { id, .. } => drop(ids.insert(id.to_owned())),
                Reference::Foreign { .. } | Reference::Other => {
                    let accepted = "relative references, and those on a base of the data store";
                    let fault = Fault::new(FaultKind::Value, "patient", "is on another server", accepted);
                    faults.push(fault.with_value(reference.as_str()));
                }
            }
        }
        Refusal::unless_empty(faults)?;
        Ok(ids)
    }
}

/// The answer to a request that names patients in an export of the whole system.
pub(crate) fn for_no_system() -> Error {
    let accepted = "the levels patient and group";
    Fault::new(FaultKind::Value, "patient", "isn't for exports of the whole system", accepted).into()
}

fn refuse(ids: &BTreeSet<String>, problem: &'static str, accepted: &'static str) -> Result<()> {
    let mut faults = Faults::default();
    for id in ids {
        faults.push(Fault::new(FaultKind::NotFound, "patient", problem, accepted).with_value(&format!("Patient/{id}")));
    }
    Ok(Refusal::unless_empty(faults)?)
}
