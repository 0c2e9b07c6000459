use super::*;
use crate::destination::MemoryDestination;
use crate::job::{Compression, Config, Exporter, JobState, Split};
use crate::request::{ExportRequest, Level};
use crate::source::memory::{MemoryRange, MemorySource};

/// An export of two types in three objects, and the key of its manifest.
async fn export(compression: Compression) -> (MemoryDestination, ObjectKey) {
    let line = |resource_type: &str, id: usize| format!(r#"{{"resourceType":"{resource_type}","id":"{id}"}}"#);
    let patients: Vec<String> = (0..100).map(|id| line("Patient", id)).collect();
    let mut others: Vec<String> = (0..50).map(|id| line("Observation", id)).collect();
    others.push("no JSON".to_owned());
    let source = MemorySource::new()
        .with(MemoryRange::lines("patients", patients.join("\n")))
        .with(MemoryRange::lines("others", others.join("\n")));
    let destination = MemoryDestination::new();
    let exporter = Exporter::builder()
        .source(Arc::new(source))
        .destination(Arc::new(destination.clone()))
        .config(Config { compression, split: Split { bytes: None, resources: Some(60) }, ..Config::default() })
        .build()
        .unwrap();
    let report = exporter.start(ExportRequest::new(Level::System)).unwrap().join().await;
    assert_eq!(report.state, JobState::CompletedWithErrors);
    let stored = destination.list("").await.unwrap();
    let manifest = stored.into_iter().find(|object| object.key.as_str().ends_with(".json")).unwrap();
    (destination, manifest.key)
}

async fn verified(destination: &MemoryDestination, manifest: &ObjectKey) -> VerifyReport {
    let mut told = 0;
    let options = VerifyOptions { duplicates: true, threads: 2 };
    let report = verify(destination, manifest.as_str(), options, &mut |_| told += 1).await.unwrap();
    assert_eq!(told, report.objects.len());
    report
}

/// What is wrong, in words, of all objects.
fn problems(report: &VerifyReport) -> Vec<String> {
    report.objects.iter().flat_map(|object| &object.problems).map(ToString::to_string).collect()
}

async fn bytes_of(destination: &MemoryDestination, key: &ObjectKey) -> Vec<u8> {
    let body = destination.get(key).await.unwrap();
    body.try_fold(Vec::new(), |mut all, chunk| async move {
        all.extend_from_slice(&chunk);
        Ok(all)
    })
    .await
    .unwrap()
}

/// Changes the object of a type's first sequence.
async fn change(destination: &MemoryDestination, part_of_key: &str, change: impl FnOnce(&mut Vec<u8>)) -> ObjectKey {
    let stored = destination.list("").await.unwrap();
    let key = stored.into_iter().map(|object| object.key).find(|key| key.as_str().contains(part_of_key)).unwrap();
    let mut bytes = bytes_of(destination, &key).await;
    change(&mut bytes);
    destination.delete(&key).await.unwrap();
    destination.put(&key, bytes.into()).await.unwrap();
    key
}

async fn exported() -> (MemoryDestination, ObjectKey) {
    export(Compression::None).await
}

#[tokio::test]
async fn what_was_exported_is_as_its_manifest_says() {
    for compression in [Compression::None, Compression::Gzip { level: 6 }] {
        let (destination, manifest) = export(compression).await;
        let report = verified(&destination, &manifest).await;
        assert!(report.is_ok(), "{report:?}");
        let lines: Vec<u64> = report.objects.iter().map(|object| object.lines).collect();
        assert_eq!(lines.iter().sum::<u64>(), 151, "{lines:?}");
    }
}

#[tokio::test]
async fn a_flipped_byte_is_detected() {
    let (destination, manifest) = exported().await;
    change(&destination, "/Patient/", |bytes| {
        let at = bytes.len() - 4;
        bytes[at] ^= 1;
    })
    .await;
    let report = verified(&destination, &manifest).await;
    assert!(!report.is_ok());
    let problems = problems(&report);
    assert!(problems.len() == 1 && problems[0].starts_with("CRC64NVME "), "{problems:?}");
}

#[tokio::test]
async fn a_missing_line_is_detected() {
    let (destination, manifest) = exported().await;
    change(&destination, "/Observation/", |bytes| {
        let first = bytes.iter().position(|&byte| byte == b'\n').unwrap();
        bytes.drain(..=first);
    })
    .await;
    let problems = problems(&verified(&destination, &manifest).await);
    assert!(problems.contains(&"49 lines, the manifest says 50".to_owned()), "{problems:?}");
}

#[tokio::test]
async fn an_object_that_the_manifest_does_not_list_is_detected() {
    let (destination, manifest) = exported().await;
    let key = ObjectKey::new(format!("{}Patient/more.ndjson", job_folder(&manifest))).unwrap();
    destination.put(&key, "{}\n".into()).await.unwrap();
    destination.put(&ObjectKey::new("beside").unwrap(), "x".into()).await.unwrap();
    let report = verified(&destination, &manifest).await;
    assert_eq!(report.unlisted, [destination.url(&key)]);
    assert!(problems(&report).is_empty() && !report.is_ok());
}

#[tokio::test]
async fn a_truncated_object_is_detected() {
    for compression in [Compression::None, Compression::Gzip { level: 6 }] {
        let (destination, manifest) = export(compression).await;
        change(&destination, "/Patient/", |bytes| bytes.truncate(bytes.len() - 5)).await;
        let problems = problems(&verified(&destination, &manifest).await);
        let expected = if compression == Compression::None { "line 60: it has no line feed" } else { "gzip: " };
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{problems:?}");
        assert!(problems[0].contains("bytes, the manifest says"), "{problems:?}");
    }
}

#[tokio::test]
async fn a_missing_object_is_detected() {
    let (destination, manifest) = exported().await;
    let key = change(&destination, "/Observation/", |_| {}).await;
    destination.delete(&key).await.unwrap();
    assert_eq!(problems(&verified(&destination, &manifest).await), ["missing"]);
}

#[tokio::test]
async fn a_line_of_another_type_is_detected() {
    let (destination, manifest) = exported().await;
    change(&destination, "/Patient/", |bytes| {
        let line = br#"{"resourceType":"Binary"}"#;
        bytes.splice(..line.len(), line.iter().copied());
        let text = String::from_utf8(std::mem::take(bytes)).unwrap();
        *bytes = text.lines().map(|line| format!("{line}\n")).collect::<String>().into_bytes();
    })
    .await;
    let problems = problems(&verified(&destination, &manifest).await);
    assert!(problems.iter().any(|problem| problem.starts_with("line 1: ")), "{problems:?}");
}

#[tokio::test]
async fn lines_that_are_no_resources_are_told_up_to_a_limit() {
    let (destination, manifest) = exported().await;
    change(&destination, "/Observation/", |bytes| *bytes = b"\n".repeat(30)).await;
    let problems = problems(&verified(&destination, &manifest).await);
    assert_eq!(problems.iter().filter(|problem| problem.starts_with("line ")).count(), 10);
    assert_eq!(problems.last().unwrap(), "20 more lines are wrong");
}

#[tokio::test]
async fn a_resource_that_occurs_twice_is_told_with_its_line() {
    let line = r#"{"resourceType":"Patient","id":"1"}"#;
    let source = MemorySource::new().with(MemoryRange::lines("patients", format!("{line}\n{line}\n{line}")));
    let destination = MemoryDestination::new();
    let exporter =
        Exporter::builder().source(Arc::new(source)).destination(Arc::new(destination.clone())).build().unwrap();
    exporter.start(ExportRequest::new(Level::System)).unwrap().join().await;
    let stored = destination.list("").await.unwrap();
    let manifest = &stored.iter().find(|object| object.key.as_str().ends_with(".json")).unwrap().key;
    let report = verified(&destination, manifest).await;
    let found = report.duplicates.as_ref().unwrap();
    let lines: Vec<_> = found.first.iter().map(|again| (again.resource.as_str(), again.line)).collect();
    assert_eq!((found.resources, lines), (2, vec![("Patient/1", 2), ("Patient/1", 3)]));
    assert!(problems(&report).is_empty() && !report.is_ok());
}

#[tokio::test]
async fn a_manifest_whose_numbers_disagree_or_whose_keys_lead_astray_is_detected() {
    let (destination, key) = exported().await;
    let text = String::from_utf8(bytes_of(&destination, &key).await).unwrap();
    let mut manifest: Manifest = serde_json::from_str(&text).unwrap();
    manifest.extension.ledger.last_mut().unwrap().read.resources += 1;
    manifest.output[0].extension.key = "../outside".to_owned();
    destination.delete(&key).await.unwrap();
    destination.put(&key, serde_json::to_vec(&manifest).unwrap().into()).await.unwrap();
    let report = verified(&destination, &key).await;
    assert_eq!(report.books, ["Patient: 101 read, but 100 accounted for"]);
    assert_eq!(problems(&report), [Problem::Key.to_string()]);
}

#[tokio::test]
async fn what_is_no_manifest_is_an_error_that_names_it() {
    let destination = MemoryDestination::new();
    let key = ObjectKey::new("x.manifest.json").unwrap();
    let missing = verify(&destination, key.as_str(), VerifyOptions::default(), &mut |_| {}).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    destination.put(&key, "{}".into()).await.unwrap();
    let no_manifest = verify(&destination, key.as_str(), VerifyOptions::default(), &mut |_| {}).await.unwrap_err();
    assert!(no_manifest.to_string().contains("x.manifest.json"), "{no_manifest}");
}

#[test]
fn the_job_folder_lies_beside_the_manifest() {
    let folder = |key: &str| job_folder(&ObjectKey::new(key).unwrap());
    assert_eq!(folder("ds-FHIR_EXPORT-1.manifest.json"), "ds-FHIR_EXPORT-1/");
    assert_eq!(folder("manifest.json"), "");
}
