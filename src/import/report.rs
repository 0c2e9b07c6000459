//! What becomes of a load.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Written;
use crate::error::Error;

/// The books of a load: what became of every resource that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Everything that was read.
    pub read: u64,
    /// Its bytes, with a line feed each.
    pub bytes: u64,
    /// Resources that weren't there.
    pub inserted: u64,
    /// Resources that took the place of an older version.
    pub replaced: u64,
    /// Resources that were left out for what is there.
    pub kept: u64,
    /// What isn't a resource with an id.
    pub refused: u64,
}

impl Totals {
    /// Whether everything that was read has been accounted for.
    #[must_use]
    pub const fn balances(&self) -> bool {
        self.read == self.inserted + self.replaced + self.kept + self.refused
    }

    pub(super) const fn add_written(&mut self, written: Written) {
        self.inserted += written.inserted;
        self.replaced += written.replaced;
        self.kept += written.kept;
    }

    pub(super) const fn add(&mut self, other: Self) {
        self.read += other.read;
        self.bytes += other.bytes;
        self.inserted += other.inserted;
        self.replaced += other.replaced;
        self.kept += other.kept;
        self.refused += other.refused;
    }
}

/// How far one file of a load has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileProgress {
    /// What tells this version of the file from another, if its source says so.
    pub version: Option<String>,
    /// The cursor of its source to go on from.
    pub cursor: Vec<u8>,
    /// Lines before it.
    pub lines: u64,
    /// The books up to it.
    pub totals: Totals,
    /// Whether all of it was loaded.
    pub is_done: bool,
}

/// Something that can't be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The file, or range of the source.
    pub file: String,
    /// Its line, from 1; of rows, its number.
    pub line: u64,
    /// Its length, in bytes.
    pub length_bytes: u64,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} ({} bytes)", self.file, self.line, self.reason, self.length_bytes)
    }
}

/// What a load tells while it goes on.
#[derive(Debug)]
pub enum Event<'e> {
    /// It has come so far.
    Progress {
        /// The books.
        totals: &'e Totals,
        /// Files that are done.
        files_done: usize,
        /// All files.
        files: usize,
    },
    /// Something can't be kept.
    Refused(&'e Refused),
    /// A file can't be read to its end.
    Unreadable(&'e str, &'e Error),
    /// Everything is written; what is built behind that is built.
    Finishing,
}

/// How a load ended.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// The books.
    pub totals: Totals,
    /// Files that were there.
    pub files: usize,
    /// Files that can't be read to their end, and why. What could be read of them was loaded.
    pub unreadable: Vec<(String, Error)>,
    /// Resources that an earlier attempt had loaded; they are part of the totals.
    pub before: u64,
}

impl LoadReport {
    /// Whether everything that was there was loaded.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.totals.refused == 0 && self.unreadable.is_empty()
    }
}
