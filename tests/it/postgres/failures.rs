//! What can go wrong between a database and an export, each with its message.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fhir_export::ErrorKind;
use fhir_export::destination::MemoryDestination;
use fhir_export::fhir::Instant;
use fhir_export::job::{Exporter, JobReport, JobState};
use fhir_export::request::{ExportRequest, Level};
use fhir_export::source::postgres::Mapping;
use fhir_export::source::{Asked, Cursor, DeletionSink, PostgresSource, Source, Tombstone, contract};
use tokio_postgres::Client;

use super::layouts::{export, request};
use super::server::{Database, Server};

const PATIENTS: &str = r#"
[[tables]]
types = ["Patient"]
table = "patients"
id = "id"
body = "body"
"#;

async fn fill(client: &Client, rows: i32) {
    let fill = "CREATE TABLE patients (id text PRIMARY KEY, body text);
                INSERT INTO patients SELECT lpad(n::text, 8, '0'),
                  format('{\"resourceType\":\"Patient\",\"id\":\"%s\",\"note\":\"%s\"}', lpad(n::text, 8, '0'), repeat('x', 900))
                FROM generate_series(1, ROWS) AS n; ANALYZE patients;";
    client.batch_execute(&fill.replace("ROWS", &rows.to_string())).await.unwrap();
}

fn source(url: &str) -> PostgresSource {
    PostgresSource::new(url, None).unwrap().mapping(Mapping::parse(PATIENTS, "patients").unwrap())
}

async fn run(source: PostgresSource) -> JobReport {
    let destination = Arc::new(MemoryDestination::new());
    let exporter = Exporter::builder().source(Arc::new(source)).destination(destination).build().unwrap();
    exporter.start(ExportRequest::new(Level::System)).unwrap().join().await
}

async fn refusal(source: PostgresSource) -> (ErrorKind, String) {
    let error = run(source).await.error.expect("it fails");
    (error.kind(), format!("{error:#}"))
}

#[tokio::test]
async fn a_mapping_that_does_not_fit_the_database_is_refused_with_what_does_not() {
    let database = Database::new().await;
    let client = database.client().await;
    fill(&client, 3).await;
    client.batch_execute("ALTER TABLE patients ADD COLUMN born date").await.unwrap();
    for (from, to, kind, said) in [
        ("\"patients\"", "\"people\"", ErrorKind::NotFound, "relation \"people\" does not exist"),
        ("\"body\"", "\"content\"", ErrorKind::InvalidConfig, "column t.content does not exist"),
        ("\"body\"", "\"born\"", ErrorKind::InvalidConfig, "the column body of the table of Patient is of type date"),
        ("id = \"id\"", "id = \"born\"", ErrorKind::InvalidConfig, "the column id"),
        (
            "body = \"body\"",
            "body = \"body\"\nlast_updated = \"born\"",
            ErrorKind::InvalidConfig,
            "timestamptz or timestamp",
        ),
        ("body = \"body\"", "body = { sql = \"body ||\" }", ErrorKind::InvalidConfig, "syntax error"),
        ("\"patients\"", "\"patients\\\"; DROP TABLE patients; --\"", ErrorKind::NotFound, "does not exist"),
        (
            "types = [\"Patient\"]\ntable = \"patients\"",
            "table = \"{type}_x\"",
            ErrorKind::NotFound,
            "no table \"{type}_x\"",
        ),
    ] {
        let mapping = Mapping::parse(&PATIENTS.replace(from, to), "m").unwrap();
        let (is, text) = refusal(PostgresSource::new(&database.url, None).unwrap().mapping(mapping)).await;
        assert!(is == kind && text.contains(said), "{to}: {is}: {text}");
    }
    let (kind, text) = refusal(PostgresSource::new(&database.url, None).unwrap()).await;
    assert!(kind == ErrorKind::NotFound && text.contains("import makes one"), "{text}");
    assert_eq!(client.query("SELECT 1 FROM patients", &[]).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_server_that_refuses_is_named_with_its_reason_and_without_a_password() {
    let server = Server::start("max_connections = 6\nsuperuser_reserved_connections = 0");
    let database = Database::on(&server.url("postgres")).await;
    let client = database.client().await;
    fill(&client, 3).await;
    client.batch_execute("CREATE ROLE with_password LOGIN PASSWORD 'right-one'").await.unwrap();
    let with = |password: &str| database.url.replace("postgres@", &format!("with_password:{password}@"));
    let (kind, text) = refusal(source(&with("wrong-one"))).await;
    assert!(kind == ErrorKind::PermissionDenied && text.contains("password authentication failed"), "{text}");
    assert!(!text.contains("wrong-one") && text.contains("with_password@"), "{text}");
    let (kind, text) = refusal(source(&with("right-one"))).await;
    assert!(kind == ErrorKind::PermissionDenied && text.contains("permission denied for table patients"), "{text}");
    let (kind, text) = refusal(source(&server.url("nowhere"))).await;
    assert!(kind == ErrorKind::NotFound && text.contains("\"nowhere\" does not exist"), "{text}");
    let (kind, text) = refusal(source("postgres://postgres@127.0.0.1:9/x")).await;
    assert!(kind == ErrorKind::Source && text.contains("can't be connected to"), "{text}");
    let (_, text) = refusal(source(&format!("{}?sslmode=require", database.url))).await;
    assert!(text.contains("TLS"), "{text}");
    let mut taken = Vec::new();
    for _ in 0..5 {
        taken.push(super::server::connect(&database.url).await);
    }
    let (kind, text) = refusal(source(&database.url)).await;
    assert!(kind == ErrorKind::Source && text.contains("too many clients"), "{text}");
}

#[tokio::test]
async fn a_body_that_is_no_json_goes_to_quarantine_and_pretty_ones_become_one_line() {
    let database = Database::new().await;
    let client = database.client().await;
    fill(&client, 3).await;
    client
        .batch_execute(
            "UPDATE patients SET body = 'not json' WHERE id = '00000002';
             UPDATE patients SET body = NULL WHERE id = '00000001';
             INSERT INTO patients VALUES ('1', E'{\\n  \"resourceType\": \"Patient\",\\r\\n  \"id\": \"1\"\\n}')",
        )
        .await
        .unwrap();
    let exported = export(source(&database.url), request(("system", "", "", ""))).await;
    exported.assert_well_formed();
    assert_eq!(exported.report.state, JobState::CompletedWithErrors);
    assert_eq!(exported.quarantine().len(), 2);
    let output = String::from_utf8(exported.output()["Patient"].clone()).unwrap();
    assert!(output.contains("{   \"resourceType\": \"Patient\",    \"id\": \"1\" }\n"), "{output}");
    assert_eq!(output.lines().count(), 2);
}

#[tokio::test]
async fn a_connection_that_is_cut_in_the_middle_is_made_again_and_no_row_is_lost_or_doubled() {
    let database = Database::new().await;
    let client = database.client().await;
    fill(&client, 60_000).await;
    let cutting = async {
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE application_name = 'fhir-export' AND datname = current_database() AND query LIKE 'COPY%' AND state = 'active'";
        let mut cuts = 0;
        while cuts < 3 {
            cuts += client.query_one(cut, &[]).await.unwrap().get::<_, i64>(0);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let exporting = export(source(&database.url).range_bytes(4 << 20), request(("system", "", "", "")));
    let (exported, ()) = tokio::join!(exporting, async {
        drop(tokio::time::timeout(Duration::from_secs(30), cutting).await);
    });
    exported.assert_well_formed();
    assert_eq!(exported.report.state, JobState::Completed, "{:?}", exported.report.error);
    let output = String::from_utf8(exported.output()["Patient"].clone()).unwrap();
    let ids: Vec<&str> = output.lines().map(|line| &line[32..40]).collect();
    assert_eq!(ids.len(), 60_000);
    assert!(ids.is_sorted_by(|a, b| a < b), "each once, in order");
}

#[tokio::test]
async fn a_server_that_is_killed_takes_its_snapshot_with_it_and_the_job_says_so() {
    let server = Server::start("max_connections = 20");
    let database = Database::on(&server.url("postgres")).await;
    fill(&database.client().await, 1000).await;
    let snapshot = source(&database.url).open().await.unwrap();
    let plan = snapshot.plan(&Asked::default()).await.unwrap();
    server.kill();
    let (_, read) = contract::read(&*snapshot, &plan.ranges[0], &Cursor::start()).await;
    let error = read.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SnapshotLost, "{error:#}");
    assert!(error.kind().may_be_resumed());
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_told_with_its_table() {
    let database = Database::new().await;
    let client = database.client().await;
    fill(&client, 10).await;
    let slow = PATIENTS.replace("body = \"body\"", "body = { sql = \"(SELECT body FROM pg_sleep(2))\" }");
    let slow = PostgresSource::new(&format!("{}?statement_timeout_seconds=1", database.url), None)
        .unwrap()
        .mapping(Mapping::parse(&slow, "slow").unwrap());
    let (kind, text) = refusal(slow).await;
    assert!(
        kind == ErrorKind::Source && text.contains("statement timeout") && text.contains("table of Patient"),
        "{text}"
    );
}

#[tokio::test]
async fn a_snapshot_grows_no_older_than_it_may() {
    let database = Database::new().await;
    fill(&database.client().await, 10).await;
    let young = source(&database.url).snapshot_age(Some(Duration::from_millis(1)));
    let snapshot = young.open().await.unwrap();
    let plan = snapshot.plan(&Asked::default()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let (_, read) = contract::read(&*snapshot, &plan.ranges[0], &Cursor::start()).await;
    assert_eq!(read.unwrap_err().kind(), ErrorKind::SnapshotLost);
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_is_read_on_time_bounded_and_no_row_is_lost() {
    let server = Server::start("max_connections = 20\nsynchronous_commit = on");
    let database = Database::on(&server.url("postgres")).await;
    let client = database.client().await;
    fill(&client, 60_000).await;
    client.batch_execute("CHECKPOINT").await.unwrap();
    let source = source(&database.url).range_bytes(4 << 20);
    let killing = async {
        let reading = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'fhir-export' AND query LIKE 'COPY%'";
        while client.query(reading, &[]).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        server.crash_and_come_back().await
    };
    let (exported, _server) = tokio::join!(export(source, request(("system", "", "", ""))), killing);
    exported.assert_well_formed();
    let output = String::from_utf8(exported.output()["Patient"].clone()).unwrap();
    let ids: Vec<&str> = output.lines().map(|line| &line[32..40]).collect();
    assert_eq!(ids.len(), 60_000, "{:?}", exported.report.error);
    assert!(ids.is_sorted_by(|a, b| a < b), "each once, in order");
    assert_eq!(exported.report.state, JobState::CompletedWithErrors);
}

/// Ends all sessions of exports in this database as soon as a condition holds of one of them.
async fn end_sessions(client: &Client, when: &str) {
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE application_name = 'fhir-export' AND datname = current_database() AND EXISTS (
           SELECT 1 FROM pg_stat_activity
           WHERE application_name = 'fhir-export' AND datname = current_database() AND {when})"
    );
    while client.query_one(&end, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_cohort_is_picked_out_by_the_database_also_after_the_snapshot_was_lost() {
    let database = Database::new().await;
    let client = database.client().await;
    let fill = r#"
        CREATE TABLE resources (resource_type text, id text, last_updated timestamptz, deleted boolean, body text,
          PRIMARY KEY (resource_type, id));
        CREATE TABLE compartments (patient_id text, resource_type text, resource_id text);
        INSERT INTO resources SELECT 'Observation', 'o' || n, '2024-01-01Z', false,
          format('{"resourceType":"Observation","id":"o%s","subject":{"reference":"Patient/p%s"}}', n, n % 10)
          FROM generate_series(1, 2000) AS n;
        INSERT INTO compartments SELECT 'p' || n % 10, 'Observation', 'o' || n FROM generate_series(1, 2000) AS n;
        INSERT INTO resources VALUES ('Group', 'g', '2024-01-01Z', false,
          '{"resourceType":"Group","id":"g","actual":true,"type":"person","member":[{"entity":{"reference":"Patient/p3"}}]}')"#;
    client.batch_execute(fill).await.unwrap();
    // So slowly that it can be ended under way; what doesn't hang on the row would be asked for once.
    let slow = "body = { sql = \"(SELECT t.body FROM pg_sleep(0.002 + 0 * length(t.body)))\" }";
    let mapping = include_str!("../../../src/source/postgres/mapping/single-table.toml");
    let mapping = Mapping::parse(&mapping.replace("body = \"body\"", slow), "slow").unwrap();
    let source = PostgresSource::new(&database.url, None).unwrap().mapping(mapping);
    let exporting = export(source, request(("g", "Observation", "", "")));
    let ending = end_sessions(&client, "state = 'active' AND query LIKE 'COPY%Observation%'");
    let (exported, ()) = tokio::join!(exporting, ending);
    exported.assert_well_formed();
    let extension = &exported.manifest().extension;
    assert!(extension.snapshot.starts_with("lost at "), "{}", extension.snapshot);
    let row = extension.ledger.iter().find(|row| row.resource_type.as_deref() == Some("Observation")).unwrap();
    assert_eq!((row.read.resources, row.written.resources), (200, 200), "nobody else is read");
}

#[derive(Debug)]
struct Told(Vec<Tombstone>);

#[async_trait]
impl DeletionSink for Told {
    async fn deleted(&mut self, tombstone: Tombstone) -> fhir_export::Result<()> {
        self.0.push(tombstone);
        Ok(())
    }
}

#[tokio::test]
async fn what_was_deleted_is_told_in_another_snapshot_if_the_one_at_hand_is_lost() {
    let database = Database::new().await;
    let client = database.client().await;
    fill(&client, 3).await;
    client.batch_execute("ALTER TABLE patients ADD COLUMN at timestamptz, ADD COLUMN gone boolean").await.unwrap();
    let mapping = format!("{PATIENTS}last_updated = \"at\"\ndeleted = \"gone\"\n");
    let source = PostgresSource::new(&database.url, None).unwrap().mapping(Mapping::parse(&mapping, "m").unwrap());
    let snapshot = source.open().await.unwrap();
    let asked = Asked { since: Some(Instant::parse("2024-01-01T00:00:00Z").unwrap()), ..Asked::default() };
    let mut told = Told(Vec::new());
    snapshot.deleted(&asked, &mut told).await.unwrap();
    client.batch_execute("UPDATE patients SET gone = true, at = '2024-01-01Z' WHERE id = '00000002'").await.unwrap();
    snapshot.deleted(&asked, &mut told).await.unwrap();
    assert!(told.0.is_empty(), "deleted behind the snapshot: {told:?}");
    end_sessions(&client, "true").await;
    let error = snapshot.deleted(&asked, &mut told).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SnapshotLost, "{error:#}");
    source.reopen(&snapshot.transaction_time()).await.unwrap().deleted(&asked, &mut told).await.unwrap();
    assert_eq!(told.0.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["00000002"]);
}
