//! Many clients, slow ones, and what goes wrong while they are served.

use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use fhir_export::fhir::Instant;
use fhir_export::http::{MetricsText, Settings};
use fhir_export::job::JobService;
use fhir_export::source::memory::{Gate, MemoryRange, MemorySource};
use fhir_export::source::{
    AfterTransactionTime, Asked, BlockSink, Cursor, NdjsonSource, Plan, Range, Snapshot, Source,
};
use fhir_export::{Error, ErrorKind};
use futures::future::join_all;
use futures::{StreamExt, stream};
use serde_json::{Value, json};

use super::served::{BASE, Served, config, data_store, path_of};
use super::{JSON, healthlake_body, sdk};
use crate::support::small_job;

#[tokio::test]
async fn a_thousand_clients_that_ask_how_it_is_are_all_answered() {
    let gate = Gate::new();
    let served = Served::new(small_job::source_stalled_at("second", 0, &gate));
    let job = served.kick_off("/$export").await;
    gate.reached().await;
    for _ in 0..3 {
        let answers = join_all((0..1000).map(|_| served.get(&job))).await;
        assert!(answers.iter().all(|answer| answer.status == StatusCode::ACCEPTED));
    }
    gate.open();
    served.until_over(&job).await;
    let answers = join_all((0..1000).map(|_| served.get(&job))).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK && answer.body == answers[0].body));
}

#[tokio::test]
async fn fifty_downloads_side_by_side_are_all_whole() {
    let served = Served::new(small_job::source());
    let over = served.until_over(&served.kick_off("/$export?_type=Observation").await).await.json();
    let path = path_of(over["output"][0]["url"].as_str().unwrap());
    let expected = served.get(&path).await.body;
    assert_eq!(expected.len() as u64, over["output"][0]["extension"]["bytes"].as_u64().unwrap());
    let answers = join_all((0..50).map(|_| served.get(&path))).await;
    assert!(answers.iter().all(|answer| answer.body == expected));
    assert_eq!(served.service.downloads(), 0);
}

/// A body that begins and never ends.
fn slow_body() -> Body {
    let begun = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))]);
    Body::from_stream(begun.chain(stream::pending()))
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_too_slowly_is_given_up_and_the_others_are_served() {
    let settings = Settings { starts_at_once: 1, body_timeout: Duration::from_secs(5), ..Settings::default() };
    let served = Served::set_up(settings, |files| {
        JobService::builder().config(config()).data_store(data_store("store1", small_job::source(), files))
    });
    let path = format!("{BASE}/$export");
    let slow = served.ask("POST", &path, JSON, slow_body());
    let others = async {
        tokio::task::yield_now().await;
        (served.get("/healthz").await.status, served.ask("POST", &path, JSON, healthlake_body()).await.status)
    };
    let (slow, others) = tokio::join!(slow, others);
    assert_eq!((slow.status, slow.issues()[0].0.as_str()), (StatusCode::REQUEST_TIMEOUT, "timeout"));
    assert_eq!(others, (StatusCode::OK, StatusCode::TOO_MANY_REQUESTS));
    let of_sdk = [("x-amz-target", "HealthLake.StartFHIRExportJob")];
    let slow = served.ask("POST", "/", &of_sdk, slow_body()).await;
    assert_eq!(slow.json()["__type"], "com.amazonaws.healthlake#ValidationException");
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_and_not_kept() {
    let served = Served::new(small_job::source());
    let pieces = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 64 << 10]))).take(160);
    let refused = served.ask("POST", &format!("{BASE}/$export"), JSON, Body::from_stream(pieces)).await;
    assert_eq!((refused.status, refused.issues()[0].0.as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "too-long"));
    let headers = [("x-amz-target", "HealthLake.ListFHIRExportJobs")];
    let refused = served.ask("POST", "/", &headers, " ".repeat(100 << 10)).await;
    assert_eq!(refused.json()["__type"], "com.amazonaws.healthlake#ValidationException");
}

#[tokio::test]
async fn longest_bodies_and_queries_are_settings() {
    let settings = Settings { body_bytes: 300, query_bytes: 40, ..Settings::default() };
    let served = Served::set_up(settings, |files| {
        JobService::builder().config(config()).data_store(data_store("store1", small_job::source(), files))
    });
    let path = format!("{BASE}/$export");
    let long = served.ask("POST", &path, JSON, " ".repeat(301)).await;
    assert_eq!((long.status, long.issues()[0].0.as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "too-long"));
    let fits = served.ask("POST", &path, JSON, " ".repeat(300)).await;
    assert_ne!(fits.status, StatusCode::PAYLOAD_TOO_LARGE);
    let of_length = |length| format!("{path}?_type={}", "a".repeat(length - "_type=".len()));
    let long = served.get(&of_length(41)).await;
    assert_eq!((long.status, long.issues()[0].0.as_str()), (StatusCode::URI_TOO_LONG, "too-long"));
    assert_eq!(served.get(&of_length(40)).await.status, StatusCode::BAD_REQUEST, "it is read, and no type");
}

#[tokio::test]
async fn a_query_that_is_too_long_is_refused_before_it_is_read() {
    let served = Served::new(small_job::source());
    for path in [format!("{BASE}/$export"), format!("{BASE}/export/x"), "/healthz".to_owned(), "/".to_owned()] {
        let answer = served.get(&format!("{path}?{}", "%".repeat((32 << 10) + 1))).await;
        assert_eq!(answer.status, StatusCode::URI_TOO_LONG, "{path}");
    }
}

#[tokio::test]
async fn data_stores_with_the_same_ids_stay_apart() {
    let lines = |count: usize| {
        let patient = |store: usize| format!("{{\"resourceType\":\"Patient\",\"id\":\"1\",\"store\":{store}}}\n");
        MemorySource::new().with(MemoryRange::lines("all", patient(count).repeat(count)))
    };
    let served = Served::set_up(Settings::default(), |files| {
        let builder = JobService::builder().config(config());
        builder.data_store(data_store("store1", lines(1), files)).data_store(data_store("store2", lines(2), files))
    });
    for (store, other, count) in [("store1", "store2", 1), ("store2", "store1", 2)] {
        let job = path_of(served.ask_to_start(store, "/$export").await.header("content-location"));
        let over = served.until_over(&job).await.json();
        assert_eq!(over["output"][0]["count"], count);
        let file = path_of(over["output"][0]["url"].as_str().unwrap());
        let body = served.get(&file).await.body;
        assert!(String::from_utf8_lossy(&body).lines().all(|line| line.contains(&format!("\"store\":{count}"))));
        for path in [&job, &file] {
            let of_other = path.replace(store, other);
            assert_eq!(served.get(&of_other).await.status, StatusCode::NOT_FOUND, "{of_other}");
            let deleted = served.ask("DELETE", &of_other, &[], Body::empty()).await;
            assert!(deleted.status.is_client_error(), "{of_other}");
        }
        let listed = served.service.list(store).await.unwrap();
        assert_eq!(listed.len(), 1);
    }
}

/// A source that says too much.
#[derive(Debug)]
struct Talkative;

#[async_trait]
impl Source for Talkative {
    fn name(&self) -> String {
        "postgres://secret-host/secret-path".to_owned()
    }

    async fn open(&self) -> fhir_export::Result<Box<dyn Snapshot>> {
        let cause = std::io::Error::other("password secret-password refused at /srv/secret-path");
        Err(Error::new(ErrorKind::NotFound, "no secret-table").with("url", "s3://secret-bucket/x").caused_by(cause))
    }
}

#[tokio::test]
async fn why_a_job_failed_is_told_without_any_place() {
    let served = Served::set_up(Settings::default(), |files| {
        JobService::builder().config(config()).data_store(data_store("store1", Talkative, files))
    });
    let job = served.kick_off("/$export").await;
    let failed = served.until_over(&job).await;
    assert_eq!((failed.status, failed.issues()), (StatusCode::INTERNAL_SERVER_ERROR, vec![("exception".into(), None)]));
    let started = served.ask("POST", &format!("{BASE}/$export"), JSON, healthlake_body()).await;
    let job = path_of(started.header("content-location"));
    let of_healthlake = served.until_over(&job).await;
    let properties = &of_healthlake.json()["exportJobProperties"];
    assert_eq!(properties["jobStatus"], "FAILED");
    assert_eq!(properties["message"], "something that the export needs is not there");
    let input = json!({"DatastoreId": "store1", "JobId": properties["jobId"]});
    let described = sdk::call(&served, "DescribeFHIRExportJob", &input).await;
    let listed = sdk::call(&served, "ListFHIRExportJobs", &json!({"DatastoreId": "store1"})).await;
    let group = served.ask_to_start("store1", "/Group/1/$export").await;
    assert_eq!(group.status, StatusCode::INTERNAL_SERVER_ERROR, "the source is gone, not the Group");
    for answer in [&failed, &of_healthlake, &described, &listed, &group] {
        assert!(!String::from_utf8_lossy(&answer.body).contains("secret"), "{answer:?}");
    }
}

/// A piece of it can't be read, and it says too much of why.
#[derive(Debug)]
struct Unreadable<S>(S);

#[async_trait]
impl Source for Unreadable<MemorySource> {
    fn name(&self) -> String {
        "/srv/secret-path".to_owned()
    }

    async fn open(&self) -> fhir_export::Result<Box<dyn Snapshot>> {
        Ok(Box::new(Unreadable(self.0.open().await?)))
    }
}

#[async_trait]
impl Snapshot for Unreadable<Box<dyn Snapshot>> {
    fn transaction_time(&self) -> Instant {
        self.0.transaction_time()
    }

    fn after_transaction_time(&self) -> AfterTransactionTime {
        self.0.after_transaction_time()
    }

    async fn plan(&self, asked: &Asked) -> fhir_export::Result<Plan> {
        self.0.plan(asked).await
    }

    async fn read(&self, range: &Range, from: &Cursor, sink: &mut dyn BlockSink) -> fhir_export::Result<()> {
        self.0.read(range, from, sink).await?;
        let cause = std::io::Error::other("GET https://secret-host/secret-path/b.ndjson");
        let error = Error::new(ErrorKind::Unreadable, "the object has vanished").with("offset", 7);
        Err(error.with("url", "s3://secret-bucket/b.ndjson").caused_by(cause))
    }
}

/// What the manifest of an export tells, and its error files.
async fn told(served: &Served) -> (Value, String) {
    let over = served.until_over(&served.kick_off("/$export").await).await;
    let manifest = over.json();
    let mut text = String::new();
    for file in manifest["error"].as_array().unwrap() {
        text += &String::from_utf8_lossy(&served.get(&path_of(file["url"].as_str().unwrap())).await.body);
    }
    (manifest, text)
}

#[tokio::test]
async fn what_could_not_be_read_is_told_by_its_name_in_the_source_and_without_any_other_place() {
    let broken = Unreadable(MemorySource::new().with(MemoryRange::lines("a/b.ndjson", "not a resource\n")));
    let (manifest, reports) = told(&Served::new(broken)).await;
    assert!(reports.contains("a/b.ndjson: the object has vanished (offset: 7)"), "{reports}");
    assert!(!format!("{manifest}{reports}").contains("secret"), "{manifest} {reports}");

    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("ward")).unwrap();
    std::fs::write(folder.path().join("ward/Patient.ndjson"), "{\"resourceType\":\"Patient\"}\nnot a resource\n")
        .unwrap();
    std::fs::write(folder.path().join("ward/Group.ndjson.gz"), [0x1f, 0x8b, 8, 0, 0, 0]).unwrap();
    let place = folder.path().to_str().unwrap();
    let (manifest, reports) = told(&Served::new(NdjsonSource::folder(folder.path()))).await;
    for name in ["ward/Patient.ndjson, offset 27, 14 bytes", "ward/Group.ndjson.gz: the file can't be decompressed"] {
        assert!(reports.contains(name), "{name}: {reports}");
    }
    assert!(!format!("{manifest}{reports}").contains(place), "{manifest} {reports}");
}

#[tokio::test]
async fn numbers_are_those_of_the_hosts_own_recorder() {
    let served = Served::new(small_job::source());
    assert_eq!(served.get("/metrics").await.status, StatusCode::NOT_FOUND);
    let metrics = Some(MetricsText::new(|| "fhir_export_read_resources_total 7\n".to_owned()));
    let served = Served::set_up(Settings { metrics, ..Settings::default() }, |files| {
        JobService::builder().config(config()).data_store(data_store("store1", small_job::source(), files))
    });
    let answer = served.get("/metrics").await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"fhir_export_read_resources_total 7\n"[..]));
    assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"));
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_starts_a_job_leaves_none_that_nobody_runs() {
    let served = Served::new(small_job::source());
    for polls in 1..20 {
        let path = format!("{BASE}/$export");
        let request = Request::get(path).header("prefer", "respond-async").header("host", "localhost:8080");
        let mut kick_off = Box::pin(served.response(request.body(Body::empty()).unwrap()));
        for _ in 0..polls {
            if futures::poll!(&mut kick_off).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(kick_off);
    }
    served.service.idle().await;
    let jobs = served.service.list("store1").await.unwrap();
    assert!(jobs.iter().all(|job| job.state.is_terminal()), "{jobs:?}");
}
