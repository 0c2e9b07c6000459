//! Jobs whose store, source, rules or disk fail: nothing half written, books balanced, the state right.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fhir_export::destination::faulty::{Call, Fault, FaultyDestination};
use fhir_export::destination::{Destination, MemoryDestination, RetryCause, RetryPolicy, Retrying};
use fhir_export::engine::OnBad;
use fhir_export::filter::{Candidate, Policy};
use fhir_export::job::{Config, Exporter, JobReport, JobState};
use fhir_export::ledger::Count;
use fhir_export::request::{ExportRequest, Level};
use fhir_export::source::memory::{MemoryRange, MemorySource};
use fhir_export::{Error, ErrorKind};

use crate::support::exported::Exported;
use crate::support::small_job;

type Judge = FaultyDestination<MemoryDestination>;

/// Repeats at once, and not often.
const IMPATIENT: RetryPolicy = RetryPolicy {
    attempts: 3,
    first_wait: Duration::from_micros(10),
    longest_wait: Duration::from_micros(100),
    complete_for: Duration::from_millis(500),
    request_for: Duration::from_secs(30),
    slowest_bytes_per_second: 256 << 10,
    listing_for: Duration::from_secs(30),
};

struct Ended {
    report: JobReport,
    judge: Arc<Judge>,
}

async fn run(judge: Judge, retrying: bool, config: Config) -> Ended {
    let judge = Arc::new(judge);
    let destination: Arc<dyn Destination> = match retrying {
        true => Arc::new(Retrying::new(Arc::clone(&judge)).with_policy(IMPATIENT)),
        false => Arc::<Judge>::clone(&judge),
    };
    let report = small_job::run(small_job::source(), destination, config).await;
    Ended { report, judge }
}

fn judge() -> Judge {
    FaultyDestination::new(small_job::destination())
}

/// How many calls the undisturbed job makes.
async fn calls(config: Config) -> usize {
    let Ended { report, judge } = run(judge(), false, config).await;
    assert_eq!(report.state, JobState::CompletedWithErrors);
    for call in [Call::Begin, Call::PutPart, Call::Complete, Call::Put, Call::List, Call::SizeBytes] {
        assert!(judge.count(call) > 0, "the small job makes every kind of call: {call:?}");
    }
    judge.calls().len()
}

/// The context that an error has under a name.
fn context<'e>(error: &'e Error, wanted: &str) -> Option<&'e str> {
    error.context().find(|(name, _)| *name == wanted).map(|(_, value)| value)
}

/// Nothing is written, and the books say so.
fn assert_nothing_written(report: &JobReport, note: &str) {
    assert!(report.objects.is_empty() && report.manifest.is_none(), "{note}");
    for (name, row) in &report.ledger {
        assert!(row.balances(), "{note}: {name:?} {row:?}");
        assert_eq!(row.written, Count::default(), "{note}: {name:?}");
    }
}

/// The job failed, says where, and has removed everything.
fn assert_failed_clean(ended: &Ended, note: &str) {
    let Ended { report, judge } = ended;
    assert_eq!(report.state, JobState::Failed, "{note}");
    let error = report.error.as_ref().unwrap();
    let of_object = ["Begin", "Put", "PutPart", "Complete"].map(Some).contains(&context(error, "method"));
    assert!(!of_object || context(error, "object").is_some(), "{note}: {error} names no object");
    assert_nothing_written(report, note);
    assert!(report.leftovers.is_empty(), "{note}: {:?}", report.leftovers);
    assert_eq!((judge.inner().open_count(), judge.inner().keys()), (0, vec![]), "{note}");
}

async fn assert_complete(ended: Ended, expected: &Exported, note: &str) {
    let Ended { report, judge } = ended;
    assert_eq!(report.state, JobState::CompletedWithErrors, "{note}: {:?}", report.error);
    assert_eq!(judge.inner().open_count(), 0, "{note}");
    let exported = Exported::read(report, judge.inner()).await;
    exported.assert_well_formed();
    assert!(exported.objects() == expected.objects(), "{note}");
    assert_eq!(exported.quarantine(), expected.quarantine(), "{note}");
}

#[tokio::test]
async fn a_job_whose_nth_call_fails_for_good_fails_and_leaves_nothing() {
    for config in [small_job::config(), small_job::compressing_config()] {
        for n in 1..=calls(config.clone()).await {
            for (retrying, kind) in [(false, ErrorKind::Store), (true, ErrorKind::PermissionDenied)] {
                let ended = run(judge().with_fault_at(n, Fault::Fail(kind)), retrying, config.clone()).await;
                let note = format!("call {n} of {:?}", ended.judge.calls());
                if is_mere_look(&ended.judge, n) {
                    assert_eq!(ended.report.state, JobState::CompletedWithErrors, "{note}");
                    continue;
                }
                assert_failed_clean(&ended, &note);
                assert_eq!(ended.report.error.as_ref().unwrap().kind(), kind, "{note}");
            }
        }
    }
}

/// Whether the call looks for uploads that nobody knows, which a job may do without.
fn is_mere_look(judge: &Judge, n: usize) -> bool {
    judge.calls().get(n - 1) == Some(&Call::OpenUploads)
}

#[tokio::test]
async fn a_job_whose_nth_answer_is_lost_fails_and_leaves_nothing() {
    let config = small_job::config();
    for n in 1..=calls(config.clone()).await {
        let ended = run(judge().with_fault_at(n, Fault::LoseAnswer), false, config.clone()).await;
        let note = format!("call {n} of {:?}", ended.judge.calls());
        if !is_mere_look(&ended.judge, n) {
            assert_failed_clean(&ended, &note);
        }
    }
}

#[tokio::test]
async fn a_job_whose_nth_call_fails_once_is_complete_when_it_is_repeated() {
    for config in [small_job::config(), small_job::compressing_config()] {
        let expected = small_job::undisturbed(config.clone()).await;
        for n in 1..=calls(config.clone()).await {
            for fault in [Fault::LoseAnswer, Fault::FailFor(RetryCause::Throttled), Fault::FailFor(RetryCause::Timeout)]
            {
                let note = format!("call {n}: {fault:?}");
                let ended = run(judge().with_fault_at(n, fault), true, config.clone()).await;
                assert_complete(ended, &expected, &note).await;
            }
        }
    }
}

#[tokio::test]
async fn a_store_that_is_gone_from_the_nth_call_on_leaves_only_what_the_report_lists() {
    let expected = small_job::undisturbed(small_job::config()).await;
    let whole: Vec<&[u8]> = expected.stored.values().map(Vec::as_slice).collect();
    for n in 1..=calls(small_job::config()).await {
        for retrying in [false, true] {
            let gone = if retrying { Fault::FailFor(RetryCause::Connection) } else { Fault::Fail(ErrorKind::Store) };
            let Ended { report, judge } = run(judge().with_fault_from(n, gone), retrying, small_job::config()).await;
            let note = format!("from call {n} on");
            assert_eq!(report.state, JobState::Failed, "{note}");
            assert!(report.error.is_some() && report.manifest.is_none(), "{note}");
            let listed = |key: &_| report.leftovers.iter().any(|left| left.key == *key);
            for key in judge.inner().keys() {
                assert!(listed(&key), "{note}: {key} is left and not listed");
                let bytes = judge.inner().object(&key).unwrap();
                let is_report = key.as_str().contains("OperationOutcome");
                assert!(is_report || whole.contains(&&*bytes), "{note}: {key} is a half object");
            }
            for upload in judge.inner().open_uploads("").await.unwrap().unwrap() {
                assert!(listed(&upload.key), "{note}: an upload of {} is left and not listed", upload.key);
            }
            assert!(report.ledger.iter().all(|(_, row)| row.balances()), "{note}");
        }
    }
}

#[tokio::test]
async fn a_range_that_breaks_off_is_reported_and_the_others_are_complete() {
    let lines = |name: &str| format!("{{\"resourceType\":\"{name}\",\"id\":\"1\"}}\n{{\"resourceType\":\"{name}\"}}\n");
    let broken = MemoryRange::lines("broken", lines("Patient")).failing_at(50, ErrorKind::Unreadable);
    let source = || MemorySource::new().with(broken.clone()).with(MemoryRange::lines("sound", lines("Observation")));
    let destination = small_job::destination();
    let report = small_job::run(source(), Arc::new(destination.clone()), small_job::config()).await;
    assert_eq!(report.state, JobState::CompletedWithErrors);
    let exported = Exported::read(report, &destination).await;
    exported.assert_well_formed();
    let output = exported.output();
    assert_eq!(output["Observation"], lines("Observation").as_bytes());
    assert_eq!(output["Patient"], b"{\"resourceType\":\"Patient\",\"id\":\"1\"}\n", "a line that was cut is no line");
    let issues = exported.issues();
    assert_eq!(issues.len(), 1);
    assert!(issues[0]["diagnostics"].as_str().unwrap().starts_with("broken: "), "{issues:?}");

    let mut strict = small_job::config();
    strict.on_bad = OnBad::Fail;
    let ended = run_clean(source(), strict).await;
    assert_eq!(ended.kind(), ErrorKind::Unreadable);
}

/// Runs a job that must fail and leave nothing; returns why it failed.
async fn run_clean(source: MemorySource, config: Config) -> Error {
    let judge = Arc::new(judge());
    let report = small_job::run(source, Arc::<Judge>::clone(&judge), config).await;
    let ended = Ended { report, judge };
    assert_failed_clean(&ended, "");
    ended.report.error.unwrap()
}

#[tokio::test]
async fn a_source_that_fails_fails_the_job() {
    for at in [0, 100, 400] {
        let failing = MemoryRange::lines("failing", "{\"resourceType\":\"Patient\"}\n".repeat(20));
        let source = small_job::source().with(failing.failing_at(at, ErrorKind::Source));
        let error = run_clean(source, small_job::config()).await;
        assert_eq!((error.kind(), context(&error, "range")), (ErrorKind::Source, Some("failing")));
    }
}

#[tokio::test]
async fn the_first_bad_resource_fails_a_job_that_is_told_so() {
    let mut config = small_job::config();
    config.on_bad = OnBad::Fail;
    let error = run_clean(small_job::source(), config).await;
    assert_eq!((error.kind(), context(&error, "source")), (ErrorKind::BadResource, Some("first")));
    assert!(!error.to_string().contains("not a resource"), "no content of the source: {error}");
}

#[tokio::test]
async fn a_job_of_more_than_256_types_fails() {
    let line = |number: u32| {
        let letter = |place: u32| char::from(b'a' + (number / 16_u32.pow(place) % 16) as u8);
        format!("{{\"resourceType\":\"T{}{}{}\"}}\n", letter(0), letter(1), letter(2))
    };
    let source =
        |types| MemorySource::new().with(MemoryRange::lines("types", (0..types).map(line).collect::<String>()));
    let destination = small_job::destination();
    let report = small_job::run(source(256), Arc::new(destination.clone()), small_job::config()).await;
    assert_eq!((report.state, report.objects.len()), (JobState::Completed, 256));
    let error = run_clean(source(257), small_job::config()).await;
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
}

/// Panics when it is asked first.
#[derive(Debug, Default)]
struct PanicsOnce(AtomicBool);

impl Policy for PanicsOnce {
    fn keep(&self, _: &Candidate<'_>) -> bool {
        assert!(self.0.swap(true, Ordering::Relaxed), "a policy that panics on purpose");
        true
    }
}

#[tokio::test]
async fn a_policy_that_panics_fails_its_job_and_no_other() {
    let mut config = small_job::config();
    config.policy = Some(Arc::new(PanicsOnce::default()));
    let judge = Arc::new(judge());
    let exporter = Exporter::builder()
        .source(Arc::new(small_job::source()))
        .destination(Arc::<Judge>::clone(&judge))
        .config(config)
        .build()
        .unwrap();
    let start = || exporter.start(ExportRequest::new(Level::System)).unwrap();
    let ended = Ended { report: start().join().await, judge: Arc::clone(&judge) };
    assert_failed_clean(&ended, "");
    assert_eq!(ended.report.error.unwrap().kind(), ErrorKind::Internal);
    assert_eq!(start().join().await.state, JobState::CompletedWithErrors);
}

/// Eight types of 4 MiB, line by line: more than may wait in a budget of 64 MiB, and none is a part.
fn wide_source() -> MemorySource {
    let line = |number: usize| {
        let name = ["Patient", "Account", "Basic", "Binary", "Claim", "Device", "Goal", "Slot"][number % 8];
        let head = format!("{{\"resourceType\":\"{name}\",\"id\":\"{number}\",\"text\":\"");
        let text = "x".repeat((64 << 10) - head.len() - 3);
        format!("{head}{text}\"}}\n")
    };
    MemorySource::new().with(MemoryRange::lines("wide", (0..512).map(line).collect::<String>()))
}

fn wide_config() -> Config {
    let mut config = Config::default();
    config.budget_bytes = 64 << 20;
    config
}

#[tokio::test]
async fn a_spill_folder_that_is_not_there_is_named() {
    let mut config = wide_config();
    config.spill_folder = "/nowhere/at/all".into();
    let judge = Arc::new(FaultyDestination::new(MemoryDestination::new()));
    let report = small_job::run(wide_source(), Arc::<Judge>::clone(&judge), config).await;
    let ended = Ended { report, judge };
    assert_failed_clean(&ended, "");
    let error = ended.report.error.unwrap();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
}

#[tokio::test]
async fn what_neither_memory_nor_disk_has_room_for_goes_out_in_several_objects() {
    let mut outputs = Vec::new();
    for (spill_limit_bytes, budget_bytes) in [(0, 64 << 20), (5 << 20, 64 << 20), (1 << 30, 64 << 20), (0, 256 << 20)] {
        let mut config = wide_config();
        config.budget_bytes = budget_bytes;
        config.spill_limit_bytes = spill_limit_bytes;
        let destination = MemoryDestination::new();
        let report = small_job::run(wide_source(), Arc::new(destination.clone()), config).await;
        assert_eq!(report.state, JobState::Completed);
        let exported = Exported::read(report, &destination).await;
        exported.assert_well_formed();
        let reasons = exported.manifest().output.iter().map(|file| file.extension.sequence_reason.as_str());
        let by_memory = reasons.filter(|reason| *reason == "memory").count();
        assert_eq!(by_memory > 0, spill_limit_bytes < 8 << 20 && budget_bytes == 64 << 20, "{by_memory}");
        outputs.push(exported.output());
    }
    assert!(outputs.iter().all(|output| *output == outputs[0]), "the same lines in the same order");
}
