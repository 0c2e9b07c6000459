//! What is in `testdata`, and that it is what its generator writes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::naive::{self, COMPARTMENT, Level, NaiveRequest};
use crate::support::{Files, files_below, ndjson_files, repository};

#[path = "../../examples/generate_testdata.rs"]
mod generate_testdata;

#[test]
fn what_is_committed_is_what_the_generator_writes() {
    let folder = tempfile::tempdir().unwrap();
    generate_testdata::write(folder.path()).unwrap();
    let generated = files_below(folder.path(), |_| true);
    let committed =
        files_below(&repository("testdata"), |path| !path.ends_with("README.md") && path != ".gitattributes");
    let names = |files: &Files| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&generated), names(&committed), "run: cargo run --example generate_testdata");
    for ((name, generated), (_, committed)) in generated.iter().zip(&committed) {
        assert!(generated == committed, "{name} differs; run: cargo run --example generate_testdata");
    }
}

#[test]
fn the_test_data_is_small_and_each_folder_explains_itself() {
    let files = files_below(&repository("testdata"), |_| true);
    let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(bytes < 300_000, "{bytes} bytes");
    for readme in ["README.md", "small/README.md", "odd/README.md"] {
        let (_, text) = files.iter().find(|(name, _)| name == readme).unwrap();
        let text = String::from_utf8(text.clone()).unwrap();
        let Some((folder, _)) = readme.split_once('/') else { continue };
        if folder == "odd" {
            for (name, _) in ndjson_files(folder) {
                assert!(text.contains(&format!("`{name}`")), "testdata/{readme} doesn't tell of {name}");
            }
        }
    }
}

fn small() -> BTreeMap<String, Vec<Value>> {
    let export = naive::export(&ndjson_files("small"), &NaiveRequest::new(Level::System)).unwrap();
    let parse = |bytes: Vec<u8>| {
        serde_json::Deserializer::from_slice(&bytes).into_iter().collect::<Result<Vec<Value>, _>>().unwrap()
    };
    export.output.into_iter().map(|(name, bytes)| (name, parse(bytes))).collect()
}

#[test]
fn every_type_and_every_path_of_the_patient_compartment_occurs() {
    let resources = small();
    let bases = ["https://fhir.example.org/r4".to_owned()];
    assert_eq!(COMPARTMENT.len(), 66);
    for (name, paths) in COMPARTMENT.iter() {
        let of_type = resources.get(name).unwrap_or_else(|| panic!("no {name}"));
        assert!(!of_type.is_empty());
        for path in paths {
            let alone = |resource: &&Value| {
                !naive::patients_at(resource, path, &bases).is_empty()
                    && naive::compartment_patients(resource, name, &bases).len()
                        == naive::patients_at(resource, path, &bases).len()
            };
            assert!(of_type.iter().any(|resource| alone(&resource)), "no {name} is a patient's by {path} alone");
        }
    }
    for name in ["Practitioner", "Organization", "Location", "Medication", "Device", "Binary", "Task"] {
        assert!(!COMPARTMENT.contains_key(name) && resources.contains_key(name), "{name}");
    }
}

#[test]
fn every_way_to_write_a_reference_and_a_time_occurs() {
    let files = ndjson_files("small");
    let text: String = naive::export(&files, &NaiveRequest::new(Level::System))
        .unwrap()
        .output
        .into_values()
        .map(|bytes| String::from_utf8(bytes).unwrap())
        .collect();
    for needle in [
        r#":{"reference":"Patient/bo"}"#,
        r#"{"reference":"Patient/bo/_history/2"}"#,
        r#"{"reference":"https://fhir.example.org/r4/Patient/bo"}"#,
        r#"{"reference":"https://other.example.com/fhir/Patient/bo"}"#,
        r#"{"reference":"http://fhir.example.org/r4/Patient/"#,
        r#"{"reference":"urn:uuid:"#,
        r##"{"reference":"#p"}"##,
        r#"{"type":"Patient","identifier":{"value":""#,
        r#"{"display":"Patient/"#,
        r#"{"reference":"Patient/not-here"}"#,
        r#""contained":[{"resourceType":"Observation","id":"ada","meta":{"lastUpdated":"1999-"#,
        r#""lastUpdated":"2024-01-01T00:00:00Z""#,
        r#""lastUpdated":"2024-01-01T00:00:00.000Z""#,
        r#""lastUpdated":"2024-01-01T01:00:00+01:00""#,
        r#""lastUpdated":"2023-12-31T18:30:00-05:30""#,
        r#""lastUpdated":"2024-01-01T00:00:00.0000000001Z""#,
        r#""meta":{"versionId":"1","source":"urn:harbour"}"#,
    ] {
        assert!(text.contains(needle), "no {needle}");
    }
    let without_meta = small().into_values().flatten().filter(|resource| resource.get("meta").is_none()).count();
    assert!(without_meta > 10, "{without_meta}");
}

#[test]
fn the_small_data_holds_files_of_every_kind() {
    let names: BTreeSet<String> = ndjson_files("small").into_iter().map(|(name, _)| name).collect();
    for name in [
        "Patient.ndjson",
        "mixed.ndjson",
        "Observation.ndjson.gz",
        "clinic/2023/Immunization.ndjson.gz",
        "Group.ndjson",
    ] {
        assert!(names.contains(name), "no {name}");
    }
}
