//! The budget: what a permit costs when one, eight or 150 writers want one.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints its figures and ends loudly")]

mod support;

use std::hint::black_box;
use std::time::Instant;

use fhir_export::budget::{Pool, Turn};
use support::{Machine, Quantiles, Selection, cpu_time};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Bytes of one permit: the largest batch.
const PERMIT_BYTES: usize = 256 << 10;

/// How writers come to their permits.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// There is room for all of them at once: the usual case.
    Free,
    /// The same, each waiting in its turn.
    InTurn,
    /// There is room for half of them, so that most have to wait.
    HalfOfThem,
}

fn main() {
    let selection = Selection::from_arguments();
    Machine::describe();
    let runtime = support::runtime();
    let (rounds, permits) = selection.pick((9, 300_000), (1, 300));
    for way in [Way::Free, Way::InTurn, Way::HalfOfThem] {
        for writers in [1, 8, 150] {
            let name = format!("budget {way:?}, {writers} writers");
            if selection.wants(&name) {
                measure(&name, &runtime, way, writers, rounds, permits);
            }
        }
    }
    Machine::load();
}

fn measure(name: &str, runtime: &Runtime, way: Way, writers: usize, rounds: usize, permits: usize) {
    let cpu = cpu_time();
    let walls = (0..rounds).map(|_| {
        let begun = Instant::now();
        runtime.block_on(contend(way, writers, permits / writers));
        begun.elapsed()
    });
    let median = Quantiles::of(walls.collect()).at(0.5);
    let each = (permits / writers * writers) as f64;
    let cpu = cpu_time().saturating_sub(cpu).as_secs_f64() / (each * rounds as f64);
    support::row(
        name,
        &format_args!("{:7.1} ns a permit, {:7.1} ns of CPU", median.as_secs_f64() / each * 1e9, cpu * 1e9),
    );
}

/// Takes so many permits for each writer and gives them back; each holds one while others run.
async fn contend(way: Way, writers: usize, permits: usize) {
    let at_once = match way {
        Way::Free | Way::InTurn => writers,
        Way::HalfOfThem => writers.div_ceil(2),
    };
    let pool = Pool::new(at_once * PERMIT_BYTES);
    let mut tasks = JoinSet::new();
    for _ in 0..writers {
        let pool = pool.clone();
        tasks.spawn(async move {
            for _ in 0..permits {
                let permit = match way {
                    Way::Free => pool.try_acquire(PERMIT_BYTES).unwrap(),
                    Way::InTurn | Way::HalfOfThem => pool.acquire(Turn(0), PERMIT_BYTES, 0).await,
                };
                tokio::task::yield_now().await;
                drop(black_box(permit));
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(pool.free_bytes(), pool.size_bytes());
}
