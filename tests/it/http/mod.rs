//! The HTTP face, asked as clients ask it.

#[cfg(feature = "auth")]
mod access;
mod arbitrary;
mod expiry;
mod load;
mod parameters;
mod queue;
mod rows;
mod sdk;
mod served;

use axum::body::Body;
use axum::http::StatusCode;
use fhir_export::source::memory::{Gate, MemoryRange, MemorySource};
use proptest::prelude::*;
use serde_json::{Value, json};

use self::served::{Answer, BASE, Served, path_of};
use crate::support::small_job;

const ROLE: &str = "arn:aws:iam::444455556666:role/my-role";
const JSON: &[(&str, &str)] = &[("content-type", "application/fhir+json"), ("prefer", "respond-async")];

/// HealthLake's body.
fn healthlake_body() -> String {
    let s3 = json!({"S3Uri": "s3://my-bucket/prefix", "KmsKeyId": "alias/exports"});
    let body = json!({"JobName": "my-job", "DataAccessRoleArn": ROLE, "OutputDataConfig": {"S3Configuration": s3}});
    body.to_string()
}

fn grouped_source() -> MemorySource {
    let lines = "{\"resourceType\":\"Patient\",\"id\":\"1\"}\n{\"resourceType\":\"Patient\",\"id\":\"2\"}\n\
        {\"resourceType\":\"Group\",\"id\":\"g\",\"actual\":true,\"member\":[{\"entity\":{\"reference\":\"Patient/1\"}}]}\n\
        {\"resourceType\":\"Observation\",\"id\":\"3\",\"subject\":{\"reference\":\"Patient/1\"}}\n\
        {\"resourceType\":\"Observation\",\"id\":\"4\",\"subject\":{\"reference\":\"Patient/2\"}}\n";
    MemorySource::new().with(MemoryRange::lines("all", lines))
}

#[tokio::test]
async fn an_export_of_the_profile_is_started_asked_for_downloaded_and_deleted() {
    let served = Served::new(small_job::source());
    let job = served.kick_off("/$export").await;
    let over = served.until_over(&job).await;
    assert_eq!((over.status, over.header("content-type")), (StatusCode::OK, "application/json"));
    assert!(over.header("expires").ends_with(" GMT"));
    let manifest = over.json();
    assert_eq!(manifest["request"], "http://localhost:8080/datastore/store1/r4/$export");
    assert_eq!(manifest["requiresAccessToken"], false);
    assert_eq!(manifest["exportJobProperties"]["jobStatus"], "COMPLETED_WITH_ERRORS");
    let mut types = Vec::new();
    for file in manifest["output"].as_array().unwrap() {
        let path = path_of(file["url"].as_str().unwrap());
        assert!(path.ends_with(".ndjson") && path.len() < 200, "{path}");
        let answer = served.get(&path).await;
        assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "application/fhir+ndjson"));
        let lines = answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
        assert_eq!(lines as u64, file["count"].as_u64().unwrap());
        types.push(file["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(types, ["Binary", "Observation", "Patient"]);
    assert_eq!(manifest["error"].as_array().unwrap().len(), 1, "the lines that aren't understood");
    let deleted = served.ask("DELETE", &job, &[], Body::empty()).await;
    assert_eq!(deleted.status, StatusCode::ACCEPTED);
    assert!(served.files.keys().is_empty(), "its files are gone");
    for (method, path) in [("GET", job.as_str()), ("DELETE", &job)] {
        let gone = served.ask(method, path, &[], Body::empty()).await;
        assert_eq!((gone.status, gone.issues()), (StatusCode::NOT_FOUND, vec![("not-found".to_owned(), None)]));
    }
}

#[tokio::test]
async fn healthlakes_operation_writes_where_its_caller_says() {
    let served = Served::new(grouped_source());
    let path = format!("{BASE}/Group/g/$export?_type=Patient,Observation&_since=2020-01-01T00%3A00%3A00.461Z");
    let started = served.ask("POST", &path, JSON, healthlake_body()).await;
    assert_eq!(started.status, StatusCode::ACCEPTED, "{started:?}");
    let stub = started.json();
    assert_eq!((&stub["datastoreId"], &stub["jobStatus"]), (&json!("store1"), &json!("SUBMITTED")));
    let job = path_of(started.header("content-location"));
    assert!(job.ends_with(stub["jobId"].as_str().unwrap()));
    let over = served.until_over(&job).await;
    assert_eq!(over.status, StatusCode::OK);
    let body = over.json();
    let properties = &body["exportJobProperties"];
    assert_eq!((&properties["jobStatus"], &properties["jobName"]), (&json!("COMPLETED"), &json!("my-job")));
    assert_eq!(properties["dataAccessRoleArn"], ROLE);
    let folder = format!("s3://my-bucket/prefix/store1-FHIR_EXPORT-{}/", stub["jobId"].as_str().unwrap());
    let s3 = &properties["outputDataConfig"]["s3Configuration"];
    assert_eq!((&s3["s3Uri"], &s3["kmsKeyId"]), (&json!(folder), &json!("alias/exports")));
    let request = "http://localhost:8080/datastore/store1/r4/Group/g/$export\
        ?_type=Observation,Patient&_since=2020-01-01T00:00:00.461Z&_outputFormat=application/fhir+ndjson";
    assert_eq!(body["request"], request);
    let counts: Vec<_> =
        body["output"].as_array().unwrap().iter().map(|file| (&file["type"], &file["count"])).collect();
    assert_eq!(counts, [(&json!("Observation"), &json!(1)), (&json!("Patient"), &json!(1))]);
    assert!(served.files.keys().is_empty() && !served.buckets.bucket.keys().is_empty());
    let asked = served.buckets.asked.lock().unwrap()[0].0.s3_uri.to_string();
    assert_eq!(asked, "s3://my-bucket/prefix");
    let refused = served.ask("DELETE", &job, &[], Body::empty()).await;
    let literal = json!({"resourceType": "OperationOutcome", "issue":
        [{"severity": "error", "code": "not-supported", "diagnostics": "Interaction not supported."}]});
    assert_eq!((refused.status, refused.json()), (StatusCode::BAD_REQUEST, literal), "a job that is over");
}

#[tokio::test]
async fn keys_come_in_healthlakes_order() {
    let served = Served::new(grouped_source());
    let started = served.ask("POST", &format!("{BASE}/$export"), JSON, healthlake_body()).await;
    let text = String::from_utf8(started.body.to_vec()).unwrap();
    assert!(text.starts_with("{\"datastoreId\":\"store1\",\"jobStatus\":\"SUBMITTED\",\"jobId\":"), "{text}");
    let over = served.until_over(&path_of(started.header("content-location"))).await;
    let text = String::from_utf8(over.body.to_vec()).unwrap();
    let places = ["exportJobProperties", "transactionTime", "request", "requiresAccessToken", "output", "error"]
        .map(|key| text.find(&format!("\"{key}\":")).unwrap());
    assert!(places.is_sorted(), "{text}");
}

#[tokio::test]
async fn a_running_job_tells_how_far_it_is_and_ends_when_it_is_cancelled() {
    let gate = Gate::new();
    let served = Served::new(small_job::source_stalled_at("second", 0, &gate));
    let started = served.ask("POST", &format!("{BASE}/$export"), JSON, healthlake_body()).await;
    let job = path_of(started.header("content-location"));
    gate.reached().await;
    let waiting = served.kick_off("/$export?_type=Patient").await;
    let running = served.get(&job).await;
    assert_eq!(running.status, StatusCode::ACCEPTED);
    assert!(running.header("x-progress").starts_with(|c: char| c.is_ascii_digit()));
    assert!(!running.header("x-progress").starts_with("100%"));
    assert!(running.header("retry-after").parse::<u32>().unwrap() > 0);
    let body = running.json();
    assert_eq!(body["exportJobProperties"]["jobStatus"], "IN_PROGRESS");
    assert!(body.get("resourceType").is_none() && body.get("output").is_none());
    let cancelled = served.ask("DELETE", &job, &[], Body::empty()).await;
    assert_eq!(cancelled.status, StatusCode::ACCEPTED);
    assert_eq!(cancelled.json()["exportJobProperties"]["jobStatus"], "CANCEL_SUBMITTED");
    let over = served.until_over(&job).await.json();
    assert_eq!(over["exportJobProperties"]["jobStatus"], "CANCEL_COMPLETED");
    assert!(over["transactionTime"].is_string(), "what was sealed is listed: {over}");
    gate.open();
    assert_eq!(served.until_over(&waiting).await.status, StatusCode::OK, "the next in line has had its turn");
}

#[tokio::test]
async fn a_running_export_of_the_profile_is_gone_at_once_when_it_is_deleted() {
    let gate = Gate::new();
    let served = Served::new(small_job::source_stalled_at("second", 0, &gate));
    let job = served.kick_off("/$export").await;
    gate.reached().await;
    assert_eq!(served.ask("DELETE", &job, &[], Body::empty()).await.status, StatusCode::ACCEPTED);
    assert_eq!(served.get(&job).await.status, StatusCode::NOT_FOUND);
    gate.open();
    served.service.idle().await;
    assert!(served.files.keys().is_empty() && served.files.open_count() == 0, "and leaves nothing");
    assert_eq!(served.get(&job).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn all_faults_of_a_request_are_told_at_once_each_by_its_name() {
    let served = Served::new(grouped_source());
    let path = format!("{BASE}/$export?_type=Foo&_since=2020&_elements=id&_outputFormat=csv");
    let refused = served.ask("POST", &path, &[("content-type", "application/json")], "{\"JobName\":\"a,b\"}").await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    let named: Vec<_> = refused.issues().into_iter().filter_map(|(_, expression)| expression).collect();
    let expected = ["_type", "_since", "_elements", "_outputFormat", "Prefer", "JobName", "DataAccessRoleArn"];
    assert_eq!(named[..7], expected);
    assert!(served.service.list("store1").await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_offered_is_refused_with_an_outcome() {
    let served = Served::new(grouped_source());
    let not_found = StatusCode::NOT_FOUND;
    for (method, path, status, code) in [
        ("GET", "/datastore/other/r4/$export", not_found, "not-found"),
        ("GET", "/datastore/store1/r4/Group/nobody/$export", not_found, "not-found"),
        ("GET", "/datastore/store1/r4/export/unknown", not_found, "not-found"),
        ("GET", "/datastore/store1/r4/export/unknown/files/a.ndjson", not_found, "not-found"),
        ("GET", "/datastore/store1/r4/export", StatusCode::BAD_REQUEST, "not-supported"),
        ("PUT", "/datastore/store1/r4/$export", StatusCode::BAD_REQUEST, "not-supported"),
        ("POST", "/datastore/store1/r4", StatusCode::BAD_REQUEST, "not-supported"),
        ("POST", "/datastore/store1/r4/", StatusCode::BAD_REQUEST, "not-supported"),
        ("GET", "/datastore/store1/r4/Patient/1", StatusCode::BAD_REQUEST, "not-supported"),
        ("GET", "/elsewhere", StatusCode::BAD_REQUEST, "not-supported"),
    ] {
        let answer = served.ask(method, path, &[("prefer", "respond-async")], Body::empty()).await;
        assert_eq!((answer.status, answer.issues()[0].0.as_str()), (status, code), "{method} {path}");
    }
    let path = format!("{BASE}/$export");
    for (headers, status) in [
        (&[("content-type", "text/plain"), ("prefer", "respond-async")], StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (&[("content-type", "application/json"), ("accept", "text/html")], StatusCode::BAD_REQUEST),
    ] {
        let answer = served.ask("POST", &path, headers, "{}").await;
        assert_eq!((answer.status, answer.issues().is_empty()), (status, false), "{headers:?}");
    }
    let html = served.ask("GET", &path, &[("accept", "text/html")], Body::empty()).await;
    assert_eq!(html.status, StatusCode::NOT_ACCEPTABLE);
}

#[tokio::test]
async fn parameters_and_empty_bodies_ask_for_the_profile() {
    let served = Served::new(grouped_source());
    let parameters = json!({"resourceType": "Parameters", "parameter": [{"name": "_type", "valueString": "Patient"}]});
    for (path, body) in [("/$export", parameters.to_string()), ("/%24export?_type=Patient", String::new())] {
        let started = served.ask("POST", &format!("{BASE}{path}"), JSON, body).await;
        assert_eq!((started.status, started.body.len()), (StatusCode::ACCEPTED, 0), "{started:?}");
        let over = served.until_over(&path_of(started.header("content-location"))).await.json();
        assert_eq!(over["output"][0]["count"], 2);
        assert_eq!(over["output"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_client_may_ask_for_the_jobs_own_status_apart_from_that_of_its_poll() {
    let gate = Gate::new();
    let served = Served::new(small_job::source_stalled_at("second", 0, &gate));
    let prefer = [("prefer", "respond-async, separate-export-status")];
    let started = served.ask("GET", &format!("{BASE}/$export"), &prefer, Body::empty()).await;
    assert_eq!(started.header("preference-applied"), "respond-async, separate-export-status");
    let job = path_of(started.header("content-location"));
    gate.reached().await;
    let running = served.get(&job).await;
    assert_eq!((running.status, running.header("x-export-status")), (StatusCode::OK, "202"));
    gate.open();
    served.service.idle().await;
    let over = served.get(&job).await;
    assert_eq!((over.status, over.header("x-export-status")), (StatusCode::OK, "200"));
    assert!(over.json()["output"].is_array());
}

#[tokio::test]
async fn a_lenient_client_gets_its_export_without_what_is_not_supported() {
    let served = Served::new(grouped_source());
    let prefer = [("prefer", "respond-async"), ("prefer", "handling=lenient")];
    let started = served.ask("GET", &format!("{BASE}/$export?_elements=id"), &prefer, Body::empty()).await;
    assert_eq!(started.status, StatusCode::ACCEPTED);
    let over = served.until_over(&path_of(started.header("content-location"))).await;
    assert_eq!(over.status, StatusCode::OK);
}

#[tokio::test]
async fn files_are_read_in_ranges_and_not_again_if_they_are_the_same() {
    let served = Served::new(small_job::source());
    let over = served.until_over(&served.kick_off("/$export?_type=Patient").await).await.json();
    let path = path_of(over["output"][0]["url"].as_str().unwrap());
    let whole = served.get(&path).await;
    let etag = whole.header("etag").to_owned();
    let ask = |name: &'static str, value: String| {
        let (served, path) = (&served, &path);
        async move { served.ask("GET", path, &[(name, &value)], Body::empty()).await }
    };
    let mut joined = Vec::new();
    for begin in (0..whole.body.len()).step_by(100) {
        let part: Answer = ask("range", format!("bytes={begin}-{}", begin + 99)).await;
        assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(part.header("content-length"), part.body.len().to_string());
        joined.extend_from_slice(&part.body);
    }
    assert_eq!(joined, whole.body);
    let tail = ask("range", "bytes=-7".to_owned()).await;
    assert_eq!(tail.body, whole.body.slice(whole.body.len() - 7..));
    assert_eq!(ask("range", "bytes=99999999-".to_owned()).await.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(ask("if-none-match", etag.clone()).await.status, StatusCode::NOT_MODIFIED);
    let other = [("range", "bytes=0-9"), ("if-range", "\"another\"")];
    assert_eq!(served.ask("GET", &path, &other, Body::empty()).await.status, StatusCode::OK);
}

#[test]
fn a_server_that_starts_again_goes_on_with_its_jobs() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (before, jobs) = first.block_on(async {
        let gate = Gate::new();
        let served = Served::new(small_job::source_stalled_at("second", 0, &gate));
        let jobs = [served.kick_off("/$export").await, served.kick_off("/$export?_type=Patient").await];
        gate.reached().await;
        (served, jobs)
    });
    drop(first);
    runtime().block_on(async {
        let served = Served::after(&before, small_job::source());
        drop(before);
        assert_eq!(served.service.recover().await.unwrap(), 2);
        let over = [served.until_over(&jobs[0]).await, served.until_over(&jobs[1]).await];
        assert!(over.iter().all(|over| over.status == StatusCode::OK), "{over:?}");
        let of_patients = |over: &Answer| -> Value {
            let json = over.json();
            let mut files = json["output"].as_array().unwrap().iter();
            files.find(|file| file["type"] == "Patient").unwrap()["count"].clone()
        };
        assert_eq!((of_patients(&over[0]), of_patients(&over[1])), (json!(22), json!(22)));
    });
}

#[tokio::test]
async fn a_statement_says_what_can_be_exported() {
    let served = Served::new(grouped_source());
    let statement = served.get(&format!("{BASE}/metadata")).await;
    assert_eq!(statement.header("content-type"), "application/fhir+json");
    let rest = statement.json()["rest"][0].clone();
    let resources = rest["resource"].as_array().unwrap();
    assert_eq!(resources.len(), 146);
    let operation = |name: &str| {
        let found = resources.iter().find(|resource| resource["type"] == name).unwrap();
        found["operation"][0]["definition"].as_str().map(str::to_owned)
    };
    let definitions = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition";
    assert_eq!(rest["operation"][0]["definition"], format!("{definitions}/export"));
    assert_eq!(operation("Patient"), Some(format!("{definitions}/patient-export")));
    assert_eq!(operation("Group"), Some(format!("{definitions}/group-export")));
    assert_eq!(operation("Observation"), None);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(served.get(path).await.status, StatusCode::OK);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_is_asked_the_server_does_not_fail_and_refuses_with_outcomes(
        method in prop::sample::select(vec!["GET", "POST", "DELETE", "PUT", "HEAD"]),
        path in "(/datastore/(store1|x)/r4)?(/(\\$export|%24export|Patient/\\$export|Group/[a-z%]{1,4}/\\$export|export/[a-z0-9%]{0,40}|metadata|[a-z$]{0,8})){0,2}",
        query in "(\\?[a-zA-Z_=&%+,.:0-9\\-]{0,40})?",
        body in "\\PC{0,60}|\\{\"resourceType\":\"\\PC{0,10}\",\"parameter\":[\\[\\]{}\":a-z]{0,20}\\}",
        prefer in "[ -~]{0,30}",
    ) {
        let uri = format!("{}{query}", if path.is_empty() { "/" } else { &path });
        prop_assume!(uri.parse::<axum::http::Uri>().is_ok());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let served = Served::new(grouped_source());
            let headers = [("content-type", "application/fhir+json"), ("prefer", prefer.as_str())];
            let answer = served.ask(method, &uri, &headers, body).await;
            assert!(answer.status.as_u16() < 500, "{method} {uri}: {answer:?}");
            if answer.status.is_client_error() && method != "HEAD" && uri.split('?').next() != Some("/") {
                answer.issues();
            }
        });
    }
}
