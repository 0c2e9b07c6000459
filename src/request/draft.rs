//! The draft: a request while it is read, with every fault found on the way.

use std::collections::BTreeSet;

use super::export_request::{ExportRequest, OutputDataConfig};
use super::fault::{Fault, FaultKind, Faults, Refusal};
use super::fields::{JobName, KmsKeyId, PatientReference, RoleArn, S3Uri};
use super::labels;
use super::level::Level;
use super::output_format::OutputFormat;
use super::period::{Period, TimeBound};
use super::types::{self, TypeSelection};
use crate::fhir::{Labels, ResourceType};

/// The parameters of a query and of a `Parameters` resource that are supported.
const SUPPORTED: &str =
    "_type, _since, _until, _security, _tag, _outputFormat, and in the Parameters resource of a POST patient";

/// What happens to a parameter that isn't supported: `Prefer: handling=…` of a kick-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Handling {
    /// It is a fault: leaving a filter out would export more than was asked for.
    Strict,
    /// It is skipped, and reported as skipped.
    Lenient,
}

/// A request that was accepted, and what was skipped to accept it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The request.
    pub request: ExportRequest,
    /// The parameters that were skipped, each once; empty unless handling is lenient.
    pub ignored: Faults,
}

/// A request while it is read.
///
/// What is read from several places adds up: HealthLake sends a query and a body. Only the level must be given.
#[derive(Clone, Debug)]
pub struct Draft {
    handling: Handling,
    level: Single<Level>,
    types: BTreeSet<ResourceType>,
    since: Single<TimeBound>,
    until: Single<TimeBound>,
    labels: Labels,
    patients: BTreeSet<PatientReference>,
    /// The name under which patients were given, whether they could be read or not.
    patients_given_as: Option<Box<str>>,
    output_format: Option<OutputFormat>,
    job_name: Single<JobName>,
    role_arn: Single<RoleArn>,
    s3_uri: Single<S3Uri>,
    kms_key_id: Single<KmsKeyId>,
    faults: Faults,
    ignored: Faults,
}

impl Draft {
    /// Begins an empty draft.
    #[must_use]
    pub fn new(handling: Handling) -> Self {
        Self {
            handling,
            level: Single::default(),
            types: BTreeSet::new(),
            since: Single::default(),
            until: Single::default(),
            labels: Labels::default(),
            patients: BTreeSet::new(),
            patients_given_as: None,
            output_format: None,
            job_name: Single::default(),
            role_arn: Single::default(),
            s3_uri: Single::default(),
            kms_key_id: Single::default(),
            faults: Faults::default(),
            ignored: Faults::default(),
        }
    }

    /// Sets the level.
    pub fn set_level(&mut self, level: Level) {
        self.level.put("level", Ok(level), &mut self.faults);
    }

    /// Reads the level from `system`, `patient` or `group/ID`; `parameter` is its name in faults.
    pub fn read_level(&mut self, parameter: &str, text: &str) {
        self.level.put(parameter, Level::parse(text), &mut self.faults);
    }

    /// Adds a fault that was found elsewhere, such as in a header, so that all are told together.
    pub fn refuse(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Ends the draft.
    ///
    /// # Errors
    /// When anything was wrong: all faults together.
    pub fn finish(mut self) -> Result<Accepted, Refusal> {
        if !self.level.is_given() {
            self.faults.push(missing_level());
        }
        if let (Some(parameter), Some(Level::System)) = (&self.patients_given_as, &self.level.value) {
            let accepted = "the levels patient and group";
            let problem = "isn't for exports of the whole system";
            self.faults.push(Fault::new(FaultKind::Value, parameter, problem, accepted));
        }
        let since_parameter = self.since.given_as.take();
        let period = Period::new(self.since.value, self.until.value).unwrap_or_else(|fault| {
            self.faults.push(fault.at(since_parameter.as_deref().unwrap_or("_since")));
            Period::default()
        });
        Refusal::unless_empty(self.faults)?;
        let types = if self.types.is_empty() { TypeSelection::All } else { TypeSelection::only(self.types)? };
        let mut request = ExportRequest::new(self.level.value.ok_or_else(missing_level)?)
            .with_types(types)
            .with_period(period)
            .with_labels(self.labels)
            .with_output_format(self.output_format.unwrap_or_default());
        if !self.patients.is_empty() {
            request = request.with_patients(self.patients);
        }
        if let Some(job_name) = self.job_name.value {
            request = request.with_job_name(job_name);
        }
        if let Some(role) = self.role_arn.value {
            request = request.with_data_access_role_arn(role);
        }
        if let Some(s3_uri) = self.s3_uri.value {
            request = request.with_output(OutputDataConfig { s3_uri, kms_key_id: self.kms_key_id.value });
        }
        Ok(Accepted { request, ignored: self.ignored })
    }

    pub(super) fn add_types(&mut self, parameter: &str, list: &str) {
        for read in types::read_list(parameter, list) {
            match read {
                Ok(resource_type) => drop(self.types.insert(resource_type)),
                Err(fault) => self.faults.push(fault),
            }
        }
    }

    pub(super) fn put_since(&mut self, parameter: &str, text: &str) {
        self.since.put(parameter, TimeBound::read(parameter, text), &mut self.faults);
    }

    pub(super) fn put_until(&mut self, parameter: &str, text: &str) {
        self.until.put(parameter, TimeBound::read(parameter, text), &mut self.faults);
    }

    pub(super) fn add_security(&mut self, parameter: &str, list: &str) {
        labels::add(&mut self.labels.security, parameter, list, &mut self.faults);
    }

    pub(super) fn add_tags(&mut self, parameter: &str, list: &str) {
        labels::add(&mut self.labels.tags, parameter, list, &mut self.faults);
    }

    pub(super) fn add_patient(&mut self, parameter: &str, reference: &str) {
        self.patients_given_as.get_or_insert_with(|| parameter.into());
        match PatientReference::new(reference) {
            Ok(reference) => drop(self.patients.insert(reference)),
            Err(_) => {
                let accepted = "a reference to a Patient, such as Patient/123";
                let problem = "isn't a reference to a Patient";
                self.faults.push(Fault::new(FaultKind::Value, parameter, problem, accepted).with_value(reference));
            }
        }
    }

    /// A list, though all that could stand in it means the same: a repeated parameter equals a list in the profile.
    pub(super) fn add_output_formats(&mut self, parameter: &str, list: &str) {
        for text in list.split(',').map(str::trim) {
            match OutputFormat::parse(text) {
                Ok(format) => self.output_format = Some(format),
                Err(fault) => self.faults.push(fault.at(parameter)),
            }
        }
    }

    pub(super) fn put_job_name(&mut self, parameter: &str, text: &str) {
        self.job_name.put(parameter, JobName::new(text), &mut self.faults);
    }

    pub(super) fn put_role_arn(&mut self, parameter: &str, text: &str) {
        self.role_arn.put(parameter, RoleArn::new(text), &mut self.faults);
    }

    pub(super) fn put_s3_uri(&mut self, parameter: &str, text: &str) {
        self.s3_uri.put(parameter, S3Uri::new(text), &mut self.faults);
    }

    pub(super) fn put_kms_key_id(&mut self, parameter: &str, text: &str) {
        self.kms_key_id.put(parameter, KmsKeyId::new(text), &mut self.faults);
    }

    /// Skips or refuses a parameter, by the handling. Its value isn't quoted: it may be a secret sent astray.
    pub(super) fn unsupported(&mut self, parameter: &str) {
        let fault = Fault::new(FaultKind::Unsupported, parameter, "isn't supported", SUPPORTED);
        match self.handling {
            Handling::Strict => self.faults.push(fault),
            Handling::Lenient => self.ignored.push(fault),
        }
    }
}

fn missing_level() -> Fault {
    missing("level", "system, patient or group/ID")
}

pub(super) fn missing(parameter: &str, accepted: &'static str) -> Fault {
    Fault::new(FaultKind::Missing, parameter, "is missing", accepted)
}

pub(super) fn repeated(parameter: &str) -> Fault {
    Fault::new(FaultKind::Repeated, parameter, "is given more than once", "one value")
}

/// A parameter that may be given once, and the name it was given under.
#[derive(Clone, Debug)]
struct Single<T> {
    given_as: Option<Box<str>>,
    value: Option<T>,
}

impl<T> Single<T> {
    fn put(&mut self, parameter: &str, read: Result<T, Fault>, faults: &mut Faults) {
        if self.given_as.replace(parameter.into()).is_some() {
            faults.push(repeated(parameter));
        }
        match read {
            Ok(value) => self.value = Some(value),
            Err(fault) => faults.push(fault.at(parameter)),
        }
    }

    const fn is_given(&self) -> bool {
        self.given_as.is_some()
    }
}

// Derived, it would ask for a default of `T`, and a level has none.
impl<T> Default for Single<T> {
    fn default() -> Self {
        Self { given_as: None, value: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_level_is_refused() {
        let refusal = Draft::new(Handling::Lenient).finish().unwrap_err();
        assert_eq!(refusal.faults().iter().map(Fault::kind).collect::<Vec<_>>(), [FaultKind::Missing]);
    }

    #[test]
    fn all_faults_of_a_request_are_told_together() {
        let mut draft = Draft::new(Handling::Strict);
        draft.read_level("--level", "everyone");
        draft.add_types("_type", "Foo,Patient,Bar");
        draft.put_since("_since", "2024");
        draft.add_output_formats("_outputFormat", "gzip");
        draft.put_kms_key_id("KmsKeyId", "a b");
        draft.unsupported("_typeFilter");
        draft.refuse(missing("Prefer", "respond-async"));
        let refusal = draft.finish().unwrap_err();
        let names: Vec<&str> = refusal.faults().iter().map(Fault::parameter).collect();
        let expected = "--level _type _type _since _outputFormat KmsKeyId _typeFilter Prefer";
        assert_eq!(names.join(" "), expected);
    }

    #[test]
    fn a_single_value_given_again_is_a_fault_even_if_it_is_the_same() {
        let mut draft = Draft::new(Handling::Strict);
        draft.set_level(Level::System);
        draft.put_since("_since", "2024-01-01T00:00:00Z");
        draft.put_since("_since", "2024-01-01T00:00:00Z");
        assert!(draft.finish().unwrap_err().to_string().starts_with("_since is given more than once"));
    }

    #[test]
    fn a_period_that_ends_before_it_begins_is_told_by_the_callers_own_name() {
        let mut draft = Draft::new(Handling::Strict);
        draft.set_level(Level::System);
        draft.put_since("--since", "2024-01-02T00:00:00Z");
        draft.put_until("--until", "2024-01-01T00:00:00Z");
        let refusal = draft.finish().unwrap_err().to_string();
        assert!(refusal.starts_with(r#"--since "2024-01-02T00:00:00Z" is after the end"#), "{refusal}");
    }
}
