//! How far a job is, as it is shown while it runs.

mod bars;

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
    pub(crate) fn update(&mut self, progress: &Progress, elapsed: Duration, output: &Output) {
        match self {
            Self::Bars(bars) => bars.update(progress, elapsed),
            Self::Plain(_) if elapsed < PLAIN_PERIOD => {}
            Self::Plain(screen) => screen.say(&line(progress, elapsed)),
            Self::Events => output.offer(Event::progress(progress, elapsed).line()),
            Self::Silent => {}
        }
    }

    /// Takes everything away that doesn't belong to the result.
    pub(crate) fn clear(&mut self) {
        if let Self::Bars(bars) = self {
            bars.clear();
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
fn line(progress: &Progress, elapsed: Duration) -> String {
    let sum = Sum::of(progress);
    let mut line = format!(
        "{}: {} read, {} written, {}, {}, {} of {} done",
        duration(elapsed),
        counted(sum.read, "resource"),
        grouped(sum.written),
        volume(sum.bytes),
        megabyte_rate(each_second(sum.bytes, elapsed)),
        progress.ranges_done,
        counted(progress.ranges as u64, "file"),
    );
    if let Some(range) = &progress.range {
        line.push_str(", now ");
        line.push_str(range);
    }
    line
}
