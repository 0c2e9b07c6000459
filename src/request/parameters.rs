//! A request from a FHIR `Parameters` resource.

use super::draft::{Draft, missing};
use super::fault::{Excerpt, Fault, FaultKind};
use super::json::{Json, Object};

/// Puts the text of a parameter, under its name, into the draft.
type Put = fn(&mut Draft, &str, &str);

const TEXT_KEYS: &[&str] = &["valueString", "valueCode"];
const INSTANT_KEYS: &[&str] = &["valueInstant", "valueDateTime", "valueString"];
const REFERENCE_KEYS: &[&str] = &["valueReference"];

impl Draft {
    /// Reads a FHIR `Parameters` resource, the body of a Bulk Data kick-off.
    ///
    /// `_type`, `_security`, `_tag` and `_outputFormat` may be repeated and hold lists, `patient` may be repeated.
    /// Parameters that aren't supported are refused or skipped by the
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
            "_outputFormat" => (Self::add_output_formats, TEXT_KEYS),
            "_security" => (Self::add_security, TEXT_KEYS),
            "_tag" => (Self::add_tags, TEXT_KEYS),
            "patient" => {
                self.add_patient(name, patient_reference(parameter, name)?);
                return Ok(());
            }
            _ => {
                self.unsupported(name);
                return Ok(());
            }
        };
        put(self, name, value(parameter, name, keys)?.as_text(name)?);
        Ok(())
    }
}

/// The text of the reference that a parameter is.
fn patient_reference<'a>(parameter: &'a Object, name: &str) -> Result<&'a str, Fault> {
    let reference = value(parameter, name, REFERENCE_KEYS)?.as_object(name)?;
    let Some(text) = own_member(reference, name, "reference")? else {
        let accepted = "a valueReference with a reference to a Patient";
        return Err(Fault::new(FaultKind::Missing, name, "has no reference", accepted));
    };
    text.as_text(name)
}

/// A parameter's one `value[x]`, which must be one of `keys`.
fn value<'a>(parameter: &'a Object, name: &str, keys: &[&str]) -> Result<&'a Json, Fault> {
    let is_value =
        |key: &str| key.strip_prefix("value").is_some_and(|rest| rest.starts_with(|c: char| c.is_uppercase()));
    let accepted = || format!("one value as {}", keys.join(" or "));
    let Some(value) = parameter.member(name, is_value)? else {
        return Err(Fault::new(FaultKind::Missing, name, "has no value", accepted()));
    };
    let key = parameter.0.iter().map(|(key, _)| key.as_str()).find(|key| is_value(key)).unwrap_or_default();
    if !keys.contains(&key) {
        let problem = format!("has a {}", Excerpt::new(key).as_str().escape_debug());
        return Err(Fault::new(FaultKind::Structure, name, problem, accepted()));
    }
    Ok(value)
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
            (
                r#"{"name":"_outputFormat","valueString":"ndjson,application/ndjson"},{"name":"_outputFormat","valueString":"ndjson"}"#,
                "_type&_since",
            ),
            (
                r#"{"name":"_tag","valueString":"http://x|a+b,c"},{"name":"_security","valueString":"|R"},{"name":"_tag","valueCode":"d"}"#,
                "_type&_since&_security=|R&_tag=c&_tag=d&_tag=http://x|a%2Bb",
            ),
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
                "_type has a valueInteger (accepted: one value as valueString or valueCode)",
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
            (
                r#"{"name":"_since","valueDate":"2024-05-09"}"#,
                "_since has a valueDate (accepted: one value as valueInst",
            ),
            (
                r#"{"name":"_tag","valueCoding":{"code":"a"}}"#,
                "_tag has a valueCoding (accepted: one value as valueStr",
            ),
            (
                r#"{"name":"patient","valueReference":{"reference":"Patient/1"}}"#,
                "patient isn't for exports of the whole system",
            ),
            (r#"{"name":"_elements","valueString":"id"}"#, "_elements isn't supported"),
            (r#"{"name":"includeAssociatedData","valueCode":"_custom"}"#, "includeAssociatedData isn't supported"),
            (r#"{"name":"organizeOutputBy","valueString":"Patient"}"#, "organizeOutputBy isn't supported"),
            (r#"{"name":"allowPartialManifests","valueBoolean":true}"#, "allowPartialManifests isn't supported"),
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
            {"name":"_typeFilter","valueString":"Patient?name=secret"},
            {"name":"_elements","valueString":"id"},
            {"name":"_type","valueString":"Patient"}]}"#;
        let accepted = read_body(body, Handling::Lenient).unwrap();
        let names: Vec<&str> = accepted.ignored.iter().map(Fault::parameter).collect();
        assert_eq!(names, ["_typeFilter", "_elements"]);
        assert!(!accepted.ignored.to_string().contains("secret"));
    }

    #[test]
    fn patients_are_named_one_by_one_by_references() {
        let at = |level: Level, parameters: &str| {
            let mut draft = Draft::new(Handling::Lenient);
            draft.set_level(level);
            let body = format!(r#"{{"resourceType":"Parameters","parameter":[{parameters}]}}"#);
            draft.read_parameters(body.as_bytes());
            draft.finish().map(|accepted| accepted.request)
        };
        let patient = |reference: &str| {
            let reference = serde_json::json!({"reference": reference});
            serde_json::json!({"name": "patient", "valueReference": reference}).to_string()
        };
        let three = [patient("Patient/2"), patient("https://h/fhir/Patient/1"), patient("Patient/2")].join(",");
        let request = at(Level::Patient, &three).unwrap();
        let named: Vec<&str> = request.patients().unwrap().iter().map(|patient| patient.as_str()).collect();
        assert_eq!(named, ["Patient/2", "https://h/fhir/Patient/1"]);
        assert_eq!(at(Level::Patient, "").unwrap().patients(), None);
        for (parameters, beginning) in [
            (patient("Group/1"), r#"patient "Group/1" isn't a reference to a Patient (accepted: a reference to"#),
            (r#"{"name":"patient","valueString":"Patient/1"}"#.to_owned(), "patient has a valueString (accepted: one"),
            (r#"{"name":"patient","valueReference":{"display":"x"}}"#.to_owned(), "patient has no reference"),
            (
                r#"{"name":"patient","valueReference":"Patient/1"}"#.to_owned(),
                "patient is a string (accepted: an object)",
            ),
            (r#"{"name":"patient"}"#.to_owned(), "patient has no value (accepted: one value as valueReference)"),
        ] {
            let refusal = at(Level::Patient, &parameters).unwrap_err().to_string();
            assert!(refusal.starts_with(beginning), "{parameters}: {refusal}");
        }
    }
}
