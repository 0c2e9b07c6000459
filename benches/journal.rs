//! The journal: what it costs to keep a job in SQLite, as a share of the job, how long reading it takes, and how long a
//! job that goes on takes to the place where it was interrupted.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints its figures and ends loudly")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fhir_export::destination::PartId;
use fhir_export::fhir::ResourceType;
use fhir_export::job::{Exporter, JobStore, ResumeOptions, SqliteJobStore};
use fhir_export::ledger::{Count, Fate, LedgerRow, Mark, Position};
use fhir_export::request::{ExportRequest, Level};
use fhir_export::writer::{Content, Crc64, DurablePart, Entry, ObjectName, PartSizing};
use support::{
    DroppingStore, Export, Hospital, Machine, PIECE_BYTES, Quantiles, Repeated, RepeatedSource, Selection, configured,
    runtime,
};

/// Bytes that one job reads: enough that its beginning and its end, which take some milliseconds, are a small share.
const JOB_BYTES: u64 = 2 << 30;

fn main() {
    let selection = Selection::from_arguments();
    Machine::describe();
    for part_mib in [8, 16] {
        if selection.wants(&format!("whole job, {part_mib} MiB")) {
            let job_bytes = selection.pick(JOB_BYTES, 64 << 20);
            whole_jobs(selection.pick(24, 1), job_bytes, part_mib);
        }
    }
    if selection.wants("resume") {
        resumes(selection.pick(1 << 30, 64 << 20));
    }
    if selection.wants("entries") {
        entries(selection.pick(10_000, 50));
    }
    Machine::load();
}

/// Jobs with and without a journal, in turns.
fn whole_jobs(rounds: usize, job_bytes: u64, part_mib: usize) {
    let config = configured(|config| {
        let least_bytes = part_mib << 20;
        config.small_parts = Some(PartSizing::FollowsOffset { least_bytes, largest_bytes: 32 << 20 });
    });
    for (name, piece) in [
        ("one type", Hospital::one_type("Observation", PIECE_BYTES)),
        ("7 types interleaved", Hospital::seven_types(PIECE_BYTES)),
    ] {
        let source = RepeatedSource::of(piece, job_bytes);
        let (bytes, folder) = (source.size_bytes(), tempfile::tempdir().unwrap());
        let store = Arc::new(SqliteJobStore::open(folder.path()).unwrap());
        let builder = || Exporter::builder().source(Arc::new(source.clone())).config(config.clone());
        let (mut without, mut with) = (
            Export::of(builder(), bytes),
            Export::of(builder().job_store(Arc::<SqliteJobStore>::clone(&store)), bytes),
        );
        let mut walls = (Vec::new(), Vec::new());
        for round in 0..rounds {
            // Whoever comes second finds another machine: warmer caches, a cooler processor.
            for is_kept in [round % 2 == 0, round % 2 != 0] {
                let (export, walls) = if is_kept { (&mut with, &mut walls.1) } else { (&mut without, &mut walls.0) };
                walls.push(export.run(DroppingStore::new()).1);
            }
        }
        let cpu = (without.meter.cpu_seconds_per_gigabyte(), with.meter.cpu_seconds_per_gigabyte());
        let wall = (Quantiles::of(walls.0).at(0.5).as_secs_f64(), Quantiles::of(walls.1).at(0.5).as_secs_f64());
        support::row(
            &format!("whole job, {part_mib} MiB, {name}"),
            &format_args!(
                "CPU s/GB {:.4} without, {:.4} with: {:+.2} %; median wall s {:.3}, {:.3}: {:+.2} %",
                cpu.0,
                cpu.1,
                (cpu.1 / cpu.0 - 1.0) * 100.0,
                wall.0,
                wall.1,
                (wall.1 / wall.0 - 1.0) * 100.0,
            ),
        );
    }
}

/// Jobs that fail close to their end and are resumed: everything but the last mebibytes is durable.
fn resumes(unit_bytes: u64) {
    let seven = Hospital::seven_types(PIECE_BYTES);
    let of_ranges = |size_bytes: u64| {
        let range = |name: &&str| Repeated {
            name: (*name).to_owned(),
            piece: Hospital::one_type(name, PIECE_BYTES / 8),
            bytes: size_bytes / 4,
        };
        RepeatedSource::new(["Condition", "Encounter", "Observation", "Patient"].iter().map(range).collect())
    };
    for gigabytes in [1, 4, 16] {
        let size_bytes = gigabytes * unit_bytes;
        let piece = Hospital::one_type("Observation", PIECE_BYTES);
        for (name, source) in [
            ("one type", RepeatedSource::of(piece, size_bytes)),
            ("four types, a range each", of_ranges(size_bytes)),
            ("7 types in one range", RepeatedSource::of(seven.clone(), size_bytes)),
        ] {
            if gigabytes == 16 && name.starts_with('7') {
                continue;
            }
            resume(&format!("resume, {gigabytes} GiB, {name}"), &source);
        }
    }
}

fn resume(name: &str, source: &RepeatedSource) {
    let (folder, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let store: Arc<dyn JobStore> = Arc::new(SqliteJobStore::open(folder.path()).unwrap());
    let (destination, last) = (Arc::new(DroppingStore::new()), source.longest_range_bytes());
    let exporter = |source: RepeatedSource| {
        let builder = Exporter::builder().source(Arc::new(source)).destination(Arc::clone(&destination) as Arc<_>);
        builder.job_store(Arc::clone(&store)).build().unwrap()
    };
    let begun = Instant::now();
    let failed = runtime.block_on(async {
        let failing = exporter(source.failing_in_last_range_at(last - (1 << 20)));
        failing.start(ExportRequest::new(Level::System)).unwrap().join().await
    });
    let first = begun.elapsed();
    assert!(failed.resumable, "{:?}", failed.error);
    let before = source.reads().bytes();
    let begun = Instant::now();
    let (going, report) = runtime.block_on(async {
        let options = ResumeOptions::default().allow_changed_source(true);
        let job = exporter(source.clone()).resume_with(&failed.job_id, options).await.unwrap();
        let going = async {
            while source.reads().bytes() == before {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            begun.elapsed()
        };
        tokio::join!(going, job.join())
    });
    let whole = begun.elapsed();
    assert!(report.manifest.is_some(), "{:?}", report.error);
    support::row(
        name,
        &format_args!(
            "first attempt {:.2} s; resumed: reads again after {:.1} ms, {} MiB again, over after {:.1} ms",
            first.as_secs_f64(),
            going.as_secs_f64() * 1e3,
            (source.reads().bytes() - before) >> 20,
            whole.as_secs_f64() * 1e3,
        ),
    );
}

/// Writes entries of parts one after the other, as one object does at worst, and reads them all.
fn entries(count: u32) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteJobStore::open(folder.path()).unwrap();
    let runtime = runtime();
    let id = job_of(&runtime, &store);
    let mut took: Vec<Duration> = Vec::new();
    let read = runtime.block_on(async {
        let claim = store.claim(&id).await.unwrap().unwrap();
        for number in 1..=count {
            let begun = Instant::now();
            store.append(&claim, part(number)).await.unwrap();
            took.push(begun.elapsed());
        }
        let begun = Instant::now();
        assert!(store.entries(&id).await.unwrap().len() >= count as usize);
        begun.elapsed()
    });
    let took = Quantiles::of(took);
    support::row(
        "entries, SQLite",
        &format_args!(
            "append p50 {:.1} us, p99 {:.1} us; {count} read in {:.1} ms",
            took.at(0.5).as_secs_f64() * 1e6,
            took.at(0.99).as_secs_f64() * 1e6,
            read.as_secs_f64() * 1e3,
        ),
    );
}

/// A job in the store that is over.
fn job_of(runtime: &tokio::runtime::Runtime, store: &SqliteJobStore) -> fhir_export::request::JobId {
    let source = RepeatedSource::of(Hospital::one_type("Patient", 1 << 20), 1 << 20);
    let builder = Exporter::builder().source(Arc::new(source)).destination(Arc::new(DroppingStore::new()));
    let exporter = builder.job_store(Arc::new(store.clone())).build().unwrap();
    runtime.block_on(async { exporter.start(ExportRequest::new(Level::System)).unwrap().join().await.job_id })
}

fn part(number: u32) -> Entry {
    let mut row = LedgerRow::default();
    row.record(Fate::Written, Count::new(u64::from(number) * 8000, u64::from(number) << 23));
    let place = u64::from(number) << 23;
    let position = Position {
        range: "Observation.000.ndjson".into(),
        cursor: place.to_be_bytes().as_slice().into(),
        rows_after: 0,
        place,
    };
    Entry::Part {
        object: ObjectName { content: Content::Resources(ResourceType::r4("Observation").unwrap()), sequence: 0 },
        part: DurablePart {
            number,
            id: PartId(format!("8388608:{number}:\"{}\"", "0123456789abcdef".repeat(2))),
            crc: Crc64::known(u64::MAX - u64::from(number), 8 << 20),
            count: Count::new(8000, 8 << 20),
            mark: Mark { position, row, alone: true },
        },
    }
}
