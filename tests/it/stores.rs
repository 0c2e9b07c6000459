//! The same data through every kind of source, and a store that is written to while it is exported.

mod deletions;
mod lost;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fhir_export::clock::FixedClock;
use fhir_export::destination::MemoryDestination;
use fhir_export::fhir::ResourceType;
use fhir_export::import::sqlite::{SqliteTarget, Store};
use fhir_export::import::{Loading, load};
use fhir_export::job::{Config, Exporter, JobReport, JobState};
use fhir_export::request::{ExportRequest, Level, PatientReference};
use fhir_export::resource::reference::BaseUrls;
use fhir_export::source::memory::{MemoryRange, MemorySource};
use fhir_export::source::{AfterTransactionTime, Asked, Cursor, NdjsonSource, Source, SqliteSource, contract};

use crate::support::asked::request;
use crate::support::exported::Exported;
use crate::support::naive::{self, NaiveRequest};
use crate::support::{Files, files_below, repository};

/// 2025-01-01T00:00:00Z, the naive exporter's transaction time.
const TRANSACTION_TIME: Duration = Duration::from_secs(1_735_689_600);

const BASE: &str = "https://fhir.example.org/r4";

fn clock() -> Arc<FixedClock> {
    Arc::new(FixedClock(TRANSACTION_TIME))
}

/// A store that a folder was imported into.
struct Imported {
    folder: tempfile::TempDir,
    /// What it holds, a file a type.
    files: Files,
}

impl Imported {
    async fn new(source: &dyn Source) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut target = SqliteTarget::open(&folder.path().join("store.db")).unwrap();
        let report = load(source, &mut target, &Loading::default(), &mut |_| {}).await.unwrap();
        assert!(report.totals.balances());
        let mut imported = Self { folder, files: Files::new() };
        imported.files = held(&imported.store()).await;
        assert_eq!(report.totals.inserted, imported.files.iter().map(|(_, text)| lines(text)).sum::<u64>());
        for (name, text) in &imported.files {
            fs::create_dir_all(imported.folder.path().join("files")).unwrap();
            fs::write(imported.folder.path().join("files").join(name), text).unwrap();
        }
        imported
    }

    fn store(&self) -> SqliteSource {
        SqliteSource::new(self.folder.path().join("store.db")).with_clock(clock())
    }

    /// The same resources through each kind of source; whether it filters itself, and leaves out what is stamped after T.
    fn sources(&self) -> Vec<(Arc<dyn Source>, bool, bool)> {
        let files = NdjsonSource::folder(self.folder.path().join("files")).clock(clock());
        let mut memory = MemorySource::new()
            .at(fhir_export::fhir::Instant::from_unix(1_735_689_600, 0))
            .after_transaction_time(AfterTransactionTime::Excluded);
        for (name, text) in &self.files {
            let rows: Vec<Vec<u8>> =
                text.split_inclusive(|byte| *byte == b'\n').map(|line| line[..line.len() - 1].to_vec()).collect();
            memory = memory.with(MemoryRange::rows(name.clone(), rows).in_chunks_of(20_000));
        }
        vec![(Arc::new(self.store()), true, true), (Arc::new(files), false, false), (Arc::new(memory), false, true)]
    }
}

fn lines(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

async fn held(store: &SqliteSource) -> Files {
    let snapshot = store.open().await.unwrap();
    let plan = snapshot.plan(&Asked::default()).await.unwrap();
    let mut files = Files::new();
    for range in &plan.ranges {
        let (collected, result) = contract::read(&*snapshot, range, &Cursor::start()).await;
        result.unwrap();
        files.push((format!("{}.ndjson", range.name), collected.bytes().to_vec()));
    }
    files
}

async fn export(source: Arc<dyn Source>, request: ExportRequest, config: Config) -> Result<Exported, JobReport> {
    let destination = MemoryDestination::new();
    let exporter = Exporter::builder().source(source).destination(Arc::new(destination.clone())).config(config);
    let job = exporter.build().unwrap().start(request).unwrap();
    let report = tokio::time::timeout(Duration::from_secs(100), job.join()).await.expect("the job ends");
    if report.manifest.is_none() {
        return Err(report);
    }
    let exported = Exported::read(report, &destination).await;
    exported.assert_well_formed();
    Ok(exported)
}

fn config() -> Config {
    let mut config = Config::default();
    config.budget_bytes = 64 << 20;
    config.base_urls = BaseUrls::new([BASE]).unwrap();
    config
}

fn naive_of(
    imported: &Imported,
    (level, types, since, until): (&str, &[&str], &str, &str),
    excludes_after_t: bool,
) -> Option<naive::Export> {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let level = match level {
        "system" => naive::Level::System,
        "patient" => naive::Level::Patient,
        id => naive::Level::Group(id.to_owned()),
    };
    let types = (!types.is_empty()).then(|| types.iter().map(|&name| name.to_owned()).collect());
    let request = NaiveRequest {
        types,
        since: text(since),
        until: text(until),
        base_urls: vec![BASE.to_owned()],
        line_limit: 16 << 20,
        excludes_after_t,
        ..NaiveRequest::new(level)
    };
    naive::export(&imported.files, &request).ok()
}

/// What was written and quarantined of each type.
fn fates(exported: &Exported) -> BTreeMap<Option<String>, (u64, u64, u64)> {
    let rows = exported.manifest().extension.ledger.iter();
    let fates = rows.map(|row| {
        (row.resource_type.clone(), (row.written.resources, row.quarantined.resources, row.shared_with_non_members))
    });
    fates.filter(|(_, fates)| *fates != (0, 0, 0)).collect()
}

async fn check(imported: &Imported, level: &str, types: &[&str], since: &str, until: &str) {
    let asked = format!("{level} {types:?} {since} {until}");
    for (source, is_filtering, excludes_after_t) in imported.sources() {
        let naive = naive_of(imported, (level, types, since, until), excludes_after_t);
        for verify in [true, false] {
            if !verify && !is_filtering {
                continue;
            }
            let mut config = config();
            config.verify_pushdown = verify;
            let exported = export(Arc::clone(&source), request(level, types, since, until), config).await;
            let Some(naive) = &naive else {
                assert_eq!(exported.err().map(|report| report.state), Some(JobState::Failed), "{asked}");
                continue;
            };
            let exported = exported.unwrap_or_else(|report| panic!("{asked} {}: {report:?}", source.name()));
            let output = exported.output();
            for (name, expected) in &naive.output {
                let same = output.get(name).is_some_and(|found| found == expected);
                assert!(same, "{asked} {} {name} {verify}", source.name());
            }
            assert_eq!(output.len(), naive.output.len(), "{asked} {}", source.name());
            if !verify {
                continue;
            }
            let expected = naive.counts.iter().map(|(name, counts)| {
                let shared = counts.shared_with_non_members;
                (name.clone(), (counts.written.resources, counts.quarantined.resources, shared))
            });
            let expected: BTreeMap<_, _> = expected.filter(|(_, fates)| *fates != (0, 0, 0)).collect();
            assert_eq!(fates(&exported), expected, "{asked} {}", source.name());
            let warnings = &exported.manifest().extension.warnings;
            assert!(!warnings.iter().any(|warning| warning.contains("says that it filters")), "{warnings:?}");
        }
    }
}

async fn check_all(imported: &Imported, groups: &[&str]) {
    for level in ["system", "patient"].iter().chain(groups) {
        check(imported, level, &[], "", "").await;
        check(imported, level, &["Patient", "Observation", "Group"], "2020-01-01T00:00:00Z", "2024-01-01T00:00:00Z")
            .await;
        check(imported, level, &[], "2023-06-15T12:30:00.5+02:00", "").await;
    }
    check(imported, "system", &[], "", "2024-01-01T00:00:00Z").await;
}

#[tokio::test]
async fn the_small_test_data_comes_out_of_every_source_alike() {
    let imported = Imported::new(&NdjsonSource::folder(repository("testdata/small")).scan_all(true)).await;
    let groups = ["everyone", "nested", "cycle-a", "empty", "dangling", "twice", "strangers", "staff", "nowhere"];
    check_all(&imported, &groups).await;
}

#[tokio::test]
async fn the_odd_test_data_comes_out_of_every_source_alike() {
    let imported = Imported::new(&NdjsonSource::folder(repository("testdata/odd")).scan_all(true)).await;
    check_all(&imported, &[]).await;
}

#[tokio::test]
async fn synthetic_patients_come_out_of_every_source_alike() {
    let shared = std::env::var_os("FHIR_EXPORT_SHARED").map_or_else(|| repository("../shared"), PathBuf::from);
    let folder = shared.join("data/synthea-r4");
    if !folder.is_dir() {
        use std::io::Write as _;
        let _closed = writeln!(std::io::stderr(), "SKIPPED: {} is not there", folder.display());
        return;
    }
    let cut = tempfile::tempdir().unwrap();
    for (name, bytes) in files_below(&folder, |path| path.ends_with(".ndjson.gz")) {
        let most = if name.starts_with("Patient") || name.starts_with("Group") { u64::MAX } else { 300 << 10 };
        let mut text = Vec::new();
        flate2::read::MultiGzDecoder::new(bytes.as_slice()).take(most).read_to_end(&mut text).unwrap();
        text.truncate(text.iter().rposition(|byte| *byte == b'\n').unwrap() + 1);
        fs::write(cut.path().join(name.trim_end_matches(".gz")), text).unwrap();
    }
    let imported = Imported::new(&NdjsonSource::folder(cut.path())).await;
    check_all(&imported, &["ten", "nested", "all-patients", "empty"]).await;
}

fn patient(number: usize) -> String {
    format!(r#"{{"resourceType":"Patient","id":"p{number}"}}"#)
}

#[tokio::test]
async fn patients_that_are_named_come_out_of_every_source_alike() {
    let imported = Imported::new(&NdjsonSource::folder(repository("testdata/small"))).await;
    let named = ["Patient/ada", "https://fhir.example.org/r4/Patient/bo"];
    let naive = NaiveRequest {
        patients: Some(["ada", "bo"].map(str::to_owned).into()),
        base_urls: vec![BASE.to_owned()],
        ..NaiveRequest::new(naive::Level::Patient)
    };
    let naive = naive::export(&imported.files, &naive).unwrap();
    for (source, filters_itself, _) in imported.sources() {
        let references = named.iter().map(|reference| PatientReference::new(reference).unwrap()).collect();
        let request = ExportRequest::new(Level::Patient).with_patients(references);
        let exported = export(Arc::clone(&source), request, config()).await.unwrap();
        assert_eq!(exported.report.state, JobState::Completed);
        let output = exported.output();
        assert!(output == naive.output, "{}", source.name());
        let read: u64 = exported.manifest().extension.ledger.iter().map(|row| row.read.resources).sum();
        let written: u64 = exported.manifest().extension.ledger.iter().map(|row| row.written.resources).sum();
        assert_eq!(read == written, filters_itself, "{}", source.name());
        let unknown = [PatientReference::new("Patient/nobody").unwrap()].into();
        let refused = export(source, ExportRequest::new(Level::Patient).with_patients(unknown), config()).await;
        let error = refused.err().and_then(|report| report.error).unwrap();
        assert_eq!(error.kind(), fhir_export::ErrorKind::InvalidRequest);
    }
}

#[tokio::test]
async fn cohorts_of_nobody_one_and_ten_thousand_are_found_by_the_index() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut store = Store::open(&path).unwrap();
    store
        .write(|write| {
            for number in 0..12_000 {
                write.put(patient(number).as_bytes())?;
                let body = format!(
                    r#"{{"resourceType":"Observation","id":"o{number}","subject":{{"reference":"Patient/p{number}"}}}}"#
                );
                write.put(body.as_bytes())?;
            }
            for count in [0, 1, 10_000] {
                let members: Vec<String> =
                    (0..count).map(|number| format!(r#"{{"entity":{{"reference":"Patient/p{number}"}}}}"#)).collect();
                let members = members.join(",");
                let body = format!(
                    r#"{{"resourceType":"Group","id":"g{count}","actual":true,"type":"person","member":[{members}]}}"#
                );
                write.put(body.as_bytes())?;
            }
            write.put(br#"{"resourceType":"Medication","id":"m"}"#).map(drop)
        })
        .unwrap();
    for count in [0, 1, 10_000] {
        let source: Arc<dyn Source> = Arc::new(SqliteSource::new(&path));
        let exported = export(source, request(&format!("g{count}"), &[], "", ""), config()).await.unwrap();
        assert_eq!(exported.report.state, JobState::Completed);
        let read: BTreeMap<_, _> = exported
            .manifest()
            .extension
            .ledger
            .iter()
            .map(|row| (row.resource_type.clone().unwrap(), (row.read.resources, row.written.resources)))
            .collect();
        let mut expected = BTreeMap::from([("Group".to_owned(), (1, 1))]);
        if count > 0 {
            expected.extend(["Observation", "Patient"].map(|name| (name.to_owned(), (count, count))));
        }
        assert_eq!(read, expected, "nothing else is read");
    }
}

#[tokio::test]
async fn bodies_of_one_byte_to_more_than_the_line_limit_find_their_fate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let body = |id: &str, bytes: usize| {
        let body = format!(r#"{{"resourceType":"Binary","id":"{id}","data":""}}"#);
        body.replace(r#"data":""#, &format!(r#"data":"{}"#, "A".repeat(bytes - body.len())))
    };
    let bodies = [("a", 50), ("b", 50 << 20), ("c", (64 << 20) + 1), ("d", 1 << 20), ("e", 64 << 20)];
    Store::open(&path)
        .unwrap()
        .write(|write| bodies.iter().try_for_each(|(id, bytes)| write.put(body(id, *bytes).as_bytes()).map(drop)))
        .unwrap();
    // What no import would take.
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute("INSERT INTO body VALUES (1000, x'78')", []).unwrap();
    connection.execute("INSERT INTO resource SELECT number, 'bb', NULL, '', 1000 FROM types", []).unwrap();
    drop(connection);
    let mut config = config();
    config.budget_bytes = 256 << 20;
    let exported = export(Arc::new(SqliteSource::new(&path)), request("system", &[], "", ""), config).await.unwrap();
    let expected: String = ["a", "b", "d", "e"]
        .iter()
        .map(|id| body(id, bodies.iter().find(|(other, _)| other == id).unwrap().1) + "\n")
        .collect();
    assert!(exported.output()["Binary"] == expected.as_bytes());
    assert_eq!(exported.issues().len(), 2);
    assert_eq!(exported.report.state, JobState::CompletedWithErrors);
}

/// Inserts, updates and deletes as fast as it can, until it is told to stop. Returns what there is then.
fn write_until(path: &Path, stop: &AtomicBool) -> BTreeMap<String, String> {
    let mut store = Store::open(path).unwrap();
    let mut there: BTreeMap<String, String> = BTreeMap::new();
    let basic = ResourceType::r4("Basic").unwrap();
    let mut number: usize = 0;
    while !stop.load(Ordering::Relaxed) {
        let written = store.write(|write| {
            for _ in 0..20 {
                number += 1;
                let id = format!("{}", number.wrapping_mul(7919) % 2000);
                if number.is_multiple_of(5) {
                    write.delete(&basic, &id)?;
                    there.remove(&id);
                    continue;
                }
                let now = write.now();
                let body = format!(
                    r#"{{"resourceType":"Basic","id":"{id}","meta":{{"lastUpdated":"{now}","versionId":"{number}"}}}}"#
                );
                write.put(body.as_bytes())?;
                there.insert(id, body);
            }
            Ok(())
        });
        written.unwrap();
    }
    there
}

/// By id: what an export brought.
fn by_id(bytes: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let id = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    text.lines().map(|line| (id(line), line.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_exports_beside_a_writer_at_full_speed_comes_to_its_final_state() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    drop(Store::open(&path).unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (path, stop) = (path.clone(), Arc::clone(&stop));
        std::thread::spawn(move || write_until(&path, &stop))
    };
    let mut replica: BTreeMap<String, String> = BTreeMap::new();
    let mut since = "2000-01-01T00:00:00Z".to_owned();
    let mut expected = None;
    let mut writer = Some(writer);
    for round in 0..9 {
        if round == 8 {
            stop.store(true, Ordering::Relaxed);
            expected = writer.take().map(|writer| writer.join().unwrap());
        }
        let source: Arc<dyn Source> = Arc::new(SqliteSource::new(&path));
        let mut config = config();
        config.block_bytes = 4096;
        let exported = export(source, request("system", &[], &since, ""), config).await.unwrap();
        assert_eq!(exported.report.state, JobState::Completed);
        for id in exported.deleted().iter().map(|url| url.strip_prefix("Basic/").unwrap()) {
            replica.remove(id);
        }
        let output = exported.output();
        let brought = output.get("Basic").map(|bytes| by_id(bytes)).unwrap_or_default();
        let gone: BTreeSet<String> = exported.deleted();
        assert!(
            brought.keys().all(|id| !gone.contains(&format!("Basic/{id}"))),
            "what is there again is in output only"
        );
        replica.extend(brought);
        since.clone_from(&exported.manifest().transaction_time);
    }
    assert!(expected.as_ref().is_some_and(|expected| expected.len() > 100));
    // Rows stamped in the last millisecond come with the next export: time has gone on since.
    let source: Arc<dyn Source> = Arc::new(SqliteSource::new(&path));
    let exported = export(source, request("system", &[], &since, ""), config()).await.unwrap();
    for id in exported.deleted().iter().map(|url| url.strip_prefix("Basic/").unwrap()) {
        replica.remove(id);
    }
    replica.extend(exported.output().get("Basic").map(|bytes| by_id(bytes)).unwrap_or_default());
    assert!(Some(&replica) == expected.as_ref(), "{} and {:?}", replica.len(), expected.map(|all| all.len()));
}
