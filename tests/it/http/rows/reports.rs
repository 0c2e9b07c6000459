//! Rows about what went wrong or was left out, and about where things lie.

use regex::Regex;
use serde_json::{Value, json};

use super::{FACES, Face, export, stored};
use crate::http::grouped_source;
use crate::http::parameters::{lines, manifest};
use crate::http::served::{BASE, Served};
use crate::support::small_job;

/// The lines of a manifest's error files.
async fn reports(served: &Served, face: Face, manifest: &Value) -> Vec<Value> {
    let files = manifest["error"].as_array().unwrap();
    assert!(files.iter().all(|file| file["type"] == "OperationOutcome"), "{manifest}");
    let lines = match face {
        Face::Profile => lines(served, &manifest["error"]).await,
        Face::HealthLake => {
            let texts = files.iter().map(|file| stored(served, file["extension"]["key"].as_str().unwrap()));
            texts
                .flat_map(|text| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>())
                .collect()
        }
    };
    for line in &lines {
        assert_eq!(line["resourceType"], "OperationOutcome", "{line}");
        let issues = line["issue"].as_array().unwrap();
        assert!(!issues.is_empty() && issues.iter().all(|issue| issue["code"].is_string()), "{line}");
    }
    lines
}

#[tokio::test]
async fn s10_m12_partial_success_is_200_with_outcomes_in_error_and_whole_success_has_none() {
    for face in FACES {
        let served = Served::new(small_job::source());
        let (manifest, output) = export(&served, face, "/$export").await;
        assert_eq!(manifest["exportJobProperties"]["jobStatus"], "COMPLETED_WITH_ERRORS");
        let told = reports(&served, face, &manifest).await;
        assert_eq!(told.len(), 2, "two lines are no resources");
        assert!(told.iter().all(|line| line["issue"][0]["severity"] == "error"), "{told:?}");
        assert_eq!(manifest["error"][0]["count"], 2);
        assert_eq!(output.len(), 22 + 12 + 1, "the others are all there");
        let (manifest, _) = export(&Served::new(grouped_source()), face, "/$export").await;
        assert_eq!(
            (&manifest["error"], &manifest["exportJobProperties"]["jobStatus"]),
            (&json!([]), &json!("COMPLETED"))
        );
    }
}

#[tokio::test]
async fn m13_messages_of_any_severity_are_in_error_and_not_in_output() {
    let served = Served::new(grouped_source());
    for face in FACES {
        let (manifest, output) = export(&served, face, "/Patient/$export?_type=Patient,Practitioner").await;
        let told = reports(&served, face, &manifest).await;
        assert_eq!(told.len(), 1);
        assert_eq!(told[0]["issue"][0]["severity"], "information");
        assert!(output.len() == 2 && output.iter().all(|line| line["resourceType"] == "Patient"), "{output:?}");
    }
    let prefer = [("prefer", "respond-async, handling=lenient")];
    let path = format!("{BASE}/$export?_elements=id");
    let started = served.ask("GET", &path, &prefer, axum::body::Body::empty()).await;
    let manifest = manifest(&served, &started).await;
    let told = reports(&served, Face::Profile, &manifest).await;
    assert_eq!((told.len(), &told[0]["issue"][0]["severity"]), (1, &json!("warning")));
    let output = lines(&served, &manifest["output"]).await;
    assert!(output.iter().all(|line| line["resourceType"] != "OperationOutcome"), "{output:?}");
}

#[tokio::test]
async fn u17_u18_error_files_have_a_folder_of_their_own_and_the_manifest_lies_beside_the_jobs_folder() {
    let served = Served::new(small_job::source());
    let (manifest, _) = export(&served, Face::HealthLake, "/$export").await;
    let folder = format!("store1-FHIR_EXPORT-{}", manifest["exportJobProperties"]["jobId"].as_str().unwrap());
    let keys: Vec<String> = served.buckets.bucket.keys().iter().map(ToString::to_string).collect();
    let (inside, beside): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| key.starts_with(&format!("{folder}/")));
    assert_eq!(beside, [format!("{folder}.manifest.json")]);
    let name = Regex::new(r"^[^/]+/([A-Z][A-Za-z]+)/([A-Z][A-Za-z]+)-[0-9]{1,19}-[0-9]-[0-9]+\.ndjson$").unwrap();
    let types = inside.iter().map(|key| {
        let pieces = name.captures(key).unwrap_or_else(|| panic!("{key}"));
        assert_eq!(pieces[1], pieces[2]);
        pieces[1].to_owned()
    });
    assert!(types.eq(["Binary", "Observation", "OperationOutcome", "Patient"]), "{inside:?}");
    let error = manifest["error"][0]["extension"]["key"].as_str().unwrap();
    assert!(error.starts_with(&format!("{folder}/OperationOutcome/OperationOutcome-")), "{error}");
}
