//! A snapshot that is lost while it is exported.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use fhir_export::ErrorKind;
use fhir_export::clock::FixedClock;
use fhir_export::fhir::ResourceType;
use fhir_export::import::sqlite::Store;
use fhir_export::job::JobState;
use fhir_export::source::{
    AfterTransactionTime, Asked, BlockSink, Buffer, Cursor, DeletionSink, Plan, Range, Rows, Snapshot, Source,
    SqliteSource,
};

use super::{by_id, clock, config, export, lines, request};

type OnLoss = Mutex<Option<Box<dyn FnOnce() + Send>>>;

/// Loses its snapshot after some blocks; something happens then.
struct Losing {
    inner: SqliteSource,
    blocks: AtomicUsize,
    on_loss: OnLoss,
}

impl std::fmt::Debug for Losing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Losing")
    }
}

#[derive(Debug)]
struct LosingSource(Arc<Losing>);

#[derive(Debug)]
struct LosingSnapshot(Box<dyn Snapshot>, Arc<Losing>);

#[async_trait]
impl Source for LosingSource {
    fn name(&self) -> String {
        self.0.inner.name()
    }

    async fn open(&self) -> fhir_export::Result<Box<dyn Snapshot>> {
        Ok(Box::new(LosingSnapshot(self.0.inner.open().await?, Arc::clone(&self.0))))
    }
}

#[async_trait]
impl Snapshot for LosingSnapshot {
    fn transaction_time(&self) -> fhir_export::fhir::Instant {
        self.0.transaction_time()
    }

    fn after_transaction_time(&self) -> AfterTransactionTime {
        self.0.after_transaction_time()
    }

    async fn plan(&self, asked: &Asked) -> fhir_export::Result<Plan> {
        self.0.plan(asked).await
    }

    fn takes_cohort(&self) -> bool {
        self.0.takes_cohort()
    }

    async fn deleted(&self, asked: &Asked, sink: &mut dyn DeletionSink) -> fhir_export::Result<()> {
        self.0.deleted(asked, sink).await
    }

    async fn read(&self, range: &Range, from: &Cursor, sink: &mut dyn BlockSink) -> fhir_export::Result<()> {
        // The cohort is found before the job reads.
        if range.name.starts_with("Group") {
            return self.0.read(range, from, sink).await;
        }
        self.0.read(range, from, &mut LosingSink(sink, &self.1)).await
    }
}

struct LosingSink<'s>(&'s mut dyn BlockSink, &'s Losing);

#[async_trait]
impl BlockSink for LosingSink<'_> {
    async fn buffer(&mut self, room_bytes: usize) -> fhir_export::Result<Buffer> {
        let left = self.1.blocks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_err() {
            let on_loss = self.1.on_loss.lock().unwrap().take();
            if let Some(on_loss) = on_loss {
                on_loss();
                return Err(fhir_export::Error::new(ErrorKind::SnapshotLost, "the connection broke"));
            }
        }
        self.0.buffer(room_bytes).await
    }

    async fn lines(&mut self, buffer: Buffer) -> fhir_export::Result<()> {
        self.0.lines(buffer).await
    }

    async fn rows(&mut self, rows: Rows) -> fhir_export::Result<()> {
        self.0.rows(rows).await
    }

    async fn row_too_long(&mut self, length_bytes: u64) -> fhir_export::Result<()> {
        self.0.row_too_long(length_bytes).await
    }

    fn line_limit_bytes(&self) -> usize {
        self.0.line_limit_bytes()
    }

    fn at(&mut self, cursor: Cursor) {
        self.0.at(cursor);
    }
}

fn basic(number: usize, updated: &str) -> String {
    format!(r#"{{"resourceType":"Basic","id":"{number:04}","meta":{{"lastUpdated":"{updated}"}}}}"#)
}

#[tokio::test]
async fn a_job_whose_snapshot_is_lost_goes_on_time_bounded_and_the_next_export_brings_the_rest() {
    for (blocks, is_allowed) in [(0, false), (1, true), (2, false), (3, true)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let old = "2020-01-01T00:00:00Z";
        let mut there: BTreeMap<String, String> =
            (0..3000).map(|number| (format!("{number:04}"), basic(number, old))).collect();
        let put = |write: &mut fhir_export::import::sqlite::Write<'_>, body: &str| write.put(body.as_bytes()).map(drop);
        Store::open(&path).unwrap().write(|write| there.values().try_for_each(|body| put(write, body))).unwrap();
        let later = "2026-06-01T00:00:00Z";
        let changed: Vec<String> = (0..3000).step_by(7).map(|number| basic(number, later)).collect();
        let gone: Vec<String> = (0..3000).step_by(11).map(|number| format!("{number:04}")).collect();
        let new: Vec<String> = (3000..3100).map(|number| basic(number, later)).collect();
        let on_loss = {
            let (path, changed, gone, new) = (path.clone(), changed.clone(), gone.clone(), new.clone());
            move || {
                let mut store =
                    Store::open(&path).unwrap().with_clock(Arc::new(FixedClock(Duration::from_secs(1_780_272_000))));
                let write = store.write(|write| {
                    changed.iter().chain(&new).try_for_each(|body| put(write, body))?;
                    let basic = ResourceType::r4("Basic").unwrap();
                    gone.iter().try_for_each(|id| write.delete(&basic, id).map(drop))
                });
                write.unwrap();
            }
        };
        let inner = SqliteSource::new(&path);
        let first = inner.clone().with_clock(clock());
        let losing =
            Losing { inner: first, blocks: AtomicUsize::new(blocks), on_loss: Mutex::new(Some(Box::new(on_loss))) };
        // The clock must go on for the second snapshot to be another.
        let source = Reclocked { first: LosingSource(Arc::new(losing)), second: inner.clone() };
        let mut config = config();
        config.block_bytes = 10_000;
        config.allow_time_bounded = is_allowed;
        let exported = export(Arc::new(source), request("system", &[], "", ""), config.clone()).await.unwrap();
        let expected = if is_allowed { JobState::Completed } else { JobState::CompletedWithErrors };
        assert_eq!(exported.report.state, expected);
        let extension = &exported.manifest().extension;
        assert!(extension.snapshot.starts_with("lost at Basic at "), "{}", extension.snapshot);
        let row = &extension.ledger[0];
        assert!(row.superseded.resources > 0 && row.superseded.resources <= 3100 / 7 + 101, "{row:?}");
        let output = exported.output();
        assert_eq!(lines(&output["Basic"]), row.written.resources);
        let mut replica = by_id(&output["Basic"]);
        assert_eq!(replica.len() as u64, row.written.resources, "each once");
        let is_untouched = |id: &str| id.parse::<usize>().is_ok_and(|number| number % 7 != 0 && number % 11 != 0);
        assert_eq!(
            replica.keys().filter(|id| is_untouched(id)).count(),
            there.keys().filter(|id| is_untouched(id)).count()
        );
        // The chain goes on.
        let since = exported.manifest().transaction_time.clone();
        let next = export(Arc::new(inner), request("system", &[], &since, ""), config).await.unwrap();
        for url in next.deleted() {
            replica.remove(url.strip_prefix("Basic/").unwrap());
        }
        replica.extend(by_id(&next.output()["Basic"]));
        for body in changed.iter().chain(&new) {
            there.insert(by_id(body.as_bytes()).into_keys().next().unwrap(), body.clone());
        }
        gone.iter().for_each(|id| drop(there.remove(id)));
        assert!(replica == there, "{blocks}");
    }
}

/// Opens one source first and another again.
#[derive(Debug)]
struct Reclocked {
    first: LosingSource,
    second: SqliteSource,
}

#[async_trait]
impl Source for Reclocked {
    fn name(&self) -> String {
        self.first.name()
    }

    async fn open(&self) -> fhir_export::Result<Box<dyn Snapshot>> {
        self.first.open().await
    }

    async fn reopen(&self, _: &fhir_export::fhir::Instant) -> fhir_export::Result<Box<dyn Snapshot>> {
        self.second.open().await
    }
}

fn observation(number: usize) -> String {
    let (subject, note) = (format!(r#"{{"reference":"Patient/p{:02}"}}"#, number % 50), "x".repeat(500));
    format!(r#"{{"resourceType":"Observation","id":"{number:04}","subject":{subject},"note":"{note}"}}"#)
}

fn group(patients: &[usize]) -> String {
    let member = |number: &usize| format!(r#"{{"entity":{{"reference":"Patient/p{number:02}"}}}}"#);
    let members: Vec<String> = patients.iter().map(member).collect();
    let members = members.join(",");
    format!(r#"{{"resourceType":"Group","id":"g","actual":true,"type":"person","member":[{members}]}}"#)
}

#[tokio::test]
async fn a_source_that_is_opened_again_filters_by_the_same_cohort() {
    let put = |write: &mut fhir_export::import::sqlite::Write<'_>, body: &str| write.put(body.as_bytes()).map(drop);
    // The Group as it is when the snapshot is lost, and whether the source can still filter.
    let changes: [(Option<String>, bool); 4] =
        [(None, true), (Some(group(&[3, 7, 9])), true), (Some(group(&[3, 9])), false), (Some(String::new()), false)];
    for (change, filters) in changes {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let filled = Store::open(&path).unwrap().write(|write| {
            put(write, &group(&[3, 7]))?;
            (0..5000).try_for_each(|number| put(write, &observation(number)))
        });
        filled.unwrap();
        let shown = format!("{change:?}");
        let on_loss = {
            let path = path.clone();
            move || {
                let mut store = Store::open(&path).unwrap();
                let written = store.write(|write| match change.as_deref() {
                    None => Ok(()),
                    Some("") => write.delete(&ResourceType::r4("Group").unwrap(), "g").map(drop),
                    Some(group) => put(write, group),
                });
                written.unwrap();
            }
        };
        let inner = SqliteSource::new(&path);
        let first = inner.clone().with_clock(clock());
        let losing = Losing { inner: first, blocks: AtomicUsize::new(1), on_loss: Mutex::new(Some(Box::new(on_loss))) };
        let source = Reclocked { first: LosingSource(Arc::new(losing)), second: inner };
        let mut config = config();
        config.block_bytes = 4000;
        config.allow_time_bounded = true;
        let exported = export(Arc::new(source), request("g", &["Observation"], "", ""), config).await.unwrap();
        assert_eq!(exported.report.state, JobState::Completed, "{shown}");
        assert!(exported.manifest().extension.snapshot.starts_with("lost at "), "{shown}");
        let expected: String =
            (0..5000).filter(|number| [3, 7].contains(&(number % 50))).map(|n| observation(n) + "\n").collect();
        assert!(exported.output()["Observation"] == expected.as_bytes(), "{shown}");
        let row = exported.manifest().extension.ledger.iter().find(|row| row.written.resources == 200).unwrap();
        assert_eq!(row.read.resources == 200, filters, "{shown}: {row:?}");
    }
}
