//! Rows on their way into a store, with what it keeps of each beside the body.

use std::ops::Range;

use super::report::{FileProgress, Refused};
use super::{Totals, Written};
use crate::error::Result;
use crate::fhir::{Instant, ResourceType};
use crate::ledger::TypeTable;
use crate::resource::reference::BaseUrls;
use crate::resource::{Facts, LastUpdated, Lines, References, ScanPlan, scan};
use crate::source::RowMark;

/// When a resource was last updated.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stamp {
    /// It has no `lastUpdated`, or one that isn't an instant.
    Unknown {
        /// It has one that isn't an instant.
        is_malformed: bool,
    },
    /// At this instant.
    At(Instant),
}

impl Stamp {
    /// Whether this is later than another; what is unknown is before everything.
    #[must_use]
    pub fn is_after(&self, other: &Self) -> bool {
        self.instant() > other.instant()
    }

    /// The instant, if it is known.
    #[must_use]
    pub const fn instant(&self) -> Option<&Instant> {
        match self {
            Self::Unknown { .. } => None,
            Self::At(instant) => Some(instant),
        }
    }
}

/// One resource of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<'b> {
    /// Its type.
    pub resource_type: &'b ResourceType,
    /// Its id.
    pub id: &'b str,
    /// When it was last updated.
    pub stamp: &'b Stamp,
    /// Its bytes as they came.
    pub body: &'b [u8],
}

/// A compartment reference to a patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link<'b> {
    /// The patient's id.
    pub patient: &'b str,
    /// The base that an absolute reference is on, normalised as [`BaseUrls`] has it; empty if it is relative.
    pub base: &'b str,
}

/// Scanned blocks of one file.
#[derive(Debug)]
pub struct Batch {
    /// The source of the load.
    pub source: String,
    /// The file.
    pub file: String,
    pub(super) progress: FileProgress,
    pub(super) blocks: Vec<Scanned>,
}

impl Batch {
    /// The rows in the order of the file.
    pub fn rows(&self) -> impl Iterator<Item = RowHandle<'_>> {
        self.blocks.iter().flat_map(|block| block.rows.iter().map(move |span| RowHandle { block, span }))
    }

    /// How far the file has come when the rows are written and this has become of them.
    #[must_use]
    pub fn progress_with(&self, written: Written) -> FileProgress {
        let mut progress = self.progress.clone();
        progress.totals.add_written(written);
        progress
    }
}

/// A row of a batch.
#[derive(Clone, Copy, Debug)]
pub struct RowHandle<'b> {
    block: &'b Scanned,
    span: &'b Span,
}

impl<'b> RowHandle<'b> {
    /// The resource.
    #[must_use]
    pub fn row(&self) -> Row<'b> {
        let Self { block, span } = *self;
        Row {
            resource_type: &span.resource_type,
            id: block.text(&span.id),
            stamp: &span.stamp,
            body: block.memory.get(span.body.clone()).unwrap_or_default(),
        }
    }

    /// The patients in whose compartment it is by reference, each once. Of Patients and Groups nobody: their own ids count.
    pub fn links(&self) -> impl Iterator<Item = Link<'b>> + use<'b> {
        let Self { block, span } = *self;
        let links = block.links.get(span.links.clone()).unwrap_or_default();
        links.iter().map(|link| Link { patient: block.text(&link.patient), base: block.text(&link.base) })
    }
}

/// A block of lines or rows and what was found in it.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    memory: Vec<u8>,
    /// Ids, patients and bases.
    texts: String,
    rows: Vec<Span>,
    links: Vec<LinkSpan>,
    /// With the number of the line in the block, from 0.
    pub(super) refused: Vec<Refused>,
    /// Lines of the block, blank ones included.
    pub(super) lines: u64,
    /// Read and refused only.
    pub(super) totals: Totals,
    /// The cursor behind it.
    pub(super) cursor: Vec<u8>,
}

#[derive(Debug)]
struct Span {
    resource_type: ResourceType,
    id: Range<usize>,
    stamp: Stamp,
    body: Range<usize>,
    links: Range<usize>,
}

#[derive(Debug)]
struct LinkSpan {
    patient: Range<usize>,
    base: Range<usize>,
}

/// What lines are scanned by.
#[derive(Debug)]
pub(super) struct Scanner {
    pub(super) plan: ScanPlan,
    pub(super) types: TypeTable,
    pub(super) line_limit_bytes: usize,
}

impl Scanner {
    /// Scans whole lines.
    ///
    /// # Errors
    /// When there are more types than a job may have.
    pub(super) fn lines(&self, memory: Vec<u8>, cursor: Vec<u8>) -> Result<Scanned> {
        let mut scanned = Scanned { cursor, ..Scanned::default() };
        let mut references = References::new();
        let (mut counted_to, mut lines) = (0, 0);
        for line in Lines::new(&memory) {
            let before = memory.get(counted_to..line.span().start).unwrap_or_default();
            lines += memchr::memchr_iter(b'\n', before).count() as u64;
            counted_to = line.span().start;
            let length = line.span().len() - usize::from(memory.get(line.span().end - 1) == Some(&b'\n'));
            if length > self.line_limit_bytes {
                scanned.totals.add(Totals { read: 1, bytes: length as u64 + 1, ..Totals::default() });
                scanned.refuse(lines, length, too_long(self.line_limit_bytes));
                continue;
            }
            self.one(&mut scanned, &memory, line.resource(), lines, &mut references)?;
        }
        let rest = memory.get(counted_to..).unwrap_or_default();
        scanned.lines = lines + memchr::memchr_iter(b'\n', rest).count() as u64;
        scanned.memory = memory;
        Ok(scanned)
    }

    /// Scans whole rows. What its source marks as deleted is left out.
    ///
    /// # Errors
    /// As of [`lines`](Self::lines).
    pub(super) fn rows(&self, memory: Vec<u8>, marks: &[RowMark], cursor: Vec<u8>) -> Result<Scanned> {
        let mut scanned = Scanned { cursor, ..Scanned::default() };
        let mut references = References::new();
        let mut start = 0;
        for mark in marks {
            if !mark.deleted {
                let line = scanned.lines;
                self.one(&mut scanned, &memory, start..mark.end - 1, line, &mut references)?;
            }
            scanned.lines += 1;
            start = mark.end;
        }
        scanned.memory = memory;
        Ok(scanned)
    }

    fn one(
        &self,
        scanned: &mut Scanned,
        memory: &[u8],
        body: Range<usize>,
        line: u64,
        references: &mut References,
    ) -> Result<()> {
        let bytes = memory.get(body.clone()).unwrap_or_default();
        scanned.totals.read += 1;
        scanned.totals.bytes += bytes.len() as u64 + 1;
        match scan(bytes, &self.plan, references) {
            Ok(Facts { resource_type, id: Some(id), last_updated, .. }) if !id.is_empty() => {
                let slot = self.types.slot(&resource_type)?;
                let Some(resource_type) = self.types.resource_type(slot) else { return Ok(()) };
                let links = scanned.add_links(resource_type.as_str(), references);
                let id = scanned.add_text(&id);
                scanned.rows.push(Span { resource_type, id, stamp: stamp(&last_updated), body, links });
            }
            Ok(facts) => {
                let reason = if facts.id.is_some() { "its id is empty" } else { "it has no id" };
                scanned.refuse(line, bytes.len(), format!("{} can't be kept: {reason}", facts.resource_type));
            }
            Err(defect) => scanned.refuse(line, bytes.len(), defect.to_string()),
        }
        Ok(())
    }
}

fn too_long(limit_bytes: usize) -> String {
    format!("longer than the line limit of {limit_bytes} bytes")
}

fn stamp(last_updated: &LastUpdated<'_>) -> Stamp {
    match last_updated {
        LastUpdated::Missing => Stamp::Unknown { is_malformed: false },
        LastUpdated::NotText => Stamp::Unknown { is_malformed: true },
        LastUpdated::Text(text) => Instant::parse(text).map_or(Stamp::Unknown { is_malformed: true }, Stamp::At),
    }
}

impl Scanned {
    /// A line that was passed over because of its length.
    pub(super) fn too_long(length_bytes: u64, limit_bytes: usize, cursor: Vec<u8>) -> Self {
        let mut scanned = Self { lines: 1, cursor, ..Self::default() };
        scanned.totals = Totals { read: 1, bytes: length_bytes + 1, ..Totals::default() };
        let length = usize::try_from(length_bytes).unwrap_or(usize::MAX);
        scanned.refuse(0, length, too_long(limit_bytes));
        scanned
    }

    fn refuse(&mut self, line: u64, length: usize, reason: String) {
        self.totals.refused += 1;
        self.refused.push(Refused { file: String::new(), line, length_bytes: length as u64, reason });
    }

    fn text(&self, range: &Range<usize>) -> &str {
        self.texts.get(range.clone()).unwrap_or_default()
    }

    fn add_text(&mut self, text: &str) -> Range<usize> {
        let start = self.texts.len();
        self.texts.push_str(text);
        start..self.texts.len()
    }

    fn add_links(&mut self, type_name: &str, references: &References) -> Range<usize> {
        let start = self.links.len();
        if matches!(type_name, "Patient" | "Group") {
            return start..start;
        }
        for reference in references.iter() {
            let Some((base, "Patient", id)) = BaseUrls::take_apart(reference) else { continue };
            let known = self.links.get(start..).unwrap_or_default();
            if known.iter().any(|link| self.text(&link.patient) == id && self.text(&link.base) == base) {
                continue;
            }
            let (patient, base) = (self.add_text(id), self.add_text(&base));
            self.links.push(LinkSpan { patient, base });
        }
        start..self.links.len()
    }

    /// Its first row.
    #[cfg(feature = "sqlite")]
    pub(super) fn first(&self) -> Option<RowHandle<'_>> {
        self.rows.first().map(|span| RowHandle { block: self, span })
    }

    pub(super) fn bytes(&self) -> usize {
        self.memory.len()
    }
}
