//! A FHIR server that exports its own store.
//!
//! ```sh
//! cargo run --example embed
//! ```
//!
//! The server here keeps its resources in a map. What a real one does otherwise is in two places: `open` begins a
//! transaction that reads one state of the database, and `read` runs a query such as
//! `SELECT id, body FROM resource WHERE type = $1 AND id > $2 ORDER BY id`.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use fhir_export::Result;
use fhir_export::clock;
use fhir_export::destination::LocalDestination;
use fhir_export::fhir::{Instant, ResourceType};
use fhir_export::job::{Exporter, JobReport};
use fhir_export::request::{ExportRequest, Level};
use fhir_export::source::{
    AfterTransactionTime, Asked, BlockSink, Cursor, Plan, Pushdown, Range, RowWriter, Snapshot, Source,
};

/// Resources by type and id: when they were last updated, and their JSON as it was received.
type Table = BTreeMap<(ResourceType, String), (Instant, String)>;

/// A server's store. Readers keep the table as they found it: who writes while one reads writes to a copy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store(Arc<Mutex<Arc<Table>>>);

impl Store {
    /// Creates or replaces a resource.
    pub(crate) fn put(&self, resource_type: ResourceType, id: &str, members: &str) {
        // Stamped under the lock: else a snapshot could be opened between stamp and insertion, have a later transaction
        // time, and not hold the resource; no later export would bring it either.
        let mut table = self.lock();
        let now = clock::system().now();
        let body =
            format!(r#"{{"resourceType":"{resource_type}","id":"{id}","meta":{{"lastUpdated":"{now}"}},{members}}}"#);
        Arc::make_mut(&mut table).insert((resource_type, id.to_owned()), (now, body));
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Table>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Source for Store {
    fn name(&self) -> String {
        "the server's store".to_owned()
    }

    async fn open(&self) -> Result<Box<dyn Snapshot>> {
        let table = self.lock();
        Ok(Box::new(StoreSnapshot { transaction_time: clock::system().now(), table: Arc::clone(&table) }))
    }
}

/// The lower bound of what is read.
#[derive(Debug)]
struct Since(Option<Instant>);

#[derive(Debug)]
struct StoreSnapshot {
    transaction_time: Instant,
    table: Arc<Table>,
}

#[async_trait]
impl Snapshot for StoreSnapshot {
    fn transaction_time(&self) -> Instant {
        self.transaction_time.clone()
    }

    fn after_transaction_time(&self) -> AfterTransactionTime {
        AfterTransactionTime::Excluded
    }

    /// A range for each type that is asked for.
    async fn plan(&self, asked: &Asked) -> Result<Plan> {
        let mut types: Vec<&ResourceType> = self.table.keys().map(|(resource_type, _)| resource_type).collect();
        types.dedup();
        types.retain(|one| asked.types.as_ref().is_none_or(|asked| asked.contains(*one)));
        // What the plan knows and reading needs, such as the lower bound of a query, travels with the range.
        let range =
            |one: &ResourceType| Range::new(one.to_string()).of_type(one.clone()).carrying(Since(asked.since.clone()));
        let ranges = types.into_iter().map(range).collect();
        Ok(Plan { ranges, pushdown: Pushdown { types: true, ..Pushdown::default() }, ..Plan::default() })
    }

    /// The resources of a type in the order of their ids; a cursor is the id that was read last.
    async fn read(&self, range: &Range, from: &Cursor, sink: &mut dyn BlockSink) -> Result<()> {
        let mut rows = RowWriter::new(sink, from);
        if let Some(resource_type) = &range.resource_type {
            let last_id = String::from_utf8_lossy(from.as_bytes()).into_owned();
            let behind = (Excluded((resource_type.clone(), last_id)), Unbounded);
            let since = range.carried::<Since>().and_then(|since| since.0.as_ref());
            for ((_, id), (updated, body)) in
                self.table.range(behind).take_while(|((other, _), _)| other == resource_type)
            {
                if since.is_none_or(|since| updated >= since) {
                    rows.push(id.as_bytes(), body.as_bytes()).await?;
                }
            }
        }
        rows.finish().await
    }
}

/// A store with a hundred patients and five observations of each.
pub(crate) fn filled_store() -> Store {
    let store = Store::default();
    let types = [ResourceType::r4("Patient"), ResourceType::r4("Observation")];
    if let [Some(patient), Some(observation)] = types {
        for number in 0..100 {
            store.put(patient.clone(), &format!("p{number}"), &format!(r#""name":[{{"text":"Patient {number}"}}]"#));
            for value in 0..5 {
                let members =
                    format!(r#""status":"final","subject":{{"reference":"Patient/p{number}"}},"valueInteger":{value}"#);
                store.put(observation.clone(), &format!("p{number}-{value}"), &members);
            }
        }
    }
    store
}

/// Exports what belongs to patients into a folder.
pub(crate) async fn export(store: Store, folder: &std::path::Path) -> Result<JobReport> {
    let exporter =
        Exporter::builder().source(Arc::new(store)).destination(Arc::new(LocalDestination::new(folder)?)).build()?;
    Ok(exporter.start(ExportRequest::new(Level::Patient))?.join().await)
}

#[tokio::main]
#[allow(clippy::print_stdout, dead_code, reason = "this is what a program does; a test has no use for it")]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let report = export(filled_store(), folder.path()).await?;
    println!("{} {:?}", report.state, report.error);
    println!("{}", serde_json::to_string_pretty(&report.manifest)?);
    Ok(())
}
