//! Block memory that is used again, because fresh megabytes cost page faults.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Most idle memory that is kept, in bytes; what lies idle is charged to no budget.
const MOST_IDLE_BYTES: usize = 4 << 20;

/// Idle block memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers(Arc<Mutex<Idle>>);

#[derive(Debug, Default)]
struct Idle {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Buffers {
    /// Memory of exactly `size_bytes`, all of it initialised.
    pub(super) fn take(&self, size_bytes: usize) -> Vec<u8> {
        let mut memory = {
            let mut idle = self.lock();
            let fitting = idle.buffers.iter().position(|buffer| buffer.capacity() == size_bytes);
            let memory = fitting.map(|index| idle.buffers.swap_remove(index)).unwrap_or_default();
            idle.bytes -= memory.capacity();
            memory
        };
        if memory.capacity() == 0 {
            return vec![0; size_bytes];
        }
        memory.resize(size_bytes, 0);
        memory
    }

    /// Gives memory back.
    pub(super) fn give_back(&self, memory: Vec<u8>) {
        let mut idle = self.lock();
        if idle.bytes + memory.capacity() <= MOST_IDLE_BYTES {
            idle.bytes += memory.capacity();
            idle.buffers.push(memory);
        }
    }

    /// Shares memory that comes back when the last slice of it is gone.
    pub(super) fn share(&self, memory: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { memory, home: self.clone() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Lent {
    memory: Vec<u8>,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.memory));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_when_its_last_slice_is_gone() {
        let buffers = Buffers::default();
        let shared = buffers.share(buffers.take(1000));
        let slice = shared.slice(10..20);
        drop(shared);
        assert_eq!(buffers.lock().bytes, 0);
        drop(slice);
        assert_eq!(buffers.lock().bytes, 1000);
        assert_eq!(buffers.take(1000).len(), 1000);
        assert_eq!(buffers.lock().bytes, 0);
    }

    #[test]
    fn idle_memory_is_bounded() {
        let buffers = Buffers::default();
        buffers.give_back(vec![0; MOST_IDLE_BYTES]);
        buffers.give_back(vec![0; 1]);
        assert_eq!(buffers.lock().bytes, MOST_IDLE_BYTES);
    }
}
