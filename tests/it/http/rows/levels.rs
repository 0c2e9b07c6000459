//! Rows about what each level holds.

use std::collections::BTreeSet;

use fhir_export::source::memory::{MemoryRange, MemorySource};
use serde_json::{Value, json};

use super::{FACES, export, names};
use crate::http::served::Served;
use crate::support::naive::COMPARTMENT;

/// Types that no path ties to a patient.
const OF_NO_PATIENT: [&str; 8] =
    ["Binary", "HealthcareService", "Location", "Medication", "Organization", "Practitioner", "Questionnaire", "Task"];

/// A resource with a reference at a path of elements.
fn with_reference(name: &str, id: &str, path: &str, reference: &str) -> Value {
    let mut value = json!({"reference": reference});
    for element in path.rsplit('.') {
        value = json!({element: value});
    }
    value["resourceType"] = json!(name);
    value["id"] = json!(id);
    value
}

/// For each of two patients one resource for each path of the compartment, besides a Group of each, and one of each type
/// that is in no compartment.
fn clinic() -> MemorySource {
    let patient = |id: &str, other: &str| with_reference("Patient", id, "link.other", &format!("Patient/{other}"));
    let mut resources = vec![patient("1", "2"), patient("2", "1")];
    for (name, paths) in COMPARTMENT.iter().filter(|(name, _)| *name != "Patient") {
        for (number, path) in paths.iter().enumerate() {
            for patient in ["1", "2"] {
                let path = if name == "Group" { "member.entity" } else { path };
                let id = format!("of-{patient}-{number}");
                let mut resource = with_reference(name, &id, path, &format!("Patient/{patient}"));
                if name == "Group" {
                    resource["actual"] = json!(true);
                    resource["member"] = json!([resource["member"]]);
                }
                resources.push(resource);
            }
        }
    }
    // Bound to a patient, but by no path of the compartment.
    resources.extend(OF_NO_PATIENT.map(|name| with_reference(name, "of-none", "subject", "Patient/1")));
    resources.push(with_reference("Observation", "of-none", "focus", "Patient/1"));
    let lines: String = resources.iter().map(|resource| format!("{resource}\n")).collect();
    MemorySource::new().with(MemoryRange::lines("all", lines))
}

fn types(names: &BTreeSet<String>) -> BTreeSet<&str> {
    names.iter().map(|name| name.split('/').next().unwrap()).collect()
}

#[tokio::test]
async fn g1_k1_h103_h901_h902_h903_h907_p14_u20_each_level_holds_all_of_its_own_and_nothing_else() {
    assert_eq!(COMPARTMENT.len(), 66);
    let served = Served::new(clinic());
    for face in FACES {
        let (manifest, system) = export(&served, face, "/$export").await;
        assert_eq!(manifest["exportJobProperties"]["jobStatus"], "COMPLETED");
        let system = names(&system);
        assert_eq!(types(&system).len(), 66 + OF_NO_PATIENT.len(), "{face:?}");
        assert_eq!(system.len() as u64, manifest_count(&manifest));

        let (_, of_patients) = export(&served, face, "/Patient/$export").await;
        let of_patients = names(&of_patients);
        let expected: BTreeSet<String> = system.iter().filter(|name| !name.ends_with("of-none")).cloned().collect();
        assert_eq!(of_patients, expected, "{face:?}");
        assert!(types(&of_patients).into_iter().eq(COMPARTMENT.keys()), "{face:?}");

        let (_, of_group) = export(&served, face, "/Group/of-1-0/$export").await;
        let is_of_group = |name: &&String| match name.split_once('/').unwrap() {
            ("Patient", id) => id == "1",
            ("Group", id) => id == "of-1-0",
            (_, id) => id.starts_with("of-1-"),
        };
        let expected: BTreeSet<String> = of_patients.iter().filter(is_of_group).cloned().collect();
        assert_eq!(names(&of_group), expected, "{face:?}");
        assert!(types(&expected).into_iter().eq(COMPARTMENT.keys()), "{face:?}");
    }
}

fn manifest_count(manifest: &Value) -> u64 {
    manifest["output"].as_array().unwrap().iter().map(|file| file["count"].as_u64().unwrap()).sum()
}
