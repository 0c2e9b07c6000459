//! Objects in memory: for embedders' tests, and a strict judge in ours.
//!
//! object_store's in-memory store forgives what S3 doesn't: parts after an abort, holes, parts that are too small.
//! This one refuses all of it, and shows what is left open.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::PutPayload;

use super::{Capabilities, Destination, ObjectKey, OpenUpload, PartId, StoredObject, StoredPart, Upload};
use crate::error::{Error, ErrorKind, Result};

/// A destination that keeps its objects in memory. Clones share the objects.
///
/// It behaves as S3 does: an object that is stored again is replaced, an upload is gone once it is complete or aborted,
/// and a part but the last must have the store's minimum.
#[derive(Clone, Debug)]
pub struct MemoryDestination {
    state: Arc<Mutex<State>>,
    capabilities: Capabilities,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<ObjectKey, Vec<Bytes>>,
    uploads: BTreeMap<String, Pending>,
    begun: u64,
    parts_taken: u64,
}

#[derive(Debug)]
struct Pending {
    key: ObjectKey,
    parts: BTreeMap<u32, (PartId, Bytes)>,
}

impl Default for MemoryDestination {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryDestination {
    /// Creates an empty destination with S3's limits.
    #[must_use]
    pub fn new() -> Self {
        let capabilities =
            Capabilities { lists_parts: true, lists_uploads: true, checks_parts: false, ..Capabilities::default() };
        Self { state: Arc::default(), capabilities }
    }

    /// Takes parts of any size from so many bytes on; S3 takes 5 MiB and more.
    #[must_use]
    pub fn with_min_part_bytes(mut self, min_part_bytes: usize) -> Self {
        self.capabilities.min_part_bytes = min_part_bytes;
        self
    }

    /// Takes so many parts an object at most; S3 takes 10,000.
    #[must_use]
    pub fn with_max_parts(mut self, max_parts: u32) -> Self {
        self.capabilities.max_parts = max_parts;
        self
    }

    /// Refuses uploads whose parts but the last aren't of one size.
    #[must_use]
    pub fn with_equal_parts(mut self) -> Self {
        self.capabilities.equal_parts = true;
        self
    }

    /// The keys of all objects, in byte order.
    #[must_use]
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.lock().objects.keys().cloned().collect()
    }

    /// An object's bytes; `None` if there is none.
    #[must_use]
    pub fn object(&self, key: &ObjectKey) -> Option<Bytes> {
        let state = self.lock();
        let pieces = state.objects.get(key)?;
        match pieces.as_slice() {
            [one] => Some(one.clone()),
            many => Some(many.concat().into()),
        }
    }

    /// How many uploads are neither complete nor aborted.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.lock().uploads.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn upload(&self, key: &ObjectKey, id: String) -> Box<dyn Upload> {
        Box::new(MemoryUpload { destination: self.clone(), key: key.clone(), id })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Destination for MemoryDestination {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn flight_bytes(&self, most_bytes: usize) -> usize {
        most_bytes
    }

    fn url(&self, key: &ObjectKey) -> String {
        format!("memory:///{key}")
    }

    async fn signed_url(&self, _: &ObjectKey, _: Duration) -> Result<Option<String>> {
        Ok(None)
    }

    async fn begin(&self, key: &ObjectKey) -> Result<Box<dyn Upload>> {
        let id = {
            let mut state = self.lock();
            state.begun += 1;
            let id = format!("upload-{}", state.begun);
            state.uploads.insert(id.clone(), Pending { key: key.clone(), parts: BTreeMap::new() });
            id
        };
        Ok(self.upload(key, id))
    }

    async fn put(&self, key: &ObjectKey, payload: PutPayload) -> Result<()> {
        let bytes = copied(&payload);
        self.lock().objects.insert(key.clone(), vec![bytes]);
        Ok(())
    }

    async fn list(&self, folder: &str) -> Result<Vec<StoredObject>> {
        let state = self.lock();
        let below = state.objects.iter().filter(|(key, _)| key.as_str().starts_with(folder));
        Ok(below.map(|(key, pieces)| StoredObject { key: key.clone(), size_bytes: total_bytes(pieces) }).collect())
    }

    async fn size_bytes(&self, key: &ObjectKey) -> Result<Option<u64>> {
        Ok(self.lock().objects.get(key).map(|pieces| total_bytes(pieces)))
    }

    async fn get(&self, key: &ObjectKey) -> Result<BoxStream<'static, Result<Bytes>>> {
        let pieces = self.lock().objects.get(key).cloned();
        let Some(pieces) = pieces else {
            return Err(Error::new(ErrorKind::NotFound, "there is no such object").with("object", key));
        };
        Ok(stream::iter(pieces.into_iter().map(Ok)).boxed())
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.lock().objects.remove(key);
        Ok(())
    }

    async fn open_uploads(&self, folder: &str) -> Result<Option<Vec<OpenUpload>>> {
        let state = self.lock();
        let below = state.uploads.iter().filter(|(_, pending)| pending.key.as_str().starts_with(folder));
        let mut open: Vec<_> =
            below.map(|(id, pending)| OpenUpload { key: pending.key.clone(), upload_id: id.clone() }).collect();
        open.sort_by(|a, b| (&a.key, &a.upload_id).cmp(&(&b.key, &b.upload_id)));
        Ok(Some(open))
    }

    async fn reopen(&self, key: &ObjectKey, upload_id: &str) -> Result<Box<dyn Upload>> {
        let known = self.lock().uploads.get(upload_id).is_some_and(|pending| pending.key == *key);
        if !known {
            return Err(gone(key, upload_id));
        }
        Ok(self.upload(key, upload_id.to_owned()))
    }
}

#[derive(Debug)]
struct MemoryUpload {
    destination: MemoryDestination,
    key: ObjectKey,
    id: String,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Upload for MemoryUpload {
    fn id(&self) -> &str {
        &self.id
    }

    async fn put_part(&self, number: u32, payload: PutPayload) -> Result<PartId> {
        let max_parts = self.destination.capabilities.max_parts;
        if number == 0 || number > max_parts {
            return Err(self.refusal(format!("a part's number is 1 to {max_parts}")).with("part", number));
        }
        let bytes = copied(&payload);
        let mut state = self.destination.lock();
        state.parts_taken += 1;
        // A part that is sent again has another name, as an ETag of other bytes would be.
        let id = PartId(format!("{number}-{}", state.parts_taken));
        let Some(pending) = state.uploads.get_mut(&self.id) else { return Err(gone(&self.key, &self.id)) };
        pending.parts.insert(number, (id.clone(), bytes));
        Ok(id)
    }

    async fn complete(&self, parts: &[PartId]) -> Result<()> {
        let mut state = self.destination.lock();
        let Some(pending) = state.uploads.get(&self.id) else { return Err(gone(&self.key, &self.id)) };
        let pieces = self.judge(pending, parts)?;
        state.uploads.remove(&self.id);
        state.objects.insert(self.key.clone(), pieces);
        Ok(())
    }

    async fn abort(&self) -> Result<()> {
        self.destination.lock().uploads.remove(&self.id);
        Ok(())
    }

    async fn parts(&self) -> Result<Option<Vec<StoredPart>>> {
        let state = self.destination.lock();
        let Some(pending) = state.uploads.get(&self.id) else { return Ok(Some(Vec::new())) };
        let stored = |(number, (_, bytes)): (&u32, &(PartId, Bytes))| StoredPart {
            number: *number,
            size_bytes: total_bytes(std::slice::from_ref(bytes)),
            crc64nvme: None,
        };
        Ok(Some(pending.parts.iter().map(stored).collect()))
    }
}

impl MemoryUpload {
    /// Checks a list of parts as S3 does and returns their bytes.
    fn judge(&self, pending: &Pending, parts: &[PartId]) -> Result<Vec<Bytes>> {
        if parts.is_empty() {
            return Err(self.refusal("an object can't be completed of no part"));
        }
        let mut pieces = Vec::with_capacity(parts.len());
        for (number, part) in (1_u32..).zip(parts) {
            match pending.parts.get(&number) {
                Some((id, bytes)) if id == part => pieces.push(bytes.clone()),
                Some(_) => return Err(self.refusal("the part isn't the one that was stored").with("part", number)),
                None => return Err(self.refusal("a part is missing").with("part", number)),
            }
        }
        let capabilities = self.destination.capabilities;
        let all_but_last = pieces.split_last().map_or(&[][..], |(_, rest)| rest);
        if all_but_last.iter().any(|piece| piece.len() < capabilities.min_part_bytes) {
            return Err(self.refusal("a part but the last is smaller than the store's minimum"));
        }
        if capabilities.equal_parts
            && all_but_last.windows(2).any(|pair| pair.first().map(Bytes::len) != pair.last().map(Bytes::len))
        {
            return Err(self.refusal("the parts aren't of one size"));
        }
        Ok(pieces)
    }

    fn refusal(&self, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Store, message).with("object", &self.key).with("upload", &self.id)
    }
}

fn gone(key: &ObjectKey, upload_id: &str) -> Error {
    Error::new(ErrorKind::NotFound, "the upload is complete, aborted or never was")
        .with("object", key)
        .with("upload", upload_id)
}

/// Copies, so that a short slice doesn't keep the whole block in memory that it was cut from.
fn copied(payload: &PutPayload) -> Bytes {
    let mut bytes = Vec::with_capacity(payload.content_length());
    payload.iter().for_each(|chunk| bytes.extend_from_slice(chunk));
    bytes.into()
}

fn total_bytes(pieces: &[Bytes]) -> u64 {
    pieces.iter().map(|piece| piece.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::contract;

    fn key(text: &str) -> ObjectKey {
        ObjectKey::new(text).unwrap()
    }

    #[tokio::test]
    async fn it_keeps_the_contract() {
        contract::check(&MemoryDestination::new().with_min_part_bytes(1000)).await;
    }

    #[tokio::test]
    async fn a_small_part_before_the_last_is_refused() {
        let destination = MemoryDestination::new();
        let upload = destination.begin(&key("a")).await.unwrap();
        let parts =
            [upload.put_part(1, "small".into()).await.unwrap(), upload.put_part(2, "last".into()).await.unwrap()];
        let error = upload.complete(&parts).await.unwrap_err();
        assert!(error.message().contains("minimum"), "{error}");
        assert_eq!((destination.open_count(), destination.keys()), (1, vec![]));
    }

    #[tokio::test]
    async fn a_part_that_was_sent_again_is_known_by_its_new_id_only() {
        let destination = MemoryDestination::new();
        let upload = destination.begin(&key("a")).await.unwrap();
        let old = upload.put_part(1, "old".into()).await.unwrap();
        let new = upload.put_part(1, "new".into()).await.unwrap();
        assert!(upload.complete(&[old]).await.is_err());
        upload.complete(&[new]).await.unwrap();
        assert_eq!(destination.object(&key("a")).unwrap(), "new");
    }

    #[tokio::test]
    async fn unequal_parts_are_refused_where_the_store_wants_equal_ones() {
        let destination = MemoryDestination::new().with_min_part_bytes(1).with_equal_parts();
        let upload = destination.begin(&key("a")).await.unwrap();
        let mut parts = Vec::new();
        for (number, text) in (1..).zip(["ab", "abc", "a"]) {
            parts.push(upload.put_part(number, text.into()).await.unwrap());
        }
        assert!(upload.complete(&parts).await.is_err());
        parts[1] = upload.put_part(2, "cd".into()).await.unwrap();
        upload.complete(&parts).await.unwrap();
    }
}
