//! One object on its way into the store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::checksum::Crc64;
use super::courier::{Courier, QueuedPart};
use super::naming::Content;
use super::report::SequenceReason;
use crate::destination::{ObjectKey, PartId, Upload};
use crate::error::{Error, Result};
use crate::ledger::{Count, Mark};

/// Key, place in the sequence and upload of one object.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) key: ObjectKey,
    pub(super) content: Content,
    pub(super) sequence: u32,
    pub(super) reason: SequenceReason,
    courier: Arc<Courier>,
    upload: OnceCell<Box<dyn Upload>>,
    acknowledged: Mutex<Acknowledged>,
}

/// The parts that the store has, as far as they come: those behind a hole are durable only with what is in it.
#[derive(Debug, Default)]
struct Acknowledged {
    unbroken: u32,
    behind_hole: BTreeMap<u32, Count>,
}

/// A part that the store has acknowledged.
#[derive(Debug, Clone)]
pub(super) struct DurablePart {
    pub(super) number: u32,
    pub(super) id: PartId,
    pub(super) crc: Crc64,
    /// Resources in the part, and their bytes before compression.
    pub(super) count: Count,
    /// The books behind the part's last resource.
    pub(super) mark: Mark,
}

impl Object {
    pub(super) fn new(
        courier: Arc<Courier>,
        key: ObjectKey,
        content: Content,
        sequence: u32,
        reason: SequenceReason,
    ) -> Self {
        Self { key, content, sequence, reason, courier, upload: OnceCell::new(), acknowledged: Mutex::default() }
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
            let upload = self.upload.get_or_try_init(|| self.courier.destination.begin(&self.key)).await?;
            upload.put_part(number, parcel.payload).await
        };
        let id = self.courier.unless_stopped(request).await.map_err(|error| self.name(error))?;
        drop(parcel.permit);
        self.acknowledge(number, count);
        Ok(DurablePart { number, id, crc: parcel.crc, count, mark })
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
    pub(super) async fn put_whole(&self, part: QueuedPart) -> Result<Crc64> {
        let parcel = part.depart().await?;
        let request = self.courier.destination.put(&self.key, parcel.payload);
        self.courier.unless_stopped(request).await.map_err(|error| self.name(error))?;
        Ok(parcel.crc)
    }

    /// Makes the object visible.
    pub(super) async fn complete(&self, parts: &[DurablePart]) -> Result<()> {
        let Some(upload) = self.upload.get() else {
            return Err(Error::new(crate::ErrorKind::Internal, "an object without an upload can't be completed"));
        };
        let ids: Vec<PartId> = parts.iter().map(|part| part.id.clone()).collect();
        upload.complete(&ids).await.map_err(|error| self.name(error))
    }

    /// Gives the upload up, if it has begun.
    pub(super) async fn abort(&self) -> Result<()> {
        match self.upload.get() {
            Some(upload) => upload.abort().await.map_err(|error| self.name(error)),
            None => Ok(()),
        }
    }

    /// The store's id of the upload, if it has begun.
    pub(super) fn upload_id(&self) -> Option<String> {
        self.upload.get().map(|upload| upload.id().to_owned())
    }

    pub(super) fn name(&self, error: Error) -> Error {
        if error.context().any(|(name, _)| name == "object") {
            return error;
        }
        error.with("object", &self.key)
    }
}
