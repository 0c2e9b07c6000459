//! The command line.
//!
//! Arguments are parsed without doing anything ([`args`]), then become a plan ([`plan`]), which is run ([`run`],
//! [`resume`], [`jobs`], [`import`], [`verify`]). A reader of stdout that goes away is no fault.

mod args;
mod events;
mod faults;
mod figures;
mod import;
mod jobs;
mod output;
mod places;
mod plan;
mod progress;
mod resume;
mod run;
mod screen;
mod serve;
mod signals;
mod state;
mod summary;
mod table;
mod values;
mod verify;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;

use args::{Arguments, Command};
use faults::Faults;
use plan::{ImportPlan, RunPlan, VerifyPlan};
use resume::ResumePlan;
use screen::Screen;
use serve::ServePlan;

/// Threads that wait for disks and networks; scanning and compressing has a pool of its own.
const IO_THREADS: usize = 2;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Success = 0,
    Failure = 1,
    Usage = 2,
    CompletedWithErrors = 3,
    /// 128 and the number of SIGINT, as shells have it.
    Cancelled = 130,
}

impl Exit {
    /// Of two things that were done, the one to be told: a failure before anything else.
    fn and(self, other: Self) -> Self {
        let rank = |exit| match exit {
            Self::Success => 0,
            Self::CompletedWithErrors => 1,
            Self::Cancelled => 2,
            Self::Usage => 3,
            Self::Failure => 4,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return unparsed(&error).into(),
    };
    let screen = Screen::new();
    log_to(&screen);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(IO_THREADS).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            screen.error(&format!("no threads can be started: {error}"));
            return Exit::Failure.into();
        }
    };
    let exit = match &arguments.command {
        Command::Run(args) => RunPlan::new(args)
            .map(|plan| runtime.block_on(run::run(plan, &screen)))
            .unwrap_or_else(|faults| refused(&screen, "run", &faults)),
        Command::Resume(args) => ResumePlan::new(args)
            .map(|plan| runtime.block_on(resume::resume(plan, &screen)))
            .unwrap_or_else(|faults| refused(&screen, "resume", &faults)),
        Command::Jobs(args) => runtime.block_on(jobs::jobs(args, &screen)),
        Command::Cancel(args) => {
            runtime.block_on(jobs::cancel(args, &screen)).unwrap_or_else(|faults| refused(&screen, "cancel", &faults))
        }
        Command::Sweep(args) => {
            runtime.block_on(jobs::sweep_all(args, &screen)).unwrap_or_else(|faults| refused(&screen, "sweep", &faults))
        }
        Command::Import(args) => ImportPlan::new(args)
            .map(|plan| runtime.block_on(import::import(plan, &screen)))
            .unwrap_or_else(|faults| refused(&screen, "import", &faults)),
        Command::Serve(args) => ServePlan::new(args)
            .map(|plan| runtime.block_on(serve::serve(plan, &screen)))
            .unwrap_or_else(|faults| refused(&screen, "serve", &faults)),
        Command::Verify(args) => VerifyPlan::new(args)
            .map(|plan| runtime.block_on(verify::verify(plan, &screen)))
            .unwrap_or_else(|faults| refused(&screen, "verify", &faults)),
    };
    // A second signal doesn't wait for requests and disks.
    runtime.shutdown_background();
    exit.into()
}

/// Help and version go to stdout, and are no faults; anything else is.
fn unparsed(error: &clap::Error) -> Exit {
    let is_asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    // A reader that went away has seen enough.
    drop(error.print());
    if is_asked_for { Exit::Success } else { Exit::Usage }
}

fn refused(screen: &Screen, command: &str, faults: &Faults) -> Exit {
    for fault in faults.lines() {
        screen.error(fault);
    }
    screen.say(&format!("try 'fhir-export {command} --help'"));
    Exit::Usage
}

/// What is logged if `RUST_LOG` says nothing: warnings, and who was let in to what.
const USUAL_LOG: &str = "warn,audit=info";

fn log_to(screen: &Screen) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(USUAL_LOG));
    let screen = screen.clone();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .without_time()
        .with_target(false)
        .with_ansi(Screen::is_terminal())
        .with_writer(move || screen.clone())
        .init();
}
