//! The cohort: adding its patients, asking for them, and resolving a Group.

mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use fhir_export::fhir;
use fhir_export::resource::reference::BaseUrls;
use fhir_export::scope::{PatientSet, resolve_cohort};
use fhir_export::source::Source;
use support::{Hospital, Machine, RepeatedSource, Selection, runtime};

const KEY: [u8; 16] = *b"a key of sixteen";

/// How many ids are asked for in one go.
const ASKED: usize = 4096;

/// How many are looked up together: as many as the engine defers.
const TOGETHER: usize = 64;

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
    ten_million();
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

/// Half of what is asked for is in the set, in an order that no cache foresees; the ids themselves are at hand, as they
/// are when a line was just scanned.
struct Questions<M> {
    id: M,
    of: u64,
    place: u64,
}

impl<M: Fn(u64) -> String> Questions<M> {
    fn new(members: u64, id: M) -> Self {
        Self { id, of: members * 2, place: 0 }
    }

    fn at_hand(&mut self, count: usize) -> Vec<String> {
        let next = |_| {
            self.place = (self.place + 1_299_709) % self.of;
            (self.id)(self.place)
        };
        (0..count).map(next).collect()
    }
}

fn one_by_one(set: &PatientSet, asked: &[String]) -> usize {
    asked.iter().filter(|id| set.contains(black_box(id))).count()
}

fn together(set: &PatientSet, asked: &[String], held: &mut Vec<bool>) -> usize {
    let count = |asked: &[String]| {
        set.contain(asked.iter().map(String::as_str), held);
        held.iter().filter(|held| **held).count()
    };
    asked.chunks(TOGETHER).map(count).sum()
}

fn questions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cohort contains");
    group.throughput(Throughput::Elements(ASKED as u64));
    for count in [10_000, 1_000_000] {
        let set = set_of(&ids(count));
        let mut questions = Questions::new(count as u64, support::uuid);
        group.bench_function(BenchmarkId::new("one by one", count), |bencher| {
            bencher.iter_batched(
                || questions.at_hand(ASKED),
                |asked| one_by_one(&set, &asked),
                BatchSize::PerIteration,
            );
        });
        let mut held = Vec::new();
        group.bench_function(BenchmarkId::new("64 together", count), |bencher| {
            bencher.iter_batched(
                || questions.at_hand(ASKED),
                |asked| together(&set, &asked, &mut held),
                BatchSize::PerIteration,
            );
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
    let (now, bases) = (fhir::Instant::from_unix(1_900_000_000, 0), BaseUrls::default());
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

/// The largest cohort that is promised: without criterion, because it takes seconds to fill.
fn ten_million() {
    let selection = Selection::from_arguments();
    let name = "cohort of 10 million ids";
    if !selection.wants(name) {
        return;
    }
    let members = selection.pick(10_000_000_u64, 10_000);
    let mut set = PatientSet::with_key(&KEY);
    let begun = Instant::now();
    for number in 0..members {
        set.insert(&support::uuid(number));
    }
    let insert = begun.elapsed().as_nanos() as f64 / members as f64;
    let mut questions = Questions::new(members, support::uuid);
    let (mut one, mut batch, mut held) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..selection.pick(301, 3) {
        let asked = questions.at_hand(ASKED);
        one.push(nanoseconds_each(|| one_by_one(&set, &asked)));
        let asked = questions.at_hand(ASKED);
        batch.push(nanoseconds_each(|| together(&set, &asked, &mut held)));
    }
    support::row(
        name,
        &format_args!(
            "{:.1} bytes an id; insert {insert:.0} ns with making the id; contains: one by one {:.0} ns, 64 together {:.0} ns",
            set.memory_bytes() as f64 / members as f64,
            median(one),
            median(batch),
        ),
    );
}

fn nanoseconds_each(ask: impl FnOnce() -> usize) -> f64 {
    let begun = Instant::now();
    black_box(ask());
    begun.elapsed().as_nanos() as f64 / ASKED as f64
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
