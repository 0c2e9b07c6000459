//! The manifest of one job, from its books.

use std::collections::BTreeMap;

use super::closing::Closed;
use super::manifest::{CountEntry, FORMAT_VERSION, LedgerEntry, Manifest, ManifestExtension, OutputFile, cohort_entry};
use super::opening::Opened;
use super::run::Job;
use super::state::JobState;
use crate::fhir::ResourceType;
use crate::ledger::{Exclusion, LedgerRow};
use crate::request::TypeSelection;
use crate::resource::Validation;
use crate::scope::Scope;
use crate::source::Pushdown;
use crate::writer::Content;

impl Job {
    pub(super) fn manifest(&self, opened: &Opened, closed: &Closed, state: JobState) -> Manifest {
        let (mut output, mut deleted, mut error) = (Vec::new(), Vec::new(), Vec::new());
        for object in &closed.objects {
            let file = OutputFile::new(object, self.destination.url(&object.key));
            match object.content {
                Content::Resources(_) => output.push(file),
                Content::Deleted => deleted.push(file),
                Content::Errors => error.push(file),
            }
        }
        let base = self.source.name();
        Manifest {
            transaction_time: opened.transaction_time.to_string(),
            request: format!(
                "{}/{}?{}",
                base.trim_end_matches('/'),
                self.request.level().operation_path(),
                self.request.normalised_query()
            ),
            requires_access_token: false,
            output,
            deleted,
            error,
            extension: ManifestExtension {
                format_version: FORMAT_VERSION,
                job_id: self.id().to_string(),
                job_status: state.to_string(),
                source: base,
                submit_time: self.submitted.to_string(),
                end_time: self.config.clock.now().to_string(),
                snapshot: opened.lost_at.as_ref().map_or_else(|| "kept".to_owned(), |at| format!("lost at {at}")),
                ledger: self.ledger(closed),
                deletions: deletions(closed),
                cohort: self.cohort(opened, closed),
                skipped: opened.plan.skipped.iter().map(|range| range.name.clone()).collect(),
                durable_at_cancel: self.durable_at_cancel(),
                warnings: self.warnings(opened, closed),
            },
        }
    }

    /// A row for each type that was met or asked for.
    fn ledger(&self, closed: &Closed) -> Vec<LedgerEntry> {
        let mut rows: BTreeMap<Option<ResourceType>, LedgerRow> = closed.rows.clone();
        for asked in self.asked_types().into_iter().flatten() {
            rows.entry(Some(asked)).or_default();
        }
        rows.iter().map(|(name, row)| LedgerEntry::new(name.as_ref().map(ResourceType::as_str), row)).collect()
    }

    fn cohort(&self, opened: &Opened, closed: &Closed) -> Option<serde_json::Value> {
        let Scope::Cohort(cohort) = &opened.scope else { return None };
        let mut report = cohort.report.clone();
        let sees_all_patients = matches!(self.request.types(), TypeSelection::All)
            && self.request.since().is_none()
            && self.request.until().is_none()
            && self.request.labels().is_empty()
            && !self.is_cancelled();
        if sees_all_patients {
            let patients = closed.rows.get(&ResourceType::r4("Patient"));
            report.patients_found = Some(patients.map_or(0, |row| row.written.resources));
        }
        cohort_entry(&report)
    }

    fn durable_at_cancel(&self) -> Option<BTreeMap<String, CountEntry>> {
        if !self.is_cancelled() {
            return None;
        }
        let counts = self.shared.durable_at_cancel();
        let of_types = counts.into_iter().filter_map(|(content, count)| match content {
            Content::Resources(resource_type) => Some((resource_type.to_string(), count.into())),
            Content::Deleted | Content::Errors => None,
        });
        Some(of_types.collect())
    }

    /// What a reader of the output should know.
    fn warnings(&self, opened: &Opened, closed: &Closed) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.config.validation == Validation::Structure {
            warnings.push("the grammar of JSON was checked only as far as brackets, strings and UTF-8".to_owned());
        }
        warnings.extend(broken_pushdown(opened, closed));
        let of_unknown_patients = closed.deletions.of_unknown_patients;
        if of_unknown_patients > 0 {
            warnings.push(format!(
                "{of_unknown_patients} deletions aren't told, because it isn't known whether they were of the cohort"
            ));
        }
        warnings.extend(warnings_about_data(opened, closed));
        warnings
    }
}

/// The row of what was deleted, if there was any of it.
fn deletions(closed: &Closed) -> Option<LedgerEntry> {
    let row = &closed.deletions.row;
    (*row != LedgerRow::default()).then(|| LedgerEntry::new(Some("Bundle"), row))
}

/// What the source said it had filtered, and delivered all the same.
fn broken_pushdown(opened: &Opened, closed: &Closed) -> Vec<String> {
    let Pushdown { types, times, cohort } = opened.plan.pushdown;
    let claims = [
        (types, "types", &[Exclusion::Type][..]),
        (times, "times", &[Exclusion::Since, Exclusion::Until]),
        (cohort, "the cohort", &[Exclusion::Scope]),
    ];
    let broken = claims.into_iter().filter(|(is_claimed, ..)| *is_claimed).filter_map(|(_, what, exclusions)| {
        let rows = closed.rows.values();
        let left_out = rows.flat_map(|row| exclusions.iter().map(|exclusion| row.excluded(*exclusion).resources));
        let count: u64 = left_out.sum();
        (count > 0)
            .then(|| format!("the source says that it filters by {what}, and yet {count} resources had to be left out"))
    });
    broken.inspect(|warning| tracing::warn!("{warning}")).collect()
}

fn warnings_about_data(opened: &Opened, closed: &Closed) -> Vec<String> {
    let mut warnings = opened.warnings.clone();
    if let Scope::Cohort(cohort) = &opened.scope {
        warnings.extend(cohort.report.warnings.iter().cloned());
    }
    for (resource_type, row) in &closed.rows {
        let Some(resource_type) = resource_type else { continue };
        if !resource_type.is_r4() {
            warnings.push(format!("{resource_type} is no resource type of R4"));
        }
        if row.notes.stamped_after_t > 0 {
            let count = row.notes.stamped_after_t;
            warnings.push(format!("{count} of {resource_type} are stamped after the transaction time"));
        }
    }
    warnings
}
