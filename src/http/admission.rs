//! What may be asked at once: limits that keep memory bounded and the others served.
//!
//! Asking how a job is goes by without any.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::outcome::Refused;
use super::{Api, Settings, sdk};
use crate::request::MAX_BODY_BYTES;

/// Longest body of a request that starts no job: an identifier and some filters. There may be many of them at once.
const MOST_BYTES_OF_OTHERS: usize = 64 << 10;

/// Longest body of a request.
pub(super) fn longest_body(settings: &Settings, is_start: bool) -> usize {
    let longest = if is_start { MAX_BODY_BYTES } else { MOST_BYTES_OF_OTHERS };
    longest.min(settings.body_bytes)
}

/// Whom a request comes from, and so how it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Rest,
    Sdk,
}

impl Caller {
    fn refuse(self, refused: Refused) -> Response {
        match self {
            Self::Rest => refused.into_response(),
            Self::Sdk => sdk::refuse(&refused),
        }
    }
}

/// Refuses a query that is too long before anything reads it.
pub(super) async fn measure_query(State(api): State<Api>, request: Request, next: Next) -> Response {
    let most_bytes = api.settings.query_bytes;
    if request.uri().query().is_some_and(|query| query.len() > most_bytes) {
        let diagnostics = format!("the query is longer than {most_bytes} bytes");
        return Refused::new(StatusCode::URI_TOO_LONG, "too-long", &diagnostics).into_response();
    }
    next.run(request).await
}

/// Lets a request in: one that starts a job if there aren't too many of them, and one with a body when all of it has come.
pub(super) async fn admit(State(api): State<Api>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let caller = if path == "/" { Caller::Sdk } else { Caller::Rest };
    let may_have_body = request.method() == Method::POST;
    let start = if is_start(request.method(), path, request.headers()) {
        let Ok(start) = api.starts.try_acquire() else {
            return caller.refuse(Refused::throttled("too many exports are being started; ask again later"));
        };
        Some(start)
    } else {
        None
    };
    if !may_have_body {
        return next.run(request).await;
    }
    let most_bytes = longest_body(&api.settings, start.is_some());
    let (parts, body) = request.into_parts();
    match in_time(api.settings.body_timeout, body, most_bytes).await {
        Ok(body) => next.run(Request::from_parts(parts, Body::from(body))).await,
        Err(refused) => caller.refuse(refused),
    }
}

/// A body that comes slowly doesn't hold the place of one that starts a job for ever.
pub(super) async fn in_time(limit: Duration, body: Body, most_bytes: usize) -> Result<Bytes, Refused> {
    match tokio::time::timeout(limit, to_bytes(body, most_bytes)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => {
            let diagnostics = format!("the body is longer than {most_bytes} bytes, or its sender broke off");
            Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "too-long", &diagnostics))
        }
        Err(_) => {
            let diagnostics = format!("the body didn't come within {} s", limit.as_secs_f64());
            Err(Refused::new(StatusCode::REQUEST_TIMEOUT, "timeout", &diagnostics))
        }
    }
}

fn is_start(method: &Method, path: &str, headers: &HeaderMap) -> bool {
    if path == "/" {
        return headers.get("x-amz-target").is_some_and(|target| target == "HealthLake.StartFHIRExportJob");
    }
    let last = path.rsplit('/').next().unwrap_or_default();
    matches!(*method, Method::GET | Method::POST) && matches!(last, "$export" | "%24export")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_starts_a_job_is_counted() {
        let headers = HeaderMap::new();
        for (method, path, expected) in [
            (Method::GET, "/datastore/d/r4/$export", true),
            (Method::POST, "/datastore/d/r4/Group/g/%24export", true),
            (Method::DELETE, "/datastore/d/r4/$export", false),
            (Method::GET, "/datastore/d/r4/export/1", false),
            (Method::GET, "/datastore/d/r4/export/1/files/a.ndjson", false),
            (Method::POST, "/", false),
        ] {
            assert_eq!(is_start(&method, path, &headers), expected, "{method} {path}");
        }
        let of_sdk = |target: &str| HeaderMap::from_iter([("x-amz-target".parse().unwrap(), target.parse().unwrap())]);
        assert!(is_start(&Method::POST, "/", &of_sdk("HealthLake.StartFHIRExportJob")));
        assert!(!is_start(&Method::POST, "/", &of_sdk("HealthLake.DescribeFHIRExportJob")));
    }
}
