//! A source that hands out the same piece of data again and again, so that gigabytes need no disk and little memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use fhir_export::fhir::{self, ResourceType};
use fhir_export::source::{AfterTransactionTime, Asked, BlockSink, Cursor, Plan, Range, Snapshot, Source};
use fhir_export::{Error, ErrorKind, Result};

/// Bytes that are handed over at once.
const READ_BYTES: usize = 1 << 20;

/// One range: a piece of data and how often it comes.
#[derive(Clone, Debug)]
pub(crate) struct Repeated {
    /// Name of the range.
    pub(crate) name: String,
    /// Whole lines.
    pub(crate) piece: Bytes,
    /// How many bytes of it, over and over, make up the range; rounded up to whole pieces.
    pub(crate) bytes: u64,
}

/// When and how much was read.
#[derive(Debug)]
pub(crate) struct Reads {
    begun: Instant,
    last_nanos: AtomicU64,
    bytes: AtomicU64,
}

/// A source of [`Repeated`] ranges.
#[derive(Clone, Debug)]
pub(crate) struct RepeatedSource {
    ranges: Arc<Vec<Repeated>>,
    reads: Arc<Reads>,
}

impl Repeated {
    fn size_bytes(&self) -> u64 {
        let piece = self.piece.len() as u64;
        self.bytes.div_ceil(piece).saturating_mul(piece)
    }
}

impl Reads {
    /// When the last read began, if there was one.
    pub(crate) fn last(&self) -> Option<Instant> {
        let nanos = self.last_nanos.load(Ordering::SeqCst);
        (nanos > 0).then(|| self.begun + std::time::Duration::from_nanos(nanos))
    }

    /// How much was read.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn note(&self, bytes: usize) {
        self.last_nanos.store(self.begun.elapsed().as_nanos() as u64, Ordering::SeqCst);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl RepeatedSource {
    /// A source of these ranges.
    pub(crate) fn new(ranges: Vec<Repeated>) -> Self {
        let reads = Reads { begun: Instant::now(), last_nanos: AtomicU64::new(0), bytes: AtomicU64::new(0) };
        Self { ranges: Arc::new(ranges), reads: Arc::new(reads) }
    }

    /// A source of one range.
    pub(crate) fn of(piece: Bytes, bytes: u64) -> Self {
        Self::new(vec![Repeated { name: "repeated".to_owned(), piece, bytes }])
    }

    /// How many bytes one job reads.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.ranges.iter().map(Repeated::size_bytes).sum()
    }

    /// What is being read.
    pub(crate) fn reads(&self) -> Arc<Reads> {
        Arc::clone(&self.reads)
    }
}

#[async_trait]
impl Source for RepeatedSource {
    fn name(&self) -> String {
        "repeated".to_owned()
    }

    async fn open(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Snapshot for RepeatedSource {
    fn transaction_time(&self) -> fhir::Instant {
        fhir::Instant::from_unix(1_900_000_000, 0)
    }

    fn after_transaction_time(&self) -> AfterTransactionTime {
        AfterTransactionTime::Kept
    }

    async fn plan(&self, _asked: &Asked) -> Result<Plan> {
        let range = |range: &Repeated| Range::new(range.name.clone()).of_size(range.size_bytes());
        Ok(Plan { ranges: self.ranges.iter().map(range).collect(), ..Plan::default() })
    }

    async fn read(&self, range: &Range, from: &Cursor, sink: &mut dyn BlockSink) -> Result<()> {
        let held = self.ranges.iter().find(|held| held.name == range.name);
        let Some((held, start)) = held.zip(from.offset()) else {
            return Err(Error::new(ErrorKind::Source, "there is no such range or place"));
        };
        let mut position = start;
        sink.at(Cursor::from_offset(position));
        while position < held.size_bytes() {
            let mut buffer = sink.buffer(READ_BYTES).await?;
            let piece = &held.piece[(position % held.piece.len() as u64) as usize..];
            let most = piece.len().min(READ_BYTES);
            self.reads.note(most);
            position += buffer.append(&piece[..most]) as u64;
            sink.lines(buffer).await?;
        }
        Ok(())
    }
}
