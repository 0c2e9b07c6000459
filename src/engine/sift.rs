//! Scan and filter of one block: CPU work, on the pool.
//!
//! The result is a list of runs, which says for every line of the block in order what becomes of it. Neighbours of the
//! same type and fate are one run, so that whole blocks can be handed on as they are.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::block::{Block, Shape};
use crate::budget::{Memory, Permit};
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::ResourceType;
use crate::filter::{DeletionVerdict, Filter, Judgement, Pending, Verdict};
use crate::ledger::{Exclusion, Notes, Origin, Slot, TypeTable};
use crate::resource::{Defect, Facts, Lines, References, ScanPlan, Validation, scan};
use crate::scope::Fingerprint;
use crate::source::Tombstone;

/// Lines whose look-ups are made together.
const DEFERRED_LINES: usize = 64;

/// What the lines of all blocks of a job are judged by.
#[derive(Debug)]
pub(super) struct Sieve {
    filter: Filter,
    plan: ScanPlan,
    types: TypeTable,
    slow_lines: AtomicU64,
}

/// Neighbouring lines of one type and one fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Where the first begins in the block.
    pub(super) start: usize,
    /// Where the last ends, its line feed included.
    pub(super) end: usize,
    /// How many there are.
    pub(super) resources: u64,
    /// Their bytes with a line feed each; less than the span where something lies between them.
    pub(super) bytes: u64,
    /// Their type.
    pub(super) slot: Slot,
    /// What becomes of them.
    pub(super) fate: Sifted,
    /// What else is to be said of them; lines that have notes are runs of their own.
    pub(super) notes: Notes,
}

/// What becomes of a line, as far as the sieve decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sifted {
    /// It is to be written.
    Keep,
    /// It is left out.
    Exclude(Exclusion),
    /// The snapshot is lost, and it may have taken the place of what was in it.
    Supersede,
    /// It isn't understood.
    Quarantine(Reason),
}

/// Why a line isn't understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The scan found a defect.
    Defect(Defect),
    /// A time filter is set and `meta.lastUpdated` isn't an instant.
    LastUpdated,
    /// It is longer than the line limit.
    TooLong {
        /// The limit, in bytes.
        limit_bytes: usize,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defect(defect) => fmt::Display::fmt(defect, f),
            Self::LastUpdated => f.write_str("meta.lastUpdated is not an instant"),
            Self::TooLong { limit_bytes } => write!(f, "longer than the line limit of {limit_bytes} bytes"),
        }
    }
}

/// A block and what becomes of its lines.
#[derive(Debug)]
pub(super) struct SiftedBlock {
    pub(super) memory: Memory,
    pub(super) permit: Permit,
    pub(super) origin: Origin,
    pub(super) runs: Vec<Run>,
}

impl Sieve {
    pub(super) fn new(filter: Filter, validation: Validation) -> Self {
        Self { plan: filter.scan_plan(validation), filter, types: TypeTable::default(), slow_lines: AtomicU64::new(0) }
    }

    pub(super) const fn types(&self) -> &TypeTable {
        &self.types
    }

    /// From now on what is stamped after T has taken the place of something.
    pub(super) fn lose_snapshot(&self) {
        self.filter.lose_snapshot();
    }

    pub(super) fn judge_deletion(&self, tombstone: &Tombstone) -> DeletionVerdict {
        self.filter.judge_deletion(tombstone)
    }

    /// How many lines had to be gone through byte by byte.
    pub(super) fn slow_lines(&self) -> u64 {
        self.slow_lines.load(Ordering::Relaxed)
    }

    /// Judges every line of a block; a line of more than `line_limit_bytes` isn't looked at.
    ///
    /// # Errors
    /// When the job meets more types than it may.
    pub(super) fn sift(&self, block: Block, line_limit_bytes: usize) -> Result<SiftedBlock> {
        let Block { mut memory, filled, permit, origin, shape } = block;
        memory.truncate(filled);
        let mut sifting = Sifting {
            sieve: self,
            line_limit_bytes,
            runs: Vec::new(),
            last_type: None,
            deferred: Deferred::default(),
            slow_lines: 0,
        };
        let mut references = References::new();
        match shape {
            Shape::Lines => sifting.lines(&mut memory, &mut references)?,
            Shape::Rows(marks) => {
                let mut start = 0;
                for mark in marks {
                    let notes = Notes { reflowed: u64::from(mark.reflowed), ..Notes::default() };
                    sifting.line(&memory, (start..mark.end - 1, mark.end), mark.deleted, notes, &mut references)?;
                    start = mark.end;
                }
            }
        }
        sifting.settle_deferred();
        self.slow_lines.fetch_add(sifting.slow_lines, Ordering::Relaxed);
        Ok(SiftedBlock { runs: sifting.runs, memory, permit, origin })
    }
}

/// The state of one block's sifting.
struct Sifting<'s> {
    sieve: &'s Sieve,
    line_limit_bytes: usize,
    runs: Vec<Run>,
    /// The type of the line before: mostly that of the next one too.
    last_type: Option<(ResourceType, Slot)>,
    deferred: Deferred,
    slow_lines: u64,
}

/// Lines whose fate hangs on look-ups that are made together.
#[derive(Default)]
struct Deferred {
    lines: Vec<(Run, Option<Pending>)>,
    asked: Vec<Fingerprint>,
    held: Vec<bool>,
}

impl Sifting<'_> {
    fn lines(&mut self, memory: &mut [u8], references: &mut References) -> Result<()> {
        let mut position = 0;
        loop {
            let Some(line) = Lines::new(memory.get(position..).unwrap_or_default()).next() else { return Ok(()) };
            let (start, end) = (position + line.start(), position + line.end());
            let whole = line.span();
            let length = whole.len() - 1;
            if length > self.line_limit_bytes {
                self.too_long(position + whole.start, length);
                position += whole.end;
                continue;
            }
            position += whole.end;
            // A blank or CR behind the resource gives its place to the line feed, so that the resource and its line
            // feed are one slice; what is left of the line is skipped.
            if let Some(behind) = memory.get_mut(end) {
                *behind = b'\n';
            }
            self.line(memory, (start..end, end + 1), false, Notes::default(), references)?;
        }
    }

    fn line(
        &mut self,
        memory: &[u8],
        (body, end): (std::ops::Range<usize>, usize),
        deleted: bool,
        mut notes: Notes,
        references: &mut References,
    ) -> Result<()> {
        let start = body.start;
        let body = memory.get(body).unwrap_or_default();
        let (slot, judged) = match scan(body, &self.sieve.plan, references) {
            Ok(facts) => {
                self.slow_lines += u64::from(facts.slow);
                self.judge(&facts, references, body, deleted, &mut notes)?
            }
            Err(defect) => (Slot::UNKNOWN, Judged::Fate(Sifted::Quarantine(Reason::Defect(defect)))),
        };
        let run = Run { start, end, resources: 1, bytes: (end - start) as u64, slot, fate: Sifted::Keep, notes };
        match judged {
            Judged::Fate(fate) => self.settle(Run { fate, ..run }),
            Judged::Deferred(pending) => self.defer(run, Some(pending)),
        }
        Ok(())
    }

    /// Adds a line whose fate is clear, behind those that wait.
    fn settle(&mut self, run: Run) {
        if self.deferred.lines.is_empty() {
            self.push(run);
        } else {
            self.defer(run, None);
        }
    }

    /// Lets a line wait for those before it, and all of them for their look-ups.
    fn defer(&mut self, run: Run, pending: Option<Pending>) {
        self.deferred.lines.push((run, pending));
        if self.deferred.lines.len() >= DEFERRED_LINES {
            self.settle_deferred();
        }
    }

    fn settle_deferred(&mut self) {
        let mut deferred = std::mem::take(&mut self.deferred);
        self.sieve.filter.look_up(&deferred.asked, &mut deferred.held);
        let mut held = deferred.held.as_slice();
        for (mut run, pending) in deferred.lines.drain(..) {
            if let Some(pending) = pending {
                let (own, others) = held.split_at(pending.asked());
                held = others;
                run.fate = Filter::conclude(pending, own, &mut run.notes).into();
            }
            self.push(run);
        }
        deferred.asked.clear();
        self.deferred = deferred;
    }

    fn too_long(&mut self, start: usize, length: usize) {
        let (bytes, slot) = (length as u64 + 1, Slot::UNKNOWN);
        let fate = Sifted::Quarantine(Reason::TooLong { limit_bytes: self.line_limit_bytes });
        self.settle(Run { start, end: start + length + 1, resources: 1, bytes, slot, fate, notes: Notes::default() });
    }

    fn judge(
        &mut self,
        facts: &Facts<'_>,
        references: &References,
        body: &[u8],
        deleted: bool,
        notes: &mut Notes,
    ) -> Result<(Slot, Judged)> {
        let filter = &self.sieve.filter;
        let mut asked = std::mem::take(&mut self.deferred.asked);
        let (resource_type, slot) = self.type_of(&facts.resource_type)?;
        let judged = if deleted {
            Judged::Fate(Sifted::Exclude(Exclusion::Deleted))
        } else if filter.may_defer() {
            match filter.begin(resource_type, facts, references, notes, &mut asked) {
                Judgement::Settled(verdict) => Judged::Fate(verdict.into()),
                Judgement::Asked(pending) => Judged::Deferred(pending),
            }
        } else {
            Judged::Fate(filter.judge(resource_type, facts, references, body, notes).into())
        };
        self.deferred.asked = asked;
        Ok((slot, judged))
    }

    fn type_of(&mut self, name: &str) -> Result<(&ResourceType, Slot)> {
        let known = self.last_type.as_ref().is_some_and(|(last, _)| last.as_str() == name);
        if !known {
            let slot = self.sieve.types.slot(name)?;
            let resource_type = self.sieve.types.resource_type(slot);
            self.last_type = resource_type.map(|resource_type| (resource_type, slot));
        }
        match &self.last_type {
            Some((resource_type, slot)) => Ok((resource_type, *slot)),
            None => Err(Error::new(ErrorKind::Internal, "a type has no slot")),
        }
    }

    fn push(&mut self, run: Run) {
        match self.runs.last_mut() {
            Some(last) if last.continues_with(&run) => {
                last.end = run.end;
                last.resources += run.resources;
                last.bytes += run.bytes;
            }
            _ => self.runs.push(run),
        }
    }
}

/// What is known of a line's fate.
enum Judged {
    Fate(Sifted),
    Deferred(Pending),
}

impl From<Verdict> for Sifted {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Keep => Self::Keep,
            Verdict::Exclude(exclusion) => Self::Exclude(exclusion),
            Verdict::Supersede => Self::Supersede,
            Verdict::Malformed => Self::Quarantine(Reason::LastUpdated),
        }
    }
}

impl Run {
    fn continues_with(&self, next: &Self) -> bool {
        let alike = self.slot == next.slot && self.fate == next.fate;
        let plain = self.notes == Notes::default() && next.notes == Notes::default();
        // What is quarantined is reported line by line.
        let one_by_one = matches!(self.fate, Sifted::Quarantine(_));
        alike && plain && !one_by_one && self.end == next.start
    }
}
