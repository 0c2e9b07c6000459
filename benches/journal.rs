//! The journal: what it costs to keep a job in SQLite, as a share of the job, and how long reading it takes.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints its figures and ends loudly")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fhir_export::destination::PartId;
use fhir_export::fhir::ResourceType;
use fhir_export::job::{Config, Exporter, JobStore, SqliteJobStore};
use fhir_export::ledger::{Count, Fate, LedgerRow, Mark, Position};
use fhir_export::request::{ExportRequest, Level};
use fhir_export::writer::{Content, Crc64, DurablePart, Entry, ObjectName};
use support::{DroppingStore, Export, Hospital, Machine, PIECE_BYTES, Quantiles, RepeatedSource, Selection, runtime};

/// Bytes that one job reads.
const JOB_BYTES: u64 = 1 << 30;

fn main() {
    let selection = Selection::from_arguments();
    Machine::describe();
    if selection.wants("whole job") {
        whole_jobs(selection.pick(15, 1));
    }
    if selection.wants("entries") {
        entries(selection.pick(10_000, 50));
    }
    Machine::load();
}

/// Jobs with and without a journal, in turns.
fn whole_jobs(rounds: usize) {
    for (name, piece) in [
        ("one type", Hospital::one_type("Observation", PIECE_BYTES)),
        ("7 types interleaved", Hospital::seven_types(PIECE_BYTES)),
    ] {
        let source = RepeatedSource::of(piece, JOB_BYTES);
        let (bytes, folder) = (source.size_bytes(), tempfile::tempdir().unwrap());
        let store = Arc::new(SqliteJobStore::open(folder.path()).unwrap());
        let builder = || Exporter::builder().source(Arc::new(source.clone())).config(Config::default());
        let (mut without, mut with) = (
            Export::of(builder(), bytes),
            Export::of(builder().job_store(Arc::<SqliteJobStore>::clone(&store)), bytes),
        );
        let mut walls = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            walls.0.push(without.run(DroppingStore::new()).1);
            walls.1.push(with.run(DroppingStore::new()).1);
        }
        let cpu = (without.meter.cpu_seconds_per_gigabyte(), with.meter.cpu_seconds_per_gigabyte());
        let wall = (Quantiles::of(walls.0).at(0.5).as_secs_f64(), Quantiles::of(walls.1).at(0.5).as_secs_f64());
        support::row(
            &format!("whole job, {name}"),
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
