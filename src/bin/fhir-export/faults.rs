//! What is wrong with the arguments, all of it together.

use fhir_export::Error;
use fhir_export::request::{Fault, FaultKind};

/// What is wrong with the arguments, as lines to be shown.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<String>);

impl Faults {
    /// Notes a value that isn't accepted; `problem` completes the sentence "--memory "x" …".
    pub(crate) fn value(&mut self, name: &str, value: &str, problem: &'static str, accepted: impl Into<String>) {
        let fault = Fault::new(FaultKind::Value, name, problem, accepted.into()).with_value(value);
        self.0.push(fault.to_string());
    }

    /// Notes a refusal that has its own words.
    pub(crate) fn say(&mut self, text: impl Into<String>) {
        self.0.push(text.into());
    }

    /// Takes the value, or notes the error.
    pub(crate) fn take<T>(&mut self, name: &str, result: fhir_export::Result<T>) -> Option<T> {
        result.map_err(|error: Error| self.0.push(format!("{name}: {error:#}"))).ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}
