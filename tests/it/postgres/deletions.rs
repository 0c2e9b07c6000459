//! What was deleted since the last export, by a flag, by tombstones, and in our own tables.

use std::sync::Arc;

use fhir_export::destination::MemoryDestination;
use fhir_export::job::{Config, DataStore, JobService, JobState, Order, Origin};
use fhir_export::request::DatastoreId;
use fhir_export::source::PostgresSource;
use fhir_export::source::postgres::Mapping;

use super::layouts::{export_as, request};
use super::server::Database;
use crate::support::exported::Exported;

/// All of it was deleted at this time, but for what is said to be older.
const SINCE: &str = "2024-05-01T00:00:00Z";

const GROUP: &str = r#"{"resourceType":"Group","id":"g","actual":true,"type":"person","member":[{"entity":{"reference":"Patient/p0"}},{"entity":{"reference":"Patient/p5"}}]}"#;

/// What is there, in each layout: a Group of p0 and p5, p0, and o9, which was deleted and made again.
const ALIVE: [(&str, &str, &str); 3] = [
    ("Group", "g", GROUP),
    ("Patient", "p0", r#"{"resourceType":"Patient","id":"p0"}"#),
    ("Observation", "o9", r#"{"resourceType":"Observation","id":"o9","subject":{"reference":"Patient/p0"}}"#),
];

/// What was deleted: type, id, patients if they are known, and whether it was before.
const DEAD: [(&str, &str, Option<&str>, bool); 8] = [
    ("Observation", "o1", Some("p0"), false),
    ("Observation", "o10", Some("p1"), false),
    ("Observation", "o2", None, false),
    ("Observation", "old", Some("p0"), true),
    ("Patient", "p5", None, false),
    ("Patient", "p6", None, false),
    ("Medication", "m", Some(""), false),
    // Made again.
    ("Observation", "o9", Some("p0"), false),
];

fn told(exported: &Exported) -> Vec<String> {
    exported.deleted().into_iter().collect()
}

/// What each level, type and time is told, whatever the layout.
async fn check(database: &Database, mapping: Option<&str>, knows_patients: bool) {
    let shown = mapping.unwrap_or("own");
    let export = async |asked: (&str, &str, &str, &str), config: Config| {
        let mut source = PostgresSource::new(&database.url, None).unwrap();
        if let Some(text) = mapping {
            source = source.mapping(Mapping::parse(text, "mapping").unwrap());
        }
        let exported = export_as(source, request(asked), config).await;
        exported.assert_well_formed();
        assert_eq!(exported.report.state, JobState::Completed, "{shown}");
        exported
    };
    let exported = export(("system", "", SINCE, ""), Config::default()).await;
    let all = ["Medication/m", "Observation/o1", "Observation/o10", "Observation/o2", "Patient/p5", "Patient/p6"];
    assert_eq!(told(&exported), all, "{shown}");
    let row = exported.manifest().extension.deletions.clone().unwrap();
    assert_eq!((row.read.resources, row.written.resources), (6, 6), "{shown}");
    // What was made again has a time of its own, or none: it is in the output.
    let output = exported.output();
    let observations = String::from_utf8_lossy(&output["Observation"]);
    assert!(observations.lines().count() == 1 && observations.contains("\"o9\""), "{shown} {observations}");

    let exported = export(("patient", "", SINCE, ""), Config::default()).await;
    assert_eq!(told(&exported), all[1..], "{shown}: also what nobody knows the patients of");

    let exported = export(("g", "", SINCE, ""), Config::default()).await;
    let expected: &[&str] = if knows_patients { &["Observation/o1", "Patient/p5"] } else { &["Patient/p5"] };
    assert_eq!(told(&exported), expected, "{shown}");
    let left_out = if knows_patients { 1 } else { 3 };
    let warnings = &exported.manifest().extension.warnings;
    let begins = format!("{left_out} deletions aren't told");
    assert!(warnings.iter().any(|warning| warning.starts_with(&begins)), "{shown} {warnings:?}");

    let exported = export(("system", "Medication", SINCE, ""), Config::default()).await;
    assert_eq!(told(&exported), ["Medication/m"], "{shown}");
    for (since, until) in [
        ("2024-05-01T00:00:00.000001Z", ""),
        ("2024-05-02T00:00:00Z", ""),
        ("2024-04-02T00:00:00Z", "2024-04-30T00:00:00Z"),
        ("", ""),
    ] {
        let exported = export(("system", "", since, until), Config::default()).await;
        assert!(told(&exported).is_empty(), "{shown} {since} {until}: {:?}", told(&exported));
    }
    let exported = export(("system", "Observation", "2024-01-01T00:00:00Z", ""), Config::default()).await;
    assert_eq!(told(&exported), ["Observation/o1", "Observation/o10", "Observation/o2", "Observation/old"], "{shown}");
    let mut silent = Config::default();
    silent.report_deletions = false;
    let exported = export(("system", "", SINCE, ""), silent).await;
    assert!(told(&exported).is_empty() && exported.manifest().extension.deletions.is_none(), "{shown}");
}

fn at(is_older: bool) -> &'static str {
    if is_older { "2024-02-01T00:00:00Z" } else { SINCE }
}

#[tokio::test]
async fn tombstones_of_our_own_tables_are_told_by_level_type_and_time() {
    let database = Database::new().await;
    super::layouts::own(&database).await;
    let client = database.client().await;
    client.batch_execute("DELETE FROM fhir.resource; DELETE FROM fhir.compartment").await.unwrap();
    for (type_name, id, body) in ALIVE {
        let insert = "INSERT INTO fhir.resource VALUES ($1, $2, NULL, '', $3)";
        client.execute(insert, &[&type_name, &id, &body]).await.unwrap();
    }
    client.batch_execute("INSERT INTO fhir.compartment VALUES ('p0', '', 'Observation', 'o9')").await.unwrap();
    for (type_name, id, patients, is_older) in DEAD {
        let insert = "INSERT INTO fhir.tombstone VALUES ($1, $2, (extract(epoch FROM $3::text::timestamptz) * 1000000)::bigint, '', $4)";
        let patients = patients.map(|id| if id.is_empty() { String::new() } else { format!("{id}\n") });
        client.execute(insert, &[&type_name, &id, &at(is_older), &patients]).await.unwrap();
    }
    check(&database, None, true).await;
    // Deleted after T: the next export tells it.
    let later = "INSERT INTO fhir.tombstone VALUES ('Basic', 'b', (extract(epoch FROM now() + interval '1 hour') * 1000000)::bigint, '', NULL)";
    client.batch_execute(later).await.unwrap();
    let source = PostgresSource::new(&database.url, None).unwrap();
    let exported = export_as(source, request(("system", "Basic", SINCE, "")), Config::default()).await;
    assert!(told(&exported).is_empty());
    let row = exported.manifest().extension.deletions.clone().unwrap();
    assert_eq!((row.read.resources, row.excluded["after-T"].resources), (1, 1));
}

#[tokio::test]
async fn rows_with_a_flag_are_told_by_level_type_and_time() {
    let database = Database::new().await;
    let client = database.client().await;
    let tables = "
        CREATE TABLE resources (resource_type text, id text, last_updated timestamptz, deleted boolean, body text);
        CREATE INDEX ON resources (resource_type, id);
        CREATE TABLE compartments (patient_id text, resource_type text, resource_id text);";
    client.batch_execute(tables).await.unwrap();
    let insert = "INSERT INTO resources VALUES ($1, $2, $3::text::timestamptz, $4, $5)";
    for (type_name, id, body) in ALIVE {
        client.execute(insert, &[&type_name, &id, &None::<&str>, &None::<bool>, &body]).await.unwrap();
    }
    for (type_name, id, patients, is_older) in DEAD {
        // Its first deletion, of two: one is told.
        client.execute(insert, &[&type_name, &id, &"2024-01-15T00:00:00Z", &true, &""]).await.unwrap();
        client.execute(insert, &[&type_name, &id, &at(is_older), &true, &""]).await.unwrap();
        if let Some(patient) = patients.filter(|id| !id.is_empty()) {
            let insert = "INSERT INTO compartments VALUES ($1, $2, $3)";
            client.execute(insert, &[&patient, &type_name, &id]).await.unwrap();
        }
    }
    let single = include_str!("../../../src/source/postgres/mapping/single-table.toml");
    check(&database, Some(single), true).await;
    let without_compartments = single.split("[tables.compartment]").next().unwrap();
    check(&database, Some(without_compartments), false).await;
}

#[tokio::test]
async fn a_table_of_tombstones_is_told_by_level_type_and_time() {
    let database = Database::new().await;
    let client = database.client().await;
    let tables = "
        CREATE TABLE things (kind text, id varchar(64), at timestamptz, body text, PRIMARY KEY (kind, id));
        CREATE TABLE gone (kind text, id text, at timestamp, patients text[], why text)";
    client.batch_execute(tables).await.unwrap();
    for (type_name, id, body) in ALIVE {
        client.execute("INSERT INTO things VALUES ($1, $2, NULL, $3)", &[&type_name, &id, &body]).await.unwrap();
    }
    for (type_name, id, patients, is_older) in DEAD {
        let insert = "INSERT INTO gone VALUES ($1, $2, $3::text::timestamptz AT TIME ZONE 'UTC', $4, 'deleted')";
        let patients = patients.map(|id| if id.is_empty() { vec![] } else { vec![id] });
        client.execute(insert, &[&type_name, &id, &at(is_older), &patients]).await.unwrap();
    }
    client
        .batch_execute("INSERT INTO gone VALUES ('Patient', 'kept', now() AT TIME ZONE 'UTC', NULL, 'moved')")
        .await
        .unwrap();
    let mapping = r#"
        [[tables]]
        table = "things"
        type = "kind"
        id = "id"
        last_updated = "at"
        body = "body"
        [tables.tombstones]
        table = "gone"
        type = "kind"
        id = "id"
        deleted_at = "at"
        patients = "patients"
        where = "why = 'deleted'"
    "#;
    check(&database, Some(mapping), true).await;
}

#[tokio::test]
async fn the_history_of_fhirbase_tells_what_was_deleted() {
    let database = Database::new().await;
    let client = database.client().await;
    let columns = "id text NOT NULL, txid bigint NOT NULL, ts timestamptz NOT NULL, resource_type text NOT NULL, status text NOT NULL, resource jsonb NOT NULL";
    for table in ["patient", "patient_history", "observation", "observation_history", "basic"] {
        client.batch_execute(&format!("CREATE TABLE {table} ({columns})")).await.unwrap();
    }
    let rows = "
        INSERT INTO patient VALUES ('a', 1, '2024-05-02Z', 'Patient', 'created', '{}');
        INSERT INTO patient_history VALUES
          ('a', 0, '2024-05-01Z', 'Patient', 'deleted', '{}'), ('b', 0, '2024-05-01Z', 'Patient', 'updated', '{}'),
          ('b', 2, '2024-05-02Z', 'Patient', 'deleted', '{}');
        INSERT INTO observation_history VALUES ('x', 3, '2024-04-30Z', 'Observation', 'deleted', '{}')";
    client.batch_execute(rows).await.unwrap();
    let source = PostgresSource::new(&format!("{}?mapping=fhirbase", database.url), None).unwrap();
    let exported = export_as(source, request(("system", "", SINCE, "")), Config::default()).await;
    exported.assert_well_formed();
    assert_eq!(told(&exported), ["Patient/b"]);
    assert_eq!(exported.output().keys().collect::<Vec<_>>(), ["Patient"]);
}

#[tokio::test]
async fn jobs_of_healthlakes_operations_tell_no_deletions_and_those_of_the_profile_do() {
    let database = Database::new().await;
    super::layouts::own(&database).await;
    let client = database.client().await;
    let dead = "INSERT INTO fhir.tombstone VALUES ('Basic', 'b', (extract(epoch FROM timestamptz '2024-05-02Z') * 1000000)::bigint, '', NULL)";
    client.batch_execute(dead).await.unwrap();
    let source = Arc::new(PostgresSource::new(&database.url, None).unwrap());
    let files = Arc::new(MemoryDestination::new());
    let data_store = DataStore::new(DatastoreId::new("d").unwrap(), source).files(files);
    let service = JobService::builder().data_store(data_store).build().unwrap();
    for (origin, expected) in [(Origin::HealthLake, 0), (Origin::Sdk, 0), (Origin::Profile, 1)] {
        let order = Order {
            origin,
            request_url: String::new(),
            client_token: None,
            separate_status: false,
            skipped: Vec::new(),
            owner: None,
        };
        let started = service.start("d", request(("system", "Basic", SINCE, "")), &order).await.unwrap();
        service.idle().await;
        let view = service.describe("d", &started.id).await.unwrap().unwrap();
        assert_eq!(view.state, JobState::Completed, "{:?}", view.message);
        assert_eq!(view.manifest.unwrap().deleted.len(), expected, "{origin:?}");
    }
}
