//! Each job that has ended leaves an `AuditEvent`: who had what exported, and how it ended.

use std::sync::Mutex;

use fhir_export::ErrorKind;
use fhir_export::job::service::{AuditEvents, AuditFile};

use super::*;

/// Keeps events in memory.
#[derive(Debug, Default)]
pub(super) struct Events(Mutex<Vec<Value>>);

impl AuditEvents for Events {
    fn keep(&self, event: &Value) -> fhir_export::Result<()> {
        self.0.lock().unwrap().push(event.clone());
        Ok(())
    }
}

impl Events {
    fn take(&self) -> Vec<Value> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[tokio::test]
async fn every_job_that_has_ended_leaves_an_audit_event() {
    let guarded = Guarded::new().await;
    let refused = guarded.signed("LOOKER", "GET", &format!("{BASE}/$export"), ASYNC, "").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let token = guarded.token("nightly", "system/Patient.rs", "store1");
    let by_token = guarded.exported(&token, "?_since=2020-01-01T00:00:00Z").await;
    let by_key = guarded.started("OWNER").await;
    guarded.served.service.idle().await;

    let events = guarded.events.take();
    assert_eq!(events.len(), 2, "none of a job that wasn't started: {events:?}");
    for (event, (job, who)) in events.iter().zip([
        (by_token, format!("{} nightly", guarded.tokens.issuer())),
        (by_key, format!("arn:aws:iam::{ACCOUNT}:user/owner")),
    ]) {
        assert_eq!((&event["resourceType"], &event["type"]["code"]), (&json!("AuditEvent"), &json!("110106")));
        assert_eq!(event["agent"], json!([{"who": {"identifier": {"value": who}}, "requestor": true}]));
        assert!(job.ends_with(event["entity"][0]["what"]["identifier"]["value"].as_str().unwrap()), "{job}");
        assert_eq!(event["entity"][1]["what"]["identifier"]["value"], "store1");
        assert_eq!((&event["outcome"], &event["outcomeDesc"]), (&json!("0"), &json!("COMPLETED")));
        assert_eq!(event["period"]["end"], event["recorded"]);
        let text = event.to_string();
        assert!(!text.contains("Patient/"), "nobody's data: {text}");
    }
}

#[tokio::test]
async fn how_a_job_ended_is_in_its_audit_event() {
    let gate = fhir_export::source::memory::Gate::new();
    let source = crate::support::small_job::source_stalled_at("second", 0, &gate);
    let guarded = Guarded::with(source, Vec::new()).await;
    let job = guarded.started("OWNER").await;
    gate.reached().await;
    assert_eq!(guarded.signed("OWNER", "DELETE", &job, &[], "").await.status, StatusCode::ACCEPTED);
    gate.open();
    guarded.served.service.idle().await;
    let events = guarded.events.take();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["outcome"], "4");
}

#[test]
fn a_file_of_audit_events_grows_by_a_line_each() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.ndjson");
    for number in 0..3 {
        // A server that comes back goes on with the file.
        AuditFile::open(&path).unwrap().keep(&json!({"resourceType": "AuditEvent", "id": number.to_string()})).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let ids: Vec<Value> = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone()).collect();
    assert_eq!(ids, ["0", "1", "2"]);
    let error = AuditFile::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
}
