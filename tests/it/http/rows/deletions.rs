//! Rows about what was deleted.

use std::collections::BTreeSet;

use async_trait::async_trait;
use fhir_export::Result;
use fhir_export::fhir::{Instant, ResourceType};
use fhir_export::source::memory::MemorySource;
use fhir_export::source::{
    AfterTransactionTime, Asked, BlockSink, Cursor, DeletionSink, Plan, Range, Snapshot, Source, Tombstone,
};
use serde_json::{Value, json};

use super::{FACES, Face, export, names};
use crate::http::grouped_source;
use crate::http::parameters::lines;
use crate::http::served::Served;

/// A source that knows what was deleted: two Observations and a Patient, one after the other.
#[derive(Clone, Debug)]
pub(in crate::http) struct Remembering<S>(S);

pub(in crate::http) fn remembering() -> Remembering<MemorySource> {
    Remembering(grouped_source().at(Instant::parse("2025-01-01T00:00:00Z").unwrap()))
}

const TOMBSTONES: [(&str, &str, &str, &str); 3] = [
    ("Observation", "8", "2024-01-01T00:00:00Z", "1"),
    ("Observation", "9", "2024-02-01T00:00:00Z", "2"),
    ("Patient", "7", "2024-03-01T00:00:00Z", "7"),
];

#[async_trait]
impl Source for Remembering<MemorySource> {
    fn name(&self) -> String {
        self.0.name()
    }

    async fn open(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(Remembering(self.0.open().await?)))
    }
}

#[async_trait]
impl Snapshot for Remembering<Box<dyn Snapshot>> {
    fn transaction_time(&self) -> Instant {
        self.0.transaction_time()
    }

    fn after_transaction_time(&self) -> AfterTransactionTime {
        self.0.after_transaction_time()
    }

    async fn plan(&self, asked: &Asked) -> Result<Plan> {
        self.0.plan(asked).await
    }

    async fn deleted(&self, _: &Asked, sink: &mut dyn DeletionSink) -> Result<()> {
        for (name, id, deleted_at, patient) in TOMBSTONES {
            let tombstone = Tombstone {
                resource_type: ResourceType::r4(name).unwrap(),
                id: id.to_owned(),
                deleted_at: Instant::parse(deleted_at).unwrap(),
                patients: Some(vec![patient.to_owned()]),
            };
            sink.deleted(tombstone).await?;
        }
        Ok(())
    }

    async fn read(&self, range: &Range, from: &Cursor, sink: &mut dyn BlockSink) -> Result<()> {
        self.0.read(range, from, sink).await
    }
}

/// What a line of the manifest's `deleted` deletes.
fn deleted_by(line: &Value) -> Vec<String> {
    assert_eq!((&line["resourceType"], &line["type"]), (&json!("Bundle"), &json!("transaction")), "{line}");
    let entries = line["entry"].as_array().unwrap();
    assert!(!entries.is_empty());
    let delete = |entry: &Value| {
        assert_eq!(entry["request"]["method"], "DELETE", "{line}");
        entry["request"]["url"].as_str().unwrap().to_owned()
    };
    entries.iter().map(delete).collect()
}

#[tokio::test]
async fn m14_m15_m16_m17_what_was_deleted_since_is_told_in_bundles_and_is_not_in_the_output() {
    let served = Served::new(remembering());
    for (query, expected) in [
        ("/$export?_since=2024-01-01T00:00:00Z", &["Observation/8", "Observation/9", "Patient/7"][..]),
        ("/$export?_since=2024-02-01T00:00:00Z", &["Observation/9", "Patient/7"]),
        ("/$export?_since=2024-01-01T00:00:00Z&_until=2024-02-15T00:00:00Z", &["Observation/8", "Observation/9"]),
        ("/$export?_since=2024-01-01T00:00:00Z&_type=Patient", &["Patient/7"]),
        ("/Group/g/$export?_since=2024-01-01T00:00:00Z", &["Observation/8"]),
    ] {
        let (manifest, output) = export(&served, Face::Profile, query).await;
        let files = manifest["deleted"].as_array().unwrap();
        assert!(files.iter().all(|file| file["type"] == "Bundle" && file["url"].is_string()), "{manifest}");
        let lines = lines(&served, &manifest["deleted"]).await;
        let told: BTreeSet<String> = lines.iter().flat_map(deleted_by).collect();
        assert!(told.iter().eq(expected), "{query}: {told:?}");
        assert!(told.is_disjoint(&names(&output)), "{query}");
        assert_eq!(files.iter().map(|file| file["count"].as_u64().unwrap()).sum::<u64>(), lines.len() as u64);
    }
    for query in ["/$export", "/$export?_until=2025-01-01T00:00:00Z", "/$export?_since=2024-04-01T00:00:00Z"] {
        let (manifest, _) = export(&served, Face::Profile, query).await;
        assert!(manifest.get("deleted").is_none(), "{query}: {manifest}");
    }
}

#[tokio::test]
async fn h124_h905_healthlakes_operation_tells_of_no_deletion_and_the_manifest_has_our_own_counts() {
    let served = Served::new(remembering());
    for face in FACES {
        let (manifest, output) = export(&served, face, "/$export?_since=2024-01-01T00:00:00Z").await;
        assert_eq!(manifest.get("deleted").is_some(), face == Face::Profile, "{manifest}");
        assert!(manifest["extension"].is_object());
        assert!(manifest["output"].as_array().unwrap().iter().all(|file| file["count"].is_u64()), "{manifest}");
        assert_eq!(output.len(), 5, "what is there has no time, and so is always new");
    }
    let keys: Vec<String> = served.buckets.bucket.keys().iter().map(ToString::to_string).collect();
    assert!(!keys.is_empty() && keys.iter().all(|key| !key.contains("Bundle")), "{keys:?}");
}
