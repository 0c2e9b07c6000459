//! The request as a whole.

use std::collections::BTreeSet;

use super::fault::{Fault, FaultKind, Refusal};
use super::fields::{JobName, KmsKeyId, PatientReference, RoleArn, S3Uri};
use super::labels;
use super::level::Level;
use super::output_format::OutputFormat;
use super::period::{Period, TimeBound};
use super::types::TypeSelection;
use crate::fhir::{Instant, Labels, ResourceType};

/// Where the output goes when the caller says so: HealthLake's `OutputDataConfig`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OutputDataConfig {
    /// The bucket and prefix.
    pub s3_uri: S3Uri,
    /// The key that encrypts the objects, if not the bucket's own.
    pub kms_key_id: Option<KmsKeyId>,
}

/// What an export is asked for: every value of it valid by itself and together with the others.
///
/// # Example
/// ```
/// use fhir_export::fhir::ResourceType;
/// use fhir_export::request::{ExportRequest, Level, TypeSelection};
///
/// let patient = ResourceType::r4("Patient").into_iter();
/// let request = ExportRequest::new(Level::System).with_types(TypeSelection::only(patient)?);
/// assert_eq!(request.level(), &Level::System);
/// # Ok::<(), fhir_export::request::Fault>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExportRequest {
    level: Level,
    types: TypeSelection,
    period: Period,
    labels: Labels,
    patients: Option<BTreeSet<PatientReference>>,
    output_format: OutputFormat,
    job_name: Option<JobName>,
    data_access_role_arn: Option<RoleArn>,
    output: Option<OutputDataConfig>,
}

impl ExportRequest {
    /// Asks for everything at a level.
    #[must_use]
    pub fn new(level: Level) -> Self {
        Self {
            level,
            types: TypeSelection::All,
            period: Period::default(),
            labels: Labels::default(),
            patients: None,
            output_format: OutputFormat::default(),
            job_name: None,
            data_access_role_arn: None,
            output: None,
        }
    }

    /// Selects resource types.
    #[must_use]
    pub fn with_types(mut self, types: TypeSelection) -> Self {
        self.types = types;
        self
    }

    /// Limits `meta.lastUpdated`.
    #[must_use]
    pub fn with_period(mut self, period: Period) -> Self {
        self.period = period;
        self
    }

    /// Asks for labels: only resources that bear all of them.
    #[must_use]
    pub fn with_labels(mut self, labels: Labels) -> Self {
        self.labels = labels;
        self
    }

    /// Limits the level to these patients and what belongs to them. None at all exports nobody's data.
    ///
    /// At the Group level they must be members. At the System level the job doesn't start.
    #[must_use]
    pub fn with_patients(mut self, patients: BTreeSet<PatientReference>) -> Self {
        self.patients = Some(patients);
        self
    }

    /// Sets the format of the output files.
    #[must_use]
    pub const fn with_output_format(mut self, output_format: OutputFormat) -> Self {
        self.output_format = output_format;
        self
    }

    /// Names the job.
    #[must_use]
    pub fn with_job_name(mut self, job_name: JobName) -> Self {
        self.job_name = Some(job_name);
        self
    }

    /// Sets the role in whose name the output is written.
    #[must_use]
    pub fn with_data_access_role_arn(mut self, role: RoleArn) -> Self {
        self.data_access_role_arn = Some(role);
        self
    }

    /// Sets where the output goes.
    #[must_use]
    pub fn with_output(mut self, output: OutputDataConfig) -> Self {
        self.output = Some(output);
        self
    }

    /// Whose data is exported.
    #[must_use]
    pub const fn level(&self) -> &Level {
        &self.level
    }

    /// Which resource types are exported.
    #[must_use]
    pub const fn types(&self) -> &TypeSelection {
        &self.types
    }

    /// Both time filters, with the texts they were written as.
    #[must_use]
    pub const fn period(&self) -> &Period {
        &self.period
    }

    /// Only resources last updated at or after it, and those that don't say when.
    #[must_use]
    pub fn since(&self) -> Option<&Instant> {
        self.period.since().map(TimeBound::instant)
    }

    /// Only resources last updated at or before it.
    #[must_use]
    pub fn until(&self) -> Option<&Instant> {
        self.period.until().map(TimeBound::instant)
    }

    /// The labels that a resource must bear.
    #[must_use]
    pub const fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Only these patients and what belongs to them; `None`: whoever the level holds.
    #[must_use]
    pub const fn patients(&self) -> Option<&BTreeSet<PatientReference>> {
        self.patients.as_ref()
    }

    /// The format of the output files.
    #[must_use]
    pub const fn output_format(&self) -> OutputFormat {
        self.output_format
    }

    /// The name of the job.
    #[must_use]
    pub const fn job_name(&self) -> Option<&JobName> {
        self.job_name.as_ref()
    }

    /// The role in whose name the output is written.
    #[must_use]
    pub const fn data_access_role_arn(&self) -> Option<&RoleArn> {
        self.data_access_role_arn.as_ref()
    }

    /// Where the output goes, if the caller says so.
    #[must_use]
    pub const fn output(&self) -> Option<&OutputDataConfig> {
        self.output.as_ref()
    }

    /// The selected types that this level can't hold, in byte order; none if all types are selected.
    ///
    /// `is_compartment_type` tells whether the Patient compartment has members of a type. Patients themselves are
    /// inside at Patient and Group level, the Group itself at Group level, whatever it says.
    ///
    /// # Errors
    /// When every selected type is outside: the export would be empty for sure.
    pub fn outside_level(
        &self,
        is_compartment_type: impl Fn(&ResourceType) -> bool,
    ) -> Result<Vec<ResourceType>, Refusal> {
        let TypeSelection::Only(types) = &self.types else { return Ok(Vec::new()) };
        let is_outside = |one: &&ResourceType| !self.level.may_hold(one, is_compartment_type(one));
        let outside: Vec<ResourceType> = types.iter().filter(is_outside).cloned().collect();
        if outside.len() < types.iter().len() {
            return Ok(outside);
        }
        let problem = format!("has only types that {} can't hold", self.level_phrase());
        let accepted = "at least one type of the Patient compartment, such as Patient or Observation";
        Err(Fault::new(FaultKind::Value, "_type", problem, accepted).with_value(&join(&outside)).into())
    }

    fn level_phrase(&self) -> &'static str {
        match self.level {
            Level::System => "an export of the system",
            Level::Patient => "an export of all patients",
            Level::Group { .. } => "an export of a Group",
        }
    }

    /// The request as a query, the way HealthLake's manifest echoes it (contract section 1.2).
    ///
    /// Percent-decoded (but for what would end a value) and in a fixed order: `_type`, `_since`, then only if given
    /// `_until`, `_security` and `_tag`, then `_outputFormat`. An absent `_type` or `_since` appears as its bare name.
    /// Types and labels come in byte order, times as their sender wrote them.
    /// [`Draft::read_query`](super::Draft::read_query) reads it back. Patients are no part of it: they stand in bodies.
    #[must_use]
    pub fn normalised_query(&self) -> String {
        let mut query = String::from("_type");
        if let TypeSelection::Only(types) = &self.types {
            query.push('=');
            query.push_str(&join(types));
        }
        query.push_str("&_since");
        if let Some(since) = self.period.since() {
            query.push('=');
            query.push_str(since.as_str());
        }
        if let Some(until) = self.period.until() {
            query.push_str("&_until=");
            query.push_str(until.as_str());
        }
        labels::write_all("_security", &self.labels.security, &mut query);
        labels::write_all("_tag", &self.labels.tags, &mut query);
        query.push_str("&_outputFormat=");
        query.push_str(self.output_format.as_str());
        query
    }
}

fn join<'a>(types: impl IntoIterator<Item = &'a ResourceType>) -> String {
    let names: Vec<&str> = types.into_iter().map(ResourceType::as_str).collect();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::ResourceId;

    fn types(names: &[&str]) -> TypeSelection {
        TypeSelection::only(names.iter().map(|name| ResourceType::r4(name).unwrap())).unwrap()
    }

    fn outside(level: Level, names: &[&str]) -> Result<String, Refusal> {
        let request = ExportRequest::new(level).with_types(types(names));
        let compartment = |one: &ResourceType| matches!(one.as_str(), "Observation" | "Condition");
        request.outside_level(compartment).map(|outside| join(&outside))
    }

    fn group() -> Level {
        Level::Group { id: ResourceId::new("1").unwrap() }
    }

    #[test]
    fn nothing_is_outside_the_system() {
        assert_eq!(outside(Level::System, &["Practitioner"]), Ok(String::new()));
    }

    #[test]
    fn types_outside_the_level_are_listed_beside_others() {
        assert_eq!(outside(Level::Patient, &["Patient", "Observation"]), Ok(String::new()));
        assert_eq!(outside(Level::Patient, &["Practitioner", "Observation", "Group"]), Ok("Group,Practitioner".into()));
        assert_eq!(outside(group(), &["Practitioner", "Group", "Patient"]), Ok("Practitioner".into()));
    }

    #[test]
    fn a_list_of_which_every_type_is_outside_is_refused_by_name() {
        for level in [Level::Patient, group()] {
            let refusal = outside(level, &["Practitioner", "Location"]).unwrap_err().to_string();
            assert!(
                refusal.starts_with(r#"_type "Location,Practitioner" has only types that an export of "#),
                "{refusal}"
            );
        }
    }

    #[test]
    fn all_types_have_none_outside() {
        assert_eq!(ExportRequest::new(Level::Patient).outside_level(|_| false), Ok(Vec::new()));
    }

    #[test]
    fn the_echo_is_the_contracts() {
        let at = |text| TimeBound::parse(text).ok();
        let request = ExportRequest::new(Level::System);
        let since = at("2023-07-18T00:00:00.461Z");
        for (request, echo) in [
            (request.clone(), "_type&_since&_outputFormat=application/fhir+ndjson"),
            (
                request.clone().with_period(Period::new(since.clone(), None).unwrap()),
                "_type&_since=2023-07-18T00:00:00.461Z&_outputFormat=application/fhir+ndjson",
            ),
            (
                request
                    .with_period(Period::new(since, at("2024-01-01T00:00:00+01:00")).unwrap())
                    .with_types(types(&["Patient", "Observation"])),
                "_type=Observation,Patient&_since=2023-07-18T00:00:00.461Z&_until=2024-01-01T00:00:00+01:00\
                 &_outputFormat=application/fhir+ndjson",
            ),
        ] {
            assert_eq!(request.normalised_query(), echo);
        }
    }
}
