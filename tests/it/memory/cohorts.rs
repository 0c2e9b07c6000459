//! A Group of a million patients, found by the index of a database: what it takes is 40 bytes a patient, and as much again
//! for the ids that the database filters by. The Group is one row of 44 MB, which is given back before the export takes
//! what the budget allows.

use std::sync::Arc;

use fhir_export::fhir::ResourceType;
use fhir_export::job::{Exporter, JobState};
use fhir_export::request::{ExportRequest, Level, ResourceId, TypeSelection};
use fhir_export::source::open::{Settings, from_uri};

use super::{BUDGET_BYTES, HANGS_AFTER, MEASURED, REST_BYTES, config, peak_of_with, written};
use crate::support::null_destination::NullDestination;

const PATIENTS: u64 = 1_000_000;

/// Every hundredth patient has one, and so has who isn't of the Group.
const OBSERVATIONS: u64 = PATIENTS / 100;

/// Where the store is that the process is to export.
const STORE: &str = "FHIR_EXPORT_STORE";

const PATIENT_BYTES: u64 = 40;

fn export_the_group() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let source = from_uri(&std::env::var(STORE).unwrap(), &Settings::default()).unwrap();
        let builder = Exporter::builder().source(source).destination(Arc::new(NullDestination::default()));
        // The Group itself is longer than a line may be with this budget.
        let types =
            TypeSelection::only(["Patient", "Observation"].map(|name| ResourceType::r4(name).unwrap())).unwrap();
        let request = ExportRequest::new(Level::Group { id: ResourceId::new("all").unwrap() }).with_types(types);
        let job = builder.config(config()).build().unwrap().start(request).unwrap();
        let report = tokio::time::timeout(HANGS_AFTER, job.join()).await.expect("the job ends");
        assert_eq!(report.state, JobState::Completed, "{:?}", report.error);
        let written = written(&report);
        assert_eq!((written["Patient"], written["Observation"]), (PATIENTS, OBSERVATIONS));
        let read: u64 = report.ledger.iter().map(|(_, row)| row.read.resources).sum();
        assert_eq!(read, PATIENTS + OBSERVATIONS, "nobody else is read");
    });
}

fn check(test: &str, store: &str) {
    let peak = peak_of_with(test, &[(STORE, store)], export_the_group);
    let most = BUDGET_BYTES as u64 + REST_BYTES + 2 * PATIENT_BYTES * PATIENTS;
    assert!(peak.is_none_or(|peak| peak < most), "{peak:?} of {most}");
}

/// Measured: 94 MiB.
#[cfg(feature = "sqlite")]
#[test]
fn a_cohort_of_a_million_is_exported_from_sqlite_within_its_bytes_a_patient() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    if std::env::var_os(MEASURED).is_none() {
        fill_sqlite(&path);
    }
    let store = format!("sqlite:{}", path.display());
    check("memory::cohorts::a_cohort_of_a_million_is_exported_from_sqlite_within_its_bytes_a_patient", &store);
}

#[cfg(feature = "sqlite")]
fn fill_sqlite(path: &std::path::Path) {
    // The tables, and the types' numbers.
    let mut store = fhir_export::import::sqlite::Store::open(path).unwrap();
    let put = store.write(|write| {
        for name in ["Group", "Observation", "Patient"] {
            write.put(format!(r#"{{"resourceType":"{name}","id":"0"}}"#).as_bytes())?;
        }
        Ok(())
    });
    put.unwrap();
    drop(store);
    let connection = rusqlite::Connection::open(path).unwrap();
    let fill = format!(
        r#"PRAGMA cache_size = -200000; BEGIN; DELETE FROM resource; DELETE FROM body;
        CREATE TEMP TABLE n (n INTEGER PRIMARY KEY);
        WITH RECURSIVE c(n) AS (SELECT 1000001 UNION ALL SELECT n + 1 FROM c WHERE n < 2020000) INSERT INTO n SELECT n FROM c;
        INSERT INTO body SELECT n, CAST('{{"resourceType":"Patient","id":"' || n || '"}}' AS BLOB) FROM n;
        INSERT INTO resource SELECT (SELECT number FROM types WHERE name = 'Patient'), CAST(n AS TEXT), NULL, '', n FROM n;
        INSERT INTO body SELECT n + 2000000,
          CAST('{{"resourceType":"Observation","id":"' || n || '","subject":{{"reference":"Patient/' || n || '"}}}}' AS BLOB)
          FROM n WHERE n % 100 = 0;
        INSERT INTO resource SELECT (SELECT number FROM types WHERE name = 'Observation'), CAST(n AS TEXT), NULL, '', n + 2000000
          FROM n WHERE n % 100 = 0;
        INSERT INTO compartment SELECT CAST(n AS TEXT), '', (SELECT number FROM types WHERE name = 'Observation'), CAST(n AS TEXT)
          FROM n WHERE n % 100 = 0;
        INSERT INTO body SELECT 1, CAST('{{"resourceType":"Group","id":"all","actual":true,"type":"person","member":[' ||
          group_concat('{{"entity":{{"reference":"Patient/' || n || '"}}}}') || ']}}' AS BLOB) FROM n WHERE n <= 1000000 + {PATIENTS};
        INSERT INTO resource SELECT number, 'all', NULL, '', 1 FROM types WHERE name = 'Group';
        COMMIT;"#
    );
    connection.execute_batch(&fill).unwrap();
}

/// Measured: 129 MiB.
#[cfg(all(feature = "postgres", unix))]
#[test]
fn a_cohort_of_a_million_is_exported_from_postgresql_within_its_bytes_a_patient() {
    use crate::postgres::server::Database;

    const TEST: &str = "memory::cohorts::a_cohort_of_a_million_is_exported_from_postgresql_within_its_bytes_a_patient";
    if std::env::var_os(MEASURED).is_some() {
        check(TEST, "");
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = runtime.block_on(async {
        let database = Database::new().await;
        crate::postgres::layouts::own(&database).await;
        let client = database.client().await;
        let fill = format!(
            r#"DELETE FROM fhir.resource;
            INSERT INTO fhir.resource SELECT 'Patient', n, NULL, '', '{{"resourceType":"Patient","id":"' || n || '"}}'
              FROM generate_series(1000001, 2020000) AS n;
            INSERT INTO fhir.resource SELECT 'Observation', n, NULL, '',
              '{{"resourceType":"Observation","id":"' || n || '","subject":{{"reference":"Patient/' || n || '"}}}}'
              FROM generate_series(1000001, 2020000) AS n WHERE n % 100 = 0;
            INSERT INTO fhir.compartment SELECT n, '', 'Observation', n FROM generate_series(1000001, 2020000) AS n WHERE n % 100 = 0;
            INSERT INTO fhir.resource SELECT 'Group', 'all', NULL, '',
              '{{"resourceType":"Group","id":"all","actual":true,"type":"person","member":[' ||
              string_agg('{{"entity":{{"reference":"Patient/' || n || '"}}}}', ',') || ']}}'
              FROM generate_series(1000001, 1000000 + {PATIENTS}) AS n;
            ANALYZE fhir.resource; ANALYZE fhir.compartment"#
        );
        client.batch_execute(&fill).await.unwrap();
        database
    });
    check(TEST, &database.url);
}
