use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::FixedClock;
use crate::fhir::ResourceType;
use crate::import::sqlite::Store;
use crate::source::{CohortIds, contract};

const T: Duration = Duration::from_secs(1_700_000_000);

struct Folder {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn folder() -> Folder {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    Folder { _folder: folder, path }
}

fn store(path: &Path) -> Store {
    Store::open(path).unwrap().with_clock(Arc::new(FixedClock(T)))
}

fn source(path: &Path) -> SqliteSource {
    SqliteSource::new(path).with_clock(Arc::new(FixedClock(T)))
}

fn of(name: &str) -> ResourceType {
    ResourceType::r4(name).unwrap()
}

fn put(path: &Path, bodies: &[String]) {
    store(path).write(|write| bodies.iter().try_for_each(|body| write.put(body.as_bytes()).map(drop))).unwrap();
}

fn observation(id: usize, patient: &str, updated: &str) -> String {
    format!(
        r#"{{"resourceType":"Observation","id":"o{id}","meta":{{"lastUpdated":"{updated}"}},"subject":{{"reference":"{patient}"}},"x":"{}"}}"#,
        "x".repeat(id * 37 % 3000)
    )
}

/// Some hundred resources of several types, with all kinds of times and references.
fn bodies() -> Vec<String> {
    let mut bodies = vec![
        r#"{"resourceType":"Group","id":"g","actual":true,"member":[{"entity":{"reference":"Patient/p1"}}]}"#.to_owned(),
        r#"{"resourceType":"Group","id":"h","actual":true}"#.to_owned(),
        r#"{"resourceType":"Medication","id":"m"}"#.to_owned(),
        r#"{"resourceType":"Observation","id":"odd","meta":{"lastUpdated":"soon"},"subject":{"reference":"Patient/p2"}}"#
            .to_owned(),
        r#"{"resourceType":"Observation","id":"none"}"#.to_owned(),
        r#"{"resourceType":"Observation","id":"two","subject":{"reference":"Patient/p1"},"performer":[{"reference":"Patient/p2"}]}"#
            .to_owned(),
    ];
    for number in 0..60 {
        bodies.push(format!(r#"{{"resourceType":"Patient","id":"p{number}","meta":{{"versionId":"{number}"}}}}"#));
    }
    for number in 0..300 {
        let fraction = ["", ".5", ".000001", ".0000010001", ".00000100010"][number % 5];
        let updated = format!("2020-01-01T00:0{}:00{fraction}Z", number % 7);
        let base = if number % 11 == 0 { "https://other.example/fhir/" } else { "" };
        bodies.push(observation(number, &format!("{base}Patient/p{}", number % 60), &updated));
    }
    bodies
}

async fn count(source: &SqliteSource, asked: &Asked) -> usize {
    let snapshot = source.open().await.unwrap();
    let plan = snapshot.plan(asked).await.unwrap();
    let mut rows = 0;
    for range in &plan.ranges {
        let (collected, result) = contract::read(&*snapshot, range, &Cursor::start()).await;
        result.unwrap();
        rows += collected.row_ends().len();
    }
    rows
}

#[tokio::test]
async fn a_store_keeps_the_contract_of_a_source() {
    let Folder { path, _folder } = folder();
    put(&path, &[]);
    contract::check(&source(&path)).await.unwrap();
    put(&path, &bodies());
    contract::check(&source(&path)).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_does_not_see_what_is_written_beside_it() {
    let Folder { path, _folder } = folder();
    put(&path, &bodies());
    let write = async || {
        store(&path).write(|write| {
            assert!(write.delete(&of("Patient"), "p1")?);
            assert!(!write.put(observation(7, "Patient/p2", "2021-01-01T00:00:00Z").as_bytes())?);
            assert!(write.put(br#"{"resourceType":"Patient","id":"new"}"#)?);
            write.put(br#"{"resourceType":"Basic","id":"new"}"#).map(drop)
        })
    };
    contract::check_isolation(&source(&path), write).await.unwrap();
}

#[tokio::test]
async fn a_cohort_is_found_by_the_index_and_its_bases_are_those_of_the_job() {
    let Folder { path, _folder } = folder();
    put(&path, &bodies());
    let source = source(&path);
    let groups = BTreeSet::from(["g".to_owned()]);
    let asked = |ids: CohortIds| Asked { cohort: Some(Arc::new(ids)), ..Asked::default() };
    // The Group, the Patient, five Observations of her of which one is elsewhere, and the one of two.
    let cohort = CohortIds::new(["p0", "nobody"], groups.clone());
    let own = (0..300).filter(|number| number % 60 == 0 && number % 11 != 0).count();
    let all = (0..300).filter(|number| number % 60 == 0).count();
    assert_eq!(count(&source, &asked(cohort.clone())).await, 2 + own);
    let bases = crate::resource::reference::BaseUrls::new(["https://OTHER.example/fhir/"]).unwrap();
    let compartment = crate::resource::Compartment::r4_patient();
    assert_eq!(count(&source, &asked(cohort.under(bases, &compartment))).await, 2 + all);
    assert_eq!(count(&source, &asked(CohortIds::new([], groups))).await, 1);
    assert_eq!(count(&source, &asked(CohortIds::new([], BTreeSet::new()))).await, 0);
    let ids = Some(BTreeSet::from(["h".to_owned(), "none".to_owned()]));
    assert_eq!(count(&source, &Asked { ids, ..Asked::default() }).await, 2);
}

#[tokio::test]
async fn what_replaces_a_resource_replaces_it_in_the_index() {
    let Folder { path, _folder } = folder();
    put(&path, &[observation(1, "Patient/a", "2020-01-01T00:00:00Z")]);
    put(&path, &[observation(1, "Patient/b", "2019-01-01T00:00:00Z")]);
    for (patient, expected) in [("a", 0), ("b", 1)] {
        let ids = CohortIds::new([patient], BTreeSet::new());
        let asked = Asked { cohort: Some(Arc::new(ids)), ..Asked::default() };
        assert_eq!(count(&source(&path), &asked).await, expected, "{patient}");
    }
}

/// Keeps tombstones.
#[derive(Default)]
struct Deletions(Vec<crate::source::Tombstone>);

#[async_trait]
impl DeletionSink for Deletions {
    async fn deleted(&mut self, tombstone: crate::source::Tombstone) -> Result<()> {
        self.0.push(tombstone);
        Ok(())
    }
}

async fn deletions(path: &Path, since: Option<Instant>) -> Vec<crate::source::Tombstone> {
    let mut sink = Deletions::default();
    let asked = Asked { since, ..Asked::default() };
    source(path).open().await.unwrap().deleted(&asked, &mut sink).await.unwrap();
    sink.0
}

#[tokio::test]
async fn what_was_deleted_is_told_until_it_is_there_again() {
    let Folder { path, _folder } = folder();
    put(&path, &bodies());
    let gone =
        [("Observation", "two"), ("Observation", "odd"), ("Observation", "o11"), ("Patient", "p9"), ("Basic", "x")];
    store(&path)
        .write(|write| {
            let deleted = gone.map(|(name, id)| write.delete(&of(name), id).unwrap());
            assert_eq!(deleted, [true, true, true, true, false]);
            Ok(())
        })
        .unwrap();
    let at = Instant::from_unix(1_700_000_000, 0);
    let told = deletions(&path, Some(at.clone())).await;
    let keys: Vec<_> = told.iter().map(|one| format!("{}/{}", one.resource_type, one.id)).collect();
    assert_eq!(keys, ["Observation/o11", "Observation/odd", "Observation/two", "Patient/p9"]);
    assert!(told.iter().all(|one| one.deleted_at == at));
    let patients: Vec<_> = told.iter().map(|one| one.patients.clone()).collect();
    let named = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
    assert_eq!(patients, [None, named(&["p2"]), named(&["p1", "p2"]), named(&[])]);
    put(&path, &[observation(11, "Patient/p2", "2020-01-01T00:00:00Z")]);
    assert_eq!(deletions(&path, None).await.len(), 3);
    assert!(deletions(&path, Some(Instant::from_unix(1_700_000_001, 0))).await.is_empty());
}

#[tokio::test]
async fn a_file_that_is_no_store_is_told_apart_from_one_that_is_not_there() {
    let Folder { path, _folder } = folder();
    let kind = |path: PathBuf| async move { SqliteSource::new(path).open().await.unwrap_err().kind() };
    assert_eq!(kind(path.clone()).await, ErrorKind::NotFound);
    std::fs::write(&path, "{\"resourceType\":\"Patient\"}".repeat(100)).unwrap();
    assert_eq!(kind(path.clone()).await, ErrorKind::InvalidRequest);
    std::fs::remove_file(&path).unwrap();
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert_eq!(kind(path).await, ErrorKind::InvalidRequest);
}
