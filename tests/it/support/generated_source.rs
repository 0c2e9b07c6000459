//! A source that makes its lines when they are read, as many as are wanted, and holds none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use fhir_export::fhir::Instant;
use fhir_export::source::{AfterTransactionTime, Asked, BlockSink, Cursor, Plan, Range, Snapshot, Source};
use fhir_export::{Error, ErrorKind, Result};
use tokio::sync::watch;

/// Writes the line of a number, its line feed included, into an empty buffer.
pub(crate) type MakeLine = fn(u64, &mut Vec<u8>);

#[derive(Clone, Debug, Default)]
pub(crate) struct GeneratedSource {
    ranges: Vec<GeneratedRange>,
    reads: Arc<Reads>,
}

#[derive(Clone, Debug)]
pub(crate) struct GeneratedRange {
    pub(crate) name: &'static str,
    /// How many lines there are; `u64::MAX` never come to an end.
    pub(crate) lines: u64,
    pub(crate) make_line: MakeLine,
    /// How much is handed over at once, in bytes.
    pub(crate) chunk_bytes: usize,
    /// The range waits before this line until it is let go on.
    pub(crate) stall: Option<(u64, watch::Receiver<bool>)>,
}

/// What was asked for so far.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    count: AtomicU64,
    bytes: watch::Sender<u64>,
}

impl Reads {
    /// How often memory to read into was asked for.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Waits until so many bytes were read; what is read again counts again.
    pub(crate) async fn until_bytes(&self, bytes: u64) {
        self.bytes.subscribe().wait_for(|read| *read >= bytes).await.unwrap();
    }
}

impl GeneratedSource {
    pub(crate) fn new(ranges: Vec<GeneratedRange>) -> Self {
        Self { ranges, reads: Arc::default() }
    }

    /// Two ranges without an end, of lines of 4 KB: a Patient, then two Observations.
    pub(crate) fn endless() -> Self {
        let range = |name| GeneratedRange {
            name,
            lines: u64::MAX,
            make_line: |number, line| {
                let name = if number % 3 == 0 { "Patient" } else { "Observation" };
                line.extend(format!("{{\"resourceType\":\"{name}\",\"id\":\"{number}\",\"text\":\"").bytes());
                line.resize(4000, b'x');
                line.extend(b"\"}\n");
            },
            chunk_bytes: 256 << 10,
            stall: None,
        };
        Self::new(vec![range("a"), range("b")])
    }

    pub(crate) fn reads(&self) -> Arc<Reads> {
        Arc::clone(&self.reads)
    }
}

#[async_trait]
impl Source for GeneratedSource {
    fn name(&self) -> String {
        "generated".to_owned()
    }

    async fn open(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Snapshot for GeneratedSource {
    fn transaction_time(&self) -> Instant {
        Instant::from_unix(0, 0)
    }

    fn after_transaction_time(&self) -> AfterTransactionTime {
        AfterTransactionTime::Kept
    }

    async fn plan(&self, _: &Asked) -> Result<Plan> {
        let range = |range: &GeneratedRange| Range::new(range.name);
        Ok(Plan { ranges: self.ranges.iter().map(range).collect(), ..Plan::default() })
    }

    async fn read(&self, range: &Range, from: &Cursor, sink: &mut dyn BlockSink) -> Result<()> {
        let Some(range) = self.ranges.iter().find(|known| known.name == range.name) else {
            return Err(Error::new(ErrorKind::Source, "the source has no such range"));
        };
        assert_eq!(*from, Cursor::start());
        sink.at(Cursor::start());
        let (mut line, mut written, mut number) = (Vec::new(), 0, 0);
        loop {
            self.reads.count.fetch_add(1, Ordering::SeqCst);
            let mut buffer = sink.buffer(range.chunk_bytes).await?;
            let before = buffer.filled().len();
            while buffer.room_bytes() > 0 {
                if written == line.len() {
                    if number == range.lines {
                        break;
                    }
                    if let Some((at, go_on)) = &range.stall
                        && *at == number
                    {
                        go_on.clone().wait_for(|may| *may).await.unwrap();
                    }
                    line.clear();
                    (range.make_line)(number, &mut line);
                    (written, number) = (0, number + 1);
                }
                written += buffer.append(&line[written..]);
            }
            let count = (buffer.filled().len() - before) as u64;
            sink.lines(buffer).await?;
            self.reads.bytes.send_modify(|bytes| *bytes += count);
            if number == range.lines && written == line.len() {
                return Ok(());
            }
        }
    }
}
