//! Jobs that are cancelled: at every call to the store, under load, against a store that doesn't answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fhir_export::ErrorKind;
use fhir_export::destination::faulty::{Call, Fault, FaultyDestination};
use fhir_export::destination::{Destination, MemoryDestination, ObjectKey};
use fhir_export::fhir::ResourceType;
use fhir_export::job::{Config, Exporter, JobControl, JobHandle, JobReport, JobState, OnCancel};
use fhir_export::ledger::Count;
use fhir_export::request::{ExportRequest, Level, TypeSelection};
use fhir_export::source::Source;
use fhir_export::source::memory::Gate;

use crate::support::exported::Exported;
use crate::support::generated_source::GeneratedSource;
use crate::support::late_puts::LatePuts;
use crate::support::null_destination::NullDestination;
use crate::support::small_job;

type Judge = FaultyDestination<MemoryDestination>;

/// Longer than any job here takes, unless it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// Everything but one type, so that something is excluded.
fn request() -> ExportRequest {
    let types = ["Patient", "Observation"].map(|name| ResourceType::r4(name).unwrap());
    ExportRequest::new(Level::System).with_types(TypeSelection::only(types).unwrap())
}

fn start(source: impl Source + 'static, destination: Arc<dyn Destination>, config: Config) -> JobHandle {
    let exporter =
        Exporter::builder().source(Arc::new(source)).destination(destination).config(config).build().unwrap();
    exporter.start(request()).unwrap()
}

async fn join(job: JobHandle) -> JobReport {
    tokio::time::timeout(HANGS_AFTER, job.join()).await.expect("the job ends")
}

/// A judge that cancels the job at its n-th call, if there are so many.
fn cancelling(n: usize, on_cancel: OnCancel) -> (Judge, Arc<OnceLock<JobControl>>) {
    let control: Arc<OnceLock<JobControl>> = Arc::default();
    let own = Arc::clone(&control);
    let cancel = Fault::Run(Arc::new(move || {
        assert!(own.get().unwrap().cancel_and(on_cancel), "the job still runs");
    }));
    (FaultyDestination::new(small_job::destination()).with_fault_at(n, cancel), control)
}

struct Ended {
    report: JobReport,
    judge: Arc<Judge>,
}

async fn cancelled_at(n: usize, on_cancel: OnCancel, config: Config) -> Ended {
    let (judge, control) = cancelling(n, on_cancel);
    let judge = Arc::new(judge);
    let job = start(small_job::paced_source(), Arc::<Judge>::clone(&judge), config);
    control.set(job.control()).unwrap();
    Ended { report: join(job).await, judge }
}

fn configs() -> [Config; 4] {
    let mut split = small_job::config();
    split.split.resources = Some(5);
    let mut compressing_split = small_job::compressing_config();
    compressing_split.split.resources = Some(7);
    [small_job::config(), small_job::compressing_config(), split, compressing_split]
}

/// What an undisturbed job comes to, and how many calls it makes.
async fn undisturbed(config: Config) -> (Exported, usize) {
    let judge = Arc::new(FaultyDestination::new(small_job::destination()));
    let report = join(start(small_job::source(), Arc::<Judge>::clone(&judge), config)).await;
    assert_eq!(report.state, JobState::CompletedWithErrors);
    (Exported::read(report, judge.inner()).await, judge.calls().len())
}

/// By range: the lines of the small job and where they begin.
fn lines_of_source() -> BTreeMap<&'static str, Vec<(u64, String)>> {
    let with_places = |text: String| {
        let mut place = 0;
        let placed = text.split_inclusive('\n').map(|line| {
            let start = place;
            place += line.len() as u64;
            (start, format!("{}\n", line.trim_end()))
        });
        placed.collect::<Vec<_>>()
    };
    small_job::texts().map(|(name, text)| (name, with_places(text))).into()
}

/// The lines of a type up to a cursor of a manifest, such as `second at 120`.
fn lines_up_to(resource_type: &str, cursor: &str) -> String {
    let (range, offset) = cursor.split_once(" at ").unwrap();
    let offset: u64 = offset.parse().unwrap();
    let mut found = String::new();
    for (name, lines) in lines_of_source() {
        let before = lines.iter().filter(|(start, _)| name < range || (name == range && *start < offset));
        let of_type = before.filter(|(_, line)| line.contains(&format!(r#""resourceType":"{resource_type}""#)));
        found.extend(of_type.map(|(_, line)| line.as_str()));
    }
    found
}

#[tokio::test]
async fn a_job_that_is_cancelled_at_any_place_of_its_source_seals_all_that_was_read() {
    let (whole, _) = undisturbed(small_job::config()).await;
    for config in configs() {
        for (name, lines) in lines_of_source() {
            for (offset, _) in &lines {
                let gate = Gate::new();
                let source = small_job::source_stalled_at(name, *offset as usize, &gate);
                let destination = small_job::destination();
                let job = start(source, Arc::new(destination.clone()), config.clone());
                tokio::time::timeout(HANGS_AFTER, gate.reached()).await.expect("the source is read");
                assert!(job.cancel());
                let report = join(job).await;
                let note = format!("{name} at {offset}");
                assert_eq!((report.state, destination.open_count()), (JobState::CancelCompleted, 0), "{note}");
                let sealed = Exported::read(report, &destination).await;
                assert_sealed(&sealed, &whole, &note);
                assert!(sealed.manifest().extension.ledger.iter().all(|row| row.cut.resources == 0), "{note}");
            }
        }
    }
}

/// What is there is whole lines in order, is counted, and the manifest says where it goes on.
fn assert_sealed(sealed: &Exported, whole: &Exported, note: &str) {
    sealed.assert_well_formed();
    let manifest = sealed.manifest();
    let whole_output = whole.output();
    for (name, lines) in sealed.output() {
        assert!(whole_output[&name].starts_with(&lines), "{note}: {name} is no prefix");
        let files = manifest.output.iter().filter(|file| file.resource_type == name);
        let last = files.max_by_key(|file| file.extension.sequence).unwrap();
        match &last.extension.cursor {
            Some(cursor) => assert_eq!(lines_up_to(&name, cursor).as_bytes(), lines, "{note}: {name} to {cursor}"),
            None => assert!(lines == whole_output[&name], "{note}: {name} isn't whole and not listed as partial"),
        }
    }
    // A type of which nothing is durable has no object; nothing else is missing.
    for (name, lines) in &whole_output {
        let row = manifest.extension.ledger.iter().find(|row| row.resource_type.as_deref() == Some(name)).unwrap();
        let is_whole = row.written.bytes == lines.len() as u64;
        assert!(is_whole || row.written.bytes + row.cut.bytes <= lines.len() as u64, "{note}: {row:?}");
    }
    // An object that came behind one with a hole is removed, though it was durable.
    let is_split = manifest.output.iter().any(|file| file.extension.sequence > 0);
    for (name, count) in manifest.extension.durable_at_cancel.iter().flatten().filter(|_| !is_split) {
        let row = manifest.extension.ledger.iter().find(|row| row.resource_type.as_ref() == Some(name)).unwrap();
        assert!(count.resources <= row.written.resources && count.bytes <= row.written.bytes, "{note}: {name}");
    }
}

#[tokio::test]
async fn a_job_that_is_cancelled_at_its_nth_call_seals_whole_lines_and_counts_the_rest() {
    let mut partial = 0;
    for config in configs() {
        let (whole, calls) = undisturbed(config.clone()).await;
        for n in 1..=calls {
            let Ended { report, judge } = cancelled_at(n, OnCancel::Seal, config.clone()).await;
            let note = format!("call {n} of {:?}", judge.calls());
            assert_eq!(judge.inner().open_count(), 0, "{note}");
            assert!(report.leftovers.is_empty() && report.error.is_none(), "{note}: {:?}", report.error);
            if n == calls {
                // The manifest was on its way, so the job was over.
                assert_eq!(report.state, JobState::CompletedWithErrors, "{note}");
                continue;
            }
            assert_eq!(report.state, JobState::CancelCompleted, "{note}");
            if report.manifest.is_none() {
                assert!(n <= 2 && judge.inner().keys().is_empty(), "{note}: nothing was begun");
                continue;
            }
            let sealed = Exported::read(report, judge.inner()).await;
            assert_sealed(&sealed, &whole, &note);
            partial += sealed.manifest().output.iter().filter(|file| file.extension.partial).count();
        }
    }
    // Compressed members of a small job are sent at its end, so not every setting seals anything before it.
    assert!(partial > 0, "something was sealed before its end");
}

#[tokio::test]
async fn a_job_that_is_cancelled_and_discarded_at_its_nth_call_leaves_a_manifest_of_nothing() {
    for config in configs() {
        let calls = undisturbed(config.clone()).await.1;
        for n in 1..calls {
            let Ended { report, judge } = cancelled_at(n, OnCancel::Discard, config.clone()).await;
            let note = format!("call {n} of {:?}", judge.calls());
            assert_eq!((report.state, judge.inner().open_count()), (JobState::CancelCompleted, 0), "{note}");
            let keys = judge.inner().keys();
            assert!(keys.iter().all(|key| key.as_str().ends_with(".manifest.json")), "{note}: {keys:?}");
            for (name, row) in &report.ledger {
                assert!(row.balances() && row.written == Count::default(), "{note}: {name:?} {row:?}");
            }
            if report.manifest.is_some() {
                Exported::read(report, judge.inner()).await.assert_well_formed();
            }
        }
    }
}

#[tokio::test]
async fn a_part_that_never_arrives_cuts_its_type_before_it() {
    for config in configs() {
        let (whole, _) = undisturbed(config.clone()).await;
        let mut config = config;
        config.seal_timeout = Duration::from_millis(20);
        let mut cut = 0;
        for n in 1..=parts(&whole) {
            let judge = FaultyDestination::new(small_job::destination()).with_fault_on(Call::PutPart, n, Fault::Stall);
            let judge = Arc::new(judge);
            let job = start(small_job::source(), Arc::<Judge>::clone(&judge), config.clone());
            let mut progress = job.control().progress();
            let read = progress.wait_for(|progress| progress.ranges > 0 && progress.ranges_done == progress.ranges);
            tokio::time::timeout(HANGS_AFTER, read).await.expect("the source is read to its end").unwrap();
            assert!(job.cancel());
            let report = join(job).await;
            let note = format!("part {n}");
            assert_eq!(report.state, JobState::CancelCompleted, "{note}: {:?}", report.error);
            assert_eq!(judge.inner().open_count(), 0, "{note}");
            let sealed = Exported::read(report, judge.inner()).await;
            assert_sealed(&sealed, &whole, &note);
            cut += sealed.manifest().extension.ledger.iter().filter(|row| row.cut.resources > 0).count();
        }
        assert!(cut > 0, "what is behind a part that doesn't arrive is cut");
    }
}

fn parts(whole: &Exported) -> usize {
    let files = whole.manifest().output.iter().chain(&whole.manifest().error);
    files.map(|file| file.extension.parts as usize).sum()
}

#[tokio::test]
async fn a_part_that_is_refused_while_the_job_is_sealed_costs_no_other_type() {
    for config in configs() {
        let (whole, _) = undisturbed(config.clone()).await;
        for n in 1..=parts(&whole) {
            let (judge, control) = cancelling(3, OnCancel::Seal);
            let refuse = Fault::Fail(ErrorKind::PermissionDenied);
            let judge = Arc::new(judge.with_fault_on(Call::PutPart, n, refuse));
            let job = start(small_job::paced_source(), Arc::<Judge>::clone(&judge), config.clone());
            control.set(job.control()).unwrap();
            let report = join(job).await;
            let note = format!("part {n} of {:?}", judge.calls());
            assert_eq!(report.state, JobState::CancelCompleted, "{note}: {:?}", report.error);
            assert_eq!(report.error.is_some(), judge.count(Call::PutPart) >= n, "{note}");
            assert_eq!(judge.inner().open_count(), 0, "{note}");
            assert_sealed(&Exported::read(report, judge.inner()).await, &whole, &note);
        }
    }
}

#[tokio::test]
async fn a_job_is_cancelled_once_and_not_after_its_end() {
    let destination = small_job::destination();
    let job = start(small_job::source(), Arc::new(destination.clone()), small_job::config());
    let control = job.control();
    assert!(job.cancel(), "before it has begun");
    assert_eq!(job.state(), JobState::CancelSubmitted);
    assert!(!job.cancel() && !control.cancel_and(OnCancel::Discard));
    let report = join(job).await;
    assert_eq!((report.state, control.state()), (JobState::CancelCompleted, JobState::CancelCompleted));
    assert!(destination.keys().is_empty() && report.error.is_none());
    assert!(!control.cancel());

    let job = start(small_job::source(), Arc::new(destination), small_job::config());
    let control = job.control();
    assert_eq!(join(job).await.state, JobState::CompletedWithErrors);
    assert!(!control.cancel());
    assert_eq!(control.state(), JobState::CompletedWithErrors);
}

fn hasty_config() -> Config {
    let mut config = Config::default();
    config.budget_bytes = 64 << 20;
    config.threads = 2;
    config.seal_timeout = Duration::from_millis(300);
    config.closing_timeout = Duration::from_millis(300);
    config
}

/// How long after a cancel nothing new may begin.
const LATENCY: Duration = Duration::from_millis(250);

/// What was read in all, by the books.
fn read(report: &JobReport) -> u64 {
    report.ledger.iter().map(|(_, row)| row.read.bytes).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_nothing_is_read_any_more_a_quarter_of_a_second_after_a_cancel() {
    for config in [hasty_config(), compressing_hasty_config()] {
        let source = GeneratedSource::endless();
        let reads = source.reads();
        let destination = NullDestination::default();
        let job = start(source, Arc::new(destination.clone()), config);
        let control = job.control();
        tokio::time::timeout(HANGS_AFTER, reads.until_bytes(100 << 20)).await.expect("the source is read");
        assert!(job.cancel());
        // Not to wait for something, but to let it happen if it does.
        tokio::time::sleep(LATENCY).await;
        let asked_for = reads.count();
        let report = join(job).await;
        assert_eq!(reads.count(), asked_for, "no read begins");
        assert_eq!((report.state, control.state()), (JobState::CancelCompleted, JobState::CancelCompleted));
        assert!(read(&report) > 10 << 20 && report.ledger.iter().all(|(_, row)| row.balances()));
        let stored = destination.objects();
        for object in &report.objects {
            assert_eq!(stored.get(&object.key), Some(&object.crc), "{}", object.key);
        }
        assert_eq!(stored.len(), report.objects.len() + 1, "the objects and the manifest");
    }
}

fn compressing_hasty_config() -> Config {
    let mut config = hasty_config();
    config.compression = fhir_export::writer::Compression::Gzip { level: 1 };
    config.seal_timeout = Duration::from_secs(30);
    config
}

/// Most time that a cancelled job takes against a store that doesn't answer, once nothing is read any more: sealing, the
/// requests that end the objects, and one look whether the store is back. Timers of tokio are late by up to 1 ms each.
fn longest_end(config: &Config) -> Duration {
    config.seal_timeout + config.closing_timeout * 2 + Duration::from_millis(3)
}

/// The clock stands still from the moment when nobody reads or scans any more, and goes on only when everybody waits for
/// it, so that the end takes as long as its time limits, however busy the machine is.
#[tokio::test]
async fn a_store_that_never_answers_does_not_hold_a_cancelled_job() {
    for stalled_from in 3..=9 {
        let source = GeneratedSource::endless();
        let reads = source.reads();
        let destination = NullDestination::default();
        let judge = FaultyDestination::new(destination.clone()).with_fault_from(stalled_from, Fault::Stall);
        let judge = Arc::new(judge);
        let config = hasty_config();
        let longest = longest_end(&config);
        let job = start(source, Arc::<FaultyDestination<NullDestination>>::clone(&judge), config);
        tokio::time::timeout(HANGS_AFTER, reads.until_bytes(40 << 20)).await.expect("the source is read");
        let mut states = job.control().states();
        assert!(job.cancel());
        let stood = states.wait_for(|state| *state == JobState::CancelInProgress);
        tokio::time::timeout(HANGS_AFTER, stood).await.expect("the engine stands").unwrap();
        let asked_for = reads.count();
        tokio::time::pause();
        let stood_at = tokio::time::Instant::now();
        let report = job.join().await;
        let took = stood_at.elapsed();
        tokio::time::resume();
        assert!(took <= longest, "from call {stalled_from}: {took:?}");
        assert_eq!(reads.count(), asked_for, "no read begins");
        assert_eq!(report.state, JobState::CancelFailed);
        assert!(report.error.is_some() && report.ledger.iter().all(|(_, row)| row.balances()));
        let listed = |key: &ObjectKey| report.leftovers.iter().any(|left| left.key == *key);
        for upload in destination.open_uploads("").await.unwrap().unwrap() {
            assert!(listed(&upload.key), "{} is open and not listed", upload.key);
        }
        // How far the job was when it was cancelled isn't fixed: a type may be whole before the store falls silent.
        let stored = destination.objects();
        assert!(report.objects.iter().all(|object| stored.contains_key(&object.key)));
        let left = report.leftovers.iter().filter(|left| left.key.as_str().ends_with(".ndjson"));
        let types = report.objects.iter().map(|object| &object.key).chain(left.map(|left| &left.key));
        assert_eq!(types.collect::<BTreeSet<_>>().len(), 2, "both types: {:?}", report.leftovers);
    }
}

/// Given up on its way, a put would be carried out after the object was looked for and removed.
#[tokio::test]
async fn an_object_that_is_being_put_when_the_job_is_cancelled_is_listed_or_gone() {
    for on_cancel in [OnCancel::Seal, OnCancel::Discard] {
        let mut config = small_job::config();
        config.seal_timeout = Duration::ZERO;
        let destination = LatePuts::new(small_job::destination(), on_cancel);
        let exporter = Exporter::builder()
            .source(Arc::new(small_job::source()))
            .destination(Arc::new(destination.clone()))
            .config(config)
            .build()
            .unwrap();
        let job = exporter.start(ExportRequest::new(Level::System)).unwrap();
        destination.control.set(job.control()).unwrap();
        let report = tokio::time::timeout(HANGS_AFTER, job.join()).await.expect("the job ends");
        destination.settled().await;
        assert_eq!(report.state, JobState::CancelCompleted, "{on_cancel:?}: {:?}", report.error);
        let is_listed = |key: &ObjectKey| report.objects.iter().any(|object| object.key == *key);
        let stored = destination.memory.keys().into_iter().filter(|key| key.as_str().ends_with(".ndjson"));
        let strays: Vec<_> = stored.filter(|key| !is_listed(key)).collect();
        assert!(strays.is_empty(), "{on_cancel:?}: {strays:?}");
        assert_eq!(report.objects.is_empty(), on_cancel == OnCancel::Discard);
    }
}
