//! An object that lines are being written to.

use std::sync::{Arc, OnceLock};

use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::accumulator::{Accumulator, LEAST_BATCH_BYTES};
use super::checksum::Crc64;
use super::courier::Courier;
use super::gzip::{Member, Members};
use super::journal::{DurablePart, ObjectName, WholeObject};
use super::naming::Content;
use super::object::Object;
use super::report::{Leftover, ObjectOutcome, ObjectReport, SequenceReason};
use super::room::Room;
use super::settings::WriterSettings;
use super::spill::SpillArea;
use crate::budget::{Buffers, Permit};
use crate::destination::Upload;
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Count, Mark, Slot};

/// The open part, the parts on their way, and what they hold.
#[derive(Debug)]
pub(super) struct OpenObject {
    slot: Slot,
    object: Arc<Object>,
    courier: Arc<Courier>,
    /// The compression stage before the parts, if there is one.
    pub(super) members: Option<Members>,
    /// What waits to become the next part.
    pub(super) part: Accumulator,
    /// Everything that was handed over to this object.
    pub(super) accepted: Count,
    /// Size of the next batch, in bytes.
    pub(super) batch_bytes: usize,
    /// The last line isn't whole: of a part of fixed size only, which cuts lines.
    mid_line: bool,
    part_count: Count,
    part_mark: Option<Mark>,
    departed_bytes: u64,
    next_number: u32,
    sending: JoinSet<Option<DurablePart>>,
    durable: Vec<DurablePart>,
    /// When the requests that end the object must have an answer, once everything has stopped.
    closes_by: OnceLock<Instant>,
}

/// An object of an earlier attempt that is gone on with: its upload and the parts that are durable.
#[derive(Debug)]
pub(crate) struct ResumedObject {
    pub(crate) content: Content,
    pub(crate) sequence: u32,
    pub(crate) reason: SequenceReason,
    pub(crate) upload: Box<dyn Upload>,
    /// At least one; the first parts of the object, in order.
    pub(crate) parts: Vec<DurablePart>,
    /// Whether the store has said that it has them.
    pub(crate) is_proven: bool,
}

impl ResumedObject {
    /// What is durable of it.
    pub(crate) fn durable(&self) -> Count {
        sum(&self.parts).0
    }

    pub(crate) fn name(&self) -> ObjectName {
        ObjectName { content: self.content.clone(), sequence: self.sequence }
    }
}

impl OpenObject {
    pub(super) fn new(slot: Slot, object: Object, courier: Arc<Courier>, members: Option<Members>) -> Self {
        Self {
            slot,
            object: Arc::new(object),
            courier,
            members,
            part: Accumulator::default(),
            accepted: Count::default(),
            batch_bytes: LEAST_BATCH_BYTES,
            mid_line: false,
            part_count: Count::default(),
            part_mark: None,
            departed_bytes: 0,
            next_number: 1,
            sending: JoinSet::new(),
            durable: Vec::new(),
            closes_by: OnceLock::new(),
        }
    }

    /// Goes on behind parts that are durable.
    pub(super) fn resume(mut self, upload: Box<dyn Upload>, parts: Vec<DurablePart>) -> Self {
        let (count, crc) = sum(&parts);
        let durable = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        self.object.resume(upload, durable);
        self.accepted = count;
        self.departed_bytes = crc.length_bytes();
        self.next_number = durable + 1;
        self.part_mark = parts.last().map(|part| part.mark.clone());
        self.durable = parts;
        self
    }

    pub(super) const fn slot(&self) -> Slot {
        self.slot
    }

    pub(super) fn content(&self) -> &Content {
        &self.object.content
    }

    /// What is told of within that is done for the object.
    pub(super) fn span(&self) -> Span {
        self.object.span.clone()
    }

    pub(super) fn sequence(&self) -> u32 {
        self.object.sequence
    }

    /// Where lines wait: for the next member if the object is compressed, else for the next part.
    pub(super) fn waiting(&mut self) -> &mut Accumulator {
        match &mut self.members {
            Some(members) => &mut members.raw,
            None => &mut self.part,
        }
    }

    /// Bytes that the open part, and the open member if there is one, hold in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.part.memory_bytes() + self.members.as_ref().map_or(0, |members| members.raw.memory_bytes())
    }

    /// Bytes of lines and members in them.
    pub(super) fn filled_bytes(&self) -> usize {
        self.part.filled_bytes() + self.members.as_ref().map_or(0, |members| members.raw.filled_bytes())
    }

    /// What the open part has room for. The last one may end at a line end whatever its size, so an object never ends
    /// within a line.
    pub(super) fn part_room(&self, settings: &WriterSettings) -> Room {
        Room {
            held: self.part.len(),
            target: settings.part_sizing.target_bytes(self.departed_bytes),
            least: settings.min_part_bytes.max(1),
            exact: settings.part_sizing.is_fixed() && !self.is_at_last_part(settings),
        }
    }

    /// Whether the store takes no part behind the open one. That one is ended only by the object's end.
    pub(super) const fn is_at_last_part(&self, settings: &WriterSettings) -> bool {
        self.next_number >= settings.max_parts
    }

    /// Whether a line was cut and its rest is still to come.
    pub(super) const fn is_mid_line(&self) -> bool {
        self.mid_line
    }

    /// What there is room for where lines wait.
    pub(super) fn line_room(&self, settings: &WriterSettings) -> Room {
        match &self.members {
            Some(members) => Room::of_member(members.raw.len(), settings.member_bytes),
            None => self.part_room(settings),
        }
    }

    /// Counts what was handed over; `mid_line`: its last line isn't whole.
    pub(super) fn accept(&mut self, count: Count, mid_line: bool) {
        self.accepted += count;
        self.mid_line = mid_line;
        match &mut self.members {
            Some(members) => members.raw_count += count,
            None => self.part_count += count,
        }
    }

    /// Adds a compressed member to the open part and ends parts where they are due.
    pub(super) fn add_member(&mut self, mut member: Member, charge: Option<&Arc<Permit>>, settings: &WriterSettings) {
        while !member.bytes.is_empty() {
            let room = self.part_room(settings);
            let is_last = self.is_at_last_part(settings);
            let take = if is_last { member.bytes.len() } else { room.take_frame(member.bytes.len()) };
            if take > 0 {
                self.part.push_slice(member.bytes.split_to(take), charge.cloned());
                if member.bytes.is_empty() {
                    self.part_count += member.count;
                    self.part_mark = Some(member.mark.clone());
                }
            }
            if !is_last && (take == 0 || room.is_used_up_by(take)) {
                self.cut(self.part_mark.clone().unwrap_or_else(|| member.mark.clone()));
            }
        }
    }

    /// The state of the books behind the last resource of the open part, which is `now` unless members lag behind.
    fn mark_of_part(&self, now: Mark) -> Mark {
        match &self.members {
            Some(_) => self.part_mark.clone().unwrap_or(now),
            None => now,
        }
    }

    /// Ends the open part before it is due, to make room.
    pub(super) fn cut_early(&mut self, now: Mark) {
        self.cut(self.mark_of_part(now));
    }

    /// Moves what waits to disk.
    pub(super) async fn spill(&mut self, area: &SpillArea, buffers: &Buffers) -> Result<()> {
        self.part.spill(area, buffers).await?;
        match &mut self.members {
            Some(members) => members.raw.spill(area, buffers).await,
            None => Ok(()),
        }
    }

    /// Why the type must go on in the next object of its sequence, if it must.
    pub(super) fn must_roll(&self, settings: &WriterSettings) -> Option<SequenceReason> {
        if self.mid_line {
            return None;
        }
        if settings.split.is_due(self.accepted) {
            return Some(SequenceReason::Split);
        }
        let is_used_up = self.is_at_last_part(settings) && self.part_room(settings).is_used_up_by(0);
        is_used_up.then_some(SequenceReason::Parts)
    }

    /// Ends the open part and sends it on its way; `mark` is the state of the books behind its last resource.
    pub(super) fn cut(&mut self, mark: Mark) {
        let count = std::mem::take(&mut self.part_count);
        let content = self.part.take();
        let number = self.next_number;
        self.next_number += 1;
        self.departed_bytes += content.len() as u64;
        let queued = self.courier.queue(content);
        let (object, courier) = (Arc::clone(&self.object), Arc::clone(&self.courier));
        let span = tracing::debug_span!(parent: &object.span, "part", number);
        let sending = async move {
            match object.send_part(number, queued, count, mark).await {
                Ok(part) => Some(part),
                Err(error) => {
                    courier.report(error);
                    None
                }
            }
        };
        self.sending.spawn(sending.instrument(span));
        self.collect_sent();
    }

    /// Ends the open member and moves all members into parts, uncharged: what they were made of is free already.
    pub(super) async fn close_members(&mut self, mark: &Mark, settings: &WriterSettings) -> Result<()> {
        if let Some(members) = &mut self.members {
            members.close(mark.clone());
        }
        while let Some(members) = &mut self.members {
            if members.next_bytes().await?.is_none() {
                break;
            }
            if let Some(member) = members.take_ready() {
                self.add_member(member, None, settings);
            }
        }
        Ok(())
    }

    fn collect_sent(&mut self) {
        while let Some(sent) = self.sending.try_join_next() {
            self.durable.extend(sent.ok().flatten());
        }
    }

    async fn join_sent(&mut self) {
        while let Some(sent) = self.sending.join_next().await {
            self.durable.extend(sent.ok().flatten());
        }
        self.durable.sort_by_key(|part| part.number);
    }

    /// Writes the rest and makes the object visible: whole, or if everything stops meanwhile, as far as it is durable.
    ///
    /// `next` says why the type goes on in another object; if that is because the job is sealed, it goes on in the snapshot
    /// behind what was handed over.
    pub(super) async fn close(mut self, mark: Mark, next: Option<SequenceReason>) -> ObjectOutcome {
        if self.accepted.resources == 0 {
            return self.nothing();
        }
        let partial = next == Some(SequenceReason::Continued);
        let closed = if self.next_number == 1 {
            self.put_whole(mark.clone(), next).await
        } else {
            self.complete_whole(mark.clone(), next).await
        };
        match closed {
            Ok(report) if partial => self.sealed(report, mark),
            Ok(report) => ObjectOutcome::Visible { report, mark: Box::new(mark), accepted: self.accepted },
            Err(_) if partial || self.courier.is_sealing() => self.complete_durable().await,
            Err(error) => {
                self.courier.report(error);
                if self.courier.cancelled.is_cancelled() {
                    return self.complete_durable().await;
                }
                if self.courier.keeps() {
                    return self.keep().await;
                }
                self.abandon().await
            }
        }
    }

    fn sealed(&self, mut report: ObjectReport, mark: Mark) -> ObjectOutcome {
        report.partial = Some(mark.position.clone());
        ObjectOutcome::Visible { report, mark: Box::new(mark), accepted: self.accepted }
    }

    async fn put_whole(&mut self, mark: Mark, next: Option<SequenceReason>) -> Result<ObjectReport> {
        let count = std::mem::take(&mut self.part_count);
        let content = self.part.take();
        self.departed_bytes = content.len() as u64;
        let reason = self.object.reason;
        let whole = |crc| WholeObject { reason, count, crc, parts: 0, mark, next };
        let put = self.object.put_whole(self.courier.queue(content), whole);
        let crc = self.courier.in_time(&self.closes_by, put).await?;
        self.courier.durable(&self.object.content, count);
        Ok(self.report(count, crc, 0))
    }

    async fn complete_whole(&mut self, mark: Mark, next: Option<SequenceReason>) -> Result<ObjectReport> {
        if self.part.len() > 0 {
            self.cut(mark.clone());
        }
        self.join_sent().await;
        if self.durable.len() as u64 + 1 < u64::from(self.next_number) {
            return Err(self.object.name(Error::new(ErrorKind::Store, "a part of the object didn't reach the store")));
        }
        self.courier.in_time(&self.closes_by, self.object.complete(&self.durable, self.whole(mark, next))).await?;
        Ok(self.report_durable())
    }

    fn whole(&self, mark: Mark, next: Option<SequenceReason>) -> WholeObject {
        let ObjectReport { reason, count, crc, parts, .. } = self.report_durable();
        WholeObject { reason, count, crc, parts, mark, next }
    }

    /// Makes the longest unbroken row of durable parts visible.
    async fn complete_durable(mut self) -> ObjectOutcome {
        let unbroken = (1..).zip(&self.durable).take_while(|(number, part)| *number == part.number).count();
        self.durable.truncate(unbroken);
        let Some(last) = self.durable.last().map(|part| part.mark.clone()) else { return self.abandon().await };
        let whole = self.whole(last.clone(), Some(SequenceReason::Continued));
        match self.courier.in_time(&self.closes_by, self.object.complete(&self.durable, whole)).await {
            Ok(()) => self.sealed(self.report_durable(), last),
            Err(error) => self.failed(error),
        }
    }

    /// Gives everything up that isn't visible.
    pub(super) async fn abandon(mut self) -> ObjectOutcome {
        self.sending.shutdown().await;
        let cleaned = async {
            self.object.abort().await?;
            // A put or a completion whose answer was lost may have stored the object all the same.
            self.courier.destination.delete(&self.object.key).await
        };
        match self.courier.in_time(&self.closes_by, cleaned).await {
            Ok(()) => self.nothing(),
            Err(error) => self.failed(error),
        }
    }

    /// Leaves everything as it is, for another attempt.
    pub(super) async fn keep(mut self) -> ObjectOutcome {
        self.sending.shutdown().await;
        if self.object.upload_id().is_none() && self.departed_bytes == 0 {
            return self.nothing();
        }
        self.failed(Error::new(ErrorKind::Store, "the object isn't complete; the job can be resumed"))
    }

    fn report_durable(&self) -> ObjectReport {
        let (count, crc) = sum(&self.durable);
        self.report(count, crc, self.durable.len())
    }

    fn report(&self, count: Count, crc: Crc64, parts: usize) -> ObjectReport {
        ObjectReport {
            key: self.object.key.clone(),
            content: self.object.content.clone(),
            sequence: self.object.sequence,
            reason: self.object.reason,
            count,
            crc,
            parts: u32::try_from(parts).unwrap_or(u32::MAX),
            partial: None,
        }
    }

    fn nothing(&self) -> ObjectOutcome {
        ObjectOutcome::Nothing {
            content: self.object.content.clone(),
            sequence: self.object.sequence,
            accepted: self.accepted,
        }
    }

    fn failed(&self, error: Error) -> ObjectOutcome {
        ObjectOutcome::Failed {
            content: self.object.content.clone(),
            sequence: self.object.sequence,
            accepted: self.accepted,
            left: Leftover { key: self.object.key.clone(), upload_id: self.object.upload_id() },
            error: self.object.name(error),
        }
    }
}

fn sum(parts: &[DurablePart]) -> (Count, Crc64) {
    parts.iter().fold((Count::default(), Crc64::default()), |(mut count, crc), part| {
        count += part.count;
        (count, crc.then(part.crc))
    })
}
