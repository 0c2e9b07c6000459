//! How far a job is, as it is shown while it runs.

mod bars;

use std::collections::BTreeMap;
use std::time::Duration;

use fhir_export::job::Progress;

use self::bars::Bars;
use super::events::Event;
use super::figures::{counted, duration, each_second, grouped, megabyte_rate, volume};
use super::output::Output;
use super::plan::ProgressKind;
use super::screen::Screen;

const BARS_PERIOD: Duration = Duration::from_millis(200);
const PLAIN_PERIOD: Duration = Duration::from_secs(5);
const EVENTS_PERIOD: Duration = Duration::from_millis(500);
/// Of nothing: any.
const NO_PERIOD: Duration = Duration::from_secs(3600);

/// How far a job is now.
#[derive(Debug)]
pub(crate) struct Now {
    pub(crate) progress: Progress,
    pub(crate) elapsed: Duration,
    /// Calls to the destination that failed and were repeated, by cause.
    pub(crate) failed_calls: BTreeMap<&'static str, u64>,
}

/// The way in which progress is shown.
#[derive(Debug)]
pub(crate) enum View {
    Bars(Box<Bars>),
    Plain(Screen),
    Events,
    Silent,
}

impl View {
    pub(crate) fn new(kind: ProgressKind, screen: &Screen) -> Self {
        match kind {
            ProgressKind::Auto if Screen::is_terminal() => Self::Bars(Box::new(Bars::new(screen.clone()))),
            ProgressKind::Bar => Self::Bars(Box::new(Bars::new(screen.clone()))),
            ProgressKind::Auto | ProgressKind::Plain => Self::Plain(screen.clone()),
            ProgressKind::Json => Self::Events,
            ProgressKind::None => Self::Silent,
        }
    }

    /// How often it is to be updated.
    pub(crate) const fn period(&self) -> Duration {
        match self {
            Self::Bars(_) => BARS_PERIOD,
            Self::Plain(_) => PLAIN_PERIOD,
            Self::Events => EVENTS_PERIOD,
            Self::Silent => NO_PERIOD,
        }
    }

    /// Shows how far the job is.
    pub(crate) fn update(&mut self, now: &Now, output: &Output) {
        match self {
            Self::Bars(bars) => bars.update(now),
            Self::Plain(_) if now.elapsed < PLAIN_PERIOD => {}
            Self::Plain(screen) => screen.say(&line(now)),
            Self::Events => output.offer(Event::progress(now).line()),
            Self::Silent => {}
        }
    }

    /// Takes everything away that doesn't belong to the result.
    pub(crate) fn clear(&self) {
        if let Self::Bars(bars) = self {
            bars.hide();
        }
    }

    /// Whether results are events.
    pub(crate) const fn is_events(&self) -> bool {
        matches!(self, Self::Events)
    }
}

/// What all types have together.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    read: u64,
    written: u64,
    bytes: u64,
}

impl Sum {
    fn of(progress: &Progress) -> Self {
        progress.types.iter().fold(Self::default(), |sum, one| Self {
            read: sum.read + one.row.read.resources,
            written: sum.written + one.row.written.resources,
            bytes: sum.bytes + one.row.read.bytes,
        })
    }
}

/// One line about everything.
fn line(now: &Now) -> String {
    let Now { progress, elapsed, .. } = now;
    let sum = Sum::of(progress);
    let mut line = format!("{}: ", duration(*elapsed));
    if progress.ranges == 0 {
        line.push_str("looking at source and destination");
    } else {
        line.push_str(&format!(
            "{} read, {} written, {}, {}, {} of {} done",
            counted(sum.read, "resource"),
            grouped(sum.written),
            volume(sum.bytes),
            megabyte_rate(each_second(sum.bytes, *elapsed)),
            progress.ranges_done,
            counted(progress.ranges as u64, "file"),
        ));
    }
    if let Some(range) = &progress.range {
        line.push_str(", now ");
        line.push_str(range);
    }
    line.push_str(&failed_calls(now));
    line
}

/// What is told of failed calls, if there were any.
fn failed_calls(now: &Now) -> String {
    if now.failed_calls.is_empty() {
        return String::new();
    }
    let causes: Vec<String> = now
        .failed_calls
        .iter()
        .map(|(cause, count)| format!("{} {}", grouped(*count), cause.replace('_', " ")))
        .collect();
    let calls = counted(now.failed_calls.values().sum(), "call");
    format!(", {calls} to the destination failed and repeated ({})", causes.join(", "))
}
