//! What was deleted, behind all ranges: one line for each tombstone, a transaction Bundle with one DELETE.
//!
//! One DELETE a Bundle, so that tombstones have the fates that resources have: a line is a tombstone, and what was cut
//! when a job was sealed is counted like anything else. Source: Bulk Data Access IG, "Complete Status", `deleted`.
//!
//! A tombstone has a place of its own, by its key, not by its number: a job that goes on without its snapshot finds
//! others before it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::fan_out::FanOut;
use crate::error::{Error, Result};
use crate::fhir::ResourceType;
use crate::filter::DeletionVerdict;
use crate::ledger::{Count, Fate, LedgerRow, Notes, Origin, Position, Slot};
use crate::source::{Asked, DeletionSink, Snapshot, Tombstone};
use crate::writer::{Content, Lines};

/// Stands for a range behind those of the snapshot, where what was deleted is told.
pub(crate) const DELETIONS: &str = "\0deleted";

/// The books of what was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deletions {
    pub(crate) row: LedgerRow,
    /// Left out because it isn't known whose they were; part of those outside the scope.
    pub(crate) of_unknown_patients: u64,
}

/// Where an earlier attempt of a job had come to.
#[derive(Clone, Debug, Default)]
pub(super) struct ToldBefore {
    /// The key of the last tombstone that was counted, and the number behind it.
    last: Option<(String, String)>,
    next_place: u64,
}

impl ToldBefore {
    pub(super) fn of(position: &Position) -> Self {
        if &*position.range != DELETIONS {
            return Self::default();
        }
        let key = String::from_utf8_lossy(&position.cursor).into_owned();
        // A cursor is the key of the tombstone that it is at; only behind it is it counted.
        let last = key.split_once('/').filter(|_| position.rows_after > 0);
        Self { last: last.map(|(name, id)| (name.to_owned(), id.to_owned())), next_place: position.place }
    }

    fn count(&mut self, resource_type: &ResourceType, id: &str, next_place: u64) {
        self.last = Some((resource_type.to_string(), id.to_owned()));
        self.next_place = next_place;
    }

    fn covers(&self, resource_type: &ResourceType, id: &str) -> bool {
        self.last.as_ref().is_some_and(|(name, last)| (resource_type.as_str(), id) <= (name.as_str(), last.as_str()))
    }
}

impl FanOut {
    /// Brings everything that the snapshot knows to be deleted to its fate; there are so many ranges before.
    pub(super) async fn take_deletions(&mut self, ranges: usize, snapshot: &dyn Snapshot, asked: &Asked) -> Result<()> {
        let range: Arc<str> = Arc::from(DELETIONS);
        self.books.begin_range(ranges, &range, None);
        // Of an object that is whole nothing is told again.
        let is_over = self.books.counted_up_to(Slot::DELETED) == u64::MAX;
        let place = self.told_before.next_place;
        // Counted anew each time, also of those that were told before.
        self.of_unknown_patients = 0;
        let halt = self.halt.clone();
        let mut sink = Sink { fan_out: self, range, place, is_over };
        halt.run_until_cancelled(snapshot.deleted(asked, &mut sink)).await.unwrap_or_else(|| Err(Error::cancelled()))
    }
}

struct Sink<'f> {
    fan_out: &'f mut FanOut,
    range: Arc<str>,
    place: u64,
    is_over: bool,
}

#[async_trait]
impl DeletionSink for Sink<'_> {
    async fn deleted(&mut self, tombstone: Tombstone) -> Result<()> {
        let verdict = self.fan_out.judge_deletion(&tombstone);
        self.fan_out.of_unknown_patients += u64::from(verdict == DeletionVerdict::OfUnknownPatients);
        let Tombstone { resource_type, id, .. } = &tombstone;
        if self.is_over || self.fan_out.told_before.covers(resource_type, id) {
            return Ok(());
        }
        let key = format!("{resource_type}/{id}");
        let line = Bytes::from(bundle(&key));
        let cursor = Arc::from(key.as_bytes());
        self.fan_out
            .books
            .begin_block(&self.range, Origin::Cursor { cursor, rows: 0, place: self.place, positions: None });
        self.place += 1;
        self.fan_out.told_before.count(resource_type, id, self.place);
        let count = Count::new(1, line.len() as u64);
        let exclusion = match verdict {
            DeletionVerdict::Tell => return self.fan_out.tell_deletion(line).await,
            DeletionVerdict::Exclude(exclusion) => exclusion,
            DeletionVerdict::OfUnknownPatients => crate::ledger::Exclusion::Scope,
        };
        self.fan_out.books.record(Slot::DELETED, Fate::Excluded(exclusion), count, line.len());
        Ok(())
    }
}

impl FanOut {
    async fn tell_deletion(&mut self, line: Bytes) -> Result<()> {
        let (start, end, notes) = (0, line.len(), Notes::default());
        let lines = Lines { block: &line, start, end, resources: 1, notes, of_source: true, charge: None };
        self.writers.append(Slot::DELETED, &Content::Deleted, lines, &mut self.books).await
    }
}

/// A transaction that deletes one resource, as one line.
fn bundle(url: &str) -> Vec<u8> {
    let bundle = serde_json::json!({
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"request": {"method": "DELETE", "url": url}}],
    });
    let mut line = bundle.to_string().into_bytes();
    line.push(b'\n');
    line
}
