//! Destinations for measuring: one that drops everything, and one that watches another.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use fhir_export::destination::{
    Capabilities, Destination, ObjectKey, OpenUpload, PartId, StoredObject, StoredPart, Upload,
};
use fhir_export::{Error, ErrorKind, Result};
use futures::stream::BoxStream;
use object_store::PutPayload;

/// Largest batch that the writer copies lines into, in bytes; longer chunks are slices of blocks.
const LARGEST_BATCH_BYTES: usize = 256 << 10;

/// Takes everything at once and keeps nothing but sizes.
#[derive(Clone, Debug, Default)]
pub struct Dropping(Arc<Mutex<BTreeMap<ObjectKey, u64>>>);

#[derive(Debug)]
struct DroppingUpload {
    store: Dropping,
    key: ObjectKey,
    bytes: AtomicU64,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Destination for Dropping {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn flight_bytes(&self, most_bytes: usize) -> usize {
        most_bytes
    }

    fn url(&self, key: &ObjectKey) -> String {
        format!("null:///{key}")
    }

    async fn signed_url(&self, _: &ObjectKey, _: Duration) -> Result<Option<String>> {
        Ok(None)
    }

    async fn begin(&self, key: &ObjectKey) -> Result<Box<dyn Upload>> {
        self.reopen(key, "").await
    }

    async fn put(&self, key: &ObjectKey, payload: PutPayload) -> Result<()> {
        self.0.lock().unwrap().insert(key.clone(), payload.content_length() as u64);
        Ok(())
    }

    async fn list(&self, folder: &str) -> Result<Vec<StoredObject>> {
        let objects = self.0.lock().unwrap();
        let below = objects.iter().filter(|(key, _)| key.as_str().starts_with(folder));
        Ok(below.map(|(key, size_bytes)| StoredObject { key: key.clone(), size_bytes: *size_bytes }).collect())
    }

    async fn size_bytes(&self, key: &ObjectKey) -> Result<Option<u64>> {
        Ok(self.0.lock().unwrap().get(key).copied())
    }

    async fn get(&self, key: &ObjectKey) -> Result<BoxStream<'static, Result<Bytes>>> {
        Err(Error::new(ErrorKind::NotFound, "this store keeps nothing").with("object", key))
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.0.lock().unwrap().remove(key);
        Ok(())
    }

    async fn open_uploads(&self, _folder: &str) -> Result<Option<Vec<OpenUpload>>> {
        Ok(None)
    }

    async fn reopen(&self, key: &ObjectKey, _upload_id: &str) -> Result<Box<dyn Upload>> {
        Ok(Box::new(DroppingUpload { store: self.clone(), key: key.clone(), bytes: AtomicU64::new(0) }))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Upload for DroppingUpload {
    fn id(&self) -> &str {
        ""
    }

    async fn put_part(&self, number: u32, payload: PutPayload) -> Result<PartId> {
        self.bytes.fetch_add(payload.content_length() as u64, Ordering::Relaxed);
        Ok(PartId(number.to_string()))
    }

    async fn complete(&self, _parts: &[PartId]) -> Result<()> {
        self.store.0.lock().unwrap().insert(self.key.clone(), self.bytes.load(Ordering::Relaxed));
        Ok(())
    }

    async fn abort(&self) -> Result<()> {
        Ok(())
    }

    async fn parts(&self) -> Result<Option<Vec<StoredPart>>> {
        Ok(None)
    }
}

/// Notes when the first data is durable, and how much came in chunks that are no batches.
#[derive(Clone, Debug)]
pub struct Watched {
    inner: Arc<dyn Destination>,
    seen: Arc<Seen>,
}

/// What was noted.
#[derive(Debug, Default)]
pub struct Seen {
    first_durable: OnceLock<Instant>,
    uncopied_bytes: AtomicU64,
}

impl Seen {
    pub fn first_durable(&self) -> Option<Instant> {
        self.first_durable.get().copied()
    }

    pub fn uncopied_bytes(&self) -> u64 {
        self.uncopied_bytes.load(Ordering::Relaxed)
    }

    fn payload(&self, payload: &PutPayload) {
        let uncopied = payload.iter().map(Bytes::len).filter(|length| *length > LARGEST_BATCH_BYTES);
        self.uncopied_bytes.fetch_add(uncopied.sum::<usize>() as u64, Ordering::Relaxed);
    }

    fn durable(&self) {
        self.first_durable.get_or_init(Instant::now);
    }
}

impl Watched {
    pub fn new(inner: Arc<dyn Destination>) -> Self {
        Self { inner, seen: Arc::default() }
    }

    pub fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen)
    }

    fn upload(&self, inner: Box<dyn Upload>) -> Box<dyn Upload> {
        Box::new(WatchedUpload { inner, seen: self.seen() })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Destination for Watched {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn flight_bytes(&self, most_bytes: usize) -> usize {
        self.inner.flight_bytes(most_bytes)
    }

    fn url(&self, key: &ObjectKey) -> String {
        self.inner.url(key)
    }

    async fn signed_url(&self, key: &ObjectKey, lifetime: Duration) -> Result<Option<String>> {
        self.inner.signed_url(key, lifetime).await
    }

    async fn begin(&self, key: &ObjectKey) -> Result<Box<dyn Upload>> {
        Ok(self.upload(self.inner.begin(key).await?))
    }

    async fn put(&self, key: &ObjectKey, payload: PutPayload) -> Result<()> {
        self.seen.payload(&payload);
        self.inner.put(key, payload).await?;
        self.seen.durable();
        Ok(())
    }

    async fn list(&self, folder: &str) -> Result<Vec<StoredObject>> {
        self.inner.list(folder).await
    }

    async fn size_bytes(&self, key: &ObjectKey) -> Result<Option<u64>> {
        self.inner.size_bytes(key).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.inner.get(key).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.inner.delete(key).await
    }

    async fn open_uploads(&self, folder: &str) -> Result<Option<Vec<OpenUpload>>> {
        self.inner.open_uploads(folder).await
    }

    async fn reopen(&self, key: &ObjectKey, upload_id: &str) -> Result<Box<dyn Upload>> {
        Ok(self.upload(self.inner.reopen(key, upload_id).await?))
    }
}

#[derive(Debug)]
struct WatchedUpload {
    inner: Box<dyn Upload>,
    seen: Arc<Seen>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Upload for WatchedUpload {
    fn id(&self) -> &str {
        self.inner.id()
    }

    async fn put_part(&self, number: u32, payload: PutPayload) -> Result<PartId> {
        self.seen.payload(&payload);
        let part = self.inner.put_part(number, payload).await?;
        self.seen.durable();
        Ok(part)
    }

    async fn complete(&self, parts: &[PartId]) -> Result<()> {
        self.inner.complete(parts).await
    }

    async fn abort(&self) -> Result<()> {
        self.inner.abort().await
    }

    async fn parts(&self) -> Result<Option<Vec<StoredPart>>> {
        self.inner.parts().await
    }
}
