//! What is noted of a job while it runs, so that it survives a crash.
//!
//! The writer notes a part after the store has acknowledged it and before it counts as durable, so whatever is durable can
//! be found again. What was stored and not noted is sent again, under the same number or key: the bytes are the same.
//!
//! Where the notes go is the job's concern: see [`crate::job`].

use std::fmt;

use async_trait::async_trait;

use super::checksum::Crc64;
use super::naming::Content;
use super::report::SequenceReason;
use crate::destination::PartId;
use crate::error::Result;
use crate::ledger::{Count, LedgerRow, Mark};

/// Takes notes of a job.
#[async_trait]
pub trait Journal: fmt::Debug + Send + Sync {
    /// Adds an entry behind those before it. When it returns, a crash of the process doesn't lose the entry.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`](crate::ErrorKind::Fenced) if another process has taken the job over; any other if the entry
    /// can't be stored.
    ///
    /// # Cancellation
    /// The entry may or may not be stored.
    async fn append(&self, entry: Entry) -> Result<()>;
}

/// One object: its type and its place in the sequence of its type's objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    /// What it holds.
    pub content: Content,
    /// Its place in the sequence, from 0.
    pub sequence: u32,
}

/// A part that the store has acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurablePart {
    /// Its number, from 1.
    pub number: u32,
    /// The store's name of it.
    pub id: PartId,
    /// Its checksum and size.
    pub crc: Crc64,
    /// Resources in the part, and their bytes before compression.
    pub count: Count,
    /// The books behind the part's last resource.
    pub mark: Mark,
}

/// An object that is whole as far as it goes, and about to become visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeObject {
    /// Why it isn't the one before.
    pub reason: SequenceReason,
    /// Resources in it, and their bytes before compression.
    pub count: Count,
    /// Its checksum and size.
    pub crc: Crc64,
    /// Number of its parts; 0 for a single put.
    pub parts: u32,
    /// The books behind its last resource.
    pub mark: Mark,
    /// Why its type goes on in another object; `None`: it is the last one.
    pub next: Option<SequenceReason>,
}

/// One entry of a job's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The snapshot: its ranges in order, each with what tells this version of it from another, if its source says so.
    Plan {
        /// Names and versions.
        ranges: Vec<(String, Option<String>)>,
    },
    /// An upload has begun.
    Begun {
        /// Of this object.
        object: ObjectName,
        /// Why it isn't the one before.
        reason: SequenceReason,
        /// The store's id of the upload.
        upload_id: String,
    },
    /// A part is stored.
    Part {
        /// Of this object.
        object: ObjectName,
        /// The part.
        part: DurablePart,
    },
    /// An object is gone on with behind so many parts; whatever was noted of it behind them no longer holds.
    Resumed {
        /// Which.
        object: ObjectName,
        /// How many.
        parts: u32,
    },
    /// An object is about to become visible: noted before the store is asked.
    Closing {
        /// Which.
        object: ObjectName,
        /// What it will be.
        whole: WholeObject,
    },
    /// An object is visible.
    Closed {
        /// Which.
        object: ObjectName,
    },
    /// An object, or what there was of it, is gone: its type goes on before it.
    Gone {
        /// Which.
        object: ObjectName,
    },
    /// A range was fanned out to its end, and so were all before it.
    RangeEnd {
        /// Its name.
        range: String,
        /// Rows that have changed since the last such entry, as of the end of this range. `None`: resources of no known
        /// type.
        rows: Vec<(Option<Content>, LedgerRow)>,
    },
}
