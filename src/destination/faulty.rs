//! Destinations that fail on purpose, for tests.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::PutPayload;

use super::retry::RetryCause;
use super::{Capabilities, Destination, ObjectKey, OpenUpload, PartId, StoredObject, StoredPart, Upload};
use crate::error::{Error, ErrorKind, Result};

/// What happens to a call.
#[derive(Clone)]
pub enum Fault {
    /// It fails for good, and does nothing.
    Fail(ErrorKind),
    /// It fails for a passing cause, and does nothing.
    FailFor(RetryCause),
    /// It does what it should, and its answer is lost.
    LoseAnswer,
    /// It never answers, and does nothing.
    Stall,
    /// This is run before it, such as the cancelling of a job.
    Run(Arc<dyn Fn() + Send + Sync>),
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail(kind) => f.debug_tuple("Fail").field(kind).finish(),
            Self::FailFor(cause) => f.debug_tuple("FailFor").field(cause).finish(),
            Self::LoseAnswer => f.write_str("LoseAnswer"),
            Self::Stall => f.write_str("Stall"),
            Self::Run(_) => f.write_str("Run"),
        }
    }
}

/// A call that a [`FaultyDestination`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "named after the methods")]
pub enum Call {
    Begin,
    Put,
    List,
    SizeBytes,
    Get,
    Delete,
    OpenUploads,
    Reopen,
    PutPart,
    Complete,
    Abort,
    Parts,
}

/// Counts the calls of another destination and its uploads, from 1, and lets chosen ones fail.
#[derive(Debug)]
pub struct FaultyDestination<D> {
    destination: D,
    script: Arc<Script>,
}

#[derive(Debug, Default)]
struct Script {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<Call>,
    at: BTreeMap<usize, Fault>,
    from: BTreeMap<usize, Fault>,
    on: Vec<(Call, usize, Fault)>,
}

impl<D: Destination> FaultyDestination<D> {
    /// Wraps a destination; nothing fails yet.
    #[must_use]
    pub fn new(destination: D) -> Self {
        Self { destination, script: Arc::default() }
    }

    /// Lets one call fail, by its number among all calls.
    #[must_use]
    pub fn with_fault_at(self, number: usize, fault: Fault) -> Self {
        self.script.lock().at.insert(number, fault);
        self
    }

    /// Lets this call and all after it fail.
    #[must_use]
    pub fn with_fault_from(self, number: usize, fault: Fault) -> Self {
        self.script.lock().from.insert(number, fault);
        self
    }

    /// Lets the `number`-th call of one method fail, from 1.
    #[must_use]
    pub fn with_fault_on(self, call: Call, number: usize, fault: Fault) -> Self {
        self.script.lock().on.push((call, number, fault));
        self
    }

    /// The calls so far, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.script.lock().calls.clone()
    }

    /// How many calls of one method there were.
    #[must_use]
    pub fn count(&self, call: Call) -> usize {
        self.script.lock().count(call)
    }

    /// The destination behind.
    #[must_use]
    pub const fn inner(&self) -> &D {
        &self.destination
    }

    fn upload(&self, upload: Box<dyn Upload>) -> Box<dyn Upload> {
        Box::new(FaultyUpload { upload, script: Arc::clone(&self.script) })
    }
}

impl State {
    fn count(&self, call: Call) -> usize {
        self.calls.iter().filter(|seen| **seen == call).count()
    }

    fn next_fault(&mut self, call: Call) -> (usize, Option<Fault>) {
        self.calls.push(call);
        let (number, of_method) = (self.calls.len(), self.count(call));
        let on = self.on.iter().find(|(method, nth, _)| *method == call && *nth == of_method);
        let at = self.at.get(&number).or_else(|| on.map(|(_, _, fault)| fault));
        let fault = at.or_else(|| self.from.range(..=number).next_back().map(|(_, fault)| fault));
        (number, fault.cloned())
    }
}

impl Script {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call<T>(&self, call: Call, act: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let (number, fault) = self.lock().next_fault(call);
        let error = |kind| {
            Error::new(kind, "the call failed on purpose").with("call", number).with("method", format!("{call:?}"))
        };
        match fault {
            None => act.await,
            Some(Fault::Fail(kind)) => Err(error(kind)),
            Some(Fault::FailFor(cause)) => Err(cause.mark(error(ErrorKind::Store))),
            Some(Fault::LoseAnswer) => {
                drop(act.await?);
                Err(RetryCause::Connection.mark(error(ErrorKind::Store)))
            }
            Some(Fault::Stall) => std::future::pending().await,
            Some(Fault::Run(run)) => {
                run();
                act.await
            }
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<D: Destination> Destination for FaultyDestination<D> {
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
        let upload = self.script.call(Call::Begin, self.destination.begin(key)).await?;
        Ok(self.upload(upload))
    }

    async fn put(&self, key: &ObjectKey, payload: PutPayload) -> Result<()> {
        self.script.call(Call::Put, self.destination.put(key, payload)).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<StoredObject>> {
        self.script.call(Call::List, self.destination.list(folder)).await
    }

    async fn size_bytes(&self, key: &ObjectKey) -> Result<Option<u64>> {
        self.script.call(Call::SizeBytes, self.destination.size_bytes(key)).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.script.call(Call::Get, self.destination.get(key)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.script.call(Call::Delete, self.destination.delete(key)).await
    }

    async fn open_uploads(&self, folder: &str) -> Result<Option<Vec<OpenUpload>>> {
        self.script.call(Call::OpenUploads, self.destination.open_uploads(folder)).await
    }

    async fn reopen(&self, key: &ObjectKey, upload_id: &str) -> Result<Box<dyn Upload>> {
        let upload = self.script.call(Call::Reopen, self.destination.reopen(key, upload_id)).await?;
        Ok(self.upload(upload))
    }
}

#[derive(Debug)]
struct FaultyUpload {
    upload: Box<dyn Upload>,
    script: Arc<Script>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Upload for FaultyUpload {
    fn id(&self) -> &str {
        self.upload.id()
    }

    async fn put_part(&self, number: u32, payload: PutPayload) -> Result<PartId> {
        self.script.call(Call::PutPart, self.upload.put_part(number, payload)).await
    }

    async fn complete(&self, parts: &[PartId]) -> Result<()> {
        self.script.call(Call::Complete, self.upload.complete(parts)).await
    }

    async fn abort(&self) -> Result<()> {
        self.script.call(Call::Abort, self.upload.abort()).await
    }

    async fn parts(&self) -> Result<Option<Vec<StoredPart>>> {
        self.script.call(Call::Parts, self.upload.parts()).await
    }
}
