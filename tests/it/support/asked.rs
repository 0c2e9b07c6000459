//! Requests in a few words.

use fhir_export::fhir::ResourceType;
use fhir_export::request::{ExportRequest, Level, Period, ResourceId, TimeBound, TypeSelection};

/// Asks for a level, `system`, `patient` or the id of a Group; for some types, or for all if none is named; and for a time,
/// each end of which may be empty.
pub(crate) fn request(level: &str, types: &[&str], since: &str, until: &str) -> ExportRequest {
    let types = match types {
        [] => TypeSelection::All,
        names => TypeSelection::only(names.iter().map(|name| ResourceType::new(name).unwrap())).unwrap(),
    };
    let bound = |text: &str| (!text.is_empty()).then(|| TimeBound::parse(text).unwrap());
    let level = match level {
        "system" => Level::System,
        "patient" => Level::Patient,
        id => Level::Group { id: ResourceId::new(id).unwrap() },
    };
    ExportRequest::new(level).with_types(types).with_period(Period::new(bound(since), bound(until)).unwrap())
}
