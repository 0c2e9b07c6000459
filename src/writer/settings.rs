//! How objects are written.

use super::part_size::PartSizing;
use super::spill::SpillArea;
use crate::ledger::Count;

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
///
/// Both count lines as they come, before compression, so that the objects don't depend on how quick it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// After the line with which it has at least so many bytes of lines.
    pub bytes: Option<u64>,
    /// After so many resources.
    pub resources: Option<u64>,
}

impl Split {
    /// Whether an object of so much is at its end.
    pub(super) fn is_due(self, held: Count) -> bool {
        self.bytes.is_some_and(|most| held.bytes >= most) || self.resources.is_some_and(|most| held.resources >= most)
    }

    /// As many of the lines as an object that holds `held` takes.
    pub(super) fn limit(self, held: Count, lines: &[u8]) -> &[u8] {
        let by_bytes = self.bytes.map(|most| {
            let least = usize::try_from(most.saturating_sub(held.bytes)).unwrap_or(usize::MAX).saturating_sub(1);
            lines.get(least..).and_then(|rest| memchr::memchr(b'\n', rest)).map_or(lines.len(), |end| least + end + 1)
        });
        let by_resources = self.resources.map(|most| {
            let more = usize::try_from(most.saturating_sub(held.resources)).unwrap_or(usize::MAX);
            memchr::memchr_iter(b'\n', lines).nth(more.saturating_sub(1)).map_or(lines.len(), |end| end + 1)
        });
        let end = by_bytes.into_iter().chain(by_resources).min().unwrap_or(lines.len());
        lines.get(..end).unwrap_or(lines)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &[u8] = b"aaa\nbbb\nccc\n";

    #[test]
    fn an_object_takes_lines_up_to_its_split() {
        let by_resources = Split { resources: Some(5), ..Split::default() };
        assert_eq!(by_resources.limit(Count::new(3, 12), LINES), b"aaa\nbbb\n");
        assert_eq!(by_resources.limit(Count::new(0, 0), LINES), LINES);
        let by_bytes = Split { bytes: Some(5), ..Split::default() };
        assert_eq!(by_bytes.limit(Count::new(0, 0), LINES), b"aaa\nbbb\n");
        assert_eq!(by_bytes.limit(Count::new(1, 4), LINES), b"aaa\n");
        assert_eq!(Split::default().limit(Count::default(), LINES), LINES);
    }

    #[test]
    fn an_object_is_at_its_end_when_it_holds_what_was_asked_for() {
        let split = Split { bytes: Some(10), resources: Some(3) };
        assert!(!split.is_due(Count::new(2, 9)));
        assert!(split.is_due(Count::new(2, 10)) && split.is_due(Count::new(3, 9)));
    }
}
