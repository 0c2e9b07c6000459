//! The program: started, and what it said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::repository;

/// The test data that is clean.
pub(super) fn small() -> PathBuf {
    repository("testdata/small")
}

/// How the program ended, and what it said.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Ended {
    #[track_caller]
    pub(super) fn assert_exit(&self, code: i32) {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
    }
}

/// The program with these arguments, and nothing of the environment that it would heed.
pub(super) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("fhir-export"));
    command.args(arguments);
    // Jobs aren't kept where this machine's own are.
    command.env("XDG_STATE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/state"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("AWS_") || name.to_ascii_lowercase().ends_with("_proxy") || name == "RUST_LOG" {
            command.env_remove(&*name);
        }
    }
    command
}

/// Runs the program to its end.
pub(super) fn binary(arguments: &[&str]) -> Ended {
    end(&mut command(arguments))
}

/// Runs `fhir-export run` to its end.
pub(super) fn run(source: &Path, to: &Path, more: &[&str]) -> Ended {
    end(command(&["run", "--source"]).arg(source).arg("--to").arg(to).args(more))
}

pub(super) fn end(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The path of the only manifest in a folder.
pub(super) fn manifest_path(folder: &Path) -> PathBuf {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let manifests: Vec<PathBuf> = names.filter(|path| path.to_string_lossy().ends_with("manifest.json")).collect();
    assert_eq!(manifests.len(), 1, "{manifests:?}");
    manifests[0].clone()
}

/// The only manifest in a folder.
pub(super) fn manifest_in(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(manifest_path(folder)).unwrap()).unwrap()
}
