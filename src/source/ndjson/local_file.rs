//! One local file, and whether it is the same still.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use super::files::{FileReader, Filled, StoredFile, blocking, unreadable};
use crate::error::{Error, ErrorKind, Result};
use crate::source::Buffer;

/// How much of a compressed file is read at once, in bytes; it lies outside the budget.
const PIECE_BYTES: u64 = 256 << 10;

/// A file as it stood when the snapshot was opened.
#[derive(Clone, Debug)]
pub(super) struct LocalFile {
    name: String,
    path: PathBuf,
    stamp: Stamp,
}

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size_bytes: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { size_bytes: metadata.len(), modified: metadata.modified().ok(), inode: inode(metadata) }
    }
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

impl LocalFile {
    pub(super) fn new(name: String, path: PathBuf, metadata: &Metadata) -> Self {
        Self { name, path, stamp: Stamp::of(metadata) }
    }

    fn cannot_read(&self, offset: u64, error: io::Error) -> Error {
        let message = match error.kind() {
            io::ErrorKind::NotFound => "the file has vanished since the snapshot",
            io::ErrorKind::PermissionDenied => "no permission to read the file",
            _ => "the file can't be read",
        };
        unreadable(&self.name, message).with("offset", offset).caused_by(error)
    }

    fn truncated(&self, length_bytes: u64) -> Error {
        let message = format!("the file is truncated: {length_bytes} bytes of {}", self.stamp.size_bytes);
        unreadable(&self.name, message).with("offset", length_bytes)
    }

    fn open_at(self, offset: u64) -> Result<LocalReader> {
        let mut file = File::open(&self.path).map_err(|error| self.cannot_read(offset, error))?;
        let metadata = file.metadata().map_err(|error| self.cannot_read(offset, error))?;
        let now = Stamp::of(&metadata);
        self.check_unchanged(&metadata, now)?;
        file.seek(SeekFrom::Start(offset)).map_err(|error| self.cannot_read(offset, error))?;
        Ok(LocalReader { open: Some(Open { file, position: offset, at_open: now, of: self }) })
    }

    /// A file that was only appended to is the same up to its old end.
    fn check_unchanged(&self, metadata: &Metadata, now: Stamp) -> Result<()> {
        if now.inode != self.stamp.inode || !metadata.is_file() {
            return Err(unreadable(&self.name, "the file was replaced by another since the snapshot"));
        }
        if now.size_bytes < self.stamp.size_bytes {
            return Err(self.truncated(now.size_bytes));
        }
        if now.size_bytes == self.stamp.size_bytes && now.modified != self.stamp.modified {
            return Err(unreadable(&self.name, "the file was changed since the snapshot"));
        }
        Ok(())
    }
}

#[async_trait]
impl StoredFile for LocalFile {
    /// Size, time and inode.
    fn version(&self) -> String {
        let Stamp { size_bytes, modified, inode } = self.stamp;
        let since_epoch = modified.and_then(|modified| modified.duration_since(SystemTime::UNIX_EPOCH).ok());
        format!("{size_bytes} {} {inode}", since_epoch.unwrap_or_default().as_nanos())
    }

    async fn head(&self, most_bytes: usize) -> Result<Bytes> {
        let file = self.clone();
        blocking(move || {
            let opened = File::open(&file.path).map_err(|error| file.cannot_read(0, error))?;
            let mut head = Vec::with_capacity(most_bytes.min(usize::try_from(file.stamp.size_bytes).unwrap_or(0)));
            let most_bytes = file.stamp.size_bytes.min(most_bytes as u64);
            opened.take(most_bytes).read_to_end(&mut head).map_err(|error| file.cannot_read(0, error))?;
            Ok(Bytes::from(head))
        })
        .await?
    }

    async fn open(&self, offset: u64) -> Result<Box<dyn FileReader>> {
        let file = self.clone();
        let reader = blocking(move || file.open_at(offset)).await??;
        Ok(Box::new(reader))
    }
}

/// Reads a file up to the size that it had in the snapshot.
///
/// The file wanders to a blocking thread and back; it is gone only if such a thread broke off.
struct LocalReader {
    open: Option<Open>,
}

struct Open {
    file: File,
    position: u64,
    at_open: Stamp,
    of: LocalFile,
}

impl Open {
    fn rest_bytes(&self) -> u64 {
        self.of.stamp.size_bytes.saturating_sub(self.position)
    }

    fn fill(&mut self, buffer: &mut Buffer) -> Result<()> {
        while buffer.room_bytes() > 0 && self.rest_bytes() > 0 {
            let rest_bytes = usize::try_from(self.rest_bytes()).unwrap_or(usize::MAX);
            let room = buffer.unfilled();
            let wanted = room.len().min(rest_bytes);
            let count = self.read(room.get_mut(..wanted).unwrap_or_default())?;
            buffer.advance(count);
        }
        Ok(())
    }

    /// Reads at least one byte.
    fn read(&mut self, room: &mut [u8]) -> Result<usize> {
        loop {
            match self.file.read(room) {
                Ok(0) => return Err(self.of.truncated(self.position)),
                Ok(count) => {
                    self.position += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.of.cannot_read(self.position, error)),
            }
        }
    }

    fn piece(&mut self) -> Result<Bytes> {
        let wanted = self.rest_bytes().min(PIECE_BYTES);
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        let mut piece = vec![0; usize::try_from(wanted).unwrap_or_default()];
        let count = self.read(&mut piece)?;
        piece.truncate(count);
        Ok(Bytes::from(piece))
    }

    /// Tells whether the file was rewritten while it was read. One that only grew is fine.
    fn finish(&self) -> Result<()> {
        let metadata = self.file.metadata().map_err(|error| self.of.cannot_read(self.position, error))?;
        let now = Stamp::of(&metadata);
        if now.size_bytes < self.of.stamp.size_bytes {
            return Err(self.of.truncated(now.size_bytes));
        }
        if now.size_bytes == self.at_open.size_bytes && now.modified != self.at_open.modified {
            return Err(unreadable(&self.of.name, "the file was rewritten while it was read"));
        }
        Ok(())
    }
}

impl LocalReader {
    /// Does blocking work with the open file.
    async fn with<T, W>(&mut self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&mut Open) -> T + Send + 'static,
    {
        let lost = || Error::new(ErrorKind::Internal, "the open file was lost with its reading thread");
        let mut open = self.open.take().ok_or_else(lost)?;
        let (open, answer) = blocking(move || {
            let answer = work(&mut open);
            (open, answer)
        })
        .await?;
        self.open = Some(open);
        Ok(answer)
    }
}

#[async_trait]
impl FileReader for LocalReader {
    async fn fill(&mut self, mut buffer: Buffer) -> Result<Filled> {
        self.with(move |open| {
            let failure = open.fill(&mut buffer).err();
            Filled { buffer, failure }
        })
        .await
    }

    async fn piece(&mut self) -> Result<Bytes> {
        self.with(Open::piece).await?
    }

    async fn finish(&mut self) -> Result<()> {
        self.with(|open| open.finish()).await?
    }
}
