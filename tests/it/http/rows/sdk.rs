//! Rows about the operations of the SDK.

use axum::http::StatusCode;
use fhir_export::http::Settings;
use fhir_export::job::{JobService, QueueKey};
use fhir_export::source::memory::Gate;
use regex::Regex;
use serde_json::{Value, json};

use crate::http::grouped_source;
use crate::http::sdk::{call, start_input};
use crate::http::served::{Answer, Served, config, data_store};
use crate::support::small_job;

fn assert_validation(refused: &Answer, said: &str) {
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    let body = refused.json();
    assert_eq!(body["__type"], "com.amazonaws.healthlake#ValidationException", "{body}");
    assert!(body["Message"].as_str().unwrap().contains(said), "{body}");
}

#[tokio::test]
async fn h133_the_sdk_has_no_cancel() {
    let gate = Gate::new();
    let served = Served::new(small_job::source_stalled_at("second", 0, &gate));
    let started = call(&served, "StartFHIRExportJob", &start_input("token")).await.json();
    gate.reached().await;
    let input = json!({"DatastoreId": "store1", "JobId": started["JobId"]});
    for verb in ["Cancel", "Stop", "Delete", "Abort"] {
        let refused = call(&served, &format!("{verb}FHIRExportJob"), &input).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert_eq!(refused.json()["__type"], "com.amazonaws.healthlake#UnknownOperationException");
    }
    let described = call(&served, "DescribeFHIRExportJob", &input).await.json();
    assert_eq!(described["ExportJobProperties"]["JobStatus"], "IN_PROGRESS");
    gate.open();
    served.service.idle().await;
}

#[tokio::test]
async fn h207_a_next_token_is_ascii_of_at_most_8192_characters_and_one_of_the_list() {
    let served = Served::new(grouped_source());
    for token in ["a", "b"] {
        call(&served, "StartFHIRExportJob", &start_input(token)).await;
    }
    served.service.idle().await;
    let mut input = json!({"DatastoreId": "store1", "MaxResults": 1});
    let page = call(&served, "ListFHIRExportJobs", &input).await.json();
    let token = page["NextToken"].as_str().unwrap();
    assert!(token.is_ascii() && token.len() <= 8192, "{token}");
    let longer = format!("{}/{}", "0".repeat(8192), "a");
    for bad in
        ["x", "", "/", "2024/x", "é", "2024-05-09T00:00:00Z/", &longer, &format!("{token}é"), &format!("x{token}")]
    {
        input["NextToken"] = json!(bad);
        assert_validation(&call(&served, "ListFHIRExportJobs", &input).await, "NextToken");
    }
    input["NextToken"] = json!(7);
    assert_validation(&call(&served, "ListFHIRExportJobs", &input).await, "NextToken");
    input["NextToken"] = json!(token);
    let rest = call(&served, "ListFHIRExportJobs", &input).await.json();
    assert_eq!(rest["ExportJobPropertiesList"].as_array().unwrap().len(), 1);
    assert!(rest.get("NextToken").is_none());
}

#[tokio::test]
async fn h208_a_page_has_1_to_500_jobs() {
    let served = Served::new(grouped_source());
    let list = async |most: Value| {
        let input = json!({"DatastoreId": "store1", "MaxResults": most});
        call(&served, "ListFHIRExportJobs", &input).await
    };
    for good in [json!(1), json!(500), Value::Null] {
        assert_eq!(list(good.clone()).await.status, StatusCode::OK, "{good}");
    }
    for bad in [json!(0), json!(-1), json!(501), json!(1.5), json!("1"), json!([])] {
        assert_validation(&list(bad).await, "MaxResults");
    }
}

#[tokio::test]
async fn h210_a_data_stores_arn_has_the_pattern_of_its_kind() {
    let pattern =
        Regex::new(r"^arn:aws((-us-gov)|(-iso)|(-iso-b)|(-cn))?:healthlake:[a-zA-Z0-9-]+:[0-9]{12}:datastore/.+?$")
            .unwrap();
    let served = Served::set_up(Settings::default(), |files| {
        let owner = QueueKey { account: "444455556666".to_owned(), region: "ap-southeast-2".to_owned() };
        JobService::builder()
            .config(config())
            .data_store(data_store("store1", grouped_source(), files))
            .data_store(data_store("store2", grouped_source(), files).queue_key(owner))
    });
    let all = call(&served, "ListFHIRDatastores", &json!({})).await.json();
    let stores = all["DatastorePropertiesList"].as_array().unwrap();
    assert_eq!(stores.len(), 2);
    for store in stores {
        let arn = store["DatastoreArn"].as_str().unwrap();
        assert!(pattern.is_match(arn) && arn.ends_with(store["DatastoreId"].as_str().unwrap()), "{arn}");
    }
}

#[tokio::test]
async fn h503_a_start_without_one_of_the_four_that_it_needs_is_refused_by_name() {
    let served = Served::new(grouped_source());
    let s3 = "/OutputDataConfig/S3Configuration";
    for (parent, name) in [("", "DatastoreId"), ("", "DataAccessRoleArn"), (s3, "S3Uri"), (s3, "KmsKeyId")] {
        for without in [None, Some(Value::Null)] {
            let mut input = start_input("token");
            let members = input.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            assert!(members.remove(name).is_some());
            members.extend(without.map(|value| (name.to_owned(), value)));
            let refused = call(&served, "StartFHIRExportJob", &input).await;
            let camel = format!("{}{}", name[..1].to_lowercase(), &name[1..]);
            let told = refused.json()["Message"].as_str().unwrap().to_owned();
            assert!(told.contains(name) || told.contains(&camel), "{name}: {told}");
            assert_validation(&refused, "");
        }
    }
    for name in ["JobName", "ClientToken"] {
        let mut input = start_input("token");
        input.as_object_mut().unwrap().remove(name);
        assert_eq!(call(&served, "StartFHIRExportJob", &input).await.status, StatusCode::OK, "{name} isn't needed");
    }
    assert_eq!(served.service.list("store1").await.unwrap().len(), 2);
    served.service.idle().await;
}
