//! The same data in every layout that is understood: the same lines come out as from files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fhir_export::destination::MemoryDestination;
use fhir_export::import::postgres::PostgresTarget;
use fhir_export::import::{Loading, load};
use fhir_export::job::{Config, Exporter, JobState};
use fhir_export::request::ExportRequest;
use fhir_export::resource::reference::BaseUrls;
use fhir_export::source::postgres::Mapping;
use fhir_export::source::{Asked, NdjsonSource, PostgresSource, Source, contract};
use serde_json::Value;
use tokio_postgres::Client;

use super::server::Database;
use crate::support::asked;
use crate::support::exported::Exported;
use crate::support::naive::{self, NaiveRequest};
use crate::support::{ndjson_files, repository};

pub(super) const BASE: &str = "https://fhir.example.org/r4";

/// What is asked for: level, types, since, until.
const ASKED: [(&str, &str, &str, &str); 11] = [
    ("system", "", "", ""),
    ("system", "Patient,Observation,Binary", "", ""),
    ("system", "", "2024-01-01T00:00:00Z", ""),
    ("system", "", "", "2024-01-01T00:00:00Z"),
    ("system", "Observation", "2023-06-01T00:00:00+01:00", "2024-06-01T00:00:00.5Z"),
    ("patient", "", "", ""),
    ("patient", "Condition,Patient", "2023-01-01T00:00:00Z", ""),
    ("everyone", "", "", ""),
    ("only-ada", "", "", ""),
    ("empty", "", "", ""),
    ("nested", "", "2023-01-01T00:00:00Z", ""),
];

/// A resource of the test data.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) type_name: String,
    pub(super) id: String,
    pub(super) updated: Option<String>,
    pub(super) body: String,
    pub(super) patients: Vec<String>,
}

/// The clean test data.
pub(super) fn rows() -> Vec<Row> {
    let all = naive::export(&ndjson_files("small"), &NaiveRequest::new(naive::Level::System)).unwrap();
    let lines = all.output.into_iter().flat_map(|(name, bytes)| {
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| (name.clone(), line.to_owned())).collect::<Vec<_>>()
    });
    lines
        .map(|(type_name, body)| {
            let value: Value = serde_json::from_str(&body).unwrap();
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let patients = naive::compartment_patients(&value, &type_name, &[BASE.to_owned()]);
            let updated = text(&value["meta"]["lastUpdated"]);
            Row { id: text(&value["id"]).unwrap(), updated, patients, type_name, body }
        })
        .collect()
}

/// How a layout keeps the rows.
pub(super) struct Layout {
    pub(super) name: &'static str,
    pub(super) mapping: Option<Mapping>,
    /// The documents are put together by the database: they are compared as JSON, without what it puts in.
    pub(super) is_rendered: bool,
}

/// Fills a database in every layout.
pub(super) async fn layouts(database: &Database) -> Vec<Layout> {
    let client = database.client().await;
    let rows = rows();
    own(database).await;
    medplum(&client, &rows).await;
    fhirbase(&client, &rows).await;
    let mut layouts = vec![
        Layout { name: "own", mapping: None, is_rendered: false },
        Layout { name: "medplum", mapping: Mapping::known("medplum"), is_rendered: false },
        Layout { name: "fhirbase", mapping: Mapping::known("fhirbase"), is_rendered: true },
    ];
    compartments(&client, &rows).await;
    for (name, kind, is_rendered) in [
        ("single-text", "text", false),
        ("single-json", "json", false),
        ("single-bytes", "bytea", false),
        ("single-jsonb", "jsonb", true),
    ] {
        let table = format!("resources_{kind}");
        single(&client, &rows, &table, kind).await;
        let text = include_str!("../../../src/source/postgres/mapping/single-table.toml");
        let mapping = Mapping::parse(&text.replace("\"resources\"", &format!("{table:?}")), name).unwrap();
        layouts.push(Layout { name, mapping: Some(mapping), is_rendered });
    }
    let query = r#"
        [[tables]]
        query = "SELECT resource_type, id, body, last_updated FROM resources_text WHERE NOT deleted"
        type = "resource_type"
        id = "id"
        body = { sql = "body" }
        last_updated = "last_updated"
    "#;
    layouts.push(Layout { name: "query", mapping: Some(Mapping::parse(query, "query").unwrap()), is_rendered: false });
    // As a server does for itself, sooner or later.
    client.batch_execute("ANALYZE").await.unwrap();
    layouts
}

pub(crate) async fn own(database: &Database) {
    let source = NdjsonSource::folder(repository("testdata/small")).scan_all(true);
    let mut target = PostgresTarget::new(&database.url, None).unwrap();
    let report = load(&source, &mut target, &Loading::default(), &mut |_| {}).await.unwrap();
    assert!(report.is_whole() && report.totals.inserted > 100, "{report:?}");
}

async fn medplum(client: &Client, rows: &[Row]) {
    for row in rows {
        let table = format!("public.\"{}\"", row.type_name);
        client
            .batch_execute(&format!(
                "CREATE TABLE IF NOT EXISTS {table} (id text PRIMARY KEY, content text NOT NULL,
                 \"lastUpdated\" timestamptz, deleted boolean NOT NULL DEFAULT false)"
            ))
            .await
            .unwrap();
        let insert = format!("INSERT INTO {table} VALUES ($1, $2, $3::text::timestamptz)");
        client.execute(&insert, &[&row.id, &row.body, &row.updated]).await.unwrap();
        let gone = format!("INSERT INTO {table} VALUES ('gone', '', '2024-02-01Z', true) ON CONFLICT DO NOTHING");
        client.batch_execute(&gone).await.unwrap();
    }
}

async fn fhirbase(client: &Client, rows: &[Row]) {
    for row in rows {
        let table = format!("\"{}\"", row.type_name.to_ascii_lowercase());
        client
            .batch_execute(&format!(
                "CREATE TABLE IF NOT EXISTS {table} (id text PRIMARY KEY, txid bigint NOT NULL, ts timestamptz NOT NULL,
                 resource_type text NOT NULL, status text NOT NULL, resource jsonb NOT NULL)"
            ))
            .await
            .unwrap();
        let insert = format!(
            "INSERT INTO {table} VALUES ($1, 5, coalesce($2::text, '2020-01-01Z')::timestamptz, $3, 'created', $4::text::jsonb - 'id' - 'resourceType')"
        );
        client.execute(&insert, &[&row.id, &row.updated, &row.type_name, &row.body]).await.unwrap();
        let gone = format!(
            "INSERT INTO {table} VALUES ('gone', 6, '2024-02-01Z', $1, 'deleted', '{{}}') ON CONFLICT DO NOTHING"
        );
        client.execute(&gone, &[&row.type_name]).await.unwrap();
    }
}

async fn compartments(client: &Client, rows: &[Row]) {
    client.batch_execute("CREATE TABLE compartments (patient_id text, resource_type text, resource_id text); CREATE INDEX ON compartments (patient_id)").await.unwrap();
    for row in rows {
        for patient in &row.patients {
            let insert = "INSERT INTO compartments VALUES ($1, $2, $3)";
            client.execute(insert, &[patient, &row.type_name, &row.id]).await.unwrap();
        }
    }
}

async fn single(client: &Client, rows: &[Row], table: &str, kind: &str) {
    client
        .batch_execute(&format!(
            "CREATE TABLE {table} (resource_type text, id text, last_updated timestamptz, deleted boolean, body {kind},
             PRIMARY KEY (resource_type, id))"
        ))
        .await
        .unwrap();
    let body = if kind == "bytea" { "convert_to($4::text, 'UTF8')".to_owned() } else { format!("$4::text::{kind}") };
    let insert = format!("INSERT INTO {table} VALUES ($1, $2, $3::text::timestamptz, false, {body})");
    for row in rows {
        client.execute(&insert, &[&row.type_name, &row.id, &row.updated, &row.body]).await.unwrap();
    }
}

pub(super) fn request((level, types, since, until): (&str, &str, &str, &str)) -> ExportRequest {
    let types: Vec<&str> = types.split(',').filter(|name| !name.is_empty()).collect();
    asked::request(level, &types, since, until)
}

/// Exports to memory.
pub(super) async fn export(source: PostgresSource, request: ExportRequest) -> Exported {
    export_as(source, request, Config::default()).await
}

/// The same with other settings.
pub(super) async fn export_as(source: PostgresSource, request: ExportRequest, mut config: Config) -> Exported {
    let destination = MemoryDestination::new();
    config.base_urls = BaseUrls::new([BASE]).unwrap();
    let exporter = Exporter::builder()
        .source(Arc::new(source))
        .destination(Arc::new(destination.clone()))
        .config(config)
        .build()
        .unwrap();
    let report = exporter.start(request).unwrap().join().await;
    assert!(report.manifest.is_some(), "{:?}", report.error);
    Exported::read(report, &destination).await
}

/// The lines of each type, sorted; of documents that the database renders the JSON, but for what it puts in.
pub(super) fn lines(output: &BTreeMap<String, Vec<u8>>, is_rendered: bool) -> BTreeMap<String, Vec<String>> {
    let of = |bytes: &Vec<u8>| {
        let mut lines: Vec<String> = std::str::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect();
        if is_rendered {
            for line in &mut lines {
                let mut value: Value = serde_json::from_str(line).unwrap();
                value.as_object_mut().unwrap().remove("meta");
                plain_numbers(&mut value);
                *line = value.to_string();
            }
        }
        lines.sort();
        lines
    };
    output.iter().map(|(name, bytes)| (name.clone(), of(bytes))).collect()
}

/// jsonb writes 1e2 as 100.
fn plain_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let plain = number.to_string().parse::<f64>().unwrap();
            *value = Value::String(plain.to_string());
        }
        Value::Array(values) => values.iter_mut().for_each(plain_numbers),
        Value::Object(members) => members.values_mut().for_each(plain_numbers),
        _ => {}
    }
}

fn naive_request((level, types, since, until): (&str, &str, &str, &str), time: &str) -> NaiveRequest {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let level = match level {
        "system" => naive::Level::System,
        "patient" => naive::Level::Patient,
        id => naive::Level::Group(id.to_owned()),
    };
    let types: Option<BTreeSet<String>> = text(types).map(|types| types.split(',').map(str::to_owned).collect());
    NaiveRequest {
        types,
        since: text(since),
        until: text(until),
        base_urls: vec![BASE.to_owned()],
        transaction_time: time.to_owned(),
        excludes_after_t: true,
        ..NaiveRequest::new(level)
    }
}

#[tokio::test]
async fn every_layout_gives_what_the_naive_exporter_gives_from_files() {
    let database = Database::new().await;
    for layout in layouts(&database).await {
        for asked in ASKED {
            // What fhirbase puts into a document that has no time of its own is a time.
            if layout.name == "fhirbase" && !(asked.2.is_empty() && asked.3.is_empty()) {
                continue;
            }
            let mut source = PostgresSource::new(&database.url, None).unwrap();
            if let Some(mapping) = layout.mapping.clone() {
                source = source.mapping(mapping);
            }
            let exported = export(source, request(asked)).await;
            exported.assert_well_formed();
            let time = exported.manifest().transaction_time.clone();
            let naive = naive::export(&ndjson_files("small"), &naive_request(asked, &time)).unwrap();
            let (is, must) = (lines(&exported.output(), layout.is_rendered), lines(&naive.output, layout.is_rendered));
            for (name, must) in &must {
                assert_eq!(is.get(name), Some(must), "{} {asked:?} {name}", layout.name);
            }
            assert!(is.keys().eq(must.keys()), "{} {asked:?}", layout.name);
            assert!(exported.quarantine().is_empty(), "{} {asked:?}", layout.name);
            let state = exported.report.state;
            assert!([JobState::Completed, JobState::CompletedWithErrors].contains(&state), "{state}");
        }
    }
}

#[tokio::test]
async fn every_layout_keeps_the_contract_of_sources_also_in_many_ranges() {
    let database = Database::new().await;
    for layout in layouts(&database).await {
        // Tables of a type each are as small as tables can be; how large a query's rows are isn't known.
        let is_cut = layout.name == "own" || layout.name.starts_with("single");
        let range_bytes = if is_cut { 6 << 10 } else { 64 << 10 };
        let mut source = PostgresSource::new(&database.url, None).unwrap().range_bytes(range_bytes);
        if let Some(mapping) = layout.mapping {
            source = source.mapping(mapping);
        }
        contract::check(&source).await.unwrap_or_else(|error| panic!("{}: {error:?}", layout.name));
        let plan = source.open().await.unwrap().plan(&Asked::default()).await.unwrap();
        let observations = plan.ranges.iter().filter(|range| range.name.starts_with("Observation"));
        assert_eq!(observations.count() > 1, is_cut, "{}", layout.name);
    }
}
