//! Brings parts to the store: the flight pool, the order of departure, and the first fault.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use object_store::PutPayload;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::accumulator::Accumulator;
use super::activity::Activity;
use super::checksum::Crc64;
use super::journal::{Entry, Journal, ObjectName};
use super::naming::Content;
use crate::budget::{Permit, Pool, Turn};
use crate::destination::Destination;
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::Count;

/// What the parts of one job share on their way to the store.
#[derive(Debug)]
pub(crate) struct Courier {
    pub(super) destination: Arc<dyn Destination>,
    flight: Pool,
    departures: AtomicU64,
    waiting_parts: AtomicUsize,
    left: Notify,
    /// No more lines are taken: the job was cancelled, or a fault was reported.
    pub(crate) halt: CancellationToken,
    /// No more requests are made: sealing has taken too long, or nothing is to be kept.
    pub(crate) stop: CancellationToken,
    /// The job was cancelled: what is durable is kept, whatever happens to the rest.
    pub(super) cancelled: CancellationToken,
    /// How long the requests that end an object may take when the job ends early.
    closing_timeout: Duration,
    fault: Mutex<Option<Error>>,
    durable: Mutex<BTreeMap<Content, Count>>,
    /// What survives a crash; `None`: nothing does.
    journal: Option<Arc<dyn Journal>>,
    /// Parts don't end at frame ends.
    pub(super) cuts_lines: bool,
    /// Whether the job moves.
    pub(crate) activity: Arc<Activity>,
    /// Objects that go on with an upload, and whether the store has said that it has it.
    unproven: Mutex<Vec<(ObjectName, bool)>>,
}

/// A payload on its way, with the permit that pays for it until the store has acknowledged it.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) payload: PutPayload,
    pub(super) crc: Crc64,
    pub(super) permit: Permit,
}

impl Courier {
    pub(crate) fn new(
        destination: Arc<dyn Destination>,
        flight: Pool,
        halt: CancellationToken,
        stop: CancellationToken,
        cancelled: CancellationToken,
        closing_timeout: Duration,
    ) -> Self {
        Self {
            destination,
            flight,
            departures: AtomicU64::new(0),
            waiting_parts: AtomicUsize::new(0),
            left: Notify::new(),
            halt,
            stop,
            cancelled,
            closing_timeout,
            fault: Mutex::new(None),
            durable: Mutex::new(BTreeMap::new()),
            journal: None,
            cuts_lines: false,
            activity: Arc::default(),
            unproven: Mutex::default(),
        }
    }

    /// Says that an object goes on with an upload that nothing was stored in yet by this attempt; `is_listed`: the store has
    /// said that it has it.
    pub(crate) fn trust(&self, object: ObjectName, is_listed: bool) {
        self.unproven.lock().unwrap_or_else(PoisonError::into_inner).push((object, is_listed));
    }

    /// Says that the store has an object's upload.
    pub(super) fn proven(&self, object: &ObjectName) {
        self.unproven.lock().unwrap_or_else(PoisonError::into_inner).retain(|(unproven, _)| unproven != object);
    }

    /// Objects whose uploads are gone, by how the store refused one of them. If it says that it doesn't know one, those that
    /// it has never said to have are most likely as old. If it refuses access to one that nothing was stored in yet, that one.
    pub(super) fn gone_with(&self, object: ObjectName, kind: ErrorKind) -> Vec<ObjectName> {
        let mut unproven = self.unproven.lock().unwrap_or_else(PoisonError::into_inner);
        let is_unproven = unproven.iter().any(|(name, _)| *name == object);
        match kind {
            ErrorKind::NotFound => {
                let others = unproven.iter().filter(|(name, is_listed)| !is_listed && *name != object);
                let mut gone: Vec<ObjectName> = others.map(|(name, _)| name.clone()).collect();
                unproven.retain(|(_, is_listed)| *is_listed);
                gone.push(object);
                gone
            }
            ErrorKind::PermissionDenied if is_unproven => vec![object],
            _ => Vec::new(),
        }
    }

    /// Tells of what becomes durable.
    pub(crate) fn with_activity(mut self, activity: Arc<Activity>) -> Self {
        self.activity = activity;
        self
    }

    /// Takes notes in a journal; `cuts_lines` says that parts don't end at frame ends.
    pub(crate) fn with_journal(mut self, journal: Option<Arc<dyn Journal>>, cuts_lines: bool) -> Self {
        self.journal = journal;
        self.cuts_lines = cuts_lines;
        self
    }

    /// Adds an entry to the journal, if there is one.
    pub(crate) async fn note(&self, entry: Entry) -> Result<()> {
        match &self.journal {
            Some(journal) => journal.append(entry).await,
            None => Ok(()),
        }
    }

    /// Whether what is durable stays after the job's fault, for another attempt; a job that was taken over is no longer
    /// ours to clean up.
    pub(super) fn keeps(&self) -> bool {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = fault.as_ref().map(Error::kind);
        self.journal.is_some() && kind.is_some_and(|kind| kind.may_be_resumed() || kind == ErrorKind::Fenced)
    }

    /// Takes a place in the order of departure; a part holds its fill permits until it departs.
    pub(super) fn queue(self: &Arc<Self>, content: Accumulator) -> QueuedPart {
        self.waiting_parts.fetch_add(1, Ordering::AcqRel);
        let turn = Turn(self.departures.fetch_add(1, Ordering::Relaxed));
        QueuedPart { courier: Arc::clone(self), turn, content: Some(content) }
    }

    /// Waits until a waiting part has left the fill pool; `false` at once if none waits.
    pub(super) async fn part_left(&self) -> bool {
        let left = self.left.notified();
        tokio::pin!(left);
        // Registered before the look, so that a part that leaves in between is not missed.
        left.as_mut().enable();
        if self.waiting_parts.load(Ordering::Acquire) == 0 {
            return false;
        }
        left.await;
        true
    }

    /// Runs a request of the store unless everything is to stop.
    pub(super) async fn unless_stopped<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        match self.stop.run_until_cancelled(request).await {
            Some(result) => result,
            None => Err(Error::cancelled()),
        }
    }

    /// Waits unless no more lines are taken.
    pub(super) async fn unless_halted<T>(&self, wait: impl Future<Output = T>) -> Result<T> {
        self.halt.run_until_cancelled(wait).await.ok_or_else(Error::cancelled)
    }

    /// Runs a request that ends an object. Once everything has stopped it has a last time limit: a store that doesn't
    /// answer must not hold the job for ever. All requests of one object share it, by its `closes_by`.
    pub(super) async fn in_time<T>(
        &self,
        closes_by: &OnceLock<Instant>,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let limit = async {
            self.stop.cancelled().await;
            let closes_by = closes_by.get_or_init(|| Instant::now() + self.closing_timeout);
            tokio::time::sleep_until(*closes_by).await;
        };
        tokio::select! {
            biased;
            result = request => result,
            () = limit => Err(Error::new(
                ErrorKind::Store,
                format!("the store didn't answer within {} s", self.closing_timeout.as_secs_f64()),
            )
            .retryable(true)),
        }
    }

    /// Counts resources that the store has acknowledged.
    pub(crate) fn durable(&self, content: &Content, count: Count) {
        self.activity.moved();
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        *durable.entry(content.clone()).or_default() += count;
    }

    /// What the store has acknowledged so far.
    pub(crate) fn durable_counts(&self) -> BTreeMap<Content, Count> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the first fault and tells the job to stop reading.
    pub(crate) fn report(&self, error: Error) {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if fault.is_none() && !error.is_cancelled() {
            *fault = Some(error);
            self.halt.cancel();
        }
    }

    /// Whether requests have stopped because the job was cancelled, not because of a fault.
    pub(super) fn is_sealing(&self) -> bool {
        self.stop.is_cancelled() && self.fault.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// The kind of the first fault, if there was one.
    pub(crate) fn fault_kind(&self) -> Option<ErrorKind> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Error::kind)
    }

    /// The first fault, if there was one.
    pub(crate) fn take_fault(&self) -> Option<Error> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A part in the order of departure.
#[derive(Debug)]
pub(super) struct QueuedPart {
    courier: Arc<Courier>,
    turn: Turn,
    content: Option<Accumulator>,
}

impl QueuedPart {
    /// Waits for room in flight and moves the part from the fill pool there.
    pub(super) async fn depart(mut self) -> Result<Parcel> {
        let Some(content) = self.content.take() else { return Err(Error::cancelled()) };
        // While the store asks for less, a part departs only if so much of the flight stays empty.
        let most_bytes = self.courier.flight.size_bytes();
        let kept_empty = most_bytes - self.courier.destination.flight_bytes(most_bytes).min(most_bytes);
        let room = self.courier.flight.acquire(self.turn, content.len(), kept_empty);
        let permit = self.courier.unless_stopped(async { Ok(room.await) }).await?;
        let payload = content.into_payload().await?;
        // The fill pool has its bytes back; whoever waits for it may look again.
        drop(self);
        let crc = Crc64::of(payload.iter());
        Ok(Parcel { payload, crc, permit })
    }
}

impl Drop for QueuedPart {
    fn drop(&mut self) {
        self.content = None;
        self.courier.waiting_parts.fetch_sub(1, Ordering::AcqRel);
        self.courier.left.notify_waiters();
    }
}
