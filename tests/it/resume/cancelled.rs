//! Cancellations that find a job between two processes.

use std::num::NonZero;

use fhir_export::job::{BaseUrls, CancelWish, JobPlaces, QueueKey};
use fhir_export::request::DatastoreId;

use super::*;

/// How many calls a job makes that nobody disturbs.
fn calls(config: &Config) -> usize {
    let mut calls = 0;
    checked(async { (_, calls) = undisturbed(one_type_source(), config.clone()).await });
    calls
}

/// A job that was interrupted at its n-th call; `None` if it was over before.
fn interrupted(config: &Config, n: usize) -> Option<(MemoryDestination, MemoryJobStore, JobId)> {
    let (memory, store) = (small_job::destination(), MemoryJobStore::new());
    if !crash(one_type_source(), &memory, &store, config.clone(), n, None) {
        return None;
    }
    let mut id = None;
    checked(async { id = Some(only_job(&store).await) });
    id.map(|id| (memory, store, id))
}

fn elsewhere(source: MemorySource) -> JobPlaces {
    JobPlaces {
        source: Arc::new(source),
        destination: Arc::new(small_job::destination()),
        datastore_id: DatastoreId::new("d").unwrap(),
        base_urls: BaseUrls::default(),
        report_deletions: false,
        skipped: Vec::new(),
        queue_key: QueueKey::default(),
        context: serde_json::Value::Null,
    }
}

/// A sealed job lists all that there is of it, and comes to the whole when it is resumed.
async fn assert_sealed(report: JobReport, memory: &MemoryDestination, store: &MemoryJobStore, config: &Config) {
    assert_eq!(report.state, JobState::CancelCompleted, "{:?}", report.error);
    assert_eq!(memory.open_count(), 0, "no upload is left open");
    let id = report.job_id.clone();
    let Some(manifest) = &report.manifest else {
        assert!(memory.keys().is_empty(), "what isn't listed isn't there");
        return;
    };
    assert_eq!(manifest.extension.job_status, "CANCEL_COMPLETED");
    Exported::read(report, memory).await.assert_well_formed();
    let (expected, _) = undisturbed(one_type_source(), config.clone()).await;
    let exporter = exporter(one_type_source(), Arc::new(memory.clone()), store, config.clone());
    let whole = join(exporter.resume(&id).await.unwrap()).await;
    let whole = Exported::read(whole, memory).await;
    whole.assert_well_formed();
    assert!(whole.output() == expected.output(), "the same lines");
}

#[test]
fn an_interrupted_job_that_is_cancelled_while_it_waits_to_go_on_is_sealed_at_what_is_durable() {
    let mut config = small_job::config();
    config.jobs_at_once = NonZero::new(1);
    let mut with_objects = 0;
    for n in 1..=calls(&config) {
        let Some((memory, store, id)) = interrupted(&config, n) else { continue };
        checked(async {
            let exporter = exporter(one_type_source(), Arc::new(memory.clone()), &store, config.clone());
            let (other, gate) = stalled_source();
            let running = exporter.at(elsewhere(other)).start(ExportRequest::new(Level::System)).unwrap();
            gate.reached().await;
            let waits = exporter.resume(&id).await.unwrap();
            let mut states = waits.control().states();
            states.wait_for(|state| *state == JobState::Queued).await.unwrap();
            assert!(waits.cancel());
            let report = join(waits).await;
            gate.open();
            join(running).await;
            with_objects += usize::from(report.manifest.as_ref().is_some_and(|manifest| !manifest.output.is_empty()));
            assert_sealed(report, &memory, &store, &config).await;
        });
    }
    assert!(with_objects > 0, "some of them have had something durable");
}

#[test]
fn word_of_a_cancellation_that_nobody_heard_is_heeded_by_who_recovers_and_not_by_who_resumes() {
    let config = small_job::config();
    for n in 1..=calls(&config) {
        for recovers in [true, false] {
            let Some((memory, store, id)) = interrupted(&config, n) else { continue };
            checked(async {
                store.ask_cancel(&id, CancelWish::default()).await.unwrap();
                let exporter = exporter(one_type_source(), Arc::new(memory.clone()), &store, config.clone());
                if !recovers {
                    let report = join(exporter.resume(&id).await.unwrap()).await;
                    assert_eq!(report.state, JobState::CompletedWithErrors);
                    return;
                }
                let mut jobs = exporter.recover(ResumeOptions::default()).await.unwrap();
                assert_sealed(join(jobs.remove(0)).await, &memory, &store, &config).await;
            });
        }
    }
}
