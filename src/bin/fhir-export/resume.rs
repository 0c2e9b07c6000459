//! Goes on with jobs that are unfinished.

use std::sync::Arc;

use fhir_export::ErrorKind;
use fhir_export::job::{Config, Exporter, JobRecord, ResumeOptions};

use super::Exit;
use super::args::ResumeArgs;
use super::faults::Faults;
use super::output::print;
use super::places::Places;
use super::plan::{ProgressKind, progress};
use super::run::{Job, run_job};
use super::screen::Screen;
use super::signals::Signals;
use super::state::{State, Store, named};

/// What is to be resumed, and how.
#[derive(Debug)]
pub(crate) struct ResumePlan {
    job: Option<String>,
    state: State,
    options: ResumeOptions,
    progress: ProgressKind,
}

impl ResumePlan {
    /// Makes a plan of the arguments.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(crate) fn new(args: &ResumeArgs) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let progress = progress(&mut faults, &args.progress);
        let options = ResumeOptions::default()
            .allow_changed_source(args.allow_changed_source)
            .allow_time_bounded(args.allow_time_bounded);
        match progress {
            Some(progress) => {
                Ok(Self { job: args.job.clone(), state: State::of(args.folder.state.as_deref()), options, progress })
            }
            None => Err(faults),
        }
    }
}

/// Runs the plan to its end.
pub(crate) async fn resume(plan: ResumePlan, screen: &Screen) -> Exit {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            screen.error(&format!("signals can't be caught: {error}"));
            return Exit::Failure;
        }
    };
    let (store, jobs) = match plan.state.look().await {
        Ok(opened) => opened,
        Err(error) => {
            screen.failure(&error);
            return Exit::Failure;
        }
    };
    let chosen: Vec<&JobRecord> = match &plan.job {
        None => jobs.iter().filter(|job| job.is_unfinished()).collect(),
        Some(beginning) => match named(&jobs, beginning) {
            Ok(job) => vec![job],
            Err(why) => {
                screen.error(&why);
                return Exit::Usage;
            }
        },
    };
    let mut worst: Option<Exit> = None;
    for record in chosen {
        let exit = one(&plan, &store, record, screen, &mut signals).await;
        worst = exit.map(|exit| worst.map_or(exit, |worst| worst.and(exit))).or(worst);
        if exit == Some(Exit::Cancelled) {
            break;
        }
    }
    worst.unwrap_or_else(|| nothing_to_do(plan.progress, screen))
}

fn nothing_to_do(progress: ProgressKind, screen: &Screen) -> Exit {
    let text = "no unfinished job";
    if progress == ProgressKind::Json {
        screen.say(text);
        return Exit::Success;
    }
    match print(&format!("{text}\n")) {
        Ok(()) => Exit::Success,
        Err(_) => Exit::Failure,
    }
}

/// Whether a job that was unfinished when it was looked at isn't any more.
async fn has_ended(store: &Store, record: &JobRecord) -> bool {
    matches!(store.get(&record.id).await, Ok(Some(now)) if !now.is_unfinished())
}

/// Goes on with one job; `None` if another process does, or did.
async fn one(
    plan: &ResumePlan,
    store: &Store,
    record: &JobRecord,
    screen: &Screen,
    signals: &mut Signals,
) -> Option<Exit> {
    let Some(places) = Places::of_record(record) else {
        screen.error(&format!("job {} was begun by another program: it isn't known where its source is", record.id));
        return Some(Exit::Failure);
    };
    let opened = async {
        let destination = places.open_destination()?;
        let exporter = Exporter::builder()
            .source(places.open_source()?)
            .destination(Arc::clone(&destination.destination))
            .config(Config::default())
            .job_store(Arc::clone(store))
            .build()?;
        let handle = exporter.resume_with(&record.id, plan.options).await?;
        Ok::<_, fhir_export::Error>((destination, handle))
    };
    let (destination, handle) = match opened.await {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::Fenced => {
            screen.say(&format!("job {} is run by another process", record.id));
            return plan.job.is_some().then_some(Exit::Failure);
        }
        Err(_) if plan.job.is_none() && has_ended(store, record).await => {
            screen.say(&format!("job {} was finished by another process", record.id));
            return None;
        }
        Err(error) => {
            screen.failure(&error);
            return Some(Exit::Failure);
        }
    };
    if plan.progress != ProgressKind::Json {
        screen.say(&format!("going on with job {}, {} to {}", record.id, places.source, places.to));
    }
    let on_cancel = record.settings.on_cancel();
    let (level, query) =
        (record.level.clone(), record.request().map_or_else(|_| String::new(), |r| r.normalised_query()));
    let job = Job {
        handle,
        destination,
        on_cancel,
        progress: plan.progress,
        state: plan.state.clone(),
        from: places.source,
        to: places.to,
        level,
        query,
    };
    Some(run_job(job, screen, signals).await)
}
