//! Bytes of one object that wait to become a part: slices of blocks, batches of copied lines, and what was spilled.

use std::sync::Arc;

use bytes::Bytes;
use object_store::PutPayload;

use super::spill::{SpillArea, Spilled};
use crate::budget::{Buffers, Permit};
use crate::error::{Error, ErrorKind, Result};

/// First size of a batch of copied lines, in bytes.
pub(super) const LEAST_BATCH_BYTES: usize = 4 << 10;

/// Largest size of a batch, in bytes; larger ones leave the cache and cost page faults.
pub(super) const LARGEST_BATCH_BYTES: usize = 256 << 10;

/// Smallest size of a batch whose memory is kept for the next one, in bytes.
const LEAST_KEPT_BYTES: usize = 32 << 10;

/// Bytes in order, charged to the fill pool.
#[derive(Debug, Default)]
pub(super) struct Accumulator {
    spilled: Option<Spilled>,
    segments: Vec<Segment>,
    batch: Option<Batch>,
    length_bytes: usize,
    memory_bytes: usize,
}

#[derive(Debug)]
struct Segment {
    bytes: Bytes,
    charge: Option<Arc<Permit>>,
}

#[derive(Debug)]
struct Batch {
    bytes: Vec<u8>,
    permit: Permit,
    /// Where the memory goes when its last byte is sent.
    home: Option<Buffers>,
}

impl Accumulator {
    /// How many bytes wait.
    pub(super) const fn len(&self) -> usize {
        self.length_bytes
    }

    /// How many of them are charged to the budget, about.
    pub(super) const fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// How many bytes wait in memory; less than [`memory_bytes`](Self::memory_bytes) by what batches have room for.
    pub(super) fn filled_bytes(&self) -> usize {
        let spilled = self.spilled.as_ref().map_or(0, Spilled::len);
        self.length_bytes - usize::try_from(spilled).unwrap_or(self.length_bytes)
    }

    /// Adds a slice that `charge` pays for.
    pub(super) fn push_slice(&mut self, bytes: Bytes, charge: Option<Arc<Permit>>) {
        self.freeze_batch();
        self.length_bytes += bytes.len();
        self.memory_bytes += bytes.len();
        self.segments.push(Segment { bytes, charge });
    }

    /// Bytes that fit into the open batch.
    pub(super) fn batch_room_bytes(&self) -> usize {
        self.batch.as_ref().map_or(0, |batch| batch.bytes.capacity() - batch.bytes.len())
    }

    /// Opens a new batch of the size that `permit` pays for.
    pub(super) fn open_batch(&mut self, size_bytes: usize, permit: Permit, buffers: &Buffers) {
        self.freeze_batch();
        self.memory_bytes += size_bytes;
        // The small batches that an object begins with aren't worth keeping, and those of one long line fit no other.
        let is_kept = (LEAST_KEPT_BYTES..=LARGEST_BATCH_BYTES).contains(&size_bytes) && size_bytes.is_power_of_two();
        let bytes = if is_kept {
            buffers.take_empty(size_bytes)
        } else {
            buffers.fit();
            Vec::with_capacity(size_bytes)
        };
        self.batch = Some(Batch { bytes, permit, home: is_kept.then(|| buffers.clone()) });
    }

    /// Copies bytes into the open batch, which has room for them.
    pub(super) fn copy(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.batch_room_bytes(), "room was made before");
        let Some(batch) = &mut self.batch else { return };
        batch.bytes.extend_from_slice(bytes);
        self.length_bytes += bytes.len();
    }

    fn freeze_batch(&mut self) {
        let Some(batch) = self.batch.take() else { return };
        if batch.bytes.is_empty() {
            self.memory_bytes -= batch.permit.bytes().min(self.memory_bytes);
            return;
        }
        let bytes = match batch.home {
            Some(home) => home.share(batch.bytes.into()),
            None => Bytes::from(batch.bytes),
        };
        self.segments.push(Segment { bytes, charge: Some(Arc::new(batch.permit)) });
    }

    /// Moves what is in memory to disk.
    ///
    /// # Cancellation
    /// Must be polled to its end: a dropped spill loses bytes.
    pub(super) async fn spill(&mut self, area: &SpillArea, buffers: &Buffers) -> Result<()> {
        self.freeze_batch();
        if self.segments.is_empty() {
            return Ok(());
        }
        let segments = std::mem::take(&mut self.segments);
        self.memory_bytes = 0;
        let (spilled, area, buffers) = (self.spilled.take(), area.clone(), buffers.clone());
        let written = blocking(move || {
            let mut spilled = match spilled {
                Some(spilled) => spilled,
                None => Spilled::create(&area, &buffers)?,
            };
            let chunks: Vec<Bytes> = segments.iter().map(|segment| segment.bytes.clone()).collect();
            spilled.append(&chunks)?;
            Ok(spilled)
        });
        self.spilled = Some(written.await?);
        Ok(())
    }

    /// Takes everything out.
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// The bytes as a payload, what was spilled read back; the fill pool has its permits again when this returns.
    pub(super) async fn into_payload(mut self) -> Result<PutPayload> {
        self.freeze_batch();
        let spilled = match self.spilled.take() {
            Some(spilled) => {
                let room = spilled.room();
                blocking(move || spilled.load(room)).await?
            }
            None => Vec::new(),
        };
        Ok(spilled.into_iter().chain(self.segments.into_iter().map(Segment::into_bytes)).collect())
    }

    /// The bytes as chunks, what was spilled read back. Blocks.
    pub(super) fn into_chunks(mut self) -> Result<Vec<Bytes>> {
        self.freeze_batch();
        let mut chunks = Vec::with_capacity(self.segments.len() + 1);
        if let Some(spilled) = self.spilled.take() {
            let room = spilled.room();
            chunks.extend(spilled.load(room)?);
        }
        chunks.extend(self.segments.into_iter().map(Segment::into_bytes));
        Ok(chunks)
    }
}

impl Segment {
    fn into_bytes(self) -> Bytes {
        drop(self.charge);
        self.bytes
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::new(ErrorKind::Internal, "a spill task ended early").caused_by(error))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Budget, Pool};

    fn content(payload: &PutPayload) -> Vec<u8> {
        payload.iter().flat_map(|chunk| chunk.to_vec()).collect()
    }

    #[tokio::test]
    async fn bytes_come_out_in_order_wherever_they_waited() {
        let (pool, buffers) = (Pool::new(100), Budget::new(64 << 20).unwrap().buffers);
        let area = SpillArea::new(std::env::temp_dir(), 1000);
        let mut waiting = Accumulator::default();
        waiting.open_batch(8, pool.try_acquire(8).unwrap(), &buffers);
        waiting.copy(b"one\n");
        waiting.push_slice(Bytes::from_static(b"two\n"), Some(Arc::new(pool.try_acquire(50).unwrap())));
        waiting.spill(&area, &buffers).await.unwrap();
        assert_eq!(pool.free_bytes(), 100);
        waiting.push_slice(Bytes::from_static(b"three\n"), Some(Arc::new(pool.try_acquire(50).unwrap())));
        waiting.spill(&area, &buffers).await.unwrap();
        waiting.open_batch(8, pool.try_acquire(8).unwrap(), &buffers);
        waiting.copy(b"four\n");
        assert_eq!(waiting.len(), 19);
        let payload = waiting.take().into_payload().await.unwrap();
        assert_eq!(content(&payload), b"one\ntwo\nthree\nfour\n");
        assert_eq!((waiting.len(), waiting.memory_bytes(), pool.free_bytes()), (0, 0, 100));
    }
}
