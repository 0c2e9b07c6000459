use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::*;
use crate::fhir::{Instant, ResourceType};
use crate::source::memory::{MemoryRange, MemorySource};
use crate::source::{AfterTransactionTime, BlockSink, Buffer, Pushdown, Range, Rows};

const PATIENT: &str = "{\"resourceType\":\"Patient\",\"id\":\"1\",\"meta\":{\"lastUpdated\":\"2020-01-01T00:00:00Z\"}}";
const LATER: &str = "{\"resourceType\":\"Patient\",\"id\":\"22\",\"meta\":{\"lastUpdated\":\"2021-01-01T00:00:00Z\"}}";
const GROUP: &str = "{\"resourceType\":\"Group\",\"id\":\"g\"}";

/// A way not to keep the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    MovesTime,
    PlansDifferently,
    GivesOneNameTwice,
    ReadsDifferently,
    ForgetsCursors,
    DeclaresWrongType,
    SkipsWhatWasAsked,
    SkipsWithoutBeingAsked,
    SaysItFiltersTypes,
    FiltersTimesWrong,
    SaysNothingOfPlaces,
    KeepsBuffersBack,
    GoesOnWhenRefused,
    HidesRefusals,
    IgnoresLineLimit,
    IsSpoiltByDrops,
    CantReadSideBySide,
    LosesWhatHasAnId,
    LosesTheCohort,
    SaysItFiltersTheCohort,
    HasOneResourceTwice,
}

#[derive(Debug)]
struct Flawed {
    inner: MemorySource,
    flaw: Flaw,
}

#[derive(Debug)]
struct FlawedSnapshot {
    inner: Box<dyn Snapshot>,
    flaw: Flaw,
    uses: AtomicUsize,
    open: AtomicUsize,
}

#[async_trait]
impl Source for Flawed {
    fn name(&self) -> String {
        format!("{:?}", self.flaw)
    }

    async fn open(&self) -> Result<Box<dyn Snapshot>> {
        let inner = self.inner.open().await?;
        Ok(Box::new(FlawedSnapshot { inner, flaw: self.flaw, uses: AtomicUsize::new(0), open: AtomicUsize::new(0) }))
    }
}

#[async_trait]
impl Snapshot for FlawedSnapshot {
    fn transaction_time(&self) -> Instant {
        let moved = if self.flaw == Flaw::MovesTime { self.uses.fetch_add(1, Ordering::Relaxed) } else { 0 };
        Instant::from_unix(i64::try_from(moved).unwrap(), 0)
    }

    fn after_transaction_time(&self) -> AfterTransactionTime {
        self.inner.after_transaction_time()
    }

    async fn plan(&self, asked: &Asked) -> Result<Plan> {
        let mut plan = self.inner.plan(asked).await?;
        match self.flaw {
            Flaw::PlansDifferently if self.uses.fetch_add(1, Ordering::Relaxed) % 2 == 1 => plan.ranges.reverse(),
            Flaw::GivesOneNameTwice => plan.ranges.push(plan.ranges[0].clone()),
            Flaw::DeclaresWrongType => plan.ranges[0].resource_type = ResourceType::r4("Group"),
            Flaw::SkipsWhatWasAsked if asked.types.is_some() => plan.skipped.push(plan.ranges.remove(0)),
            Flaw::SkipsWithoutBeingAsked => plan.skipped.extend(plan.ranges.pop()),
            Flaw::SaysItFiltersTypes => plan.pushdown = Pushdown { types: true, ..Pushdown::default() },
            Flaw::LosesWhatHasAnId if asked.ids.is_some() => plan.ranges.clear(),
            Flaw::LosesTheCohort if asked.cohort.is_some() => plan.ranges.clear(),
            Flaw::SaysItFiltersTheCohort => plan.pushdown.cohort = asked.cohort.is_some(),
            Flaw::HasOneResourceTwice => plan.ranges.push(Range::new("again")),
            Flaw::FiltersTimesWrong if asked.since.is_some() => drop(plan.ranges.remove(0)),
            _ => {}
        }
        Ok(plan)
    }

    fn takes_cohort(&self) -> bool {
        matches!(self.flaw, Flaw::LosesTheCohort | Flaw::SaysItFiltersTheCohort)
    }

    async fn read(&self, range: &Range, from: &Cursor, sink: &mut dyn BlockSink) -> Result<()> {
        let use_number = self.uses.fetch_add(1, Ordering::Relaxed);
        let start = Cursor::start();
        let from = if self.flaw == Flaw::ForgetsCursors { &start } else { from };
        if self.flaw == Flaw::ReadsDifferently && use_number == 1 {
            sink.at(Cursor::start());
            return Ok(());
        }
        if self.flaw == Flaw::IsSpoiltByDrops && self.open.load(Ordering::Relaxed) > 0 {
            return Err(broken("an earlier read was never closed"));
        }
        if self.flaw == Flaw::CantReadSideBySide && self.open.load(Ordering::Relaxed) > 0 {
            sink.at(Cursor::start());
            return Ok(());
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        // Dropped reads are closed but for the one flaw.
        let close = (self.flaw != Flaw::IsSpoiltByDrops).then(|| Close(&self.open));
        tokio::task::yield_now().await;
        let mut sink = FlawedSink { inner: sink, flaw: self.flaw };
        let rows = Range::new("rows");
        let range = if range.name == "again" { &rows } else { range };
        let result = self.inner.read(range, from, &mut sink).await;
        if close.is_none() {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        if self.flaw == Flaw::HidesRefusals { Ok(()) } else { result }
    }
}

struct Close<'a>(&'a AtomicUsize);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct FlawedSink<'a> {
    inner: &'a mut dyn BlockSink,
    flaw: Flaw,
}

#[async_trait]
impl BlockSink for FlawedSink<'_> {
    async fn buffer(&mut self, room_bytes: usize) -> Result<Buffer> {
        match self.inner.buffer(room_bytes).await {
            Err(_) if self.flaw == Flaw::GoesOnWhenRefused => self.inner.buffer(room_bytes).await,
            answer => answer,
        }
    }

    async fn lines(&mut self, buffer: Buffer) -> Result<()> {
        self.inner.lines(buffer).await?;
        if self.flaw == Flaw::KeepsBuffersBack {
            drop(self.inner.buffer(1).await?);
        }
        Ok(())
    }

    async fn rows(&mut self, rows: Rows) -> Result<()> {
        self.inner.rows(rows).await
    }

    async fn row_too_long(&mut self, length_bytes: u64) -> Result<()> {
        self.inner.row_too_long(length_bytes).await
    }

    fn line_limit_bytes(&self) -> usize {
        if self.flaw == Flaw::IgnoresLineLimit { usize::MAX } else { self.inner.line_limit_bytes() }
    }

    fn at(&mut self, cursor: Cursor) {
        if self.flaw != Flaw::SaysNothingOfPlaces {
            self.inner.at(cursor);
        }
    }
}

fn sound() -> MemorySource {
    MemorySource::new()
        .with(
            MemoryRange::lines("lines", format!("{PATIENT}\n\n{LATER}\r\n{PATIENT}"))
                .in_chunks_of(30)
                .of_type(ResourceType::r4("Patient").unwrap()),
        )
        .with(MemoryRange::marked_rows("rows", [(GROUP, false), (LATER, true), (GROUP, true)]).in_chunks_of(40))
        .with(MemoryRange::lines("empty", ""))
}

#[tokio::test]
async fn a_source_that_keeps_the_contract_passes() {
    check(&sound()).await.unwrap();
}

#[tokio::test]
async fn every_flaw_is_found_and_named() {
    for (flaw, says) in [
        (Flaw::MovesTime, "transaction time of the snapshot has moved"),
        (Flaw::PlansDifferently, "planned differently"),
        (Flaw::GivesOneNameTwice, "two ranges have one name"),
        (Flaw::ReadsDifferently, "gives something else"),
        (Flaw::ForgetsCursors, "doesn't give the rest"),
        (Flaw::DeclaresWrongType, "another type than it declares"),
        (Flaw::SkipsWhatWasAsked, "asked for didn't come"),
        (Flaw::SkipsWithoutBeingAsked, "a range was skipped"),
        (Flaw::SaysItFiltersTypes, "says that it filters"),
        (Flaw::FiltersTimesWrong, "asked for didn't come"),
        (Flaw::SaysNothingOfPlaces, "without saying where"),
        (Flaw::KeepsBuffersBack, "buffer"),
        (Flaw::GoesOnWhenRefused, "went on after the sink had refused"),
        (Flaw::HidesRefusals, "wasn't handed on"),
        (Flaw::IgnoresLineLimit, "above the line limit"),
        (Flaw::IsSpoiltByDrops, "never closed"),
        (Flaw::CantReadSideBySide, "while others are read"),
        (Flaw::LosesWhatHasAnId, "asked for didn't come"),
        (Flaw::LosesTheCohort, "asked for didn't come"),
        (Flaw::SaysItFiltersTheCohort, "says that it filters"),
        (Flaw::HasOneResourceTwice, "in two ranges"),
    ] {
        let verdict = check(&Flawed { inner: sound(), flaw }).await;
        let verdict = verdict.map_or_else(|error| error.to_string(), |()| "passed".to_owned());
        assert!(verdict.contains("contract broken") && verdict.contains(says), "{flaw:?}: {verdict}");
    }
}

/// A source whose snapshots are opened before or behind a write.
#[derive(Debug)]
struct Written {
    writes: Arc<AtomicUsize>,
    /// A snapshot sees what is written while it is open.
    is_live: bool,
    /// No snapshot ever sees a write.
    is_frozen: bool,
}

#[derive(Debug)]
struct WrittenSnapshot(Arc<AtomicUsize>);

impl Written {
    fn source(writes: usize) -> MemorySource {
        let body = |number| format!(r#"{{"resourceType":"Patient","id":"{number}"}}"#);
        MemorySource::new().with(MemoryRange::rows("rows", (0..=writes).map(body)))
    }
}

#[async_trait]
impl Source for Written {
    fn name(&self) -> String {
        "written".to_owned()
    }

    async fn open(&self) -> Result<Box<dyn Snapshot>> {
        let writes = if self.is_frozen { 0 } else { self.writes.load(Ordering::Relaxed) };
        let seen = if self.is_live { Arc::clone(&self.writes) } else { Arc::new(AtomicUsize::new(writes)) };
        Ok(Box::new(WrittenSnapshot(seen)))
    }
}

#[async_trait]
impl Snapshot for WrittenSnapshot {
    fn transaction_time(&self) -> Instant {
        Instant::from_unix(0, 0)
    }

    fn after_transaction_time(&self) -> AfterTransactionTime {
        AfterTransactionTime::Excluded
    }

    async fn plan(&self, asked: &Asked) -> Result<Plan> {
        Written::source(self.0.load(Ordering::Relaxed)).open().await?.plan(asked).await
    }

    async fn read(&self, range: &Range, from: &Cursor, sink: &mut dyn BlockSink) -> Result<()> {
        Written::source(self.0.load(Ordering::Relaxed)).open().await?.read(range, from, sink).await
    }
}

#[tokio::test]
async fn a_snapshot_holds_what_was_written_before_it_and_nothing_else() {
    for (is_live, is_frozen, says) in [
        (false, false, "passed"),
        (true, false, "sees what was written"),
        (false, true, "doesn't see what was written"),
    ] {
        let writes = Arc::new(AtomicUsize::new(1));
        let source = Written { writes: Arc::clone(&writes), is_live, is_frozen };
        let verdict = check_isolation(&source, async || {
            writes.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        let verdict = verdict.await.map_or_else(|error| error.to_string(), |()| "passed".to_owned());
        assert!(verdict.contains(says), "{verdict}");
    }
}

#[test]
fn places_are_spread_from_end_to_end() {
    assert_eq!(places(0).count(), 0);
    assert_eq!(places(1).collect::<Vec<_>>(), [0]);
    assert_eq!(places(3).collect::<Vec<_>>(), [0, 1, 2]);
    let many: Vec<_> = places(1000).collect();
    assert_eq!((many[0], many[MOST_PLACES - 1], many.len()), (0, 999, MOST_PLACES));
}
