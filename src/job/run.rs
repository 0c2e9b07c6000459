//! One job, from request to manifest.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::config::Config;
use super::handle::Shared;
use super::leased::Leased;
use super::opening::Opened;
use super::recorder::Recorder;
use super::report::JobReport;
use super::resume::Progressed;
use super::service::SkippedParameter;
use super::state::JobState;
use super::store::{JobRecord, JobStore};
use super::turns::Turn;
use super::watchdog;
use crate::budget::Budget;
use crate::cpu::CpuPool;
use crate::destination::Destination;
use crate::engine::{Engine, KnownCohort, Limits, Reopener, Restart};
use crate::error::{ErrorKind, Result};
use crate::fhir::{Instant, ResourceType};
use crate::filter::{AfterT, Filter, FilterParts};
use crate::ledger::Mark;
use crate::request::{ExportRequest, JobId, Level, TypeSelection};
use crate::scope::Scope;
use crate::source::{AfterTransactionTime, Pushdown, Source};
use crate::writer::{Courier, Journal, Naming, ObjectReport, SpillArea, WriterSettings, Writers};

/// How often the job store is asked whether the job is to be cancelled: well within the second that is promised.
const HEARTBEAT: Duration = Duration::from_millis(400);

/// How long the first in the line that servers share waits between two looks; each place behind it adds as much.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// So many looks those far behind miss at most.
const MOST_LOOKS_PASSED: u32 = 20;

/// Failed heartbeats in a row that are put up with.
const MOST_MISSED: u32 = 20;

/// A job that is about to run.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) source: Arc<dyn Source>,
    pub(super) destination: Arc<dyn Destination>,
    pub(super) config: Arc<Config>,
    pub(super) cpu: CpuPool,
    pub(super) request: ExportRequest,
    /// Types that were asked for and are outside the level.
    pub(super) outside_level: Vec<ResourceType>,
    /// What was skipped of the request because its caller allowed it.
    pub(super) skipped: Vec<SkippedParameter>,
    pub(super) shared: Arc<Shared>,
    /// Its turn to run, or its place in line, which it has until its end is recorded.
    pub(super) turn: Option<Turn>,
    pub(super) submitted: Instant,
    /// Where the job is kept; `None`: nowhere.
    pub(super) store: Option<Arc<dyn JobStore>>,
    /// What the embedder wants to find again.
    pub(super) context: serde_json::Value,
    /// The claim on the job, once it has one.
    pub(super) recorder: OnceLock<Arc<Recorder>>,
    /// How the job goes on, if it was begun before.
    pub(super) resume: Option<ResumeOptions>,
}

/// What may differ when a job goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResumeOptions {
    /// Goes on though the source isn't what it was. The manifest says so, and the job ends with errors.
    pub allow_changed_source: bool,
    /// A database snapshot that is lost is no error: what was changed since then comes with the next export.
    pub allow_time_bounded: bool,
    /// Word of a cancellation that was left while nobody ran the job is heeded. Without it the job goes on: that is what
    /// was asked for last.
    pub heed_cancel: bool,
}

impl ResumeOptions {
    /// Sets whether the source may have changed.
    #[must_use]
    pub const fn allow_changed_source(mut self, allow: bool) -> Self {
        self.allow_changed_source = allow;
        self
    }

    /// Sets whether word of a cancellation is heeded.
    #[must_use]
    pub const fn heed_cancel(mut self, heed: bool) -> Self {
        self.heed_cancel = heed;
        self
    }

    /// Sets whether a lost snapshot is no error.
    #[must_use]
    pub const fn allow_time_bounded(mut self, allow: bool) -> Self {
        self.allow_time_bounded = allow;
        self
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // Those who watch the job may hold what it wrote with for long; others may go on with it from now on.
        if let Some(recorder) = self.recorder.get() {
            recorder.release();
        }
    }
}

impl Job {
    /// Runs the job to its end.
    pub(super) async fn run(mut self) -> JobReport {
        tracing::info!(source = self.source.name(), resumes = self.resume.is_some(), "the job begins");
        let recorded = self.record().await;
        if let Some(lease) = self.recorder.get().and_then(|recorder| recorder.lease()) {
            self.destination = Arc::new(Leased::new(Arc::clone(&self.destination), lease));
        }
        let report = match recorded {
            Ok(()) => {
                let guarded = async {
                    tokio::select! {
                        report = self.try_run() => report,
                        never = self.listen() => match never {},
                        never = watchdog::watch(&self.shared, self.config.stall_timeout) => match never {},
                        never = self.shared.meter.watch(&self.shared) => match never {},
                    }
                };
                guarded.await
            }
            Err(error) => Err(error),
        };
        let report = match report {
            Ok(report) => report,
            Err(error) => JobReport {
                state: self.failed_state(),
                resumable: self.may_resume_after(&error),
                ..JobReport::failed(self.id(), error)
            },
        };
        self.shared.meter.finish(&self.shared, &report);
        self.end_in(report.state);
        self.record_end(&report).await;
        let (state, objects, error) = (report.state, report.objects.len(), report.error.as_ref());
        tracing::info!(%state, objects, error = error.map(|error| error.to_string()), "the job has ended");
        report
    }

    async fn try_run(&self) -> Result<JobReport> {
        let has_come = self.wait_for_turn().await?;
        let naming = self.naming();
        let (mut opened, progressed) = if self.has_begun_before() {
            // Cancelled or not: what it has written is sealed or discarded by the books, and for them it is opened.
            self.shared.become_state(JobState::InProgress);
            self.open(&naming).await?
        } else if has_come {
            self.shared.become_state(JobState::InProgress);
            match self.open_unless_halted(&naming).await? {
                Some(opened) => opened,
                None => return Ok(self.cancelled_before_reading()),
            }
        } else {
            return Ok(self.cancelled_before_reading());
        };
        let objects = progressed.objects;
        let (mut fanned_out, ran) = self.engine(&opened, &naming, progressed.restart, &objects)?.run().await;
        if let Some(at) = fanned_out.take_lost_at() {
            opened.lose_snapshot(at, self.allows_time_bounded());
        }
        self.conclude(opened, fanned_out, ran, objects, &naming).await
    }

    /// Whether an attempt before this one may have written something.
    fn has_begun_before(&self) -> bool {
        let record = self.recorder.get().filter(|_| self.resume.is_some()).map(|recorder| recorder.record());
        record.is_some_and(|record| record.transaction_time.is_some())
    }

    /// Opens a job that has written nothing; `None` if it is cancelled meanwhile.
    async fn open_unless_halted(&self, naming: &Naming) -> Result<Option<(Opened, Progressed)>> {
        match self.shared.halt.run_until_cancelled(self.open(naming)).await {
            Some(opened) => opened.map(Some),
            None => self.shared.take_early_fault().map_or(Ok(None), Err),
        }
    }

    /// Waits until the job may run; `false` if it is cancelled before.
    async fn wait_for_turn(&self) -> Result<bool> {
        let Some(turn) = &self.turn else { return Ok(true) };
        self.look_at_line(turn).await?;
        if turn.has_come() {
            return Ok(true);
        }
        if self.shared.become_state(JobState::Queued) {
            self.record_state(JobState::Queued).await?;
        }
        match self.shared.halt.run_until_cancelled(self.turn_comes(turn)).await {
            Some(come) => {
                come?;
                // From now on an attempt counts, though it may end before anything is opened.
                self.record_state(JobState::InProgress).await?;
                Ok(true)
            }
            None => self.shared.take_early_fault().map_or(Ok(false), Err),
        }
    }

    /// Stands in the line that servers share, and then in that of this process.
    async fn turn_comes(&self, turn: &Turn) -> Result<()> {
        loop {
            let ahead = self.look_at_line(turn).await?;
            if ahead == 0 {
                turn.comes().await;
                return Ok(());
            }
            // Who is far behind needn't ask often.
            tokio::time::sleep(BETWEEN_LOOKS * u32::try_from(ahead).unwrap_or(u32::MAX).min(MOST_LOOKS_PASSED)).await;
        }
    }

    /// Asks the store how many jobs have to run before, and lets the job in when there are none.
    pub(super) async fn look_at_line(&self, turn: &Turn) -> Result<u64> {
        let ahead = match (self.recorder.get(), self.config.jobs_at_once_of_key) {
            (Some(recorder), Some(most)) => match recorder.place_in_line(turn.key(), most).await {
                Ok(ahead) => ahead,
                Err(error) if error.kind() == ErrorKind::Fenced => return Err(error),
                // Heartbeats fail meanwhile, too, and it is they that end the job if it lasts.
                Err(error) => {
                    tracing::warn!(job = %self.id(), error = format!("{error:#}"), "the line can't be looked at");
                    u64::from(MOST_LOOKS_PASSED)
                }
            },
            _ => 0,
        };
        if ahead == 0 {
            turn.let_in();
        }
        Ok(ahead)
    }

    pub(super) fn id(&self) -> &JobId {
        &self.shared.id
    }

    pub(super) fn naming(&self) -> Naming {
        self.config.naming(self.id())
    }

    /// Makes the record of a job that is new.
    pub(super) async fn record(&self) -> Result<()> {
        let Some(store) = self.store.as_ref().filter(|_| self.recorder.get().is_none()) else { return Ok(()) };
        let manifest_url = self.destination.url(&self.naming().manifest()?);
        let (id, request, source) = (self.id(), &self.request, self.source.name());
        let record = JobRecord::new(id, request, source, manifest_url, &self.config, self.context.clone());
        let claim = store.create(&record).await?;
        let recorder = Recorder::new(Arc::clone(store), claim, Arc::clone(&self.config.clock), record);
        // Only this job sets it, once.
        drop(self.recorder.set(Arc::new(recorder)));
        Ok(())
    }

    pub(super) async fn record_state(&self, state: JobState) -> Result<()> {
        match self.recorder.get() {
            Some(recorder) => recorder.change(|record| record.state = state).await,
            None => Ok(()),
        }
    }

    async fn record_end(&self, report: &JobReport) {
        let Some(recorder) = self.recorder.get() else { return };
        if report.error.as_ref().is_some_and(|error| error.kind() == ErrorKind::Fenced) {
            return;
        }
        let ledger = report.ledger_entries();
        let manifest = report.manifest.as_ref().and_then(|manifest| serde_json::to_value(manifest).ok());
        let recorded = recorder.change(|record| {
            record.state = report.state;
            record.resumable = report.resumable;
            record.error = report.error.as_ref().map(ToString::to_string);
            record.public_error = report.error.as_ref().map(|error| error.kind().public_text().to_owned());
            record.ledger = ledger;
            record.manifest = manifest;
        });
        if let Err(error) = recorded.await {
            tracing::warn!(job = %self.id(), error = format!("{error:#}"), "the end of the job isn't recorded");
        }
    }

    /// Sees word of a cancellation that another process left, and the loss of the claim.
    async fn listen(&self) -> std::convert::Infallible {
        let Some(recorder) = self.recorder.get() else { return std::future::pending().await };
        let mut missed = 0;
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            match recorder.heartbeat().await {
                Ok(wish) => {
                    missed = 0;
                    if let Some(wish) = wish {
                        self.shared.cancel(wish.on_cancel);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Fenced => self.shared.fail(error),
                Err(error) => {
                    missed += 1;
                    tracing::warn!(job = %self.id(), error = format!("{error:#}"), "the job store can't be asked");
                    if missed >= MOST_MISSED {
                        self.shared.fail(error);
                    }
                }
            }
        }
    }

    pub(super) fn asked_types(&self) -> Option<BTreeSet<ResourceType>> {
        match self.request.types() {
            TypeSelection::All => None,
            TypeSelection::Only(types) => Some(types.iter().cloned().collect()),
        }
    }

    pub(super) fn journal(&self) -> Option<Arc<dyn Journal>> {
        self.recorder.get().map(|recorder| Arc::<Recorder>::clone(recorder) as Arc<dyn Journal>)
    }

    fn engine(
        &self,
        opened: &Opened,
        naming: &Naming,
        restart: Restart,
        objects: &[(ObjectReport, Mark)],
    ) -> Result<Engine> {
        let budget = Budget::new(self.config.budget_bytes)?;
        let part_sizing = self.config.part_sizing();
        let courier = Courier::new(
            Arc::clone(&self.destination),
            budget.flight.clone(),
            self.shared.halt.clone(),
            self.shared.stop.clone(),
            self.shared.cancelled.clone(),
            self.config.closing_timeout,
        );
        let courier = courier.with_journal(self.journal(), part_sizing.is_fixed());
        let courier = Arc::new(courier.with_activity(Arc::clone(&self.shared.activity)));
        for (object, _) in objects {
            courier.durable(&object.content, object.count);
        }
        for (content, count) in restart.durable_parts() {
            courier.durable(content, count);
        }
        self.shared.meter.begin(&budget, &restart, &courier.durable_counts());
        // Only this job sets it, once.
        drop(self.shared.courier.set(Arc::clone(&courier)));
        let capabilities = self.destination.capabilities();
        let settings = WriterSettings {
            compression: self.config.compression,
            member_bytes: self.config.member_bytes(),
            part_sizing,
            min_part_bytes: capabilities.min_part_bytes,
            max_parts: capabilities.max_parts,
            split: self.config.split,
            spill: SpillArea::new(self.config.spill_folder.clone(), self.config.spill_limit_bytes),
        };
        Ok(Engine {
            snapshot: Arc::clone(&opened.snapshot),
            ranges: opened.plan.ranges.clone(),
            filter: self.filter(opened),
            writers: Writers::new(settings, naming.clone(), &budget, self.cpu.clone(), courier),
            budget,
            cpu: self.cpu.clone(),
            limits: Limits {
                block_bytes: self.config.block_bytes,
                line_limit_bytes: self.config.line_limit_bytes(),
                read_ahead: self.config.read_ahead,
            },
            validation: self.config.validation,
            on_bad: self.config.on_bad,
            halt: self.shared.halt.clone(),
            progress: self.shared.progress.clone(),
            reopener: Some(self.reopener(opened)),
            deletions: (self.config.report_deletions && self.request.since().is_some()).then(|| self.asked(None)),
            restart,
            activity: Arc::clone(&self.shared.activity),
        })
    }

    fn believed(&self, opened: &Opened) -> Pushdown {
        if self.config.verify_pushdown { Pushdown::default() } else { opened.plan.pushdown }
    }

    fn reopener(&self, opened: &Opened) -> Reopener {
        Reopener {
            source: Arc::clone(&self.source),
            transaction_time: opened.transaction_time.clone(),
            asked: self.asked(None),
            cohort: match (&opened.scope, self.request.level()) {
                (Scope::Cohort(cohort), Level::Group { id }) => Some(KnownCohort {
                    group_id: id.to_string(),
                    cohort: Arc::clone(cohort),
                    base_urls: self.config.base_urls.clone(),
                    compartment: Arc::clone(&self.config.compartment),
                }),
                _ => None,
            },
            believed: self.believed(opened),
            attempts: 0,
        }
    }

    /// Whether a snapshot that is lost is no error.
    pub(super) fn allows_time_bounded(&self) -> bool {
        self.config.allow_time_bounded || self.resume.is_some_and(|options| options.allow_time_bounded)
    }

    fn filter(&self, opened: &Opened) -> Filter {
        let believed = self.believed(opened);
        Filter::new(FilterParts {
            types: self.asked_types().filter(|_| !believed.types),
            since: self.request.since().cloned(),
            until: self.request.until().cloned(),
            transaction_time: opened.transaction_time.clone(),
            after_t: match opened.snapshot.after_transaction_time() {
                AfterTransactionTime::Kept => AfterT::Count,
                AfterTransactionTime::Excluded if opened.lost_at.is_some() => AfterT::Supersede,
                AfterTransactionTime::Excluded => AfterT::Exclude,
            },
            scope: match &opened.scope {
                Scope::Cohort(_) if believed.cohort => Scope::Everything,
                scope => scope.clone(),
            },
            labels: self.request.labels().clone(),
            compartment: Arc::clone(&self.config.compartment),
            base_urls: self.config.base_urls.clone(),
            policy: self.config.policy.clone(),
        })
    }
}

impl Progressed {
    /// Nothing: the job is new.
    pub(super) fn nothing() -> Self {
        Self { restart: Restart::default(), objects: Vec::new(), warnings: Vec::new() }
    }
}
