//! Runs an export: starts the job, shows its progress, obeys signals, tells its end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use fhir_export::ErrorKind;
use fhir_export::job::{Exporter, JobControl, JobHandle, JobReport, OnCancel};
use fhir_export::source::Source;
use tokio::time::MissedTickBehavior;

use super::Exit;
use super::events::Event;
use super::output::Output;
use super::plan::RunPlan;
use super::progress::View;
use super::screen::Screen;
use super::signals::Signals;
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
    let on_cancel = plan.config.on_cancel;
    let output = Output::new();
    let view = View::new(plan.progress, screen);
    let job = match start(plan, &view, &output) {
        Ok(job) => job,
        Err(error) => {
            screen.error(&format!("{error:#}"));
            return if error.kind() == ErrorKind::Internal { Exit::Failure } else { Exit::Usage };
        }
    };
    let mut running = Running { control: job.control(), view, output, screen, on_cancel, began: Instant::now() };
    match running.watch(job, &mut signals).await {
        Some(report) => running.tell(&report, &mut signals).await,
        None => Exit::Cancelled,
    }
}

fn start(plan: RunPlan, view: &View, output: &Output) -> fhir_export::Result<JobHandle> {
    let (level, query) = (plan.request.level().to_string(), plan.request.normalised_query());
    let source = plan.source.name();
    let exporter = Exporter::builder()
        .source(Arc::new(plan.source))
        .destination(plan.destination.destination)
        .config(plan.config)
        .build()?;
    let job = exporter.start(plan.request)?;
    if view.is_events() {
        let event = Event::Started { job_id: job.id().as_str(), source: &source, to: &plan.to, level, query };
        output.offer(event.line());
    }
    Ok(job)
}

/// A job that runs, and those who watch it.
struct Running<'s> {
    control: JobControl,
    view: View,
    output: Output,
    screen: &'s Screen,
    on_cancel: OnCancel,
    began: Instant,
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
                _ = ticks.tick() => self.view.update(&progress.borrow(), self.began.elapsed(), &self.output),
            }
        }
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

    fn stop(&mut self, signal: &str) {
        self.control.stop();
        self.view.clear();
        if self.view.is_events() {
            self.output.offer(Event::Stopped { signal }.line());
        }
        self.screen.say(&format!("{signal}: stopped; unfinished uploads may be left in the destination"));
    }

    /// Tells how the job ended.
    async fn tell(mut self, report: &JobReport, signals: &mut Signals) -> Exit {
        let elapsed = self.began.elapsed();
        self.view.update(&self.control.progress().borrow(), elapsed, &self.output);
        self.view.clear();
        if let Some(error) = &report.error {
            self.screen.error(&format!("{error:#}"));
        }
        for key in summary::leftovers(report) {
            self.screen.error(&format!("an unfinished upload or object may be left: {key}"));
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
