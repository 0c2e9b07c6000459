//! What is said of a job to those who audit: one FHIR `AuditEvent` when it has ended.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::super::state::JobState;
use super::view::JobView;
use crate::error::{Error, ErrorKind, Result};

/// Takes the `AuditEvent` of each job that has ended.
pub trait AuditEvents: fmt::Debug + Send + Sync {
    /// Keeps an event, a resource of FHIR R4. It may block.
    ///
    /// # Errors
    /// When it isn't kept; the log says so, and the job is as it is.
    fn keep(&self, event: &Value) -> Result<()>;
}

/// A file that gets a line for each event, and has it on disk before the next.
#[derive(Debug)]
pub struct AuditFile {
    path: PathBuf,
    file: Mutex<File>,
}

impl AuditFile {
    /// Opens a file, or makes one; what is in it stays.
    ///
    /// # Errors
    /// When it can't be opened for writing.
    pub fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(|error| failed(path, error))?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(file) })
    }
}

impl AuditEvents for AuditFile {
    fn keep(&self, event: &Value) -> Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // Appended in one go: other servers may write to the same file.
        let written = file.write_all(format!("{event}\n").as_bytes()).and_then(|()| file.sync_data());
        written.map_err(|error| failed(&self.path, error))
    }
}

fn failed(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::InvalidConfig, "the file of audit events can't be written")
        .with("file", path.display())
        .caused_by(error)
}

/// Has the event of a job kept, if it has ended.
pub(super) async fn tell(events: Arc<dyn AuditEvents>, view: &JobView) {
    if !view.state.is_terminal() {
        return;
    }
    let event = event_of(view);
    let kept = tokio::task::spawn_blocking(move || events.keep(&event)).await;
    let kept = kept.unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "keeping an event panicked")));
    if let Err(error) = kept {
        tracing::error!(target: "audit", job = %view.id, error = format!("{error:#}"), "the AuditEvent of a job isn't kept");
    }
}

/// A job as an `AuditEvent` (FHIR R4): who had what exported from where to where, and how it ended. No content, no patient.
fn event_of(view: &JobView) -> Value {
    let period = view.submitted.as_ref().zip(view.ended.as_ref());
    json!({
        "resourceType": "AuditEvent",
        "type": coding("http://dicom.nema.org/resources/ontology/DCM", "110106", "Export"),
        "subtype": [coding("http://hl7.org/fhir/restful-interaction", "operation", "operation")],
        "action": "R",
        "period": period.map(|(start, end)| json!({"start": start.to_string(), "end": end.to_string()})),
        "recorded": view.ended.as_ref().map(ToString::to_string),
        "outcome": outcome(view.state),
        "outcomeDesc": view.state.to_string(),
        "agent": agents(view),
        "source": {
            "observer": {"display": "fhir-export"},
            "type": [coding("http://terminology.hl7.org/CodeSystem/security-source-type", "4", "Application Server")],
        },
        "entity": [job(view), data_store(view)],
    })
}

fn coding(system: &str, code: &str, display: &str) -> Value {
    json!({"system": system, "code": code, "display": display})
}

/// Codes of `audit-event-outcome`: a job that was cancelled, or lacks something, didn't bring what was asked for.
const fn outcome(state: JobState) -> &'static str {
    match state {
        JobState::Completed => "0",
        JobState::CompletedWithErrors | JobState::CancelCompleted => "4",
        _ => "8",
    }
}

/// Who asked, in whose name it was written, and where to.
fn agents(view: &JobView) -> Vec<Value> {
    let caller = match &view.owner {
        Some(owner) => json!({"identifier": {"value": owner}}),
        None => json!({"display": "nobody was asked who he is"}),
    };
    let mut agents = vec![json!({"who": caller, "requestor": true})];
    if let Some(role) = &view.role {
        agents.push(json!({"who": {"identifier": {"value": role.to_string()}}, "requestor": false}));
    }
    if let Some(output) = &view.output {
        let media = coding("http://dicom.nema.org/resources/ontology/DCM", "110152", "Destination Role ID");
        let place = json!({"display": output.s3_uri.to_string()});
        agents.push(json!({"type": {"coding": [media]}, "who": place, "requestor": false}));
    }
    agents
}

fn job(view: &JobView) -> Value {
    let mut detail = vec![json!({"type": "state", "valueString": view.state.to_string()})];
    if let Some(manifest) = &view.manifest {
        for file in &manifest.output {
            detail.push(json!({"type": file.resource_type, "valueString": format!("{} resources", file.count)}));
        }
    }
    json!({
        "what": {"identifier": {"value": view.id.to_string()}},
        "type": coding("http://terminology.hl7.org/CodeSystem/audit-entity-type", "2", "System Object"),
        "role": coding("http://terminology.hl7.org/CodeSystem/object-role", "20", "Job"),
        "detail": detail,
    })
}

fn data_store(view: &JobView) -> Value {
    json!({
        "what": {"identifier": {"value": view.datastore_id.to_string()}},
        "type": coding("http://terminology.hl7.org/CodeSystem/audit-entity-type", "2", "System Object"),
        "role": coding("http://terminology.hl7.org/CodeSystem/object-role", "24", "Query"),
        "query": BASE64_STANDARD.encode(&view.request_url),
    })
}
