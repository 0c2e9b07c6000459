//! What became of an object.

use super::checksum::Crc64;
use super::naming::Content;
use crate::destination::ObjectKey;
use crate::error::Error;
use crate::ledger::{Count, Mark, Position};

/// Why an object is the one it is in its type's sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceReason {
    /// It is the first.
    First,
    /// The one before had used up the store's parts.
    Parts,
    /// The one before had reached the size or the number of resources that was asked for.
    Split,
    /// Neither memory nor the spill area had room for more open parts.
    Memory,
    /// The one before was sealed, and the job went on.
    Continued,
}

impl SequenceReason {
    /// All reasons.
    pub const ALL: [Self; 5] = [Self::First, Self::Parts, Self::Split, Self::Memory, Self::Continued];

    /// The name in manifests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Parts => "parts",
            Self::Split => "split",
            Self::Memory => "memory",
            Self::Continued => "continued",
        }
    }
}

/// An object that is visible in the store.
#[derive(Clone, Debug)]
pub struct ObjectReport {
    /// Its key below the destination's prefix.
    pub key: ObjectKey,
    /// What it holds.
    pub content: Content,
    /// Its place in the sequence of its type's objects.
    pub sequence: u32,
    /// Why it isn't the one before.
    pub reason: SequenceReason,
    /// Resources in it, and their bytes before compression.
    pub count: Count,
    /// CRC64NVME and size of it as it stands in the store.
    pub crc: Crc64,
    /// Number of parts it was sent in; 0 for a single put.
    pub parts: u32,
    /// Set when the type goes on in the snapshot behind what is in the object.
    pub partial: Option<Position>,
}

/// How the writing of one object ended.
#[derive(Debug)]
pub enum ObjectOutcome {
    /// The object is visible, whole or sealed.
    Visible {
        /// The object.
        report: ObjectReport,
        /// The books behind its last resource.
        mark: Box<Mark>,
        /// What was handed over.
        accepted: Count,
    },
    /// There is no object and nothing is left in the store.
    Nothing {
        /// What it would have held.
        content: Content,
        /// Its place in the sequence of its type's objects.
        sequence: u32,
        /// What was handed over.
        accepted: Count,
    },
    /// The store didn't answer or refused: something may be left.
    Failed {
        /// What it would have held.
        content: Content,
        /// Its place in the sequence of its type's objects.
        sequence: u32,
        /// What was handed over.
        accepted: Count,
        /// What may be left.
        left: Leftover,
        /// Why.
        error: Error,
    },
}

impl ObjectOutcome {
    /// What the object holds or would have held.
    #[must_use]
    pub const fn content(&self) -> &Content {
        match self {
            Self::Visible { report, .. } => &report.content,
            Self::Nothing { content, .. } | Self::Failed { content, .. } => content,
        }
    }

    /// The place in the sequence of the type's objects.
    #[must_use]
    pub const fn sequence(&self) -> u32 {
        match self {
            Self::Visible { report, .. } => report.sequence,
            Self::Nothing { sequence, .. } | Self::Failed { sequence, .. } => *sequence,
        }
    }

    /// What was handed over to the object.
    #[must_use]
    pub const fn accepted(&self) -> Count {
        match self {
            Self::Visible { accepted, .. } | Self::Nothing { accepted, .. } | Self::Failed { accepted, .. } => {
                *accepted
            }
        }
    }

    /// What of it is in the store for good.
    #[must_use]
    pub const fn durable(&self) -> Count {
        match self {
            Self::Visible { report, .. } => report.count,
            Self::Nothing { .. } | Self::Failed { .. } => Count::new(0, 0),
        }
    }
}

/// Something that may be left in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The key of the object.
    pub key: ObjectKey,
    /// The store's id of its upload, if one had begun.
    pub upload_id: Option<String>,
}
