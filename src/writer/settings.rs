//! How objects are written.

use super::part_size::PartSizing;
use super::spill::SpillArea;

/// Compression of the objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Plain NDJSON.
    #[default]
    None,
    /// gzip, of members cut at line ends, at a level from 1 to 9.
    Gzip {
        /// 1 is fastest, 9 smallest.
        level: u32,
    },
}

impl Compression {
    /// The suffix of object keys.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::None => ".ndjson",
            Self::Gzip { .. } => ".ndjson.gz",
        }
    }
}

/// When an object ends and its type goes on in the next of its sequence, if that was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// After so many bytes as stored, at the next frame end.
    pub bytes: Option<u64>,
    /// After so many resources; of compressed objects, at the next member end.
    pub resources: Option<u64>,
}

/// Everything that the writers of one job go by.
#[derive(Clone, Debug)]
pub struct WriterSettings {
    /// Compression of the objects.
    pub compression: Compression,
    /// Bytes of a stream after which a compressed member ends at the next line end.
    pub member_bytes: usize,
    /// Sizes of parts.
    pub part_sizing: PartSizing,
    /// Smallest part but for the last one that the store takes, in bytes.
    pub min_part_bytes: usize,
    /// Largest number of parts that the store takes.
    pub max_parts: u32,
    /// When objects end early.
    pub split: Split,
    /// Where open parts go that memory has no room for.
    pub spill: SpillArea,
}
