//! Fan-out: the whole engine into a store that drops what it takes, by how many types follow each other.

mod support;

use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use fhir_export::job::Config;
use support::{DroppingStore, Export, Hospital, Machine, PIECE_BYTES, RepeatedSource, configured};

/// Bytes that one job reads, about.
const JOB_BYTES: u64 = 256 << 20;

fn main() {
    Machine::describe();
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(4))
        .configure_from_args();
    by_types(&mut criterion);
    by_threads(&mut criterion);
    criterion.final_summary();
    Machine::load();
}

fn by_types(criterion: &mut Criterion) {
    for (name, piece) in [
        ("one type", Hospital::one_type("Observation", PIECE_BYTES)),
        ("7 types interleaved", Hospital::seven_types(PIECE_BYTES)),
        ("150 types interleaved", Hospital::many_types(PIECE_BYTES)),
    ] {
        measure(criterion, name, piece, Config::default());
    }
}

fn by_threads(criterion: &mut Criterion) {
    for threads in [1, 2] {
        let piece = Hospital::seven_types(PIECE_BYTES);
        measure(
            criterion,
            &format!("7 types, {threads} scan threads"),
            piece,
            configured(|config| config.threads = threads),
        );
    }
}

fn measure(criterion: &mut Criterion, name: &str, piece: Bytes, config: Config) {
    let source = RepeatedSource::of(piece, JOB_BYTES);
    let bytes = source.size_bytes();
    let mut export = Export::new(source, bytes, config);
    let mut group = criterion.benchmark_group("fan_out");
    group.throughput(Throughput::Bytes(bytes)).sampling_mode(SamplingMode::Flat);
    group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
        bencher.iter_custom(|runs| (0..runs).map(|_| export.run(DroppingStore::new()).1).sum());
    });
    group.finish();
    export.meter.report(name);
}
