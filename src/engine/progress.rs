//! How far a job is, for whoever watches.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::sift::Sieve;
use crate::fhir::ResourceType;
use crate::ledger::{Books, LedgerRow};

/// Least time between two reports.
const PERIOD: Duration = Duration::from_millis(100);

/// How far a job is. Every number comes from the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The types met so far, in byte order.
    pub types: Vec<TypeProgress>,
    /// The range that is being fanned out.
    pub range: Option<String>,
    /// Ranges that are done.
    pub ranges_done: usize,
    /// Ranges there are.
    pub ranges: usize,
    /// Lines so far that had to be gone through byte by byte (see [`Facts::slow`](crate::resource::Facts)), those of
    /// blocks read ahead included.
    pub slow_lines: u64,
}

/// How far one type is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeProgress {
    /// The type.
    pub resource_type: ResourceType,
    /// Its row as of now.
    pub row: LedgerRow,
}

/// Reports progress, not too often.
#[derive(Debug)]
pub(super) struct Reporter {
    watch: watch::Sender<Progress>,
    last: Option<Instant>,
    range: Option<String>,
    ranges_done: usize,
    ranges: usize,
}

impl Reporter {
    pub(super) const fn new(watch: watch::Sender<Progress>) -> Self {
        Self { watch, last: None, range: None, ranges_done: 0, ranges: 0 }
    }

    pub(super) fn begin(&mut self, ranges: usize) {
        self.ranges = ranges;
    }

    pub(super) fn begin_range(&mut self, name: &str) {
        self.range = Some(name.to_owned());
    }

    pub(super) fn end_range(&mut self) {
        self.range = None;
        self.ranges_done += 1;
    }

    /// Reports if it is time to.
    pub(super) fn tick(&mut self, books: &Books, sieve: &Sieve) {
        let now = Instant::now();
        if self.last.is_some_and(|last| now.duration_since(last) < PERIOD) {
            return;
        }
        self.last = Some(now);
        self.publish(books, sieve);
    }

    /// Reports.
    pub(super) fn publish(&self, books: &Books, sieve: &Sieve) {
        let mut rows: Vec<TypeProgress> = sieve
            .types()
            .all()
            .into_iter()
            .map(|(slot, resource_type)| TypeProgress { resource_type, row: books.row(slot) })
            .collect();
        rows.sort_by(|a, b| a.resource_type.cmp(&b.resource_type));
        self.watch.send_replace(Progress {
            types: rows,
            range: self.range.clone(),
            ranges_done: self.ranges_done,
            ranges: self.ranges,
            slow_lines: sieve.slow_lines(),
        });
    }
}
