//! The engine: wires source, sieve, fan-out and writers together and runs one job's data through them.
//!
//! Ranges are read side by side, but fanned out one after the other in the snapshot's order, so that the same snapshot
//! gives the same bytes on any number of cores. Blocks are sifted on the CPU pool while others are read and parts are
//! sent.
//!
//! Why one order over all ranges and not one for each type: a line goes by its own type, not by its file's, so two
//! ranges may feed one object, and its order must not depend on which of them was quicker.

mod block;
mod deletions;
mod fan_out;
mod intake;
mod outcome;
mod progress;
mod range_sink;
mod reopen;
mod restart;
mod sift;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub(crate) use deletions::{DELETIONS, Deletions};
pub(crate) use fan_out::BEHIND_ALL;
pub use fan_out::OnBad;
pub use progress::{Progress, TypeProgress, Waited};
pub(crate) use reopen::{KnownCohort, Reopener};
pub(crate) use restart::{Point, ReadFrom, Restart};

use crate::budget::Budget;
use crate::cpu::CpuPool;
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::ResourceType;
use crate::filter::Filter;
use crate::ledger::{Books, LedgerRow, Slot};
use crate::resource::Validation;
use crate::source::{Asked, Range, Snapshot};
use crate::writer::{Activity, Ending, ObjectOutcome, Writers};
use fan_out::FanOut;
use intake::Ranges;
use progress::Reporter;
use range_sink::Intake;
use sift::Sieve;

/// Sizes that the engine goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes that are read together.
    pub(crate) block_bytes: usize,
    /// Longest line or row that is taken.
    pub(crate) line_limit_bytes: usize,
    /// Ranges that are read side by side.
    pub(crate) read_ahead: usize,
}

/// What the engine runs on.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) snapshot: Arc<dyn Snapshot>,
    pub(crate) ranges: Vec<Range>,
    pub(crate) filter: Filter,
    pub(crate) writers: Writers,
    pub(crate) budget: Budget,
    pub(crate) cpu: CpuPool,
    pub(crate) limits: Limits,
    pub(crate) validation: Validation,
    pub(crate) on_bad: OnBad,
    /// Ends the job's reading when it is cancelled.
    pub(crate) halt: CancellationToken,
    pub(crate) progress: tokio::sync::watch::Sender<Progress>,
    /// How the source is opened again if its snapshot is lost.
    pub(crate) reopener: Option<Reopener>,
    /// What was deleted is told, of what is asked for here.
    pub(crate) deletions: Option<Asked>,
    /// Where the job goes on, if it was interrupted.
    pub(crate) restart: Restart,
    /// Whether the job moves.
    pub(crate) activity: Arc<Activity>,
}

/// A job's data, fanned out; its objects are still open.
#[derive(Debug)]
pub(crate) struct FannedOut {
    fan_out: FanOut,
    sieve: Arc<Sieve>,
    lost_at: Option<String>,
}

/// A job's objects, ended, and its books.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How each object ended, in no order.
    pub(crate) outcomes: Vec<ObjectOutcome>,
    /// The row of each type that was met, and of resources of no known type.
    pub(crate) rows: Vec<(Option<ResourceType>, LedgerRow)>,
    /// The row of what was deleted.
    pub(crate) deletions: Deletions,
    /// Errors in the report.
    pub(crate) errors: u64,
}

impl Engine {
    /// Runs all ranges through, until the end or the first thing that ends the job.
    ///
    /// # Cancellation
    /// Must be polled to its end; `halt` ends it soon.
    pub(crate) async fn run(self) -> (FannedOut, Result<()>) {
        let sieve = Arc::new(Sieve::new(self.filter, self.validation));
        let buffers = self.budget.buffers.clone();
        let intake = Arc::new(Intake {
            read: self.budget.read.clone(),
            cpu: self.cpu,
            sieve: Arc::clone(&sieve),
            buffers: buffers.clone(),
            block_bytes: self.limits.block_bytes,
            line_limit_bytes: self.limits.line_limit_bytes,
            halt: self.halt.clone(),
            head: tokio::sync::watch::Sender::new(0),
            starving: tokio::sync::Notify::new(),
            activity: Arc::clone(&self.activity),
        });
        let mut fan_out = FanOut::new(self.writers, Arc::clone(&sieve), buffers, self.on_bad, self.halt);
        let mut reporter = Reporter::new(self.progress, Arc::clone(&self.activity));
        let count = self.ranges.len();
        let mut restart = self.restart;
        let reads = std::mem::take(&mut restart.reads);
        let mut ranges = Ranges::new(self.snapshot, self.ranges, reads, intake, self.limits.read_ahead, self.reopener);
        let ran = match fan_out.restart(restart) {
            Ok(()) => ranges.run(&mut fan_out, &mut reporter).await,
            Err(error) => Err(error),
        };
        ranges.stop().await;
        let ran = match (ran, &self.deletions) {
            (Ok(()), Some(asked)) => take_deletions(&mut fan_out, &mut ranges, count, asked).await,
            (ran, _) => ran,
        };
        let lost_at = ranges.take_lost_at();
        self.activity.end_reading();
        if ran.is_ok() {
            fan_out.begin_epilogue(count + 1);
        }
        reporter.publish(&fan_out.books, &sieve);
        (FannedOut { fan_out, sieve, lost_at }, ran)
    }
}

/// Tells what was deleted, in another snapshot if the one at hand is lost.
async fn take_deletions(fan_out: &mut FanOut, ranges: &mut Ranges, count: usize, asked: &Asked) -> Result<()> {
    loop {
        match fan_out.take_deletions(count, ranges.snapshot().as_ref(), asked).await {
            Err(error) if error.kind() == ErrorKind::SnapshotLost => ranges.reopen(count, error, fan_out).await?,
            taken => return taken,
        }
    }
}

impl FannedOut {
    /// Where the snapshot was lost, if it was.
    pub(crate) fn take_lost_at(&mut self) -> Option<String> {
        self.lost_at.take()
    }

    /// Adds a line to the error report that is no error.
    pub(crate) async fn inform_outside_level(&mut self, resource_type: &ResourceType, level: &str) -> Result<()> {
        self.fan_out.report_behind(outcome::outside_level(resource_type.as_str(), level), false).await
    }

    /// Adds a line to the error report on a parameter of the request that was skipped.
    pub(crate) async fn inform_skipped(&mut self, parameter: &str, why: &str) -> Result<()> {
        self.fan_out.report_behind(outcome::skipped(parameter, why), false).await
    }

    /// Adds an error about the cohort to the report.
    pub(crate) async fn report_cohort(&mut self, text: &str) -> Result<()> {
        self.fan_out.report_behind(outcome::cohort_incomplete(text), true).await
    }

    /// Ends all objects in the given way.
    pub(crate) async fn end(self, ending: Ending) -> Ended {
        let FanOut { writers, books, errors, of_unknown_patients, .. } = self.fan_out;
        let outcomes = writers.end(ending, &books).await;
        let deletions = Deletions { row: books.row(Slot::DELETED), of_unknown_patients };
        Ended { outcomes, rows: rows(&books, &self.sieve), deletions, errors }
    }
}

fn rows(books: &Books, sieve: &Sieve) -> Vec<(Option<ResourceType>, LedgerRow)> {
    let unknown = books.row(Slot::UNKNOWN);
    let unknown = (unknown != LedgerRow::default()).then_some((None, unknown));
    let known = sieve.types().all().into_iter().map(|(slot, resource_type)| (Some(resource_type), books.row(slot)));
    let mut rows: Vec<_> = unknown.into_iter().chain(known).collect();
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    rows
}

/// The answer of everything that is ended by `halt`.
fn halted() -> Error {
    Error::cancelled()
}
