//! A request from the strings of a command line.

use super::draft::{Draft, Handling};

/// What a command line says about a request, as it was typed.
#[derive(Clone, Copy, Debug, Default)]
pub struct CommandLine<'a> {
    /// `--level`: `system`, `patient` or `group/ID`.
    pub level: &'a str,
    /// `--type`, each time it was given: lists of resource types.
    pub types: &'a [String],
    /// `--since`.
    pub since: Option<&'a str>,
    /// `--until`.
    pub until: Option<&'a str>,
    /// `--security`, each time it was given: lists of tokens.
    pub security: &'a [String],
    /// `--tag`, each time it was given: lists of tokens.
    pub tags: &'a [String],
    /// `--patient`, each time it was given: lists of ids or references.
    pub patients: &'a [String],
}

impl Draft {
    /// Begins a draft from a command line.
    ///
    /// Unlike in a query, an empty value is a fault: it comes from an unset variable of a script, and must not come
    /// to mean everything.
    #[must_use]
    pub fn from_command_line(line: &CommandLine<'_>) -> Self {
        let mut draft = Self::new(Handling::Strict);
        draft.read_level("--level", line.level);
        for list in line.types {
            draft.add_types("--type", list);
        }
        if let Some(since) = line.since {
            draft.put_since("--since", since);
        }
        if let Some(until) = line.until {
            draft.put_until("--until", until);
        }
        line.security.iter().for_each(|list| draft.add_security("--security", list));
        line.tags.iter().for_each(|list| draft.add_tags("--tag", list));
        for patient in line.patients.iter().flat_map(|list| list.split(',')).map(str::trim) {
            if patient.contains('/') {
                draft.add_patient("--patient", patient);
            } else {
                draft.add_patient("--patient", &format!("Patient/{patient}"));
            }
        }
        draft
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Level, ResourceId};
    use super::*;

    #[test]
    fn a_command_line_is_read() {
        let types = ["Patient, Observation".to_owned(), "Patient,Account".to_owned()];
        let (since, until) = ("2024-05-09T00:00:00Z", "2024-05-10T00:00:00+01:00");
        let (tags, patients) =
            (["http://x|a,b".to_owned()], ["1,Patient/2".to_owned(), "https://h/Patient/3".to_owned()]);
        let line = CommandLine {
            level: "Group/a.1",
            types: &types,
            since: Some(since),
            until: Some(until),
            security: &["R".to_owned()],
            tags: &tags,
            patients: &patients,
        };
        let request = Draft::from_command_line(&line).finish().unwrap().request;
        assert_eq!(request.level(), &Level::Group { id: ResourceId::new("a.1").unwrap() });
        assert_eq!(
            request.normalised_query(),
            format!(
                "_type=Account,Observation,Patient&_since={since}&_until={until}&_security=R&_tag=b&_tag=http://x|a\
                 &_outputFormat=application/fhir+ndjson"
            ),
        );
        let named: Vec<&str> = request.patients().unwrap().iter().map(|patient| patient.as_str()).collect();
        assert_eq!(named, ["Patient/1", "Patient/2", "https://h/Patient/3"]);
    }

    #[test]
    fn all_faults_of_a_command_line_are_told_by_its_own_names() {
        let types = [String::new(), "patient".to_owned()];
        let empty = [String::new()];
        let line = CommandLine {
            level: "group",
            types: &types,
            since: Some(""),
            until: Some("2024-05-10"),
            security: &empty,
            tags: &empty,
            patients: &empty,
        };
        let refusal = Draft::from_command_line(&line).finish().unwrap_err();
        let told: Vec<String> = refusal.faults().iter().map(ToString::to_string).collect();
        let beginnings = [
            r#"--level "group" names no Group"#,
            r#"--type "" names no resource type"#,
            r#"--type "patient" isn't a resource type of R4"#,
            r#"--since "" isn't an instant"#,
            r#"--until "2024-05-10" is a date without time and zone"#,
            r#"--security "" names no label"#,
            r#"--tag "" names no label"#,
            r#"--patient "Patient/" isn't a reference to a Patient"#,
        ];
        assert_eq!(told.len(), beginnings.len(), "{told:?}");
        assert!(told.iter().zip(beginnings).all(|(told, beginning)| told.starts_with(beginning)), "{told:?}");
    }
}
