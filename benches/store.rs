//! An SQLite store: loading it, and exporting it beside the bare loop over its bodies.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a bench that meets something unexpected should end loudly, and rates need no last digit"
)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use fhir_export::destination::LocalDestination;
use fhir_export::import::sqlite::SqliteTarget;
use fhir_export::import::{Loading, load};
use fhir_export::job::Config;
use fhir_export::request::{ExportRequest, Level, ResourceId};
use fhir_export::source::{NdjsonSource, SqliteSource};
use rusqlite::Connection;
use support::{DroppingStore, Export, Hospital, Machine, cpu_time, giga, row, runtime};
use tempfile::TempDir;

/// The types and their sizes, in MiB: shares much as in Synthea's output.
const FILES: [(&str, usize); 7] = [
    ("Observation", 84),
    ("Condition", 20),
    ("Encounter", 27),
    ("Claim", 48),
    ("ExplanationOfBenefit", 150),
    ("Patient", 7),
    ("DocumentReference", 48),
];

/// Members of the Group: one patient in a hundred.
const MEMBERS: u64 = 100;

/// Runs of which the median is told.
const RUNS: usize = 5;

fn main() {
    Machine::describe();
    let folder = TempDir::new().unwrap();
    let (files, path) = (folder.path().join("files"), folder.path().join("store.db"));
    write_files(&files);
    let bytes = import(&files, &path);
    let in_key_order = "SELECT b.bytes FROM resource r CROSS JOIN body b ON b.number = r.body ORDER BY r.type, r.id";
    let bare = median(|| select(&path, in_key_order));
    tell("bare SELECT of the bodies, in key order", bytes, bare, bare);
    let unordered = median(|| select(&path, "SELECT bytes FROM body"));
    tell("bare SELECT of the bodies, as they lie", bytes, unordered, bare);
    let nowhere = median(|| export(&path, bytes, ExportRequest::new(Level::System), None));
    tell("export, system, nowhere", bytes, nowhere, bare);
    let local = median(|| export(&path, bytes, ExportRequest::new(Level::System), Some(folder.path())));
    tell("export, system, to a folder", bytes, local, bare);
    let group = || ExportRequest::new(Level::Group { id: ResourceId::new("g").unwrap() });
    let one_in_hundred = median(|| export(&path, bytes, group(), None));
    row(
        "export, group of 1 % of the patients, nowhere",
        &format_args!(
            "{:8.1} ms, {:.1} times faster than the system",
            one_in_hundred.as_secs_f64() * 1e3,
            nowhere.as_secs_f64() / one_in_hundred.as_secs_f64()
        ),
    );
    Machine::load();
}

fn write_files(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for (name, mebibytes) in FILES {
        std::fs::write(folder.join(format!("{name}.ndjson")), Hospital::one_type(name, mebibytes << 20)).unwrap();
    }
    std::fs::write(folder.join("Group.ndjson"), Hospital::group("g", MEMBERS)).unwrap();
}

/// Loads the folder twice, once more to see that nothing is new, and returns the bytes of the store's bodies.
fn import(files: &Path, path: &Path) -> u64 {
    for name in ["import into an empty store", "import of the same again"] {
        let (cpu, began) = (cpu_time(), Instant::now());
        let mut target = SqliteTarget::open(path).unwrap();
        let source = NdjsonSource::folder(files);
        let report = runtime().block_on(load(&source, &mut target, &Loading::default(), &mut |_| {})).unwrap();
        let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_time().saturating_sub(cpu).as_secs_f64());
        let read = report.totals.read as f64;
        row(
            name,
            &format_args!(
                "{:9.0} resources/s, {:9.0} a CPU second, {:5.2} GB/s  ({} resources, {:.2} GB)",
                read / wall,
                read / cpu,
                giga(report.totals.bytes) / wall,
                report.totals.read,
                giga(report.totals.bytes),
            ),
        );
    }
    let connection = Connection::open(path).unwrap();
    connection.query_row("SELECT sum(length(bytes) + 1) FROM body", [], |row| row.get(0)).unwrap()
}

fn select(path: &Path, sql: &str) -> Duration {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "cache_size", -(64 << 10)).unwrap();
    let began = Instant::now();
    let mut statement = connection.prepare(sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut bytes = 0;
    while let Some(row) = rows.next().unwrap() {
        bytes += row.get_ref(0).unwrap().as_blob().unwrap().len();
    }
    assert!(bytes > 0);
    began.elapsed()
}

fn export(path: &Path, bytes: u64, request: ExportRequest, to: Option<&Path>) -> Duration {
    let mut export = Export::new(SqliteSource::new(path), bytes, Config::default()).asking(request);
    match to {
        None => export.run(DroppingStore::new()).1,
        Some(folder) => {
            let target = TempDir::new_in(folder).unwrap();
            export.run(LocalDestination::new(target.path()).unwrap()).1
        }
    }
}

fn median(mut run: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..RUNS).map(|_| run()).collect();
    times.sort_unstable();
    times.get(RUNS / 2).copied().unwrap_or_default()
}

fn tell(name: &str, bytes: u64, time: Duration, yardstick: Duration) {
    let (speed, share) = (giga(bytes) / time.as_secs_f64(), yardstick.as_secs_f64() / time.as_secs_f64());
    row(name, &format_args!("{speed:5.2} GB/s, {share:4.2} of the bare loop in key order  (median of {RUNS})"));
}
