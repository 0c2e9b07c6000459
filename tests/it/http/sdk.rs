//! The operations of HealthLake's SDK.

use axum::body::Body;
use axum::http::StatusCode;
use fhir_export::source::memory::Gate;
use serde_json::{Value, json};

use super::served::{Answer, Served};
use super::{grouped_source, healthlake_body};
use crate::support::small_job;

pub(super) async fn call(served: &Served, operation: &str, input: &Value) -> Answer {
    let target = format!("HealthLake.{operation}");
    let headers = [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", target.as_str())];
    let answer = served.ask("POST", "/", &headers, input.to_string()).await;
    assert_eq!(answer.header("content-type"), "application/x-amz-json-1.0");
    answer
}

pub(super) fn start_input(token: &str) -> Value {
    let mut input: Value = serde_json::from_str(&healthlake_body()).unwrap();
    input["DatastoreId"] = json!("store1");
    input["ClientToken"] = json!(token);
    input
}

#[tokio::test]
async fn a_job_is_started_once_for_each_token_described_and_listed() {
    let served = Served::new(grouped_source());
    let mut ids = Vec::new();
    for token in ["a", "b", "c"] {
        let first = call(&served, "StartFHIRExportJob", &start_input(token)).await.json();
        let again = call(&served, "StartFHIRExportJob", &start_input(token)).await.json();
        assert_eq!((&first["JobStatus"], &first), (&json!("SUBMITTED"), &again));
        ids.push(first["JobId"].clone());
    }
    let mut other = start_input("a");
    other["JobName"] = json!("another");
    let refused = call(&served, "StartFHIRExportJob", &other).await;
    assert_eq!(refused.json()["__type"], "com.amazonaws.healthlake#ValidationException");
    served.service.idle().await;
    let input = json!({"DatastoreId": "store1", "JobId": ids[0]});
    let described = call(&served, "DescribeFHIRExportJob", &input).await.json();
    let properties = &described["ExportJobProperties"];
    assert_eq!((&properties["JobId"], &properties["JobStatus"]), (&ids[0], &json!("COMPLETED")));
    assert!(properties["SubmitTime"].is_f64() || properties["SubmitTime"].is_number());
    let uri = properties["OutputDataConfig"]["S3Configuration"]["S3Uri"].as_str().unwrap();
    assert!(uri.starts_with("s3://my-bucket/prefix/store1-FHIR_EXPORT-") && uri.ends_with('/'), "{uri}");
    let mut listed = Vec::new();
    let mut input = json!({"DatastoreId": "store1", "MaxResults": 2, "JobName": "my-job"});
    loop {
        let page = call(&served, "ListFHIRExportJobs", &input).await.json();
        let jobs = page["ExportJobPropertiesList"].as_array().unwrap();
        listed.extend(jobs.iter().map(|job| job["JobId"].clone()));
        match page.get("NextToken") {
            Some(token) => input["NextToken"] = token.clone(),
            None => break,
        }
    }
    assert_eq!(listed, ids);
    let failed = json!({"DatastoreId": "store1", "JobStatus": "FAILED"});
    let none = call(&served, "ListFHIRExportJobs", &failed).await.json();
    assert_eq!(none["ExportJobPropertiesList"], json!([]));
}

/// Ids of a page, and the token of the next.
async fn page(served: &Served, input: &Value) -> (Vec<String>, Option<Value>) {
    let page = call(served, "ListFHIRExportJobs", input).await.json();
    let ids = page["ExportJobPropertiesList"].as_array().unwrap().iter();
    (ids.map(|job| job["JobId"].as_str().unwrap().to_owned()).collect(), page.get("NextToken").cloned())
}

#[tokio::test]
async fn a_list_goes_on_though_the_job_that_it_had_come_to_is_gone_or_another_in_kind() {
    let gate = Gate::new();
    let served = Served::new(small_job::source_stalled_at("second", 0, &gate));
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(served.kick_off("/$export").await);
    }
    gate.reached().await;
    let id = |number: usize| jobs[number].rsplit('/').next().unwrap().to_owned();
    while served.state(&jobs[3]).await != "QUEUED" {
        tokio::task::yield_now().await;
    }
    let mut waiting = json!({"DatastoreId": "store1", "JobStatus": "QUEUED", "MaxResults": 1});
    let mut all = json!({"DatastoreId": "store1", "MaxResults": 2});
    let (ids, token) = page(&served, &waiting).await;
    assert_eq!(ids, [id(1)]);
    waiting["NextToken"] = token.unwrap();
    let (ids, token) = page(&served, &all).await;
    assert_eq!(ids, [id(0), id(1)]);
    all["NextToken"] = token.unwrap();
    assert_eq!(served.ask("DELETE", &jobs[1], &[], Body::empty()).await.status, StatusCode::ACCEPTED);
    assert_eq!(served.get(&jobs[1]).await.status, StatusCode::NOT_FOUND);
    let rest = |ids: Vec<String>| ids.into_iter().filter(|found| *found != id(0)).collect::<Vec<_>>();
    let (ids, token) = page(&served, &all).await;
    // Of jobs of one moment some may come again.
    assert!(rest(ids.clone()).starts_with(&[id(2)]) && (ids.len(), token.is_some()) == (2, ids[0] == id(0)), "{ids:?}");
    let (ids, token) = page(&served, &waiting).await;
    assert_eq!((ids, token.is_some()), (vec![id(2)], true));
    gate.open();
    for job in [&jobs[0], &jobs[2], &jobs[3]] {
        served.until_over(job).await;
    }
    waiting["NextToken"] = token.unwrap();
    assert_eq!(page(&served, &waiting).await, (vec![], None), "the last one waits no more");
}

#[tokio::test]
async fn refusals_are_those_of_the_contracts_table() {
    let served = Served::new(grouped_source());
    for (operation, input, kind) in [
        ("DescribeFHIRExportJob", json!({"DatastoreId": "other", "JobId": "x"}), "ResourceNotFoundException"),
        ("DescribeFHIRExportJob", json!({"DatastoreId": "store1", "JobId": "x"}), "ResourceNotFoundException"),
        ("DescribeFHIRExportJob", json!({"JobId": "x"}), "ValidationException"),
        ("ListFHIRExportJobs", json!({"DatastoreId": "store1", "MaxResults": 501}), "ValidationException"),
        ("ListFHIRExportJobs", json!({"DatastoreId": "store1", "JobStatus": "DONE"}), "ValidationException"),
        ("StartFHIRExportJob", json!({"DatastoreId": "store1"}), "ValidationException"),
        ("StartFHIRExportJob", json!([]), "ValidationException"),
        ("DeleteFHIRDatastore", json!({}), "UnknownOperationException"),
    ] {
        let refused = call(&served, operation, &input).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert_eq!(refused.json()["__type"], format!("com.amazonaws.healthlake#{kind}"), "{operation} {input}");
    }
}

#[tokio::test]
async fn data_stores_are_described_with_their_endpoints() {
    let served = Served::new(grouped_source());
    let all = call(&served, "ListFHIRDatastores", &json!({})).await.json();
    let one = call(&served, "DescribeFHIRDatastore", &json!({"DatastoreId": "store1"})).await.json();
    assert_eq!(all["DatastorePropertiesList"][0], one["DatastoreProperties"]);
    let endpoint = "http://localhost:8080/datastore/store1/r4/";
    assert_eq!(one["DatastoreProperties"]["DatastoreEndpoint"], endpoint);
}
