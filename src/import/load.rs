//! The load itself: read, scan, write, in batches.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::batch::{Batch, Scanned, Scanner};
use super::report::{Event, FileProgress, LoadReport};
use super::sink::{LoadSink, Piece, Shared};
use super::{Target, Totals};
use crate::budget::Pool;
use crate::cpu::CpuPool;
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::TypeTable;
use crate::resource::{Compartment, ScanPlan, Validation};
use crate::source::{Asked, Cursor, Range, Snapshot, Source};

/// Bytes of a batch: enough that sorting it makes neighbours, and that a commit is rare.
const BATCH_BYTES: usize = 32 << 20;

/// Blocks that wait for the writer.
const WAITING_BLOCKS: usize = 8;

/// Longest line, in bytes.
const LINE_LIMIT_BYTES: usize = 64 << 20;

/// How a load is done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loading {
    /// Threads that scan; 0 (the default) is one for each core.
    pub threads: usize,
    /// Longest line that is taken, in bytes; 64 MiB by default.
    pub line_limit_bytes: usize,
    /// How much of each line is checked; the full grammar of JSON by default.
    pub validation: Validation,
}

impl Default for Loading {
    fn default() -> Self {
        Self { threads: 0, line_limit_bytes: LINE_LIMIT_BYTES, validation: Validation::Full }
    }
}

/// Loads everything that a source holds into a store.
///
/// A file that can't be read to its end is told, and the others are loaded. A load that was stopped, or that failed, goes
/// on where it was when it is started again; one that came to its end begins anew.
///
/// # Errors
/// When the source can't be opened, or the store can't be written to. What was written stays.
///
/// # Cancellation
/// The future may be dropped at any await; a batch that is being written may be written or not. The load can be gone on
/// with.
pub async fn load(
    source: &dyn Source,
    target: &mut dyn Target,
    loading: &Loading,
    tell: &mut (dyn FnMut(Event<'_>) + Send),
) -> Result<LoadReport> {
    let snapshot: Arc<dyn Snapshot> = Arc::from(source.open().await?);
    let plan = snapshot.plan(&Asked::default()).await?;
    let name = source.name();
    let mut before = target.begin(&name).await?;
    before.retain(|file, progress| {
        let range = plan.ranges.iter().find(|range| range.name == *file);
        // What isn't the same file any more is loaded from its start: what is the same in it is kept.
        range.is_some_and(|range| progress.version.is_some() && snapshot.version(range) == progress.version)
    });
    let plan_of_scan =
        ScanPlan { compartment: Some(Arc::new(Compartment::r4_patient())), validation: loading.validation };
    let shared = Arc::new(Shared {
        scanner: Arc::new(Scanner {
            plan: plan_of_scan,
            types: TypeTable::default(),
            line_limit_bytes: loading.line_limit_bytes,
        }),
        cpu: CpuPool::new(loading.threads)?,
        pool: Pool::new(loading.line_limit_bytes.saturating_mul(4).max(64 << 20)),
        line_limit_bytes: loading.line_limit_bytes,
    });
    let (out, steps) = mpsc::channel(WAITING_BLOCKS);
    // Reading ends when this is dropped.
    let mut reading = JoinSet::new();
    reading.spawn(read_all(snapshot, plan.ranges.clone(), before.clone(), shared, out));
    let mut writer = Writer {
        target,
        tell,
        source: name,
        files: plan.ranges.len(),
        files_done: 0,
        report: LoadReport { files: plan.ranges.len(), ..LoadReport::default() },
    };
    writer.write_all(steps, &before).await?;
    if let Some(Err(error)) = reading.join_next().await {
        return Err(Error::new(ErrorKind::Internal, "the reader of a load is gone").caused_by(error));
    }
    let Writer { mut report, source, target, tell, .. } = writer;
    tell(Event::Finishing);
    target.finish(&source).await?;
    debug_assert!(report.totals.balances());
    report.before = before.values().map(|progress| progress.totals.read).sum();
    Ok(report)
}

/// What the reader tells the writer, in order.
enum Step {
    Begin { file: String, version: Option<String> },
    Piece(Piece),
    End { result: Result<()> },
}

async fn read_all(
    snapshot: Arc<dyn Snapshot>,
    ranges: Vec<Range>,
    before: BTreeMap<String, FileProgress>,
    shared: Arc<Shared>,
    out: mpsc::Sender<Step>,
) {
    for range in ranges {
        let known = before.get(&range.name);
        let begin = Step::Begin { file: range.name.clone(), version: snapshot.version(&range) };
        if out.send(begin).await.is_err() {
            return;
        }
        let result = if known.is_some_and(|known| known.is_done) {
            Ok(())
        } else {
            let from = known.map_or_else(Cursor::start, |known| Cursor::new(&known.cursor));
            let (pieces, forwarded) = mpsc::channel(1);
            let reading = async {
                let mut sink = LoadSink::new(Arc::clone(&shared), pieces);
                snapshot.read(&range, &from, &mut sink).await?;
                sink.finish().await
            };
            let (result, ()) = tokio::join!(reading, forward(forwarded, &out));
            result
        };
        if out.send(Step::End { result }).await.is_err() {
            return;
        }
    }
}

async fn forward(mut pieces: mpsc::Receiver<Piece>, out: &mpsc::Sender<Step>) {
    while let Some(piece) = pieces.recv().await {
        if out.send(Step::Piece(piece)).await.is_err() {
            return;
        }
    }
}

/// The side that writes.
struct Writer<'a> {
    target: &'a mut dyn Target,
    tell: &'a mut (dyn FnMut(Event<'_>) + Send),
    source: String,
    files: usize,
    files_done: usize,
    report: LoadReport,
}

impl Writer<'_> {
    async fn write_all(
        &mut self,
        mut steps: mpsc::Receiver<Step>,
        before: &BTreeMap<String, FileProgress>,
    ) -> Result<()> {
        let mut file = String::new();
        let mut progress = FileProgress::default();
        let mut blocks: Vec<Scanned> = Vec::new();
        while let Some(step) = steps.recv().await {
            match step {
                Step::Begin { file: name, version } => {
                    progress = before.get(&name).cloned().unwrap_or_default();
                    progress.version = version;
                    file = name;
                    self.report.totals.add(progress.totals);
                }
                Step::Piece(piece) => {
                    let mut scanned = piece.done().await??;
                    self.refuse(&file, progress.lines, &mut scanned);
                    progress.lines += scanned.lines;
                    progress.cursor.clone_from(&scanned.cursor);
                    progress.totals.add(scanned.totals);
                    self.report.totals.add(scanned.totals);
                    blocks.push(scanned);
                    if blocks.iter().map(Scanned::bytes).sum::<usize>() >= BATCH_BYTES {
                        self.write(&file, &mut progress, &mut blocks).await?;
                    }
                }
                Step::End { result } => {
                    progress.is_done = result.is_ok();
                    if !blocks.is_empty() || before.get(&file).is_none_or(|before| !before.is_done) {
                        self.write(&file, &mut progress, &mut blocks).await?;
                    }
                    self.end_file(&file, result)?;
                }
            }
            let (totals, files) = (&self.report.totals, self.files);
            (self.tell)(Event::Progress { totals, files_done: self.files_done, files });
        }
        Ok(())
    }

    /// Tells what can't be kept, with its place in the file.
    fn refuse(&mut self, file: &str, lines_before: u64, scanned: &mut Scanned) {
        for mut refused in scanned.refused.drain(..) {
            file.clone_into(&mut refused.file);
            refused.line += lines_before + 1;
            (self.tell)(Event::Refused(&refused));
        }
    }

    async fn write(&mut self, file: &str, progress: &mut FileProgress, blocks: &mut Vec<Scanned>) -> Result<()> {
        let batch = Batch {
            source: self.source.clone(),
            file: file.to_owned(),
            progress: progress.clone(),
            blocks: std::mem::take(blocks),
        };
        let written = self.target.write(batch).await.map_err(|error| error.with("file", file))?;
        progress.totals.add_written(written);
        let mut totals = Totals::default();
        totals.add_written(written);
        self.report.totals.add(totals);
        Ok(())
    }

    fn end_file(&mut self, file: &str, result: Result<()>) -> Result<()> {
        self.files_done += 1;
        match result {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Unreadable => {
                (self.tell)(Event::Unreadable(file, &error));
                self.report.unreadable.push((file.to_owned(), error));
                Ok(())
            }
            Err(error) => Err(error.with("file", file)),
        }
    }
}
