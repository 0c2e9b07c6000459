//! What is kept of jobs: looked at, cancelled, swept.

use fhir_export::ErrorKind;
use fhir_export::job::{CancelWish, JobRecord, OnCancel, SweepOptions, Swept, sweep};

use super::Exit;
use super::args::{CancelArgs, StateArgs, SweepArgs};
use super::faults::Faults;
use super::figures::counted;
use super::output::print;
use super::places::Places;
use super::screen::Screen;
use super::state::{State, Store, named};
use super::values::{choice, number};

const SECONDS_A_DAY: i64 = 24 * 60 * 60;

/// Lists the jobs.
pub(crate) async fn jobs(args: &StateArgs, screen: &Screen) -> Exit {
    let listed = async {
        let (store, jobs) = State::of(args.folder.state.as_deref()).look().await?;
        let mut text = String::new();
        for job in jobs {
            let runs = job.is_unfinished() && store.is_claimed(&job.id).await?;
            text.push_str(&line(&job, runs));
        }
        Ok::<_, fhir_export::Error>(text)
    };
    match listed.await {
        Ok(text) if text.is_empty() => end(screen, "no job is kept\n"),
        Ok(text) => end(screen, &text),
        Err(error) => {
            screen.failure(&error);
            Exit::Failure
        }
    }
}

fn line(job: &JobRecord, runs: bool) -> String {
    let (from, to) = Places::of_record(job)
        .map_or_else(|| (job.source.clone(), job.manifest_url.clone()), |one| (one.source, one.to));
    let note = match (runs, job.is_unfinished()) {
        (true, _) => "  runs",
        (false, true) => "  can be resumed",
        (false, false) => "",
    };
    format!("{}  {}  {:<21}  {from} -> {to}{note}\n", job.id, job.submitted, job.state)
}

fn end(screen: &Screen, text: &str) -> Exit {
    match print(text) {
        Ok(()) => Exit::Success,
        Err(error) => {
            screen.error(&format!("stdout can't be written to: {error}"));
            Exit::Failure
        }
    }
}

/// Leaves word that a job is to be cancelled.
pub(crate) async fn cancel(args: &CancelArgs, screen: &Screen) -> Result<Exit, Faults> {
    let mut faults = Faults::default();
    let on_cancel = args.on_cancel.as_deref().map(|text| choice(&mut faults, "--on-cancel", text, &OnCancel::WORDS));
    if !faults.is_empty() {
        return Err(faults);
    }
    let asked = async {
        let (store, jobs) = State::of(args.folder.state.as_deref()).look().await?;
        let job = match named(&jobs, &args.job) {
            Ok(job) => job,
            Err(why) => return Ok(Err(why)),
        };
        if !store.is_claimed(&job.id).await? {
            return Ok(Err(format!("no process runs job {}, which is {}", job.id, job.state)));
        }
        store.ask_cancel(&job.id, CancelWish { on_cancel: on_cancel.flatten() }).await?;
        Ok::<_, fhir_export::Error>(Ok(format!("job {} was asked to end\n", job.id)))
    };
    Ok(match asked.await {
        Ok(Ok(text)) => end(screen, &text),
        Ok(Err(why)) => {
            screen.error(&why);
            Exit::Failure
        }
        Err(error) => {
            screen.failure(&error);
            Exit::Failure
        }
    })
}

/// Sweeps what dead jobs have left.
pub(crate) async fn sweep_all(args: &SweepArgs, screen: &Screen) -> Result<Exit, Faults> {
    let mut faults = Faults::default();
    let mut days = |name: &str, text: &str| {
        number(&mut faults, name, text, 0..=100_000).and_then(|days| i64::try_from(days).ok()).unwrap_or_default()
    };
    let (older_than, forget_after) =
        (days("--older-than", &args.older_than), days("--forget-after", &args.forget_after));
    if !faults.is_empty() {
        return Err(faults);
    }
    let (store, jobs) = match State::of(args.folder.state.as_deref()).look().await {
        Ok(opened) => opened,
        Err(error) => {
            screen.failure(&error);
            return Ok(Exit::Failure);
        }
    };
    let options = SweepOptions::default().objects(args.objects);
    let chosen: Vec<(&JobRecord, SweepOptions)> = match &args.job {
        Some(beginning) => match named(&jobs, beginning) {
            Ok(job) => vec![(job, options)],
            Err(why) => {
                screen.error(&why);
                return Ok(Exit::Usage);
            }
        },
        None => jobs
            .iter()
            .filter_map(|job| {
                let age = age_days(job);
                let forgets = !job.is_unfinished() && age >= forget_after;
                let sweeps = job.is_unfinished() && age >= older_than;
                (forgets || sweeps).then_some((job, options.record(forgets)))
            })
            .collect(),
    };
    let mut exit = Exit::Success;
    let mut text = String::new();
    for (job, options) in chosen {
        match one(&store, job, options).await {
            Ok(swept) => text.push_str(&told(job, swept, options)),
            Err(error) if error.kind() == ErrorKind::Fenced && args.job.is_none() => {}
            Err(error) => {
                screen.failure(&error);
                exit = Exit::Failure;
            }
        }
    }
    if text.is_empty() && exit == Exit::Success {
        text.push_str("nothing to sweep\n");
    }
    Ok(exit.and(end(screen, &text)))
}

/// Whole days since the record was last written.
fn age_days(job: &JobRecord) -> i64 {
    job.updated_seconds_ago().unwrap_or_default() / SECONDS_A_DAY
}

async fn one(store: &Store, job: &JobRecord, options: SweepOptions) -> fhir_export::Result<Swept> {
    let places = Places::of_record(job).ok_or_else(|| {
        let message = "the job was begun by another program: it isn't known where its objects are";
        fhir_export::Error::new(ErrorKind::InvalidRequest, message).with("job", &job.id)
    })?;
    let destination = places.open_destination()?;
    sweep(store.as_ref(), destination.destination.as_ref(), &job.id, options).await
}

fn told(job: &JobRecord, swept: Swept, options: SweepOptions) -> String {
    let what = if options.record { "forgotten" } else { "swept" };
    let uploads = counted(swept.uploads as u64, "open upload");
    format!("{}  {what}: {uploads}, {} removed\n", job.id, counted(swept.objects as u64, "object"))
}
