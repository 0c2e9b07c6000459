//! Loads a source into a store, with its progress.

use std::time::{Duration, Instant};

use fhir_export::ErrorKind;
use fhir_export::import::{Event, LoadReport, Totals, load, open};
use indicatif::{ProgressBar, ProgressStyle};

use super::Exit;
use super::figures::{counted, duration, each_second, grouped, megabyte_rate, rate, volume};
use super::output::print;
use super::plan::{ImportPlan, ProgressKind};
use super::screen::Screen;

/// How often progress is told where there is no bar.
const PLAIN_PERIOD: Duration = Duration::from_secs(5);

/// Runs the plan to its end.
pub(crate) async fn import(plan: ImportPlan, screen: &Screen) -> Exit {
    let began = Instant::now();
    let loaded = run(&plan, screen, began).await;
    match loaded {
        Ok(report) => {
            if let Err(error) = print(&text(&report, &plan.to, began.elapsed())) {
                screen.error(&format!("stdout can't be written to: {error}"));
                return Exit::Failure;
            }
            if report.is_whole() { Exit::Success } else { Exit::CompletedWithErrors }
        }
        Err(error) => {
            screen.failure(&error);
            match error.kind() {
                ErrorKind::InvalidRequest | ErrorKind::InvalidConfig => Exit::Usage,
                _ => {
                    screen.say("what was loaded stays: the same command goes on");
                    Exit::Failure
                }
            }
        }
    }
}

async fn run(plan: &ImportPlan, screen: &Screen, began: Instant) -> fhir_export::Result<LoadReport> {
    let mut target = open::from_uri(plan.password.uri(&plan.to))?;
    let mut view = View::new(plan.progress, screen, began);
    let report = load(plan.source.as_ref(), target.as_mut(), &plan.loading, &mut |event| view.take(&event)).await;
    view.clear();
    report
}

/// How progress is shown.
struct View {
    screen: Screen,
    kind: Kind,
    began: Instant,
}

enum Kind {
    Bar(ProgressBar),
    Plain { told: Instant },
    Silent,
}

impl View {
    fn new(kind: ProgressKind, screen: &Screen, began: Instant) -> Self {
        let kind = match kind {
            ProgressKind::Bar => Kind::bar(screen),
            ProgressKind::Auto if Screen::is_terminal() => Kind::bar(screen),
            ProgressKind::Auto | ProgressKind::Plain => Kind::Plain { told: began },
            ProgressKind::Json | ProgressKind::None => Kind::Silent,
        };
        Self { screen: screen.clone(), kind, began }
    }

    fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Progress { totals, files_done, files } => self.show(totals, *files_done, *files),
            Event::Refused(refused) => self.screen.say(&format!("refused {refused}")),
            Event::Unreadable(file, error) => self.screen.error(&format!("{file} can't be read to its end: {error:#}")),
            Event::Finishing => {
                if let Kind::Bar(bar) = &self.kind {
                    bar.set_message("building the index");
                }
            }
        }
    }

    fn show(&mut self, totals: &Totals, files_done: usize, files: usize) {
        let elapsed = self.began.elapsed();
        match &mut self.kind {
            Kind::Bar(bar) => {
                bar.set_length(files as u64);
                bar.set_position(files_done as u64);
                bar.set_message(line(totals, elapsed));
            }
            Kind::Plain { told } if told.elapsed() >= PLAIN_PERIOD => {
                *told = Instant::now();
                let files = counted(files as u64, "file");
                self.screen.say(&format!("{}, {files_done} of {files} done", line(totals, elapsed)));
            }
            Kind::Plain { .. } | Kind::Silent => {}
        }
    }

    fn clear(&self) {
        if let Kind::Bar(_) = self.kind {
            self.screen.hide_bars();
        }
    }
}

impl Kind {
    fn bar(screen: &Screen) -> Self {
        screen.show_bars();
        let style = ProgressStyle::with_template("[{bar:30}] {pos}/{len} files  {msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
        Self::Bar(screen.add_last_bar(ProgressBar::new(0).with_style(style)))
    }
}

fn line(totals: &Totals, elapsed: Duration) -> String {
    format!(
        "{} read, {}, {}/s, {}, {}",
        counted(totals.read, "resource"),
        volume(totals.bytes),
        rate(each_second(totals.read, elapsed)),
        megabyte_rate(each_second(totals.bytes, elapsed)),
        duration(elapsed),
    )
}

/// The books, and what is to be done next.
fn text(report: &LoadReport, to: &str, elapsed: Duration) -> String {
    let Totals { read, bytes, inserted, replaced, kept, refused } = report.totals;
    let mut text = format!(
        "{} ({}) from {} in {}: {} new, {} replaced older ones, {} were there as new, {} refused\n",
        counted(read, "resource"),
        volume(bytes),
        counted(report.files as u64, "file"),
        duration(elapsed),
        grouped(inserted),
        grouped(replaced),
        grouped(kept),
        grouped(refused),
    );
    if report.before > 0 {
        text.push_str(&format!("{} of them were loaded before, and not read again\n", grouped(report.before)));
    }
    if report.unreadable.is_empty() {
        text.push_str(&format!("export with: fhir-export run --source {to} --to ./out\n"));
    } else {
        let files = counted(report.unreadable.len() as u64, "file");
        text.push_str(&format!(
            "{files} can't be read to the end: when they can, the same command brings what is missing\n"
        ));
    }
    text
}
