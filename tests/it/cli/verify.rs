//! `fhir-export verify`.

use std::fs;
use std::path::{Path, PathBuf};

use super::program::{Ended, command, end, manifest_in, manifest_path, run, small};

fn verify(manifest: &Path, more: &[&str]) -> Ended {
    end(command(&["verify"]).arg(manifest).args(more))
}

/// An export, and the path of its Patients.
fn export(folder: &Path, more: &[&str]) -> PathBuf {
    run(&small(), folder, more).assert_exit(0);
    let manifest = manifest_in(folder);
    let patients = manifest["output"].as_array().unwrap().iter().find(|file| file["type"] == "Patient").unwrap();
    folder.join(patients["extension"]["key"].as_str().unwrap())
}

#[test]
fn an_export_is_as_its_manifest_says_even_after_it_was_moved() {
    let folder = tempfile::tempdir().unwrap();
    for (name, layout, compress) in [("a", "healthlake", "none"), ("b", "flat", "gzip")] {
        let to = folder.path().join(name);
        export(&to, &["--layout", layout, "--compress", compress]);
        let moved = folder.path().join(format!("{name} moved"));
        fs::rename(&to, &moved).unwrap();
        let verified = verify(&manifest_path(&moved), &[]);
        verified.assert_exit(0);
        assert_eq!(verified.stdout.lines().count(), 74, "a line for each object, and the result");
        assert!(verified.stdout.lines().all(|line| line.starts_with("OK")), "{}", verified.stdout);
    }
}

#[test]
fn damage_is_told_by_object() {
    let folder = tempfile::tempdir().unwrap();
    let patients = export(folder.path(), &[]);
    let manifest = manifest_path(folder.path());
    let whole = fs::read(&patients).unwrap();
    let name = patients.file_name().unwrap().to_str().unwrap();

    let mut flipped = whole.clone();
    flipped[100] ^= 1;
    let half = whole[..whole.len() / 2].to_vec();
    for (damaged, said) in [(flipped, "CRC64NVME"), (half, "bytes, the manifest says")] {
        fs::write(&patients, damaged).unwrap();
        let verified = verify(&manifest, &[]);
        verified.assert_exit(1);
        let wrong: Vec<&str> = verified.stdout.lines().filter(|line| line.starts_with("WRONG  ")).collect();
        assert!(wrong.iter().all(|line| line.contains(name)), "{wrong:?}");
        assert!(wrong.iter().any(|line| line.contains(said)), "{wrong:?}");
        assert!(verified.stdout.contains("WRONG: 1 of 73 objects differ"), "{}", verified.stdout);
    }

    fs::remove_file(&patients).unwrap();
    let missing = verify(&manifest, &[]);
    missing.assert_exit(1);
    assert!(missing.stdout.contains(&format!("{name}  missing")), "{}", missing.stdout);

    fs::write(&patients, &whole).unwrap();
    verify(&manifest, &[]).assert_exit(0);
    fs::write(patients.with_file_name("more.ndjson"), "{}\n").unwrap();
    let extra = verify(&manifest, &[]);
    extra.assert_exit(1);
    assert!(extra.stdout.contains("more.ndjson  isn't in the manifest"), "{}", extra.stdout);
}

#[test]
fn resources_that_occur_again_are_told_when_asked_for() {
    let source = tempfile::tempdir().unwrap();
    let patients = fs::read(small().join("Patient.ndjson")).unwrap();
    fs::write(source.path().join("Patient.ndjson"), [patients.as_slice(), &patients].concat()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    run(source.path(), folder.path(), &[]).assert_exit(0);
    let manifest = manifest_path(folder.path());
    verify(&manifest, &[]).assert_exit(0);
    let verified = verify(&manifest, &["--duplicates"]);
    verified.assert_exit(1);
    assert!(verified.stdout.contains("AGAIN  Patient/"), "{}", verified.stdout);
    assert!(verified.stdout.contains("resources occur again"), "{}", verified.stdout);
}

#[test]
fn what_is_no_manifest_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = verify(&folder.path().join("x.manifest.json"), &[]);
    missing.assert_exit(1);
    assert!(missing.stderr.contains("x.manifest.json"), "{}", missing.stderr);
    let other = folder.path().join("other.json");
    fs::write(&other, "[]").unwrap();
    let refused = verify(&other, &[]);
    refused.assert_exit(1);
    assert!(refused.stderr.contains("this is no manifest") && refused.stderr.contains("other.json"), "{refused:?}");
    let usage = verify(Path::new("ftp://host/x.json"), &["--region", "x"]);
    usage.assert_exit(2);
    assert!(usage.stderr.contains("\"ftp\" is unknown") && usage.stderr.contains("--region"), "{usage:?}");
}
