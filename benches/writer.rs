//! The writer: sizes of parts and objects, and compression, driven through whole jobs of one type.

mod support;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use fhir_export::job::Config;
use fhir_export::writer::Compression;
use support::{DroppingStore, Export, Hospital, Machine, PIECE_BYTES, RepeatedSource, configured};

/// Bytes that one job reads, about; a quarter of it when it is compressed.
const JOB_BYTES: u64 = 256 << 20;

fn main() {
    Machine::describe();
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    for (name, config) in [
        ("parts of 8 MiB", Config::default()),
        ("parts of 5 MiB", configured(|config| config.fixed_part_bytes = Some(5 << 20))),
        ("parts of 32 MiB", configured(|config| config.fixed_part_bytes = Some(32 << 20))),
        ("objects of 64 KiB", configured(|config| config.split.bytes = Some(64 << 10))),
    ] {
        measure(&mut criterion, name, JOB_BYTES, config);
    }
    for level in [1, 6] {
        let config = configured(|config| config.compression = Compression::Gzip { level });
        measure(&mut criterion, &format!("gzip level {level}"), JOB_BYTES / 4, config);
    }
    criterion.final_summary();
    Machine::load();
}

fn measure(criterion: &mut Criterion, name: &str, job_bytes: u64, config: Config) {
    let source = RepeatedSource::of(Hospital::one_type("Observation", PIECE_BYTES), job_bytes);
    let bytes = source.size_bytes();
    let mut export = Export::new(source, bytes, config);
    let mut group = criterion.benchmark_group("writer");
    group.throughput(Throughput::Bytes(bytes)).sampling_mode(SamplingMode::Flat);
    group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
        bencher.iter_custom(|runs| (0..runs).map(|_| export.run(DroppingStore::new()).1).sum());
    });
    group.finish();
    export.meter.report(name);
}
