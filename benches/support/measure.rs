//! CPU seconds, calibration and quantiles: wall time alone lies on a machine that others use too.

#![allow(clippy::print_stdout, reason = "benches print their figures")]

use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// What Linux counts CPU time in for user space, in seconds.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of this process so far, user and system, all threads; in steps of 10 ms.
pub(crate) fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the process stands in brackets and may hold anything; the times are 14th and 15th.
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = behind_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok());
    TICK * ticks.sum::<u32>()
}

/// Bytes as gigabytes: 1e9 bytes.
pub(crate) fn giga(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

/// A duration in milliseconds.
pub(crate) fn wall_ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Prints one row of figures.
pub(crate) fn row(name: &str, figures: &fmt::Arguments<'_>) {
    println!("{name:<44} {figures}");
}

/// Wall and CPU time of runs over a known number of bytes.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    walls: Vec<Duration>,
    cpu: Duration,
    bytes: u64,
}

impl Meter {
    /// Runs something that goes through so many bytes, and tells how long it took.
    pub(crate) fn run<T>(&mut self, bytes: u64, work: impl FnOnce() -> T) -> (T, Duration) {
        let (cpu, begun) = (cpu_time(), Instant::now());
        let result = work();
        let wall = begun.elapsed();
        self.cpu += cpu_time().saturating_sub(cpu);
        self.walls.push(wall);
        self.bytes += bytes;
        (result, wall)
    }

    /// CPU seconds for a gigabyte, over all runs.
    pub(crate) fn cpu_seconds_per_gigabyte(&self) -> f64 {
        self.cpu.as_secs_f64() / giga(self.bytes)
    }

    /// Gigabytes a second of the median run.
    pub(crate) fn gigabytes_per_second(&self) -> f64 {
        let each = giga(self.bytes) / self.walls.len() as f64;
        each / Quantiles::of(self.walls.clone()).at(0.5).as_secs_f64()
    }

    /// Prints what was measured.
    pub(crate) fn report(&self, name: &str) {
        if self.walls.is_empty() {
            return;
        }
        let (speed, cpu) = (self.gigabytes_per_second(), self.cpu_seconds_per_gigabyte());
        row(name, &format_args!("{speed:6.2} GB/s {cpu:7.3} CPU s/GB  (median of {})", self.walls.len()));
    }
}

/// Sorted durations.
#[derive(Debug)]
pub(crate) struct Quantiles(Vec<Duration>);

impl Quantiles {
    /// Sorts.
    pub(crate) fn of(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self(durations)
    }

    /// The smallest duration that so large a share of all doesn't exceed.
    pub(crate) fn at(&self, share: f64) -> Duration {
        let index = (self.0.len() as f64 * share).ceil() as usize;
        self.0.get(index.saturating_sub(1)).or(self.0.last()).copied().unwrap_or_default()
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, p99, most] = [0.5, 0.99, 1.0].map(|share| wall_ms(self.at(share)));
        write!(f, "p50 {median:8.2} ms  p99 {p99:8.2} ms  max {most:8.2} ms  (n = {})", self.0.len())
    }
}

/// The machine, as far as figures depend on it.
#[derive(Debug)]
pub(crate) struct Machine;

impl Machine {
    /// Prints what the machine is and how busy.
    pub(crate) fn describe() {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let (cpu, memory) = (field("/proc/cpuinfo", "model name"), field("/proc/meminfo", "MemTotal"));
        println!("{cpu}, {cores} cores, {memory}");
        Self::load();
    }

    /// Prints the load and what two threads get of the cores.
    pub(crate) fn load() {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or("?");
        println!("load {load}, calibration {:.2} (two threads' time by one's; 1.0 is quiet)", calibration());
    }
}

fn field(file: &str, name: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
}

/// How much longer the same loop takes on each of two threads at once than on one.
fn calibration() -> f64 {
    let alone = (0..3).map(|_| spin()).min().unwrap_or_default();
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(spin);
        (spin(), other.join().unwrap_or_default())
    });
    one.max(other).as_secs_f64() / alone.as_secs_f64()
}

fn spin() -> Duration {
    let begun = Instant::now();
    let mut number = 1_u64;
    for _ in 0..20_000_000 {
        number = black_box(number ^ (number << 13)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
    black_box(number);
    begun.elapsed()
}

/// What the command line wants of a bench without criterion.
#[derive(Debug)]
pub(crate) struct Selection {
    filter: Option<String>,
    measures: bool,
}

impl Selection {
    /// Reads the command line: `--bench` measures, without it everything runs once, shortly; a word filters.
    pub(crate) fn from_arguments() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let measures = arguments.iter().any(|argument| argument == "--bench");
        let takes_value = |argument: &str| argument.starts_with("--") && !["--bench", "--test"].contains(&argument);
        let before = std::iter::once("").chain(arguments.iter().map(String::as_str));
        let filter = before.zip(&arguments).find(|(before, word)| !word.starts_with('-') && !takes_value(before));
        Self { filter: filter.map(|(_, word)| word.clone()), measures }
    }

    /// Whether a row is to be run.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()))
    }

    /// One number to measure with, another to see that it runs.
    pub(crate) const fn pick<T: Copy>(&self, measuring: T, trying: T) -> T {
        if self.measures { measuring } else { trying }
    }
}
