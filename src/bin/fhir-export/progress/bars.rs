//! Bars on a terminal: one for each type that resources are read of just now, and one for everything.

use std::collections::BTreeMap;
use std::time::Duration;

use fhir_export::job::{Count, Progress};
use indicatif::{ProgressBar, ProgressStyle};

use super::Sum;
use crate::figures::{counted, duration, each_second, grouped, megabyte_rate, rate, volume};
use crate::screen::Screen;

/// Types that have a bar at the same time: more would not fit a terminal.
const MOST_BARS: usize = 12;

/// Updates without anything new after which a type's bar goes.
const QUIET_UPDATES: u32 = 10;

/// How much the newest figure weighs in a rate.
const NEWEST: f64 = 0.2;

/// The bars of one job.
#[derive(Debug)]
pub(crate) struct Bars {
    screen: Screen,
    all: ProgressBar,
    types: BTreeMap<String, TypeBar>,
    last: Duration,
}

#[derive(Debug, Default)]
struct TypeBar {
    bar: Option<ProgressBar>,
    read: Count,
    resource_rate: f64,
    byte_rate: f64,
    quiet_updates: u32,
}

impl Bars {
    pub(super) fn new(screen: Screen) -> Self {
        screen.show_bars();
        let all = screen.add_last_bar(ProgressBar::new(0).with_style(style("[{bar:30}] {pos}/{len} {msg}")));
        Self { screen, all, types: BTreeMap::new(), last: Duration::ZERO }
    }

    pub(super) fn update(&mut self, progress: &Progress, elapsed: Duration) {
        let since_last = elapsed.saturating_sub(self.last);
        self.last = elapsed;
        for one in &progress.types {
            let shown = self.types.values().filter(|shown| shown.bar.is_some()).count();
            let of_type = self.types.entry(one.resource_type.to_string()).or_default();
            of_type.measure(one.row.read, since_last);
            if of_type.quiet_updates >= QUIET_UPDATES {
                of_type.hide(&self.screen);
                continue;
            }
            if of_type.bar.is_none() && of_type.quiet_updates == 0 && shown < MOST_BARS {
                let bar = ProgressBar::new_spinner().with_style(style("{spinner} {prefix:28} {msg}"));
                of_type.bar = Some(self.screen.insert_bar(bar.with_prefix(one.resource_type.to_string())));
            }
            if let Some(bar) = &of_type.bar {
                bar.tick();
                bar.set_message(format!(
                    "{:>13} written  {:>9}/s  {:>11}",
                    grouped(one.row.written.resources),
                    rate(of_type.resource_rate),
                    megabyte_rate(of_type.byte_rate),
                ));
            }
        }
        let sum = Sum::of(progress);
        self.all.set_length(progress.ranges as u64);
        self.all.set_position(progress.ranges_done as u64);
        self.all.set_message(format!(
            "files  {} read, {} written, {}, {}, {}",
            counted(sum.read, "resource"),
            grouped(sum.written),
            volume(sum.bytes),
            megabyte_rate(each_second(sum.bytes, elapsed)),
            duration(elapsed),
        ));
    }

    pub(super) fn clear(&mut self) {
        for of_type in self.types.values_mut() {
            of_type.hide(&self.screen);
        }
        self.screen.remove_bar(&self.all);
    }
}

impl TypeBar {
    /// Takes what has been read by now.
    fn measure(&mut self, read: Count, since_last: Duration) {
        let more = Count::new(read.resources - self.read.resources, read.bytes - self.read.bytes);
        self.quiet_updates = if more == Count::default() { self.quiet_updates + 1 } else { 0 };
        let is_first = self.read == Count::default();
        self.read = read;
        for (rate, newest) in [(&mut self.resource_rate, more.resources), (&mut self.byte_rate, more.bytes)] {
            let newest = each_second(newest, since_last);
            *rate = if is_first { newest } else { *rate + NEWEST * (newest - *rate) };
        }
    }

    fn hide(&mut self, screen: &Screen) {
        if let Some(bar) = self.bar.take() {
            screen.remove_bar(&bar);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}
