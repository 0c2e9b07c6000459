//! Records and journals of jobs, as a store gives them back: what is read is the same written anew, and a job that goes on
//! by a journal which says anything comes to an end.

use std::sync::Arc;

use fhir_export::ErrorKind;
use fhir_export::destination::MemoryDestination;
use fhir_export::job::store::{JobRecord, JobStore as _, MemoryJobStore, stored};
use fhir_export::job::{Config, Exporter, JobReport, JobState, ResumeOptions};
use fhir_export::request::{ExportRequest, Level};
use fhir_export::source::memory::{MemoryRange, MemorySource};
use fhir_export::writer::Entry;
use serde_json::Value;

use super::wait_for;

const PATIENTS: &str = "{\"resourceType\":\"Patient\",\"id\":\"a\"}\n{\"resourceType\":\"Patient\",\"id\":\"b\"}\n";
const OTHERS: &str =
    "{\"resourceType\":\"Goal\",\"id\":\"a\"}\nno resource\n{\"resourceType\":\"Patient\",\"id\":\"c\"}\n";

/// Entries after which a job isn't gone on with: each costs an object.
const MOST_ENTRIES: usize = 200;

/// A record or nothing, and entries with `0x1E` between.
pub fn journal(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut texts = text.split('\u{1E}');
    let record = texts.next().unwrap_or_default();
    check_record(record);
    assert_eq!(stored::wish(stored::wish_text(stored::wish(record))), stored::wish(record));
    let entries: Vec<Entry> = texts.filter_map(read_entry).collect();
    if (1..=MOST_ENTRIES).contains(&entries.len()) {
        wait_for(go_on(entries));
    }
}

fn read_entry(text: &str) -> Option<Entry> {
    match stored::entry(text) {
        Ok(entry) => {
            let again = stored::entry_text(&entry).expect("what was read can be written");
            assert_eq!(stored::entry(&again).expect("what was written can be read"), entry);
            assert!(serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object()), "an entry is an object");
            Some(entry)
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Store, "{error:#}");
            None
        }
    }
}

fn check_record(text: &str) {
    let Ok(record) = stored::record(text) else { return };
    let again = stored::record_text(&record).expect("what was read can be written");
    assert_eq!(stored::record(&again).expect("what was written can be read"), record);
    // Each may refuse it, and none may panic.
    drop(record.request());
    let _ = (record.transaction_time(), record.updated_seconds_ago(), record.is_interrupted());
}

/// Goes on with a job that has stored everything, by a journal of its own or of anybody's.
async fn go_on(entries: Vec<Entry>) {
    let destination = MemoryDestination::new();
    let (record, own) = finished(&destination).await;
    let is_own = own.starts_with(&entries);
    let store = MemoryJobStore::new();
    let claim = store.create(&record).await.expect("the store is empty");
    for entry in entries {
        store.append(&claim, entry).await.expect("memory takes it");
    }
    drop(claim);
    let mut options = ResumeOptions::default();
    options.allow_changed_source = true;
    let report = match exporter(&store, &destination).resume_with(&record.id, options).await {
        Ok(job) => job.join().await,
        Err(error) => panic!("a job that was interrupted can't be gone on with: {error:#}"),
    };
    assert!(report.state.is_terminal(), "{}", report.state);
    let kind = report.error.as_ref().map(fhir_export::Error::kind);
    assert_ne!(kind, Some(ErrorKind::Internal), "{:?}", report.error);
    if is_own {
        assert_eq!((report.state, written(&report)), (JobState::CompletedWithErrors, 4), "{:?}", report.error);
    }
}

fn written(report: &JobReport) -> u64 {
    report.ledger.iter().map(|(_, row)| row.written.resources).sum()
}

/// The record of a whole job, as if it had been interrupted at its very end, and its journal.
async fn finished(destination: &MemoryDestination) -> (JobRecord, Vec<Entry>) {
    let store = MemoryJobStore::new();
    let request = ExportRequest::new(Level::System);
    let report = exporter(&store, destination).start(request).expect("a request").join().await;
    let record = store.get(&report.job_id).await.expect("memory can be read").expect("it was kept");
    let entries = store.entries(&report.job_id).await.expect("memory can be read");
    (interrupted(record), entries)
}

fn interrupted(mut record: JobRecord) -> JobRecord {
    record.state = JobState::InProgress;
    record.resumable = true;
    record.ledger = Vec::new();
    (record.manifest, record.error, record.public_error) = (None, None, None);
    record
}

fn exporter(store: &MemoryJobStore, destination: &MemoryDestination) -> Exporter {
    let source = MemorySource::new()
        .with(MemoryRange::lines("a", PATIENTS.as_bytes().to_vec()))
        .with(MemoryRange::lines("b", OTHERS.as_bytes().to_vec()))
        .at(fhir_export::fhir::Instant::from_unix(1_700_000_000, 0));
    let mut config = Config::default();
    config.threads = 1;
    Exporter::builder()
        .source(Arc::new(source))
        .destination(Arc::new(destination.clone()))
        .job_store(Arc::new(store.clone()))
        .config(config)
        .build()
        .expect("the settings fit together")
}
