//! Allocations on the way of a resource, counted.
//!
//! `cargo bench --features full --bench allocations` exports the synthetic data of the bench `floor` to a store that
//! drops everything, with an allocator that counts, and prints allocations and allocated bytes for each resource.
//! What a job costs once is in it, and is next to nothing beside 390,850 resources.

#![allow(
    dead_code,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::missing_errors_doc,
    missing_docs,
    unreachable_pub,
    reason = "a program for measuring, which shares files with another"
)]

mod arguments;
mod baseline;
mod engine;
mod measure;
mod synth;
mod watched;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arguments::Arguments;
use watched::Dropping;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, with a count.
struct Counting;

fn count(bytes: usize) {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
}

#[expect(unsafe_code, reason = "an allocator can't be written without")]
// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let named = std::env::var_os("FHIR_EXPORT_BENCH_DATA").map(std::path::PathBuf::from);
    let data = synth::Folders::below(&named.unwrap_or_else(|| std::env::temp_dir().join("fhir-export-bench")))?;
    let since = Arguments::from([("since", synth::SINCE), ("to", "drop")]);
    let all = Arguments::from([("to", "drop")]);
    let patient = Arguments::from([("level", "patient"), ("to", "drop")]);
    println!("| what | allocations a resource | allocated bytes a resource |");
    println!("| --- | ---: | ---: |");
    row("half kept by `_since`, one file of seven types", &since, &data.mixed)?;
    row("all kept, one file of seven types", &all, &data.mixed)?;
    row("all kept, seven files of one type", &all, &data.types)?;
    row("level patient, seven files of one type", &patient, &data.types)
}

fn row(name: &str, arguments: &Arguments, source: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = baseline::runtime(2)?;
    let (allocations, bytes) = (ALLOCATIONS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    runtime.block_on(engine::export(arguments, source, 2, Arc::new(Dropping::default())))?;
    let each = |now: u64, before: u64| (now - before) as f64 / synth::RESOURCES as f64;
    println!(
        "| {name} | {:.4} | {:.1} |",
        each(ALLOCATIONS.load(Ordering::Relaxed), allocations),
        each(BYTES.load(Ordering::Relaxed), bytes)
    );
    Ok(())
}
