//! Who runs, who waits, and who is told to come back.

use std::num::NonZero;

use axum::body::Body;
use axum::http::StatusCode;
use fhir_export::http::Settings;
use fhir_export::job::{JobService, QueueKey};
use fhir_export::source::memory::Gate;
use futures::future::join_all;
use serde_json::json;

use super::served::{Answer, Served, config, data_store, path_of};
use super::{JSON, healthlake_body, sdk};
use crate::support::small_job;

fn account(account: &str) -> QueueKey {
    QueueKey { account: account.to_owned(), region: "eu-west-1".to_owned() }
}

/// Jobs in the order in which they ended.
async fn ended(served: &Served) -> Vec<String> {
    let mut views = served.service.list("store1").await.unwrap();
    views.sort_by_key(|view| view.ended.as_ref().map(|time| (time.unix_seconds(), time.nanos())));
    views.iter().map(|view| view.id.to_string()).collect()
}

fn id_of(job: &str) -> String {
    job.rsplit('/').next().unwrap().to_owned()
}

#[tokio::test]
async fn jobs_of_an_account_and_region_run_one_after_the_other_in_the_order_of_their_start() {
    let gate = Gate::new();
    let served = Served::new(small_job::source_stalled_at("second", 0, &gate));
    let mut jobs = Vec::new();
    for query in ["", "?_type=Patient", "?_type=Observation", "?_type=Binary"] {
        jobs.push(served.kick_off(&format!("/$export{query}")).await);
    }
    gate.reached().await;
    for (job, state) in jobs.iter().zip(["IN_PROGRESS", "QUEUED", "QUEUED", "QUEUED"]) {
        assert_eq!(served.state(job).await, state);
    }
    gate.open();
    for job in &jobs {
        assert_eq!(served.until_over(job).await.status, StatusCode::OK);
    }
    assert_eq!(ended(&served).await, jobs.iter().map(|job| id_of(job)).collect::<Vec<_>>());
}

#[tokio::test]
async fn data_stores_of_another_account_do_not_wait_and_those_of_the_same_do() {
    let gate = Gate::new();
    let served = Served::set_up(Settings::default(), |files| {
        let source = || small_job::source_stalled_at("second", 0, &gate);
        let stores = [("store1", "111122223333"), ("store2", "111122223333"), ("store3", "444455556666")];
        stores.into_iter().fold(JobService::builder().config(config()), |builder, (id, owner)| {
            builder.data_store(data_store(id, source(), files).queue_key(account(owner)))
        })
    });
    let mut jobs = Vec::new();
    for store in ["store1", "store2", "store3"] {
        jobs.push(path_of(served.ask_to_start(store, "/$export").await.header("content-location")));
    }
    gate.reached().await;
    while served.state(&jobs[2]).await != "IN_PROGRESS" {
        tokio::task::yield_now().await;
    }
    assert_eq!((served.state(&jobs[0]).await, served.state(&jobs[1]).await), ("IN_PROGRESS".into(), "QUEUED".into()));
    gate.open();
    for job in &jobs {
        served.until_over(job).await;
    }
    let arn = sdk::call(&served, "DescribeFHIRDatastore", &json!({"DatastoreId": "store3"})).await.json();
    assert_eq!(
        arn["DatastoreProperties"]["DatastoreArn"],
        "arn:aws:healthlake:eu-west-1:444455556666:datastore/fhir/store3"
    );
}

fn assert_throttled(refused: &Answer) {
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.issues(), [("throttled".to_owned(), None)]);
    assert!(refused.header("retry-after").parse::<u32>().unwrap() > 0);
}

#[tokio::test]
async fn who_would_wait_behind_too_many_is_told_to_come_back() {
    let gate = Gate::new();
    let served = Served::set_up(Settings::default(), |files| {
        let source = small_job::source_stalled_at("second", 0, &gate);
        JobService::builder().config(config()).data_store(data_store("store1", source, files)).most_waiting(1)
    });
    let jobs = [served.kick_off("/$export").await, served.kick_off("/$export").await];
    gate.reached().await;
    assert_throttled(&served.ask_to_start("store1", "/$export").await);
    let refused = served.ask("POST", "/datastore/store1/r4/$export", JSON, healthlake_body()).await;
    assert_throttled(&refused);
    let refused = sdk::call(&served, "StartFHIRExportJob", &sdk::start_input("token")).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(refused.json()["__type"], "com.amazonaws.healthlake#ThrottlingException");
    for job in &jobs {
        assert_eq!(served.get(job).await.status, StatusCode::ACCEPTED, "asking how it is goes by without any limit");
    }
    gate.open();
    served.until_over(&jobs[1]).await;
    assert_eq!(served.ask_to_start("store1", "/$export").await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_hundred_kick_offs_at_once_are_all_taken_and_each_ends_right() {
    let served = Served::new(small_job::source());
    let types = ["Patient", "Observation", "Binary"];
    let kick_offs = (0..100).map(|number| {
        let (served, path) = (&served, format!("/$export?_type={}", types[number % 3]));
        async move { served.kick_off(&path).await }
    });
    let jobs = join_all(kick_offs).await;
    for (number, job) in jobs.iter().enumerate() {
        let over = served.until_over(job).await.json();
        assert_eq!(over["output"][0]["type"], types[number % 3]);
        assert_eq!(over["output"].as_array().unwrap().len(), 1);
    }
    let mut unique = jobs.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), 100);
}

#[tokio::test]
async fn of_too_many_kick_offs_at_once_some_are_told_to_come_back() {
    let settings = Settings { starts_at_once: 10, ..Settings::default() };
    let served = Served::set_up(settings, |files| {
        JobService::builder().config(config()).data_store(data_store("store1", small_job::source(), files))
    });
    let answers = join_all((0..100).map(|_| served.ask_to_start("store1", "/$export?_type=Binary"))).await;
    let (taken, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == StatusCode::ACCEPTED);
    assert_eq!(taken.len(), 10);
    refused.iter().for_each(assert_throttled);
    for answer in &taken {
        served.until_over(&path_of(answer.header("content-location"))).await;
    }
    assert_eq!(served.ask_to_start("store1", "/$export").await.status, StatusCode::ACCEPTED, "places are given back");
}

#[test]
fn after_a_restart_jobs_run_in_the_order_of_their_start() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let first = runtime();
    let (before, jobs) = first.block_on(async {
        let gate = Gate::new();
        let served = Served::new(small_job::source_stalled_at("second", 0, &gate));
        let mut jobs = Vec::new();
        for _ in 0..10 {
            jobs.push(served.kick_off("/$export").await);
        }
        gate.reached().await;
        assert_eq!(served.ask("DELETE", &jobs[4], &[], Body::empty()).await.status, StatusCode::ACCEPTED);
        (served, jobs)
    });
    drop(first);
    runtime().block_on(async {
        let gate = Gate::new();
        let served = Served::after(&before, small_job::source_stalled_at("second", 0, &gate));
        drop(before);
        served.service.recover().await.unwrap();
        gate.reached().await;
        assert_eq!(served.state(&jobs[0]).await, "IN_PROGRESS");
        while served.state(&jobs[9]).await != "QUEUED" {
            tokio::task::yield_now().await;
        }
        gate.open();
        served.service.idle().await;
        let expected: Vec<String> = jobs.iter().map(|job| id_of(job)).filter(|id| *id != id_of(&jobs[4])).collect();
        assert_eq!(ended(&served).await, expected);
    });
}

#[test]
fn a_job_that_was_deleted_does_not_come_back_with_a_restart() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (before, jobs) = first.block_on(async {
        let gate = Gate::new();
        let served = Served::new(small_job::source_stalled_at("second", 0, &gate));
        let jobs = [served.kick_off("/$export").await, served.kick_off("/$export").await];
        gate.reached().await;
        for job in &jobs {
            assert_eq!(served.ask("DELETE", job, &[], Body::empty()).await.status, StatusCode::ACCEPTED);
        }
        (served, jobs)
    });
    drop(first);
    runtime().block_on(async {
        let served = Served::after(&before, small_job::source());
        drop(before);
        served.service.recover().await.unwrap();
        served.service.idle().await;
        for job in &jobs {
            assert_eq!(served.get(job).await.status, StatusCode::NOT_FOUND);
        }
        assert!(served.service.list("store1").await.unwrap().is_empty());
        assert!(served.files.keys().is_empty() && served.files.open_count() == 0);
    });
}

#[tokio::test]
async fn all_jobs_together_can_be_limited_too() {
    let gate = Gate::new();
    let served = Served::set_up(Settings::default(), |files| {
        let mut config = config();
        config.jobs_at_once = NonZero::new(1);
        ["store1", "store2"].into_iter().fold(JobService::builder().config(config), |builder, id| {
            let source = small_job::source_stalled_at("second", 0, &gate);
            builder.data_store(data_store(id, source, files).queue_key(account(id)))
        })
    });
    let first = served.kick_off("/$export").await;
    gate.reached().await;
    let second = path_of(served.ask_to_start("store2", "/$export").await.header("content-location"));
    while served.state(&second).await != "QUEUED" {
        tokio::task::yield_now().await;
    }
    gate.open();
    for job in [first, second] {
        assert_eq!(served.until_over(&job).await.status, StatusCode::OK);
    }
}
