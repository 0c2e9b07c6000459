//! What a caller sends begins no line of the log.

use std::io::{self, Write};
use std::sync::Mutex;

use axum::http::Request;
use fhir_export::auth::{Caller, Rights};
use regex::Regex;
use tracing::Level;

use super::*;

/// What an attacker would have stand at the beginning of a line.
const FORGED: &str = "x\r\nERROR forged\n WARN forged\n INFO forged: allowed";

/// All that was logged.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Logs what this thread does, until the guard is dropped.
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().without_time().with_target(true).with_ansi(false);
        tracing::subscriber::set_default(
            subscriber.with_max_level(Level::TRACE).with_writer(move || log.clone()).finish(),
        )
    }

    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

/// Names of the forged text that a request line can carry.
fn escaped() -> String {
    FORGED.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

async fn let_everything_be_tried(guarded: &Guarded) {
    let escaped = escaped();
    for path in [
        format!("/datastore/{escaped}/r4/$export"),
        format!("{BASE}/Group/{escaped}/$export"),
        format!("{BASE}/export/{escaped}"),
        format!("{BASE}/export/x/files/{escaped}"),
        format!("{BASE}/$export?_type={escaped}&{escaped}=1&_since={escaped}"),
        format!("{BASE}/$export?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={escaped}"),
        format!("/{escaped}"),
    ] {
        for method in ["GET", "POST", "DELETE"] {
            guarded.served.ask(method, &path, ASYNC, Body::empty()).await;
            guarded.signed("FIRST", method, &path, ASYNC, "").await;
            guarded.bearing(&guarded.token("a", "system/*.read", "store1"), method, &path).await;
            let authorization = format!("AWS4-HMAC-SHA256 Credential={escaped}/x, SignedHeaders=host, Signature=0");
            guarded.served.ask(method, &path, &[("authorization", &authorization)], Body::empty()).await;
            // A host that knows its callers by whatever name.
            let request = Request::builder().method(method).uri(&path).header("host", "localhost:8080");
            let mut request = request.body(Body::empty()).unwrap();
            request.extensions_mut().insert(Caller::new(FORGED, Rights::ByName));
            guarded.served.answer(request).await;
        }
    }
    let token = guarded.tokens.mint(FORGED, FORGED, |header, claims| {
        header["kid"] = json!(FORGED);
        claims["jti"] = json!(FORGED);
    });
    guarded.bearing(&token, "GET", &format!("{BASE}/$export")).await;
    let mut body: Value = serde_json::from_str(&healthlake_body()).unwrap();
    body["JobName"] = json!(FORGED);
    guarded.signed("OWNER", "POST", &format!("{BASE}/$export"), super::super::JSON, &body.to_string()).await;
    body["DatastoreId"] = json!(FORGED);
    body["JobId"] = json!(FORGED);
    for operation in ["StartFHIRExportJob", "DescribeFHIRExportJob", "ListFHIRExportJobs", "DescribeFHIRDatastore"] {
        guarded.sdk("OWNER", operation, &body).await;
        guarded.sdk("FIRST", operation, &body).await;
    }
    for agent in ["x\tERROR forged", "x\u{85}ERROR forged", "x\u{2028}ERROR forged"] {
        guarded.signed("FIRST", "GET", &format!("{BASE}/export/x"), &[("user-agent", agent)], "").await;
    }
    guarded.served.service.idle().await;
}

#[tokio::test]
async fn what_a_caller_sends_begins_no_line_of_the_log_or_of_the_audit() {
    let guarded = Guarded::new().await;
    let log = Log::default();
    let listens = log.listen();
    let_everything_be_tried(&guarded).await;
    drop(listens);
    let lines = log.lines();
    let whole = Regex::new(r"^(TRACE|DEBUG| INFO| WARN|ERROR) [a-zA-Z_{]").unwrap();
    let forged = Regex::new(r"^\s*(TRACE|DEBUG|INFO|WARN|ERROR)\s+forged").unwrap();
    let broken: Vec<&String> = lines.iter().filter(|line| !whole.is_match(line) || forged.is_match(line)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(lines.iter().any(|line| line.contains("forged")), "it was logged, and it did no harm");
    let audit =
        |decision: &str| lines.iter().filter(|line| line.contains(" audit: ") && line.contains(decision)).count();
    assert!(["\"allow\"", "\"deny\"", "\"unknown\""].map(audit).iter().all(|count| *count > 0), "{lines:#?}");
    let secrets = ["OWNER", "FIRST"].map(secret_of);
    assert!(!lines.iter().any(|line| line.contains(SECRET) || secrets.iter().any(|secret| line.contains(secret))));
    assert!(!lines.iter().any(|line| line.contains(&token_signature(&guarded))), "nor any token");
}

/// What every token of the server begins with: its header, encoded.
fn token_signature(guarded: &Guarded) -> String {
    guarded.token("a", "system/*.read", "store1").split('.').next().unwrap().to_owned()
}
