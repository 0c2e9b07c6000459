//! The level: whose data is exported.

use std::borrow::Cow;
use std::fmt;

use super::fault::{Fault, FaultKind};
use super::fields::ResourceId;
use crate::fhir::ResourceType;

const ACCEPTED: &str = "system, patient, or group/ID with the id of a Group";

/// Whose data is exported.
///
/// There is no default: a level that was forgotten must not become everybody's data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Everything in the store.
    System,
    /// All patients and what belongs to them.
    Patient,
    /// The patients of one Group and what belongs to them.
    Group {
        /// The id of the Group.
        id: ResourceId,
    },
}

impl Level {
    /// Reads `system`, `patient` or `group/ID`; the keyword in any case.
    ///
    /// # Errors
    /// When it is none of them, or the id isn't one.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let refuse = |problem| Err(Fault::new(FaultKind::Value, "level", problem, ACCEPTED).with_value(text));
        let (keyword, id) = match text.split_once('/') {
            Some((keyword, id)) => (keyword, Some(id)),
            None => (text, None),
        };
        match (keyword.to_ascii_lowercase().as_str(), id) {
            ("system", None) => Ok(Self::System),
            ("patient", None) => Ok(Self::Patient),
            ("group", None) => refuse("names no Group"),
            ("group", Some(id)) => Ok(Self::Group { id: ResourceId::new(id).map_err(|fault| fault.at("level"))? }),
            _ => refuse("isn't a level"),
        }
    }

    /// The level without the Group: `system`, `patient`, `group`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Patient => "patient",
            Self::Group { .. } => "group",
        }
    }

    /// The path of the operation below a server's base: `$export`, `Patient/$export`, `Group/ID/$export`.
    #[must_use]
    pub fn operation_path(&self) -> Cow<'static, str> {
        match self {
            Self::System => Cow::Borrowed("$export"),
            Self::Patient => Cow::Borrowed("Patient/$export"),
            Self::Group { id } => Cow::Owned(format!("Group/{id}/$export")),
        }
    }

    /// Whether resources of a type can be in an export of this level, by a compartment's list of types.
    pub(super) fn may_hold(&self, resource_type: &ResourceType, is_in_compartment: bool) -> bool {
        match self {
            Self::System => true,
            Self::Patient => is_in_compartment || resource_type.as_str() == "Patient",
            // The Group itself is exported whatever the compartment's table says.
            Self::Group { .. } => is_in_compartment || matches!(resource_type.as_str(), "Patient" | "Group"),
        }
    }
}

impl fmt::Display for Level {
    /// Writes what [`Level::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Patient => f.write_str("patient"),
            Self::Group { id } => write!(f, "group/{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(id: &str) -> Level {
        Level::Group { id: ResourceId::new(id).unwrap() }
    }

    #[test]
    fn a_level_is_read_in_any_case_and_written_back() {
        for (text, level, written) in [
            ("system", Level::System, "system"),
            ("Patient", Level::Patient, "patient"),
            ("group/Abc-1", group("Abc-1"), "group/Abc-1"),
            ("Group/Abc-1", group("Abc-1"), "group/Abc-1"),
            ("GROUP/x.y", group("x.y"), "group/x.y"),
        ] {
            assert_eq!(Level::parse(text).unwrap(), level);
            assert_eq!(level.to_string(), written);
            assert_eq!(Level::parse(written).unwrap(), level);
        }
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for bad in ["", "all", "group", "group/", "group/a/b", "group/a b", "patient/1", "system/", " system", "/1"] {
            assert_eq!(Level::parse(bad).unwrap_err().parameter(), "level", "{bad:?}");
        }
    }

    #[test]
    fn each_level_has_its_operation() {
        assert_eq!(Level::System.operation_path(), "$export");
        assert_eq!(Level::Patient.operation_path(), "Patient/$export");
        assert_eq!(group("7").operation_path(), "Group/7/$export");
    }
}
