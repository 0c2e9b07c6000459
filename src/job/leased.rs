//! A destination that is touched only while the claim on the job stands.
//!
//! Every entry of the journal is checked by the job store, which knows who holds the job. The object store doesn't. So a
//! process that was stopped for longer than its lease must find out by itself, before it goes on with what it was about.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::PutPayload;

use super::store::Lease;
use crate::destination::{Capabilities, Destination, ObjectKey, OpenUpload, PartId, StoredObject, StoredPart, Upload};
use crate::error::{Error, ErrorKind, Result};

/// A destination and the lease that has to stand.
#[derive(Debug)]
pub(super) struct Leased {
    destination: Arc<dyn Destination>,
    lease: Lease,
}

impl Leased {
    pub(super) const fn new(destination: Arc<dyn Destination>, lease: Lease) -> Self {
        Self { destination, lease }
    }

    fn upload(&self, upload: Box<dyn Upload>) -> Box<dyn Upload> {
        Box::new(LeasedUpload { upload, lease: self.lease.clone() })
    }
}

/// Does it while the lease stands, and not a step further.
async fn under<T>(lease: &Lease, act: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        () = lease.lost() => {
            let message = "the claim on the job wasn't renewed in time, and another process may have taken it over";
            Err(Error::new(ErrorKind::Fenced, message))
        }
        done = act => done,
    }
}

#[async_trait]
impl Destination for Leased {
    fn capabilities(&self) -> Capabilities {
        self.destination.capabilities()
    }

    fn flight_bytes(&self, most_bytes: usize) -> usize {
        self.destination.flight_bytes(most_bytes)
    }

    fn url(&self, key: &ObjectKey) -> String {
        self.destination.url(key)
    }

    async fn signed_url(&self, key: &ObjectKey, lifetime: Duration) -> Result<Option<String>> {
        self.destination.signed_url(key, lifetime).await
    }

    async fn begin(&self, key: &ObjectKey) -> Result<Box<dyn Upload>> {
        under(&self.lease, self.destination.begin(key)).await.map(|upload| self.upload(upload))
    }

    async fn put(&self, key: &ObjectKey, payload: PutPayload) -> Result<()> {
        under(&self.lease, self.destination.put(key, payload)).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<StoredObject>> {
        self.destination.list(folder).await
    }

    async fn size_bytes(&self, key: &ObjectKey) -> Result<Option<u64>> {
        self.destination.size_bytes(key).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.destination.get(key).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        under(&self.lease, self.destination.delete(key)).await
    }

    async fn open_uploads(&self, folder: &str) -> Result<Option<Vec<OpenUpload>>> {
        self.destination.open_uploads(folder).await
    }

    async fn reopen(&self, key: &ObjectKey, upload_id: &str) -> Result<Box<dyn Upload>> {
        under(&self.lease, self.destination.reopen(key, upload_id)).await.map(|upload| self.upload(upload))
    }
}

#[derive(Debug)]
struct LeasedUpload {
    upload: Box<dyn Upload>,
    lease: Lease,
}

#[async_trait]
impl Upload for LeasedUpload {
    fn id(&self) -> &str {
        self.upload.id()
    }

    async fn put_part(&self, number: u32, payload: PutPayload) -> Result<PartId> {
        under(&self.lease, self.upload.put_part(number, payload)).await
    }

    async fn complete(&self, parts: &[PartId]) -> Result<()> {
        under(&self.lease, self.upload.complete(parts)).await
    }

    async fn abort(&self) -> Result<()> {
        under(&self.lease, self.upload.abort()).await
    }

    async fn parts(&self) -> Result<Option<Vec<StoredPart>>> {
        self.upload.parts().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::MemoryDestination;

    #[tokio::test]
    async fn behind_its_lease_a_job_touches_nothing() {
        let lease = Lease::lasting(Duration::from_secs(3600));
        let memory = MemoryDestination::new();
        let leased = Leased::new(Arc::new(memory.clone()), lease.clone());
        let key = ObjectKey::new("a/b").unwrap();
        leased.put(&key, PutPayload::from_static(b"x")).await.unwrap();
        let upload = leased.begin(&ObjectKey::new("a/c").unwrap()).await.unwrap();
        lease.lose();
        let fenced = |error: Error| assert_eq!(error.kind(), ErrorKind::Fenced);
        fenced(leased.delete(&key).await.unwrap_err());
        fenced(leased.begin(&key).await.map(drop).unwrap_err());
        fenced(leased.put(&key, PutPayload::from_static(b"yy")).await.unwrap_err());
        fenced(leased.reopen(&key, upload.id()).await.map(drop).unwrap_err());
        fenced(upload.put_part(1, PutPayload::from_static(b"x")).await.map(drop).unwrap_err());
        fenced(upload.complete(&[]).await.unwrap_err());
        fenced(upload.abort().await.unwrap_err());
        assert_eq!(memory.size_bytes(&key).await.unwrap(), Some(1));
        assert_eq!(memory.open_uploads("").await.unwrap().unwrap().len(), 1);
    }
}
