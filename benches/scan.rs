//! Line split, scan and instants: what one core does to every byte.

mod support;

use std::hint::black_box;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, measurement::WallTime};
use fhir_export::fhir::Instant;
use fhir_export::resource::{Compartment, Lines, References, ScanPlan, scan};
use support::{Hospital, Machine, PIECE_BYTES, real_data};

fn main() {
    Machine::describe();
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let data = data();
    lines(&mut criterion, &data);
    scans(&mut criterion, &data);
    one_type(&mut criterion);
    instants(&mut criterion);
    criterion.final_summary();
    Machine::load();
}

/// Data to go through, by name.
fn data() -> Vec<(&'static str, Bytes)> {
    let mut data = vec![("synthetic", Hospital::seven_types(PIECE_BYTES))];
    data.extend(real_data().map(|folder| ("real", real(&folder))));
    data
}

/// The first 4 MiB of each file of real data.
#[allow(clippy::unwrap_used, reason = "a bench that can't read its data should end loudly")]
fn real(folder: &Path) -> Bytes {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(".ndjson.gz"));
    files.sort();
    let mut all = Vec::new();
    for path in files {
        let file = std::fs::File::open(path).unwrap();
        let begin = all.len();
        flate2::read::MultiGzDecoder::new(file).take(4 << 20).read_to_end(&mut all).unwrap();
        let last_line_end = memchr::memrchr(b'\n', &all).map_or(0, |end| end + 1);
        all.truncate(last_line_end.max(begin));
    }
    all.into()
}

fn lines(criterion: &mut Criterion, data: &[(&str, Bytes)]) {
    let mut group = criterion.benchmark_group("lines");
    for (name, bytes) in data {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(*name, |bencher| {
            bencher.iter(|| Lines::new(bytes).map(|line| line.len_bytes()).sum::<usize>());
        });
    }
    group.finish();
}

fn scans(criterion: &mut Criterion, data: &[(&str, Bytes)]) {
    let mut group = criterion.benchmark_group("scan");
    for (name, bytes) in data {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        scan_all(&mut group, BenchmarkId::new("system", name), bytes, &ScanPlan::default());
        let patient = ScanPlan::with_references(Arc::new(Compartment::r4_patient()));
        scan_all(&mut group, BenchmarkId::new("patient", name), bytes, &patient);
        group.bench_function(BenchmarkId::new("yardstick serde_json IgnoredAny", name), |bencher| {
            bencher.iter(|| each_line(bytes, |line| serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok()));
        });
        group.bench_function(BenchmarkId::new("yardstick UTF-8 check", name), |bencher| {
            bencher.iter(|| each_line(bytes, |line| std::str::from_utf8(line).is_ok()));
        });
    }
    group.finish();
}

/// One type at a time: what costs, short lines or long strings.
fn one_type(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scan one type");
    group.sample_size(10).measurement_time(Duration::from_secs(1));
    let plan = ScanPlan::with_references(Arc::new(Compartment::r4_patient()));
    for name in ["Observation", "ExplanationOfBenefit", "DocumentReference"] {
        let bytes = Hospital::one_type(name, PIECE_BYTES);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        scan_all(&mut group, BenchmarkId::new("patient", name), &bytes, &plan);
    }
    group.finish();
}

fn scan_all(group: &mut BenchmarkGroup<'_, WallTime>, id: BenchmarkId, bytes: &Bytes, plan: &ScanPlan) {
    let mut references = References::new();
    group.bench_function(id, |bencher| {
        bencher.iter(|| each_line(bytes, |line| scan(black_box(line), plan, &mut references).is_ok()));
    });
}

/// How many lines pass; all must.
fn each_line(bytes: &[u8], mut passes: impl FnMut(&[u8]) -> bool) -> usize {
    let mut count = 0;
    for line in Lines::new(bytes) {
        assert!(passes(line.resource_of(bytes)), "the data holds resources only");
        count += 1;
    }
    count
}

fn instants(criterion: &mut Criterion) {
    let texts = [
        "2023-04-20T07:57:33.986Z",
        "2021-02-12T08:59:18Z",
        "2024-05-15T05:56:48.304123456+05:30",
        "2019-12-31T23:59:60-05:00",
    ];
    let mut group = criterion.benchmark_group("instant");
    group.throughput(Throughput::Elements(texts.len() as u64)).measurement_time(Duration::from_secs(1));
    group.bench_function("parse", |bencher| {
        bencher.iter(|| texts.iter().filter(|text| Instant::parse(black_box(text)).is_ok()).count());
    });
    let since = Instant::from_unix(1_640_995_200, 0);
    group.bench_function("parse and compare", |bencher| {
        bencher
            .iter(|| texts.iter().filter(|text| Instant::parse(black_box(text)).is_ok_and(|at| at >= since)).count());
    });
    group.finish();
}
