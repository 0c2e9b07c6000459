//! Backpressure: throughput and peak memory against the speed of the store.

#![allow(clippy::unwrap_used, reason = "a bench that meets something unexpected should end loudly")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use support::{
    DroppingStore, Export, Hospital, Machine, PIECE_BYTES, RepeatedSource, Selection, Stall, configured, giga,
};

/// Counts what is allocated, and remembers the most.
struct Counting {
    live_bytes: AtomicUsize,
    peak_bytes: AtomicUsize,
}

#[global_allocator]
static HEAP: Counting = Counting { live_bytes: AtomicUsize::new(0), peak_bytes: AtomicUsize::new(0) };

impl Counting {
    fn add(&self, bytes: usize) {
        let live = self.live_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak_bytes.fetch_max(live, Ordering::Relaxed);
    }

    fn remove(&self, bytes: usize) {
        self.live_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Forgets the peak; what is allocated now is the base of the next one.
    fn begin(&self) -> usize {
        let live = self.live_bytes.load(Ordering::Relaxed);
        self.peak_bytes.store(live, Ordering::Relaxed);
        live
    }

    fn peak_over(&self, base: usize) -> usize {
        self.peak_bytes.load(Ordering::Relaxed).saturating_sub(base)
    }
}

// SAFETY: every call is handed to the system's allocator as it came; only numbers are kept besides.
#[expect(unsafe_code, reason = "an allocator can't be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.add(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.add(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.remove(layout.size());
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        self.remove(layout.size());
        self.add(new_size);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

/// One speed of the store, and how much data shows it.
#[derive(Clone, Copy, Debug)]
struct Speed {
    name: &'static str,
    bytes_per_second: Option<u64>,
    job_bytes: u64,
    /// The same for 150 types, which don't fit the budget and go by way of the disk.
    job_bytes_of_many: u64,
}

/// The slowest store that has rows for the larger budget and for many types: they would take many minutes.
const SLOW: u64 = 10_000_000;

const SPEEDS: [Speed; 5] = [
    Speed { name: "1 MiB/s", bytes_per_second: Some(1 << 20), job_bytes: 96 << 20, job_bytes_of_many: 0 },
    Speed { name: "10 MB/s", bytes_per_second: Some(SLOW), job_bytes: 200 << 20, job_bytes_of_many: 0 },
    Speed { name: "50 MB/s", bytes_per_second: Some(50_000_000), job_bytes: 300 << 20, job_bytes_of_many: 200 << 20 },
    Speed { name: "500 MB/s", bytes_per_second: Some(500_000_000), job_bytes: 2 << 30, job_bytes_of_many: 400 << 20 },
    Speed { name: "unlimited", bytes_per_second: None, job_bytes: 3 << 30, job_bytes_of_many: 1500 << 20 },
];

fn main() {
    let selection = Selection::from_arguments();
    Machine::describe();
    let seven = Hospital::seven_types(PIECE_BYTES);
    let many = Hospital::many_types(PIECE_BYTES);
    for speed in SPEEDS {
        for (budget, types, piece, job_bytes) in [
            (64 << 20, "7 types", &seven, speed.job_bytes),
            (256 << 20, "7 types", &seven, speed.job_bytes),
            (64 << 20, "150 types", &many, speed.job_bytes_of_many),
            (256 << 20, "150 types", &many, speed.job_bytes_of_many),
        ] {
            let is_slow = speed.bytes_per_second.is_some_and(|bytes| bytes <= SLOW);
            if is_slow && (types != "7 types" || budget > 64 << 20) {
                continue;
            }
            let name = format!("backpressure {}, {types}, {} MiB", speed.name, budget >> 20);
            if selection.wants(&name) {
                let speed = Speed { job_bytes: selection.pick(job_bytes, 1 << 20), ..speed };
                measure(&name, speed, budget, piece);
            }
        }
    }
    Machine::load();
}

fn measure(name: &str, speed: Speed, budget_bytes: usize, piece: &Bytes) {
    let source = RepeatedSource::of(piece.clone(), speed.job_bytes);
    let bytes = source.size_bytes();
    let base = HEAP.begin();
    forget_peak_of_process();
    let base_of_process = of_process("VmRSS");
    let mut export = Export::new(source, bytes, configured(|config| config.budget_bytes = budget_bytes));
    let store = DroppingStore::with(speed.bytes_per_second, Stall::Never);
    let (_, wall) = export.run(store.clone());
    let (speed, cpu) = (giga(bytes) / wall.as_secs_f64(), export.meter.cpu_seconds_per_gigabyte());
    support::row(
        name,
        &format_args!(
            "{speed:6.3} GB/s {cpu:6.3} CPU s/GB  heap {:4} MiB  resident {:4} MiB over start  {} parts",
            HEAP.peak_over(base) >> 20,
            of_process("VmHWM").saturating_sub(base_of_process) >> 10,
            store.parts(),
        ),
    );
}

/// A figure of this process, in KiB.
fn of_process(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// Asks the kernel to forget the most memory that was resident; without the right to do so it stays.
fn forget_peak_of_process() {
    drop(std::fs::write("/proc/self/clear_refs", "5"));
}
