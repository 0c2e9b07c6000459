//! A FHIR server of one type, with a store of its own and `$export`; `embed.rs` shows a store of many types.
//! ```sh
//! cargo run --example embed_axum --features http
//! curl localhost:8080/Patient --json '{"name": [{"text": "Ada"}]}'
//! curl -i -H 'Prefer: respond-async' 'localhost:8080/bulk/datastore/main/r4/$export'  # then ask its Content-Location
//! ```
use std::{collections::BTreeMap, ops::Bound, path::Path, sync::Arc};

use axum::{Json, Router, extract, extract::State, http::StatusCode, routing};
use fhir_export::fhir::{Instant, ResourceType};
use fhir_export::job::{DataStore, JobService};
use fhir_export::source::{AfterTransactionTime, Asked, BlockSink, Cursor, Plan, Range, RowWriter, Snapshot, Source};
use fhir_export::{Result, clock, destination::LocalDestination, http, request::DatastoreId};
use serde_json::{Map, Value, json};

/// The server's store: patients by id, as JSON. Who writes while an export reads writes to a copy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patients(Arc<tokio::sync::Mutex<Arc<BTreeMap<String, String>>>>);

async fn create(State(store): State<Patients>, Json(mut patient): Json<Map<String, Value>>) -> String {
    // Stamped while nobody can open a snapshot: else one could have a later time and not hold the patient.
    let mut patients = store.0.lock().await;
    let (id, meta) = (format!("p{:08}", patients.len()), json!({"lastUpdated": clock::system().now().to_string()}));
    patient.extend([("resourceType", json!("Patient")), ("id", json!(id)), ("meta", meta)].map(|(k, v)| (k.into(), v)));
    let body = Value::from(patient).to_string();
    Arc::make_mut(&mut patients).insert(id, body.clone());
    body
}
async fn read(State(store): State<Patients>, id: extract::Path<String>) -> Result<String, StatusCode> {
    store.0.lock().await.get(&*id).cloned().ok_or(StatusCode::NOT_FOUND)
}

#[async_trait::async_trait]
impl Source for Patients {
    fn name(&self) -> String {
        "patients".to_owned()
    }
    async fn open(&self) -> Result<Box<dyn Snapshot>> {
        let patients = self.0.lock().await;
        Ok(Box::new(Frozen(clock::system().now(), Arc::clone(&patients))))
    }
}
/// The patients as of one instant; of a database it would be a transaction that reads.
#[derive(Debug)]
struct Frozen(Instant, Arc<BTreeMap<String, String>>);

#[async_trait::async_trait]
impl Snapshot for Frozen {
    fn transaction_time(&self) -> Instant {
        self.0.clone()
    }
    fn after_transaction_time(&self) -> AfterTransactionTime {
        AfterTransactionTime::Excluded
    }
    async fn plan(&self, _: &Asked) -> Result<Plan> {
        let all = Range::new("Patient").of_type(ResourceType::r4("Patient"));
        Ok(Plan { ranges: vec![all], ..Plan::default() }) // Nothing is filtered here: the engine does.
    }
    async fn read(&self, _: &Range, from: &Cursor, sink: &mut dyn BlockSink) -> Result<()> {
        let (last_id, mut rows) = (String::from_utf8_lossy(from.as_bytes()), RowWriter::new(sink, from));
        for (id, body) in self.1.range::<str, _>((Bound::Excluded(&*last_id), Bound::Unbounded)) {
            rows.push(id.as_bytes(), body.as_bytes()).await?;
        }
        rows.finish().await
    }
}

/// The whole server. The files of exports go into a folder.
pub(crate) fn app(store: Patients, folder: &Path) -> Result<Router, Box<dyn std::error::Error>> {
    let exported = DataStore::new(DatastoreId::new("main")?, Arc::new(store.clone()));
    let service = JobService::builder().data_store(exported.files(Arc::new(LocalDestination::new(folder)?))).build()?;
    let own = Router::new().route("/Patient", routing::post(create)).route("/Patient/{id}", routing::get(read));
    Ok(own.with_state(store).nest("/bulk", http::router(service, http::Settings::default())))
}
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    Ok(axum::serve(listener, app(Patients::default(), Path::new("exports"))?).await?)
}
