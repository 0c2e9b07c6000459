//! Files of NDJSON below a prefix of an object store, or one such object.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use futures::TryStreamExt;
use futures::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{Error as StoreError, GetOptions, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt};

use super::files::{Entry, FileReader, Files, Filled, Format, Listing, StoredFile, unreadable};
use crate::error::{Error, ErrorKind, Result};
use crate::source::Buffer;

/// How much one request asks for, in bytes: a broken connection costs at most this, and a slow reader doesn't keep the
/// store waiting for long.
const REQUEST_BYTES: u64 = 8 << 20;

/// A prefix, which ends at a `/`, with everything below it, or a single object.
#[derive(Debug)]
pub(super) struct ObjectPrefix {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    name: String,
}

impl ObjectPrefix {
    pub(super) const fn new(store: Arc<dyn ObjectStore>, prefix: Path, name: String) -> Self {
        Self { store, prefix, name }
    }

    fn entry(&self, name: &str, object: ObjectMeta) -> Entry {
        let size_bytes = object.size;
        let file = StoredObject { name: name.to_owned(), store: Arc::clone(&self.store), object };
        Entry::new(name.to_owned(), size_bytes, Arc::new(file))
    }

    /// The object that the prefix names itself, if it does and is NDJSON.
    async fn single(&self) -> Result<Option<Entry>> {
        let Some(name) = self.prefix.filename().filter(|name| Format::of(name).is_some()) else { return Ok(None) };
        match self.store.head(&self.prefix).await {
            Ok(object) => Ok(Some(self.entry(name, object))),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.cannot_list(error)),
        }
    }

    fn cannot_list(&self, error: StoreError) -> Error {
        let kind = match error {
            StoreError::NotFound { .. } => ErrorKind::NotFound,
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => ErrorKind::PermissionDenied,
            _ => ErrorKind::Source,
        };
        Error::new(kind, "the objects of the source can't be listed")
            .with("prefix", &self.name)
            .retryable(kind == ErrorKind::Source)
            .caused_by(error)
    }
}

#[async_trait]
impl Files for ObjectPrefix {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        let mut objects = self.store.list(Some(&self.prefix));
        while let Some(object) = objects.try_next().await.map_err(|error| self.cannot_list(error))? {
            let name = below(&self.prefix, &object.location).to_owned();
            if name.split('/').any(|part| part.starts_with('.')) {
                continue;
            }
            if Format::of(&name).is_some() {
                listing.entries.push(self.entry(&name, object));
            } else {
                listing.ignored += 1;
            }
        }
        if listing.entries.is_empty() {
            listing.entries.extend(self.single().await?);
        }
        Ok(listing)
    }
}

fn below<'a>(prefix: &Path, location: &'a Path) -> &'a str {
    let location = location.as_ref();
    location.strip_prefix(prefix.as_ref()).unwrap_or(location).trim_start_matches('/')
}

/// An object as it stood when the snapshot was opened.
#[derive(Clone, Debug)]
struct StoredObject {
    name: String,
    store: Arc<dyn ObjectStore>,
    object: ObjectMeta,
}

impl StoredObject {
    async fn get(&self, range: Range<u64>) -> Result<GetResult> {
        let offset = range.start;
        let options = GetOptions::new().with_range(Some(range)).with_if_match(self.object.e_tag.clone());
        let answer = self.store.get_opts(&self.object.location, options).await;
        let answer = answer.map_err(|error| self.cannot_read(offset, error))?;
        // Where a listing has no ETag, size and time are all there is; the answer to a GET has it in whole seconds.
        let same_second = answer.meta.last_modified.timestamp() == self.object.last_modified.timestamp();
        let same_time = self.object.e_tag.is_some() || same_second;
        if answer.meta.size != self.object.size || !same_time {
            return Err(self.changed(offset));
        }
        Ok(answer)
    }

    /// Asks for the next piece from an offset on.
    async fn body_from(&self, offset: u64) -> Result<BoxStream<'static, object_store::Result<Bytes>>> {
        let end = offset.saturating_add(REQUEST_BYTES).min(self.object.size);
        Ok(self.get(offset..end).await?.into_stream())
    }

    fn changed(&self, offset: u64) -> Error {
        unreadable(&self.name, "the object was changed since the snapshot").with("offset", offset)
    }

    fn nothing_sent(&self, offset: u64) -> Error {
        self.store_failed("the object store sent an empty answer", offset)
    }

    fn store_failed(&self, message: &str, offset: u64) -> Error {
        Error::new(ErrorKind::Source, message).with("file", &self.name).with("offset", offset).retryable(true)
    }

    fn cannot_read(&self, offset: u64, error: StoreError) -> Error {
        let message = match error {
            StoreError::Precondition { .. } => return self.changed(offset).caused_by(error),
            StoreError::NotFound { .. } => "the object has vanished since the snapshot",
            StoreError::PermissionDenied { .. } => "no permission to read the object",
            // Not this object's fault: an export that leaves out all the rest for it would be no export.
            _ => return self.store_failed("the object store failed", offset).caused_by(error),
        };
        unreadable(&self.name, message).with("offset", offset).caused_by(error)
    }
}

#[async_trait]
impl StoredFile for StoredObject {
    /// The ETag; size and time where the store has none.
    fn version(&self) -> String {
        match &self.object.e_tag {
            Some(tag) => tag.clone(),
            None => format!("{} {}", self.object.size, self.object.last_modified.timestamp_millis()),
        }
    }

    async fn head(&self, most_bytes: usize) -> Result<Bytes> {
        let most_bytes = self.object.size.min(most_bytes as u64);
        let answer = self.get(0..most_bytes).await?;
        answer.bytes().await.map_err(|error| self.cannot_read(0, error))
    }

    async fn open(&self, offset: u64) -> Result<Box<dyn FileReader>> {
        Ok(Box::new(ObjectReader {
            of: self.clone(),
            position: offset,
            body: None,
            asked_at: offset,
            pending: Bytes::new(),
        }))
    }
}

/// Reads an object by one request after the other, each of which the store answers only if it is the same still.
struct ObjectReader {
    of: StoredObject,
    /// Where what comes next from the store begins.
    position: u64,
    body: Option<BoxStream<'static, object_store::Result<Bytes>>>,
    asked_at: u64,
    pending: Bytes,
}

impl fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectReader").field("of", &self.of).field("position", &self.position).finish_non_exhaustive()
    }
}

impl ObjectReader {
    /// The next bytes from the store; none at the end.
    async fn next(&mut self) -> Result<Bytes> {
        while self.position < self.of.object.size {
            let mut body = match self.body.take() {
                Some(body) => body,
                None => {
                    self.asked_at = self.position;
                    self.of.body_from(self.position).await?
                }
            };
            match body.next().await {
                Some(Ok(bytes)) => {
                    self.position += bytes.len() as u64;
                    self.body = Some(body);
                    if !bytes.is_empty() {
                        return Ok(bytes);
                    }
                }
                Some(Err(error)) => return Err(self.of.cannot_read(self.position, error)),
                // Else the same question would be asked for ever.
                None if self.position == self.asked_at => return Err(self.of.nothing_sent(self.position)),
                None => {}
            }
        }
        Ok(Bytes::new())
    }
}

#[async_trait]
impl FileReader for ObjectReader {
    async fn fill(&mut self, mut buffer: Buffer) -> Result<Filled> {
        while buffer.room_bytes() > 0 {
            if self.pending.is_empty() {
                match self.next().await {
                    Ok(bytes) if bytes.is_empty() => break,
                    Ok(bytes) => self.pending = bytes,
                    Err(failure) => return Ok(Filled { buffer, failure: Some(failure) }),
                }
            }
            let taken = buffer.append(&self.pending);
            self.pending.advance(taken);
        }
        Ok(Filled { buffer, failure: None })
    }

    async fn piece(&mut self) -> Result<Bytes> {
        if self.pending.is_empty() { self.next().await } else { Ok(std::mem::take(&mut self.pending)) }
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use object_store::PutPayload;
    use object_store::memory::InMemory;

    use super::super::NdjsonSource;
    use super::super::tests::{PATIENT, gzip, named, plan, read, read_broken};
    use super::*;
    use crate::source::{Asked, Source, contract};

    async fn put(store: &InMemory, key: &str, content: impl Into<PutPayload>) {
        store.put(&Path::from(key), content.into()).await.unwrap();
    }

    fn source(store: &Arc<InMemory>, prefix: &str) -> NdjsonSource {
        let store: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(store);
        NdjsonSource::object_prefix(store, Path::from(prefix), format!("memory://{prefix}"))
    }

    #[tokio::test]
    async fn objects_below_a_prefix_are_files() {
        let store = Arc::new(InMemory::new());
        for key in ["in/Patient.ndjson", "in/a/b.ndjson", "inner/x.ndjson", "in/readme.md", "in/.x/y.ndjson"] {
            put(&store, key, PATIENT).await;
        }
        put(&store, "in/Patient-2.ndjson.gz", gzip(PATIENT.as_bytes())).await;
        let source = source(&store, "in").block_bytes(5);
        let plan = plan(&source, &Asked::default()).await;
        let expected = ["Patient-2.ndjson.gz Patient", "Patient.ndjson Patient", "a/b.ndjson mixed"];
        assert_eq!(named(&plan.ranges), expected);
        let snapshot = source.open().await.unwrap();
        for range in &plan.ranges {
            for from in [0, 7, PATIENT.len()] {
                let (collected, result) = read(&*snapshot, &range.name, from as u64).await;
                result.unwrap();
                assert_eq!(collected.bytes(), &PATIENT.as_bytes()[from..]);
            }
        }
        contract::check(&source).await.unwrap();
    }

    #[tokio::test]
    async fn a_single_object_is_a_source_and_an_empty_prefix_is_none() {
        let store = Arc::new(InMemory::new());
        put(&store, "in/Patient.ndjson", PATIENT).await;
        let plan = plan(&source(&store, "in/Patient.ndjson"), &Asked::default()).await;
        assert_eq!(named(&plan.ranges), ["Patient.ndjson Patient"]);
        for prefix in ["i", "in/Patient", "out", "out/Patient.ndjson"] {
            let error = source(&store, prefix).open().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().contains(&format!("memory://{prefix}")), "{error}");
        }
    }

    #[tokio::test]
    async fn an_object_that_is_not_what_it_was_fails_alone() {
        let store = Arc::new(InMemory::new());
        for name in ["changed", "same", "vanished"] {
            put(&store, &format!("{name}.ndjson"), PATIENT).await;
        }
        let snapshot = source(&store, "").open().await.unwrap();
        put(&store, "changed.ndjson", PATIENT).await;
        store.delete(&Path::from("vanished.ndjson")).await.unwrap();
        for name in ["changed", "vanished"] {
            let (error, _) = read_broken(&*snapshot, &format!("{name}.ndjson")).await;
            assert!(error.contains(name), "{error}");
        }
        read(&*snapshot, "same.ndjson", 0).await.1.unwrap();
    }

    #[tokio::test]
    async fn an_object_larger_than_one_request_is_read_whole() {
        let store = Arc::new(InMemory::new());
        let lines = usize::try_from(REQUEST_BYTES).unwrap() * 5 / 2 / PATIENT.len();
        let text = PATIENT.repeat(lines);
        put(&store, "large.ndjson", text.clone()).await;
        put(&store, "large.ndjson.gz", gzip(text.as_bytes())).await;
        let snapshot = source(&store, "").open().await.unwrap();
        for name in ["large.ndjson", "large.ndjson.gz"] {
            let (collected, result) = read(&*snapshot, name, 0).await;
            result.unwrap();
            assert!(collected.bytes() == text.as_bytes(), "{name}");
        }
    }
}
