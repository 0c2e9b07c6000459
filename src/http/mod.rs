//! The HTTP face: HealthLake's REST operations, those of its SDK, and the HL7 Bulk Data profile, on one router.
//!
//! [`router`] mounts under any path of a host's own axum app. Below it:
//!
//! | request | what |
//! | --- | --- |
//! | `POST /datastore/{id}/r4/$export`, `…/Patient/$export`, `…/Group/{id}/$export` | HealthLake's start, with its JSON body; the profile's kick-off with a `Parameters` resource or an empty body |
//! | `GET` of the same | the profile's kick-off |
//! | `GET …/export/{job}` | the job: status, and the manifest when it is over |
//! | `DELETE …/export/{job}` | cancels a job; removes one of the profile with its files |
//! | `GET …/export/{job}/files/{name}` | a file of a profile's export |
//! | `GET …/metadata` | the CapabilityStatement |
//! | `POST /` with `X-Amz-Target` | the SDK's operations |
//! | `GET /healthz`, `GET /readyz` | whether the process lives, and whether its job store answers |
//! | `GET /metrics` | the numbers of [`metrics`](crate::metrics), if the host gives a [`MetricsText`] |
//! | `GET …/.well-known/smart-configuration` | where tokens are to be had, if the host says so |
//!
//! Every refusal is an `OperationOutcome` that tells all faults of the request at once. Whether anybody is asked who he is,
//! and who says what he may do, is for the host to set: [`Access`]. No handler is reached before that is decided.
//!
//! Sources: HealthLake contract sections 1 to 6 and 10; Bulk Data Access IG 1.0.1, 2.0.0 and 3.0.0.

mod access;
mod address;
mod admission;
mod asked;
mod capability;
mod date;
mod files;
mod guard;
mod kick_off;
mod metrics;
mod outcome;
mod preferences;
mod properties;
mod recognize;
mod sdk;
mod status;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use tokio::sync::Semaphore;

pub use self::access::{Access, Guard};
pub use self::metrics::MetricsText;
use crate::job::JobService;
use crate::request::MAX_BODY_BYTES;

/// What a router answers with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The URL under which clients reach the router, without a slash at its end; `None`: `http` and the request's `Host`.
    pub public_url: Option<String>,
    /// Whether the router is behind TLS, for URLs that are made of `Host`; `false` by default.
    pub is_tls: bool,
    /// What clients are told to wait between two polls at most, in seconds; 5 by default. Of a job that has lasted for less
    /// they are told to wait as long as it has lasted, at least a second.
    pub retry_after_seconds: u32,
    /// How many exports may be on their way to be started; 100 by default. One more is answered with 429.
    pub starts_at_once: usize,
    /// Longest body of a request that starts an export, in bytes; 1 MiB by default and at most. Those of other requests are
    /// 64 KiB at most.
    pub body_bytes: usize,
    /// Longest query, in bytes; 32 KiB by default. No URI is longer than 64 KiB.
    pub query_bytes: usize,
    /// How long the body of a request may take to come; 30 s by default.
    pub body_timeout: Duration,
    /// How long a file can be read by its signed URL, where the store of the files signs; each look at the manifest gives
    /// new ones. `None`, the default: files are always read through the router.
    pub signed_urls: Option<Duration>,
    /// What `/metrics` shows; nothing by default.
    pub metrics: Option<MetricsText>,
    /// Who is let in: everybody by default.
    pub access: Access,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            public_url: None,
            is_tls: false,
            retry_after_seconds: 5,
            starts_at_once: 100,
            body_bytes: MAX_BODY_BYTES,
            query_bytes: 32 << 10,
            body_timeout: Duration::from_secs(30),
            signed_urls: None,
            metrics: None,
            access: Access::Open,
        }
    }
}

/// What the handlers share.
#[derive(Clone, Debug)]
struct Api {
    service: JobService,
    settings: Arc<Settings>,
    starts: Arc<Semaphore>,
}

/// The router of a service, to be mounted wherever the host likes.
pub fn router(service: JobService, settings: Settings) -> Router {
    let starts = Arc::new(Semaphore::new(settings.starts_at_once.min(Semaphore::MAX_PERMITS)));
    let api = Api { service, settings: Arc::new(settings), starts };
    let start = any(kick_off::handle);
    // Some clients escape the dollar sign.
    let store = ["$export", "%24export"].into_iter().fold(Router::new(), |store, operation| {
        store
            .route(&format!("/{operation}"), start.clone())
            .route(&format!("/Patient/{operation}"), start.clone())
            .route(&format!("/Group/{{group}}/{operation}"), start.clone())
    });
    let store = store
        .route("/export/{job}", get(status::describe).delete(status::delete).fallback(outcome::no_such_interaction))
        .route("/export/{job}/files/{name}", get(files::download).fallback(outcome::no_such_interaction))
        .route("/metadata", get(capability::statement).fallback(outcome::no_such_interaction))
        .route("/.well-known/smart-configuration", get(capability::smart).fallback(outcome::no_such_interaction))
        .fallback(outcome::no_such_interaction);
    Router::new()
        .nest("/datastore/{datastore}/r4", store)
        .route("/datastore/{datastore}/r4/", any(outcome::no_such_interaction))
        .route("/", post(sdk::handle))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics::text))
        .fallback(outcome::no_such_interaction)
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(api.clone(), guard::decide))
        .layer(middleware::from_fn_with_state(api.clone(), admission::admit))
        .layer(middleware::from_fn_with_state(api.clone(), recognize::at_head))
        .layer(middleware::from_fn_with_state(api.clone(), admission::measure_query))
        .layer(middleware::from_fn(outcome::in_words))
        .with_state(api)
}

async fn ready(State(api): State<Api>) -> Response {
    if let Err(error) = api.service.reach_job_store().await {
        tracing::warn!(error = format!("{error:#}"), "the job store doesn't answer");
        return (StatusCode::SERVICE_UNAVAILABLE, "the job store doesn't answer").into_response();
    }
    "ok".into_response()
}
