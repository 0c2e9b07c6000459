//! Cancellation: how long after `cancel()` lines are still read, until the engine stands, and until the result is sealed.
//!
//! Criterion knows no p99, so this bench counts for itself.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints its figures and ends loudly")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fhir_export::job::{Exporter, JobReport, JobState, OnCancel, SqliteJobStore};
use fhir_export::request::{ExportRequest, Level};
use support::{DroppingStore, Hospital, Machine, PIECE_BYTES, Quantiles, RepeatedSource, Selection, Stall, configured};
use tokio::runtime::Runtime;

/// How long sealing may take in the rows with a store that stalls; the rows' time to the end is made of it.
const PATIENCE: Duration = Duration::from_millis(10);

/// Bytes that a job has read when it counts as busy: a quarter of its budget.
const BUSY_BYTES: u64 = 16 << 20;

/// One situation to cancel in.
#[derive(Clone, Copy, Debug)]
struct Situation {
    name: &'static str,
    cancels: usize,
    bytes_per_second: Option<u64>,
    stall: Stall,
    on_cancel: OnCancel,
    ends_in: JobState,
    /// Whether the job is kept in SQLite, and could be resumed.
    is_kept: bool,
}

const UNDER_LOAD: Situation = Situation {
    name: "under load, seal",
    cancels: 200,
    bytes_per_second: None,
    stall: Stall::Never,
    on_cancel: OnCancel::Seal,
    ends_in: JobState::CancelCompleted,
    is_kept: false,
};

const STALLED: Situation = Situation {
    name: "store stalls, seal fails",
    stall: Stall::Everything(4),
    ends_in: JobState::CancelFailed,
    ..UNDER_LOAD
};

const SITUATIONS: [Situation; 8] = [
    UNDER_LOAD,
    Situation { name: "under load, seal, with a journal", is_kept: true, ..UNDER_LOAD },
    Situation { name: "under load, discard", on_cancel: OnCancel::Discard, ..UNDER_LOAD },
    Situation { name: "store of 1 GB/s, seal", bytes_per_second: Some(1_000_000_000), ..UNDER_LOAD },
    Situation { name: "parts stall, seal", stall: Stall::Parts(4), ..UNDER_LOAD },
    Situation { name: "parts stall, seal, with a journal", stall: Stall::Parts(4), is_kept: true, ..UNDER_LOAD },
    STALLED,
    Situation { name: "store stalls, seal fails, with a journal", is_kept: true, ..STALLED },
];

/// What one cancel took.
#[derive(Clone, Copy, Debug)]
struct Cancelled {
    last_read: Duration,
    standing: Duration,
    ended: Duration,
}

fn main() {
    let selection = Selection::from_arguments();
    Machine::describe();
    let runtime = support::runtime();
    let piece = Hospital::seven_types(PIECE_BYTES);
    let folder = tempfile::tempdir().unwrap();
    let jobs = SqliteJobStore::open(folder.path()).unwrap();
    for situation in SITUATIONS.iter().filter(|situation| selection.wants(&format!("cancellation {}", situation.name)))
    {
        let cancels = selection.pick(situation.cancels, 2);
        let all: Vec<Cancelled> = (0..cancels).map(|index| cancel(&runtime, &piece, &jobs, situation, index)).collect();
        println!("cancellation, {}", situation.name);
        let print = |what: &str, of: fn(&Cancelled) -> Duration| {
            support::row(what, &format_args!("{}", Quantiles::of(all.iter().map(of).collect())));
        };
        print("  until the last read began", |cancelled| cancelled.last_read);
        print("  until the engine stood", |cancelled| cancelled.standing);
        print("  until the job had ended, books balanced", |cancelled| cancelled.ended);
    }
    Machine::load();
}

/// Runs a job without end and cancels it when it has been busy for a while.
fn cancel(runtime: &Runtime, piece: &Bytes, jobs: &SqliteJobStore, situation: &Situation, index: usize) -> Cancelled {
    let source = RepeatedSource::of(piece.clone(), u64::MAX / 2);
    let reads = source.reads();
    let patience = if situation.stall == Stall::Never { Duration::from_secs(30) } else { PATIENCE };
    let config = configured(|config| {
        config.budget_bytes = 64 << 20;
        config.on_cancel = situation.on_cancel;
        config.seal_timeout = patience;
        config.closing_timeout = patience;
    });
    let store = DroppingStore::with(situation.bytes_per_second, situation.stall);
    let exporter = Exporter::builder().source(Arc::new(source)).destination(Arc::new(store)).config(config);
    let exporter = if situation.is_kept { exporter.job_store(Arc::new(jobs.clone())) } else { exporter };
    let exporter = exporter.build().unwrap();
    // Never the same moment of a block: up to 20 ms after the job is busy, in an order that has no rhythm.
    let moment = Duration::from_micros((index as u64 * 7919) % 20_000);
    let (cancelled, report) = runtime.block_on(async {
        let job = exporter.start(ExportRequest::new(Level::System)).unwrap();
        let control = job.control();
        while reads.bytes() < BUSY_BYTES {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(moment).await;
        let mut states = control.states();
        let asked = Instant::now();
        assert!(control.cancel(), "the job has no end of its own");
        let standing = async {
            states.wait_for(|state| *state != JobState::CancelSubmitted).await.unwrap();
            asked.elapsed()
        };
        let ended = async {
            let report = job.join().await;
            (asked.elapsed(), report)
        };
        let (standing, (ended, report)) = tokio::join!(standing, ended);
        let last_read = reads.last().map_or(Duration::ZERO, |last| last.saturating_duration_since(asked));
        (Cancelled { last_read, standing, ended }, report)
    });
    check(&report, situation);
    cancelled
}

fn check(report: &JobReport, situation: &Situation) {
    assert_eq!(report.state, situation.ends_in, "{:?}", report.error);
    assert!(report.ledger.iter().all(|(_, row)| row.balances()), "books that don't balance");
    if report.state == JobState::CancelCompleted && situation.on_cancel == OnCancel::Seal {
        assert!(report.manifest.is_some(), "a sealed job has a manifest");
    }
}
