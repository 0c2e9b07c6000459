//! PostgreSQL as a source: against `COPY` of the same rows to nowhere, in one run on one server.
//!
//! The data is made by the server: Observations with their patients, as text and as jsonb. Each figure is the best of some
//! rounds, with what is compared taken in turn; the ratios are what counts.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that meets something unexpected should end loudly"
)]

#[path = "../tests/it/postgres/server.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the tests' own"
)]
mod server;
mod support;

use std::time::{Duration, Instant};

use fhir_export::destination::{Destination, LocalDestination};
use fhir_export::job::Config;
use fhir_export::request::{ExportRequest, Level, ResourceId};
use fhir_export::source::PostgresSource;
use fhir_export::source::postgres::Mapping;
use futures::StreamExt;
use server::Database;
use support::{DroppingStore, Export, Machine, row, runtime};

const ROUNDS: usize = 5;

const PATIENTS: i64 = 12_000;
const OBSERVATIONS: i64 = 1_200_000;

const DATA: &str = "
CREATE TABLE resources (resource_type text, id text, last_updated timestamptz, deleted boolean NOT NULL DEFAULT false,
  body text, PRIMARY KEY (resource_type, id));
ALTER TABLE resources ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE TABLE compartments (patient_id text, resource_type text, resource_id text);
INSERT INTO resources SELECT 'Patient', 'p' || lpad(n::text, 6, '0'), now(), false,
  format('{\"resourceType\":\"Patient\",\"id\":\"p%s\",\"active\":true}', lpad(n::text, 6, '0')) FROM generate_series(1, PATIENTS) AS n;
INSERT INTO resources SELECT 'Observation', 'o' || lpad(n::text, 8, '0'), now(), false,
  format('{\"resourceType\":\"Observation\",\"id\":\"o%s\",\"status\":\"final\",\"subject\":{\"reference\":\"Patient/p%s\"},\"component\":[%s]}',
    lpad(n::text, 8, '0'), lpad((n % PATIENTS + 1)::text, 6, '0'),
    repeat('{\"code\":{\"coding\":[{\"system\":\"http://loinc.org\",\"code\":\"8480-6\"}]},\"valueQuantity\":{\"value\":107.2,\"unit\":\"mmHg\"}},', 11) || '{}')
  FROM generate_series(1, OBSERVATIONS) AS n;
INSERT INTO compartments SELECT 'p' || lpad((n % PATIENTS + 1)::text, 6, '0'), 'Observation', 'o' || lpad(n::text, 8, '0')
  FROM generate_series(1, OBSERVATIONS) AS n;
CREATE INDEX ON compartments (patient_id, resource_type, resource_id);
INSERT INTO resources SELECT 'Group', 'hundredth', now(), false,
  format('{\"resourceType\":\"Group\",\"id\":\"hundredth\",\"type\":\"person\",\"actual\":true,\"member\":[%s]}',
    string_agg(format('{\"entity\":{\"reference\":\"Patient/p%s\"}}', lpad((n * 100)::text, 6, '0')), ',')) FROM generate_series(1, PATIENTS / 100) AS n;
CREATE TABLE resources_jsonb (LIKE resources INCLUDING ALL);
ALTER TABLE resources_jsonb ALTER COLUMN body TYPE jsonb USING body::jsonb;
INSERT INTO resources_jsonb SELECT resource_type, id, last_updated, deleted, body::jsonb FROM resources WHERE id < 'o00100000';
VACUUM ANALYZE;";

/// How rows leave the server.
enum Way {
    Copy(String),
    ToNowhere(Export),
    ToFolder(Export),
}

fn main() {
    Machine::describe();
    let runtime = runtime();
    let database = runtime.block_on(Database::new());
    let client = runtime.block_on(database.client());
    let data = DATA.replace("PATIENTS", &PATIENTS.to_string()).replace("OBSERVATIONS", &OBSERVATIONS.to_string());
    // VACUUM runs in no transaction.
    for statement in data.split(";\n") {
        runtime.block_on(client.batch_execute(statement)).unwrap();
    }
    for (name, table) in [("text", "resources"), ("jsonb", "resources_jsonb")] {
        let copy = format!("COPY (SELECT body FROM {table}) TO STDOUT (FORMAT binary)");
        let in_order =
            format!("COPY (SELECT id, body FROM {table} ORDER BY resource_type, id) TO STDOUT (FORMAT binary)");
        let nowhere = |copy: &str| runtime.block_on(drained(&client, copy));
        let (bytes, _) = nowhere(&copy);
        let export = |connections| export(&database, table, connections, bytes);
        let mut exports = [
            ("COPY to nowhere", Way::Copy(copy)),
            ("COPY of ids and bodies in order, to nowhere", Way::Copy(in_order)),
            ("one connection, to a store that drops it", Way::ToNowhere(export(1))),
            ("two connections, to a store that drops it", Way::ToNowhere(export(2))),
            ("one connection, to a folder", Way::ToFolder(export(1))),
        ]
        .map(|(what, way)| (what, way, Duration::MAX));
        for _ in 0..ROUNDS {
            for (_, way, best) in &mut exports {
                let took = match way {
                    Way::Copy(copy) => nowhere(copy).1,
                    Way::ToNowhere(export) => timed(export, DroppingStore::new()),
                    Way::ToFolder(export) => {
                        let folder = tempfile::tempdir().unwrap();
                        timed(export, LocalDestination::new(folder.path()).unwrap())
                    }
                };
                *best = took.min(*best);
            }
        }
        let first = exports[0].2;
        for (what, _, best) in exports {
            let speed = bytes as f64 / 1e6 / best.as_secs_f64();
            let ratio = first.as_secs_f64() / best.as_secs_f64();
            row(&format!("{name}: {what}"), &format_args!("{speed:6.0} MB/s  {ratio:5.2} of COPY"));
        }
    }
    let mut system = export(&database, "resources", 1, 0);
    let group = Level::Group { id: ResourceId::new("hundredth").unwrap() };
    let mut hundredth = export(&database, "resources", 1, 0).asking(ExportRequest::new(group));
    let best = |export: &mut Export| (0..ROUNDS).map(|_| timed(export, DroppingStore::new())).min().unwrap();
    let (all, some) = (best(&mut system), best(&mut hundredth));
    let figures = format!(
        "{:.1} ms against {:.1} ms: {:.1} times faster",
        some.as_secs_f64() * 1e3,
        all.as_secs_f64() * 1e3,
        all.as_secs_f64() / some.as_secs_f64()
    );
    row("a Group of 1 % of the patients", &format_args!("{figures}"));
}

fn export(database: &Database, table: &str, connections: usize, bytes: u64) -> Export {
    let text = include_str!("../src/source/postgres/mapping/single-table.toml");
    let mapping = Mapping::parse(&text.replace("\"resources\"", &format!("{table:?}")), "bench").unwrap();
    let source = PostgresSource::new(&database.url, None).unwrap().mapping(mapping).connections(connections);
    Export::new(source, bytes.max(1), Config::default())
}

fn timed(export: &mut Export, destination: impl Destination + 'static) -> Duration {
    let begun = Instant::now();
    let (report, _) = export.run(destination);
    drop(report);
    begun.elapsed()
}

/// Bytes of the bodies, and how long they took.
async fn drained(client: &tokio_postgres::Client, copy: &str) -> (u64, Duration) {
    let begun = Instant::now();
    let mut chunks = std::pin::pin!(client.copy_out(copy).await.unwrap());
    let mut bytes = 0;
    while let Some(chunk) = chunks.next().await {
        bytes += chunk.unwrap().len() as u64;
    }
    (bytes, begun.elapsed())
}
