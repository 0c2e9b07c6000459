//! One object on its way into the store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::OnceCell;
use tracing::Span;

use super::checksum::Crc64;
use super::courier::{Courier, QueuedPart};
use super::journal::{DurablePart, Entry, ObjectName, WholeObject};
use super::naming::Content;
use super::report::SequenceReason;
use crate::destination::{ObjectKey, PartId, Upload};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Count, Mark};
use crate::metrics::{self, Level};

/// Key, place in the sequence and upload of one object.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) key: ObjectKey,
    pub(super) content: Content,
    pub(super) sequence: u32,
    pub(super) reason: SequenceReason,
    /// What everything is told of within that is done for the object.
    pub(super) span: Span,
    courier: Arc<Courier>,
    upload: OnceCell<OpenUpload>,
    acknowledged: Mutex<Acknowledged>,
}

/// An upload, counted among those that are open.
#[derive(Debug)]
struct OpenUpload {
    upload: Box<dyn Upload>,
    _open: Level,
}

impl OpenUpload {
    fn new(upload: Box<dyn Upload>) -> Self {
        Self { upload, _open: Level::new(&metrics::OPEN_UPLOADS, &[], 1.0) }
    }
}

/// The parts that the store has, as far as they come: those behind a hole are durable only with what is in it.
#[derive(Debug, Default)]
struct Acknowledged {
    unbroken: u32,
    behind_hole: BTreeMap<u32, Count>,
}

impl Object {
    pub(super) fn new(
        courier: Arc<Courier>,
        key: ObjectKey,
        content: Content,
        sequence: u32,
        reason: SequenceReason,
    ) -> Self {
        let span = tracing::info_span!("object", %key, "type" = content.type_name(), sequence);
        let (upload, acknowledged) = (OnceCell::new(), Mutex::default());
        Self { key, content, sequence, reason, span, courier, upload, acknowledged }
    }

    /// Goes on with an upload of which so many parts are durable.
    pub(super) fn resume(&self, upload: Box<dyn Upload>, parts: u32) {
        // Only a new object is resumed.
        drop(self.upload.set(OpenUpload::new(upload)));
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).unbroken = parts;
    }

    fn object_name(&self) -> ObjectName {
        ObjectName { content: self.content.clone(), sequence: self.sequence }
    }

    async fn begin(&self) -> Result<OpenUpload> {
        let upload = self.courier.destination.begin(&self.key).await?;
        let upload_id = upload.id().to_owned();
        let entry = Entry::Begun { object: self.object_name(), reason: self.reason, upload_id };
        match self.courier.note(entry).await {
            Ok(()) => Ok(OpenUpload::new(upload)),
            Err(error) => {
                // Nobody would know of it.
                if error.kind() != ErrorKind::Fenced && upload.abort().await.is_err() {
                    metrics::count_failed_abort();
                    tracing::warn!(object = %self.key, upload = upload.id(), "an upload is left open");
                }
                Err(error)
            }
        }
    }

    /// Sends one part; the upload begins with the first one that departs.
    pub(super) async fn send_part(
        &self,
        number: u32,
        part: QueuedPart,
        count: Count,
        mark: Mark,
    ) -> Result<DurablePart> {
        let parcel = part.depart().await?;
        let request = async {
            let open = self.upload.get_or_try_init(|| self.begin()).await?;
            timed(parcel.crc, open.upload.put_part(number, parcel.payload)).await
        };
        let id = match self.courier.unless_stopped(request).await {
            Ok(id) => id,
            Err(error) => return Err(self.note_failure(error).await),
        };
        drop(parcel.permit);
        self.courier.proven(&self.object_name());
        let part = DurablePart { number, id, crc: parcel.crc, count, mark };
        // Parts of a fixed size cut lines: such an object is begun again, not gone on with.
        if !self.courier.cuts_lines {
            self.courier.note(Entry::Part { object: self.object_name(), part: part.clone() }).await?;
        }
        self.acknowledge(number, count);
        Ok(part)
    }

    /// Counts a part as durable, and those that waited for it.
    fn acknowledge(&self, number: u32, count: Count) {
        let mut acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        acknowledged.behind_hole.insert(number, count);
        loop {
            let next = acknowledged.unbroken + 1;
            let Some(count) = acknowledged.behind_hole.remove(&next) else { return };
            acknowledged.unbroken = next;
            self.courier.durable(&self.content, count);
        }
    }

    /// Stores the whole object in one request.
    ///
    /// A request that is on its way isn't given up when everything stops: it would still be carried out, after the object
    /// was looked for and removed. Whoever calls sets the time limit.
    pub(super) async fn put_whole(&self, part: QueuedPart, whole: impl FnOnce(Crc64) -> WholeObject) -> Result<Crc64> {
        let parcel = part.depart().await?;
        self.note_closing(whole(parcel.crc)).await?;
        let request = timed(parcel.crc, self.courier.destination.put(&self.key, parcel.payload));
        request.await.map_err(|error| self.name(error))?;
        self.note_closed().await?;
        Ok(parcel.crc)
    }

    /// Names the object in an error. Of an upload that is gone nothing can be gone on with: the next attempt must know.
    async fn note_failure(&self, error: Error) -> Error {
        if self.upload.get().is_some() {
            for object in self.courier.gone_with(self.object_name(), error.kind()) {
                if let Err(error) = self.courier.note(Entry::Gone { object }).await {
                    tracing::warn!(object = %self.key, error = format!("{error:#}"), "a lost upload isn't noted");
                }
            }
        }
        self.name(error)
    }

    async fn note_closing(&self, whole: WholeObject) -> Result<()> {
        self.courier.note(Entry::Closing { object: self.object_name(), whole }).await
    }

    async fn note_closed(&self) -> Result<()> {
        self.courier.note(Entry::Closed { object: self.object_name() }).await
    }

    /// Makes the object visible.
    pub(super) async fn complete(&self, parts: &[DurablePart], whole: WholeObject) -> Result<()> {
        let Some(open) = self.upload.get() else {
            return Err(Error::new(ErrorKind::Internal, "an object without an upload can't be completed"));
        };
        let ids: Vec<PartId> = parts.iter().map(|part| part.id.clone()).collect();
        self.note_closing(whole).await?;
        if let Err(error) = open.upload.complete(&ids).await {
            return Err(self.note_failure(error).await);
        }
        self.note_closed().await
    }

    /// Gives the upload up, if it has begun.
    pub(super) async fn abort(&self) -> Result<()> {
        match self.upload.get() {
            Some(open) => open.upload.abort().await.map_err(|error| {
                metrics::count_failed_abort();
                self.name(error)
            }),
            None => Ok(()),
        }
    }

    /// The store's id of the upload, if it has begun.
    pub(super) fn upload_id(&self) -> Option<String> {
        self.upload.get().map(|open| open.upload.id().to_owned())
    }

    pub(super) fn name(&self, error: Error) -> Error {
        if error.context().any(|(name, _)| name == "object") {
            return error;
        }
        error.with("object", &self.key)
    }
}

/// Sends something of this size, and records how long it took.
async fn timed<T>(crc: Crc64, request: impl Future<Output = Result<T>>) -> Result<T> {
    let begun = Instant::now();
    let answer = request.await?;
    metrics::record(&metrics::PUT_SECONDS, &[], begun.elapsed().as_secs_f64());
    metrics::add(&metrics::STORED_PARTS, &[], 1);
    metrics::add(&metrics::STORED_BYTES, &[], crc.length_bytes());
    Ok(answer)
}
