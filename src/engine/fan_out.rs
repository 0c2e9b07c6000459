//! Fan-out: sifted blocks in the snapshot's order to the objects of their types, every resource to its fate.

use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::deletions::ToldBefore;
use super::outcome::{self, Place};
use super::restart::{Point, ReadFrom, Restart};
use super::sift::{Reason, Run, Sieve, Sifted, SiftedBlock};
use crate::budget::{Buffers, Memory, Permit};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::DeletionVerdict;
use crate::ledger::{Books, Count, END_OF_RANGE, Fate, LedgerRow, Notes, Origin, Slot};
use crate::source::Tombstone;
use crate::writer::{Content, Entry, Lines, Writers};

/// Bytes of resources after which the end of a range is noted: a job that goes on reads so much again, more or less, of
/// ranges of which everything is durable.
const NOTED_AFTER_BYTES: u64 = 4 << 20;

/// Stands for a range behind all others, where the job adds what it has to say of itself to the error report.
pub(crate) const BEHIND_ALL: &str = "\0end";

/// Least bytes of one type that are handed on as slices of their block; fewer are copied.
const LEAST_SLICED_BYTES: u64 = 64 << 10;

/// What becomes of resources that aren't understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBad {
    /// They are reported, and the job ends with errors.
    #[default]
    Quarantine,
    /// The first one ends the job.
    Fail,
}

/// Takes sifted blocks and keeps the books.
#[derive(Debug)]
pub(super) struct FanOut {
    pub(super) writers: Writers,
    pub(super) books: Books,
    /// Resources that were deleted and left out because it isn't known whose they were.
    pub(super) of_unknown_patients: u64,
    pub(super) told_before: ToldBefore,
    /// Errors that the report lists: the job can't end without them being told.
    pub(super) errors: u64,
    sieve: Arc<Sieve>,
    buffers: Buffers,
    on_bad: OnBad,
    pub(super) halt: CancellationToken,
    contents: Vec<Option<Content>>,
    noted: Noted,
}

/// What the journal knows of the books.
#[derive(Debug, Default)]
struct Noted {
    range_index: usize,
    first: usize,
    rows: Vec<LedgerRow>,
    bytes_since: u64,
}

impl Noted {
    fn row_mut(&mut self, slot: Slot) -> &mut LedgerRow {
        if self.rows.len() <= slot.index() {
            self.rows.resize(slot.index() + 1, LedgerRow::default());
        }
        #[expect(clippy::indexing_slicing, reason = "resized above")]
        &mut self.rows[slot.index()]
    }
}

/// A block that is being fanned out.
#[derive(Debug)]
struct Current<'b> {
    range: &'b Arc<str>,
    origin: &'b Origin,
    block: &'b Bytes,
    charge: Option<&'b Arc<Permit>>,
    rows_done: u64,
}

impl Current<'_> {
    /// The places before and behind a run in its range.
    fn places(&self, run: &Run) -> (u64, u64) {
        match self.origin {
            Origin::Offset(offset) => (offset + run.start as u64, offset + run.end as u64),
            Origin::Cursor { place, .. } => (place + self.rows_done, place + self.rows_done + run.resources),
            Origin::End => (END_OF_RANGE, END_OF_RANGE),
        }
    }

    /// Cuts a run at a place within it and returns what lies before and behind.
    fn cut(&self, run: &Run, place: u64) -> (Run, Run) {
        let bytes = self.block.get(run.start..run.end).unwrap_or_default();
        let (length, before) = match self.origin {
            Origin::Cursor { place: start, .. } => {
                let rows = place - start - self.rows_done;
                let last = usize::try_from(rows).unwrap_or(usize::MAX).saturating_sub(1);
                (memchr::memchr_iter(b'\n', bytes).nth(last).map_or(bytes.len(), |end| end + 1), rows)
            }
            Origin::Offset(_) | Origin::End => {
                let length = usize::try_from(place - self.places(run).0).unwrap_or(usize::MAX).min(bytes.len());
                (length, memchr::memchr_iter(b'\n', bytes.get(..length).unwrap_or_default()).count() as u64)
            }
        };
        let middle = run.start + length;
        let first = Run { end: middle, resources: before, bytes: length as u64, ..*run };
        let rest = Run { start: middle, resources: run.resources - before, bytes: (run.end - middle) as u64, ..*run };
        (first, rest)
    }
}

impl<'b> Current<'b> {
    fn place_of(&self, run: &Run) -> Place<'b> {
        Place {
            range: self.range,
            origin: self.origin,
            bytes_into_block: run.start as u64,
            rows_into_block: self.rows_done,
            length_bytes: run.bytes - 1,
        }
    }
}

impl FanOut {
    pub(super) fn new(
        writers: Writers,
        sieve: Arc<Sieve>,
        buffers: Buffers,
        on_bad: OnBad,
        halt: CancellationToken,
    ) -> Self {
        Self {
            writers,
            books: Books::default(),
            of_unknown_patients: 0,
            told_before: ToldBefore::default(),
            errors: 0,
            sieve,
            buffers,
            on_bad,
            halt,
            contents: Vec::new(),
            noted: Noted::default(),
        }
    }

    /// Takes over what earlier attempts of the job have come to.
    pub(super) fn restart(&mut self, restart: Restart) -> Result<()> {
        for Point { content, row, place, position } in restart.points {
            let slot = self.slot_of(content.as_ref())?;
            if slot == Slot::DELETED {
                self.told_before = ToldBefore::of(&position);
            }
            self.books.go_on(slot, row, place, position);
        }
        for (content, start) in restart.starts {
            let slot = self.slot_of(Some(&content))?;
            self.writers.resume(slot, start)?;
        }
        for (content, row) in restart.noted {
            let slot = self.slot_of(content.as_ref())?;
            *self.noted.row_mut(slot) = row;
        }
        self.noted.first = restart.first_to_note;
        self.errors = restart.errors;
        Ok(())
    }

    fn slot_of(&self, content: Option<&Content>) -> Result<Slot> {
        match content {
            None => Ok(Slot::UNKNOWN),
            Some(Content::Errors) => Ok(Slot::ERRORS),
            Some(Content::Deleted) => Ok(Slot::DELETED),
            Some(Content::Resources(resource_type)) => self.sieve.types().slot(resource_type.as_str()),
        }
    }

    /// Goes on with another range.
    pub(super) fn begin_range(&mut self, index: usize, name: &Arc<str>, read_from: &ReadFrom) -> Result<()> {
        let only = match read_from {
            ReadFrom::Position(_, content) => Some(self.slot_of(Some(content))?),
            ReadFrom::Start | ReadFrom::Nowhere => None,
        };
        self.books.begin_range(index, name, only);
        self.noted.range_index = index;
        Ok(())
    }

    /// Ends a range, and notes so if enough has been read.
    pub(super) async fn end_range(&mut self, is_last: bool) -> Result<()> {
        self.books.end_range();
        let is_due = is_last || self.noted.bytes_since >= NOTED_AFTER_BYTES;
        // A row that is ahead isn't that of this place.
        if !is_due || self.noted.range_index < self.noted.first || !self.books.is_level() {
            return Ok(());
        }
        let mut rows = Vec::new();
        let types = self.sieve.types().all();
        let types = types.into_iter().map(|(slot, resource_type)| (slot, Some(Content::Resources(resource_type))));
        for (slot, content) in [(Slot::UNKNOWN, None), (Slot::ERRORS, Some(Content::Errors))].into_iter().chain(types) {
            let row = self.books.row(slot);
            if *self.noted.row_mut(slot) != row {
                *self.noted.row_mut(slot) = row;
                rows.push((content, row));
            }
        }
        self.noted.bytes_since = 0;
        self.writers.note(Entry::RangeEnd { range: self.books.position().range.to_string(), rows }).await
    }

    /// Brings every line of a block to its fate.
    ///
    /// # Errors
    /// When the job is to stop: lines behind that point have not been counted.
    pub(super) async fn take(&mut self, range: &Arc<str>, sifted: SiftedBlock) -> Result<()> {
        let SiftedBlock { memory, permit, origin, runs } = sifted;
        self.books.begin_block(range, origin.clone());
        let may_be_handed_on = memory.capacity() <= self.writers.longest_handed_on_bytes();
        let charge = match may_be_handed_on && is_handed_on(&memory, &runs) {
            true => Some(Arc::new(self.writers.charge(memory.capacity(), &self.books).await?)),
            false => None,
        };
        // The block is in the fill pool now, or its lines are copied there before the read pool has its bytes back.
        let _read_permit = if charge.is_some() {
            drop(permit);
            None
        } else {
            Some(permit)
        };
        let block = self.buffers.share(memory);
        let mut current = Current { range, origin: &origin, block: &block, charge: charge.as_ref(), rows_done: 0 };
        for run in &runs {
            if self.halt.is_cancelled() {
                return Err(Error::cancelled());
            }
            self.noted.bytes_since += run.bytes;
            let counted = self.books.counted_up_to(run.slot);
            let (start, end) = current.places(run);
            if counted <= start {
                self.settle(&current, run).await?;
            } else if end <= counted {
                self.pass(&current, run).await?;
            } else {
                let (before, rest) = current.cut(run, counted);
                self.pass(&current, &before).await?;
                let rest_of = Current { rows_done: current.rows_done + before.resources, ..current };
                self.settle(&rest_of, &rest).await?;
            }
            current.rows_done += run.resources;
        }
        Ok(())
    }

    /// Passes over what was counted by an earlier attempt. What that had to report may be missing still.
    async fn pass(&mut self, current: &Current<'_>, run: &Run) -> Result<()> {
        let fate = match run.fate {
            Sifted::Keep => Fate::Written,
            Sifted::Exclude(exclusion) => Fate::Excluded(exclusion),
            Sifted::Supersede => Fate::Superseded,
            Sifted::Quarantine(_) => Fate::Quarantined,
        };
        self.books.pass(run.slot, fate, run.resources, run.end);
        match run.fate {
            Sifted::Quarantine(reason) => self.quarantine(&current.place_of(run), &reason).await,
            Sifted::Keep | Sifted::Exclude(_) | Sifted::Supersede => Ok(()),
        }
    }

    async fn settle(&mut self, current: &Current<'_>, run: &Run) -> Result<()> {
        let count = Count::new(run.resources, run.bytes);
        match run.fate {
            Sifted::Supersede => self.books.record(run.slot, Fate::Superseded, count, run.end),
            Sifted::Exclude(exclusion) => self.books.record(run.slot, Fate::Excluded(exclusion), count, run.end),
            Sifted::Keep => {
                let content = self.content(run.slot)?;
                let lines = Lines {
                    block: current.block,
                    start: run.start,
                    end: run.end,
                    resources: run.resources,
                    notes: run.notes,
                    of_source: true,
                    charge: current.charge,
                };
                // It notes them itself, with the last line.
                return self.writers.append(run.slot, &content, lines, &mut self.books).await;
            }
            Sifted::Quarantine(reason) => {
                self.books.record(run.slot, Fate::Quarantined, count, run.end);
                self.quarantine(&current.place_of(run), &reason).await?;
            }
        }
        self.books.note(run.slot, run.notes);
        Ok(())
    }

    /// Counts and reports a line whose bytes were passed over because it is over the limit.
    pub(super) async fn too_long(
        &mut self,
        range: &Arc<str>,
        origin: Origin,
        length_bytes: u64,
        limit_bytes: usize,
    ) -> Result<()> {
        self.books.begin_block(range, origin.clone());
        let end = usize::try_from(length_bytes + 1).unwrap_or(usize::MAX);
        self.noted.bytes_since += length_bytes;
        let counted = self.books.counted_up_to(Slot::UNKNOWN);
        if counted <= self.books.place().1 {
            self.books.record(Slot::UNKNOWN, Fate::Quarantined, Count::new(1, length_bytes + 1), end);
        } else {
            self.books.pass(Slot::UNKNOWN, Fate::Quarantined, 1, end);
        }
        let place = Place { range, origin: &origin, bytes_into_block: 0, rows_into_block: 0, length_bytes };
        self.quarantine(&place, &Reason::TooLong { limit_bytes }).await
    }

    pub(super) fn judge_deletion(&self, tombstone: &Tombstone) -> DeletionVerdict {
        self.sieve.judge_deletion(tombstone)
    }

    /// Whether the first bad thing ends the job.
    pub(super) fn fails_on_bad(&self) -> bool {
        self.on_bad == OnBad::Fail
    }

    async fn quarantine(&mut self, place: &Place<'_>, reason: &Reason) -> Result<()> {
        if self.fails_on_bad() {
            return Err(Error::new(ErrorKind::BadResource, format!("a resource could not be understood: {reason}"))
                .with("source", place.range)
                .with("position", self.books.position()));
        }
        if self.is_reported() {
            return Ok(());
        }
        self.errors += 1;
        self.report(outcome::quarantined(place, reason)).await
    }

    /// Whether what there is to report of the resource before this place was reported by an earlier attempt.
    fn is_reported(&self) -> bool {
        self.books.place().1 <= self.books.counted_up_to(Slot::ERRORS)
    }

    /// Reports that a range couldn't be read to its end.
    pub(super) async fn report_unreadable(&mut self, name: &str, error: &Error) -> Result<()> {
        self.books.end_range();
        self.errors += 1;
        if self.is_reported() {
            return Ok(());
        }
        self.report(outcome::unreadable(name, error)).await
    }

    /// Goes on behind all ranges and what was deleted; there are so many before.
    pub(super) fn begin_epilogue(&mut self, ranges: usize) {
        self.books.begin_range(ranges, &Arc::from(BEHIND_ALL), None);
    }

    /// Adds a line to the report behind all that the source gave rise to.
    pub(super) async fn report_behind(&mut self, line: Vec<u8>, is_error: bool) -> Result<()> {
        let next = self.books.place().1 + 1;
        let range = self.books.position().range;
        self.books.begin_block(&range, Origin::Offset(next));
        self.errors += u64::from(is_error);
        if self.is_reported() {
            return Ok(());
        }
        self.report(line).await
    }

    async fn report(&mut self, line: Vec<u8>) -> Result<()> {
        let block = Bytes::from(line);
        let (start, end, notes) = (0, block.len(), Notes::default());
        let lines = Lines { block: &block, start, end, resources: 1, notes, of_source: false, charge: None };
        self.writers.append(Slot::ERRORS, &Content::Errors, lines, &mut self.books).await
    }

    fn content(&mut self, slot: Slot) -> Result<Content> {
        if self.contents.len() <= slot.index() {
            self.contents.resize(slot.index() + 1, None);
        }
        let place = self.contents.get_mut(slot.index());
        let known = place.and_then(|place| {
            if place.is_none() {
                *place = self.sieve.types().resource_type(slot).map(Content::Resources);
            }
            place.clone()
        });
        known.ok_or_else(|| Error::new(ErrorKind::Internal, "a slot without a type can't be written"))
    }
}

/// Whether a block's kept lines are handed on as slices: only if they are of one type and most of the block, so that a
/// selective filter never pins memory that it doesn't want, and one part never pins another's.
fn is_handed_on(memory: &Memory, runs: &[Run]) -> bool {
    let mut kept = runs.iter().filter(|run| run.fate == Sifted::Keep);
    let Some(first) = kept.next() else { return false };
    let mut bytes = first.bytes;
    for run in kept {
        if run.slot != first.slot {
            return false;
        }
        bytes += run.bytes;
    }
    bytes >= LEAST_SLICED_BYTES && bytes >= memory.capacity() as u64 / 4 * 3
}
