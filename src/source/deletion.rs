//! Resources that are no more.

use async_trait::async_trait;

use crate::error::Result;
use crate::fhir::{Instant, ResourceType};

/// A resource that was deleted and that the snapshot doesn't hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// Its type.
    pub resource_type: ResourceType,
    /// Its id.
    pub id: String,
    /// When it was deleted.
    pub deleted_at: Instant,
    /// The ids of the patients in whose compartment it was; `None`: nobody knows, so that it can't be told whether it
    /// belonged to a Group. Of a Patient its own id counts, whatever stands here.
    pub patients: Option<Vec<String>>,
}

/// Takes what a source reports as deleted.
#[async_trait]
pub trait DeletionSink: Send {
    /// Takes one resource that was deleted.
    ///
    /// # Errors
    /// When the job is over: hand the error on.
    async fn deleted(&mut self, tombstone: Tombstone) -> Result<()>;
}
