//! A source in memory, for docs and tests.
//!
//! Its ranges hold literal NDJSON, can be handed over in pieces of any size, can stall and can fail.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::{AfterTransactionTime, Asked, BlockSink, Cursor, Plan, Range, RowOutcome, Rows, Snapshot, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::{Instant, ResourceType};

/// How many bytes a range hands over at once, if it isn't told otherwise.
const DEFAULT_CHUNK_BYTES: usize = 64 << 10;

/// Resources held in memory, in named ranges.
///
/// The transaction time is 2000-01-01T00:00:00Z until it is set, so that a test has the same output each time. A range
/// of a declared type that isn't asked for is skipped.
///
/// # Example
/// ```
/// use fhir_export::source::memory::{MemoryRange, MemorySource};
/// use fhir_export::source::{Asked, Source};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> fhir_export::Result<()> {
/// let source = MemorySource::new()
///     .with(MemoryRange::lines("patients", "{\"resourceType\":\"Patient\",\"id\":\"1\"}\n"))
///     .with(MemoryRange::rows("groups", ["{\"resourceType\":\"Group\",\"id\":\"g\"}"]));
/// let plan = source.open().await?.plan(&Asked::default()).await?;
/// assert_eq!(plan.ranges.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MemorySource {
    transaction_time: Instant,
    after_transaction_time: AfterTransactionTime,
    ranges: Vec<MemoryRange>,
}

impl Default for MemorySource {
    fn default() -> Self {
        Self {
            transaction_time: Instant::from_unix(946_684_800, 0),
            after_transaction_time: AfterTransactionTime::Kept,
            ranges: Vec::new(),
        }
    }
}

impl MemorySource {
    /// A source that holds nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a range after those that are there; a range of the same name takes the place of the other.
    #[must_use]
    pub fn with(mut self, range: MemoryRange) -> Self {
        match self.ranges.iter_mut().find(|other| other.name == range.name) {
            Some(other) => *other = range,
            None => self.ranges.push(range),
        }
        self
    }

    /// Sets the transaction time T.
    #[must_use]
    pub fn at(mut self, transaction_time: Instant) -> Self {
        self.transaction_time = transaction_time;
        self
    }

    /// Says whether resources stamped after T belong to the snapshot; they do unless this is called.
    #[must_use]
    pub fn after_transaction_time(mut self, after: AfterTransactionTime) -> Self {
        self.after_transaction_time = after;
        self
    }
}

#[async_trait]
impl Source for MemorySource {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    async fn open(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(MemorySnapshot(self.clone())))
    }
}

#[derive(Debug)]
struct MemorySnapshot(MemorySource);

#[async_trait]
impl Snapshot for MemorySnapshot {
    fn transaction_time(&self) -> Instant {
        self.0.transaction_time.clone()
    }

    fn after_transaction_time(&self) -> AfterTransactionTime {
        self.0.after_transaction_time
    }

    async fn plan(&self, asked: &Asked) -> Result<Plan> {
        let mut plan = Plan::default();
        for range in &self.0.ranges {
            let skipped = match (&asked.types, &range.resource_type) {
                (Some(asked), Some(declared)) => !asked.contains(declared),
                _ => false,
            };
            let list = if skipped { &mut plan.skipped } else { &mut plan.ranges };
            list.push(range.described());
        }
        Ok(plan)
    }

    async fn read(&self, range: &Range, from: &Cursor, sink: &mut dyn BlockSink) -> Result<()> {
        let held = self.0.ranges.iter().find(|held| held.name == range.name);
        let Some(held) = held else {
            return Err(Error::new(ErrorKind::Source, "the source has no such range").with("range", &range.name));
        };
        let start = from.offset().and_then(|offset| usize::try_from(offset).ok()).ok_or_else(|| {
            Error::new(ErrorKind::Source, "the cursor isn't one of this source").with("range", &range.name)
        })?;
        match &held.content {
            Content::Lines(bytes) => held.read_lines(bytes, start, sink).await,
            Content::Rows(rows) => held.read_rows(rows, start, sink).await,
        }
    }
}

/// One range of a [`MemorySource`].
#[derive(Clone, Debug)]
pub struct MemoryRange {
    name: String,
    resource_type: Option<ResourceType>,
    content: Content,
    chunk_bytes: usize,
    stall: Option<(usize, Gate)>,
    failure: Option<(usize, ErrorKind)>,
}

#[derive(Clone)]
enum Content {
    Lines(Bytes),
    Rows(Arc<[Row]>),
}

#[derive(Clone)]
struct Row {
    body: Bytes,
    deleted: bool,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lines(bytes) => write!(f, "Lines({} bytes)", bytes.len()),
            Self::Rows(rows) => write!(f, "Rows({})", rows.len()),
        }
    }
}

impl MemoryRange {
    /// A range of line-based bytes, taken as they are.
    #[must_use]
    pub fn lines(name: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self::new(name.into(), Content::Lines(bytes.into()))
    }

    /// A range of rows, each the body of one resource.
    #[must_use]
    pub fn rows<B: Into<Bytes>>(name: impl Into<String>, bodies: impl IntoIterator<Item = B>) -> Self {
        let row = |body: B| Row { body: body.into(), deleted: false };
        Self::new(name.into(), Content::Rows(bodies.into_iter().map(row).collect()))
    }

    /// A range of rows of which some are marked as deleted.
    #[must_use]
    pub fn marked_rows<B: Into<Bytes>>(name: impl Into<String>, rows: impl IntoIterator<Item = (B, bool)>) -> Self {
        let row = |(body, deleted): (B, bool)| Row { body: body.into(), deleted };
        Self::new(name.into(), Content::Rows(rows.into_iter().map(row).collect()))
    }

    fn new(name: String, content: Content) -> Self {
        Self { name, resource_type: None, content, chunk_bytes: DEFAULT_CHUNK_BYTES, stall: None, failure: None }
    }

    /// Declares the type of all resources in the range.
    #[must_use]
    pub fn of_type(mut self, resource_type: ResourceType) -> Self {
        self.resource_type = Some(resource_type);
        self
    }

    /// Hands over so many bytes at once, at least one. Rows are never cut.
    #[must_use]
    pub fn in_chunks_of(mut self, chunk_bytes: usize) -> Self {
        self.chunk_bytes = chunk_bytes.max(1);
        self
    }

    /// Stops before the byte (of rows: the row) of this index until the gate is opened.
    #[must_use]
    pub fn stalled_at(mut self, index: usize, gate: &Gate) -> Self {
        self.stall = Some((index, gate.clone()));
        self
    }

    /// Fails with an error of this kind when everything before the byte (of rows: the row) of this index is delivered.
    #[must_use]
    pub fn failing_at(mut self, index: usize, kind: ErrorKind) -> Self {
        self.failure = Some((index, kind));
        self
    }

    fn described(&self) -> Range {
        let size = match &self.content {
            Content::Lines(bytes) => bytes.len(),
            Content::Rows(rows) => rows.iter().map(|row| row.body.len() + 1).sum(),
        };
        Range::new(self.name.clone()).of_type(self.resource_type.clone()).of_size(u64::try_from(size).ok())
    }

    async fn read_lines(&self, bytes: &[u8], start: usize, sink: &mut dyn BlockSink) -> Result<()> {
        let mut position = start;
        sink.at(cursor(position));
        loop {
            self.trouble(position).await?;
            let rest = bytes.get(position..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
            let most = self.chunk_bytes.min(self.untroubled(position)).min(rest.len());
            let mut buffer = sink.buffer(most).await?;
            position += buffer.append(rest.get(..most).unwrap_or_default());
            sink.lines(buffer).await?;
        }
    }

    async fn read_rows(&self, rows: &[Row], start: usize, sink: &mut dyn BlockSink) -> Result<()> {
        let mut position = start;
        sink.at(cursor(position));
        loop {
            self.trouble(position).await?;
            let Some(first) = rows.get(position) else { return Ok(()) };
            sink.at(cursor(position));
            if first.body.len() > sink.line_limit_bytes() {
                sink.row_too_long(first.body.len() as u64).await?;
                position += 1;
                continue;
            }
            let end = position.saturating_add(self.untroubled(position)).min(rows.len());
            let buffer = sink.buffer(self.chunk_bytes.max(first.body.len() + 1)).await?;
            let mut block = Rows::new(buffer);
            for row in rows.get(position..end).unwrap_or_default() {
                let too_long = row.body.len() > sink.line_limit_bytes();
                if too_long || push(&mut block, row) == RowOutcome::Full {
                    break;
                }
                position += 1;
            }
            sink.rows(block).await?;
        }
    }

    /// How far it is from here to the next stall or failure.
    fn untroubled(&self, position: usize) -> usize {
        let stall = self.stall.as_ref().map(|(index, _)| *index);
        let failure = self.failure.map(|(index, _)| index);
        let next = [stall, failure].into_iter().flatten().filter(|index| *index > position).min();
        next.map_or(usize::MAX, |next| next - position)
    }

    /// Stalls or fails, if this is the place.
    async fn trouble(&self, position: usize) -> Result<()> {
        if let Some((index, gate)) = &self.stall
            && *index == position
        {
            gate.wait().await;
        }
        match self.failure {
            Some((index, kind)) if index <= position => {
                Err(Error::new(kind, "the range was made to fail").with("range", &self.name).with("offset", position))
            }
            _ => Ok(()),
        }
    }
}

fn cursor(position: usize) -> Cursor {
    Cursor::from_offset(position as u64)
}

fn push(rows: &mut Rows, row: &Row) -> RowOutcome {
    if row.deleted { rows.push_deleted(&row.body) } else { rows.push(&row.body) }
}

/// Holds a range up until it is opened; once open it stays so.
#[derive(Clone, Debug)]
pub struct Gate(Arc<GateState>);

#[derive(Debug)]
struct GateState {
    open: watch::Sender<bool>,
    reached: watch::Sender<bool>,
}

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(GateState { open: watch::Sender::new(false), reached: watch::Sender::new(false) }))
    }
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everyone through from now on.
    pub fn open(&self) {
        self.0.open.send_replace(true);
    }

    /// Waits until a range has come to the gate.
    pub async fn reached(&self) {
        until_true(&self.0.reached).await;
    }

    async fn wait(&self) {
        self.0.reached.send_replace(true);
        until_true(&self.0.open).await;
    }
}

async fn until_true(flag: &watch::Sender<bool>) {
    // The sender is borrowed, so the channel can't be closed.
    drop(flag.subscribe().wait_for(|set| *set).await);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::source::contract::{self, Collected};

    fn patient() -> ResourceType {
        ResourceType::r4("Patient").unwrap()
    }

    async fn read(source: &MemorySource, from: &Cursor) -> (Collected, Result<()>) {
        let snapshot = source.open().await.unwrap();
        let plan = snapshot.plan(&Asked::default()).await.unwrap();
        contract::read(&*snapshot, &plan.ranges[0], from).await
    }

    #[tokio::test]
    async fn lines_are_handed_over_as_they_are_in_chunks_of_any_size() {
        let text = "{\"a\":1}\r\n\n{\"b\":2}";
        for chunk in [1, 3, 8, 100] {
            let source = MemorySource::new().with(MemoryRange::lines("r", text).in_chunks_of(chunk));
            let (collected, result) = read(&source, &Cursor::start()).await;
            result.unwrap();
            assert_eq!(collected.bytes(), text.as_bytes());
            let (collected, _) = read(&source, &Cursor::from_offset(10)).await;
            assert_eq!(collected.bytes(), b"{\"b\":2}");
        }
    }

    #[tokio::test]
    async fn rows_are_handed_over_whole_with_their_marks() {
        let rows = [("{\"a\":1}", false), ("{\"b\":2}", true), ("{\"c\":3}", false)];
        let source = MemorySource::new().with(MemoryRange::marked_rows("r", rows).in_chunks_of(1));
        let (collected, result) = read(&source, &Cursor::start()).await;
        result.unwrap();
        assert_eq!(collected.bytes(), b"{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n");
        assert_eq!(collected.deleted(), [false, true, false]);
        let (collected, _) = read(&source, &Cursor::from_offset(2)).await;
        assert_eq!(collected.bytes(), b"{\"c\":3}\n");
    }

    #[tokio::test]
    async fn a_range_fails_after_what_it_was_told_to_deliver() {
        let source = MemorySource::new().with(MemoryRange::lines("r", "abcdef").failing_at(4, ErrorKind::Unreadable));
        let (collected, result) = read(&source, &Cursor::start()).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unreadable);
        assert_eq!(collected.bytes(), b"abcd");
    }

    #[tokio::test]
    async fn a_stalled_range_goes_on_when_its_gate_opens() {
        let gate = Gate::new();
        let source = MemorySource::new().with(MemoryRange::lines("r", "ab\ncd\n").stalled_at(3, &gate));
        let start = Cursor::start();
        let reading = read(&source, &start);
        let opening = async {
            gate.reached().await;
            gate.open();
        };
        let ((collected, result), ()) = tokio::join!(reading, opening);
        result.unwrap();
        assert_eq!(collected.bytes(), b"ab\ncd\n");
    }

    #[tokio::test]
    async fn a_declared_type_that_is_not_asked_for_is_skipped() {
        let source = MemorySource::new()
            .with(MemoryRange::lines("p", "").of_type(patient()))
            .with(MemoryRange::lines("mixed", ""));
        let snapshot = source.open().await.unwrap();
        let asked = Asked { types: Some(BTreeSet::from([ResourceType::r4("Group").unwrap()])), ..Asked::default() };
        let plan = snapshot.plan(&asked).await.unwrap();
        assert_eq!(plan.ranges.iter().map(|range| range.name.as_str()).collect::<Vec<_>>(), ["mixed"]);
        assert_eq!(plan.skipped.iter().map(|range| range.name.as_str()).collect::<Vec<_>>(), ["p"]);
    }

    #[tokio::test]
    async fn the_source_keeps_its_contract() {
        let line = "{\"resourceType\":\"Patient\",\"id\":\"1\"}";
        let source = MemorySource::new()
            .with(MemoryRange::lines("lines", format!("{line}\r\n{line}")).in_chunks_of(7).of_type(patient()))
            .with(MemoryRange::rows("rows", [line; 5]).in_chunks_of(90))
            .with(MemoryRange::lines("empty", ""));
        contract::check(&source).await.unwrap();
    }
}
