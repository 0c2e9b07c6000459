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
//!
//! Every refusal is an `OperationOutcome` that tells all faults of the request at once. Who may ask for what isn't
//! decided here: without authentication a server listens on loopback only.
//!
//! Sources: HealthLake contract sections 1 to 6 and 10; Bulk Data Access IG 1.0.1, 2.0.0 and 3.0.0.

mod address;
mod capability;
mod date;
mod files;
mod kick_off;
mod outcome;
mod preferences;
mod properties;
mod sdk;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};

use crate::job::JobService;

/// What a router answers with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The URL under which clients reach the router, without a slash at its end; `None`: `http` and the request's `Host`.
    pub public_url: Option<String>,
    /// The Region in the SDK's answers and ARNs.
    pub region: String,
    /// The account in ARNs, 12 digits.
    pub account: String,
    /// How long files of an export are said to be kept, in seconds; 48 hours by default (HealthLake contract, section 1.1).
    pub files_lifetime_seconds: i64,
    /// What clients are told to wait between two polls, in seconds.
    pub retry_after_seconds: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            public_url: None,
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
            files_lifetime_seconds: 48 * 60 * 60,
            retry_after_seconds: 5,
        }
    }
}

/// What the handlers share.
#[derive(Clone, Debug)]
struct Api {
    service: JobService,
    settings: Arc<Settings>,
}

/// The router of a service, to be mounted wherever the host likes.
pub fn router(service: JobService, settings: Settings) -> Router {
    let api = Api { service, settings: Arc::new(settings) };
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
        .fallback(outcome::no_such_interaction);
    Router::new()
        .nest("/datastore/{datastore}/r4", store)
        .route("/datastore/{datastore}/r4/", any(outcome::no_such_interaction))
        .route("/", post(sdk::handle))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .fallback(outcome::no_such_interaction)
        .layer(DefaultBodyLimit::disable())
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
