//! Jobs that are interrupted at any place and go on: what comes out is what an undisturbed job writes.

mod cancelled;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fhir_export::ErrorKind;
use fhir_export::destination::faulty::{Fault, FaultyDestination};
use fhir_export::destination::{
    Capabilities, Destination, MemoryDestination, ObjectKey, OpenUpload, PartId, StoredObject, StoredPart,
};
use fhir_export::job::{
    Config, Exporter, JobHandle, JobReport, JobState, JobStore, MemoryJobStore, OnCancel, ResumeOptions, SweepOptions,
    sweep,
};
use fhir_export::request::{ExportRequest, JobId, Level};
use fhir_export::source::Source;
use fhir_export::source::memory::{Gate, MemoryRange, MemorySource};
use futures::stream::BoxStream;
use object_store::PutPayload;
use tokio::sync::Notify;

use crate::support::exported::Exported;
use crate::support::small_job;

type Judge = FaultyDestination<MemoryDestination>;

/// Longer than any job here takes, unless it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// The settings under which everything is tried.
fn configs() -> Vec<Config> {
    let mut configs = Vec::new();
    for config in [small_job::config(), small_job::compressing_config()] {
        let mut split = config.clone();
        split.split.resources = Some(5);
        configs.extend([config, split]);
    }
    configs
}

/// A source that waits in its second range until the gate opens.
fn stalled_source() -> (MemorySource, Gate) {
    let gate = Gate::new();
    (small_job::source_stalled_at("second", 0, &gate), gate)
}

/// One type a range, and a third one with what isn't understood.
fn one_type_source() -> MemorySource {
    let lines = |name: &str, count: usize| -> String {
        (0..count).map(|id| format!("{{\"resourceType\":\"{name}\",\"id\":\"{id}\"}}\n")).collect()
    };
    let odd = format!("nonsense\n{}[1]\n", lines("Basic", 3));
    [("a", lines("Patient", 40)), ("b", lines("Observation", 30)), ("c", odd), ("d", lines("Patient", 10))]
        .into_iter()
        .map(|(name, text)| MemoryRange::lines(name, text).in_chunks_of(100))
        .fold(MemorySource::new(), MemorySource::with)
}

/// The same as rows.
fn row_source() -> MemorySource {
    let rows = |name: &str, from: usize, count: usize| -> Vec<String> {
        (from..from + count).map(|id| format!("{{\"resourceType\":\"{name}\",\"id\":\"{id}\"}}")).collect()
    };
    let mixed: Vec<String> =
        rows("Basic", 0, 20).into_iter().zip(rows("Patient", 50, 20)).flat_map(<[_; 2]>::from).collect();
    let ranges = [("a", rows("Patient", 0, 40)), ("b", mixed), ("c", rows("Observation", 0, 30))];
    ranges
        .into_iter()
        .map(|(name, rows)| MemoryRange::rows(name, rows).in_chunks_of(150))
        .fold(MemorySource::new(), MemorySource::with)
}

fn sources() -> [MemorySource; 3] {
    [small_job::source(), one_type_source(), row_source()]
}

fn exporter(
    source: impl Source + 'static,
    destination: Arc<dyn Destination>,
    store: &MemoryJobStore,
    config: Config,
) -> Exporter {
    let builder = Exporter::builder().source(Arc::new(source)).destination(destination).config(config);
    builder.job_store(Arc::new(store.clone())).build().unwrap()
}

async fn join(job: JobHandle) -> JobReport {
    tokio::time::timeout(HANGS_AFTER, job.join()).await.expect("the job ends")
}

/// What an undisturbed job comes to, and how many calls it makes.
async fn undisturbed(source: MemorySource, config: Config) -> (Exported, usize) {
    let judge = Arc::new(FaultyDestination::new(small_job::destination()));
    let report = small_job::run(source, Arc::<Judge>::clone(&judge), config).await;
    assert!(report.manifest.is_some(), "{:?}", report.error);
    (Exported::read(report, judge.inner()).await, judge.calls().len())
}

/// Resumes a job until it is over; nothing fails any more.
async fn resume(source: MemorySource, memory: &MemoryDestination, store: &MemoryJobStore, config: Config) -> JobReport {
    let id = only_job(store).await;
    let exporter = exporter(source, Arc::new(memory.clone()), store, config);
    join(exporter.resume(&id).await.unwrap()).await
}

async fn only_job(store: &MemoryJobStore) -> JobId {
    let jobs = store.list().await.unwrap();
    assert_eq!(jobs.len(), 1);
    jobs[0].id.clone()
}

/// A resumed job has come to what an undisturbed one does.
async fn assert_as(report: JobReport, memory: &MemoryDestination, expected: &Exported, note: &str) {
    assert_eq!(report.state, expected.report.state, "{note}: {:?}", report.error);
    assert_eq!(memory.open_count(), 0, "{note}: no upload is left open");
    let exported = Exported::read(report, memory).await;
    exported.assert_well_formed();
    assert_eq!(exported.quarantine(), expected.quarantine(), "{note}");
    assert_eq!(exported.issues().len(), expected.issues().len(), "{note}");
    assert!(exported.objects() == expected.objects(), "{note}: the same objects");
    assert_eq!(exported.manifest().extension.ledger, expected.manifest().extension.ledger, "{note}");
    let reasons = |exported: &Exported| -> Vec<(String, u32, String)> {
        let files = exported.manifest().output.iter().map(|file| &file.extension);
        let mut all: Vec<_> = files
            .map(|own| (own.key.rsplit('/').nth(1).unwrap().to_owned(), own.sequence, own.sequence_reason.clone()))
            .collect();
        all.sort();
        all
    };
    assert_eq!(reasons(&exported), reasons(expected), "{note}");
}

#[tokio::test]
async fn a_job_whose_nth_call_fails_goes_on_to_the_same_bytes() {
    for config in configs() {
        for source in sources() {
            let (expected, calls) = undisturbed(source.clone(), config.clone()).await;
            for n in 1..=calls {
                for fault in [Fault::Fail(ErrorKind::Store), Fault::LoseAnswer] {
                    let (note, store) = (format!("call {n} of {calls}: {fault:?}"), MemoryJobStore::new());
                    let judge = Arc::new(FaultyDestination::new(small_job::destination()).with_fault_at(n, fault));
                    let first = exporter(source.clone(), Arc::<Judge>::clone(&judge), &store, config.clone());
                    let failed = join(first.start(ExportRequest::new(Level::System)).unwrap()).await;
                    if failed.manifest.is_some() {
                        continue;
                    }
                    assert_eq!(failed.state, JobState::Failed, "{note}");
                    if !failed.resumable {
                        assert!(n <= 2, "{note}: {:?}", failed.error);
                        continue;
                    }
                    let report = resume(source.clone(), judge.inner(), &store, config.clone()).await;
                    assert_as(report, judge.inner(), &expected, &note).await;
                    assert!(!store.list().await.unwrap()[0].is_unfinished());
                }
            }
        }
    }
}

/// Runs a job in a runtime of its own, which is gone when the store sees its n-th call. Tells whether it isn't over.
fn crash(
    source: MemorySource,
    memory: &MemoryDestination,
    store: &MemoryJobStore,
    config: Config,
    n: usize,
    id: Option<&JobId>,
) -> bool {
    let crashes = Arc::new(Notify::new());
    let crash = Arc::clone(&crashes);
    let fault = Fault::Run(Arc::new(move || crash.notify_one()));
    // Who is dead makes no calls: the runtime may go on a little before it sees that it is over.
    let judge = FaultyDestination::new(memory.clone()).with_fault_at(n, fault).with_fault_from(n + 1, Fault::Stall);
    let judge = Arc::new(judge);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let exporter = exporter(source, judge, store, config);
        let job = match id {
            None => exporter.start(ExportRequest::new(Level::System)).unwrap(),
            Some(id) => match exporter.resume(id).await {
                Ok(job) => job,
                Err(error) => panic!("{error:#}"),
            },
        };
        tokio::select! {
            biased;
            () = crashes.notified() => {}
            _ = job.join() => {}
        }
    });
    drop(runtime);
    let mut is_unfinished = false;
    checked(async { is_unfinished = store.list().await.unwrap().iter().any(|job| job.is_unfinished()) });
    is_unfinished
}

/// Runs on a thread that isn't a runtime's.
fn checked(check: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(check);
}

#[test]
fn a_job_that_crashes_at_its_nth_call_goes_on_to_the_same_bytes() {
    for config in configs() {
        for source in sources() {
            let mut expected = None;
            checked(async { expected = Some(undisturbed(source.clone(), config.clone()).await) });
            let (expected, calls) = expected.unwrap();
            for n in 1..=calls {
                let (memory, store) = (small_job::destination(), MemoryJobStore::new());
                let note = format!("crashed at call {n} of {calls}");
                if !crash(source.clone(), &memory, &store, config.clone(), n, None) {
                    continue;
                }
                checked(async {
                    let report = resume(source.clone(), &memory, &store, config.clone()).await;
                    assert_as(report, &memory, &expected, &note).await;
                });
            }
        }
    }
}

#[test]
fn a_job_that_crashes_again_and_again_goes_on_to_the_same_bytes() {
    for config in configs() {
        for source in sources() {
            let mut expected = None;
            checked(async { expected = Some(undisturbed(source.clone(), config.clone()).await) });
            let (expected, calls) = expected.unwrap();
            for first in (2..=calls).step_by(3) {
                for again in 1..=6 {
                    let (memory, store) = (small_job::destination(), MemoryJobStore::new());
                    let note = format!("crashed at call {first} of {calls}, then at {again} and {}", again + 3);
                    if !crash(source.clone(), &memory, &store, config.clone(), first, None) {
                        continue;
                    }
                    let mut id = None;
                    checked(async { id = Some(only_job(&store).await) });
                    let crashed = crash(source.clone(), &memory, &store, config.clone(), again, id.as_ref())
                        && crash(source.clone(), &memory, &store, config.clone(), again + 3, id.as_ref());
                    checked(async {
                        if crashed {
                            let report = resume(source.clone(), &memory, &store, config.clone()).await;
                            assert_as(report, &memory, &expected, &note).await;
                        }
                    });
                }
            }
        }
    }
}

#[tokio::test]
async fn a_job_that_is_sealed_at_its_nth_call_goes_on_to_the_whole_and_nothing_twice() {
    for config in configs() {
        for source in sources() {
            let (expected, calls) = undisturbed(source.clone(), config.clone()).await;
            for n in 1..calls {
                let (note, store) = (format!("sealed at call {n} of {calls}"), MemoryJobStore::new());
                let control = Arc::new(std::sync::OnceLock::<fhir_export::job::JobControl>::new());
                let own = Arc::clone(&control);
                let cancel = Fault::Run(Arc::new(move || {
                    own.get().unwrap().cancel_and(OnCancel::Seal);
                }));
                let judge = Arc::new(FaultyDestination::new(small_job::destination()).with_fault_at(n, cancel));
                let first = exporter(source.clone(), Arc::<Judge>::clone(&judge), &store, config.clone());
                let job = first.start(ExportRequest::new(Level::System)).unwrap();
                control.set(job.control()).unwrap();
                let sealed = join(job).await;
                assert_eq!(sealed.state, JobState::CancelCompleted, "{note}: {:?}", sealed.error);
                if !sealed.resumable {
                    assert!(sealed.manifest.is_none(), "{note}");
                    continue;
                }
                let report = resume(source.clone(), judge.inner(), &store, config.clone()).await;
                assert_eq!(report.state, expected.report.state, "{note}: {:?}", report.error);
                assert_eq!(judge.inner().open_count(), 0, "{note}");
                let whole = Exported::read(report, judge.inner()).await;
                whole.assert_well_formed();
                assert!(whole.output() == expected.output(), "{note}: the same lines");
                assert_eq!(whole.quarantine(), expected.quarantine(), "{note}");
                assert_eq!(whole.manifest().extension.ledger, expected.manifest().extension.ledger, "{note}");
                let all = &whole.manifest().output;
                assert!(all.iter().all(|file| !file.extension.partial), "{note}");
            }
        }
    }
}

#[tokio::test]
async fn one_process_has_a_job_at_a_time_and_a_job_that_is_over_does_not_go_on() {
    let (store, memory) = (MemoryJobStore::new(), small_job::destination());
    let (source, gate) = stalled_source();
    let exporter = exporter(source, Arc::new(memory.clone()), &store, small_job::config());
    let job = exporter.start(ExportRequest::new(Level::System)).unwrap();
    gate.reached().await;
    let id = job.id().clone();
    assert_eq!(exporter.resume(&id).await.unwrap_err().kind(), ErrorKind::Fenced);
    gate.open();
    assert_eq!(join(job).await.state, JobState::CompletedWithErrors);
    assert_eq!(exporter.resume(&id).await.unwrap_err().kind(), ErrorKind::InvalidRequest);
    let unknown = JobId::new("unknown").unwrap();
    assert_eq!(exporter.resume(&unknown).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn interrupted_jobs_that_nobody_runs_are_recovered_in_the_order_in_which_they_were_submitted() {
    let (store, memory, config) = (MemoryJobStore::new(), small_job::destination(), small_job::config());
    for _ in 0..3 {
        // What it runs in is gone when it has come to the second range.
        checked(async {
            let (source, gate) = stalled_source();
            let exporter = exporter(source, Arc::new(memory.clone()), &store, config.clone());
            let _job = exporter.start(ExportRequest::new(Level::System)).unwrap();
            gate.reached().await;
        });
    }
    checked(async {
        let (source, gate) = stalled_source();
        let stalled = exporter(source, Arc::new(memory.clone()), &store, config.clone());
        let running = stalled.start(ExportRequest::new(Level::System)).unwrap();
        gate.reached().await;
        let finished = exporter(small_job::source(), Arc::new(memory.clone()), &store, config.clone());
        join(finished.start(ExportRequest::new(Level::System)).unwrap()).await;

        let jobs = store.list().await.unwrap();
        let interrupted: Vec<&JobId> = jobs.iter().take(3).map(|job| &job.id).collect();
        let recovered = finished.recover(ResumeOptions::default()).await.unwrap();
        assert_eq!(recovered.iter().map(JobHandle::id).collect::<Vec<_>>(), interrupted);
        for job in recovered {
            assert_eq!(join(job).await.state, JobState::CompletedWithErrors);
        }
        assert!(finished.recover(ResumeOptions::default()).await.unwrap().is_empty());
        gate.open();
        assert_eq!(join(running).await.state, JobState::CompletedWithErrors);
    });
}

#[tokio::test]
async fn a_job_that_gets_nowhere_is_given_up() {
    let (store, config) = (MemoryJobStore::new(), small_job::config());
    let judge = FaultyDestination::new(small_job::destination()).with_fault_from(3, Fault::Fail(ErrorKind::Store));
    let judge = Arc::new(judge);
    let exporter = exporter(small_job::source(), judge, &store, config);
    let failed = join(exporter.start(ExportRequest::new(Level::System)).unwrap()).await;
    assert!(failed.resumable);
    for _ in 0..5 {
        let job = exporter.resume(&failed.job_id).await.unwrap();
        assert_eq!(join(job).await.state, JobState::Failed);
    }
    let error = exporter.resume(&failed.job_id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    let record = store.get(&failed.job_id).await.unwrap().unwrap();
    assert_eq!((record.state, record.is_unfinished()), (JobState::Failed, false));
}

#[tokio::test]
async fn a_source_that_has_changed_is_named_and_refused_unless_it_may_have() {
    let (store, memory) = (MemoryJobStore::new(), small_job::destination());
    let judge = FaultyDestination::new(memory.clone()).with_fault_at(8, Fault::Fail(ErrorKind::Store));
    let first = exporter(one_type_source(), Arc::new(judge), &store, small_job::config());
    let failed = join(first.start(ExportRequest::new(Level::System)).unwrap()).await;
    assert!(failed.resumable, "{:?}", failed.error);
    let text = "{\"resourceType\":\"Patient\",\"id\":\"new\"}\n";
    let changed = || {
        let time = fhir_export::fhir::Instant::from_unix(1_000_000_000, 0);
        one_type_source().at(time).with(MemoryRange::lines("e", text))
    };
    let exporter = exporter(changed(), Arc::new(memory.clone()), &store, small_job::config());
    let refused = join(exporter.resume(&failed.job_id).await.unwrap()).await;
    let error = refused.error.unwrap();
    assert_eq!((refused.state, error.kind()), (JobState::Failed, ErrorKind::SourceChanged));
    assert!(error.to_string().contains("whether a has"), "{error}");
    assert!(refused.resumable, "nothing is lost by the attempt");
    let options = ResumeOptions::default().allow_changed_source(true);
    let report = join(exporter.resume_with(&failed.job_id, options).await.unwrap()).await;
    assert_eq!(report.state, JobState::CompletedWithErrors);
    let warnings = &report.manifest.as_ref().unwrap().extension.warnings;
    assert!(warnings.iter().any(|warning| warning.contains("the source has changed")), "{warnings:?}");
}

#[tokio::test]
async fn a_cancellation_that_another_process_asks_for_is_seen_within_a_second() {
    let (store, memory) = (MemoryJobStore::new(), small_job::destination());
    let (source, gate) = stalled_source();
    let exporter = exporter(source, Arc::new(memory.clone()), &store, small_job::config());
    let job = exporter.start(ExportRequest::new(Level::System)).unwrap();
    gate.reached().await;
    let asked = std::time::Instant::now();
    let wish = fhir_export::job::CancelWish { on_cancel: Some(OnCancel::Discard) };
    store.ask_cancel(job.id(), wish).await.unwrap();
    let control = job.control();
    let mut states = control.states();
    states.wait_for(|state| *state != JobState::InProgress).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    let report = join(job).await;
    assert_eq!((report.state, report.resumable), (JobState::CancelCompleted, false));
    assert!(memory.keys().iter().all(|key| key.as_str().ends_with("manifest.json")));
}

#[tokio::test]
async fn a_queued_job_is_cancelled_while_it_waits() {
    let (store, memory) = (MemoryJobStore::new(), small_job::destination());
    let (source, gate) = stalled_source();
    let mut config = small_job::config();
    config.jobs_at_once = std::num::NonZero::new(1);
    let exporter = exporter(source, Arc::new(memory.clone()), &store, config);
    let first = exporter.start(ExportRequest::new(Level::System)).unwrap();
    gate.reached().await;
    let second = exporter.start(ExportRequest::new(Level::System)).unwrap();
    let mut states = second.control().states();
    states.wait_for(|state| *state == JobState::Queued).await.unwrap();
    assert_eq!(store.get(second.id()).await.unwrap().unwrap().state, JobState::Queued);
    assert!(second.cancel());
    assert_eq!(second.state(), JobState::CancelSubmitted);
    let id = second.id().clone();
    assert_eq!(join(second).await.state, JobState::CancelCompleted);
    assert_eq!(store.get(&id).await.unwrap().unwrap().state, JobState::CancelCompleted);
    gate.open();
    assert_eq!(join(first).await.state, JobState::CompletedWithErrors);
}

#[tokio::test]
async fn a_job_that_stands_still_fails_and_says_where() {
    let (store, memory) = (MemoryJobStore::new(), small_job::destination());
    let (source, _gate) = stalled_source();
    let mut config = small_job::config();
    config.stall_timeout = Some(Duration::from_millis(200));
    let exporter = exporter(source, Arc::new(memory), &store, config);
    let report = join(exporter.start(ExportRequest::new(Level::System)).unwrap()).await;
    let error = report.error.unwrap();
    assert_eq!((report.state, error.kind()), (JobState::Failed, ErrorKind::Stalled));
    assert!(error.to_string().contains("waits for the source") && error.to_string().contains("second"), "{error}");
    assert!(report.resumable);
}

#[tokio::test]
async fn an_object_whose_upload_is_gone_begins_again_and_the_manifest_says_so() {
    for config in configs() {
        for lists_parts in [true, false] {
            let (expected, calls) = undisturbed(one_type_source(), config.clone()).await;
            let (store, memory) = (MemoryJobStore::new(), small_job::destination());
            let judge = FaultyDestination::new(memory.clone()).with_fault_at(calls - 3, Fault::Fail(ErrorKind::Store));
            let first = exporter(one_type_source(), Arc::new(judge), &store, config.clone());
            let failed = join(first.start(ExportRequest::new(Level::System)).unwrap()).await;
            assert!(failed.resumable, "{:?}", failed.error);
            // As a lifecycle rule of the store does.
            let open = memory.open_uploads("").await.unwrap().unwrap();
            for upload in &open {
                memory.reopen(&upload.key, &upload.upload_id).await.unwrap().abort().await.unwrap();
            }
            let destination: Arc<dyn Destination> = match lists_parts {
                true => Arc::new(memory.clone()),
                false => Arc::new(Blind(memory.clone())),
            };
            let exporter = exporter(one_type_source(), destination, &store, config.clone());
            let mut report = join(exporter.resume(&failed.job_id).await.unwrap()).await;
            for _ in 0..8 {
                if report.resumable {
                    report = join(exporter.resume(&failed.job_id).await.unwrap()).await;
                }
            }
            assert_eq!(report.state, expected.report.state, "{:?}", report.error);
            let warnings = report.manifest.as_ref().unwrap().extension.warnings.clone();
            assert!(open.is_empty() || !lists_parts || warnings.iter().any(|one| one.contains("begun again")));
            let whole = Exported::read(report, &memory).await;
            whole.assert_well_formed();
            assert!(whole.objects() == expected.objects());
        }
    }
}

/// A store that can't tell what it holds of an upload, or whether it has it at all.
#[derive(Debug)]
struct Blind(MemoryDestination);

#[derive(Debug)]
struct BlindUpload {
    memory: MemoryDestination,
    key: ObjectKey,
    id: String,
}

impl BlindUpload {
    async fn upload(&self) -> fhir_export::Result<Box<dyn fhir_export::destination::Upload>> {
        self.memory.reopen(&self.key, &self.id).await
    }
}

#[async_trait::async_trait]
impl fhir_export::destination::Upload for BlindUpload {
    fn id(&self) -> &str {
        &self.id
    }

    async fn put_part(&self, number: u32, payload: PutPayload) -> fhir_export::Result<PartId> {
        self.upload().await?.put_part(number, payload).await
    }

    async fn complete(&self, parts: &[PartId]) -> fhir_export::Result<()> {
        self.upload().await?.complete(parts).await
    }

    async fn abort(&self) -> fhir_export::Result<()> {
        self.upload().await?.abort().await
    }

    async fn parts(&self) -> fhir_export::Result<Option<Vec<StoredPart>>> {
        Ok(None)
    }
}

#[async_trait::async_trait]
impl Destination for Blind {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn url(&self, key: &ObjectKey) -> String {
        self.0.url(key)
    }

    async fn begin(&self, key: &ObjectKey) -> fhir_export::Result<Box<dyn fhir_export::destination::Upload>> {
        let id = self.0.begin(key).await?.id().to_owned();
        self.reopen(key, &id).await
    }

    async fn put(&self, key: &ObjectKey, payload: PutPayload) -> fhir_export::Result<()> {
        self.0.put(key, payload).await
    }

    async fn list(&self, folder: &str) -> fhir_export::Result<Vec<StoredObject>> {
        self.0.list(folder).await
    }

    async fn size_bytes(&self, key: &ObjectKey) -> fhir_export::Result<Option<u64>> {
        self.0.size_bytes(key).await
    }

    async fn get(&self, key: &ObjectKey) -> fhir_export::Result<BoxStream<'static, fhir_export::Result<Bytes>>> {
        self.0.get(key).await
    }

    async fn delete(&self, key: &ObjectKey) -> fhir_export::Result<()> {
        self.0.delete(key).await
    }

    async fn open_uploads(&self, _: &str) -> fhir_export::Result<Option<Vec<OpenUpload>>> {
        Ok(None)
    }

    async fn reopen(
        &self,
        key: &ObjectKey,
        id: &str,
    ) -> fhir_export::Result<Box<dyn fhir_export::destination::Upload>> {
        Ok(Box::new(BlindUpload { memory: self.0.clone(), key: key.clone(), id: id.to_owned() }))
    }
}

#[tokio::test]
async fn what_a_dead_job_has_left_is_swept() {
    let (store, memory) = (MemoryJobStore::new(), small_job::destination());
    let judge = FaultyDestination::new(memory.clone()).with_fault_at(12, Fault::Fail(ErrorKind::Store));
    let exporter = exporter(one_type_source(), Arc::new(judge), &store, small_job::config());
    let failed = join(exporter.start(ExportRequest::new(Level::System)).unwrap()).await;
    assert!(failed.resumable && memory.open_count() > 0, "{:?}", failed.error);
    let id = &failed.job_id;
    sweep(&store, &memory, id, SweepOptions::default()).await.unwrap();
    assert_eq!(memory.open_count(), 0);
    assert!(!store.get(id).await.unwrap().unwrap().is_unfinished());
    assert_eq!(exporter.resume(id).await.unwrap_err().kind(), ErrorKind::InvalidRequest);
    sweep(&store, &memory, id, SweepOptions::default().objects(true).record(true)).await.unwrap();
    assert!(memory.keys().is_empty() && store.list().await.unwrap().is_empty());
}
