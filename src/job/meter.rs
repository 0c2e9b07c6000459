//! Publishes the numbers of one job: what its ledger, its budget and its activity have come to since the last look.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::handle::Shared;
use super::report::JobReport;
use super::state::JobState;
use crate::budget::{Budget, Pool};
use crate::engine::{Restart, TypeProgress};
use crate::fhir::ResourceType;
use crate::ledger::{Count, Exclusion, LedgerRow};
use crate::metrics::{self, Level};
use crate::writer::{Content, WaitsFor};

/// How often a job is looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// What of a job was published so far.
#[derive(Debug, Default)]
pub(super) struct Meter(Mutex<Published>);

#[derive(Debug, Default)]
struct Published {
    /// By the label of the type; in a job that goes on, it begins with what earlier attempts have come to.
    rows: BTreeMap<String, LedgerRow>,
    durable: BTreeMap<String, Count>,
    slow_lines: u64,
    waited_millis: [u64; WaitsFor::ALL.len()],
    pools: Vec<PublishedPool>,
    state: Option<(JobState, Level)>,
}

#[derive(Debug)]
struct PublishedPool {
    name: &'static str,
    pool: Pool,
    held: Level,
    waiters: Level,
    waits: u64,
    _size: Level,
}

impl Meter {
    /// Begins with what earlier attempts have come to: that isn't counted again.
    pub(super) fn begin(&self, budget: &Budget, restart: &Restart, durable: &BTreeMap<Content, Count>) {
        let mut published = self.lock();
        let rows = restart.points.iter().filter_map(|point| match &point.content {
            None => Some((None, point.row)),
            Some(Content::Resources(resource_type)) => Some((Some(resource_type), point.row)),
            Some(Content::Errors | Content::Deleted) => None,
        });
        published.rows = by_label(rows);
        published.durable = durable_by_label(durable);
        let pools = [("read", &budget.read), ("fill", &budget.fill), ("flight", &budget.flight)];
        published.pools = pools.into_iter().map(|(name, pool)| PublishedPool::new(name, pool)).collect();
    }

    /// Publishes what comes, for ever.
    pub(super) async fn watch(&self, shared: &Shared) -> Infallible {
        let mut states = shared.state.subscribe();
        let mut moved = shared.activity.count();
        loop {
            self.publish(shared);
            // The sender is shared's own, so there is always a next state to wait for.
            let Ok(changed) = tokio::time::timeout(PERIOD, states.changed()).await else {
                let before = std::mem::replace(&mut moved, shared.activity.count());
                if before == moved && !shared.is_idle() {
                    tell_of_stall(shared);
                }
                continue;
            };
            drop(changed);
        }
    }

    fn publish(&self, shared: &Shared) {
        let mut published = self.lock();
        published.show_state(*shared.state.borrow());
        let (rows, slow_lines) = {
            let progress = shared.progress.borrow();
            (by_label(progress.types.iter().map(|one| (Some(&one.resource_type), one.row))), progress.slow_lines)
        };
        published.count_rows(&rows, false);
        published.count_rest(shared, slow_lines);
    }

    /// Publishes how the job has ended. Who watches its progress sees the closing books.
    pub(super) fn finish(&self, shared: &Shared, report: &JobReport) {
        if !report.ledger.is_empty() {
            let known = report.ledger.iter().filter_map(|(resource_type, row)| Some((resource_type.clone()?, *row)));
            let types = known.map(|(resource_type, row)| TypeProgress { resource_type, row }).collect();
            shared.progress.send_modify(|progress| progress.types = types);
        }
        let mut published = self.lock();
        let slow_lines = shared.progress.borrow().slow_lines;
        published.count_rest(shared, slow_lines);
        let mut rows = by_label(report.ledger.iter().map(|(resource_type, row)| (resource_type.as_ref(), *row)));
        if report.resumable && report.manifest.is_none() {
            // What the books call cut, because no object of it is visible, is gone on with.
            for (label, row) in &mut rows {
                keep_durable(row, published.durable.get(label).copied().unwrap_or_default());
            }
        }
        published.count_rows(&rows, true);
        published.state = None;
        published.pools = Vec::new();
        metrics::add(&metrics::ENDED_JOBS, &[("state", report.state.as_str())], 1);
        if matches!(report.state, JobState::CancelCompleted | JobState::CancelFailed)
            && let Some(asked_at) = shared.cancelled_at()
        {
            metrics::record(&metrics::CANCEL_END_SECONDS, &[], asked_at.elapsed().as_secs_f64());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While a job waits, nobody reports what it waits for.
fn tell_of_stall(shared: &Shared) {
    let ([source, cpu, store], waits_for) = (shared.activity.waited(), shared.activity.waits_for());
    shared.progress.send_modify(|progress| {
        let waited = &mut progress.waited;
        (waited.source, waited.cpu, waited.store) = (source, cpu, store);
        waited.bottleneck = Some(waits_for);
    });
}

impl Published {
    fn show_state(&mut self, state: JobState) {
        if self.state.as_ref().is_some_and(|(shown, _)| *shown == state) {
            return;
        }
        // The job leaves its last state before it enters the next.
        self.state = None;
        if !state.is_terminal() {
            self.state = Some((state, Level::new(&metrics::JOBS, &[("state", state.as_str())], 1.0)));
        }
    }

    fn count_rows(&mut self, rows: &BTreeMap<String, LedgerRow>, is_final: bool) {
        for (label, now) in rows {
            let before = self.rows.entry(label.clone()).or_default();
            add_count(&metrics::READ_RESOURCES, &metrics::READ_BYTES, &[("type", label)], before.read, now.read);
            let add_fate = |fate: &str, before: &mut Count, now: Count| {
                let labels = [("type", label.as_str()), ("fate", fate)];
                add_count(&metrics::RESOURCES, &metrics::RESOURCE_BYTES, &labels, *before, now);
                *before = now;
            };
            before.read = now.read;
            for exclusion in Exclusion::ALL {
                if let Some(before) = before.excluded.get_mut(exclusion.index()) {
                    add_fate(&format!("excluded-{exclusion}"), before, now.excluded(exclusion));
                }
            }
            add_fate("quarantined", &mut before.quarantined, now.quarantined);
            add_fate("superseded", &mut before.superseded, now.superseded);
            // Until everything has ended, what is written may still be cut.
            if is_final {
                add_fate("written", &mut before.written, now.written);
                add_fate("cut", &mut before.cut, now.cut);
            }
        }
    }

    fn count_rest(&mut self, shared: &Shared, slow_lines: u64) {
        metrics::add(&metrics::SLOW_LINES, &[], slow_lines.saturating_sub(self.slow_lines));
        self.slow_lines = slow_lines;
        if let Some(courier) = shared.courier.get() {
            for (label, now) in durable_by_label(&courier.durable_counts()) {
                let before = self.durable.entry(label.clone()).or_default();
                let labels = [("type", label.as_str())];
                add_count(&metrics::DURABLE_RESOURCES, &metrics::DURABLE_BYTES, &labels, *before, now);
                *before = now;
            }
        }
        let waited = WaitsFor::ALL.into_iter().zip(shared.activity.waited()).zip(&mut self.waited_millis);
        for ((stage, now), before) in waited {
            // A wait that ends just now may be counted nowhere for a moment.
            let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(*before);
            metrics::add(&metrics::WAITED, &[("stage", stage.as_str())], now - *before);
            *before = now;
        }
        self.pools.iter_mut().for_each(PublishedPool::look);
    }
}

impl PublishedPool {
    fn new(name: &'static str, pool: &Pool) -> Self {
        let level = |metric, bytes: usize| Level::new(metric, &[("pool", name)], as_number(bytes));
        Self {
            name,
            pool: pool.clone(),
            held: level(&metrics::BUDGET_HELD, 0),
            waiters: level(&metrics::BUDGET_WAITERS, 0),
            waits: 0,
            _size: level(&metrics::BUDGET_SIZE, pool.size_bytes()),
        }
    }

    fn look(&mut self) {
        let (waiters, waits) = self.pool.waits();
        self.held.set(as_number(self.pool.size_bytes() - self.pool.free_bytes()));
        self.waiters.set(as_number(waiters));
        metrics::add(&metrics::BUDGET_WAITS, &[("pool", self.name)], waits.saturating_sub(self.waits));
        self.waits = waits;
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge of so many bytes need not be exact to the byte")]
const fn as_number(count: usize) -> f64 {
    count as f64
}

fn add_count(
    resources: &metrics::Metric,
    bytes: &metrics::Metric,
    labels: &[(&'static str, &str)],
    before: Count,
    now: Count,
) {
    metrics::add(resources, labels, now.resources.saturating_sub(before.resources));
    metrics::add(bytes, labels, now.bytes.saturating_sub(before.bytes));
}

/// Calls written what is durable, and cut the rest that was to be written.
fn keep_durable(row: &mut LedgerRow, durable: Count) {
    let mut wanted = row.written;
    wanted += row.cut;
    row.written = durable;
    row.cut =
        Count::new(wanted.resources.saturating_sub(durable.resources), wanted.bytes.saturating_sub(durable.bytes));
}

fn by_label<'t>(rows: impl Iterator<Item = (Option<&'t ResourceType>, LedgerRow)>) -> BTreeMap<String, LedgerRow> {
    let mut by_label: BTreeMap<String, LedgerRow> = BTreeMap::new();
    for (resource_type, row) in rows {
        *by_label.entry(resource_type.map_or("unknown", label_of).to_owned()).or_default() += row;
    }
    by_label
}

fn durable_by_label(durable: &BTreeMap<Content, Count>) -> BTreeMap<String, Count> {
    let mut by_label: BTreeMap<String, Count> = BTreeMap::new();
    for (content, count) in durable {
        let label = match content {
            Content::Resources(resource_type) => label_of(resource_type),
            Content::Errors => "errors",
            Content::Deleted => "deleted",
        };
        *by_label.entry(label.to_owned()).or_default() += *count;
    }
    by_label
}

/// A name of R4, or that there is none: the others come from data, and there may be any number of them.
fn label_of(resource_type: &ResourceType) -> &str {
    let name = resource_type.as_str();
    if ResourceType::r4(name).is_some() { name } else { "other" }
}
