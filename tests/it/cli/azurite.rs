//! The program and Azure Blob Storage, which Azurite plays: export, cancel, kill, resume.

use std::path::Path;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::kill::{Moments, SOURCE, killed};
use super::program::{Ended, command, end};
use super::signals::Running;
use crate::support::script;

const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// The URL of the server, which the first test that asks for it starts.
///
/// # Panics
/// When it can't be started: a test that can't run fails.
fn server() -> &'static str {
    static SERVER: OnceLock<Result<(String, Child), String>> = OnceLock::new();
    let started = SERVER.get_or_init(|| {
        let (told, script) = script::start("azurite.py")?;
        Ok((told["url"].as_str().unwrap().to_owned(), script))
    });
    let (url, _) = started.as_ref().unwrap_or_else(|error| {
        panic!(
            "Azurite can't be started: {error}\nIt needs Python 3, Node and npm, and npm's registry once. To run all tests \
             but these: cargo test --all-features -- --skip azurite"
        )
    });
    url
}

fn azure(arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.env("AZURE_STORAGE_USE_EMULATOR", "true").env("AZURITE_BLOB_STORAGE_URL", server());
    command.env("AZURE_STORAGE_ACCOUNT_KEY", KEY);
    command
}

fn run(prefix: &str, state: &Path) -> Command {
    let to = format!("az://bench/{prefix}");
    let mut command = azure(&["run", "--to", &to, "--progress", "json", "--memory", "64MiB", "--source"]);
    command.arg(&*SOURCE).arg("--state").arg(state);
    command
}

fn resume(state: &Path) -> Command {
    let mut command = azure(&["resume", "--progress", "json", "--state"]);
    command.arg(state);
    command
}

fn finished(ended: &Ended) -> Value {
    let last = ended.stdout.lines().last().unwrap_or_else(|| panic!("{ended:?}"));
    let event: Value = serde_json::from_str(last).unwrap();
    assert_eq!(event["event"], "finished", "{ended:?}");
    event
}

/// Everything that the manifest lists is as it says, and nothing else is in the folder of the job.
#[track_caller]
fn assert_verifies(finished: &Value) {
    end(&mut azure(&["verify", finished["manifestUrl"].as_str().unwrap()])).assert_exit(0);
}

fn undisturbed(prefix: &str) -> (Value, Duration) {
    let (state, began) = (tempfile::tempdir().unwrap(), Instant::now());
    let ended = end(&mut run(prefix, state.path()));
    ended.assert_exit(3);
    (finished(&ended), began.elapsed())
}

#[test]
fn an_export_to_azure_that_is_killed_goes_on_to_the_same_books() {
    let (expected, time) = undisturbed("whole");
    assert_verifies(&expected);
    let mut moments = Moments(7);
    let mut interrupted = 0;
    for number in 0..40 {
        // At least one, however fast the machine is.
        if number >= 6 && interrupted > 0 {
            break;
        }
        let state = tempfile::tempdir().unwrap();
        if !killed(&mut run(&format!("killed-{number}"), state.path()), moments.within(time.mul_f64(0.9))) {
            continue;
        }
        let ended = end(&mut resume(state.path()));
        if !ended.stderr.is_empty() && ended.stdout.is_empty() && ended.code == Some(0) {
            // It was killed before the job had a record.
            continue;
        }
        ended.assert_exit(3);
        let resumed = finished(&ended);
        interrupted += 1;
        assert_eq!(resumed["ledger"], expected["ledger"], "round {number}");
        assert_eq!(resumed["bytes"], expected["bytes"], "round {number}");
        assert_verifies(&resumed);
    }
    println!("{interrupted} were interrupted");
    assert!(interrupted > 0);
}

#[test]
fn an_export_to_azure_that_is_cancelled_is_sealed_and_goes_on_or_is_discarded() {
    let (expected, _) = undisturbed("undisturbed");
    for discard in [false, true] {
        let state = tempfile::tempdir().unwrap();
        let mut command = run(&format!("cancelled-{discard}"), state.path());
        command.args(["--on-cancel", if discard { "discard" } else { "seal" }, "--seal-timeout", "0"]);
        let mut running = Running::start(command);
        running.has_read_something();
        running.signal("INT");
        let cancelled = running.event(|event| event["event"] == "finished");
        let (code, said) = running.end();
        if cancelled["state"] == "COMPLETED_WITH_ERRORS" {
            panic!("the job was over before it could be cancelled");
        }
        assert_eq!(code, Some(130), "{said}");
        assert_eq!(cancelled["state"], "CANCEL_COMPLETED");
        assert_verifies(&cancelled);
        if discard {
            assert_eq!(cancelled["objects"], 0);
            continue;
        }
        let ended = end(&mut resume(state.path()));
        ended.assert_exit(3);
        let resumed = finished(&ended);
        assert_eq!(resumed["bytes"], expected["bytes"]);
        assert_verifies(&resumed);
    }
}
