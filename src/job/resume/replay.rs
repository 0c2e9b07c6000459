//! What a journal says, in one place.

use std::collections::BTreeMap;

use crate::destination::ObjectKey;
use crate::error::Result;
use crate::ledger::LedgerRow;
use crate::writer::{Content, DurablePart, Entry, Naming, ObjectName, SequenceReason, WholeObject};

/// Rows by type; `None`: resources of no known type.
pub(super) type Rows = Vec<(Option<Content>, LedgerRow)>;

/// What a journal says of a job.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// Names and versions of the ranges, in order.
    pub(super) plan: Vec<(String, Option<String>)>,
    /// Objects by content and sequence.
    pub(super) objects: BTreeMap<Content, BTreeMap<u32, ObjectState>>,
    /// Ends of ranges that were noted, in order, with the rows that had changed.
    pub(super) range_ends: Vec<(String, Rows)>,
}

/// What is known of one object.
#[derive(Debug, Default)]
pub(super) struct ObjectState {
    pub(super) reason: Option<SequenceReason>,
    pub(super) upload_id: Option<String>,
    pub(super) parts: BTreeMap<u32, DurablePart>,
    pub(super) whole: Option<WholeObject>,
    pub(super) is_closed: bool,
}

impl ObjectState {
    /// The longest row of parts without a hole.
    pub(super) fn unbroken(&self) -> Vec<DurablePart> {
        let numbered = (1..).zip(self.parts.values());
        numbered.take_while(|(number, part)| *number == part.number).map(|(_, part)| part.clone()).collect()
    }
}

impl Replayed {
    pub(super) fn of(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut replayed = Self::default();
        for entry in entries {
            replayed.take(entry);
        }
        replayed
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Plan { ranges } => self.plan = ranges,
            // The object begins again, whatever was there of it.
            Entry::Begun { object, reason, upload_id } => {
                let begun = ObjectState { reason: Some(reason), upload_id: Some(upload_id), ..ObjectState::default() };
                *self.object(object) = begun;
            }
            Entry::Part { object, part } => {
                self.object(object).parts.insert(part.number, part);
            }
            Entry::Resumed { object, parts } => {
                let state = self.object(object);
                state.parts.retain(|number, _| *number <= parts);
                state.whole = None;
            }
            Entry::Closing { object, whole } => {
                let state = self.object(object);
                state.reason = Some(whole.reason);
                state.whole = Some(whole);
            }
            Entry::Closed { object } => self.object(object).is_closed = true,
            Entry::Gone { object } => {
                if let Some(objects) = self.objects.get_mut(&object.content) {
                    objects.remove(&object.sequence);
                }
            }
            Entry::RangeEnd { range, rows } => self.range_ends.push((range, rows)),
        }
    }

    fn object(&mut self, ObjectName { content, sequence }: ObjectName) -> &mut ObjectState {
        self.objects.entry(content).or_default().entry(sequence).or_default()
    }
}

/// Bytes that have ever become durable, by a journal: what was lost again is counted, so more of them is progress.
pub(in super::super) fn durable_bytes(entries: &[Entry]) -> u64 {
    let mut put = BTreeMap::new();
    let mut durable = 0_u64;
    for entry in entries {
        match entry {
            Entry::Part { part, .. } => durable = durable.saturating_add(part.crc.length_bytes()),
            Entry::Closing { object, whole } if whole.parts == 0 => {
                put.insert(object, whole.crc.length_bytes());
            }
            Entry::Closed { object } => durable = durable.saturating_add(put.remove(object).unwrap_or_default()),
            _ => {}
        }
    }
    durable
}

/// Keys of what a job has begun or stored, by its journal.
#[derive(Debug, Default)]
pub(in super::super) struct Known {
    /// Uploads that may be open, with their ids.
    pub(in super::super) uploads: Vec<(ObjectKey, String)>,
    /// Objects that may be visible.
    pub(in super::super) objects: Vec<ObjectKey>,
}

/// What a job may have left, by its journal.
pub(in super::super) fn open_uploads_of(entries: Vec<Entry>, naming: &Naming) -> Result<Known> {
    let mut known = Known::default();
    for (content, sequence) in Replayed::of(entries).objects {
        for (number, state) in sequence {
            let key = naming.object(&content, number)?;
            match state.upload_id {
                Some(upload_id) if !state.is_closed => known.uploads.push((key.clone(), upload_id)),
                _ => {}
            }
            known.objects.push(key);
        }
    }
    Ok(known)
}
