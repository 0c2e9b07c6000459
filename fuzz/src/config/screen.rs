//! In place of the terminal.

pub(crate) fn with_causes(error: &fhir_export::Error) -> String {
    format!("{error:#}")
}
