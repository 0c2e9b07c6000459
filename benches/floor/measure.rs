//! What one run costs, and medians of several.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// CPU time of this process so far, user and system, all threads.
pub fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Peak resident memory of this process, in MiB.
pub fn peak_mebibytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

/// What one run cost.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub wall_seconds: f64,
    pub cpu_seconds: f64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub peak_mebibytes: f64,
    /// Bytes that reached the store in chunks longer than a batch: slices of blocks, never copied.
    pub uncopied_bytes: u64,
    /// From the program's begin to the first part or object that the store acknowledged, in seconds.
    pub first_durable_seconds: f64,
}

/// A run that is going on.
#[derive(Debug)]
pub struct Stopwatch {
    begun: Instant,
    cpu_seconds: f64,
}

impl Stopwatch {
    pub fn start() -> Self {
        Self { begun: Instant::now(), cpu_seconds: cpu_seconds() }
    }

    pub fn stop(&self, bytes_in: u64, bytes_out: u64) -> Sample {
        Sample {
            wall_seconds: self.begun.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds() - self.cpu_seconds,
            bytes_in,
            bytes_out,
            peak_mebibytes: peak_mebibytes(),
            ..Sample::default()
        }
    }
}

impl Sample {
    const NAMES: [&str; 7] =
        ["wall_seconds", "cpu_seconds", "bytes_in", "bytes_out", "peak_mebibytes", "uncopied_bytes", "first_durable"];

    /// One line that [`parse`](Self::parse) reads.
    pub fn line(&self) -> String {
        let values = [
            self.wall_seconds,
            self.cpu_seconds,
            self.bytes_in as f64,
            self.bytes_out as f64,
            self.peak_mebibytes,
            self.uncopied_bytes as f64,
            self.first_durable_seconds,
        ];
        let mut line = String::from("sample");
        for (name, value) in Self::NAMES.iter().zip(values) {
            write!(line, " {name}={value}").unwrap();
        }
        line
    }

    pub fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find(|line| line.starts_with("sample "))?;
        let values: Vec<f64> =
            line.split(' ').skip(1).map(|pair| pair.split_once('=')?.1.parse().ok()).collect::<Option<_>>()?;
        let [wall_seconds, cpu_seconds, bytes_in, bytes_out, peak_mebibytes, uncopied_bytes, first_durable_seconds] =
            values[..]
        else {
            return None;
        };
        Some(Self {
            wall_seconds,
            cpu_seconds,
            bytes_in: bytes_in as u64,
            bytes_out: bytes_out as u64,
            peak_mebibytes,
            uncopied_bytes: uncopied_bytes as u64,
            first_durable_seconds,
        })
    }

    /// CPU seconds for a gigabyte read.
    pub fn cpu_per_gigabyte(&self) -> f64 {
        self.cpu_seconds / (self.bytes_in as f64 / 1e9)
    }

    /// Gigabytes read a second.
    pub fn gigabytes_per_second(&self) -> f64 {
        self.bytes_in as f64 / 1e9 / self.wall_seconds
    }
}

/// The middle one of some figures.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => figures[count / 2],
        count => f64::midpoint(figures[count / 2 - 1], figures[count / 2]),
    }
}

/// How much longer a loop takes on each of two threads at once than on one: 1.0 on a quiet machine.
pub fn calibration() -> f64 {
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
    for _ in 0..10_000_000 {
        number = std::hint::black_box(number ^ (number << 13)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
    std::hint::black_box(number);
    begun.elapsed()
}
