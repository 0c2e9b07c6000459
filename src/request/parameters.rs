//! A request from a FHIR `Parameters` resource.

use super::draft::{Draft, missing};
use super::fault::{Fault, FaultKind};
use super::json::{Json, Object};

/// Puts the text of a parameter, under its name, into the draft.
type Put = fn(&mut Draft, &str, &str);

const TEXT_KEYS: &[&str] = &["valueString", "valueCode"];
const INSTANT_KEYS: &[&str] = &["valueInstant", "valueDateTime", "valueString"];

impl Draft {
    /// Reads a FHIR `Parameters` resource, the body of a Bulk Data kick-off.
    ///
    /// `_type` may be repeated and hold lists. Parameters that aren't supported are refused or skipped by the
    /// handling, as in a query; other members of the resource are ignored.
    pub fn read_parameters(&mut self, body: &[u8]) {
        if let Err(fault) = self.read_resource(body) {
            self.refuse(fault);
        }
    }

    fn read_resource(&mut self, body: &[u8]) -> Result<(), Fault> {
        let resource = Json::parse(body)?;
        let resource = resource.as_object("body")?;
        let Some(resource_type) = own_member(resource, "resourceType", "resourceType")? else {
            return Err(missing("resourceType", "Parameters"));
        };
        let resource_type = resource_type.as_text("resourceType")?;
        if resource_type != "Parameters" {
            let fault = Fault::new(FaultKind::Value, "resourceType", "isn't a kick-off's resource", "Parameters");
            return Err(fault.with_value(resource_type));
        }
        let Some(parameters) = own_member(resource, "parameter", "parameter")? else { return Ok(()) };
        for (index, parameter) in parameters.as_array("parameter")?.iter().enumerate() {
            if let Err(fault) = self.read_one(&format!("parameter[{index}]"), parameter) {
                self.refuse(fault);
            }
        }
        Ok(())
    }

    fn read_one(&mut self, place: &str, parameter: &Json) -> Result<(), Fault> {
        let parameter = parameter.as_object(place)?;
        let name_place = format!("{place}.name");
        let Some(name) = own_member(parameter, &name_place, "name")? else {
            return Err(missing(&name_place, "the name of a parameter"));
        };
        let name = name.as_text(&name_place)?;
        let (put, keys): (Put, &[&str]) = match name {
            "_type" => (Self::add_types, TEXT_KEYS),
            "_since" => (Self::put_since, INSTANT_KEYS),
            "_until" => (Self::put_until, INSTANT_KEYS),
            "_outputFormat" => (Self::put_output_format, TEXT_KEYS),
            _ => {
                self.unsupported(name);
                return Ok(());
            }
        };
        put(self, name, value_text(parameter, name, keys)?);
        Ok(())
    }
}

/// The text of a parameter's one `value[x]`, which must be one of `keys`.
fn value_text<'a>(parameter: &'a Object, name: &str, keys: &[&str]) -> Result<&'a str, Fault> {
    let is_value =
        |key: &str| key.strip_prefix("value").is_some_and(|rest| rest.starts_with(|c: char| c.is_uppercase()));
    let accepted = || format!("one value as {}", keys.join(" or "));
    let Some(value) = parameter.member(name, is_value)? else {
        return Err(Fault::new(FaultKind::Missing, name, "has no value", accepted()));
    };
    let has_key = parameter.0.iter().any(|(key, _)| keys.contains(&key.as_str()));
    if !has_key {
        return Err(Fault::new(FaultKind::Structure, name, "has a value of another type", accepted()));
    }
    value.as_text(name)
}

fn own_member<'a>(object: &'a Object, place: &str, name: &str) -> Result<Option<&'a Json>, Fault> {
    object.member(place, |key| key == name)
}

#[cfg(test)]
mod tests {
    use super::super::{Accepted, Handling, Level, Refusal};
    use super::*;

    fn read_body(body: &str, handling: Handling) -> Result<Accepted, Refusal> {
        let mut draft = Draft::new(handling);
        draft.set_level(Level::System);
        draft.read_parameters(body.as_bytes());
        draft.finish()
    }

    fn read(parameters: &str) -> Result<Accepted, Refusal> {
        read_body(&format!(r#"{{"resourceType":"Parameters","parameter":[{parameters}]}}"#), Handling::Strict)
    }

    fn echo(parameters: &str) -> String {
        match read(parameters) {
            Ok(accepted) => accepted.request.normalised_query(),
            Err(refusal) => panic!("{parameters}: {refusal}"),
        }
    }

    #[test]
    fn accepted_parameters_and_their_echo() {
        let tail = "&_outputFormat=application/fhir+ndjson";
        for (parameters, expected) in [
            ("", "_type&_since"),
            (r#"{"name":"_type","valueString":"Patient, Group"}"#, "_type=Group,Patient&_since"),
            (
                r#"{"name":"_type","valueCode":"Patient"},{"id":"x","valueString":"Group","name":"_type"}"#,
                "_type=Group,Patient&_since",
            ),
            (
                r#"{"name":"_since","valueInstant":"2024-05-09T00:00:00.1+01:00"}"#,
                "_type&_since=2024-05-09T00:00:00.1+01:00",
            ),
            (
                r#"{"name":"_since","valueDateTime":"2024-05-09T00:00:00Z"},{"name":"_until","valueString":"2025-05-09T00:00:00Z"}"#,
                "_type&_since=2024-05-09T00:00:00Z&_until=2025-05-09T00:00:00Z",
            ),
            (r#"{"name":"_outputFormat","valueString":"ndjson","_valueString":{"id":"a"}}"#, "_type&_since"),
            (r#"{"name":"_outputFormat","valueCode":"application/fhir+ndjson"}"#, "_type&_since"),
        ] {
            assert_eq!(echo(parameters), format!("{expected}{tail}"), "{parameters}");
        }
    }

    #[test]
    fn a_resource_without_parameters_asks_for_everything() {
        for body in [r#"{"resourceType":"Parameters"}"#, r#"{"id":"a","parameter":[],"resourceType":"Parameters"}"#] {
            assert!(read_body(body, Handling::Strict).is_ok(), "{body}");
        }
    }

    #[test]
    fn refused_parameters_and_their_faults() {
        for (parameters, beginning) in [
            (r#"{"name":"_type","valueString":"Foo"}"#, r#"_type "Foo" isn't a resource type"#),
            (r#"{"name":"_type","valueString":""}"#, r#"_type "" names no resource type"#),
            (
                r#"{"name":"_type","valueInteger":1}"#,
                "_type has a value of another type (accepted: one value as valueStr",
            ),
            (r#"{"name":"_type","valueString":1}"#, "_type is a number (accepted: a string)"),
            (r#"{"name":"_type","valueString":null}"#, "_type is null (accepted: a string)"),
            (r#"{"name":"_type"}"#, "_type has no value (accepted: one value as valueString or valueCode)"),
            (r#"{"name":"_type","valueString":"Patient","valueCode":"Group"}"#, "_type is given more than once"),
            (
                r#"{"name":"_since","valueDateTime":"2024-05-09"}"#,
                r#"_since "2024-05-09" is a date without time and zone"#,
            ),
            (r#"{"name":"_since","part":[]}"#, "_since has no value (accepted: one value as valueInstant or valueDate"),
            (
                r#"{"name":"_since","valueInstant":"2024-05-09T00:00:00Z"},{"name":"_since","valueInstant":"2024-05-09T00:00:00Z"}"#,
                "_since is given more than once",
            ),
            (r#"{"name":"patient","valueReference":{"reference":"Patient/1"}}"#, "patient isn't supported"),
            (r#"{"name":"_typeFilter","valueString":"Patient?a=b"}"#, "_typeFilter isn't supported"),
            (r#"{"valueString":"Patient"}"#, "parameter[0].name is missing"),
            (r#"{"name":"_type","valueCode":"Patient"},{"name":7}"#, "parameter[1].name is a number"),
            (r#"{"name":"a","name":"b"}"#, "parameter[0].name is given more than once"),
            ("[]", "parameter[0] is an array (accepted: an object)"),
        ] {
            let refusal = read(parameters).unwrap_err();
            assert_eq!(refusal.faults().iter().count(), 1, "{parameters}: {refusal}");
            assert!(refusal.to_string().starts_with(beginning), "{parameters}: {refusal}");
        }
    }

    #[test]
    fn a_body_that_is_no_parameters_resource_is_refused() {
        for (body, beginning) in [
            ("{}", "resourceType is missing (accepted: Parameters)"),
            (r#"{"resourceType":"Patient"}"#, r#"resourceType "Patient" isn't a kick-off's resource"#),
            (r#"{"resourceType":"Parameters","resourceType":"Parameters"}"#, "resourceType is given more than once"),
            (r#"{"resourceType":["Parameters"]}"#, "resourceType is an array"),
            (r#"{"resourceType":"Parameters","parameter":{}}"#, "parameter is an object (accepted: an array)"),
            (r#"{"resourceType":"Parameters","parameter":[],"parameter":[]}"#, "parameter is given more than once"),
            ("[]", "body is an array"),
            ("{", "body can't be read"),
        ] {
            let refusal = read_body(body, Handling::Lenient).unwrap_err().to_string();
            assert!(refusal.starts_with(beginning), "{body}: {refusal}");
        }
    }

    #[test]
    fn a_lenient_resource_reports_what_it_skipped() {
        let body = r#"{"resourceType":"Parameters","parameter":[
            {"name":"patient","valueReference":{"reference":"Patient/1"}},
            {"name":"_elements","valueString":"id"},
            {"name":"_type","valueString":"Patient"}]}"#;
        let accepted = read_body(body, Handling::Lenient).unwrap();
        let names: Vec<&str> = accepted.ignored.iter().map(Fault::parameter).collect();
        assert_eq!(names, ["patient", "_elements"]);
        assert!(!accepted.ignored.to_string().contains("Patient/1"));
    }
}
