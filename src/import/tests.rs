use std::path::{Path, PathBuf};

use super::sqlite::{SqliteTarget, Store};
use super::*;
use crate::error::{Error, ErrorKind};
use crate::source::memory::{MemoryRange, MemorySource};
use crate::source::{Asked, Cursor, NdjsonSource, Source, SqliteSource, contract};

struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    /// A source of the given files.
    fn source(&self, files: &[(&str, &str)]) -> NdjsonSource {
        let input = self.folder.path().join("in");
        std::fs::create_dir_all(&input).unwrap();
        for (name, text) in files {
            std::fs::write(input.join(name), text).unwrap();
        }
        NdjsonSource::folder(input).scan_all(true)
    }
}

async fn load_into(path: &Path, source: &dyn Source) -> (LoadReport, Vec<String>) {
    let mut target = SqliteTarget::open(path).unwrap();
    let mut refused = Vec::new();
    let mut tell = |event: Event<'_>| {
        if let Event::Refused(one) = event {
            refused.push(one.to_string());
        }
    };
    let report = load(source, &mut target, &Loading::default(), &mut tell).await.unwrap();
    assert!(report.totals.balances(), "{:?}", report.totals);
    (report, refused)
}

async fn stored(path: &Path) -> Vec<String> {
    let snapshot = SqliteSource::new(path).open().await.unwrap();
    let plan = snapshot.plan(&Asked::default()).await.unwrap();
    let mut all = Vec::new();
    for range in &plan.ranges {
        let (collected, result) = contract::read(&*snapshot, range, &Cursor::start()).await;
        result.unwrap();
        all.extend(collected.lines().map(|line| String::from_utf8(line.to_vec()).unwrap()));
    }
    all
}

fn patient(id: &str, updated: &str, version: &str, text: &str) -> String {
    format!(
        r#"{{"resourceType":"Patient","id":"{id}","meta":{{"versionId":"{version}","lastUpdated":"{updated}"}},"x":"{text}"}}"#
    )
}

#[tokio::test]
async fn of_two_versions_the_newer_stays_whichever_comes_first() {
    let old = patient("1", "2020-01-01T00:00:00.1234567Z", "9", "old");
    let new = patient("1", "2020-01-01T00:00:00.12345671Z", "1", "new");
    let higher = patient("1", "2020-01-01T01:00:00.12345671+01:00", "10", "higher");
    let text = patient("1", "2020-01-01T00:00:00.12345671Z", "a", "text");
    let again = patient("1", "2020-01-01T00:00:00.12345671Z", "a", "again");
    let unknown = r#"{"resourceType":"Patient","id":"1","x":"unknown"}"#.to_owned();
    for (first, second, winner) in [
        (&old, &new, "new"),
        (&new, &old, "new"),
        (&new, &higher, "higher"),
        (&higher, &new, "higher"),
        (&higher, &text, "text"),
        (&text, &again, "text"),
        (&unknown, &old, "old"),
        (&old, &unknown, "old"),
        (&unknown, &unknown, "unknown"),
    ] {
        for together in [true, false] {
            let folder = Folder::new();
            if together {
                let source = folder.source(&[("p.ndjson", &format!("{first}\n{second}\n"))]);
                let (report, _) = load_into(&folder.store(), &source).await;
                assert_eq!(report.totals.inserted, 1);
                assert_eq!(report.totals.replaced + report.totals.kept, 1);
            } else {
                load_into(&folder.store(), &folder.source(&[("p.ndjson", first)])).await;
                load_into(&folder.store(), &folder.source(&[("p.ndjson", second)])).await;
            }
            let stored = stored(&folder.store()).await;
            assert_eq!(stored.len(), 1);
            assert!(stored[0].ends_with(&format!("\"{winner}\"}}")), "{stored:?}, not {winner}");
        }
    }
}

#[tokio::test]
async fn what_can_not_be_kept_is_told_with_file_and_line_and_counted() {
    let folder = Folder::new();
    let good = patient("1", "2020-01-01T00:00:00Z", "1", "x");
    let text = format!(
        "\u{feff}{good}\r\n\n{{\"resourceType\":\"Patient\"}}\n  \nno json\n{{\"resourceType\":\"Patient\",\"id\":\"\"}}\n{{\"id\":\"7\"}}"
    );
    let (report, refused) =
        load_into(&folder.store(), &folder.source(&[("a.ndjson", &text), ("b.ndjson", "[]")])).await;
    assert_eq!((report.totals.read, report.totals.inserted, report.totals.refused), (6, 1, 5));
    let places: Vec<_> = refused.iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["a.ndjson:3", "a.ndjson:5", "a.ndjson:6", "a.ndjson:7", "b.ndjson:1"]);
    assert!(refused[0].contains("has no id") && refused[2].contains("id is empty"), "{refused:?}");
    assert_eq!(stored(&folder.store()).await, [good]);
    assert!(!report.is_whole());
}

#[tokio::test]
async fn a_line_over_the_limit_is_refused_and_the_next_is_not() {
    let folder = Folder::new();
    let long = patient("long", "2020-01-01T00:00:00Z", "1", &"x".repeat(5 << 20));
    let good = patient("1", "2020-01-01T00:00:00Z", "1", "x");
    let mut target = SqliteTarget::open(&folder.store()).unwrap();
    let loading = Loading { line_limit_bytes: 4 << 20, ..Loading::default() };
    for (number, text) in [format!("{good}\n{long}\n{good}\n"), format!("{long}\n{long}"), long].into_iter().enumerate()
    {
        let source = folder.source(&[("p.ndjson", &text)]);
        let mut refused = Vec::new();
        let mut tell = |event: Event<'_>| {
            if let Event::Refused(one) = event {
                refused.push((one.line, one.reason.clone()));
            }
        };
        let report = load(&source, &mut target, &loading, &mut tell).await.unwrap();
        assert!(report.totals.balances());
        let lines: Vec<_> = refused.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [&[2][..], &[1, 2], &[1]][number]);
        assert!(refused.iter().all(|(_, reason)| reason.contains("line limit")));
    }
    assert_eq!(stored(&folder.store()).await, [good]);
}

/// Fails at the n-th write.
struct Failing<'t> {
    inner: &'t mut SqliteTarget,
    writes_left: usize,
}

#[async_trait]
impl Target for Failing<'_> {
    fn name(&self) -> String {
        self.inner.name()
    }

    async fn begin(&mut self, source: &str) -> Result<BTreeMap<String, FileProgress>> {
        self.inner.begin(source).await
    }

    async fn write(&mut self, batch: Batch) -> Result<Written> {
        let Some(left) = self.writes_left.checked_sub(1) else {
            return Err(Error::new(ErrorKind::OutOfSpace, "no room"));
        };
        self.writes_left = left;
        self.inner.write(batch).await
    }

    async fn finish(&mut self, source: &str) -> Result<()> {
        self.inner.finish(source).await
    }
}

#[tokio::test]
async fn a_load_that_was_interrupted_goes_on_where_it_was() {
    let line = |file: usize, number: usize| {
        let updated = "2020-01-01T00:00:00Z";
        format!(
            "{{\"resourceType\":\"Basic\",\"id\":\"{file}-{number}\",\"meta\":{{\"lastUpdated\":\"{updated}\"}},\"subject\":{{\"reference\":\"Patient/{number}\"}},\"x\":\"{}\"}}\n",
            "x".repeat(60_000)
        )
    };
    let files: Vec<(String, String)> = (0..3)
        .map(|file| {
            (format!("{file}.ndjson"), (0..700).map(|number| line(file, number)).collect::<String>() + "no json\n")
        })
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let folder = Folder::new();
    let source = folder.source(&files);
    let mut target = SqliteTarget::open(&folder.store()).unwrap();
    for writes_left in [3, 0, 1] {
        let mut failing = Failing { inner: &mut target, writes_left };
        let error = load(&source, &mut failing, &Loading::default(), &mut |_| {}).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfSpace);
    }
    let (report, refused) = load_into(&folder.store(), &source).await;
    assert_eq!((report.totals.inserted, report.totals.refused, report.totals.kept), (2100, 3, 0));
    assert!(report.before >= 1400 && refused.len() < 3, "{} before, {refused:?}", report.before);
    assert!(refused.last().unwrap().starts_with("2.ndjson:701: "), "{refused:?}");
    let mut cohort = Asked::default();
    let ids = crate::source::CohortIds::new(["699"], std::collections::BTreeSet::new());
    cohort.cohort = Some(std::sync::Arc::new(ids));
    let snapshot = SqliteSource::new(folder.store()).open().await.unwrap();
    assert!(snapshot.takes_cohort() && snapshot.plan(&cohort).await.unwrap().pushdown.cohort);
    // It is over: the same command reads everything again.
    let (report, _) = load_into(&folder.store(), &source).await;
    assert_eq!((report.totals.kept, report.totals.inserted, report.before), (2100, 0, 0));
}

#[tokio::test]
async fn what_was_deleted_since_is_not_brought_back_by_an_older_version() {
    let folder = Folder::new();
    let source = |text: &str| folder.source(&[("p.ndjson", text)]);
    let old = patient("1", "2020-01-01T00:00:00Z", "1", "old");
    load_into(&folder.store(), &source(&old)).await;
    let patient_type = crate::fhir::ResourceType::r4("Patient").unwrap();
    let mut store = Store::open(&folder.store()).unwrap();
    assert!(store.write(|write| write.delete(&patient_type, "1")).unwrap());
    let (report, _) = load_into(&folder.store(), &source(&old)).await;
    assert_eq!((report.totals.kept, stored(&folder.store()).await.len()), (1, 0));
    let (report, _) = load_into(&folder.store(), &source(&patient("1", "9999-01-01T00:00:00Z", "1", "new"))).await;
    assert_eq!((report.totals.inserted, stored(&folder.store()).await.len()), (1, 1));
}

#[tokio::test]
async fn rows_are_loaded_as_lines_are() {
    let folder = Folder::new();
    let rows: Vec<String> =
        (0..500).map(|number| patient(&number.to_string(), "2020-01-01T00:00:00Z", "1", &"x".repeat(number))).collect();
    let rows_range = MemoryRange::rows("rows", rows.clone()).in_chunks_of(5000);
    let source = MemorySource::new().with(rows_range).with(MemoryRange::rows("bad", ["x", "{}"]));
    let (report, refused) = load_into(&folder.store(), &source).await;
    assert_eq!((report.totals.inserted, report.totals.refused), (500, 2));
    assert!(refused[1].starts_with("bad:2: "), "{refused:?}");
    let copy = Folder::new();
    let (report, _) = load_into(&copy.store(), &SqliteSource::new(folder.store())).await;
    assert_eq!(report.totals.inserted, 500);
    assert_eq!(stored(&copy.store()).await, stored(&folder.store()).await);
}
