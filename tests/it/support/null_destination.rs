//! A destination that keeps sizes and checksums of objects and drops their bytes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use fhir_export::destination::{
    Capabilities, Destination, ObjectKey, OpenUpload, PartId, StoredObject, StoredPart, Upload,
};
use fhir_export::writer::Crc64;
use fhir_export::{Error, ErrorKind, Result};
use futures::stream::BoxStream;
use object_store::PutPayload;

/// Clones share what is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct NullDestination(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<ObjectKey, Crc64>,
    uploads: BTreeMap<String, ObjectKey>,
    parts: BTreeMap<(String, u32), Crc64>,
    begun: u64,
}

impl NullDestination {
    /// Checksums and sizes of the objects.
    pub(crate) fn objects(&self) -> BTreeMap<ObjectKey, Crc64> {
        self.lock().objects.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn upload(&self, key: &ObjectKey, id: String) -> Box<dyn Upload> {
        Box::new(NullUpload { destination: self.clone(), key: key.clone(), id })
    }
}

#[async_trait]
impl Destination for NullDestination {
    fn capabilities(&self) -> Capabilities {
        Capabilities { lists_uploads: true, ..Capabilities::default() }
    }

    fn url(&self, key: &ObjectKey) -> String {
        format!("null:///{key}")
    }

    async fn begin(&self, key: &ObjectKey) -> Result<Box<dyn Upload>> {
        let id = {
            let mut state = self.lock();
            state.begun += 1;
            let id = state.begun.to_string();
            state.uploads.insert(id.clone(), key.clone());
            id
        };
        Ok(self.upload(key, id))
    }

    async fn put(&self, key: &ObjectKey, payload: PutPayload) -> Result<()> {
        let crc = Crc64::of(payload.iter());
        self.lock().objects.insert(key.clone(), crc);
        Ok(())
    }

    async fn list(&self, folder: &str) -> Result<Vec<StoredObject>> {
        let state = self.lock();
        let below = state.objects.iter().filter(|(key, _)| key.as_str().starts_with(folder));
        Ok(below.map(|(key, crc)| StoredObject { key: key.clone(), size_bytes: crc.length_bytes() }).collect())
    }

    async fn size_bytes(&self, key: &ObjectKey) -> Result<Option<u64>> {
        Ok(self.lock().objects.get(key).map(|crc| crc.length_bytes()))
    }

    async fn get(&self, key: &ObjectKey) -> Result<BoxStream<'static, Result<Bytes>>> {
        Err(Error::new(ErrorKind::NotFound, "no bytes are kept").with("object", key))
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.lock().objects.remove(key);
        Ok(())
    }

    async fn open_uploads(&self, folder: &str) -> Result<Option<Vec<OpenUpload>>> {
        let state = self.lock();
        let below = state.uploads.iter().filter(|(_, key)| key.as_str().starts_with(folder));
        Ok(Some(below.map(|(id, key)| OpenUpload { key: key.clone(), upload_id: id.clone() }).collect()))
    }

    async fn reopen(&self, key: &ObjectKey, upload_id: &str) -> Result<Box<dyn Upload>> {
        Ok(self.upload(key, upload_id.to_owned()))
    }
}

#[derive(Debug)]
struct NullUpload {
    destination: NullDestination,
    key: ObjectKey,
    id: String,
}

#[async_trait]
impl Upload for NullUpload {
    fn id(&self) -> &str {
        &self.id
    }

    async fn put_part(&self, number: u32, payload: PutPayload) -> Result<PartId> {
        let crc = Crc64::of(payload.iter());
        self.destination.lock().parts.insert((self.id.clone(), number), crc);
        Ok(PartId(number.to_string()))
    }

    async fn complete(&self, parts: &[PartId]) -> Result<()> {
        let mut state = self.destination.lock();
        let mut whole = Crc64::default();
        for part in parts {
            let sent = state.parts.remove(&(self.id.clone(), part.0.parse().unwrap()));
            whole = whole.then(sent.expect("only parts that were sent are completed"));
        }
        state.uploads.remove(&self.id);
        state.objects.insert(self.key.clone(), whole);
        Ok(())
    }

    async fn abort(&self) -> Result<()> {
        self.destination.lock().uploads.remove(&self.id);
        Ok(())
    }

    async fn parts(&self) -> Result<Option<Vec<StoredPart>>> {
        Ok(None)
    }
}
