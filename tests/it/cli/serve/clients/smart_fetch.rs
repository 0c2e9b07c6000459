//! smart-fetch: without arguments about authentication it asks for none.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::super::program::{Ended, command, end, small};
use super::super::client::Server;
use super::{client, clients, run};
use crate::support::naive::{self, Level, NaiveRequest};
use crate::support::{files_below, ndjson_files};

/// The types that it asks for if it isn't told any.
pub(super) const OWN_TYPES: [&str; 15] = [
    "AllergyIntolerance",
    "Condition",
    "Device",
    "DiagnosticReport",
    "DocumentReference",
    "Encounter",
    "EpisodeOfCare",
    "Immunization",
    "MedicationDispense",
    "MedicationRequest",
    "Observation",
    "Patient",
    "Procedure",
    "ServiceRequest",
    "Specimen",
];

/// A command that exports to a folder. Its own `_typeFilter` for Observations is left out: the server refuses it.
pub(super) fn smart_fetch(server: &Server, to: &Path, arguments: &[&str]) -> tokio::process::Command {
    let mut command = client(&clients().smart_fetch, to.parent().unwrap());
    // Wide enough for what it says not to be wrapped.
    command.env("COLUMNS", "1000").args(arguments).args(["--fhir-url", &server.bases[0]]).arg(to);
    command
}

async fn fetch(server: &Server, to: &Path, arguments: &[&str]) -> Ended {
    let ended = run(&mut smart_fetch(server, to, arguments)).await;
    ended.assert_exit(0);
    ended
}

fn serve(source: &str, folder: &Path) -> Server {
    Server::start(&["--listen", "127.0.0.1:0", "--datastore-id", "clinic", "--source", source], folder)
}

/// What it has downloaded, by type.
pub(super) fn downloaded(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut types = BTreeMap::<String, Vec<u8>>::new();
    for (name, bytes) in files_below(folder, |path| !path.contains('/') && path.ends_with(".ndjson")) {
        let resource_type = name.split('.').next().unwrap();
        if resource_type != "log" {
            types.entry(resource_type.to_owned()).or_default().extend(bytes);
        }
    }
    types
}

/// The events that it has logged, of a name.
fn logged(folder: &Path, name: &str) -> Vec<Value> {
    let log = fs::read_to_string(folder.join("log.ndjson")).unwrap();
    let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["eventId"] == name).collect()
}

/// It has sent DELETE behind its downloads, and nothing is left of the job.
async fn assert_removed(server: &Server, folder: &Path, state: &Path) {
    let events = logged(folder, "export_complete");
    assert_eq!(events.len(), 1);
    let job = events[0]["exportId"].as_str().unwrap();
    assert!(job.starts_with(&server.bases[0]), "{job}");
    assert_eq!(server.get(job).await.status, StatusCode::NOT_FOUND);
    assert_eq!(files_below(&state.join("state/files"), |_| true), []);
    let downloads = logged(folder, "download_request");
    assert_eq!(
        server.get(downloads[0]["eventDetail"]["fileUrl"].as_str().unwrap()).await.status,
        StatusCode::NOT_FOUND
    );
}

fn ids(text: &[u8]) -> Vec<String> {
    let lines = std::str::from_utf8(text).unwrap().lines();
    lines.map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_the_system_in_its_own_types_is_downloaded_and_then_removed() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(small().to_str().unwrap(), folder.path());
    let to = folder.path().join("out");
    fetch(&server, &to, &["bulk", "--no-default-filters", "--no-compression"]).await;
    let types = Some(OWN_TYPES.map(str::to_owned).into());
    let expected =
        naive::export(&ndjson_files("small"), &NaiveRequest { types, ..NaiveRequest::new(Level::System) }).unwrap();
    assert!(downloaded(&to) == expected.output, "the bytes that a plain reading of the files gives");
    assert_eq!(expected.output.len(), OWN_TYPES.len(), "it leaves out no type: the CapabilityStatement has them all");
    let kick_off = &logged(&to, "kickoff")[0]["eventDetail"];
    assert_eq!((&kick_off["softwareName"], &kick_off["fhirVersion"]), (&json!("fhir-export"), &json!("4.0.1")));
    assert_removed(&server, &to, folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_in_its_own_types_is_downloaded_and_what_was_left_out_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(small().to_str().unwrap(), folder.path());
    let to = folder.path().join("out");
    let arguments = ["export", "--group", "nested", "--no-default-filters", "--no-compression"];
    let managed = ["--hydration-tasks", "none", "--nickname", "first"];
    let ended = fetch(&server, &to, &[&arguments[..], &managed].concat()).await;
    let types = Some(OWN_TYPES.map(str::to_owned).into());
    let request = NaiveRequest { types, ..NaiveRequest::new(Level::Group("nested".to_owned())) };
    let expected = naive::export(&ndjson_files("small"), &request).unwrap();
    let to = to.join("001.first");
    assert!(downloaded(&to) == expected.output && !expected.output.is_empty());
    assert!(ended.stdout.contains("Messages from server:"), "{}", ended.stdout);
    assert!(ended.stdout.contains("Device is outside the Patient compartment"), "{}", ended.stdout);
    assert_removed(&server, &to, folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_export_brings_only_what_has_changed_since_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("store.db").display());
    let import = |from: &Path| end(command(&["import", "--progress", "none", "--to", &store, "--from"]).arg(from));
    import(&small()).assert_exit(0);
    let server = serve(&store, folder.path());
    let to = folder.path().join("out");
    let arguments =
        ["export", "--type", "Patient,Condition", "--no-compression", "--hydration-tasks", "none", "--nickname"];
    fetch(&server, &to, &[&arguments[..], &["first"]].concat()).await;
    let first = downloaded(&to.join("001.first"));
    let patients = ids(&first["Patient"]);
    assert!(patients.contains(&"ada".to_owned()) && !patients.contains(&"zoe".to_owned()), "{patients:?}");

    // Behind the snapshot of the first export, and before that of the second.
    let first_time = &logged(&to.join("001.first"), "status_complete")[0]["eventDetail"]["transactionTime"];
    let updated = first_time.as_str().unwrap().replace('Z', "1Z");
    let resource = |resource_type: &str, id: &str| {
        let meta = json!({"versionId": "99", "lastUpdated": updated});
        json!({"resourceType": resource_type, "id": id, "meta": meta, "gender": "other"}).to_string()
    };
    let changes = folder.path().join("changes");
    fs::create_dir(&changes).unwrap();
    // One is new, one is changed; the Observation isn't asked for.
    let lines = [resource("Patient", "zoe"), resource("Patient", "ada"), resource("Observation", "new")];
    fs::write(changes.join("changes.ndjson"), lines.join("\n")).unwrap();
    import(&changes).assert_exit(0);

    let ended = fetch(&server, &to, &[&arguments[..], &["second", "--since", "auto"]].concat()).await;
    assert!(ended.stdout.contains("Using since value of "), "{}", ended.stdout);
    let second = downloaded(&to.join("002.second"));
    assert_eq!(second.keys().collect::<Vec<_>>(), ["Patient"], "no Condition has changed");
    let mut changed = ids(&second["Patient"]);
    changed.sort();
    assert_eq!(changed, ["ada", "zoe"]);

    let ended = fetch(&server, &to, &[&arguments[..], &["third", "--since", "auto"]].concat()).await;
    assert!(downloaded(&to.join("003.third")).is_empty(), "{}", ended.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_own_filter_of_observations_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(small().to_str().unwrap(), folder.path());
    let ended = run(&mut smart_fetch(&server, &folder.path().join("out"), &["bulk", "--type", "observation"])).await;
    ended.assert_exit(1);
    assert!(ended.stderr.contains("[400] _typeFilter isn't supported"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(small().to_str().unwrap(), folder.path());
    let arguments = ["bulk", "--group", "nobody", "--type", "patient"];
    let ended = run(&mut smart_fetch(&server, &folder.path().join("out"), &arguments)).await;
    ended.assert_exit(1);
    assert!(ended.stderr.contains("[404]") && ended.stderr.contains("nobody"), "{}", ended.stderr);
}
