//! Stores that make trouble over the wire: one that fails now and then, one that is slow, one that never answers. The jobs
//! are journaled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fhir_export::ErrorKind;
use fhir_export::destination::{Destination, MultipartDestination, RetryCause, RetryPolicy, Retrying};
use fhir_export::job::{Config, JobState, JobStore, SqliteJobStore};
use fhir_export::source::Source;
use tempfile::TempDir;

use crate::support::generated_source::GeneratedSource;
use crate::support::proxy::{Act, Recorded};
use crate::support::s3_server::S3Server;
use crate::support::wire_job::{config, exporter, join, source, start, whole};

/// How long after a cancel nothing new may be read.
const LATENCY: Duration = Duration::from_millis(250);

/// Longer than anything here takes, unless it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);

type Store = Retrying<MultipartDestination>;

/// A store over the wire and a journal, both of one test.
struct Place {
    server: S3Server,
    state: TempDir,
}

impl Place {
    async fn new() -> Self {
        Self { server: S3Server::start().await, state: tempfile::tempdir().unwrap() }
    }

    /// The store, called again without long waits.
    fn store(&self, prefix: &str) -> Arc<Store> {
        let (first_wait, longest_wait) = (Duration::from_millis(1), Duration::from_millis(4));
        let policy = RetryPolicy { first_wait, longest_wait, ..RetryPolicy::default() };
        Arc::new(Retrying::new(Arc::new(self.server.options(prefix).open().unwrap())).with_policy(policy))
    }

    fn jobs(&self) -> Arc<dyn JobStore> {
        Arc::new(SqliteJobStore::open(self.state.path()).unwrap())
    }

    fn exporter(
        &self,
        source: impl Source + 'static,
        store: Arc<dyn Destination>,
        config: Config,
    ) -> fhir_export::job::Exporter {
        exporter(source, store, Some(self.jobs()), config)
    }
}

/// What a flapping store does, and what the failed call counts as.
fn faults() -> Vec<(Act, RetryCause)> {
    vec![
        (Act::error(503, "SlowDown"), RetryCause::Throttled),
        (Act::error(500, "InternalError"), RetryCause::ServerError),
        (Act::Reset, RetryCause::Connection),
        (Act::ResetMidway, RetryCause::Connection),
        // Here the store has acted.
        (Act::LoseAnswer, RetryCause::Connection),
        (Act::error_instead(500, "InternalError"), RetryCause::ServerError),
        (Act::error_instead(503, "SlowDown"), RetryCause::Throttled),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_one_call_in_twenty_gets_everything_once_and_each_failure_is_counted() {
    let place = Place::new().await;
    let acts: Vec<Act> = faults().into_iter().map(|(act, _)| act).collect();
    let mut seen = [0; 4];
    for round in 0..8 {
        let mut config = config();
        // More calls, and other ones: parts in every second round, small objects in the others.
        if round % 2 == 0 {
            config.fixed_part_bytes = Some(5 << 20);
        } else {
            config.split.bytes = Some(1 << 20);
        }
        let store = place.store(&round.to_string());
        let exporter = place.exporter(source(), store.clone(), config.clone());
        let before = place.server.proxy.acted().len();
        place.server.proxy.flap(20, &acts);
        let report = join(start(&exporter)).await;
        place.server.proxy.behave();
        for (cause, seen) in RetryCause::ALL.into_iter().zip(&mut seen) {
            let of_cause = |act: &Act| faults().into_iter().any(|(known, its)| known == *act && its == cause);
            let injected = place.server.proxy.acted().split_off(before).iter().filter(|act| of_cause(act)).count();
            assert_eq!(store.counts().get(cause), injected as u64, "{cause}, round {round}");
            *seen += injected;
        }
        assert_eq!(report.state, JobState::CompletedWithErrors, "{:?}", report.error);
        whole(report, store.as_ref(), config).await;
    }
    println!("{} calls, failed by cause: {seen:?}", place.server.proxy.recorded().len());
    assert!(seen.iter().sum::<usize>() >= 8, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_kind_of_call_a_store_fails_in_whatever_way_everything_arrives_once() {
    let place = Place::new().await;
    let kinds: [fn(&Recorded) -> bool; 4] =
        [Recorded::is_begin, Recorded::is_part, Recorded::is_put, Recorded::is_complete];
    for (round, (act, cause)) in faults().into_iter().enumerate() {
        let store = place.store(&round.to_string());
        for kind in kinds {
            place.server.proxy.next(2, kind, act.clone());
        }
        let report = join(start(&place.exporter(source(), store.clone(), config()))).await;
        assert_eq!(store.counts().get(cause), 8, "{act:?}");
        assert_eq!(store.counts().total(), 8, "{act:?}");
        whole(report, store.as_ref(), config()).await;
    }
}

fn impatient() -> Config {
    let mut config = config();
    config.seal_timeout = Duration::from_millis(200);
    config.closing_timeout = Duration::from_secs(3);
    config
}

/// Cancels a job whose buffers a store has let become full; tells in which state it ended, and what of it is left.
async fn cancelled_when_full(place: &Place, prefix: &str) -> fhir_export::job::JobReport {
    let source = GeneratedSource::endless();
    let reads = source.reads();
    let job = start(&place.exporter(source, place.store(prefix), impatient()));
    tokio::time::timeout(HANGS_AFTER, reads.until_bytes(40 << 20)).await.expect("the source is read");
    assert!(job.cancel());
    let cancelled = Instant::now();
    // Not to wait for something, but to let it happen if it does.
    tokio::time::sleep(LATENCY).await;
    let asked_for = reads.count();
    let report = join(job).await;
    assert_eq!(reads.count(), asked_for, "no read begins");
    assert!(cancelled.elapsed() < Duration::from_secs(10), "{:?}", cancelled.elapsed());
    assert!(report.ledger.iter().all(|(_, row)| row.balances()));
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_cancelled_in_time_though_its_store_takes_a_mebibyte_a_second() {
    let place = Place::new().await;
    place.server.proxy.pace(1 << 20);
    for round in 0..3 {
        let report = cancelled_when_full(&place, &round.to_string()).await;
        assert_eq!(report.state, JobState::CancelCompleted, "{:?}", report.error);
        assert_eq!(place.server.left_open(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_cancelled_in_time_though_its_store_never_answers() {
    let place = Place::new().await;
    place.server.proxy.next(usize::MAX, Recorded::is_part, Act::Stall);
    let report = cancelled_when_full(&place, "parts").await;
    assert_eq!(report.state, JobState::CancelCompleted, "{:?}", report.error);
    assert_eq!(place.server.left_open(), Vec::<String>::new());

    let jobs = place.jobs();
    place.server.proxy.behave();
    place.server.proxy.next(usize::MAX, |request| request.is_part() || request.is_abort(), Act::Stall);
    let report = cancelled_when_full(&place, "all").await;
    assert_eq!(report.state, JobState::CancelFailed, "{:?}", report.error);
    assert!(!report.leftovers.is_empty() && report.resumable, "{report:?}");
    assert!(jobs.get(&report.job_id).await.unwrap().unwrap().is_unfinished());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_store_never_answers_is_ended_by_the_watchdog_and_resumed() {
    let place = Place::new().await;
    let store = place.store("w");
    place.server.proxy.next(usize::MAX, |request| request.part_number() == Some("2"), Act::Stall);
    let mut hasty = impatient();
    hasty.stall_timeout = Some(Duration::from_secs(2));
    let exporter = place.exporter(source(), store.clone(), hasty);
    let began = Instant::now();
    let report = join(start(&exporter)).await;
    assert_eq!(report.state, JobState::Failed);
    let error = report.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::Stalled, "{error:?}");
    assert!(error.to_string().contains("the job waits for the store"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(report.resumable);
    place.server.proxy.behave();
    let sent = place.server.proxy.of(Recorded::is_part).len();
    let report = join(exporter.resume(&report.job_id).await.unwrap()).await;
    whole(report, store.as_ref(), config()).await;
    let again = place.server.proxy.of(Recorded::is_part).split_off(sent);
    let again = again.iter().filter(|part| part.target.contains("Observation") && part.part_number() == Some("1"));
    assert_eq!(again.count(), 0, "what is durable isn't sent again");
    assert_eq!(place.server.left_open(), Vec::<String>::new());
}
