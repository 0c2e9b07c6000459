//! What was deleted since the last export.

use std::path::Path;
use std::sync::Arc;

use fhir_export::ErrorKind;
use fhir_export::destination::MemoryDestination;
use fhir_export::destination::faulty::{Fault, FaultyDestination};
use fhir_export::fhir::ResourceType;
use fhir_export::import::sqlite::Store;
use fhir_export::job::{Config, Exporter, JobState, JobStore, MemoryJobStore};
use fhir_export::request::ExportRequest;
use fhir_export::source::{Source, SqliteSource};

use super::{clock, config, export, patient, request};
use crate::support::exported::Exported;
use crate::support::small_job;

/// A store with tombstones of all kinds, deleted at the fixed time, and a Group of two.
fn store_with_tombstones(path: &Path) {
    let mut store = Store::open(path).unwrap().with_clock(clock());
    let put = |write: &mut fhir_export::import::sqlite::Write<'_>, id: usize, patient: &str| {
        let subject = format!(r#""subject":{{"reference":"{patient}"}}"#);
        let body = format!(r#"{{"resourceType":"Observation","id":"o{id:03}",{subject}}}"#);
        write.put(body.as_bytes()).map(drop)
    };
    store
        .write(|write| {
            for number in 0..60 {
                write.put(patient(number).as_bytes())?;
                put(write, number, &format!("Patient/p{}", number % 10))?;
            }
            put(write, 60, "https://elsewhere.example/Patient/p0")?;
            write.put(br#"{"resourceType":"Medication","id":"m"}"#)?;
            let member = r#"{"entity":{"reference":"Patient/p0"}},{"entity":{"reference":"Patient/p50"}}"#;
            let group =
                format!(r#"{{"resourceType":"Group","id":"g","actual":true,"type":"person","member":[{member}]}}"#);
            write.put(group.as_bytes()).map(drop)
        })
        .unwrap();
    let of = |name: &str| ResourceType::r4(name).unwrap();
    store
        .write(|write| {
            for number in (0..=60).filter(|number| number % 3 == 0) {
                write.delete(&of("Observation"), &format!("o{number:03}"))?;
            }
            write.delete(&of("Medication"), "m")?;
            for id in ["p50", "p51"] {
                write.delete(&of("Patient"), id)?;
            }
            // There again.
            put(write, 3, "Patient/p3")
        })
        .unwrap();
}

#[tokio::test]
async fn deletions_are_told_by_level_type_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    store_with_tombstones(&path);
    let deleted = async |request: ExportRequest, config: Config| {
        let source: Arc<dyn Source> = Arc::new(SqliteSource::new(&path).with_clock(clock()));
        let exported = export(source, request, config).await.unwrap();
        assert_eq!(exported.report.state, JobState::Completed);
        (exported.deleted().into_iter().collect::<Vec<_>>(), exported)
    };
    let t = "2025-01-01T00:00:00Z";
    let (all, exported) = deleted(request("system", &[], t, ""), config()).await;
    // Every third of 61 Observations but for the one that is there again, a Medication and two Patients.
    assert_eq!(all.len(), 20 + 3);
    assert!(!all.contains(&"Observation/o003".to_owned()) && all.contains(&"Patient/p51".to_owned()));
    let row = exported.manifest().extension.deletions.clone().unwrap();
    assert_eq!((row.read.resources, row.written.resources), (23, 23));
    let (of_patients, _) = deleted(request("patient", &[], t, ""), config()).await;
    assert_eq!(of_patients.len(), 20 + 2, "no Medication; whose o060 was isn't known");
    let (of_group, exported) = deleted(request("g", &[], t, ""), config()).await;
    assert_eq!(of_group, ["Observation/o000", "Observation/o030", "Patient/p50"]);
    let warnings = &exported.manifest().extension.warnings;
    assert!(warnings.iter().any(|warning| warning.starts_with("1 deletions aren't told")), "{warnings:?}");
    let (of_type, _) = deleted(request("system", &["Medication"], t, ""), config()).await;
    assert_eq!(of_type, ["Medication/m"]);
    for (since, until) in [("2025-01-01T00:00:00.001Z", ""), ("2024-01-01T00:00:00Z", "2024-12-31T23:59:59Z"), ("", "")]
    {
        assert!(deleted(request("system", &[], since, until), config()).await.0.is_empty(), "{since} {until}");
    }
    let mut silent = config();
    silent.report_deletions = false;
    let (told, exported) = deleted(request("system", &[], t, ""), silent).await;
    assert!(told.is_empty() && exported.manifest().extension.deletions.is_none());
}

#[tokio::test]
async fn a_job_that_fails_while_deletions_are_told_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    store_with_tombstones(&path);
    let mut config = small_job::config();
    config.block_bytes = 2000;
    let request = || request("system", &[], "2025-01-01T00:00:00Z", "");
    let exporter = |destination: Arc<FaultyDestination<MemoryDestination>>, store: &MemoryJobStore| {
        let source = SqliteSource::new(&path).with_clock(clock());
        let builder = Exporter::builder().source(Arc::new(source)).destination(destination).config(config.clone());
        builder.job_store(Arc::new(store.clone())).build().unwrap()
    };
    let judge = Arc::new(FaultyDestination::new(small_job::destination()));
    let whole = exporter(Arc::clone(&judge), &MemoryJobStore::new()).start(request()).unwrap().join().await;
    let expected = Exported::read(whole, judge.inner()).await;
    assert_eq!(expected.deleted().len(), 23);
    let calls = judge.calls().len();
    for n in 1..=calls {
        let store = MemoryJobStore::new();
        let destination = FaultyDestination::new(small_job::destination());
        let judge = Arc::new(destination.with_fault_at(n, Fault::Fail(ErrorKind::Store)));
        let failed = exporter(Arc::clone(&judge), &store).start(request()).unwrap().join().await;
        if !failed.resumable {
            continue;
        }
        let id = store.list().await.unwrap()[0].id.clone();
        let report = exporter(Arc::clone(&judge), &store).resume(&id).await.unwrap().join().await;
        assert_eq!(report.state, JobState::Completed, "call {n}: {:?}", report.error);
        let exported = Exported::read(report, judge.inner()).await;
        exported.assert_well_formed();
        assert_eq!(exported.deleted(), expected.deleted(), "call {n}");
        assert!(exported.output() == expected.output(), "call {n}");
        let extension = |exported: &Exported| exported.manifest().extension.deletions.clone();
        assert_eq!(extension(&exported), extension(&expected), "call {n}");
    }
}
