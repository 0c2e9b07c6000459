use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::error::ErrorKind;
use crate::resource::testing::{shared, shared_json};

fn paths(compartment: &Compartment) -> BTreeMap<String, Vec<String>> {
    let of = |resource_type: &ResourceType| compartment.paths_of(resource_type).map(str::to_owned).collect();
    compartment.types().map(|resource_type| (resource_type.to_string(), of(resource_type))).collect()
}

fn named(name: &str) -> ResourceType {
    ResourceType::new(name).unwrap()
}

fn definition(param: &Value) -> Value {
    json!({"resourceType": "CompartmentDefinition", "code": "Patient", "resource": [
        {"code": "Device"}, {"code": "Observation", "param": param}
    ]})
}

fn parameter(id: &str, code: &str, base: &[&str], expression: &str) -> Value {
    json!({"resource": {"resourceType": "SearchParameter", "id": id, "code": code, "base": base,
        "type": "reference", "expression": expression}})
}

fn bundle(parameters: &[Value]) -> Value {
    json!({"resourceType": "Bundle", "entry": parameters})
}

#[test]
fn the_patient_compartment_has_66_types_and_98_paths() {
    let compartment = Compartment::r4_patient();
    assert_eq!(compartment.target().as_str(), "Patient");
    assert_eq!(compartment.types().count(), 66);
    assert!(compartment.types().is_sorted());
    assert_eq!(paths(&compartment).values().map(Vec::len).sum::<usize>(), 98);
}

#[test]
fn subject_and_performer_put_an_observation_in_the_compartment_and_focus_does_not() {
    let compartment = Compartment::r4_patient();
    let of = |name: &str| compartment.paths_of(&named(name)).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(of("Observation"), ["performer", "subject"]);
    assert_eq!(of("Patient"), ["link.other"]);
    assert_eq!(of("Group"), ["member.entity"]);
    for outside in ["Binary", "Device", "Medication", "Practitioner", "Task", "HospitalThing"] {
        assert!(!compartment.contains_type(&named(outside)), "{outside}");
        assert!(of(outside).is_empty());
    }
}

#[test]
fn the_table_is_what_the_official_definitions_say() {
    let (Some(definition), Some(parameters)) =
        (shared_json("fhir-r4/CompartmentDefinition-patient.json"), shared_json("fhir-r4/search-parameters.json"))
    else {
        return;
    };
    let generated = Compartment::from_definitions(&definition, &parameters).unwrap();
    let table = Compartment::r4_patient();
    assert_eq!(generated.target(), table.target());
    assert_eq!(paths(&generated), paths(&table));
}

#[test]
fn the_table_is_what_the_published_list_of_expressions_says() {
    let Some(path) = shared("fhir-r4/patient-compartment.tsv") else { return };
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in std::fs::read_to_string(path).unwrap().lines().skip(1) {
        let columns: Vec<&str> = row.split('\t').collect();
        for part in columns[2].split('|') {
            let (name, path) = part.trim().split_once('.').unwrap();
            assert_eq!(name, columns[0]);
            let path = path.strip_suffix(".where(resolve() is Patient)").unwrap_or(path);
            expected.entry(name.to_owned()).or_default().push(path.to_owned());
        }
    }
    for paths in expected.values_mut() {
        paths.sort();
        paths.dedup();
    }
    assert_eq!(paths(&Compartment::r4_patient()), expected);
}

#[test]
fn the_other_official_compartments_load_too() {
    let Some(parameters) = shared_json("fhir-r4/search-parameters.json") else { return };
    for (name, target, types) in [
        ("encounter", "Encounter", 24),
        ("practitioner", "Practitioner", 58),
        ("device", "Device", 32),
        ("relatedPerson", "RelatedPerson", 31),
    ] {
        let definition = shared_json(&format!("fhir-r4/CompartmentDefinition-{name}.json")).unwrap();
        let compartment = Compartment::from_definitions(&definition, &parameters).unwrap();
        assert_eq!(compartment.target().as_str(), target);
        assert_eq!(compartment.types().count(), types, "{name}");
        if target == "Device" {
            let found: Vec<_> = compartment.paths_of(&named("DeviceRequest")).collect();
            assert_eq!(found, ["codeReference", "performer", "requester", "subject"]);
        }
    }
}

#[test]
fn a_definition_of_ones_own_takes_the_parts_of_its_types_and_of_its_target() {
    let parameters = bundle(&[
        parameter("a", "subject", &["Observation", "Device"], "Device.x[0] | Observation.subject"),
        parameter(
            "b",
            "only",
            &["Observation"],
            "Observation.focus.where(resolve() is Location) | Observation.value.as(Reference)",
        ),
        parameter("c", "any", &["Resource"], "Resource.extra"),
        json!({"resource": {"resourceType": "Patient"}}),
        json!({}),
    ]);
    let definition = definition(&json!(["subject", "only", "any", "{def}"]));
    let compartment = Compartment::from_definitions(&definition, &parameters).unwrap();
    let found: Vec<_> = compartment.paths_of(&named("Observation")).collect();
    assert_eq!(found, ["extra", "subject", "valueReference"]);
    assert!(!compartment.contains_type(&named("Device")));
}

#[test]
fn a_definition_that_cannot_be_understood_is_refused_by_name() {
    let good = parameter("good", "subject", &["Observation"], "Observation.subject");
    let subject = definition(&json!(["subject"]));
    let odd = parameter("odd-one", "subject", &["Observation"], "Observation.subject.first()");
    let message = |definition: &Value, parameters: &Value| {
        let error = Compartment::from_definitions(definition, parameters).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        error.to_string()
    };
    let refused = message(&subject, &bundle(&[odd]));
    assert!(refused.contains("odd-one") && refused.contains("Observation.subject.first()"), "{refused}");
    let elsewhere = parameter("elsewhere", "subject", &["Observation"], "Device.subject");
    assert!(message(&subject, &bundle(&[elsewhere])).contains("selects nothing of this type"));
    let whole = parameter("whole", "subject", &["Observation"], "Observation");
    assert!(message(&subject, &bundle(&[whole])).contains("the resource itself"));
    let mut token = good.clone();
    token["resource"]["type"] = json!("token");
    assert!(message(&subject, &bundle(&[token])).contains("isn't of type reference"));
    assert!(message(&subject, &bundle(&[])).contains("no such search parameter"));
    assert!(message(&subject, &bundle(&[good.clone(), good.clone()])).contains("same code"));
    assert!(message(&good, &bundle(&[])).contains("no CompartmentDefinition"));
    assert!(message(&subject, &json!([])).contains("no Bundle"));
    assert!(message(&subject, &json!({"resourceType": "Bundle"})).contains("no array entry"));
    assert!(message(&definition(&json!("subject")), &bundle(&[])).contains("array of strings"));
    assert!(message(&definition(&json!([1])), &bundle(&[])).contains("array of strings"));
    let nameless = json!({"resourceType": "CompartmentDefinition", "code": "../x", "resource": []});
    assert!(message(&nameless, &bundle(&[])).contains("../x"));
    let empty = json!({"resourceType": "CompartmentDefinition", "code": "Patient"});
    assert!(message(&empty, &bundle(&[])).contains("no array resource"));
}
