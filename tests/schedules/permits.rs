//! Permits: nobody waits for ever, nobody holds what isn't there, nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use shuttle::future::block_on;
use shuttle::thread;

use crate::budget::{Budget, Buffers, Permit, Pool, Turn};
use crate::sync::Mutex;

const SCHEDULES: usize = 3000;

/// What is held of a pool, as those count who hold it.
#[derive(Clone, Default)]
struct Held(Arc<AtomicUsize>);

impl Held {
    fn add(&self, permit: &Permit, most: usize) {
        let held = self.0.fetch_add(permit.bytes(), Ordering::SeqCst) + permit.bytes();
        assert!(held <= most, "{held} of {most} bytes are held");
    }

    fn remove(&self, permit: &Permit) {
        self.0.fetch_sub(permit.bytes(), Ordering::SeqCst);
    }
}

#[test]
fn whoever_waits_is_served_and_no_more_is_held_than_there_is() {
    let test = || {
        let (pool, held) = (Pool::new(10), Held::default());
        let workers: Vec<_> = [(0, 10, 0), (1, 4, 2), (1, 7, 0), (2, 3, 5)]
            .into_iter()
            .map(|(turn, bytes, leave)| {
                let (pool, held) = (pool.clone(), held.clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        let mut permit = block_on(pool.acquire(Turn(turn), bytes, leave));
                        held.add(&permit, 10);
                        let rest = permit.split(bytes / 2);
                        held.remove(&permit);
                        drop(permit);
                        held.remove(&rest);
                        drop(rest);
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!((pool.free_bytes(), pool.waits().0), (10, 0));
    };
    shuttle::check_random(test, SCHEDULES);
    shuttle::check_pct(test, SCHEDULES, 3);
}

#[test]
fn a_waiter_that_goes_takes_nothing_with_it() {
    let test = || {
        let pool = Pool::new(10);
        let mut all = pool.try_acquire(10).unwrap();
        // One that can never be served while some bytes are kept, and one that can.
        let kept = all.split(3);
        let leaving = [10, 5].map(|bytes| {
            let pool = pool.clone();
            thread::spawn(move || {
                let mut wait = Box::pin(pool.acquire(Turn(0), bytes, 0));
                let granted = wait.as_mut().now_or_never();
                // With or without its grant.
                drop((wait, granted));
            })
        });
        let staying: Vec<_> = (1..3)
            .map(|turn| {
                let pool = pool.clone();
                thread::spawn(move || block_on(pool.acquire(Turn(turn), 6, 0)).bytes())
            })
            .collect();
        drop(all);
        leaving.into_iter().for_each(|waiter| waiter.join().unwrap());
        for waiter in staying {
            assert_eq!(waiter.join().unwrap(), 6);
        }
        drop(kept);
        assert_eq!((pool.free_bytes(), pool.waits().0), (10, 0));
    };
    shuttle::check_random(test, SCHEDULES);
    shuttle::check_pct(test, SCHEDULES, 3);
}

#[test]
fn the_earlier_turn_is_served_first_whoever_comes_first() {
    let test = || {
        let pool = Pool::new(10);
        let all = pool.try_acquire(10).unwrap();
        let served = Arc::new(Mutex::new(Vec::new()));
        let waiters: Vec<_> = [2, 0, 1]
            .into_iter()
            .map(|turn| {
                let (pool, served) = (pool.clone(), Arc::clone(&served));
                thread::spawn(move || {
                    let permit = block_on(pool.acquire(Turn(turn), 8, 0));
                    served.lock().unwrap().push(turn);
                    drop(permit);
                })
            })
            .collect();
        while pool.waits().0 < 3 {
            thread::yield_now();
        }
        drop(all);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(*served.lock().unwrap(), [0, 1, 2]);
        assert_eq!(pool.waits(), (0, 3));
    };
    shuttle::check_random(test, SCHEDULES);
}

/// Blocks go from pool to pool as in the engine: each waits for the next pool while it holds the one before.
#[test]
fn pools_that_wait_for_each_other_in_one_direction_never_stand() {
    let test = || {
        let pools = [Pool::new(8), Pool::new(12), Pool::new(12)];
        let ranges: Vec<_> = (0..3)
            .map(|turn| {
                let [read, fill, flight] = pools.clone();
                thread::spawn(move || {
                    for bytes in [8, 3] {
                        let reading = block_on(read.acquire(Turn(turn), bytes, 0));
                        let filling = block_on(fill.acquire(Turn(0), bytes, 0));
                        drop(reading);
                        let flying = block_on(flight.acquire(Turn(0), bytes, 0));
                        drop(filling);
                        drop(flying);
                    }
                })
            })
            .collect();
        ranges.into_iter().for_each(|range| range.join().unwrap());
        assert_eq!(pools.map(|pool| pool.free_bytes()), [8, 12, 12]);
    };
    shuttle::check_random(test, SCHEDULES);
    shuttle::check_pct(test, SCHEDULES, 3);
}

#[test]
fn memory_is_lent_to_one_at_a_time_and_what_lies_idle_stays_within_the_budget() {
    let test = || {
        let pool = Pool::new(64);
        let buffers = Buffers::new([pool.clone(), Pool::new(0), Pool::new(0)]);
        let workers: Vec<_> = (1..4u8)
            .map(|own| {
                let (pool, buffers) = (pool.clone(), buffers.clone());
                thread::spawn(move || {
                    for size in [8, 16] {
                        let permit = block_on(pool.acquire(Turn(0), size, 0));
                        let mut memory = buffers.take_filled(size);
                        memory.fill(own);
                        let shared = buffers.share(memory.into());
                        thread::yield_now();
                        assert!(shared.iter().all(|byte| *byte == own) && shared.len() == size);
                        drop((shared, permit));
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!(pool.free_bytes(), 64);
        assert!(buffers.idle_bytes() <= 16, "a quarter of the budget");
        let _rest = pool.try_acquire(60).unwrap();
        buffers.fit();
        assert!(buffers.idle_bytes() <= 4);
    };
    shuttle::check_random(test, SCHEDULES);
}
