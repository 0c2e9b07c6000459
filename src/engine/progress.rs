//! How far a job is, for whoever watches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::sift::Sieve;
use crate::fhir::ResourceType;
use crate::ledger::{Books, LedgerRow};
use crate::writer::{Activity, WaitsFor};

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
    /// How long the job has waited for what.
    pub waited: Waited,
}

/// How long a job has waited for what, in all, while it read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waited {
    /// For blocks of the source.
    pub source: Duration,
    /// For scanning and compressing.
    pub cpu: Duration,
    /// For the object store.
    pub store: Duration,
    /// What most of the time since the report before was spent on; `None`: on next to no waiting.
    pub bottleneck: Option<WaitsFor>,
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
    activity: Arc<Activity>,
    waited: [Duration; 3],
    bottleneck: Option<WaitsFor>,
    last: Option<Instant>,
    range: Option<String>,
    ranges_done: usize,
    ranges: usize,
}

impl Reporter {
    pub(super) fn new(watch: watch::Sender<Progress>, activity: Arc<Activity>) -> Self {
        let waited = activity.waited();
        Self { watch, activity, waited, bottleneck: None, last: None, range: None, ranges_done: 0, ranges: 0 }
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
        let since = self.last.map(|last| now.duration_since(last));
        if since.is_some_and(|since| since < PERIOD) {
            return;
        }
        self.last = Some(now);
        self.find_bottleneck(since.unwrap_or_default());
        self.publish(books, sieve);
    }

    fn find_bottleneck(&mut self, since: Duration) {
        let before = std::mem::replace(&mut self.waited, self.activity.waited());
        let spent = self.waited.iter().zip(before).map(|(now, before)| now.saturating_sub(before));
        let most = WaitsFor::ALL.into_iter().zip(spent).max_by_key(|(_, spent)| *spent);
        self.bottleneck = most.filter(|(_, spent)| *spent * 4 > since).map(|(what, _)| what);
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
        let [source, cpu, store] = self.activity.waited();
        self.watch.send_replace(Progress {
            types: rows,
            range: self.range.clone(),
            ranges_done: self.ranges_done,
            ranges: self.ranges,
            waited: Waited { source, cpu, store, bottleneck: self.bottleneck },
            slow_lines: sieve.slow_lines(),
        });
    }
}
