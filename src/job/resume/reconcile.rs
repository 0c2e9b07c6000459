//! The journal against the store: what of it can be gone on with.

use std::collections::{BTreeMap, BTreeSet};

use super::ranges::{RangeEnd, RangeEnds, Reached};
use super::replay::{ObjectState, Replayed};
use crate::destination::{Destination, ObjectKey, PartId, StoredPart, Upload};
use crate::engine::{BEHIND_ALL, DELETIONS, Point, Restart};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{END, Mark, Place};
use crate::metrics;
use crate::writer::{
    Content, DurablePart, Entry, Journal, Naming, ObjectName, ObjectReport, ResumedObject, SequenceReason, Start,
    WholeObject,
};

/// What earlier attempts of a job have come to.
#[derive(Debug)]
pub(in super::super) struct Progressed {
    pub(in super::super) restart: Restart,
    /// Objects that are visible.
    pub(in super::super) objects: Vec<(ObjectReport, Mark)>,
    /// What a reader of the manifest should know.
    pub(in super::super) warnings: Vec<String>,
}

/// Asks the store what it holds of what the journal says, and brings to its end what is all there but for that.
///
/// # Errors
/// When the store can't be asked, or an object can't be completed.
pub(in super::super) async fn reconcile(
    destination: &dyn Destination,
    naming: &Naming,
    journal: &dyn Journal,
    entries: Vec<Entry>,
) -> Result<Progressed> {
    let Replayed { plan, objects, range_ends } = Replayed::of(entries);
    let places: BTreeMap<&str, usize> = plan.iter().zip(0..).map(|((name, _), index)| (name.as_str(), index)).collect();
    let listed = destination.list(&naming.folder()).await?;
    let sizes = listed.into_iter().map(|object| (object.key, object.size_bytes)).collect();
    let open_uploads = match destination.open_uploads(&naming.folder()).await {
        Ok(open) => open.map(|open| open.into_iter().map(|upload| upload.upload_id).collect()),
        Err(error) if error.kind() == ErrorKind::Fenced => return Err(error),
        // Who may write may not be allowed to list.
        Err(_) => None,
    };
    let mut walk = Walk {
        destination,
        naming,
        journal,
        sizes,
        open_uploads,
        objects: Vec::new(),
        starts: Vec::new(),
        warnings: Vec::new(),
    };
    let mut marks = BTreeMap::new();
    for (content, sequence) in objects {
        if let Some(found) = walk.content(&content, sequence).await? {
            marks.insert(content, found);
        }
    }
    let Walk { objects, starts, warnings, .. } = walk;
    let ends = range_ends.into_iter().filter_map(|(name, rows)| {
        let index = *places.get(name.as_str())?;
        Some(RangeEnd { index, name, changed: rows.into_iter().collect() })
    });
    let restart = restart(&plan, &places, &RangeEnds::new(ends.collect()), marks, starts)?;
    Ok(Progressed { restart, objects, warnings })
}

/// Where the engine goes on.
fn restart(
    plan: &[(String, Option<String>)],
    places: &BTreeMap<&str, usize>,
    ends: &RangeEnds,
    marks: BTreeMap<Content, Found>,
    starts: Vec<(Content, Start)>,
) -> Result<Restart> {
    let mut reached: BTreeMap<Option<Content>, Reached> = BTreeMap::new();
    for (content, Found { mark, is_finished }) in marks {
        let place = if is_finished { END } else { place_of(&mark, places, plan.len())? };
        reached.insert(Some(content), Reached { place, mark });
    }
    let errors = reported_errors(&reached, plan.len());
    for content in ends.contents().cloned().chain([None]) {
        reached.entry(content).or_insert_with(Reached::nothing);
    }
    for (content, reached) in &mut reached {
        if reached.place != END {
            *reached = ends.advance(content.as_ref(), reached.clone());
        }
    }
    let reads = ends.reads(plan.len(), &reached);
    let points = reached.into_iter().map(|(content, Reached { place, mark })| Point {
        content,
        row: mark.row,
        place,
        position: mark.position,
    });
    Ok(Restart {
        points: points.collect(),
        reads,
        starts,
        noted: ends.last_rows(),
        first_to_note: ends.first_behind(),
        errors,
    })
}

/// Errors among the lines of the report that are durable. What the job has to say of itself comes last, and is told anew.
fn reported_errors(reached: &BTreeMap<Option<Content>, Reached>, ranges: usize) -> u64 {
    let Some(report) = reached.get(&Some(Content::Errors)) else { return 0 };
    let position = &report.mark.position;
    let of_job = if &*position.range == BEHIND_ALL { position.place } else { 0 };
    debug_assert!(report.place.0 <= ranges + 1 || report.place == END);
    report.mark.row.written.resources.saturating_sub(of_job)
}

fn place_of(mark: &Mark, places: &BTreeMap<&str, usize>, ranges: usize) -> Result<Place> {
    let position = &mark.position;
    match &*position.range {
        "" if !places.contains_key("") => Ok((0, 0)),
        DELETIONS => Ok((ranges, position.place)),
        BEHIND_ALL => Ok((ranges + 1, position.place)),
        name => {
            match places.get(name) {
                Some(index) => Ok((*index, position.place)),
                None => Err(Error::new(ErrorKind::Store, "the journal names a range that isn't in its plan")
                    .with("range", name)),
            }
        }
    }
}

/// Up to where one type is durable.
#[derive(Debug)]
struct Found {
    mark: Mark,
    is_finished: bool,
}

/// Goes through the objects of each type, as far as they are durable.
struct Walk<'a> {
    destination: &'a dyn Destination,
    naming: &'a Naming,
    journal: &'a dyn Journal,
    /// What the job folder holds.
    sizes: BTreeMap<ObjectKey, u64>,
    /// Ids of its open uploads, if the store can tell.
    open_uploads: Option<BTreeSet<String>>,
    objects: Vec<(ObjectReport, Mark)>,
    starts: Vec<(Content, Start)>,
    warnings: Vec<String>,
}

/// What became of an open object.
enum Open {
    /// It is visible now.
    Closed(Box<WholeObject>),
    /// It goes on behind these parts.
    GoesOn { upload: Box<dyn Upload>, parts: Vec<DurablePart>, is_proven: bool },
    /// It must be begun again.
    Again,
}

impl Walk<'_> {
    async fn content(&mut self, content: &Content, sequence: BTreeMap<u32, ObjectState>) -> Result<Option<Found>> {
        let mut found: Option<Found> = None;
        let mut next_reason = SequenceReason::First;
        let mut expected = 0;
        let mut rest = sequence.into_iter();
        while let Some((number, state)) = rest.next() {
            let object = ObjectName { content: content.clone(), sequence: number };
            if number != expected || found.as_ref().is_some_and(|found| found.is_finished) {
                self.remove(object, state).await?;
                continue;
            }
            let key = self.naming.object(content, number)?;
            let reason = state.reason.unwrap_or(next_reason);
            match self.object(&object, &key, state).await? {
                Open::Closed(whole) => {
                    next_reason = whole.next.unwrap_or(SequenceReason::Continued);
                    found = Some(Found { mark: whole.mark.clone(), is_finished: whole.next.is_none() });
                    self.objects.push(report(key, object, *whole));
                    expected += 1;
                    continue;
                }
                Open::GoesOn { upload, parts, is_proven } => {
                    let mark = parts.last().map(|part| part.mark.clone());
                    found = mark.map(|mark| Found { mark, is_finished: false });
                    let content = content.clone();
                    let open = ResumedObject { content, sequence: number, reason, upload, parts, is_proven };
                    self.starts.push((open.content.clone(), Start::Open(open)));
                }
                Open::Again => {
                    let start = Start::Next { sequence: number, reason: next_reason };
                    self.starts.push((content.clone(), start));
                }
            }
            // What comes behind an object that isn't whole is written again.
            for (number, state) in rest {
                self.remove(ObjectName { content: content.clone(), sequence: number }, state).await?;
            }
            return Ok(found);
        }
        if expected > 0 {
            self.starts.push((content.clone(), Start::Next { sequence: expected, reason: next_reason }));
        }
        Ok(found)
    }

    /// Finds out what became of one object.
    async fn object(&mut self, object: &ObjectName, key: &ObjectKey, state: ObjectState) -> Result<Open> {
        if let Some(whole) = &state.whole {
            let stored = self.sizes.get(key) == Some(&whole.crc.length_bytes());
            if stored {
                if !state.is_closed {
                    self.journal.append(Entry::Closed { object: object.clone() }).await?;
                }
                return Ok(Open::Closed(Box::new(whole.clone())));
            }
            if state.is_closed {
                self.warn_again(key, "it isn't in the store any more");
                return self.again(object).await;
            }
        }
        let Some(upload_id) = &state.upload_id else { return self.again(object).await };
        let upload = match self.destination.reopen(key, upload_id).await {
            Ok(upload) => upload,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if !state.parts.is_empty() {
                    self.warn_again(key, "the store doesn't have its upload any more");
                }
                return self.again(object).await;
            }
            Err(error) => return Err(error.with("object", key)),
        };
        let mut parts = state.unbroken();
        let listed = listed_parts(upload.as_ref()).await?;
        let is_proven = listed.is_some();
        // Some stores refuse access to an upload that is gone, which looks as if it couldn't be asked for its parts.
        if !is_proven && self.open_uploads.as_ref().is_some_and(|open| !open.contains(upload_id)) {
            self.warn_again(key, "the store doesn't have its upload any more");
            return self.again(object).await;
        }
        if let Some(held) = listed {
            parts = held_parts(parts, &held);
        }
        if let Some(whole) = state.whole.filter(|whole| whole.parts as usize == parts.len() && whole.parts > 0) {
            let ids: Vec<PartId> = parts.iter().map(|part| part.id.clone()).collect();
            match upload.complete(&ids).await {
                Ok(()) => {}
                Err(error) if error.is_retryable() || error.kind() == ErrorKind::Fenced => {
                    return Err(error.with("object", key));
                }
                // The store could be listed, and there is no object: whatever it answers of an upload that is gone.
                Err(error) => {
                    tracing::warn!(object = %key, error = format!("{error:#}"), "an upload isn't completed");
                    // The manifest is for others too, and an error may name places.
                    self.warn_again(key, "the store didn't complete it");
                    return self.again(object).await;
                }
            }
            self.journal.append(Entry::Closed { object: object.clone() }).await?;
            return Ok(Open::Closed(Box::new(whole)));
        }
        if parts.is_empty() {
            // Of an upload with nothing in it, or of parts that aren't noted because they cut lines.
            abort(upload.as_ref(), key).await?;
            return self.again(object).await;
        }
        let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        self.journal.append(Entry::Resumed { object: object.clone(), parts: count }).await?;
        Ok(Open::GoesOn { upload, parts, is_proven })
    }

    async fn again(&self, object: &ObjectName) -> Result<Open> {
        self.journal.append(Entry::Gone { object: object.clone() }).await?;
        Ok(Open::Again)
    }

    fn warn_again(&mut self, key: &ObjectKey, why: &str) {
        tracing::warn!(object = %key, why, "an object is begun again");
        self.warnings.push(format!("{key} was begun again: {why}"));
    }

    /// Removes an object behind a gap: its type goes on before it.
    async fn remove(&self, object: ObjectName, state: ObjectState) -> Result<()> {
        let key = self.naming.object(&object.content, object.sequence)?;
        if let Some(upload_id) = &state.upload_id {
            match self.destination.reopen(&key, upload_id).await {
                Ok(upload) => abort(upload.as_ref(), &key).await?,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error.with("object", key)),
            }
        }
        if self.sizes.contains_key(&key) {
            self.destination.delete(&key).await?;
        }
        self.journal.append(Entry::Gone { object }).await
    }
}

/// Aborts an upload that nothing is kept of. It may have been aborted before, which stores tell in many ways; if it is
/// still open, it is found at the end of the job or by a sweep.
async fn abort(upload: &dyn Upload, key: &ObjectKey) -> Result<()> {
    match upload.abort().await {
        Err(error) if error.kind() == ErrorKind::Fenced => Err(error),
        Err(error) => {
            metrics::count_failed_abort();
            tracing::warn!(object = %key, error = format!("{error:#}"), "an upload can't be aborted");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// The parts that the store lists; `None` if it can't tell, or may not be asked.
async fn listed_parts(upload: &dyn Upload) -> Result<Option<Vec<StoredPart>>> {
    match upload.parts().await {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(None),
        listed => listed,
    }
}

/// Those first parts that the store has, of the size and, where it was read back, the checksum that they were sent in.
fn held_parts(parts: Vec<DurablePart>, held: &[StoredPart]) -> Vec<DurablePart> {
    let is_held = |part: &DurablePart| {
        let is_whole = |one: &StoredPart| {
            let is_same = one.crc64nvme.is_none_or(|crc| crc == part.crc.value());
            one.size_bytes == part.crc.length_bytes() && is_same
        };
        held.iter().any(|one| one.number == part.number && is_whole(one))
    };
    parts.into_iter().take_while(is_held).collect()
}

fn report(key: ObjectKey, object: ObjectName, whole: WholeObject) -> (ObjectReport, Mark) {
    let WholeObject { reason, count, crc, parts, mark, .. } = whole;
    let ObjectName { content, sequence } = object;
    (ObjectReport { key, content, sequence, reason, count, crc, parts, partial: None }, mark)
}
