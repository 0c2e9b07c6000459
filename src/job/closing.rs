//! The closing balance: a job completes only if its books balance.

use std::collections::{BTreeMap, BTreeSet};

use crate::destination::{Destination, ObjectKey};
use crate::engine::{Deletions, Ended};
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::ResourceType;
use crate::ledger::{Count, LedgerRow, Position};
use crate::writer::{Content, Leftover, Naming, ObjectOutcome, ObjectReport};

/// The books of a job whose objects have ended.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) rows: BTreeMap<Option<ResourceType>, LedgerRow>,
    /// The visible objects, in byte order of their keys.
    pub(super) objects: Vec<ObjectReport>,
    pub(super) leftovers: Vec<Leftover>,
    /// Why something may be left.
    pub(super) error: Option<Error>,
    /// What was deleted.
    pub(super) deletions: Deletions,
    /// Errors in the report.
    pub(super) errors: u64,
    /// What was handed over and isn't durable, the error report included.
    pub(super) cut: Count,
    /// By key: the place in the snapshot behind an object.
    places: BTreeMap<ObjectKey, Position>,
    /// The first of each content's objects that doesn't hold all that was handed to it.
    gaps: BTreeMap<Content, u32>,
    /// Every object that was begun, by content and sequence.
    begun: Vec<(Content, u32)>,
}

impl Closed {
    /// The books of a job that read nothing.
    pub(super) fn nothing() -> Self {
        Self::new(Ended { outcomes: Vec::new(), rows: Vec::new(), deletions: Deletions::default(), errors: 0 })
    }

    /// Notes something that may be left in the store, and why.
    pub(super) fn leave(&mut self, left: Leftover, error: Error) {
        self.leftovers.push(left);
        self.error.get_or_insert(error);
    }

    /// Takes the outcomes of all objects into the books.
    pub(super) fn new(ended: Ended) -> Self {
        let mut closed = Self {
            rows: ended.rows.into_iter().collect(),
            objects: Vec::new(),
            leftovers: Vec::new(),
            error: None,
            deletions: ended.deletions,
            errors: ended.errors,
            cut: Count::default(),
            places: BTreeMap::new(),
            gaps: BTreeMap::new(),
            begun: Vec::new(),
        };
        for outcome in ended.outcomes {
            closed.settle(outcome);
        }
        closed.objects.sort_by(|a, b| a.key.cmp(&b.key));
        closed
    }

    fn settle(&mut self, outcome: ObjectOutcome) {
        self.begun.push((outcome.content().clone(), outcome.sequence()));
        self.cut_to(outcome.content(), outcome.accepted(), outcome.durable());
        if outcome.durable() != outcome.accepted() {
            let first = self.gaps.entry(outcome.content().clone()).or_insert(outcome.sequence());
            *first = outcome.sequence().min(*first);
        }
        match outcome {
            ObjectOutcome::Visible { report, mark, .. } => {
                self.places.insert(report.key.clone(), mark.position);
                self.objects.push(report);
            }
            ObjectOutcome::Nothing { .. } => {}
            ObjectOutcome::Failed { left, error, .. } => {
                self.leave(left, error);
            }
        }
    }

    fn cut_to(&mut self, content: &Content, accepted: Count, durable: Count) {
        let cut = Count::new(accepted.resources - durable.resources, accepted.bytes - durable.bytes);
        self.cut += cut;
        match content {
            Content::Resources(resource_type) => {
                if let Some(row) = self.rows.get_mut(&Some(resource_type.clone())) {
                    row.cut(cut);
                }
            }
            Content::Deleted => self.deletions.row.cut(cut),
            Content::Errors => {}
        }
    }

    /// Keys of all objects that were begun.
    pub(super) fn begun(&self, naming: &Naming) -> BTreeSet<ObjectKey> {
        self.begun.iter().filter_map(|(content, sequence)| naming.object(content, *sequence).ok()).collect()
    }

    /// Keys of objects that come behind one that isn't whole: what is kept of a type goes from its beginning to one place.
    pub(super) fn behind_gaps(&self) -> Vec<ObjectKey> {
        let is_behind =
            |object: &&ObjectReport| self.gaps.get(&object.content).is_some_and(|first| object.sequence > *first);
        self.objects.iter().filter(is_behind).map(|object| object.key.clone()).collect()
    }

    /// Says of the last object of each type that its type goes on behind it, if it does.
    pub(super) fn mark_partial(&mut self, is_read_to_end: bool) {
        let mut last: BTreeMap<Content, (u32, usize)> = BTreeMap::new();
        for (index, object) in self.objects.iter().enumerate() {
            let latest = last.entry(object.content.clone()).or_insert((object.sequence, index));
            *latest = (*latest).max((object.sequence, index));
        }
        for (content, (_, index)) in last {
            if is_read_to_end && !self.gaps.contains_key(&content) {
                continue;
            }
            if let Some(object) = self.objects.get_mut(index) {
                object.partial = self.places.get(&object.key).cloned();
            }
        }
    }

    /// Counts objects that were removed as cut.
    pub(super) fn remove_objects(&mut self, removed: impl Fn(&ObjectKey) -> bool) {
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.objects).into_iter().partition(|object| removed(&object.key));
        self.objects = kept;
        for object in gone {
            self.cut_to(&object.content, object.count, Count::default());
        }
    }

    /// Checks that the fates of each type add up to what was read, and that its objects hold what was written.
    ///
    /// # Errors
    /// When they don't, naming the type.
    pub(super) fn check(&self) -> Result<()> {
        let mut in_objects: BTreeMap<Option<ResourceType>, Count> = BTreeMap::new();
        for object in &self.objects {
            if let Content::Resources(resource_type) = &object.content {
                *in_objects.entry(Some(resource_type.clone())).or_default() += object.count;
            }
        }
        let deleted = self.objects.iter().filter(|object| object.content == Content::Deleted);
        let mut in_deleted = Count::default();
        deleted.for_each(|object| in_deleted += object.count);
        if !self.deletions.row.balances() || in_deleted != self.deletions.row.written {
            return Err(Error::new(ErrorKind::Unbalanced, "the books of what was deleted don't balance")
                .with("read", self.deletions.row.read.resources)
                .with("accounted", self.deletions.row.accounted().resources)
                .with("in objects", in_deleted.resources));
        }
        for (resource_type, row) in &self.rows {
            let held = in_objects.remove(resource_type).unwrap_or_default();
            if !row.balances() || held != row.written {
                let name = resource_type.as_ref().map_or("unknown", ResourceType::as_str);
                return Err(Error::new(ErrorKind::Unbalanced, format!("the books of {name} don't balance"))
                    .with("read", row.read.resources)
                    .with("accounted", row.accounted().resources)
                    .with("written", row.written.resources)
                    .with("in objects", held.resources));
            }
        }
        match in_objects.into_keys().next().flatten() {
            Some(stray) => Err(Error::new(ErrorKind::Unbalanced, format!("there is an object of {stray} and no row"))),
            None => Ok(()),
        }
    }

    /// Checks that the store holds the objects, all of them, at their sizes, and nothing else in the job folder.
    ///
    /// # Errors
    /// When it doesn't, naming the object, or can't be listed.
    pub(super) async fn check_store(&self, destination: &dyn Destination, folder: &str) -> Result<()> {
        let mut stored: BTreeMap<ObjectKey, u64> =
            destination.list(folder).await?.into_iter().map(|object| (object.key, object.size_bytes)).collect();
        for object in &self.objects {
            let size = stored.remove(&object.key);
            if size != Some(object.crc.length_bytes()) {
                let found = size.map_or_else(|| "nothing".to_owned(), |size| format!("{size} bytes"));
                return Err(Error::new(ErrorKind::Unbalanced, "the store doesn't hold an object as it was sent")
                    .with("object", &object.key)
                    .with("sent", object.crc.length_bytes())
                    .with("found", found));
            }
        }
        match stored.into_keys().next() {
            // In the flat layout the folder is the caller's own and may hold other things.
            Some(stray) if !folder.is_empty() => {
                Err(Error::new(ErrorKind::Unbalanced, "the job folder holds an object that isn't the job's")
                    .with("object", stray))
            }
            _ => Ok(()),
        }
    }
}
