//! All open objects of a job: where lines are appended, and where room is made when memory is short.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::accumulator::{LARGEST_BATCH_BYTES, LEAST_BATCH_BYTES};
use super::activity::WaitsFor;
use super::courier::Courier;
use super::gzip::Members;
use super::journal::Entry;
use super::naming::{Content, Naming};
use super::object::Object;
use super::open_object::{OpenObject, ResumedObject};
use super::report::{ObjectOutcome, SequenceReason};
use super::room::count_lines;
use super::settings::{Compression, WriterSettings};
use crate::budget::{Budget, Buffers, Permit, Pool, Turn};
use crate::cpu::CpuPool;
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Books, Count, Fate, Notes, Slot};

/// Share of the budget that may be on its way through compression. What comes out is charged when it is moved into its
/// part, so this and one member more are charged to nobody. It is no matter of cores: what is in an object when it ends
/// must not depend on them.
const COMPRESSING_SHARE: usize = 16;

/// Lines that go to one object, as they stand in a block, each with its line feed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines<'b> {
    /// The block.
    pub(crate) block: &'b Bytes,
    /// Where the lines begin in it.
    pub(crate) start: usize,
    /// Where they end, behind the last line feed.
    pub(crate) end: usize,
    /// How many there are.
    pub(crate) resources: u64,
    /// What else is to be said of them.
    pub(crate) notes: Notes,
    /// Whether the block is one of the source, in which the books keep their place.
    pub(crate) of_source: bool,
    /// Pays for the whole block in the fill pool: the lines are handed on as slices. `None`: they are copied.
    pub(crate) charge: Option<&'b Arc<Permit>>,
}

/// How the objects that are still open are to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Whole.
    Finish,
    /// As far as they are durable.
    Seal,
    /// Not at all, but what is durable stays for another attempt.
    Keep,
    /// Not at all.
    Discard,
}

/// What the objects of a type begin with in a job that goes on.
#[derive(Debug)]
pub(crate) enum Start {
    /// An object that is open.
    Open(ResumedObject),
    /// The next one behind those that are visible.
    Next {
        /// Its place in the sequence.
        sequence: u32,
        /// Why it isn't the one before.
        reason: SequenceReason,
    },
}

/// Writes the objects of one job.
#[derive(Debug)]
pub(crate) struct Writers {
    settings: Arc<WriterSettings>,
    naming: Naming,
    fill: Pool,
    buffers: Buffers,
    cpu: CpuPool,
    courier: Arc<Courier>,
    /// One place for each slot.
    open: Vec<Option<OpenObject>>,
    /// Whose members are being compressed, and their bytes, in the order in which they were ended.
    compressing: VecDeque<(Slot, usize)>,
    most_compressing_bytes: usize,
    closing: JoinSet<ObjectOutcome>,
    /// Of types that go on behind objects of an earlier attempt: the first object to be begun.
    next: BTreeMap<Slot, (u32, SequenceReason)>,
}

impl Writers {
    pub(crate) fn new(
        settings: WriterSettings,
        naming: Naming,
        budget: &Budget,
        cpu: CpuPool,
        courier: Arc<Courier>,
    ) -> Self {
        Self {
            settings: Arc::new(settings),
            naming,
            fill: budget.fill.clone(),
            buffers: budget.buffers.clone(),
            cpu,
            courier,
            open: Vec::new(),
            compressing: VecDeque::new(),
            most_compressing_bytes: budget.total_bytes() / COMPRESSING_SHARE,
            closing: JoinSet::new(),
            next: BTreeMap::new(),
        }
    }

    /// Goes on with what an earlier attempt has written of a type.
    pub(crate) fn resume(&mut self, slot: Slot, start: Start) -> Result<()> {
        match start {
            Start::Next { sequence, reason } => {
                self.next.insert(slot, (sequence, reason));
            }
            Start::Open(open) => {
                self.courier.trust(open.name(), open.is_proven);
                let ResumedObject { content, sequence, reason, upload, parts, .. } = open;
                let object = self.new_object(slot, content, sequence, reason)?.resume(upload, parts);
                *self.place(slot) = Some(object);
            }
        }
        Ok(())
    }

    /// Adds an entry to the job's journal, if it has one.
    pub(crate) async fn note(&self, entry: Entry) -> Result<()> {
        self.courier.note(entry).await
    }

    fn place(&mut self, slot: Slot) -> &mut Option<OpenObject> {
        if self.open.len() <= slot.index() {
            self.open.resize_with(slot.index() + 1, || None);
        }
        #[expect(clippy::indexing_slicing, reason = "resized above")]
        &mut self.open[slot.index()]
    }

    /// Longest block that may be handed on as it is. It is charged until it is fanned out, and what is compressed meanwhile
    /// must fit beside it.
    pub(crate) fn longest_handed_on_bytes(&self) -> usize {
        match self.settings.compression {
            Compression::None => usize::MAX,
            Compression::Gzip { .. } => self.fill.size_bytes() / 4,
        }
    }

    /// Appends lines to the object in a slot and counts them as written.
    pub(crate) async fn append(
        &mut self,
        slot: Slot,
        content: &Content,
        lines: Lines<'_>,
        books: &mut Books,
    ) -> Result<()> {
        self.open_object(slot, content)?;
        let mut rest = lines;
        while rest.start < rest.end {
            rest = self.append_some(slot, rest, books).await?;
        }
        Ok(())
    }

    /// Appends as many of the lines as one step can and returns the rest.
    async fn append_some<'b>(&mut self, slot: Slot, lines: Lines<'b>, books: &mut Books) -> Result<Lines<'b>> {
        let data = lines.block.get(lines.start..lines.end).unwrap_or_default();
        let settings = Arc::clone(&self.settings);
        let room = self.object(slot)?.line_room(&settings);
        let within = data.get(..room.take(data)).unwrap_or_default();
        let wanted = settings.split.limit(self.object(slot)?.accepted, within).len();
        if wanted == 0 {
            self.end_frames(slot, books).await?;
            return Ok(lines);
        }
        let take = if lines.charge.is_some() { wanted } else { self.batch_room(slot, data, wanted, books).await? };
        let Some(taken) = data.get(..take).filter(|taken| !taken.is_empty()) else { return Ok(lines) };
        let end = lines.start + take;
        let resources = if take == data.len() { lines.resources } else { count_lines(taken) };
        let count = Count::new(resources, take as u64);
        let object = self.object(slot)?;
        match lines.charge {
            Some(charge) => object.waiting().push_slice(lines.block.slice(lines.start..end), Some(Arc::clone(charge))),
            None => object.waiting().copy(taken),
        }
        object.accept(count, !taken.ends_with(b"\n"));
        if lines.of_source {
            books.record(slot, Fate::Written, count, end);
            // Before anything is cut: what a part's mark counts must have its notes.
            if end == lines.end {
                books.note(slot, lines.notes);
            }
        } else {
            books.record_aside(slot, Fate::Written, count);
        }
        if room.is_used_up_by(take) {
            self.end_frames(slot, books).await?;
        } else {
            self.roll_if_due(slot, books).await?;
        }
        Ok(Lines { start: end, resources: lines.resources - resources, ..lines })
    }

    /// How many of the wanted bytes fit the open batch, whole lines if any do. 0 after a new batch was opened: making
    /// room for it may have changed what is open.
    async fn batch_room(&mut self, slot: Slot, data: &[u8], wanted: usize, books: &Books) -> Result<usize> {
        let room = self.object(slot)?.waiting().batch_room_bytes();
        if wanted <= room {
            return Ok(wanted);
        }
        if let Some(end) = data.get(..room).and_then(|fits| memchr::memrchr(b'\n', fits)) {
            return Ok(end + 1);
        }
        let first_line = memchr::memchr(b'\n', data).map_or(data.len(), |end| end + 1);
        let largest = self.largest_batch_bytes();
        let object = self.object(slot)?;
        let batch_bytes = object.batch_bytes.min(largest);
        let size_bytes = batch_bytes.max(first_line);
        object.batch_bytes = (batch_bytes * 2).min(largest);
        let permit = self.charge(size_bytes, books).await?;
        let buffers = self.buffers.clone();
        self.object(slot)?.waiting().open_batch(size_bytes, permit, &buffers);
        Ok(0)
    }

    /// The size up to which batches grow: so many that the open objects' last batches, which are half empty at any time,
    /// take no more than half of the fill pool, and what has to make room is worth a write.
    fn largest_batch_bytes(&self) -> usize {
        let objects = self.open.iter().flatten().count().max(1);
        let share = self.fill.size_bytes() / (2 * objects);
        // Powers of two, so that memory fits again.
        (1 << share.max(1).ilog2()).clamp(LEAST_BATCH_BYTES, LARGEST_BATCH_BYTES)
    }

    /// Ends what is open at a frame end: the member if the object is compressed, else the part.
    async fn end_frames(&mut self, slot: Slot, books: &Books) -> Result<()> {
        let settings = Arc::clone(&self.settings);
        let object = self.object(slot)?;
        let last = object.is_at_last_part(&settings).then(|| object.must_roll(&settings));
        match &mut object.members {
            Some(members) => {
                let bytes = members.raw.len();
                members.close(books.mark(slot));
                self.compressing.push_back((slot, bytes));
                self.collect_members(books).await?;
            }
            // Only the object's end ends the last part that the store takes.
            None => match last {
                Some(reason) => return self.roll(slot, reason.unwrap_or(SequenceReason::Parts), books).await,
                None => object.cut(books.mark(slot)),
            },
        }
        self.roll_if_due(slot, books).await
    }

    /// Moves compressed members into parts, in the order in which they were ended, until few enough are left.
    async fn collect_members(&mut self, books: &Books) -> Result<()> {
        while self.compressing.iter().map(|(_, bytes)| bytes).sum::<usize>() > self.most_compressing_bytes {
            let Some((slot, _)) = self.compressing.pop_front() else { break };
            self.collect_member(slot, books).await?;
            self.roll_if_due(slot, books).await?;
        }
        Ok(())
    }

    async fn collect_member(&mut self, slot: Slot, books: &Books) -> Result<()> {
        let Some(members) = &mut self.object(slot)?.members else { return Ok(()) };
        let Some(bytes) = members.next_bytes().await? else { return Ok(()) };
        let charge = Arc::new(self.charge(bytes, books).await?);
        self.buffers.fit();
        let settings = Arc::clone(&self.settings);
        let object = self.object(slot)?;
        // None if room was made by ending the object, with all its members.
        if let Some(member) = object.members.as_mut().and_then(Members::take_ready) {
            object.add_member(member, Some(&charge), &settings);
        }
        Ok(())
    }

    /// Goes on in the next object of the sequence if the open one is at a limit.
    async fn roll_if_due(&mut self, slot: Slot, books: &Books) -> Result<()> {
        let settings = Arc::clone(&self.settings);
        match self.object(slot)?.must_roll(&settings) {
            Some(reason) => self.roll(slot, reason, books).await,
            None => Ok(()),
        }
    }

    /// Ends the open object of a slot and begins the next of its sequence.
    async fn roll(&mut self, slot: Slot, reason: SequenceReason, books: &Books) -> Result<()> {
        let Some(mut object) = self.open.get_mut(slot.index()).and_then(Option::take) else { return Ok(()) };
        let next = self.new_object(slot, object.content().clone(), object.sequence() + 1, reason);
        let mark = books.mark(slot);
        self.compressing.retain(|(compressing, _)| *compressing != slot);
        object.close_members(&mark, &self.settings).await?;
        self.closing.spawn(object.close(mark, Some(reason)));
        if let Some(place) = self.open.get_mut(slot.index()) {
            *place = Some(next?);
        }
        Ok(())
    }

    /// Waits for bytes of the fill pool and makes room if it is exhausted.
    ///
    /// # Cancellation
    /// Must be polled to its end: making room moves bytes that were counted.
    pub(crate) async fn charge(&mut self, bytes: usize, books: &Books) -> Result<Permit> {
        if let Some(permit) = self.fill.try_acquire(bytes) {
            return Ok(permit);
        }
        self.fill.count_wait();
        let activity = Arc::clone(&self.courier.activity);
        activity.waiting(WaitsFor::Store, self.wait_for_room(bytes, books)).await
    }

    async fn wait_for_room(&mut self, bytes: usize, books: &Books) -> Result<Permit> {
        loop {
            if let Some(permit) = self.fill.try_acquire(bytes) {
                return Ok(permit);
            }
            if self.courier.unless_halted(self.courier.part_left()).await? || self.relieve(books).await? {
                continue;
            }
            return self.courier.unless_halted(self.fill.acquire(Turn(0), bytes, 0)).await;
        }
    }

    /// Makes room: sends the largest part that the store takes, else spills the largest, else ends an object. `false`:
    /// there is nothing left to move.
    async fn relieve(&mut self, books: &Books) -> Result<bool> {
        let settings = Arc::clone(&self.settings);
        // A part of fixed size is never sent before it is full, and the last one that the store takes not at all.
        let least = if settings.part_sizing.is_fixed() { usize::MAX } else { settings.min_part_bytes };
        let may_be_cut = |object: &OpenObject| object.part.len() >= least && !object.is_at_last_part(&settings);
        if let Some((slot, object)) =
            self.largest(|object| if may_be_cut(object) { object.part.memory_bytes() } else { 0 })
        {
            object.cut_early(books.mark(slot));
            return Ok(true);
        }
        let area = settings.spill.clone();
        let buffers = self.buffers.clone();
        // By what is in it, not by what it holds: a batch that was just opened is no gain.
        if let Some((_, object)) = self.largest(OpenObject::filled_bytes)
            && area.has_room(object.filled_bytes() as u64)
        {
            object.spill(&area, &buffers).await?;
            return Ok(true);
        }
        let whole = self.largest(|object| if object.is_mid_line() { 0 } else { object.memory_bytes() });
        let Some((slot, _)) = whole else { return Ok(false) };
        self.roll(slot, SequenceReason::Memory, books).await?;
        Ok(true)
    }

    fn largest(&mut self, weight: impl Fn(&OpenObject) -> usize) -> Option<(Slot, &mut OpenObject)> {
        let places = self.open.iter_mut().flatten();
        let largest = places.max_by_key(|object| weight(object)).filter(|object| weight(object) > 0)?;
        Some((largest.slot(), largest))
    }

    fn open_object(&mut self, slot: Slot, content: &Content) -> Result<()> {
        if self.place(slot).is_some() {
            return Ok(());
        }
        let (sequence, reason) = self.next.remove(&slot).unwrap_or((0, SequenceReason::First));
        *self.place(slot) = Some(self.new_object(slot, content.clone(), sequence, reason)?);
        Ok(())
    }

    fn new_object(&self, slot: Slot, content: Content, sequence: u32, reason: SequenceReason) -> Result<OpenObject> {
        let key = self.naming.object(&content, sequence)?;
        let members = match self.settings.compression {
            Compression::None => None,
            Compression::Gzip { level } => Some(Members::new(self.cpu.clone(), level)),
        };
        let object = Object::new(Arc::clone(&self.courier), key, content, sequence, reason);
        Ok(OpenObject::new(slot, object, Arc::clone(&self.courier), members))
    }

    fn object(&mut self, slot: Slot) -> Result<&mut OpenObject> {
        let object = self.open.get_mut(slot.index()).and_then(Option::as_mut);
        object.ok_or_else(|| Error::new(ErrorKind::Internal, "an object was written to that isn't open"))
    }

    /// Ends all objects in the given way and tells how each ended.
    pub(crate) async fn end(mut self, ending: Ending, books: &Books) -> Vec<ObjectOutcome> {
        for mut object in self.open.drain(..).flatten() {
            let mark = books.mark(object.slot());
            let settings = Arc::clone(&self.settings);
            self.closing.spawn(async move {
                match ending {
                    Ending::Keep => return object.keep().await,
                    Ending::Discard => return object.abandon().await,
                    Ending::Finish | Ending::Seal => {}
                }
                if object.close_members(&mark, &settings).await.is_err() {
                    return object.abandon().await;
                }
                object.close(mark, (ending == Ending::Seal).then_some(SequenceReason::Continued)).await
            });
        }
        let mut outcomes = Vec::new();
        while let Some(outcome) = self.closing.join_next().await {
            outcomes.extend(outcome);
        }
        outcomes
    }
}
