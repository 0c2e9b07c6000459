//! A store that takes everything, at a set speed, and keeps nothing but sizes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fhir_export::destination::{
    Capabilities, Destination, ObjectKey, OpenUpload, PartId, StoredObject, StoredPart, Upload,
};
use fhir_export::{Error, ErrorKind, Result};
use futures::stream::BoxStream;
use object_store::PutPayload;
use tokio::time::Instant;

/// When the store stops to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stall {
    /// Never.
    #[default]
    Never,
    /// Parts after so many are never acknowledged; everything else is.
    Parts(u64),
    /// After so many parts nothing is answered any more.
    Everything(u64),
}

/// A store that drops what it takes.
#[derive(Clone, Debug)]
pub(crate) struct DroppingStore(Arc<State>);

#[derive(Debug)]
struct State {
    bytes_per_second: Option<u64>,
    stall: Stall,
    capabilities: Capabilities,
    free_at: Mutex<Option<Instant>>,
    objects: Mutex<BTreeMap<ObjectKey, u64>>,
    uploads: Mutex<BTreeMap<String, ObjectKey>>,
    begun: AtomicU64,
    parts: AtomicU64,
}

impl DroppingStore {
    /// A store that takes everything at once.
    pub(crate) fn new() -> Self {
        Self::with(None, Stall::Never)
    }

    /// A store that takes so many bytes a second, and stalls.
    pub(crate) fn with(bytes_per_second: Option<u64>, stall: Stall) -> Self {
        Self(Arc::new(State {
            bytes_per_second,
            stall,
            capabilities: Capabilities { lists_uploads: true, ..Capabilities::default() },
            free_at: Mutex::default(),
            objects: Mutex::default(),
            uploads: Mutex::default(),
            begun: AtomicU64::new(0),
            parts: AtomicU64::new(0),
        }))
    }

    /// How many parts and whole objects it took.
    pub(crate) fn parts(&self) -> u64 {
        self.0.parts.load(Ordering::Relaxed)
    }
}

impl State {
    /// Takes as long as the bytes take.
    async fn pass(&self, bytes: usize) {
        let taken = self.parts.fetch_add(1, Ordering::Relaxed);
        if matches!(self.stall, Stall::Parts(most) | Stall::Everything(most) if taken >= most) {
            std::future::pending::<()>().await;
        }
        let Some(bytes_per_second) = self.bytes_per_second else { return };
        let until = {
            let mut free_at = self.free_at.lock().unwrap();
            let now = Instant::now();
            let start = free_at.map_or(now, |free_at| free_at.max(now));
            let until = start + Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64);
            *free_at = Some(until);
            until
        };
        tokio::time::sleep_until(until).await;
    }

    /// Answers, or not.
    async fn answer(&self) {
        let taken = self.parts.load(Ordering::Relaxed);
        if matches!(self.stall, Stall::Everything(most) if taken >= most) {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Destination for DroppingStore {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities
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
        self.0.answer().await;
        let id = self.0.begun.fetch_add(1, Ordering::Relaxed).to_string();
        self.0.uploads.lock().unwrap().insert(id.clone(), key.clone());
        self.reopen(key, &id).await
    }

    async fn put(&self, key: &ObjectKey, payload: PutPayload) -> Result<()> {
        self.0.answer().await;
        let bytes = payload.content_length();
        // The manifest is no part of the data that the speed is about.
        if !key.as_str().ends_with(".json") {
            self.0.pass(bytes).await;
        }
        self.0.objects.lock().unwrap().insert(key.clone(), bytes as u64);
        Ok(())
    }

    async fn list(&self, folder: &str) -> Result<Vec<StoredObject>> {
        self.0.answer().await;
        let objects = self.0.objects.lock().unwrap();
        let below = objects.iter().filter(|(key, _)| key.as_str().starts_with(folder));
        Ok(below.map(|(key, size_bytes)| StoredObject { key: key.clone(), size_bytes: *size_bytes }).collect())
    }

    async fn size_bytes(&self, key: &ObjectKey) -> Result<Option<u64>> {
        self.0.answer().await;
        Ok(self.0.objects.lock().unwrap().get(key).copied())
    }

    async fn get(&self, key: &ObjectKey) -> Result<BoxStream<'static, Result<Bytes>>> {
        Err(Error::new(ErrorKind::NotFound, "this store keeps nothing").with("object", key))
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.0.answer().await;
        self.0.objects.lock().unwrap().remove(key);
        Ok(())
    }

    async fn open_uploads(&self, folder: &str) -> Result<Option<Vec<OpenUpload>>> {
        self.0.answer().await;
        let uploads = self.0.uploads.lock().unwrap();
        let below = uploads.iter().filter(|(_, key)| key.as_str().starts_with(folder));
        Ok(Some(below.map(|(id, key)| OpenUpload { key: key.clone(), upload_id: id.clone() }).collect()))
    }

    async fn reopen(&self, key: &ObjectKey, upload_id: &str) -> Result<Box<dyn Upload>> {
        Ok(Box::new(Dropping { state: Arc::clone(&self.0), key: key.clone(), id: upload_id.to_owned() }))
    }
}

#[derive(Debug)]
struct Dropping {
    state: Arc<State>,
    key: ObjectKey,
    id: String,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Upload for Dropping {
    fn id(&self) -> &str {
        &self.id
    }

    /// The name of a part is its size.
    async fn put_part(&self, _number: u32, payload: PutPayload) -> Result<PartId> {
        let bytes = payload.content_length();
        self.state.pass(bytes).await;
        Ok(PartId(bytes.to_string()))
    }

    async fn complete(&self, parts: &[PartId]) -> Result<()> {
        self.state.answer().await;
        let bytes = parts.iter().map(|part| part.0.parse::<u64>().unwrap()).sum();
        self.state.uploads.lock().unwrap().remove(&self.id);
        self.state.objects.lock().unwrap().insert(self.key.clone(), bytes);
        Ok(())
    }

    async fn abort(&self) -> Result<()> {
        self.state.answer().await;
        self.state.uploads.lock().unwrap().remove(&self.id);
        Ok(())
    }

    async fn parts(&self) -> Result<Option<Vec<StoredPart>>> {
        Ok(None)
    }
}
