//! A job that is small and does everything: several types, objects in parts and in one piece, an error report.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fhir_export::Result;
use fhir_export::destination::{Destination, MemoryDestination};
use fhir_export::fhir::Instant;
use fhir_export::job::{Config, Exporter, JobReport};
use fhir_export::request::{ExportRequest, Level};
use fhir_export::source::memory::{Gate, MemoryRange, MemorySource};
use fhir_export::source::{
    AfterTransactionTime, Asked, BlockSink, Buffer, Cursor, Plan, Range, Rows, Snapshot, Source,
};
use fhir_export::writer::{Compression, PartSizing};

use super::exported::Exported;

/// Smallest part of the small job, in bytes.
const PART_BYTES: usize = 200;

/// Longer than any job here takes, unless it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// Names and texts of two ranges of three types, a bad line in each.
pub(crate) fn texts() -> [(&'static str, String); 2] {
    let patient = |id: usize| format!(r#"{{"resourceType":"Patient","id":"p{id}"}}"#);
    let observation = |id: usize| {
        format!(r#"{{"resourceType":"Observation","id":"o{id}","subject":{{"reference":"Patient/p{}"}}}}"#, id % 10)
    };
    let mut first: Vec<String> = (0..10).map(patient).collect();
    first.insert(4, "not a resource".to_owned());
    first.insert(7, r#"{"resourceType":"Binary","id":"b"}"#.to_owned());
    let second: Vec<String> = (0..12).flat_map(|id| [observation(id), patient(id + 10)]).collect();
    [("first", first.join("\n")), ("second", format!("{}\n[]\n", second.join("\n")))]
}

pub(crate) fn source() -> MemorySource {
    ranges().into_iter().fold(MemorySource::new(), MemorySource::with)
}

fn ranges() -> [MemoryRange; 2] {
    let [first, second] = texts().map(|(name, text)| MemoryRange::lines(name, text));
    [first.in_chunks_of(100), second.in_chunks_of(300)]
}

/// The same, but a range of it waits before a byte.
pub(crate) fn source_stalled_at(name: &str, offset: usize, gate: &Gate) -> MemorySource {
    let ranges = ranges().into_iter().zip(texts());
    let stalled = ranges.map(|(range, (own, _))| if own == name { range.stalled_at(offset, gate) } else { range });
    stalled.fold(MemorySource::new(), MemorySource::with)
}

/// The same, but so slow that parts are sent while there is more to read. How slow is no matter to any test.
pub(crate) fn paced_source() -> impl Source {
    Paced(source())
}

#[derive(Debug)]
struct Paced<S>(S);

#[async_trait]
impl<S: Source> Source for Paced<S> {
    fn name(&self) -> String {
        self.0.name()
    }

    async fn open(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(Paced(self.0.open().await?)))
    }
}

#[async_trait]
impl Snapshot for Paced<Box<dyn Snapshot>> {
    fn transaction_time(&self) -> Instant {
        self.0.transaction_time()
    }

    fn after_transaction_time(&self) -> AfterTransactionTime {
        self.0.after_transaction_time()
    }

    async fn plan(&self, asked: &Asked) -> Result<Plan> {
        self.0.plan(asked).await
    }

    async fn read(&self, range: &Range, from: &Cursor, sink: &mut dyn BlockSink) -> Result<()> {
        self.0.read(range, from, &mut PacedSink(sink)).await
    }
}

struct PacedSink<'s>(&'s mut dyn BlockSink);

#[async_trait]
impl BlockSink for PacedSink<'_> {
    async fn buffer(&mut self, room_bytes: usize) -> Result<Buffer> {
        tokio::time::sleep(Duration::from_micros(500)).await;
        self.0.buffer(room_bytes).await
    }

    async fn lines(&mut self, buffer: Buffer) -> Result<()> {
        self.0.lines(buffer).await
    }

    async fn rows(&mut self, rows: Rows) -> Result<()> {
        self.0.rows(rows).await
    }

    async fn row_too_long(&mut self, length_bytes: u64) -> Result<()> {
        self.0.row_too_long(length_bytes).await
    }

    fn line_limit_bytes(&self) -> usize {
        self.0.line_limit_bytes()
    }

    fn at(&mut self, cursor: Cursor) {
        self.0.at(cursor);
    }
}

pub(crate) fn destination() -> MemoryDestination {
    MemoryDestination::new().with_min_part_bytes(PART_BYTES)
}

pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.budget_bytes = 64 << 20;
    config.threads = 2;
    config.block_bytes = 100;
    config.read_ahead = 2;
    config.small_parts = Some(PartSizing::FollowsOffset { least_bytes: PART_BYTES, largest_bytes: 1 << 20 });
    config
}

/// The same with compressed objects.
pub(crate) fn compressing_config() -> Config {
    let mut config = config();
    config.compression = Compression::Gzip { level: 6 };
    config.member_bytes = 150;
    config
}

/// Runs a job of all data to its end.
pub(crate) async fn run(source: impl Source + 'static, destination: Arc<dyn Destination>, config: Config) -> JobReport {
    let exporter =
        Exporter::builder().source(Arc::new(source)).destination(destination).config(config).build().unwrap();
    let job = exporter.start(ExportRequest::new(Level::System)).unwrap();
    tokio::time::timeout(HANGS_AFTER, job.join()).await.expect("the job ends")
}

/// The small job, undisturbed.
pub(crate) async fn undisturbed(config: Config) -> Exported {
    let destination = destination();
    let report = run(source(), Arc::new(destination.clone()), config).await;
    Exported::read(report, &destination).await
}
