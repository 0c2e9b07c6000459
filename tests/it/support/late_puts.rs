//! A destination that carries out a put whether or not anybody waits for its answer, as a server does.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fhir_export::Result;
use fhir_export::destination::{
    Capabilities, Destination, MemoryDestination, ObjectKey, OpenUpload, StoredObject, Upload,
};
use fhir_export::job::{JobControl, OnCancel};
use futures::stream::BoxStream;
use object_store::PutPayload;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// How long a put takes. Any time will do: the job is cancelled when the put begins.
const A_WHILE: Duration = Duration::from_millis(30);

/// Memory whose puts take a while, and cancel the job when the first of them begins.
#[derive(Clone, Debug)]
pub(crate) struct LatePuts {
    pub(crate) memory: MemoryDestination,
    pub(crate) control: Arc<OnceLock<JobControl>>,
    on_cancel: OnCancel,
    puts: Arc<Mutex<JoinSet<()>>>,
}

impl LatePuts {
    pub(crate) fn new(memory: MemoryDestination, on_cancel: OnCancel) -> Self {
        Self { memory, control: Arc::default(), on_cancel, puts: Arc::default() }
    }

    /// Waits until every put that was ever asked for is carried out.
    pub(crate) async fn settled(&self) {
        let mut puts = self.puts.lock().await;
        while puts.join_next().await.is_some() {}
    }
}

#[async_trait]
impl Destination for LatePuts {
    fn capabilities(&self) -> Capabilities {
        self.memory.capabilities()
    }

    fn url(&self, key: &ObjectKey) -> String {
        self.memory.url(key)
    }

    async fn begin(&self, key: &ObjectKey) -> Result<Box<dyn Upload>> {
        self.memory.begin(key).await
    }

    async fn put(&self, key: &ObjectKey, payload: PutPayload) -> Result<()> {
        let (memory, own_key) = (self.memory.clone(), key.clone());
        let (done, answer) = tokio::sync::oneshot::channel();
        self.puts.lock().await.spawn(async move {
            tokio::time::sleep(A_WHILE).await;
            // Nobody may wait for it any more.
            drop(done.send(memory.put(&own_key, payload).await));
        });
        if let Some(control) = self.control.get() {
            control.cancel_and(self.on_cancel);
        }
        answer.await.unwrap()
    }

    async fn list(&self, folder: &str) -> Result<Vec<StoredObject>> {
        self.memory.list(folder).await
    }

    async fn size_bytes(&self, key: &ObjectKey) -> Result<Option<u64>> {
        self.memory.size_bytes(key).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.memory.get(key).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.memory.delete(key).await
    }

    async fn open_uploads(&self, folder: &str) -> Result<Option<Vec<OpenUpload>>> {
        self.memory.open_uploads(folder).await
    }

    async fn reopen(&self, key: &ObjectKey, upload_id: &str) -> Result<Box<dyn Upload>> {
        self.memory.reopen(key, upload_id).await
    }
}
