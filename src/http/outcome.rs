//! Refusals, as `OperationOutcome`s.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::error::{Error, ErrorKind};
use crate::request::{Fault, FaultKind, Refusal};

/// How long who asks too much is told to wait.
const THROTTLED_SECONDS: u32 = 30;

/// A request that isn't done, and why.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    issues: Vec<Value>,
    retry_after_seconds: Option<u32>,
    challenge: Option<HeaderValue>,
}

impl Refused {
    pub(super) fn new(status: StatusCode, code: &str, diagnostics: &str) -> Self {
        Self { status, issues: vec![issue(code, diagnostics, None)], retry_after_seconds: None, challenge: None }
    }

    /// What isn't offered, in the words of HealthLake (contract section 1.3).
    pub(super) fn not_supported() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "not-supported", "Interaction not supported.")
    }

    pub(super) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", what)
    }

    /// Too much at once (contract section 10, row 25).
    pub(super) fn throttled(why: &str) -> Self {
        let refused = Self::new(StatusCode::TOO_MANY_REQUESTS, "throttled", why);
        Self { retry_after_seconds: Some(THROTTLED_SECONDS), ..refused }
    }

    /// What the caller needs, in the words of `WWW-Authenticate`.
    pub(super) fn with_challenge(self, challenge: Option<&str>) -> Self {
        Self { challenge: challenge.and_then(|words| HeaderValue::try_from(words).ok()), ..self }
    }

    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    /// What its first issue says.
    pub(super) fn diagnostics(&self) -> &str {
        let first = self.issues.first().and_then(|issue| issue.get("diagnostics"));
        first.and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) const fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

/// One issue of an outcome.
pub(super) fn issue(code: &str, diagnostics: &str, expression: Option<&str>) -> Value {
    let mut issue = json!({"severity": "error", "code": code, "diagnostics": diagnostics});
    if let (Some(expression), Some(issue)) = (expression, issue.as_object_mut()) {
        issue.insert("expression".to_owned(), json!([expression]));
    }
    issue
}

fn issue_of(fault: &Fault) -> Value {
    let code = match fault.kind() {
        FaultKind::Value => "value",
        FaultKind::Structure => "structure",
        FaultKind::Unsupported => "not-supported",
        FaultKind::Missing => "required",
        FaultKind::NotFound => "not-found",
        _ => "invalid",
    };
    issue(code, &fault.to_string(), Some(fault.parameter()))
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let faults = refusal.faults();
        let mut issues: Vec<Value> = faults.iter().map(issue_of).collect();
        if faults.not_kept() > 0 {
            issues.push(issue("invalid", &format!("and {} more faults", faults.not_kept()), None));
        }
        Self { status: StatusCode::BAD_REQUEST, issues, retry_after_seconds: None, challenge: None }
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::from(Refusal::from(fault))
    }
}

impl From<Error> for Refused {
    /// What the caller did wrong is told in the error's words; of what went wrong here the log has the rest, which may
    /// name paths.
    fn from(error: Error) -> Self {
        let refusal = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<Refusal>());
        if let Some(refusal) = refusal.filter(|_| error.kind() == ErrorKind::InvalidRequest) {
            return Self::from(refusal.clone());
        }
        let (status, code) = match error.kind() {
            ErrorKind::InvalidRequest => (StatusCode::BAD_REQUEST, "invalid"),
            ErrorKind::NotFound => (StatusCode::NOT_FOUND, "not-found"),
            ErrorKind::LimitExceeded => (StatusCode::BAD_REQUEST, "too-costly"),
            ErrorKind::Throttled => return Self::throttled(error.message()),
            ErrorKind::CohortUnreadable => (StatusCode::INTERNAL_SERVER_ERROR, "exception"),
            _ => {
                tracing::error!(error = format!("{error:#}"), "a request failed");
                let refused =
                    Self::new(StatusCode::INTERNAL_SERVER_ERROR, "exception", "the server failed; its log says why");
                let status = if error.is_retryable() { StatusCode::SERVICE_UNAVAILABLE } else { refused.status };
                return Self { retry_after_seconds: error.is_retryable().then_some(30), ..refused }.with_status(status);
            }
        };
        Self::new(status, code, error.message())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(outcome(&self.issues))).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/fhir+json"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

pub(super) fn outcome(issues: &[Value]) -> Value {
    json!({"resourceType": "OperationOutcome", "issue": issues})
}

/// Makes an outcome of a refusal that the router gave by itself, such as of a path that is no UTF-8.
pub(super) async fn in_words(request: Request, next: Next) -> Response {
    let is_plain = |response: &Response| {
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        response.status().is_client_error() && kind.is_none_or(|kind| kind.starts_with("text/plain"))
    };
    let response = next.run(request).await;
    if !is_plain(&response) {
        return response;
    }
    let status = response.status();
    let (code, diagnostics) = match status {
        StatusCode::METHOD_NOT_ALLOWED => ("not-supported", "the method isn't one of those that Allow names"),
        StatusCode::RANGE_NOT_SATISFIABLE => ("value", "Range is outside of the file, whose size Content-Range tells"),
        _ => ("structure", "the request can't be understood"),
    };
    let mut refused = Refused::new(status, code, diagnostics).into_response();
    // What the status promises: `Allow`, `Content-Range`.
    for (name, value) in response.headers() {
        if !matches!(*name, header::CONTENT_TYPE | header::CONTENT_LENGTH) {
            refused.headers_mut().append(name, value.clone());
        }
    }
    refused
}

/// Answers what isn't offered.
pub(super) async fn no_such_interaction() -> Refused {
    Refused::not_supported()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes below `transient` in FHIR's IssueType.
    const TRANSIENT: [&str; 7] =
        ["transient", "lock-error", "no-store", "exception", "timeout", "incomplete", "throttled"];

    #[test]
    fn a_poll_that_fails_for_the_servers_fault_has_a_transient_code() {
        for kind in [ErrorKind::Store, ErrorKind::Source, ErrorKind::Internal, ErrorKind::PermissionDenied] {
            for is_retryable in [false, true] {
                let refused = Refused::from(Error::new(kind, "the job store can't be read").retryable(is_retryable));
                assert!(refused.status.is_server_error(), "{kind}");
                let response = refused.retry_after_seconds;
                assert_eq!(response.is_some(), is_retryable, "{kind}");
                let code = refused.issues[0]["code"].as_str().unwrap();
                assert!(TRANSIENT.contains(&code), "{kind}: {code}");
            }
        }
    }
}
