//! Ranges: read side by side, handed on in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tracing::Instrument;

use super::fan_out::FanOut;
use super::halted;
use super::progress::Reporter;
use super::range_sink::{Intake, Piece, RangeSink, Stand};
use super::reopen::{Reopened, Reopener};
use super::restart::ReadFrom;
use crate::error::{Error, ErrorKind, Result};
use crate::source::{Cursor, Range, Snapshot};
use crate::writer::WaitsFor;

/// Pieces of one range that may wait, for each thread that scans them: enough that none is idle. More would only read
/// further ahead, into memory that has left the cache when it is scanned.
const WAITING_PIECES_A_THREAD: usize = 2;

/// Pieces of one range that may wait at most.
const MOST_WAITING_PIECES: usize = 256;

/// Ranges that are read side by side at most, whatever the source says.
const MOST_SIDE_BY_SIDE: usize = 64;

/// The ranges of a job and those that are being read.
#[derive(Debug)]
pub(super) struct Ranges {
    snapshot: Arc<dyn Snapshot>,
    ranges: Vec<Range>,
    reads: Vec<ReadFrom>,
    intake: Arc<Intake>,
    read_ahead: usize,
    reading: BTreeMap<usize, Reading>,
    tasks: JoinSet<()>,
    reopener: Option<Reopener>,
    /// Where the range whose turn it is goes on in another snapshot.
    goes_on: Option<Stand>,
    /// Where the snapshot was lost, if it was.
    lost_at: Option<String>,
}

/// A range that is being read.
#[derive(Debug)]
struct Reading {
    pieces: mpsc::Receiver<Piece>,
    ended: tokio::sync::oneshot::Receiver<EndOfRead>,
    task: AbortHandle,
}

/// How a read ended, and where another could go on.
#[derive(Debug)]
struct EndOfRead {
    result: Result<()>,
    stand: Option<Stand>,
}

impl Ranges {
    pub(super) fn new(
        snapshot: Arc<dyn Snapshot>,
        ranges: Vec<Range>,
        reads: Vec<ReadFrom>,
        intake: Arc<Intake>,
        read_ahead: usize,
        reopener: Option<Reopener>,
    ) -> Self {
        Self {
            snapshot,
            ranges,
            reads,
            intake,
            read_ahead: read_ahead.max(1),
            reading: BTreeMap::new(),
            tasks: JoinSet::new(),
            reopener,
            goes_on: None,
            lost_at: None,
        }
    }

    /// Reads and fans out all ranges.
    pub(super) async fn run(&mut self, fan_out: &mut FanOut, reporter: &mut Reporter) -> Result<()> {
        reporter.begin(self.ranges.len());
        for index in 0..self.ranges.len() {
            self.intake.head.send_replace(index as u64);
            let Some(name) = self.ranges.get(index).map(|range| range.name.clone()) else { break };
            reporter.begin_range(&name);
            self.start_up_to(index + self.side_by_side().unwrap_or(self.read_ahead));
            let name = Arc::from(name);
            let read_from = self.read_from(index);
            self.intake.activity.begin_range(&name);
            fan_out.begin_range(index, &name, &read_from)?;
            if read_from != ReadFrom::Nowhere {
                self.fan_out_range(index, &name, fan_out, reporter).await?;
            }
            self.goes_on = None;
            fan_out.end_range(index + 1 == self.ranges.len()).await?;
            reporter.end_range();
        }
        Ok(())
    }

    /// How many ranges the source wants to be read side by side, if it says so.
    fn side_by_side(&self) -> Option<usize> {
        self.snapshot.side_by_side().map(|ranges| ranges.clamp(1, MOST_SIDE_BY_SIDE))
    }

    /// Pieces of a range that may wait. Of a source that is read side by side it is the whole range, else one would wait for
    /// the other; memory sets the bound then, and what is read ahead is given up when it is lacking.
    fn waiting_pieces(&self, range: &Range) -> usize {
        let pieces = 2 + WAITING_PIECES_A_THREAD * self.intake.cpu.threads();
        let whole = range.size_bytes.unwrap_or(0) / self.intake.block_bytes.max(1) as u64;
        match self.snapshot.side_by_side() {
            Some(_) => pieces
                .max(usize::try_from(whole * 2).map_or(MOST_WAITING_PIECES, |whole| whole.min(MOST_WAITING_PIECES))),
            None => pieces,
        }
    }

    fn read_from(&self, index: usize) -> ReadFrom {
        self.reads.get(index).cloned().unwrap_or_default()
    }

    /// Ends all reading and waits until nobody reads any more.
    pub(super) async fn stop(&mut self) {
        self.reading.clear();
        self.tasks.shutdown().await;
    }

    async fn fan_out_range(
        &mut self,
        index: usize,
        name: &Arc<str>,
        fan_out: &mut FanOut,
        reporter: &mut Reporter,
    ) -> Result<()> {
        while !self.fan_out_read(index, name, fan_out, reporter).await? {}
        Ok(())
    }

    /// Fans out what one read of the range brings; tells whether that is all of it.
    async fn fan_out_read(
        &mut self,
        index: usize,
        name: &Arc<str>,
        fan_out: &mut FanOut,
        reporter: &mut Reporter,
    ) -> Result<bool> {
        let activity = Arc::clone(&self.intake.activity);
        while let Some(piece) = activity.waiting(WaitsFor::Source, self.next_piece(index)).await? {
            match piece {
                Piece::Block(sifted) => {
                    let sifted = activity.waiting(WaitsFor::Cpu, sifted.done()).await??;
                    fan_out.take(name, sifted).await?;
                }
                Piece::TooLong { origin, length_bytes } => {
                    fan_out.too_long(name, origin, length_bytes, self.intake.line_limit_bytes).await?;
                }
            }
            reporter.tick(&fan_out.books, &self.intake.sieve);
            if let Some(reopener) = &mut self.reopener {
                reopener.succeeded();
            }
        }
        self.end_of(index, name, fan_out).await
    }

    /// The next piece of the range whose turn it is; `None` at its end. While it lacks memory, later ranges give theirs up.
    async fn next_piece(&mut self, index: usize) -> Result<Option<Piece>> {
        loop {
            let intake = Arc::clone(&self.intake);
            let Some(reading) = self.reading.get_mut(&index) else { return Ok(None) };
            tokio::select! {
                biased;
                () = intake.halt.cancelled() => return Err(halted()),
                () = intake.starving.notified() => self.give_up_after(index),
                piece = reading.pieces.recv() => return Ok(piece),
            }
        }
    }

    /// How the reading of a range ended: a range that can't be read is reported, anything else ends the job.
    async fn end_of(&mut self, index: usize, name: &str, fan_out: &mut FanOut) -> Result<bool> {
        let Some(reading) = self.reading.remove(&index) else { return Ok(true) };
        let gone = |_| EndOfRead { result: Err(reader_gone()), stand: None };
        let EndOfRead { result, stand } = reading.ended.await.unwrap_or_else(gone);
        match result {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::SnapshotLost && stand.is_some() => {
                self.goes_on = stand;
                self.reopen(index, error, fan_out).await?;
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::Unreadable && !fan_out.fails_on_bad() => {
                tracing::warn!(range = name, error = format!("{error:#}"), "range can't be read");
                fan_out.report_unreadable(name, &error).await?;
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens the source again because its snapshot is lost, and starts the reading of what isn't fanned out yet.
    pub(super) async fn reopen(&mut self, index: usize, lost: Error, fan_out: &FanOut) -> Result<()> {
        let Some(reopener) = &mut self.reopener else { return Err(lost) };
        tracing::warn!(error = format!("{lost:#}"), "the snapshot is lost; the source is opened again");
        self.reading.clear();
        self.tasks.shutdown().await;
        let halt = self.intake.halt.clone();
        let reopened = halt.run_until_cancelled(reopener.reopen(lost)).await.unwrap_or_else(|| Err(halted()))?;
        let Reopened { snapshot, plan, is_same } = reopened;
        if !is_same {
            self.intake.sieve.lose_snapshot();
            self.lost_at.get_or_insert_with(|| fan_out.books.position().to_string());
        }
        self.snapshot = snapshot;
        for (number, range) in self.ranges.iter_mut().enumerate().skip(index) {
            let known = plan.ranges.iter().find(|known| known.name == range.name).cloned();
            match known.or_else(|| self.snapshot.range(&range.name)) {
                Some(known) => *range = known,
                // Gone with its last row.
                None => {
                    self.reads.resize(self.reads.len().max(number + 1), ReadFrom::Start);
                    self.reads.iter_mut().skip(number).take(1).for_each(|read| *read = ReadFrom::Nowhere);
                }
            }
        }
        self.start_up_to(index + self.side_by_side().unwrap_or(self.read_ahead));
        Ok(())
    }

    /// The snapshot that is read now.
    pub(super) fn snapshot(&self) -> Arc<dyn Snapshot> {
        Arc::clone(&self.snapshot)
    }

    pub(super) fn take_lost_at(&mut self) -> Option<String> {
        self.lost_at.take()
    }

    fn start_up_to(&mut self, end: usize) {
        let head = usize::try_from(*self.intake.head.borrow()).unwrap_or(usize::MAX);
        for index in head..end.min(self.ranges.len()) {
            if !self.reading.contains_key(&index) {
                self.start(index, head);
            }
        }
        self.reap();
    }

    fn start(&mut self, index: usize, head: usize) {
        let Some(range) = self.ranges.get(index).cloned() else { return };
        let goes_on = self.goes_on.clone().filter(|_| index == head);
        let (from, rows_before) = match (self.read_from(index), goes_on) {
            (ReadFrom::Nowhere, _) => return,
            (_, Some(Stand { cursor, rows_before })) => (cursor, rows_before),
            (ReadFrom::Start, None) => (Cursor::start(), 0),
            // Of lines the number of rows is never asked for.
            (ReadFrom::Position(position, _), None) => {
                (Cursor::new(&position.cursor), position.place.saturating_sub(position.rows_after))
            }
        };
        let (out, pieces) = mpsc::channel(self.waiting_pieces(&range));
        let (end, ended) = tokio::sync::oneshot::channel();
        let sink = RangeSink::new(Arc::clone(&self.intake), index as u64, rows_before, out);
        let (snapshot, halt) = (Arc::clone(&self.snapshot), self.intake.halt.clone());
        let resource_type = range.resource_type.as_ref().map(tracing::field::display);
        let span = tracing::info_span!("range", range = range.name, "type" = resource_type);
        let reading = async move {
            // Reading owns nothing that could be lost, so it may be dropped at any await.
            let read = halt.run_until_cancelled(read(snapshot.as_ref(), &range, &from, sink)).await;
            drop(end.send(read.unwrap_or_else(|| EndOfRead { result: Err(halted()), stand: None })));
        };
        let task = self.tasks.spawn(reading.instrument(span));
        self.reading.insert(index, Reading { pieces, ended, task });
    }

    /// Gives up what later ranges have read: nothing of them is counted yet, they are read again when it is their turn.
    fn give_up_after(&mut self, index: usize) {
        for (_, reading) in self.reading.split_off(&(index + 1)) {
            reading.task.abort();
        }
    }

    fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            if ended.as_ref().is_err_and(JoinError::is_panic) {
                tracing::error!("a reader panicked");
            }
        }
    }
}

async fn read(snapshot: &dyn Snapshot, range: &Range, from: &Cursor, mut sink: RangeSink) -> EndOfRead {
    let result = match snapshot.read(range, from, &mut sink).await {
        Ok(()) => sink.finish().await,
        Err(error) => Err(error),
    };
    EndOfRead { result, stand: sink.stand() }
}

fn reader_gone() -> Error {
    Error::new(ErrorKind::Internal, "the reader of a range ended without a word")
}
