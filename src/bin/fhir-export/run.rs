//! Runs an export: starts the job, shows its progress, obeys signals, tells its end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use fhir_export::ErrorKind;
use fhir_export::destination::open::Opened;
use fhir_export::job::{Exporter, JobControl, JobHandle, JobReport, OnCancel, Progress};
use tokio::time::MissedTickBehavior;

use super::Exit;
use super::events::Event;
use super::output::Output;
use super::plan::{ProgressKind, RunPlan};
use super::progress::{Now, View};
use super::screen::Screen;
use super::signals::Signals;
use super::state::State;
use super::summary;

/// Runs the plan to its end.
pub(crate) async fn run(plan: RunPlan, screen: &Screen) -> Exit {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            screen.error(&format!("signals can't be caught: {error}"));
            return Exit::Failure;
        }
    };
    match start(plan, screen) {
        Ok(job) => run_job(job, screen, &mut signals).await,
        Err(error) => {
            screen.failure(&error);
            if matches!(error.kind(), ErrorKind::InvalidRequest | ErrorKind::InvalidConfig) {
                Exit::Usage
            } else {
                Exit::Failure
            }
        }
    }
}

/// A job that was started, and how it is to be watched.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) handle: JobHandle,
    pub(crate) destination: Opened,
    pub(crate) on_cancel: OnCancel,
    pub(crate) progress: ProgressKind,
    pub(crate) state: State,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) level: String,
    pub(crate) query: String,
}

fn start(plan: RunPlan, screen: &Screen) -> fhir_export::Result<Job> {
    let (level, query) = (plan.request.level().to_string(), plan.request.normalised_query());
    let on_cancel = plan.config.on_cancel;
    let context = serde_json::to_value(&plan.places).map_err(|error| {
        fhir_export::Error::new(ErrorKind::Internal, "the places can't be written").caused_by(error)
    })?;
    let mut exporter = Exporter::builder()
        .source(plan.source)
        .destination(Arc::clone(&plan.destination.destination))
        .config(plan.config)
        .context(context);
    let mut state = plan.state;
    match state.open_for_run(screen)? {
        Some(store) => exporter = exporter.job_store(store),
        None => state = State::Off,
    }
    let handle = exporter.build()?.start(plan.request)?;
    let (from, to, progress, destination) = (plan.from, plan.to, plan.progress, plan.destination);
    Ok(Job { handle, destination, on_cancel, progress, state, from, to, level, query })
}

/// Watches a job to its end.
pub(crate) async fn run_job(job: Job, screen: &Screen, signals: &mut Signals) -> Exit {
    let Job { handle, destination, on_cancel, progress, state, from, to, level, query } = job;
    let output = Output::new();
    let view = View::new(progress, screen);
    if view.is_events() {
        let event = Event::Started { job_id: handle.id().as_str(), source: &from, to: &to, level, query };
        output.offer(event.line());
    }
    let (control, job_id, began) = (handle.control(), handle.id().to_string(), Instant::now());
    let mut running = Running { control, destination, view, output, screen, on_cancel, began, job_id, state };
    match running.watch(handle, signals).await {
        Some(report) => running.tell(&report, signals).await,
        None => Exit::Cancelled,
    }
}

/// A job that runs, and those who watch it.
struct Running<'s> {
    control: JobControl,
    destination: Opened,
    view: View,
    output: Output,
    screen: &'s Screen,
    on_cancel: OnCancel,
    began: Instant,
    job_id: String,
    state: State,
}

impl Running<'_> {
    /// Waits for the job's end; `None` if a second signal said not to.
    async fn watch(&mut self, job: JobHandle, signals: &mut Signals) -> Option<JobReport> {
        let mut ended = pin!(job.join());
        let progress = self.control.progress();
        let mut ticks = tokio::time::interval(self.view.period());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_cancelled = false;
        loop {
            tokio::select! {
                // The end first, so that a signal that comes with it changes nothing; then signals before progress.
                biased;
                report = &mut ended => return Some(report),
                signal = signals.next() => {
                    if is_cancelled {
                        self.stop(signal);
                        return None;
                    }
                    is_cancelled = true;
                    self.cancel(signal);
                }
                _ = ticks.tick() => self.view.update(&self.now(progress.borrow().clone()), &self.output),
            }
        }
    }

    fn now(&self, progress: Progress) -> Now {
        Now { progress, elapsed: self.began.elapsed(), failed_calls: self.destination.retries.by_cause().collect() }
    }

    fn cancel(&self, signal: &str) {
        self.control.cancel_and(self.on_cancel);
        let (name, what) = match self.on_cancel {
            OnCancel::Seal => ("seal", "completing the objects as far as they are durable"),
            OnCancel::Discard => ("discard", "removing what was written"),
        };
        if self.view.is_events() {
            self.output.offer(Event::Cancelling { signal, on_cancel: name }.line());
        }
        self.screen.say(&format!("{signal}: {what}; once more stops at once"));
    }

    fn stop(&self, signal: &str) {
        self.control.stop();
        self.view.clear();
        if self.view.is_events() {
            self.output.offer(Event::Stopped { signal }.line());
        }
        let left = match &self.state {
            State::Off => "unfinished uploads may be left in the destination".to_owned(),
            State::Usual(_) | State::Given(_) | State::Shared { .. } => self.how_to_go_on(),
        };
        self.screen.say(&format!("{signal}: stopped; {left}"));
    }

    fn how_to_go_on(&self) -> String {
        format!("go on with: fhir-export resume {}{}", self.job_id, self.state.argument())
    }

    /// Tells how the job ended.
    async fn tell(mut self, report: &JobReport, signals: &mut Signals) -> Exit {
        let elapsed = self.began.elapsed();
        if self.view.is_events() {
            let now = self.now(self.control.progress().borrow().clone());
            self.view.update(&now, &self.output);
        }
        self.view.clear();
        if let Some(error) = &report.error {
            self.screen.failure(error);
        }
        if report.resumable {
            self.screen.say(&format!("what is durable was kept; {}", self.how_to_go_on()));
        } else {
            for key in summary::leftovers(report) {
                self.screen.error(&format!("an unfinished upload or object may be left: {key}"));
            }
        }
        let exit = summary::exit(report);
        let text = if self.view.is_events() {
            summary::event(report, elapsed).line()
        } else if report.error.is_some() && report.manifest.is_none() {
            String::new()
        } else {
            summary::text(report, elapsed)
        };
        tokio::select! {
            written = self.output.end_with(text) => match written {
                Ok(()) => exit,
                Err(error) => {
                    self.screen.error(&format!("stdout can't be written to: {error}"));
                    if exit == Exit::Success { Exit::Failure } else { exit }
                }
            },
            // Somebody reads so slowly that he is not waited for.
            _ = signals.next() => exit,
        }
    }
}
