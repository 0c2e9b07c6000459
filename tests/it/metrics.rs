//! The numbers that jobs publish are those of their manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fhir_export::ErrorKind;
use fhir_export::destination::faulty::{Call, Fault, FaultyDestination};
use fhir_export::destination::{Destination, MemoryDestination, RetryCause, RetryPolicy, Retrying};
use fhir_export::fhir::ResourceType;
use fhir_export::job::{
    Exporter, JobControl, JobHandle, JobReport, JobState, JobStore, LedgerEntry, MemoryJobStore, OnCancel, WaitsFor,
};
use fhir_export::metrics::{Kind, TABLE};
use fhir_export::request::{ExportRequest, Level, TypeSelection};
use fhir_export::source::Source;
use fhir_export::source::memory::{Gate, MemoryRange, MemorySource};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use crate::support::small_job;

type Judge = FaultyDestination<MemoryDestination>;

/// Longer than any job here takes, unless it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// Everything that was published since the last look: by name and the values of its labels.
#[derive(Debug, Default)]
struct Published {
    counters: BTreeMap<(String, Vec<String>), u64>,
    gauges: BTreeMap<(String, Vec<String>), f64>,
    histograms: BTreeMap<String, usize>,
}

impl Published {
    /// Takes what was recorded. Gauges mean something only if they are taken once.
    fn take(recorder: &DebuggingRecorder) -> Self {
        let mut published = Self::default();
        for (key, unit, help, value) in recorder.snapshotter().snapshot().into_vec() {
            let key = key.key();
            let listed = TABLE.iter().find(|metric| metric.name == key.name()).unwrap_or_else(|| panic!("{key}"));
            assert!(key.labels().map(|label| label.key()).eq(listed.labels.iter().copied()), "{key}");
            assert!(unit.is_some() && help.is_some_and(|help| *help == *listed.help), "{key} is described");
            let (name, labels) = (key.name().to_owned(), key.labels().map(|label| label.value().to_owned()).collect());
            match value {
                DebugValue::Counter(count) => drop(published.counters.insert((name, labels), count)),
                DebugValue::Gauge(value) => drop(published.gauges.insert((name, labels), value.into_inner())),
                DebugValue::Histogram(values) => drop(published.histograms.insert(name, values.len())),
            }
        }
        published
    }

    fn counter(&self, name: &str, labels: &[&str]) -> u64 {
        assert!(TABLE.iter().any(|metric| metric.name == name && metric.kind == Kind::Counter), "{name}");
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self.counters.get(&(name.to_owned(), labels)).copied().unwrap_or_default()
    }

    /// Sum over all values of all labels.
    fn sum(&self, name: &str) -> u64 {
        self.counters.iter().filter(|((own, _), _)| own == name).map(|(_, count)| count).sum()
    }

    /// Resources and bytes by type and fate, those that were read as the fate `read`.
    fn books(&self) -> Books {
        let mut books = Books::new();
        for ((name, labels), count) in self.counters.iter().filter(|(_, count)| **count > 0) {
            let fate = labels.get(1).map_or("read", String::as_str);
            let (resources, bytes) = match name.as_str() {
                "fhir_export_read_resources_total" | "fhir_export_resources_total" => (*count, 0),
                "fhir_export_read_bytes_total" | "fhir_export_resource_bytes_total" => (0, *count),
                _ => continue,
            };
            let place = books.entry((labels[0].clone(), fate.to_owned())).or_default();
            *place = (place.0 + resources, place.1 + bytes);
        }
        books
    }

    fn assert_nothing_is_held(&self, note: &str) {
        let held = ["jobs", "open_uploads", "budget_held_bytes", "budget_waiters", "budget_size_bytes"];
        for name in held.map(|name| format!("fhir_export_{name}")) {
            let mut gauges = self.gauges.iter().filter(|((own, _), _)| *own == name);
            assert!(gauges.all(|(_, value)| *value == 0.0), "{note}: {name}: {:?}", self.gauges);
        }
    }
}

type Books = BTreeMap<(String, String), (u64, u64)>;

fn books_of(ledger: &[LedgerEntry]) -> Books {
    let mut books = Books::new();
    for row in ledger {
        let name = row.resource_type.as_deref().unwrap_or("unknown");
        let name = if row.resource_type.is_none() || ResourceType::r4(name).is_some() { name } else { "other" };
        let excluded = row.excluded.iter().map(|(reason, count)| (format!("excluded-{reason}"), *count));
        let others = [
            ("read", row.read),
            ("written", row.written),
            ("quarantined", row.quarantined),
            ("cut", row.cut),
            ("superseded", row.superseded),
        ];
        for (fate, count) in others.map(|(fate, count)| (fate.to_owned(), count)).into_iter().chain(excluded) {
            let place = books.entry((name.to_owned(), fate)).or_default();
            *place = (place.0 + count.resources, place.1 + count.bytes);
        }
    }
    books.retain(|_, count| *count != (0, 0));
    books
}

fn recorder() -> DebuggingRecorder {
    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, fhir_export::metrics::describe);
    recorder
}

/// Everything but one type, so that something is excluded.
fn request() -> ExportRequest {
    let types = ["Patient", "Observation"].map(|name| ResourceType::r4(name).unwrap());
    ExportRequest::new(Level::System).with_types(TypeSelection::only(types).unwrap())
}

fn exporter(
    source: impl Source + 'static,
    destination: Arc<dyn Destination>,
    store: Option<&MemoryJobStore>,
) -> Exporter {
    let builder = Exporter::builder().source(Arc::new(source)).destination(destination).config(small_job::config());
    match store {
        Some(store) => builder.job_store(Arc::new(store.clone())).build().unwrap(),
        None => builder.build().unwrap(),
    }
}

async fn join(job: JobHandle) -> JobReport {
    tokio::time::timeout(HANGS_AFTER, job.join()).await.expect("the job ends")
}

#[tokio::test]
async fn after_a_job_the_counters_are_its_ledger() {
    let recorder = recorder();
    let _published = metrics::set_default_local_recorder(&recorder);
    let judge = Arc::new(FaultyDestination::new(small_job::destination()));
    let report = join(exporter(small_job::source(), Arc::<Judge>::clone(&judge), None).start(request()).unwrap()).await;
    let manifest = report.manifest.unwrap();
    let published = Published::take(&recorder);
    assert_eq!(published.books(), books_of(&manifest.extension.ledger));
    for row in manifest.extension.ledger.iter().filter(|row| row.written.resources > 0) {
        let name = row.resource_type.as_deref().unwrap();
        let of_type = |metric: &str| published.counter(metric, &[name]);
        assert_eq!(of_type("fhir_export_durable_resources_total"), row.written.resources);
        assert_eq!(of_type("fhir_export_durable_bytes_total"), row.written.bytes);
    }
    let errors: u64 = manifest.error.iter().map(|file| file.count).sum();
    assert_eq!(published.counter("fhir_export_durable_resources_total", &["errors"]), errors);
    let files = || manifest.output.iter().chain(&manifest.error).map(|file| &file.extension);
    let parts: u64 = files().map(|file| u64::from(file.parts.max(1))).sum();
    assert_eq!(published.sum("fhir_export_stored_parts_total"), parts);
    assert_eq!(published.histograms["fhir_export_put_seconds"], parts as usize);
    assert_eq!(published.sum("fhir_export_stored_bytes_total"), files().map(|file| file.bytes).sum::<u64>());
    assert_eq!(published.counter("fhir_export_ended_jobs_total", &["COMPLETED_WITH_ERRORS"]), 1);
    assert!(judge.calls().contains(&Call::Begin) && published.gauges.keys().any(|(name, _)| name.ends_with("uploads")));
    published.assert_nothing_is_held("at the end");
}

#[tokio::test]
async fn wherever_a_job_is_cancelled_the_counters_are_its_ledger() {
    for on_cancel in [OnCancel::Seal, OnCancel::Discard] {
        let (mut n, mut cancelled) = (0, 0);
        loop {
            n += 1;
            let recorder = recorder();
            let _published = metrics::set_default_local_recorder(&recorder);
            let control: Arc<OnceLock<JobControl>> = Arc::default();
            let own = Arc::clone(&control);
            let cancel = Fault::Run(Arc::new(move || {
                own.get().unwrap().cancel_and(on_cancel);
            }));
            let judge = Arc::new(FaultyDestination::new(small_job::destination()).with_fault_at(n, cancel));
            let exporter = exporter(small_job::paced_source(), Arc::<Judge>::clone(&judge), None);
            let job = exporter.start(request()).unwrap();
            control.set(job.control()).unwrap();
            let report = join(job).await;
            if judge.calls().len() < n {
                break;
            }
            let (note, published) = (format!("{on_cancel:?} at call {n}"), Published::take(&recorder));
            assert_eq!(published.books(), books_of(&report.ledger_entries()), "{note}");
            published.assert_nothing_is_held(&note);
            assert_eq!(published.counter("fhir_export_ended_jobs_total", &[report.state.as_str()]), 1, "{note}");
            if report.state == JobState::CancelCompleted {
                cancelled += 1;
                assert_eq!(published.histograms["fhir_export_cancel_seconds"], 1, "{note}");
                assert_eq!(published.histograms["fhir_export_cancel_end_seconds"], 1, "{note}");
            }
        }
        assert!(cancelled > 5, "{on_cancel:?}: {cancelled}");
    }
}

#[tokio::test]
async fn a_job_that_is_sealed_and_goes_on_publishes_its_ledger_once() {
    let gate = Gate::new();
    let (recorder, store, destination) = (recorder(), MemoryJobStore::new(), small_job::destination());
    let _published = metrics::set_default_local_recorder(&recorder);
    let stalled = small_job::source_stalled_at("second", 300, &gate);
    let job = exporter(stalled, Arc::new(destination.clone()), Some(&store)).start(request()).unwrap();
    let id = job.id().clone();
    gate.reached().await;
    assert!(job.cancel());
    let sealed = join(job).await;
    assert_eq!(sealed.state, JobState::CancelCompleted);
    let first = Published::take(&recorder);
    assert_eq!(first.books(), books_of(&sealed.ledger_entries()));
    let whole = exporter(small_job::source(), Arc::new(destination), Some(&store)).resume(&id).await.unwrap();
    let whole = join(whole).await;
    let mut books = first.books();
    assert!(books.keys().all(|(_, fate)| fate != "cut"), "nothing was cut, so nothing is read twice");
    for (place, count) in Published::take(&recorder).books() {
        let sum = books.entry(place).or_default();
        *sum = (sum.0 + count.0, sum.1 + count.1);
    }
    assert_eq!(books, books_of(&whole.manifest.unwrap().extension.ledger));
}

#[tokio::test]
async fn a_job_that_fails_and_goes_on_publishes_once_what_is_written_and_balances() {
    let (mut n, mut resumed) = (0, 0);
    loop {
        n += 1;
        let (recorder, store) = (recorder(), MemoryJobStore::new());
        let _published = metrics::set_default_local_recorder(&recorder);
        let fault = Fault::Fail(ErrorKind::Store);
        let judge = Arc::new(FaultyDestination::new(small_job::destination()).with_fault_at(n, fault));
        let first = exporter(small_job::paced_source(), Arc::<Judge>::clone(&judge), Some(&store));
        let failed = join(first.start(request()).unwrap()).await;
        if judge.calls().len() < n {
            break;
        }
        if !failed.resumable {
            continue;
        }
        resumed += 1;
        let memory = Arc::new(judge.inner().clone());
        let id = store.list().await.unwrap()[0].id.clone();
        let whole = join(exporter(small_job::source(), memory, Some(&store)).resume(&id).await.unwrap()).await;
        let (note, published) = (format!("failed at call {n}"), Published::take(&recorder));
        let ledger = whole.manifest.unwrap().extension.ledger;
        let (books, expected) = (published.books(), books_of(&ledger));
        let types: BTreeSet<&str> = books.keys().map(|(name, _)| name.as_str()).collect();
        for name in types {
            let of =
                |books: &Books, fate: &str| books.get(&(name.to_owned(), fate.to_owned())).copied().unwrap_or_default();
            assert_eq!(of(&books, "written"), of(&expected, "written"), "{note}: {name}");
            let fates = books.iter().filter(|((own, fate), _)| own == name && fate != "read");
            let sum = fates.fold((0, 0), |sum, (_, count)| (sum.0 + count.0, sum.1 + count.1));
            assert_eq!(of(&books, "read"), sum, "{note}: {name}");
        }
        published.assert_nothing_is_held(&note);
        assert!(published.histograms["fhir_export_journal_seconds"] > 5, "{note}");
    }
    assert!(resumed > 5, "{resumed}");
}

#[tokio::test]
async fn types_that_r4_does_not_know_are_published_under_one_name() {
    let recorder = recorder();
    let _published = metrics::set_default_local_recorder(&recorder);
    let text = "{\"resourceType\":\"Smith\"}\n{\"resourceType\":\"Miller\"}\n{\"resourceType\":\"Basic\"}\n";
    let source = MemorySource::new().with(MemoryRange::lines("a", text));
    let job = exporter(source, Arc::new(small_job::destination()), None).start(ExportRequest::new(Level::System));
    let report = join(job.unwrap()).await;
    let published = Published::take(&recorder);
    assert_eq!(published.counter("fhir_export_resources_total", &["other", "written"]), 2);
    assert_eq!(published.books(), books_of(&report.manifest.unwrap().extension.ledger));
    let names = published.counters.keys().flat_map(|(_, labels)| labels);
    assert!(names.into_iter().all(|name| name != "Smith" && name != "Miller"));
}

#[tokio::test]
async fn calls_that_are_repeated_are_counted_by_cause() {
    let recorder = recorder();
    let _published = metrics::set_default_local_recorder(&recorder);
    let judge = FaultyDestination::new(small_job::destination());
    let judge = judge.with_fault_at(4, Fault::FailFor(RetryCause::Throttled)).with_fault_at(6, Fault::LoseAnswer);
    let policy = RetryPolicy { first_wait: Duration::from_millis(1), ..RetryPolicy::default() };
    let retrying = Arc::new(Retrying::new(Arc::new(judge)).with_policy(policy));
    let counts = retrying.counts();
    let report = small_job::run(small_job::source(), retrying, small_job::config()).await;
    assert!(report.manifest.is_some(), "{:?}", report.error);
    let published = Published::take(&recorder);
    for cause in RetryCause::ALL {
        let published = published.counter("fhir_export_store_failures_total", &[cause.as_str()]);
        assert_eq!(published, counts.get(cause), "{cause}");
    }
    assert_eq!(counts.total(), 2);
}

#[tokio::test(start_paused = true)]
async fn while_a_job_stalls_its_state_its_budget_and_what_it_waits_for_are_shown() {
    let gate = Gate::new();
    let recorder = recorder();
    let _published = metrics::set_default_local_recorder(&recorder);
    let stalled = small_job::source_stalled_at("second", 300, &gate);
    let job = exporter(stalled, Arc::new(small_job::destination()), None).start(request()).unwrap();
    gate.reached().await;
    let mut progress = job.control().progress();
    let stalls = progress.wait_for(|progress| progress.waited.bottleneck == Some(WaitsFor::Source));
    drop(stalls.await.unwrap());
    let published = Published::take(&recorder);
    let sum = |name: &str| -> f64 {
        published.gauges.iter().filter(|((own, _), _)| own == name).map(|(_, value)| *value).sum()
    };
    assert_eq!(sum("fhir_export_budget_size_bytes"), f64::from(64 << 20));
    assert_eq!(published.gauges[&("fhir_export_jobs".to_owned(), vec!["IN_PROGRESS".to_owned()])], 1.0);
    assert_eq!(sum("fhir_export_jobs"), 1.0, "it is in no other state");
    job.cancel();
    assert_eq!(join(job).await.state, JobState::CancelCompleted);
}
