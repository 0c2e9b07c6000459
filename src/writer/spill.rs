//! Parts of open objects that memory has no room for, on disk.

use std::fs::File;
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::accumulator::LARGEST_BATCH_BYTES;
use crate::budget::Buffers;
use crate::error::{Error, Result};
use crate::metrics;

/// Where spilled bytes go, and how many there may be.
#[derive(Clone, Debug)]
pub struct SpillArea(Arc<Area>);

#[derive(Debug)]
struct Area {
    folder: PathBuf,
    limit_bytes: u64,
    used_bytes: AtomicU64,
}

impl SpillArea {
    /// Spills into unlinked temporary files of `folder`, at most `limit_bytes` at a time over all objects.
    #[must_use]
    pub fn new(folder: PathBuf, limit_bytes: u64) -> Self {
        Self(Arc::new(Area { folder, limit_bytes, used_bytes: AtomicU64::new(0) }))
    }

    /// Whether so many more bytes may be spilled now.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.0.used_bytes.load(Ordering::Relaxed).saturating_add(bytes) <= self.0.limit_bytes
    }
}

/// The spilled beginning of one open part; gone from disk when dropped.
#[derive(Debug)]
pub(super) struct Spilled {
    area: SpillArea,
    file: File,
    bytes: u64,
    /// Where the memory comes from that it is read back into.
    buffers: Buffers,
}

impl Spilled {
    /// Opens an unlinked file. Blocks.
    pub(super) fn create(area: &SpillArea, buffers: &Buffers) -> Result<Self> {
        let folder = &area.0.folder;
        let file = tempfile::tempfile_in(folder)
            .map_err(|error| Error::io(format!("can't create a spill file in {}", folder.display()), error))?;
        Ok(Self { area: area.clone(), file, bytes: 0, buffers: buffers.clone() })
    }

    /// How much is on disk, in bytes.
    pub(super) const fn len(&self) -> u64 {
        self.bytes
    }

    /// Appends chunks. Blocks.
    pub(super) fn append(&mut self, chunks: &[Bytes]) -> Result<()> {
        let slices: Vec<IoSlice<'_>> = chunks.iter().map(|chunk| IoSlice::new(chunk)).collect();
        write_all(&mut self.file, slices).map_err(|error| self.failed("write to", error))?;
        let bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        self.bytes += bytes;
        self.area.0.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        metrics::add(&metrics::SPILLED_BYTES, &[], bytes);
        Ok(())
    }

    /// Memory to read everything back into: pieces as large as batches, taken by the thread that takes those too. An
    /// allocator that is asked for whole parts, by any thread, keeps much more than is in use.
    pub(super) fn room(&self) -> Vec<Vec<u8>> {
        let mut left = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        let mut room = Vec::with_capacity(left / LARGEST_BATCH_BYTES + 1);
        while left > 0 {
            let size = left.min(LARGEST_BATCH_BYTES);
            room.push(self.buffers.take_filled(size));
            left -= size;
        }
        room
    }

    /// Reads everything back. Blocks.
    pub(super) fn load(mut self, mut room: Vec<Vec<u8>>) -> Result<Vec<Bytes>> {
        self.file.seek(SeekFrom::Start(0)).map_err(|error| self.failed("read", error))?;
        for piece in &mut room {
            self.file.read_exact(piece).map_err(|error| self.failed("read", error))?;
        }
        Ok(room.into_iter().map(|piece| self.buffers.share(piece.into())).collect())
    }

    fn failed(&self, what: &str, error: io::Error) -> Error {
        Error::io(format!("can't {what} a spill file in {}", self.area.0.folder.display()), error)
    }
}

/// Writes all slices, in as few calls as the system takes.
fn write_all(file: &mut File, mut slices: Vec<IoSlice<'_>>) -> io::Result<()> {
    let mut slices = slices.as_mut_slice();
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut slices, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Drop for Spilled {
    fn drop(&mut self) {
        self.area.0.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    fn buffers() -> Buffers {
        Budget::new(64 << 20).unwrap().buffers
    }

    #[test]
    fn what_was_spilled_comes_back_and_frees_its_room() {
        let area = SpillArea::new(std::env::temp_dir(), 10);
        let mut spilled = Spilled::create(&area, &buffers()).unwrap();
        spilled.append(&[Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"defgh")]).unwrap();
        assert!(area.has_room(2));
        assert!(!area.has_room(3));
        let room = spilled.room();
        assert_eq!(spilled.load(room).unwrap().concat(), b"abcdefgh");
        assert!(area.has_room(10));
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let area = SpillArea::new(PathBuf::from("/nowhere/at/all"), 10);
        let error = Spilled::create(&area, &buffers()).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }
}
