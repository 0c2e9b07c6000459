//! Ranges: read side by side, handed on in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tracing::Instrument;

use super::fan_out::FanOut;
use super::halted;
use super::progress::Reporter;
use super::range_sink::{Intake, Piece, RangeSink};
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
}

/// A range that is being read.
#[derive(Debug)]
struct Reading {
    pieces: mpsc::Receiver<Piece>,
    ended: tokio::sync::oneshot::Receiver<Result<()>>,
    task: AbortHandle,
}

impl Ranges {
    pub(super) fn new(
        snapshot: Arc<dyn Snapshot>,
        ranges: Vec<Range>,
        reads: Vec<ReadFrom>,
        intake: Arc<Intake>,
        read_ahead: usize,
    ) -> Self {
        Self {
            snapshot,
            ranges,
            reads,
            intake,
            read_ahead: read_ahead.max(1),
            reading: BTreeMap::new(),
            tasks: JoinSet::new(),
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
    async fn end_of(&mut self, index: usize, name: &str, fan_out: &mut FanOut) -> Result<()> {
        let Some(reading) = self.reading.remove(&index) else { return Ok(()) };
        let ended = reading.ended.await.unwrap_or_else(|_| Err(reader_gone()));
        match ended {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Unreadable && !fan_out.fails_on_bad() => {
                tracing::warn!(range = name, error = format!("{error:#}"), "range can't be read");
                fan_out.report_unreadable(name, &error).await
            }
            Err(error) => Err(error),
        }
    }

    fn start_up_to(&mut self, end: usize) {
        let head = usize::try_from(*self.intake.head.borrow()).unwrap_or(usize::MAX);
        for index in head..end.min(self.ranges.len()) {
            if !self.reading.contains_key(&index) {
                self.start(index);
            }
        }
        self.reap();
    }

    fn start(&mut self, index: usize) {
        let Some(range) = self.ranges.get(index).cloned() else { return };
        let (from, rows_before) = match self.read_from(index) {
            ReadFrom::Nowhere => return,
            ReadFrom::Start => (Cursor::start(), 0),
            // Of lines the number of rows is never asked for.
            ReadFrom::Position(position, _) => {
                (Cursor::new(&position.cursor), position.place.saturating_sub(position.rows_after))
            }
        };
        let (out, pieces) = mpsc::channel(self.waiting_pieces(&range));
        let (end, ended) = tokio::sync::oneshot::channel();
        let sink = RangeSink::new(Arc::clone(&self.intake), index as u64, rows_before, out);
        let (snapshot, halt) = (Arc::clone(&self.snapshot), self.intake.halt.clone());
        let span = tracing::info_span!("range", name = range.name);
        let reading = async move {
            // Reading owns nothing that could be lost, so it may be dropped at any await.
            let read = halt.run_until_cancelled(read(snapshot.as_ref(), &range, &from, sink)).await;
            drop(end.send(read.unwrap_or_else(|| Err(halted()))));
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

async fn read(snapshot: &dyn Snapshot, range: &Range, from: &Cursor, mut sink: RangeSink) -> Result<()> {
    snapshot.read(range, from, &mut sink).await?;
    sink.finish().await
}

fn reader_gone() -> Error {
    Error::new(ErrorKind::Internal, "the reader of a range ended without a word")
}
