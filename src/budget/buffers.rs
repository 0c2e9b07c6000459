//! Memory of blocks and batches that is used again, because fresh pages cost faults.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;

use super::pool::Pool;
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Share of the budget that may lie idle at most.
const IDLE_SHARE: usize = 4;

/// Idle memory of one budget.
///
/// What lies idle and what permits pay for is never more than the budget together. A buffer comes back while its permit
/// is still held, so it is kept if what lies idle already fits what is free; whoever allocates for a permit lets go of what
/// doesn't fit any more. It is never more than a share of the budget either, for memory of one size is of no use to those
/// who want another.
#[derive(Clone, Debug)]
pub(crate) struct Buffers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pools: [Pool; 3],
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    /// The one that came last is taken first: it may be in the cache still.
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Buffers {
    /// Memory that these pools pay for.
    pub(crate) fn new(pools: [Pool; 3]) -> Self {
        Self(Arc::new(Shared { pools, idle: Mutex::default() }))
    }

    /// Memory of exactly `size_bytes`, all of it initialised; a permit pays for it already.
    pub(crate) fn take_filled(&self, size_bytes: usize) -> Vec<u8> {
        let Some(mut memory) = self.take_idle(size_bytes) else { return vec![0; size_bytes] };
        // Nothing to do for what was a block before.
        memory.resize(size_bytes, 0);
        memory
    }

    /// Memory for exactly `size_bytes`, empty; a permit pays for it already.
    pub(crate) fn take_empty(&self, size_bytes: usize) -> Vec<u8> {
        let Some(mut memory) = self.take_idle(size_bytes) else { return Vec::with_capacity(size_bytes) };
        memory.clear();
        memory
    }

    fn take_idle(&self, size_bytes: usize) -> Option<Vec<u8>> {
        let mut idle = self.lock();
        if let Some(index) = idle.buffers.iter().rposition(|buffer| buffer.capacity() == size_bytes) {
            idle.bytes -= size_bytes;
            return Some(idle.buffers.remove(index));
        }
        drop(idle);
        self.fit();
        None
    }

    /// Lets go of idle memory for which permits have left no room; to be called when memory was charged that isn't taken
    /// from here.
    pub(crate) fn fit(&self) {
        let mut surplus = Vec::new();
        let mut idle = self.lock();
        let free_bytes = self.free_bytes();
        while idle.bytes > free_bytes {
            let oldest = idle.buffers.remove(0);
            idle.bytes -= oldest.capacity();
            surplus.push(oldest);
        }
        drop(idle);
    }

    /// Gives memory back that its permit pays for still.
    fn give_back(&self, memory: Vec<u8>) {
        let mut idle = self.lock();
        if idle.bytes <= self.free_bytes() && idle.bytes + memory.capacity() <= self.most_bytes() {
            idle.bytes += memory.capacity();
            idle.buffers.push(memory);
        }
    }

    /// Shares memory that comes back when the last slice of it is gone.
    pub(crate) fn share(&self, memory: Memory) -> Bytes {
        Bytes::from_owner(Lent { memory, home: self.clone() })
    }

    /// What no permit pays for.
    fn free_bytes(&self) -> usize {
        self.0.pools.iter().map(Pool::free_bytes).sum()
    }

    fn most_bytes(&self) -> usize {
        self.0.pools.iter().map(Pool::size_bytes).sum::<usize>() / IDLE_SHARE
    }

    /// How much lies idle.
    #[cfg(test)]
    pub(crate) fn idle_bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory that is data at its beginning; what is behind stays initialised for the next use.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    bytes: Vec<u8>,
    length: usize,
}

impl Memory {
    /// How many bytes of memory it is.
    pub(crate) const fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Makes the data shorter.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.length = length.min(self.length);
    }
}

impl From<Vec<u8>> for Memory {
    fn from(bytes: Vec<u8>) -> Self {
        Self { length: bytes.len(), bytes }
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.length).unwrap_or_default()
    }
}

struct Lent {
    memory: Memory,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.memory).bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::explore;

    fn buffers(size_bytes: usize) -> (Pool, Buffers) {
        let pool = Pool::new(size_bytes);
        (pool.clone(), Buffers::new([pool, Pool::new(0), Pool::new(0)]))
    }

    #[test]
    fn memory_comes_back_when_its_last_slice_is_gone() {
        explore(async || {
            let (_, buffers) = buffers(4000);
            let shared = buffers.share(buffers.take_filled(1000).into());
            let slice = shared.slice(10..20);
            drop(shared);
            assert_eq!(buffers.idle_bytes(), 0);
            drop(slice);
            assert_eq!(buffers.idle_bytes(), 1000);
            assert_eq!(buffers.take_filled(1000).len(), 1000);
            assert_eq!(buffers.idle_bytes(), 0);
        });
    }

    #[test]
    fn what_was_behind_the_data_is_not_written_again() {
        explore(async || {
            let (_, buffers) = buffers(1000);
            let mut memory = Memory::from(vec![7; 100]);
            memory.truncate(10);
            assert_eq!(&*memory, [7; 10]);
            drop(buffers.share(memory));
            assert_eq!(buffers.take_filled(100), [7; 100]);
        });
    }

    #[test]
    fn what_lies_idle_and_what_is_paid_for_are_no_more_than_the_budget() {
        explore(async || {
            let (pool, buffers) = buffers(1000);
            let lend = |bytes| (pool.try_acquire(bytes).unwrap(), buffers.share(buffers.take_filled(bytes).into()));
            for (permit, shared) in [lend(200), lend(200), lend(400)] {
                drop(shared);
                drop(permit);
            }
            assert_eq!(buffers.idle_bytes(), 200, "the next one is over the share");
            let permit = pool.try_acquire(900).unwrap();
            assert_eq!(buffers.take_empty(900).capacity(), 900);
            assert_eq!(buffers.idle_bytes(), 0);
            drop(permit);
            let (permit, shared) = lend(100);
            let (other_permit, other_shared) = lend(100);
            drop((shared, permit));
            let _rest = pool.try_acquire(850).unwrap();
            drop((other_shared, other_permit));
            assert_eq!(buffers.idle_bytes(), 100, "there was no room for it");
            let _all = pool.try_acquire(150).unwrap();
            buffers.fit();
            assert_eq!(buffers.idle_bytes(), 0);
        });
    }
}
