//! The cohort: adding its patients, asking for them, and resolving a Group.

mod support;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use fhir_export::fhir::Instant;
use fhir_export::resource::reference::BaseUrls;
use fhir_export::scope::{PatientSet, resolve_cohort};
use fhir_export::source::Source;
use support::{Hospital, Machine, RepeatedSource, runtime};

const KEY: [u8; 16] = *b"a key of sixteen";

/// How many ids are asked for in one go.
const ASKED: usize = 4096;

fn main() {
    Machine::describe();
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    inserts(&mut criterion);
    questions(&mut criterion);
    groups(&mut criterion);
    criterion.final_summary();
    Machine::load();
}

fn ids(count: usize) -> Vec<String> {
    (0..count as u64).map(support::uuid).collect()
}

fn set_of(ids: &[String]) -> PatientSet {
    let mut set = PatientSet::with_key(&KEY);
    for id in ids {
        set.insert(id);
    }
    set
}

fn inserts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cohort insert");
    for count in [10_000, 1_000_000] {
        let ids = ids(count);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter_batched(|| (), |()| set_of(&ids), BatchSize::PerIteration);
        });
    }
    group.finish();
}

/// Half of what is asked for is in the set, in an order that no cache foresees.
fn questions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cohort contains");
    group.throughput(Throughput::Elements(ASKED as u64));
    for count in [10_000, 1_000_000] {
        let ids = ids(count * 2);
        let set = set_of(ids.get(..count).unwrap_or_default());
        let mut place = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                let mut found = 0;
                for _ in 0..ASKED {
                    place = (place + 1_299_709) % ids.len();
                    let id = ids.get(place).map_or("", String::as_str);
                    found += usize::from(set.contains(black_box(id)));
                }
                found
            });
        });
    }
    group.finish();
}

#[allow(clippy::unwrap_used, reason = "a bench that meets something unexpected should end loudly")]
fn groups(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cohort resolve");
    group.throughput(Throughput::Elements(10_000));
    let runtime = runtime();
    let line = Hospital::group("g", 10_000);
    let source = RepeatedSource::of(line.clone(), line.len() as u64);
    let (now, bases) = (Instant::from_unix(1_900_000_000, 0), BaseUrls::default());
    group.bench_function("Group of 10000", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let snapshot = source.open().await.unwrap();
                resolve_cohort(snapshot.as_ref(), "g", &now, &bases).await.unwrap().patients.len()
            })
        });
    });
    group.finish();
}
