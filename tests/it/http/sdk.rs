//! The operations of HealthLake's SDK.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::served::{Answer, Served};
use super::{grouped_source, healthlake_body};

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
