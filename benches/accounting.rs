//! The ledger: what it costs to count a block, and what share of a whole job that is.

mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use fhir_export::job::Config;
use fhir_export::ledger::{Books, Count, Fate, Notes, Origin, Slot, TypeTable};
use fhir_export::resource::{Lines, References, ScanPlan, scan};
use support::{DroppingStore, Export, Hospital, Machine, PIECE_BYTES, RepeatedSource, giga};

/// Bytes of a block, and of the parts that a mark is taken for.
const BLOCK_BYTES: usize = 1 << 20;
const BLOCKS_A_PART: usize = 8;

/// Bytes that one job of the comparison reads, about.
const JOB_BYTES: u64 = 256 << 20;

fn main() {
    Machine::describe();
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for (name, piece) in [
        ("one type", Hospital::one_type("Observation", PIECE_BYTES)),
        ("7 types interleaved", Hospital::seven_types(PIECE_BYTES)),
        ("150 types interleaved", Hospital::many_types(PIECE_BYTES)),
    ] {
        let blocks = blocks(&piece);
        count_blocks(&mut criterion, name, &blocks);
        share(name, piece, &blocks);
    }
    criterion.final_summary();
    Machine::load();
}

/// What the books are told of one block: type, count and end of each run of lines.
type Runs = Vec<(Slot, Count, usize)>;

#[allow(clippy::unwrap_used, reason = "a bench that meets something unexpected should end loudly")]
fn blocks(piece: &Bytes) -> Vec<Runs> {
    let (types, plan, mut references) = (TypeTable::default(), ScanPlan::default(), References::new());
    let (mut blocks, mut begin) = (vec![Runs::new()], 0);
    for line in Lines::new(piece) {
        if line.span().end - begin > BLOCK_BYTES {
            blocks.push(Runs::new());
            begin = line.span().start;
        }
        let facts = scan(line.resource_of(piece), &plan, &mut references).unwrap();
        let slot = types.slot(&facts.resource_type).unwrap();
        let (count, end) = (Count::new(1, line.len_bytes() as u64 + 1), line.span().end - begin);
        let runs = blocks.last_mut().unwrap();
        match runs.last_mut() {
            Some((last, sum, to)) if *last == slot => {
                *sum += count;
                *to = end;
            }
            _ => runs.push((slot, count, end)),
        }
    }
    blocks
}

/// Counts all blocks as a job does, with a mark for each part.
fn keep_books(range: &Arc<str>, blocks: &[Runs]) -> Books {
    let mut books = Books::default();
    for (index, runs) in blocks.iter().enumerate() {
        books.begin_block(range, Origin::Offset(index as u64));
        for (slot, count, end) in black_box(runs) {
            books.record(*slot, Fate::Written, *count, *end);
            books.note(*slot, Notes::default());
        }
        if let Some((slot, ..)) = runs.last()
            && index % BLOCKS_A_PART == 0
        {
            black_box(books.mark(*slot));
        }
    }
    books
}

fn count_blocks(criterion: &mut Criterion, name: &str, blocks: &[Runs]) {
    let range = Arc::from("range");
    let mut group = criterion.benchmark_group("accounting");
    group.throughput(Throughput::Elements(blocks.len() as u64));
    group.bench_function(BenchmarkId::new("blocks", name), |bencher| bencher.iter(|| keep_books(&range, blocks)));
    group.finish();
}

/// Compares the CPU time of counting with that of the jobs it is part of.
fn share(name: &str, piece: Bytes, blocks: &[Runs]) {
    let piece_bytes = piece.len() as u64;
    let source = RepeatedSource::of(piece, JOB_BYTES);
    let bytes = source.size_bytes();
    let mut export = Export::new(source, bytes, Config::default());
    for _ in 0..8 {
        export.run(DroppingStore::new());
    }
    let (range, rounds) = (Arc::from("range"), 50);
    let begun = Instant::now();
    for _ in 0..rounds {
        black_box(keep_books(&range, blocks));
    }
    let ledger = begun.elapsed().as_secs_f64() / f64::from(rounds) / giga(piece_bytes);
    let job = export.meter.cpu_seconds_per_gigabyte();
    let runs: usize = blocks.iter().map(Vec::len).sum();
    support::row(
        name,
        &format_args!(
            "{:8.1} runs a block, ledger {:9.6} CPU s/GB of {job:6.3}: {:.3} %",
            runs as f64 / blocks.len() as f64,
            ledger,
            ledger / job * 100.0
        ),
    );
}
