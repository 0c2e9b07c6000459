//! The start of an export: HealthLake's operation, and the profile's kick-off.
//!
//! A `POST` whose body is JSON but no FHIR resource is HealthLake's: its output goes where the body says. `GET`, and `POST`
//! with a `Parameters` resource or an empty body, are the profile's: its output is kept for download.

use axum::Json;
use axum::body::Body;
use axum::extract::{OriginalUri, RawPathParams, State};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

use super::guard::Granted;
use super::outcome::Refused;
use super::preferences::{BodyType, Preferences, body_type, refuse_unless_accepted};
use super::{Api, address};
use crate::auth::Action;
use crate::job::service::SkippedParameter;
use crate::job::{JobState, JobView, Order, Origin};
use crate::request::{Accepted, Draft, Fault, FaultKind, Level, MAX_BODY_BYTES, ResourceId};

/// `…/$export` with any method.
pub(super) async fn handle(
    State(api): State<Api>,
    granted: Granted,
    path: RawPathParams,
    OriginalUri(uri): OriginalUri,
    request: Request<Body>,
) -> Result<Response, Refused> {
    let (parts, body) = request.into_parts();
    if !matches!(parts.method, Method::GET | Method::POST) {
        return Err(Refused::not_supported());
    }
    let datastore = parameter(&path, "datastore").unwrap_or_default();
    granted.covers(action(&parts.method), &datastore)?;
    if api.service.data_store(&datastore).is_none() {
        return Err(Refused::not_found("there is no such data store"));
    }
    let body = read(body).await?;
    let preferences = Preferences::of(&parts.headers);
    let mut draft = Draft::new(preferences.handling());
    match parameter(&path, "group").as_deref().map(ResourceId::new) {
        None if uri.path().contains("/Patient/") => draft.set_level(Level::Patient),
        None => draft.set_level(Level::System),
        Some(Ok(id)) => draft.set_level(Level::Group { id }),
        Some(Err(fault)) => return Err(Refused::from(fault)),
    }
    draft.read_query(uri.query().unwrap_or_default());
    let origin = origin(&parts.method, &parts.headers, &body)?;
    match origin {
        Origin::HealthLake => {
            // HealthLake contract, section 10, row 5.
            if !preferences.responds_async {
                let accepted = "respond-async";
                draft.refuse(Fault::new(
                    FaultKind::Missing,
                    "Prefer",
                    "doesn't ask for an asynchronous answer",
                    accepted,
                ));
            }
            draft.read_body(&body);
        }
        Origin::Profile | Origin::Sdk => {
            refuse_unless_accepted(&parts.headers)?;
            if !body.is_empty() {
                draft.read_parameters(&body);
            }
        }
    }
    let Accepted { request, ignored } = draft.finish()?;
    let request = granted.narrowed(&api, request).await?;
    let requested = address::requested(&api.settings, &parts.headers, &uri);
    let order = Order {
        origin,
        request_url: requested.clone(),
        client_token: granted.client_token(),
        separate_status: preferences.separate_status && origin == Origin::Profile,
        skipped: SkippedParameter::all_of(&ignored),
        owner: granted.owner(),
    };
    let view = api.service.start(&datastore, request, &order).await?;
    Ok(started(&view, address::base(&requested)))
}

fn action(method: &Method) -> Action {
    if *method == Method::GET { Action::StartExportWithGet } else { Action::StartExportWithPost }
}

fn parameter(path: &RawPathParams, name: &str) -> Option<String> {
    path.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

/// Reads the body as far as one may be long.
pub(super) async fn read(body: Body) -> Result<Bytes, Refused> {
    axum::body::to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| {
        let diagnostics = format!("the body is longer than {MAX_BODY_BYTES} bytes, or its sender broke off");
        Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "too-long", &diagnostics)
    })
}

fn origin(method: &Method, headers: &HeaderMap, body: &Bytes) -> Result<Origin, Refused> {
    if *method == Method::GET || body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Origin::Profile);
    }
    // HealthLake contract, section 10, row 6.
    if body_type(headers) != BodyType::Json {
        let diagnostics = "the body's Content-Type is neither application/fhir+json nor application/json";
        return Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-supported", diagnostics));
    }
    let is_resource =
        serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|body| body.get("resourceType").is_some());
    Ok(if is_resource { Origin::Profile } else { Origin::HealthLake })
}

/// 202 with the address of the job, and for HealthLake's callers the stub (contract section 1.1).
fn started(view: &JobView, base: &str) -> Response {
    let location = format!("{base}/export/{}", view.id);
    let mut response = match view.origin {
        Origin::Profile => StatusCode::ACCEPTED.into_response(),
        Origin::HealthLake | Origin::Sdk => (StatusCode::ACCEPTED, Json(Stub::of(view))).into_response(),
    };
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::try_from(location) {
        headers.insert(header::CONTENT_LOCATION, location);
    }
    if view.separate_status {
        headers.insert("preference-applied", HeaderValue::from_static("respond-async, separate-export-status"));
    }
    response
}

/// What HealthLake answers; the order of the keys is its own (contract section 1.1).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stub<'v> {
    datastore_id: &'v str,
    job_status: &'static str,
    job_id: &'v str,
}

impl<'v> Stub<'v> {
    fn of(view: &'v JobView) -> Self {
        Self {
            datastore_id: view.datastore_id.as_str(),
            job_status: JobState::Submitted.as_str(),
            job_id: view.id.as_str(),
        }
    }
}
