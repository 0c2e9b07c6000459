//! Exports of a database that is written to meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fhir_export::fhir::Instant;
use fhir_export::job::JobState;
use fhir_export::source::postgres::Mapping;
use fhir_export::source::{PostgresSource, Source, contract};
use serde_json::Value;

use super::layouts::{export, own, request};
use super::server::Database;

const NOTES: &str = r#"
[[tables]]
types = ["Basic"]
table = "notes"
id = "id"
body = "body"
last_updated = "updated"
deleted = "deleted"
"#;

fn source(url: &str) -> PostgresSource {
    let mapping = Mapping::parse(NOTES, "notes").unwrap();
    PostgresSource::new(url, None).unwrap().mapping(mapping).lag(Duration::from_secs(2)).range_bytes(64 << 10)
}

const TABLE: &str = "
CREATE TABLE notes (id text PRIMARY KEY, body text NOT NULL, updated timestamptz NOT NULL, deleted boolean NOT NULL);
CREATE FUNCTION note(of text, what text) RETURNS void LANGUAGE sql AS $$
  INSERT INTO notes VALUES (of, format('{\"resourceType\":\"Basic\",\"id\":\"%s\",\"meta\":{\"lastUpdated\":\"%s\"},\"code\":{\"text\":\"%s\"}}',
    of, to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), what), now(), false)
  ON CONFLICT (id) DO UPDATE SET body = excluded.body, updated = excluded.updated, deleted = false
$$;";

/// Writes at full speed, in transactions of some length, until it is told to stop.
async fn write(url: &str, writer: usize, stop: &AtomicBool) {
    let client = super::server::connect(url).await;
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        client.batch_execute("BEGIN").await.unwrap();
        for _ in 0..number % 7 {
            number += 1;
            let id = format!("{writer}-{}", number * 7919 % 400);
            let deleted = number.is_multiple_of(11);
            if deleted {
                let delete = "UPDATE notes SET deleted = true, updated = now() WHERE id = $1";
                client.execute(delete, &[&id]).await.unwrap();
            } else {
                client.execute("SELECT note($1, $2)", &[&id, &format!("{writer} {number}")]).await.unwrap();
            }
        }
        number += 1;
        if number.is_multiple_of(13) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        client.batch_execute(if number.is_multiple_of(17) { "ROLLBACK" } else { "COMMIT" }).await.unwrap();
    }
}

/// Applies what an export wrote and deleted to a copy.
fn apply(copy: &mut BTreeMap<String, String>, output: &BTreeMap<String, Vec<u8>>) {
    for line in output.get("Basic").map(|bytes| String::from_utf8(bytes.clone()).unwrap()).unwrap_or_default().lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        copy.insert(value["id"].as_str().unwrap().to_owned(), line.to_owned());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_exports_misses_nothing_that_is_written_meanwhile() {
    let database = Database::new().await;
    let client = database.client().await;
    client.batch_execute(TABLE).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (url, stop) = (database.url.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(write(&url, writer, &stop));
            })
        })
        .collect();
    let (mut copy, mut since, mut exports) = (BTreeMap::new(), String::new(), 0);
    let step = async |copy: &mut BTreeMap<String, String>, since: &mut String| {
        let exported = export(source(&database.url), request(("system", "", since, ""))).await;
        exported.assert_well_formed();
        let time = exported.manifest().transaction_time.clone();
        assert!(since.is_empty() || Instant::parse(since).unwrap() <= Instant::parse(&time).unwrap());
        apply(copy, &exported.output());
        *since = time;
    };
    while exports < 12 {
        step(&mut copy, &mut since).await;
        exports += 1;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    stop.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    // T lies behind everything that was written.
    tokio::time::sleep(Duration::from_millis(200)).await;
    step(&mut copy, &mut since).await;
    let rows = client.query("SELECT id, body FROM notes WHERE NOT deleted ORDER BY id", &[]).await.unwrap();
    assert!(rows.len() > 100, "{}", rows.len());
    for row in rows {
        let (id, body): (String, String) = (row.get(0), row.get(1));
        assert_eq!(copy.get(&id), Some(&body), "{id}");
    }
}

#[tokio::test]
async fn t_lies_before_every_transaction_that_has_written_and_is_open() {
    let database = Database::new().await;
    let client = database.client().await;
    client.batch_execute(TABLE).await.unwrap();
    client.batch_execute("BEGIN; SELECT note('a', 'early')").await.unwrap();
    let stamp: String = client
        .query_one("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')", &[])
        .await
        .unwrap()
        .get(0);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let time = source(&database.url).open().await.unwrap().transaction_time();
    assert!(time < Instant::parse(&stamp).unwrap(), "{time} {stamp}");
    client.batch_execute("PREPARE TRANSACTION 'pending'").await.ok();
    client.batch_execute("ROLLBACK PREPARED 'pending'").await.ok();
    client.batch_execute("ROLLBACK").await.ok();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let time = source(&database.url).open().await.unwrap().transaction_time();
    assert!(time > Instant::parse(&stamp).unwrap(), "{time} {stamp}");
}

#[tokio::test]
async fn a_snapshot_does_not_see_what_is_written_later() {
    let database = Database::new().await;
    own(&database).await;
    let client = database.client().await;
    let source = PostgresSource::new(&database.url, None).unwrap().range_bytes(16 << 10);
    contract::check_isolation(&source, async || {
        client
            .batch_execute(
                "DELETE FROM fhir.resource WHERE type = 'Patient' AND id = 'ada';
                 UPDATE fhir.resource SET body = replace(body, 'Group', 'Group ') WHERE type = 'Observation';
                 INSERT INTO fhir.resource VALUES ('Basic', 'new', 1, '', '{\"resourceType\":\"Basic\",\"id\":\"new\"}')",
            )
            .await
            .unwrap();
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_cohort_of_thousands_is_joined_and_one_of_nobody_is_empty() {
    let database = Database::new().await;
    own(&database).await;
    let client = database.client().await;
    client
        .batch_execute(
            "INSERT INTO fhir.resource SELECT 'Patient', 'p' || n, NULL, '', format('{\"resourceType\":\"Patient\",\"id\":\"p%s\"}', n)
               FROM generate_series(1, 20000) AS n;
             INSERT INTO fhir.resource SELECT 'Observation', 'o' || n, NULL, '',
               format('{\"resourceType\":\"Observation\",\"id\":\"o%s\",\"subject\":{\"reference\":\"Patient/p%s\"}}', n, n)
               FROM generate_series(1, 20000) AS n;
             INSERT INTO fhir.compartment SELECT 'p' || n, '', 'Observation', 'o' || n FROM generate_series(1, 20000) AS n;
             INSERT INTO fhir.resource SELECT 'Group', 'big', NULL, '',
               format('{\"resourceType\":\"Group\",\"id\":\"big\",\"type\":\"person\",\"actual\":true,\"member\":[%s]}',
                 string_agg(format('{\"entity\":{\"reference\":\"Patient/p%s\"}}', n), ',')) FROM generate_series(1, 10000) AS n;
             INSERT INTO fhir.resource VALUES ('Group', 'one', NULL, '',
               '{\"resourceType\":\"Group\",\"id\":\"one\",\"type\":\"person\",\"actual\":true,\"member\":[{\"entity\":{\"reference\":\"Patient/p7\"}}]}'),
               ('Group', 'none', NULL, '', '{\"resourceType\":\"Group\",\"id\":\"none\",\"type\":\"person\",\"actual\":true}')",
        )
        .await
        .unwrap();
    for (group, patients) in [("big", 10_000), ("one", 1), ("none", 0)] {
        let exported = export(PostgresSource::new(&database.url, None).unwrap(), request((group, "", "", ""))).await;
        exported.assert_well_formed();
        let output = exported.output();
        let count =
            |name: &str| output.get(name).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count());
        assert_eq!((count("Patient"), count("Observation"), count("Group")), (patients, patients, 1), "{group}");
        let read: u64 = exported.report.ledger.iter().map(|(_, row)| row.read.resources).sum();
        assert_eq!(read, 2 * patients as u64 + 1, "only what belongs to the cohort is read");
    }
}

#[tokio::test]
async fn bodies_of_one_byte_to_more_than_the_line_limit_find_their_fate() {
    let database = Database::new().await;
    let client = database.client().await;
    client.batch_execute("CREATE TABLE binaries (id text, plain text, doc json)").await.unwrap();
    let body = |id: &str, bytes: usize| {
        let empty = format!(r#"{{"resourceType":"Binary","id":"{id}","data":""}}"#);
        let data = "A".repeat(bytes.saturating_sub(empty.len()));
        empty.replace(r#""data":""#, &format!(r#""data":"{data}"#))
    };
    let bodies = [("a", 50), ("b", 50 << 20), ("d", (64 << 20) + 1), ("e", 1 << 20), ("f", 64 << 20)];
    for (id, bytes) in bodies {
        client.execute("INSERT INTO binaries VALUES ($1, $2, NULL)", &[&id, &body(id, bytes)]).await.unwrap();
    }
    client
        .batch_execute("UPDATE binaries SET doc = plain::json; INSERT INTO binaries VALUES ('c', 'x', '1')")
        .await
        .unwrap();
    for column in ["plain", "doc"] {
        let mapping = "[[tables]]\ntypes = [\"Binary\"]\ntable = \"binaries\"\nid = \"id\"\nbody = \"COLUMN\"\n";
        let mapping = Mapping::parse(&mapping.replace("COLUMN", column), "binaries").unwrap();
        let source = PostgresSource::new(&database.url, None).unwrap().mapping(mapping);
        let exported = export(source, request(("system", "", "", ""))).await;
        exported.assert_well_formed();
        let whole = bodies.iter().filter(|(_, bytes)| *bytes <= 64 << 20);
        let expected: String = whole.map(|(id, bytes)| body(id, *bytes) + "\n").collect();
        assert!(exported.output()["Binary"] == expected.as_bytes(), "{column}");
        // That of one byte, and that of one too many.
        assert_eq!(exported.issues().len(), 2, "{column}");
        assert_eq!(exported.report.state, JobState::CompletedWithErrors, "{column}");
    }
}
