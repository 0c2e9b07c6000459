//! Ctrl-C and SIGTERM, mid-way.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Lines, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use super::program::{binary, command, manifest_in, manifest_path, small};
use crate::support::files_below;
use crate::support::proxy::Act;
use crate::support::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

/// A program that runs, and its events.
pub(super) struct Running {
    child: Child,
    events: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub(super) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let events = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, events }
    }

    /// Reads events up to the first that is wanted.
    pub(super) fn event(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut events = self.events.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        events.find(wanted).expect("the event comes")
    }

    pub(super) fn has_read_something(&mut self) {
        self.event(|event| event["event"] == "progress" && event["types"][0]["read"]["resources"].as_u64() > Some(0));
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end; gives the exit code and what it said on stderr.
    pub(super) fn end(mut self) -> (Option<i32>, String) {
        self.events.by_ref().for_each(drop);
        let code = self.child.wait().unwrap().code();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (code, said)
    }
}

/// A source that takes minutes: some Patients, then a line of a tebibyte, which takes no space on the disk.
fn endless(folder: &Path) {
    let path = folder.join("Patient.ndjson");
    fs::copy(small().join("Patient.ndjson"), &path).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
}

fn run(source: &Path, to: &str, more: &[&str]) -> Command {
    let mut command = command(&["run", "--progress", "json", "--to", to, "--source"]);
    command.arg(source).args(more);
    command
}

#[test]
fn an_interrupted_export_is_sealed_and_verifies() {
    let (source, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    endless(source.path());
    let mut running = Running::start(run(source.path(), folder.path().to_str().unwrap(), &[]));
    running.has_read_something();
    running.signal("INT");
    let finished = running.event(|event| event["event"] == "finished");
    let (code, said) = running.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.starts_with("fhir-export: SIGINT: completing"), "{said}");
    assert_eq!((&finished["state"], &finished["exitCode"]), (&"CANCEL_COMPLETED".into(), &130.into()));

    let patients = fs::read(small().join("Patient.ndjson")).unwrap();
    let manifest = manifest_in(folder.path());
    let object = &manifest["output"][0];
    assert_eq!(fs::read(folder.path().join(object["extension"]["key"].as_str().unwrap())).unwrap(), patients);
    assert_eq!(object["extension"]["partial"], true);
    binary(&["verify", manifest_path(folder.path()).to_str().unwrap()]).assert_exit(0);
    assert_eq!(files_below(folder.path(), |_| true).len(), 2, "the object and the manifest");
}

#[test]
fn a_terminated_export_leaves_no_object_if_it_was_told_to_discard() {
    let (source, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    endless(source.path());
    let mut running = Running::start(run(source.path(), folder.path().to_str().unwrap(), &["--on-cancel", "discard"]));
    running.has_read_something();
    running.signal("TERM");
    let cancelling = running.event(|event| event["event"] == "cancelling");
    assert_eq!((&cancelling["signal"], &cancelling["onCancel"]), (&"SIGTERM".into(), &"discard".into()));
    let (code, said) = running.end();
    assert_eq!(code, Some(130), "{said}");
    assert_eq!(manifest_in(folder.path())["output"], Value::Array(Vec::new()));
    assert_eq!(files_below(folder.path(), |_| true).len(), 1, "the manifest");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_at_once() {
    let server = S3Server::start().await;
    // The store never takes an object, so sealing would last its ten minutes.
    server.proxy.next(usize::MAX, |request| request.is_put() || request.is_begin(), Act::error(503, "SlowDown"));
    let endpoint = format!("http://{}", server.address());
    let mut command = run(&small(), &format!("s3://{BUCKET}/x"), &["--endpoint", &endpoint, "--seal-timeout", "600"]);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    let stopped = tokio::task::spawn_blocking(move || {
        let mut running = Running::start(command);
        running.has_read_something();
        running.signal("INT");
        running.event(|event| event["event"] == "cancelling");
        running.signal("TERM");
        running.end()
    });
    let (code, said) = stopped.await.unwrap();
    assert_eq!(code, Some(130), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.last().unwrap().starts_with("fhir-export: SIGTERM: stopped"), "{said}");
}
