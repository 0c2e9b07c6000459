//! The real binary, as a user runs it.

#[cfg(all(unix, feature = "azure"))]
mod azurite;
mod bad_input;
#[cfg(target_os = "linux")]
mod disk;
#[cfg(target_os = "linux")]
mod hostile;
#[cfg(unix)]
mod import;
#[cfg(unix)]
mod kill;
mod program;
#[cfg(unix)]
mod serve;
#[cfg(unix)]
mod signals;
#[cfg(target_os = "linux")]
mod slow_store;
mod store;
mod verify;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::naive::{self, Level, NaiveRequest};
use crate::support::{files_below, ndjson_files, repository};
use program::{manifest_in, run, small};

const BASE: &str = "https://fhir.example.org/r4";

/// The objects of an export by type, in their sequence, which isn't the order of their keys; decompressed.
fn exported(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let manifest = manifest_in(folder);
    let mut types = BTreeMap::<String, Vec<u8>>::new();
    let mut files = manifest["output"].as_array().unwrap().clone();
    files.sort_by_key(|file| file["extension"]["sequence"].as_u64());
    for file in &files {
        let stored = fs::read(folder.join(file["extension"]["key"].as_str().unwrap())).unwrap();
        let mut text = stored.clone();
        if file["url"].as_str().unwrap().ends_with(".gz") {
            text.clear();
            std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(stored.as_slice()), &mut text).unwrap();
        }
        let lines = memchr::memchr_iter(b'\n', &text).count();
        assert_eq!(file["count"], lines as u64, "{file}");
        assert_eq!(file["extension"]["bytes"], stored.len() as u64, "{file}");
        types.entry(file["type"].as_str().unwrap().to_owned()).or_default().extend(text);
    }
    types
}

/// Exports `testdata/small` and compares it with the naive exporter.
#[track_caller]
fn assert_as_naive(arguments: &[&str], request: &NaiveRequest) {
    let folder = tempfile::tempdir().unwrap();
    let ended = run(&small(), folder.path(), arguments);
    ended.assert_exit(0);
    let expected = naive::export(&ndjson_files("small"), request).unwrap();
    let found = exported(folder.path());
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.output.keys().collect::<Vec<_>>(), "{arguments:?}");
    assert!(found == expected.output, "{arguments:?}: the same types, but other bytes");
    assert!(ended.stdout.contains("COMPLETED in "), "{}", ended.stdout);
}

#[test]
fn everything_of_a_folder_comes_out_as_it_is() {
    assert_as_naive(&[], &NaiveRequest::new(Level::System));
    assert_as_naive(&["--validate", "structure"], &NaiveRequest::new(Level::System));
    assert_as_naive(&["--validate", "structure", "--level", "patient"], &NaiveRequest::new(Level::Patient));
}

#[test]
fn what_the_structural_check_lets_pass_is_exported_and_the_manifest_warns() {
    let folder = tempfile::tempdir().unwrap();
    let (source, to) = (folder.path().join("in.ndjson"), folder.path().join("out"));
    let line = "{\"resourceType\":\"Basic\",\"id\":\"1\" \"code\":nul}\n";
    fs::write(&source, line).unwrap();
    run(&source, &to.join("full"), &[]).assert_exit(3);
    run(&source, &to.join("structure"), &["--validate", "structure"]).assert_exit(0);
    assert_eq!(exported(&to.join("structure"))["Basic"], line.as_bytes());
    let warnings = &manifest_in(&to.join("structure"))["extension"]["warnings"];
    assert!(warnings[0].as_str().unwrap().contains("grammar of JSON"), "{warnings}");
}

#[test]
fn compression_split_and_part_size_change_nothing_of_the_lines() {
    let request = NaiveRequest::new(Level::System);
    assert_as_naive(&["--compress", "gzip", "--gzip-level", "1", "--threads", "1"], &request);
    assert_as_naive(&["--split-resources", "3", "--memory", "64MiB"], &request);
    assert_as_naive(&["--layout", "flat", "--part-size", "8M", "--progress", "none"], &request);
}

#[test]
fn patients_of_the_sources_own_bases_come_out_at_the_patient_level() {
    let with_base = NaiveRequest { base_urls: vec![BASE.to_owned()], ..NaiveRequest::new(Level::Patient) };
    assert_as_naive(&["--level", "patient", "--base-url", BASE], &with_base);
    assert_as_naive(&["--level", "patient"], &NaiveRequest::new(Level::Patient));
}

#[test]
fn labels_and_patients_that_are_named_limit_an_export() {
    let tags = vec![(Some(None), Some("test"))];
    assert_as_naive(&["--tag", "|test"], &NaiveRequest { tags: tags.clone(), ..NaiveRequest::new(Level::System) });
    let patients = Some(["ada", "bo"].map(str::to_owned).into());
    let named = NaiveRequest { patients: patients.clone(), ..NaiveRequest::new(Level::Patient) };
    assert_as_naive(&["--level", "patient", "--patient", "ada,Patient/bo"], &named);
    let both = NaiveRequest { tags, patients, ..NaiveRequest::new(Level::Patient) };
    assert_as_naive(&["--level", "patient", "--patient", "ada", "--patient", "bo", "--tag", "test,|test"], &both);
    let folder = tempfile::tempdir().unwrap();
    let ended = run(&small(), folder.path(), &["--level", "patient", "--patient", "ada,nobody"]);
    ended.assert_exit(2);
    assert!(ended.stderr.contains(r#"patient "Patient/nobody" isn't there"#), "{}", ended.stderr);
}

#[test]
fn a_group_is_its_members_and_what_names_them() {
    // The Groups' periods lie where the day of the test doesn't matter.
    for group in ["nested", "only-ada", "inactive-members", "empty"] {
        assert_as_naive(&["--level", &format!("group/{group}")], &NaiveRequest::new(Level::Group(group.to_owned())));
    }
}

#[test]
fn types_and_times_filter() {
    let types = ["Observation", "Patient"].map(str::to_owned).into();
    let request = NaiveRequest {
        types: Some(types),
        since: Some("2024-01-01T00:00:00Z".to_owned()),
        until: Some("2030-01-01T00:00:00+02:00".to_owned()),
        ..NaiveRequest::new(Level::System)
    };
    let times = ["--since", "2024-01-01T00:00:00Z", "--until", "2030-01-01T00:00:00+02:00"];
    let types = ["--type", "Patient", "--type", "Observation", "--scan-all"];
    assert_as_naive(&[&times[..], &types].concat(), &request);
}

#[test]
fn the_table_has_a_column_for_each_reason_that_occurs() {
    let folder = tempfile::tempdir().unwrap();
    let ended =
        run(&small(), folder.path(), &["--level", "group/only-ada", "--type", "Patient,Observation,Practitioner"]);
    ended.assert_exit(0);
    let head = ended.stdout.lines().next().unwrap();
    assert!(head.starts_with("type ") && head.contains("excluded: scope"), "{head}");
    assert!(!head.contains("excluded: since") && !head.contains("quarantined"), "{head}");
    assert!(ended.stdout.contains("\ntotal "), "{}", ended.stdout);
    let manifest = files_below(folder.path(), |path| path.ends_with(".manifest.json"));
    let line = ended.stdout.lines().find(|line| line.starts_with("manifest ")).unwrap();
    assert!(line.ends_with(&manifest[0].0), "{line}");
    // Practitioner isn't in a Group's scope: told, and no error.
    assert!(ended.stdout.contains("1 OperationOutcome in "), "{}", ended.stdout);
}

#[test]
fn the_same_source_has_the_same_datastore_id() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        run(&small(), folder.path(), &["--type", "Patient"]).assert_exit(0);
    }
    let names = files_below(folder.path(), |path| path.ends_with(".manifest.json"));
    let ids: Vec<_> = names.iter().map(|(name, _)| name.split_once("-FHIR_EXPORT-").unwrap().0).collect();
    assert_eq!(ids[0], ids[1]);
    assert!(ids[0].len() == 32 && ids[0].bytes().all(|byte| byte.is_ascii_hexdigit()), "{ids:?}");
    let named = tempfile::tempdir().unwrap();
    run(&small(), named.path(), &["--type", "Patient", "--datastore-id", "mine"]).assert_exit(0);
    assert!(!files_below(named.path(), |path| path.starts_with("mine-FHIR_EXPORT-")).is_empty());
}

#[test]
fn odd_data_completes_with_errors_and_tells_each() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run(&repository("testdata/odd"), folder.path(), &[]);
    ended.assert_exit(3);
    assert!(ended.stdout.contains("quarantined") && ended.stdout.contains("COMPLETED_WITH_ERRORS in "));
    assert!(ended.stdout.contains("37 OperationOutcomes in "), "{}", ended.stdout);
    assert!(ended.stderr.contains("Encounter-truncated.ndjson.gz"), "{}", ended.stderr);
    let failed = tempfile::tempdir().unwrap();
    let stopped = run(&repository("testdata/odd"), failed.path(), &["--on-bad", "fail"]);
    stopped.assert_exit(1);
    assert_eq!(files_below(failed.path(), |_| true), []);
}

#[test]
fn events_are_json_one_a_line_and_end_with_the_books() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run(&small(), folder.path(), &["--progress", "json"]);
    ended.assert_exit(0);
    let events: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["event"], "started");
    assert!(events.iter().any(|event| event["event"] == "progress" && event["types"][0]["read"]["resources"] != 0));
    let last = events.last().unwrap();
    assert_eq!(
        (&last["event"], &last["state"], &last["exitCode"]),
        (&"finished".into(), &"COMPLETED".into(), &0.into())
    );
    assert_eq!(last["objects"], 73);
    let read: u64 =
        last["ledger"].as_array().unwrap().iter().map(|row| row["read"]["resources"].as_u64().unwrap()).sum();
    assert_eq!(read, 353);
    let url = last["manifestUrl"].as_str().unwrap();
    assert!(url.starts_with("file://") && url.ends_with(".manifest.json"), "{url}");
}

#[test]
fn help_tells_every_option_with_its_unit_or_default() {
    let help = program::binary(&["run", "--help"]);
    help.assert_exit(0);
    for option in [
        "--source",
        "--to",
        "--level",
        "--type",
        "--since",
        "--until",
        "--base-url",
        "--scan-all",
        "--layout",
        "--datastore-id",
        "--compress",
        "--gzip-level",
        "--split-bytes",
        "--split-resources",
        "--on-bad",
        "--on-cancel",
        "--seal-timeout",
        "--state",
        "--progress",
        "--memory",
        "--line-limit",
        "--cohort-limit",
        "--threads",
        "--part-size",
        "--spill-dir",
        "--spill-limit",
        "--endpoint",
        "--region",
        "--kms-key",
        "--checksum",
    ] {
        assert!(help.stdout.contains(&format!("{option} ")), "{option}");
    }
    for text in ["[default: 256MiB]", "SECONDS", "group/ID", "Exit codes:", "Examples:", "AWS_ACCESS_KEY_ID"] {
        assert!(help.stdout.contains(text), "{text}");
    }
    let top = program::binary(&["--help"]);
    top.assert_exit(0);
    assert!(top.stdout.contains("\n  run ") && top.stdout.contains("\n  verify "), "{}", top.stdout);
    for command in ["resume", "jobs", "cancel", "sweep", "import", "serve"] {
        assert!(top.stdout.contains(&format!("\n  {command} ")), "{}", top.stdout);
    }
    let verify = program::binary(&["verify", "--help"]);
    assert!(verify.stdout.contains("--duplicates") && verify.stdout.contains("<MANIFEST>"), "{}", verify.stdout);
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = program::command(&["run", "--source"])
        .arg(small())
        .args(["--to".as_ref(), folder.path()])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
    assert_eq!(exported(folder.path()).len(), 73);
}
