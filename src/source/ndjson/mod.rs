//! Files of NDJSON: a folder, or a prefix of an object store.
//!
//! Files whose names end in `.ndjson` or `.ndjson.gz`, in any case, at any depth; others are ignored, and so is what a
//! leading dot hides. Links to files are followed, links to folders aren't. The snapshot is the list of files in byte
//! order of their paths, each with its size and its time (on object stores: its ETag) when the snapshot was opened:
//!
//! - a file that vanished, was truncated, replaced or rewritten since is [`Unreadable`](crate::ErrorKind::Unreadable),
//!   the others still go out;
//! - a file that was only appended to is read up to its old size. A rewrite that also made it longer can't be told from
//!   that;
//! - whether a file was rewritten is looked at before and after reading it: what was read in between was delivered.
//!
//! Compressed files may have any number of gzip members, and zero padding behind the last. One that is corrupt, ends
//! within a member, has anything else behind its members, or decompresses to more than
//! [`max_expansion`](NdjsonSource::max_expansion) times its size is unreadable from there on: the lines before it were
//! delivered, those of the broken member included, because its checksum comes last.
//!
//! The type of a file is what its name begins with, if its first line says the same: `Patient.000.ndjson`. With a list
//! of types in the request, files of other types are skipped by their names, unopened. [`NdjsonSource::scan_all`]
//! trusts no name.

mod files;
mod first_line;
mod folder;
mod gunzip;
mod local_file;
mod object_prefix;
mod read;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;

use files::{Entry, Files};
use folder::Folder;
use object_prefix::ObjectPrefix;
use object_store::ObjectStore;

use super::{AfterTransactionTime, Asked, BlockSink, Cursor, Plan, Range, Snapshot, Source};
use crate::clock::{self, Clock};
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::{Instant, ResourceType};

/// How much is read at once, in bytes, if nothing else is said.
pub const DEFAULT_BLOCK_BYTES: usize = 1 << 20;

/// How many times its size a compressed file may decompress to, if nothing else is said; FHIR comes to 10 to 30, and
/// DEFLATE can't exceed 1032.
pub const DEFAULT_MAX_EXPANSION: u32 = 250;

/// How many files are looked at at the same time when the ranges are planned.
const LOOKS_AT_ONCE: usize = 16;

/// A source that reads files of NDJSON.
#[derive(Clone, Debug)]
pub struct NdjsonSource {
    files: Arc<dyn Files>,
    clock: Arc<dyn Clock>,
    settings: Settings,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    scan_all: bool,
    block_bytes: usize,
    max_expansion: u32,
}

impl NdjsonSource {
    /// Reads a folder with everything below it, or a single file.
    #[must_use]
    pub fn folder(path: impl Into<PathBuf>) -> Self {
        Self::over(Arc::new(Folder::new(path.into())))
    }

    /// Reads the objects below a prefix of an object store, or a single object.
    ///
    /// `name` is what messages and the manifest call it: `s3://bucket/prefix`. An object that was changed since the
    /// snapshot can't be read: each request asks for the ETag that the listing had. When the store fails as a whole,
    /// the job ends and can be continued.
    #[must_use]
    pub fn object_prefix(
        store: Arc<dyn ObjectStore>,
        prefix: object_store::path::Path,
        name: impl Into<String>,
    ) -> Self {
        Self::over(Arc::new(ObjectPrefix::new(store, prefix, name.into())))
    }

    fn over(files: Arc<dyn Files>) -> Self {
        let settings =
            Settings { scan_all: false, block_bytes: DEFAULT_BLOCK_BYTES, max_expansion: DEFAULT_MAX_EXPANSION };
        Self { files, clock: clock::system(), settings }
    }

    /// Trusts no file name: every file is read whatever types are asked for, and none declares a type.
    #[must_use]
    pub const fn scan_all(mut self, scan_all: bool) -> Self {
        self.settings.scan_all = scan_all;
        self
    }

    /// Sets how many bytes are read at once, at least one.
    #[must_use]
    pub const fn block_bytes(mut self, block_bytes: usize) -> Self {
        self.settings.block_bytes = if block_bytes == 0 { 1 } else { block_bytes };
        self
    }

    /// Sets how many times its size a compressed file may decompress to: the cap against bombs.
    ///
    /// The first 16 MiB of a file are let through in any case.
    #[must_use]
    pub const fn max_expansion(mut self, max_expansion: u32) -> Self {
        self.settings.max_expansion = max_expansion;
        self
    }

    /// Sets the clock that tells the transaction time.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

#[async_trait]
impl Source for NdjsonSource {
    fn name(&self) -> String {
        self.files.name()
    }

    /// Lists the files. Those of a folder below that can't be listed are one range that can't be read, named after it.
    async fn open(&self) -> Result<Box<dyn Snapshot>> {
        // Before the listing, so that what changes meanwhile is stamped after T and comes with the next export.
        let transaction_time = self.clock.now();
        let listing = self.files.list().await?;
        if listing.entries.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "the source holds no .ndjson or .ndjson.gz file")
                .with("path", self.files.name())
                .with("other files", listing.ignored));
        }
        if listing.ignored > 0 {
            tracing::info!(source = %self.files.name(), files = listing.ignored, "ignored what is no ndjson file");
        }
        let mut entries = listing.entries;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        check_names(&entries)?;
        Ok(Box::new(NdjsonSnapshot { transaction_time, entries, settings: self.settings }))
    }
}

/// Ranges are told apart by name, so no two may look alike once they are text.
fn check_names(sorted: &[Entry]) -> Result<()> {
    let same = sorted.array_windows().find(|[first, second]| first.name == second.name);
    same.map_or(Ok(()), |[first, _]| {
        let message = "two files whose names aren't UTF-8 can't be told apart: rename one";
        Err(Error::new(ErrorKind::Source, message).with("file", &first.name))
    })
}

/// A list of files as they stood at one instant.
#[derive(Debug)]
struct NdjsonSnapshot {
    transaction_time: Instant,
    /// Sorted by name.
    entries: Vec<Entry>,
    settings: Settings,
}

impl NdjsonSnapshot {
    /// The type by which a file is skipped, if it is.
    fn skipped_as(&self, entry: &Entry, asked: &Asked) -> Option<ResourceType> {
        let (Some(asked), Some(prefix)) = (&asked.types, &entry.prefix) else { return None };
        (!self.settings.scan_all && !asked.contains(prefix)).then(|| prefix.clone())
    }

    /// Looks at the first lines of those files whose name says a type.
    async fn look_at(&self, entries: &[&Entry]) {
        if self.settings.scan_all {
            return;
        }
        let unseen = entries.iter().filter(|entry| entry.prefix.is_some() && entry.first_line.get().is_none());
        let looks: Vec<_> = unseen.map(|entry| look(entry)).collect();
        futures::stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE).collect::<()>().await;
    }

    fn entry(&self, range: &Range) -> Result<&Entry> {
        let index = self.entries.binary_search_by(|entry| entry.name.as_str().cmp(&range.name)).ok();
        index
            .and_then(|index| self.entries.get(index))
            .ok_or_else(|| Error::new(ErrorKind::Source, "the snapshot has no such file").with("file", &range.name))
    }
}

async fn look(entry: &Entry) {
    let found = first_line::look(entry).await;
    entry.first_line.get_or_init(|| found);
}

#[async_trait]
impl Snapshot for NdjsonSnapshot {
    fn transaction_time(&self) -> Instant {
        self.transaction_time.clone()
    }

    fn after_transaction_time(&self) -> AfterTransactionTime {
        AfterTransactionTime::Kept
    }

    async fn plan(&self, asked: &Asked) -> Result<Plan> {
        let mut plan = Plan::default();
        let mut read = Vec::new();
        for entry in &self.entries {
            match self.skipped_as(entry, asked) {
                Some(resource_type) => plan.skipped.push(entry.range(Some(resource_type))),
                None => read.push(entry),
            }
        }
        self.look_at(&read).await;
        for entry in read {
            let first_line = entry.first_line.get();
            let declared = first_line.and_then(|line| first_line::declared_type(entry.prefix.as_ref(), line));
            plan.ranges.push(entry.range(declared));
        }
        Ok(plan)
    }

    fn version(&self, range: &Range) -> Option<String> {
        self.entry(range).ok().map(|entry| entry.file.version())
    }

    async fn read(&self, range: &Range, from: &Cursor, sink: &mut dyn BlockSink) -> Result<()> {
        let entry = self.entry(range)?;
        let from = from.offset().ok_or_else(|| {
            Error::new(ErrorKind::Source, "the cursor is no offset in a file").with("file", &range.name)
        })?;
        let Settings { block_bytes, max_expansion, .. } = self.settings;
        if entry.compressed {
            read::gzip(entry, from, block_bytes, max_expansion, sink).await
        } else {
            read::plain(entry, from, block_bytes, sink).await
        }
    }
}

#[cfg(test)]
mod tests;
