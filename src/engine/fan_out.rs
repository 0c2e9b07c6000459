//! Fan-out: sifted blocks in the snapshot's order to the objects of their types, every resource to its fate.

use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::outcome::{self, Place};
use super::sift::{Reason, Run, Sieve, Sifted, SiftedBlock};
use crate::budget::{Buffers, Memory, Permit};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Books, Count, Fate, Origin, Slot};
use crate::writer::{Content, Lines, Writers};

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
    /// Errors that the report lists: the job can't end without them being told.
    pub(super) errors: u64,
    sieve: Arc<Sieve>,
    buffers: Buffers,
    on_bad: OnBad,
    halt: CancellationToken,
    contents: Vec<Option<Content>>,
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

impl FanOut {
    pub(super) fn new(
        writers: Writers,
        sieve: Arc<Sieve>,
        buffers: Buffers,
        on_bad: OnBad,
        halt: CancellationToken,
    ) -> Self {
        Self { writers, books: Books::default(), errors: 0, sieve, buffers, on_bad, halt, contents: Vec::new() }
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
            self.settle(&current, run).await?;
            current.rows_done += run.resources;
        }
        Ok(())
    }

    async fn settle(&mut self, current: &Current<'_>, run: &Run) -> Result<()> {
        let count = Count::new(run.resources, run.bytes);
        match run.fate {
            Sifted::Exclude(exclusion) => self.books.record(run.slot, Fate::Excluded(exclusion), count, run.end),
            Sifted::Keep => {
                let content = self.content(run.slot)?;
                let lines = Lines {
                    block: current.block,
                    start: run.start,
                    end: run.end,
                    resources: run.resources,
                    of_source: true,
                    charge: current.charge,
                };
                self.writers.append(run.slot, &content, lines, &mut self.books).await?;
            }
            Sifted::Quarantine(reason) => {
                let place = Place {
                    range: current.range,
                    origin: current.origin,
                    bytes_into_block: run.start as u64,
                    rows_into_block: current.rows_done,
                    length_bytes: run.bytes - 1,
                };
                self.books.record(run.slot, Fate::Quarantined, count, run.end);
                self.quarantine(&place, &reason).await?;
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
        self.books.record(Slot::UNKNOWN, Fate::Quarantined, Count::new(1, length_bytes + 1), end);
        let place = Place { range, origin: &origin, bytes_into_block: 0, rows_into_block: 0, length_bytes };
        self.quarantine(&place, &Reason::TooLong { limit_bytes }).await
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
        self.report_error(outcome::quarantined(place, reason)).await
    }

    /// Adds an error to the report; the job will end with errors.
    pub(super) async fn report_error(&mut self, line: Vec<u8>) -> Result<()> {
        self.errors += 1;
        self.report(line).await
    }

    /// Adds a line to the report.
    pub(super) async fn report(&mut self, line: Vec<u8>) -> Result<()> {
        let block = Bytes::from(line);
        let lines = Lines { block: &block, start: 0, end: block.len(), resources: 1, of_source: false, charge: None };
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
