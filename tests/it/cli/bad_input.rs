//! Bad input gets a message that names the thing and the place, the right exit code, and nothing half written.

use std::fs;
use std::path::Path;

use super::program::{Ended, binary, command, end, manifest_in, run, small};
use crate::support::files_below;

/// Exports into a folder that isn't there yet, which must not be there afterwards either.
#[track_caller]
fn assert_refused(source: &Path, arguments: &[&str], code: i32, said: &[&str]) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out");
    let ended = run(source, &to, arguments);
    ended.assert_exit(code);
    for said in said {
        assert!(ended.stderr.contains(said), "{said:?} isn't in:\n{}", ended.stderr);
    }
    assert!(ended.stderr.starts_with("fhir-export: error: "), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    assert!(!to.try_exists().unwrap(), "nothing is written");
    ended
}

#[test]
fn a_source_that_is_not_there_or_empty_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert_refused(&folder.path().join("nowhere"), &[], 1, &["no such folder or file", "nowhere"]);
    let empty = folder.path().to_string_lossy().into_owned();
    assert_refused(folder.path(), &[], 1, &["holds no .ndjson", &empty]);
    fs::write(folder.path().join("notes.txt"), "x").unwrap();
    assert_refused(folder.path(), &[], 1, &["other files: 1"]);
    assert_refused(&folder.path().join("notes.txt"), &[], 2, &["neither a folder nor a .ndjson", "notes.txt"]);
}

#[test]
fn an_unknown_scheme_is_named_with_what_is_accepted() {
    assert_refused(Path::new("ftp://host/data"), &[], 2, &["--source", "\"ftp\" is unknown", "sqlite:"]);
    let ended = binary(&["run", "--source", "x", "--to", "sqlite:a.db"]);
    ended.assert_exit(2);
    assert!(ended.stderr.contains("--to: the scheme \"sqlite\" is unknown"), "{}", ended.stderr);
}

#[test]
fn bad_values_are_named_with_what_is_accepted() {
    for (arguments, said) in [
        (&["--type", "Foo"][..], &["--type \"Foo\" isn't a resource type of R4"][..]),
        (&["--since", "2024-05-09"], &["--since \"2024-05-09\" is a date without time and zone"]),
        (&["--until", "yesterday"], &["--until \"yesterday\"", "accepted: "]),
        (&["--level", "everyone"], &["--level \"everyone\" isn't a level", "group/ID"]),
        (&["--base-url", "fhir.example.org"], &["--base-url", "http://"]),
        (&["--memory", "1MiB"], &["budget of 1048576 bytes is too small"]),
        (&["--memory", "64MiB", "--line-limit", "17MiB"], &["line limit", "quarter"]),
        (&["--part-size", "1MiB"], &["parts of 1048576 bytes"]),
        (&["--spill-dir", "no-such-folder"], &["--spill-dir \"no-such-folder\" isn't a folder"]),
        (&["--kms-key", "k"], &["--kms-key is for s3://"]),
        (&["--lag", "5"], &["--lag is for postgres://, and the source is"]),
        (&["--lag", "soon"], &["--lag \"soon\" isn't a time"]),
        (&["--endpoint", "http://127.0.0.1:9"], &["--endpoint is for s3://"]),
        (&["--datastore-id", ""], &["--datastore-id", "0 characters"]),
    ] {
        assert_refused(&small(), arguments, 2, said);
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let arguments = [
        "--type",
        "Foo,Bar",
        "--since",
        "x",
        "--level",
        "y",
        "--memory",
        "z",
        "--compress",
        "zip",
        "--on-bad",
        "w",
        "--validate",
        "v",
    ];
    let ended = assert_refused(Path::new("ftp://x"), &arguments, 2, &[]);
    let told = ended.stderr.lines().filter(|line| line.starts_with("fhir-export: error: ")).count();
    assert_eq!(told, 9, "{}", ended.stderr);
    assert!(ended.stderr.ends_with("try 'fhir-export run --help'\n"), "{}", ended.stderr);
}

#[test]
fn arguments_that_are_missing_or_unknown_are_usage_errors() {
    for arguments in [&[][..], &["run"], &["run", "--source", "x"], &["export"], &["verify"], &["run", "--state", "x"]]
    {
        let ended = binary(arguments);
        ended.assert_exit(2);
        assert!(!ended.stderr.is_empty() && ended.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_group_that_is_not_there_or_describes_people_is_refused() {
    assert_refused(&small(), &["--level", "group/nobody"], 1, &["Group/nobody"]);
    assert_refused(&small(), &["--level", "group/definition"], 2, &["definition", "actual"]);
}

#[test]
fn a_cohort_over_its_limit_is_refused_and_nothing_is_written() {
    let limit = |patients| ["--level", "group/nested", "--cohort-limit", patients];
    assert_refused(&small(), &limit("1"), 1, &["Group", "its cohort has more than 1 patients"]);
    assert_refused(&small(), &limit("0"), 2, &["--cohort-limit", "0"]);
    run(&small(), tempfile::tempdir().unwrap().path(), &limit("1000")).assert_exit(0);
}

#[test]
fn types_that_are_all_outside_the_level_are_refused() {
    assert_refused(&small(), &["--level", "patient", "--type", "Practitioner"], 2, &["Practitioner"]);
}

#[test]
fn an_export_that_is_there_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    run(&small(), folder.path(), &["--layout", "flat", "--type", "Patient"]).assert_exit(0);
    let before = files_below(folder.path(), |_| true);
    let again = run(&small(), folder.path(), &["--layout", "flat", "--type", "Observation"]);
    again.assert_exit(1);
    assert!(again.stderr.contains("already holds an export") && again.stderr.contains("manifest.json"), "{again:?}");
    assert!(files_below(folder.path(), |_| true) == before);
}

#[test]
fn a_destination_that_is_no_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("taken");
    fs::write(&file, "mine").unwrap();
    let ended = run(&small(), &file, &[]);
    ended.assert_exit(1);
    assert!(ended.stderr.contains("taken"), "{}", ended.stderr);
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}

#[cfg(unix)]
#[test]
fn a_destination_without_permission_is_named() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let locked = folder.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(locked.join("probe"), "").is_ok() {
        // To the superuser nothing is forbidden: there is nothing to be seen then.
        return;
    }
    let ended = run(&small(), &locked, &[]);
    ended.assert_exit(1);
    assert!(ended.stderr.contains("locked") && ended.stderr.contains("ermission"), "{}", ended.stderr);
    assert_eq!(files_below(&locked, |_| true), []);
}

#[cfg(unix)]
#[test]
fn a_disk_that_takes_no_more_fails_the_job_and_nothing_is_left() {
    // A limit on file sizes stands in for a full disk: objects and manifest are longer than 512 bytes.
    let folder = tempfile::tempdir().unwrap();
    let limited = "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"";
    let program = command(&[]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", limited]).arg(program.get_program()).args([
        "run",
        "--progress",
        "none",
        "--no-state",
        "--source",
    ]);
    let ended = end(shell.arg(small()).arg("--to").arg(folder.path().join("out")));
    ended.assert_exit(1);
    assert!(ended.stderr.starts_with("fhir-export: error: "), "{}", ended.stderr);
    assert_eq!(files_below(folder.path(), |_| true), []);
}

#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_read_is_told_and_the_others_go_out() {
    let source = tempfile::tempdir().unwrap();
    fs::copy(small().join("Patient.ndjson"), source.path().join("Patient.ndjson")).unwrap();
    std::os::unix::fs::symlink("gone", source.path().join("Observation.ndjson")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ended = run(source.path(), folder.path(), &[]);
    ended.assert_exit(3);
    assert!(ended.stderr.contains("Observation.ndjson"), "{}", ended.stderr);
    let manifest = manifest_in(folder.path());
    assert_eq!((&manifest["output"][0]["type"], &manifest["error"][0]["count"]), (&"Patient".into(), &1.into()));
}

#[test]
fn a_type_name_in_the_data_is_no_path() {
    let source = tempfile::tempdir().unwrap();
    let lines =
        "{\"resourceType\":\"../../Evil\",\"id\":\"1\"}\n{\"resourceType\":\"a/B\"}\n{\"resourceType\":\"Basic\"}\n";
    fs::write(source.path().join("mixed.ndjson"), lines).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("a/b/out");
    let ended = run(source.path(), &to, &["--layout", "flat"]);
    ended.assert_exit(3);
    let names: Vec<String> = files_below(folder.path(), |_| true).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a/b/out/Basic.ndjson", "a/b/out/errors.ndjson", "a/b/out/manifest.json"]);
}
