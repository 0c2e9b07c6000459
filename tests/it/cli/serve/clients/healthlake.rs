//! HealthLake's operation from end to end, to a strict S3 server with encryption.

use axum::http::StatusCode;
use regex::Regex;
use serde_json::{Value, json};

use super::super::super::kill::SOURCE;
use super::super::super::program::{Ended, command, end};
use super::super::client::{Answer, Server};
use super::super::{PREFER, environment};
use crate::support::proxy::{Act, Proxy, Recorded};
use crate::support::s3_server::BUCKET;
use crate::support::strict_server::{send, strict_server};

const STORE: &str = "clinic";

fn body(prefix: &str) -> String {
    let s3 = json!({"S3Uri": format!("s3://{BUCKET}/{prefix}"), "KmsKeyId": strict_server().kms_key});
    let role = "arn:aws:iam::444455556666:role/my-role";
    json!({"DataAccessRoleArn": role, "OutputDataConfig": {"S3Configuration": s3}}).to_string()
}

/// The answer to HealthLake's start of an export of everything.
async fn start_healthlake(server: &Server, body: &str) -> Answer {
    let url = format!("{}/$export", server.bases[0]);
    server.ask("POST", &url, &[PREFER, ("content-type", "application/fhir+json")], body).await
}

/// The keys below a prefix, as the store lists them.
async fn keys(prefix: &str) -> Vec<String> {
    let text = list(&format!("?list-type=2&prefix={prefix}%2F")).await;
    let key = Regex::new("<Key>([^<]+)</Key>").unwrap();
    key.captures_iter(&text).map(|found| found[1].to_owned()).collect()
}

async fn list(query: &str) -> String {
    let answer = send(strict_server().s3, "GET", query).await;
    assert_eq!(answer.status(), 200);
    String::from_utf8(answer.into_body().bytes().await.unwrap().to_vec()).unwrap()
}

/// Compares every object with the manifest, which lies beside the folder of the job.
fn verify(uri: &str) -> Ended {
    let manifest = format!("{}.manifest.json", uri.trim_end_matches('/'));
    let endpoint = format!("http://{}", strict_server().s3);
    end(command(&["verify", &manifest, "--endpoint", &endpoint]).envs(environment()))
}

/// The objects are those that the job says, where HealthLake puts them, encrypted with the caller's key, and whole.
async fn assert_stored(job: &str, prefix: &str, described: &Value) {
    let properties = &described["exportJobProperties"];
    let uri = format!("s3://{BUCKET}/{prefix}/{STORE}-FHIR_EXPORT-{job}/");
    assert_eq!(properties["outputDataConfig"]["s3Configuration"]["s3Uri"], uri.as_str());
    let urls = |list: &str| described[list].as_array().unwrap().iter().map(|file| file["url"].as_str().unwrap());
    let mut said: Vec<&str> = urls("output").chain(urls("error")).collect();
    assert!(said.len() > urls("error").count(), "{described}");
    said.sort();
    let below = format!("{prefix}/{STORE}-FHIR_EXPORT-{job}");
    let stored = keys(&below).await;
    assert_eq!(said, stored.iter().map(|key| format!("s3://{BUCKET}/{key}")).collect::<Vec<_>>());
    let name = Regex::new(r"^.+/([A-Z][A-Za-z]+)/([A-Z][A-Za-z]+)-[0-9]{1,19}-[0-9]-[0-9]+\.ndjson$").unwrap();
    for key in &stored {
        let pieces = name.captures(key).unwrap_or_else(|| panic!("{key} isn't HealthLake's"));
        assert_eq!(pieces[1], pieces[2]);
        let head = send(strict_server().s3, "HEAD", &format!("/{key}")).await;
        let header = |name| head.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(header("x-amz-server-side-encryption"), Some("aws:kms"), "{key}");
        let kms_key = header("x-amz-server-side-encryption-aws-kms-key-id").unwrap();
        assert!(kms_key.ends_with(&strict_server().kms_key), "{key}: {kms_key}");
    }
    let verified = verify(&uri);
    verified.assert_exit(0);
    assert_eq!(verified.stdout.lines().count(), stored.len() + 1, "{}", verified.stdout);
    let open = list(&format!("?prefix={prefix}%2F&uploads=")).await;
    assert!(!open.contains("<UploadId>"), "{open}");
}

fn is_of_observations(request: &Recorded) -> bool {
    request.target.contains("Observation") && (request.is_put() || request.is_part() || request.is_complete())
}

fn is_part_of_patients(request: &Recorded) -> bool {
    request.target.contains("/Patient/") && request.is_part()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_export_is_whole_in_the_callers_bucket_and_one_that_is_cancelled_is_sealed() {
    let (proxy, folder) = (Proxy::start(strict_server().s3).await, tempfile::tempdir().unwrap());
    let endpoint = format!("http://{}", proxy.address());
    let arguments = ["--listen", "127.0.0.1:0", "--endpoint", &endpoint, "--datastore-id", STORE, "--source"];
    let server = Server::start(&[&arguments[..], &[SOURCE.to_str().unwrap()]].concat(), folder.path());

    let started = start_healthlake(&server, &body("serve-whole")).await;
    assert_eq!(started.status, StatusCode::ACCEPTED, "{started:?}");
    let stub = started.json();
    let whole = stub["jobId"].as_str().unwrap();
    assert_eq!(stub, json!({"datastoreId": STORE, "jobStatus": "SUBMITTED", "jobId": whole}));
    let url = started.header("content-location");
    assert_eq!(url, format!("{}/export/{whole}", server.bases[0]));
    let described = server.until_over(url).await.json();
    assert_eq!(described["exportJobProperties"]["jobStatus"], "COMPLETED_WITH_ERRORS", "some lines aren't understood");
    assert_stored(whole, "serve-whole", &described).await;

    // Some Patients are durable, and the Observations keep the job from ending.
    let parts = proxy.of(is_part_of_patients).len();
    proxy.next(usize::MAX, is_of_observations, Act::error(503, "SlowDown"));
    let started = start_healthlake(&server, &body("serve-sealed")).await.json();
    let sealed = started["jobId"].as_str().unwrap();
    let url = format!("{}/export/{sealed}", server.bases[0]);
    server.until_state(&url, "IN_PROGRESS").await;
    let begun = async {
        while proxy.of(is_part_of_patients).len() == parts {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(super::HANGS_AFTER, begun).await.expect("Patients are sent");
    let deleted = server.ask("DELETE", &url, &[], "").await;
    assert_eq!(deleted.status, StatusCode::ACCEPTED);
    let properties = json!({"jobId": sealed, "jobStatus": "CANCEL_SUBMITTED", "datastoreId": STORE});
    assert_eq!(deleted.json(), json!({"exportJobProperties": properties}));
    proxy.behave();
    let described = server.until_over(&url).await.json();
    assert_eq!(described["exportJobProperties"]["jobStatus"], "CANCEL_COMPLETED");
    assert_stored(sealed, "serve-sealed", &described).await;
    let refused = server.ask("DELETE", &url, &[], "").await;
    assert_eq!(
        (refused.status, &refused.json()["issue"][0]["code"]),
        (StatusCode::BAD_REQUEST, &json!("not-supported"))
    );
}
