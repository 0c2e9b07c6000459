//! Memory of blocks and batches that is used again, because fresh pages cost faults.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Most idle memory that is kept, in bytes; what lies idle is charged to no budget.
const MOST_IDLE_BYTES: usize = 8 << 20;

/// Idle memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers(Arc<Mutex<Idle>>);

#[derive(Debug, Default)]
struct Idle {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Buffers {
    /// Memory of exactly `size_bytes`, all of it initialised.
    pub(crate) fn take_filled(&self, size_bytes: usize) -> Vec<u8> {
        let Some(mut memory) = self.take_idle(size_bytes) else { return vec![0; size_bytes] };
        memory.resize(size_bytes, 0);
        memory
    }

    /// Memory for exactly `size_bytes`, empty.
    pub(crate) fn take_empty(&self, size_bytes: usize) -> Vec<u8> {
        let Some(mut memory) = self.take_idle(size_bytes) else { return Vec::with_capacity(size_bytes) };
        memory.clear();
        memory
    }

    fn take_idle(&self, size_bytes: usize) -> Option<Vec<u8>> {
        let mut idle = self.lock();
        let index = idle.buffers.iter().position(|buffer| buffer.capacity() == size_bytes)?;
        idle.bytes -= size_bytes;
        Some(idle.buffers.swap_remove(index))
    }

    /// Gives memory back.
    fn give_back(&self, memory: Vec<u8>) {
        let mut idle = self.lock();
        if idle.bytes + memory.capacity() <= MOST_IDLE_BYTES {
            idle.bytes += memory.capacity();
            idle.buffers.push(memory);
        }
    }

    /// Shares memory that comes back when the last slice of it is gone.
    pub(crate) fn share(&self, memory: Vec<u8>) -> Bytes {
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
        let shared = buffers.share(buffers.take_filled(1000));
        let slice = shared.slice(10..20);
        drop(shared);
        assert_eq!(buffers.lock().bytes, 0);
        drop(slice);
        assert_eq!(buffers.lock().bytes, 1000);
        assert_eq!(buffers.take_filled(1000).len(), 1000);
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
