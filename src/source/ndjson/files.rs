//! What the source needs of a place that holds files, be it a folder or a bucket.

use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;

use super::first_line::{self, FirstLine};
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::ResourceType;
use crate::source::{Buffer, Range};

/// A place that holds files.
#[async_trait]
pub(super) trait Files: fmt::Debug + Send + Sync {
    /// The place in messages.
    fn name(&self) -> String;

    /// Lists the files of NDJSON as they are now, in any order.
    async fn list(&self) -> Result<Listing>;
}

/// What a place holds.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) entries: Vec<Entry>,
    /// Files that aren't NDJSON by their name.
    pub(super) ignored: u64,
}

/// One file of the snapshot.
#[derive(Debug)]
pub(super) struct Entry {
    /// The path below the place, with `/` between its parts.
    pub(super) name: String,
    /// Size as it is stored, in bytes.
    pub(super) size_bytes: u64,
    pub(super) compressed: bool,
    /// The type that the name begins with.
    pub(super) prefix: Option<ResourceType>,
    pub(super) file: Arc<dyn StoredFile>,
    // Looked at once, so that a snapshot has one plan.
    pub(super) first_line: OnceLock<FirstLine>,
}

impl Entry {
    pub(super) fn new(name: String, size_bytes: u64, file: Arc<dyn StoredFile>) -> Self {
        let compressed = Format::of(&name) == Some(Format::Gzip);
        let prefix = first_line::name_prefix(&name);
        Self { name, size_bytes, compressed, prefix, file, first_line: OnceLock::new() }
    }

    pub(super) fn range(&self, resource_type: Option<ResourceType>) -> Range {
        // What a compressed file will hold isn't known before it has been read.
        let size_bytes = (!self.compressed).then_some(self.size_bytes);
        Range::new(self.name.clone()).of_type(resource_type).of_size(size_bytes)
    }
}

/// A file as it stood when the snapshot was opened.
#[async_trait]
pub(super) trait StoredFile: fmt::Debug + Send + Sync {
    /// What tells this version of the file from any other.
    fn version(&self) -> String;

    /// Reads at most so many bytes of its beginning.
    async fn head(&self, most_bytes: usize) -> Result<Bytes>;

    /// Opens it at an offset, and fails if it isn't the same file any more.
    async fn open(&self, offset: u64) -> Result<Box<dyn FileReader>>;
}

/// Reads a file from an offset to the end that it had when the snapshot was opened.
#[async_trait]
pub(super) trait FileReader: Send {
    /// Reads on until the buffer is full or the file is at its end.
    async fn fill(&mut self, buffer: Buffer) -> Result<Filled>;

    /// Reads a piece on; an empty one is the file's end.
    async fn piece(&mut self) -> Result<Bytes>;

    /// Checks at the end that the file is the same still.
    async fn finish(&mut self) -> Result<()>;
}

/// A buffer with what could be read, and why that wasn't more.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) buffer: Buffer,
    pub(super) failure: Option<Error>,
}

/// How a file of NDJSON is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Plain,
    Gzip,
}

impl Format {
    /// The format that a file's name tells; `None`: no NDJSON.
    pub(super) fn of(name: &str) -> Option<Self> {
        let ends_with = |suffix: &str| {
            let start = name.len().checked_sub(suffix.len())?;
            name.as_bytes().get(start..).filter(|end| end.eq_ignore_ascii_case(suffix.as_bytes()))
        };
        if ends_with(".ndjson").is_some() {
            Some(Self::Plain)
        } else if ends_with(".ndjson.gz").is_some() {
            Some(Self::Gzip)
        } else {
            None
        }
    }
}

/// The error of a file that can't be read, or not to its end; the job goes on without it.
pub(super) fn unreadable(name: &str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unreadable, message).with("file", name)
}

/// A thing that could not be looked at when the snapshot was opened: reading it fails with the reason.
#[derive(Debug)]
pub(super) struct BrokenFile {
    pub(super) name: String,
    pub(super) reason: String,
}

impl BrokenFile {
    fn error(&self) -> Error {
        unreadable(&self.name, format!("it couldn't be looked at when the snapshot was opened: {}", self.reason))
    }
}

#[async_trait]
impl StoredFile for BrokenFile {
    fn version(&self) -> String {
        "unreadable".to_owned()
    }

    async fn head(&self, _: usize) -> Result<Bytes> {
        Err(self.error())
    }

    async fn open(&self, _: u64) -> Result<Box<dyn FileReader>> {
        Err(self.error())
    }
}

/// Runs a piece of blocking work aside of the async threads.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::new(ErrorKind::Internal, "a reading thread broke off").caused_by(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_format_is_told_by_its_name_in_any_case() {
        assert_eq!(Format::of("a/Patient.ndjson"), Some(Format::Plain));
        assert_eq!(Format::of("Patient.000.NDJSON"), Some(Format::Plain));
        assert_eq!(Format::of("Patient.NdJson.GZ"), Some(Format::Gzip));
        for other in ["Patient.json", "Patient.ndjson.zip", "ndjson", "Patient.gz", "Patient.ndjson.tmp", ""] {
            assert_eq!(Format::of(other), None, "{other}");
        }
    }
}
