//! Rows of the two contracts that no other test answers, each named after its ids in `docs/contract.tsv`.

pub(super) mod deletions;
mod files;
mod levels;
mod polls;
mod reports;
mod sdk;
mod starts;
mod statement;
mod times;

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::sdk::{call, start_input};
use super::served::{BASE, Served, path_of};
use super::{JSON, grouped_source, healthlake_body};
use crate::support::small_job;

/// The two faces over which an export of any level is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Face {
    HealthLake,
    Profile,
}

const FACES: [Face; 2] = [Face::HealthLake, Face::Profile];

/// The manifest of an export, and everything that its output holds.
async fn export(served: &Served, face: Face, path: &str) -> (Value, Vec<Value>) {
    let started = match face {
        Face::HealthLake => served.ask("POST", &format!("{BASE}{path}"), JSON, healthlake_body()).await,
        Face::Profile => served.ask_to_start("store1", path).await,
    };
    assert_eq!(started.status, StatusCode::ACCEPTED, "{face:?} {path}: {started:?}");
    let over = served.until_over(&path_of(started.header("content-location"))).await;
    assert_eq!(over.status, StatusCode::OK, "{face:?} {path}: {over:?}");
    let manifest = over.json();
    let mut resources = Vec::new();
    for file in manifest["output"].as_array().unwrap() {
        let text = match face {
            Face::HealthLake => stored(served, file["extension"]["key"].as_str().unwrap()),
            Face::Profile => {
                let file = served.get(&path_of(file["url"].as_str().unwrap())).await;
                String::from_utf8(file.body.to_vec()).unwrap()
            }
        };
        resources.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    (manifest, resources)
}

/// Type and id of each.
fn names(resources: &[Value]) -> BTreeSet<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    resources.iter().map(|one| format!("{}/{}", text(&one["resourceType"]), text(&one["id"]))).collect()
}

/// What lies in the caller's bucket under a key.
fn stored(served: &Served, key: &str) -> String {
    let bucket = &served.buckets.bucket;
    let key = bucket.keys().into_iter().find(|own| own.to_string() == key).unwrap();
    String::from_utf8(bucket.object(&key).unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn m5_m7_m18_m20_a_manifest_of_nothing_has_empty_lists_and_no_more_than_was_asked_for() {
    let served = Served::new(small_job::source());
    let parameters = json!({"resourceType": "Parameters", "parameter": [{"name": "_type", "valueString": "Account"}]});
    let started = served.ask("POST", &format!("{BASE}/$export"), JSON, parameters.to_string()).await;
    let manifest = served.until_over(&path_of(started.header("content-location"))).await.json();
    assert_eq!(manifest["request"], "http://localhost:8080/datastore/store1/r4/$export", "the body is no part of it");
    assert_eq!(manifest["output"], json!([]));
    assert!(manifest.get("outputOrganizedBy").is_none() && manifest["extension"].is_object(), "{manifest}");
}

#[tokio::test]
async fn m9_o6_f3_a_file_holds_one_type_and_a_resource_in_each_line() {
    let served = Served::new(small_job::source());
    let manifest = served.until_over(&served.kick_off("/$export").await).await.json();
    for file in manifest["output"].as_array().unwrap() {
        let body = served.get(&path_of(file["url"].as_str().unwrap())).await.body;
        let text = String::from_utf8(body.to_vec()).unwrap();
        for line in text.lines() {
            let resource: Value = serde_json::from_str(line).unwrap();
            assert_eq!(resource["resourceType"], file["type"], "{line}");
        }
        assert!(text.ends_with('\n') && !text.contains('\r'));
    }
}

#[tokio::test]
async fn a3_a4_a_manifest_and_its_files_do_not_change() {
    let served = Served::new(small_job::source());
    let job = served.kick_off("/$export").await;
    let first = served.until_over(&job).await;
    assert_eq!(served.get(&job).await.body, first.body);
    for file in first.json()["output"].as_array().unwrap() {
        let path = path_of(file["url"].as_str().unwrap());
        assert_eq!(served.get(&path).await.body, served.get(&path).await.body);
    }
}

#[tokio::test]
async fn u33_h506_h505_h404_h401_a_job_of_the_sdk_is_seen_over_rest_and_the_reverse() {
    let served = Served::new(grouped_source());
    let mut input = start_input("token");
    input["Level"] = json!("Group/g");
    let by_sdk = call(&served, "StartFHIRExportJob", &input).await.json()["JobId"].as_str().unwrap().to_owned();
    let over = served.until_over(&format!("{BASE}/export/{by_sdk}")).await.json();
    assert_eq!(over["exportJobProperties"]["jobId"], by_sdk.as_str());
    let counts: u64 = over["output"].as_array().unwrap().iter().map(|file| file["count"].as_u64().unwrap()).sum();
    assert_eq!(counts, 5, "all of the system, whatever else the input says");

    let started = served.ask("POST", &format!("{BASE}/$export"), JSON, healthlake_body()).await.json();
    served.service.idle().await;
    let input = json!({"DatastoreId": "store1", "JobId": started["jobId"]});
    let described = call(&served, "DescribeFHIRExportJob", &input).await.json();
    assert_eq!(described["ExportJobProperties"]["JobStatus"], "COMPLETED");
    assert!(described.as_object().unwrap().keys().eq(["ExportJobProperties"]), "no manifest: {described}");
}

#[tokio::test]
async fn h106_h108_h121_plain_json_is_taken_and_headers_that_say_nothing_are_passed_over() {
    let served = Served::new(grouped_source());
    let prefer = ("prefer", "respond-async");
    for headers in [
        vec![("content-type", "application/json"), prefer],
        vec![("content-type", "application/fhir+json"), ("accept", "application/fhir+json"), prefer],
    ] {
        let started = served.ask("POST", &format!("{BASE}/$export"), &headers, healthlake_body()).await;
        assert_eq!(started.status, StatusCode::ACCEPTED, "{headers:?}");
        let job = path_of(started.header("content-location"));
        served.until_over(&job).await;
        let asked = served.ask("GET", &job, &[("content-type", "text/plain")], Body::empty()).await;
        assert_eq!(asked.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn h129_h130_h126_output_is_sorted_and_errors_are_an_empty_list() {
    let served = Served::new(grouped_source());
    let started = served.ask("POST", &format!("{BASE}/$export"), JSON, healthlake_body()).await;
    let over = served.until_over(&path_of(started.header("content-location"))).await.json();
    let urls: Vec<&str> = over["output"].as_array().unwrap().iter().map(|file| file["url"].as_str().unwrap()).collect();
    assert!(urls.len() == 3 && urls.is_sorted(), "{urls:?}");
    assert_eq!((&over["error"], &over["requiresAccessToken"]), (&json!([]), &json!(false)));
    let time = over["transactionTime"].as_str().unwrap();
    assert!(time.ends_with('Z') && time.contains('T'), "{time}");
}
