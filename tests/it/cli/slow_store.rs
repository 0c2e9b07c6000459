//! The program and a store that takes a mebibyte a second: memory, and what is told.

use std::fs;
use std::time::Duration;

use super::program::command;
use super::signals::Running;
use crate::support::proxy::Act;
use crate::support::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

const MIB: u64 = 1 << 20;

/// The budget of these exports.
const BUDGET_BYTES: u64 = 64 * MIB;

/// The program itself with its threads and connections, and what lies outside the budget: 16 MiB each. Measured: 20 MiB
/// together.
const BASE_AND_REST_BYTES: u64 = 32 * MIB;

/// Starts an export of 200 MiB that doesn't compress.
async fn start(server: &S3Server, folder: &std::path::Path, more: &[&str]) -> Running {
    let source = folder.join("Observation.ndjson");
    let line = format!("{{\"resourceType\":\"Observation\",\"id\":\"1\",\"text\":\"{}\"}}\n", "x".repeat(4000));
    fs::write(&source, line.repeat(200 * MIB as usize / line.len())).unwrap();
    let (to, endpoint) = (format!("s3://{BUCKET}/slow"), format!("http://{}", server.address()));
    let mut command =
        command(&["run", "--progress", "json", "--to", &to, "--endpoint", &endpoint, "--memory", "64MiB"]);
    command.args(["--datastore-id", "d", "--source"]).arg(&source).arg("--state").arg(folder.join("state")).args(more);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    // Else glibc keeps an arena for each thread, of which it gives back nothing.
    command.env("MALLOC_ARENA_MAX", "1").env("MALLOC_MMAP_THRESHOLD_", "131072");
    Running::start(command)
}

/// The most memory that a process has had, in bytes.
fn peak_bytes(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_slow_or_silent_takes_no_more_memory_than_the_formula_says() {
    for is_silent in [false, true] {
        let server = S3Server::start().await;
        match is_silent {
            true => server.proxy.next(usize::MAX, |request| request.is_part(), Act::Stall),
            false => server.proxy.pace(MIB as usize),
        }
        let folder = tempfile::tempdir().unwrap();
        let running = start(&server, folder.path(), &["--seal-timeout", "0"]).await;
        let (peak, ended) = tokio::task::spawn_blocking(move || {
            let mut running = running;
            running.has_read_something();
            // Until all is full, and for a while.
            std::thread::sleep(Duration::from_secs(3));
            let peak = peak_bytes(running.id());
            running.signal("INT");
            running.event(|event| event["event"] == "cancelling");
            (peak, running.end())
        })
        .await
        .unwrap();
        assert_eq!(ended.0, Some(130), "{}", ended.1);
        println!("silent: {is_silent}, peak: {} MiB", peak / MIB);
        assert!(peak > 30 * MIB && peak < BUDGET_BYTES + BASE_AND_REST_BYTES, "{} MiB", peak / MIB);
        assert_eq!(server.left_open(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_calls_are_told_by_cause() {
    let server = S3Server::start().await;
    server.proxy.next(2, |request| request.is_part(), Act::error(503, "SlowDown"));
    server.proxy.next(1, |request| request.is_part(), Act::ResetMidway);
    let folder = tempfile::tempdir().unwrap();
    let running = start(&server, folder.path(), &[]).await;
    let (last, ended) = tokio::task::spawn_blocking(move || {
        let mut running = running;
        let last = running.event(|event| event["event"] == "progress" && event["failedCalls"] == 3);
        (last, running.end())
    })
    .await
    .unwrap();
    assert_eq!(ended.0, Some(0), "{}", ended.1);
    assert_eq!(last["failedCallsByCause"], serde_json::json!({ "throttled": 2, "connection": 1 }));
}
