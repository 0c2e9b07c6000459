//! The whole way: from a folder of NDJSON to a store, by level, filter, compression and destination.

#![allow(clippy::unwrap_used, reason = "a bench that meets something unexpected should end loudly")]

mod support;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use fhir_export::destination::LocalDestination;
use fhir_export::job::Config;
use fhir_export::request::{ExportRequest, Level, Period, ResourceId, TimeBound};
use fhir_export::source::NdjsonSource;
use fhir_export::writer::Compression;
use flate2::write::GzEncoder;
use support::{DroppingStore, Export, Hospital, Machine, Meter, configured, real_data};
use tempfile::TempDir;

/// The files of the folder and their sizes, in MiB.
const FILES: [(&str, usize); 7] = [
    ("Observation", 56),
    ("Condition", 13),
    ("Encounter", 18),
    ("Claim", 32),
    ("ExplanationOfBenefit", 100),
    ("Patient", 5),
    ("DocumentReference", 32),
];

/// Where the objects go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Nowhere,
    Folder,
}

fn main() {
    Machine::describe();
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let plain = plain_folder();
    let compressed = compressed_folder(plain.path());
    yardstick(&mut criterion, plain.path());
    let whole = |level: Level| ExportRequest::new(level);
    let since = Period::new(Some(TimeBound::parse("2022-01-01T00:00:00Z").unwrap()), None).unwrap();
    let group = || Level::Group { id: ResourceId::new("g").unwrap() };
    let gzip = configured(|config| config.compression = Compression::Gzip { level: 1 });
    for (name, folder, request, config, to) in [
        ("system", plain.path(), whole(Level::System), Config::default(), To::Nowhere),
        (
            "system, _since keeps half",
            plain.path(),
            whole(Level::System).with_period(since),
            Config::default(),
            To::Nowhere,
        ),
        ("patient", plain.path(), whole(Level::Patient), Config::default(), To::Nowhere),
        ("group of a tenth", plain.path(), whole(group()), Config::default(), To::Nowhere),
        ("system, to a folder", plain.path(), whole(Level::System), Config::default(), To::Folder),
        ("system, gzip level 1", plain.path(), whole(Level::System), gzip, To::Nowhere),
        ("system, from gzip", compressed.path(), whole(Level::System), Config::default(), To::Nowhere),
    ] {
        export(&mut criterion, name, folder, request, config, to);
    }
    if let Some(folder) = real_data() {
        for (name, level) in
            [("real data from gzip, system", Level::System), ("real data from gzip, patient", Level::Patient)]
        {
            export(&mut criterion, name, &folder, whole(level), Config::default(), To::Nowhere);
        }
    }
    criterion.final_summary();
    Machine::load();
}

fn plain_folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, mebibytes) in FILES {
        let lines = Hospital::one_type(name, mebibytes << 20);
        std::fs::write(folder.path().join(format!("{name}.ndjson")), &lines).unwrap();
    }
    std::fs::write(folder.path().join("Group.ndjson"), Hospital::group("g", 1000)).unwrap();
    folder
}

fn compressed_folder(plain: &Path) -> TempDir {
    let folder = TempDir::new().unwrap();
    for path in files(plain) {
        let mut name = path.file_name().unwrap().to_owned();
        name.push(".gz");
        let file = std::fs::File::create(folder.path().join(name)).unwrap();
        let mut encoder = GzEncoder::new(file, flate2::Compression::new(3));
        encoder.write_all(&std::fs::read(path).unwrap()).unwrap();
        encoder.finish().unwrap();
    }
    folder
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Bytes of NDJSON in a folder, uncompressed.
fn uncompressed_bytes(folder: &Path) -> u64 {
    let size = |path: &PathBuf| {
        let file = std::fs::File::open(path).unwrap();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("ndjson") => file.metadata().unwrap().len(),
            Some("gz") => std::io::copy(&mut flate2::read::MultiGzDecoder::new(file), &mut std::io::sink()).unwrap(),
            _ => 0,
        }
    };
    files(folder).iter().map(size).sum()
}

fn export(criterion: &mut Criterion, name: &str, folder: &Path, request: ExportRequest, config: Config, to: To) {
    let bytes = uncompressed_bytes(folder);
    let mut export = Export::new(NdjsonSource::folder(folder), bytes, config).asking(request);
    let mut group = criterion.benchmark_group("whole_way");
    group.throughput(Throughput::Bytes(bytes)).sampling_mode(SamplingMode::Flat);
    group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
        bencher.iter_custom(|runs| (0..runs).map(|_| run(&mut export, to)).sum());
    });
    group.finish();
    export.meter.report(name);
}

fn run(export: &mut Export, to: To) -> Duration {
    if to == To::Nowhere {
        return export.run(DroppingStore::new()).1;
    }
    // Removed again outside of the measured time.
    let folder = TempDir::new().unwrap();
    export.run(LocalDestination::new(folder.path()).unwrap()).1
}

/// The floor: one thread reads the same files and looks for line ends.
fn yardstick(criterion: &mut Criterion, folder: &Path) {
    let bytes = uncompressed_bytes(folder);
    let mut meter = Meter::default();
    let mut group = criterion.benchmark_group("whole_way");
    group.throughput(Throughput::Bytes(bytes)).sampling_mode(SamplingMode::Flat);
    let name = "yardstick: read, find line ends, copy";
    group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
        bencher.iter_custom(|runs| (0..runs).map(|_| meter.run(bytes, || read_split_copy(folder)).1).sum());
    });
    group.finish();
    meter.report(name);
}

fn read_split_copy(folder: &Path) -> usize {
    let (mut block, mut batch) = (vec![0; 256 << 10], Vec::with_capacity(256 << 10));
    let mut lines = 0;
    for path in files(folder) {
        let mut file = std::fs::File::open(path).unwrap();
        loop {
            let read = file.read(&mut block).unwrap();
            if read == 0 {
                break;
            }
            let filled = block.get(..read).unwrap_or_default();
            lines += memchr::memchr_iter(b'\n', filled).count();
            batch.clear();
            batch.extend_from_slice(filled);
            std::hint::black_box(&batch);
        }
    }
    lines
}
