//! One pool of the budget: a byte semaphore whose waiters have turns.
//!
//! Why not tokio's semaphore: its permits are counted in `u32`, it serves strictly by arrival, and blocks must be
//! granted in range order, so that the block whose turn is next never waits behind one of a later range.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Whose turn a waiter has: lower is served first, equals by arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn(pub u64);

/// A byte semaphore.
#[derive(Debug, Clone)]
pub struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    size_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free_bytes: usize,
    arrivals: u64,
    waits: u64,
    waiters: BTreeMap<(Turn, u64), Waiter>,
}

#[derive(Debug)]
struct Waiter {
    bytes: usize,
    leave_bytes: usize,
    grant: oneshot::Sender<Permit>,
}

impl Pool {
    /// Creates a pool of so many bytes.
    #[must_use]
    pub fn new(size_bytes: usize) -> Self {
        let state = State { free_bytes: size_bytes, arrivals: 0, waits: 0, waiters: BTreeMap::new() };
        Self(Arc::new(Shared { size_bytes, state: Mutex::new(state) }))
    }

    /// The size of the pool, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.0.size_bytes
    }

    /// Bytes that nobody holds now.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.0.lock().free_bytes
    }

    /// How many wait now, and how often somebody had to.
    #[must_use]
    pub fn waits(&self) -> (usize, u64) {
        let state = self.0.lock();
        (state.waiters.len(), state.waits)
    }

    /// Counts a wait of somebody who makes room instead of queueing.
    pub(crate) fn count_wait(&self) {
        self.0.lock().waits += 1;
    }

    /// Takes bytes if they are free and nobody waits; more than the pool holds counts as the whole pool.
    #[must_use]
    pub fn try_acquire(&self, bytes: usize) -> Option<Permit> {
        let bytes = bytes.min(self.0.size_bytes);
        let mut state = self.0.lock();
        if !state.waiters.is_empty() || state.free_bytes < bytes {
            return None;
        }
        state.free_bytes -= bytes;
        Some(self.permit(bytes))
    }

    /// Waits for bytes in turn; more than the pool holds counts as the whole pool, which would else never come.
    ///
    /// The grant leaves at least `leave_bytes` free in the pool.
    ///
    /// # Cancellation
    /// Dropping the future gives the place in the queue, or the grant, back.
    pub fn acquire(&self, turn: Turn, bytes: usize, leave_bytes: usize) -> impl Future<Output = Permit> + Send + use<> {
        let bytes = bytes.min(self.0.size_bytes);
        let leave_bytes = leave_bytes.min(self.0.size_bytes - bytes);
        let (grant, granted) = oneshot::channel();
        let place = {
            let mut state = self.0.lock();
            let place = (turn, state.arrivals);
            state.arrivals += 1;
            if !state.waiters.is_empty() || state.free_bytes < bytes + leave_bytes {
                state.waits += 1;
            }
            state.waiters.insert(place, Waiter { bytes, leave_bytes, grant });
            place
        };
        self.serve();
        let queued = Queued { pool: self.clone(), place };
        async move {
            let permit = granted.await;
            drop(queued);
            permit.unwrap_or_else(|_| unreachable!("a waiter leaves the queue only with its grant"))
        }
    }

    /// Grants what can be granted, in turn.
    fn serve(&self) {
        loop {
            let (waiter, permit) = {
                let mut state = self.0.lock();
                let Some(first) = state.waiters.first_entry() else { return };
                let (bytes, leave_bytes) = (first.get().bytes, first.get().leave_bytes);
                if state.free_bytes < bytes + leave_bytes {
                    return;
                }
                let Some((_, waiter)) = state.waiters.pop_first() else { return };
                state.free_bytes -= bytes;
                (waiter, self.permit(bytes))
            };
            // A waiter that has gone drops the permit outside the lock, which serves the next one.
            drop(waiter.grant.send(permit));
        }
    }

    fn permit(&self, bytes: usize) -> Permit {
        Permit { pool: self.clone(), bytes }
    }

    fn give_back(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.0.lock().free_bytes += bytes;
        self.serve();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue, given up when dropped.
struct Queued {
    pool: Pool,
    place: (Turn, u64),
}

impl Drop for Queued {
    fn drop(&mut self) {
        let gone = self.pool.0.lock().waiters.remove(&self.place);
        if gone.is_some() {
            self.pool.serve();
        }
    }
}

/// The right to hold so many bytes; returned to the pool when dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped pays for nothing"]
pub struct Permit {
    pool: Pool,
    bytes: usize,
}

impl Permit {
    /// How many bytes it pays for.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Splits off a permit for `bytes`, at most all of this one's.
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.pool.permit(bytes)
    }

    /// Takes another permit of the same pool in.
    pub fn merge(&mut self, mut other: Self) {
        debug_assert!(Arc::ptr_eq(&self.pool.0, &other.pool.0), "permits of one pool");
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Gives back what goes beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.bytes -= surplus;
        self.pool.give_back(surplus);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pool.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::sync::explore;

    #[test]
    fn a_dropped_permit_returns_its_bytes() {
        explore(async || {
            let pool = Pool::new(100);
            let mut permit = pool.try_acquire(80).unwrap();
            assert!(pool.try_acquire(30).is_none());
            drop(permit.split(50));
            assert_eq!(pool.free_bytes(), 70);
            permit.shrink_to(10);
            assert_eq!(pool.free_bytes(), 90);
            drop(permit);
            assert_eq!(pool.free_bytes(), 100);
        });
    }

    #[test]
    fn waiters_are_served_by_turn_then_by_arrival() {
        explore(async || {
            let pool = Pool::new(10);
            let all = pool.try_acquire(10).unwrap();
            let late = pool.acquire(Turn(2), 10, 0);
            let mut early = Box::pin(pool.acquire(Turn(1), 10, 0));
            assert!(early.as_mut().now_or_never().is_none());
            drop(all);
            let early = early.await;
            assert_eq!(pool.free_bytes(), 0);
            drop(early);
            assert_eq!(late.await.bytes(), 10);
        });
    }

    #[test]
    fn more_than_the_pool_holds_is_the_whole_pool() {
        explore(async || {
            let pool = Pool::new(10);
            assert_eq!(pool.acquire(Turn(0), 1000, 5).await.bytes(), 10);
            assert_eq!(pool.free_bytes(), 10);
        });
    }

    #[test]
    fn a_waiter_that_leaves_lets_the_next_one_in() {
        explore(async || {
            let pool = Pool::new(10);
            let held = pool.try_acquire(5).unwrap();
            let big = pool.acquire(Turn(0), 10, 0);
            let small = pool.acquire(Turn(1), 5, 0);
            drop(big);
            assert_eq!(small.await.bytes(), 5);
            drop(held);
            assert_eq!(pool.free_bytes(), 10);
        });
    }

    #[test]
    fn a_grant_leaves_the_reserve_to_earlier_turns() {
        explore(async || {
            let pool = Pool::new(10);
            let first = pool.acquire(Turn(5), 6, 4).await;
            let mut second = Box::pin(pool.acquire(Turn(5), 3, 4));
            assert!(second.as_mut().now_or_never().is_none());
            let head = pool.acquire(Turn(0), 4, 0).await;
            drop((first, head));
            assert_eq!(second.await.bytes(), 3);
        });
    }
}
