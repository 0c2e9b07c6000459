//! Rows about a job's states, and about asking for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use fhir_export::ErrorKind;
use fhir_export::http::Settings;
use fhir_export::job::{JobService, JobState, JobStore};
use fhir_export::request::JobId;
use fhir_export::source::memory::{Gate, MemoryRange, MemorySource};
use fhir_export::writer::Entry;
use serde_json::{Value, json};

use crate::http::expiry::{BEGIN, HOUR, SetClock, served as served_by};
use crate::http::sdk::{call, start_input};
use crate::http::served::{Answer, BASE, Served, config, data_store, path_of};
use crate::http::{JSON, grouped_source, healthlake_body};
use crate::support::small_job;

/// The fields of a job (contract section 4), as REST writes them.
const FIELDS: [&str; 9] = [
    "jobId",
    "jobName",
    "jobStatus",
    "submitTime",
    "endTime",
    "datastoreId",
    "outputDataConfig",
    "dataAccessRoleArn",
    "message",
];

async fn start(served: &Served) -> String {
    let started = served.ask("POST", &format!("{BASE}/$export"), JSON, healthlake_body()).await;
    path_of(started.header("content-location"))
}

fn status(answer: &Answer) -> (StatusCode, String) {
    let state = answer.json()["exportJobProperties"]["jobStatus"].as_str().unwrap().to_owned();
    (answer.status, state)
}

#[tokio::test]
async fn h301_h304_states_have_ten_names_and_five_of_them_are_the_last() {
    let over = ["COMPLETED_WITH_ERRORS", "COMPLETED", "FAILED", "CANCEL_COMPLETED", "CANCEL_FAILED"];
    let goes_on = ["SUBMITTED", "QUEUED", "IN_PROGRESS", "CANCEL_SUBMITTED", "CANCEL_IN_PROGRESS"];
    let of = |is_terminal: bool| {
        let states = JobState::ALL.into_iter().filter(move |state| state.is_terminal() == is_terminal);
        states.map(JobState::as_str).collect::<BTreeSet<_>>()
    };
    assert_eq!((of(true), of(false)), (BTreeSet::from(over), BTreeSet::from(goes_on)));
    let served = Served::new(grouped_source());
    for name in over.into_iter().chain(goes_on) {
        let input = json!({"DatastoreId": "store1", "JobStatus": name});
        assert_eq!(call(&served, "ListFHIRExportJobs", &input).await.status, StatusCode::OK, "{name}");
    }
    for name in ["CANCELLED", "completed", ""] {
        let input = json!({"DatastoreId": "store1", "JobStatus": name});
        assert_eq!(call(&served, "ListFHIRExportJobs", &input).await.status, StatusCode::BAD_REQUEST, "{name}");
    }
}

#[tokio::test]
async fn u1_s2_h306_a_job_is_202_until_it_is_over_and_200_afterwards_with_the_fields_of_the_contract() {
    let gate = Gate::new();
    let served = Served::new(small_job::source_stalled_at("second", 0, &gate));
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(start(&served).await);
    }
    gate.reached().await;
    for (job, state) in jobs.iter().zip(["IN_PROGRESS", "QUEUED", "QUEUED"]) {
        let answer = served.get(job).await;
        assert_eq!(status(&answer), (StatusCode::ACCEPTED, state.to_owned()));
        let progress = answer.header("x-progress");
        assert!(progress.len() < 100 && progress.ends_with(state), "{progress}");
        assert_fields(&answer.json()["exportJobProperties"], &served).await;
    }
    assert_eq!(served.ask("DELETE", &jobs[1], &[], Body::empty()).await.status, StatusCode::ACCEPTED);
    gate.open();
    for (job, state) in jobs.iter().zip(["COMPLETED_WITH_ERRORS", "CANCEL_COMPLETED", "COMPLETED_WITH_ERRORS"]) {
        let answer = served.until_over(job).await;
        assert_eq!(status(&answer), (StatusCode::OK, state.to_owned()));
        assert_fields(&answer.json()["exportJobProperties"], &served).await;
    }
    let broken = MemorySource::new().with(MemoryRange::lines("all", "{}").failing_at(0, ErrorKind::Source));
    let served = Served::new(broken);
    let answer = served.until_over(&start(&served).await).await;
    assert_eq!(status(&answer), (StatusCode::OK, "FAILED".to_owned()));
    assert_fields(&answer.json()["exportJobProperties"], &served).await;
    let whole = Served::new(grouped_source());
    assert_eq!(status(&whole.until_over(&start(&whole).await).await), (StatusCode::OK, "COMPLETED".to_owned()));
}

/// A job has no other fields than those of the contract, over either protocol.
async fn assert_fields(on_rest: &Value, served: &Served) {
    let keys = |properties: &Value| properties.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let known = keys(on_rest).iter().all(|key| FIELDS.contains(&key.as_str()));
    assert!(known, "{on_rest}");
    let input = json!({"DatastoreId": "store1", "JobId": on_rest["jobId"]});
    let described = call(served, "DescribeFHIRExportJob", &input).await.json();
    let camel = |key: String| format!("{}{}", key[..1].to_lowercase(), &key[1..]);
    let by_sdk = keys(&described["ExportJobProperties"]).into_iter().map(camel);
    assert!(by_sdk.into_iter().all(|key| FIELDS.contains(&key.as_str())), "{described}");
}

#[tokio::test]
async fn h134_a_cancelled_job_tells_what_was_durable_when_it_was_asked_to_end() {
    let gate = Gate::new();
    let served = Served::new(small_job::source_stalled_at("second", 0, &gate));
    let job = start(&served).await;
    let id = JobId::new(job.rsplit('/').next().unwrap()).unwrap();
    gate.reached().await;
    while !served.jobs.entries(&id).await.unwrap().iter().any(|entry| matches!(entry, Entry::Part { .. })) {
        tokio::task::yield_now().await;
    }
    assert_eq!(served.ask("DELETE", &job, &[], Body::empty()).await.status, StatusCode::ACCEPTED);
    let manifest = served.until_over(&job).await.json();
    let durable = &manifest["extension"]["durableAtCancel"];
    let of_patients = |count: &Value| count["resources"].as_u64().unwrap();
    let rows = manifest["extension"]["ledger"].as_array().unwrap();
    let row = rows.iter().find(|row| row["type"] == "Patient").unwrap();
    assert!((1..=of_patients(&row["written"])).contains(&of_patients(&durable["Patient"])), "{manifest}");
    let written = rows.iter().map(|row| row["type"].as_str());
    let told = durable.as_object().unwrap().keys();
    assert!(told.into_iter().all(|name| written.clone().any(|own| own == Some(name))), "{manifest}");
}

#[tokio::test]
async fn h807_u31_a_job_of_a_callers_bucket_is_described_for_as_long_as_its_record_is_kept() {
    let clock = SetClock::new();
    let served = served_by(&clock, None);
    let job = start(&served).await;
    let over = served.until_over(&job).await.json();
    for days in [7, 90, 3650] {
        clock.set(BEGIN + days * 24 * HOUR);
        assert_eq!(served.service.remove_expired().await.unwrap(), 0);
        let later = Served::after(&served, small_job::source());
        later.service.recover().await.unwrap();
        for served in [&served, &later] {
            assert_eq!(served.get(&job).await.json(), over, "{days}");
        }
        let input = json!({"DatastoreId": "store1", "JobId": over["exportJobProperties"]["jobId"]});
        let described = call(&later, "DescribeFHIRExportJob", &input).await.json();
        assert_eq!(described["ExportJobProperties"]["JobStatus"], "COMPLETED_WITH_ERRORS");
    }
}

#[tokio::test]
async fn s3_s16_a_client_is_told_to_wait_as_long_as_the_job_has_lasted_up_to_what_is_set() {
    let (clock, gate) = (SetClock::new(), Gate::new());
    let settings = Settings { retry_after_seconds: 30, ..Settings::default() };
    let served = Served::set_up(settings, |files| {
        let mut config = config();
        config.clock = Arc::new(clock.clone());
        let source = small_job::source_stalled_at("second", 0, &gate);
        JobService::builder().config(config).data_store(data_store("store1", source, files))
    });
    let job = served.kick_off("/$export").await;
    gate.reached().await;
    for (seconds, told) in [(0, "1"), (1, "1"), (2, "2"), (29, "29"), (30, "30"), (10 * HOUR, "30")] {
        clock.set(BEGIN + seconds);
        assert_eq!(served.get(&job).await.header("retry-after"), told, "{seconds}");
    }
    clock.set(BEGIN - HOUR);
    assert_eq!(served.get(&job).await.header("retry-after"), "1", "the clock was set back");
    gate.open();
    assert_eq!(served.until_over(&job).await.status, StatusCode::OK);
}

#[tokio::test]
async fn b19_an_empty_bearer_is_as_good_as_none() {
    let served = Served::new(grouped_source());
    let bearer = ("authorization", "Bearer ");
    let prefer = ("prefer", "respond-async");
    let started = served.ask("GET", &format!("{BASE}/$export"), &[prefer, bearer], Body::empty()).await;
    assert_eq!(started.status, StatusCode::ACCEPTED);
    let job = path_of(started.header("content-location"));
    let over = served.until_over(&job).await;
    assert_eq!(served.ask("GET", &job, &[bearer], Body::empty()).await.body, over.body);
    for file in over.json()["output"].as_array().unwrap() {
        let path = path_of(file["url"].as_str().unwrap());
        assert_eq!(served.ask("GET", &path, &[bearer], Body::empty()).await.status, StatusCode::OK);
    }
    assert_eq!(served.ask("DELETE", &job, &[bearer], Body::empty()).await.status, StatusCode::ACCEPTED);
    let started = served.ask("POST", &format!("{BASE}/$export"), &[JSON, &[bearer]].concat(), healthlake_body()).await;
    assert_eq!(started.status, StatusCode::ACCEPTED);
    let input = start_input("token");
    let headers = [("x-amz-target", "HealthLake.StartFHIRExportJob"), bearer];
    assert_eq!(served.ask("POST", "/", &headers, input.to_string()).await.status, StatusCode::OK);
}
