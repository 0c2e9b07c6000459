//! smart-fetch that is killed while it waits: the next one goes on, or cancels.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::Value;

use super::super::super::program::small;
use super::super::block;
use super::super::client::{Server, config};
use super::smart_fetch::{downloaded, smart_fetch};
use super::{HANGS_AFTER, run};
use crate::support::naive::{self, Level, NaiveRequest};
use crate::support::ndjson_files;
use crate::support::s3_server::{BUCKET, S3Server};

const TYPES: [&str; 3] = ["bulk", "--type", "patient,condition"];

/// A server whose files lie in a store, which takes nothing yet, and a client that was killed while it waited.
async fn interrupted(store: &S3Server, folder: &Path) -> (Server, PathBuf, String) {
    block(store);
    let text = format!(
        "listen = '127.0.0.1:0'\n[files]\nto = 's3://{BUCKET}/kept'\n[s3]\nendpoint = 'http://{}'\n\
         [[data_stores]]\nid = 'clinic'\nsource = '{}'\n",
        store.address(),
        small().display()
    );
    let server = Server::start(&["--config", &config(folder, &text)], folder);
    let to = folder.join("out");
    let mut waiting = smart_fetch(&server, &to, &[&TYPES[..], &["--no-compression"]].concat());
    let mut waiting = waiting.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let noted = tokio::time::timeout(HANGS_AFTER, noted_job(&to));
    let job = noted.await.expect("it notes the job that it has started");
    waiting.kill().await.unwrap();
    server.until_state(&job, "IN_PROGRESS").await;
    (server, to, job)
}

/// The URL of the job that it has noted.
async fn noted_job(folder: &Path) -> String {
    loop {
        let noted = std::fs::read(folder.join(".metadata")).unwrap_or_default();
        let noted: Value = serde_json::from_slice(&noted).unwrap_or_default();
        if let Some(url) = noted["bulk-status"].as_str() {
            return url.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_client_has_started_the_next_one_downloads_by_signed_urls() {
    let (store, folder) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let (server, to, job) = interrupted(&store, folder.path()).await;
    store.proxy.behave();
    let ended = run(&mut smart_fetch(&server, &to, &[&TYPES[..], &["--no-compression"]].concat())).await;
    ended.assert_exit(0);
    assert!(ended.stdout.contains("Resuming bulk FHIR export"), "{}", ended.stdout);
    let types = Some(["Patient", "Condition"].map(str::to_owned).into());
    let expected =
        naive::export(&ndjson_files("small"), &NaiveRequest { types, ..NaiveRequest::new(Level::System) }).unwrap();
    assert!(downloaded(&to) == expected.output);
    let signed = store.proxy.of(|request| request.method == "GET" && request.target.contains("X-Amz-Signature="));
    assert_eq!(signed.len(), 2, "from the store itself");
    assert_eq!(server.get(&job).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_client_has_started_the_next_one_cancels() {
    let (store, folder) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let (server, to, job) = interrupted(&store, folder.path()).await;
    run(&mut smart_fetch(&server, &to, &[&TYPES[..], &["--cancel"]].concat())).await.assert_exit(0);
    assert_eq!(server.get(&job).await.status, StatusCode::NOT_FOUND);
    store.proxy.behave();
    // The place in the queue is free again.
    let next = server.kick_off(&server.bases[0], "?_type=Patient").await;
    assert_eq!(server.until_over(&next).await.status, StatusCode::OK);
}
