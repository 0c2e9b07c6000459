//! The job resource: one answer for HealthLake's callers and for those of the profile.

use std::time::Duration;

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use super::guard::Granted;
use super::outcome::{Refused, issue, outcome};
use super::properties::{self, Wire};
use super::{Api, address, date, files};
use crate::auth::Action;
use crate::job::{JobState, JobView, Manifest, Origin, OutputFile};
use crate::request::JobId;

/// Says how a poll's answer keeps the job's own status apart (Bulk Data Access IG 3.0.0).
const EXPORT_STATUS: &str = "x-export-status";
const PROGRESS: &str = "x-progress";

/// `GET /export/{job}`.
pub(super) async fn describe(
    State(api): State<Api>,
    granted: Granted,
    Path((datastore, job)): Path<(String, String)>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    granted.covers(Action::DescribeExportWithGet, &datastore)?;
    let view = find(&api, &granted, &datastore, &job).await?;
    let requested = address::requested(&api.settings, &headers, &uri);
    answer(&api, &granted, &view, address::base(&requested)).await
}

/// The job of an id in a data store, if the caller may see it.
pub(super) async fn find(api: &Api, granted: &Granted, datastore: &str, job: &str) -> Result<JobView, Refused> {
    let unknown = || Refused::not_found("there is no such export job");
    let id = JobId::new(job).map_err(|_| unknown())?;
    let view = api.service.describe(datastore, &id).await?;
    view.filter(|view| granted.sees(view)).ok_or_else(unknown)
}

async fn answer(api: &Api, granted: &Granted, view: &JobView, base: &str) -> Result<Response, Refused> {
    if !view.state.is_terminal() {
        return Ok(running(api, view));
    }
    let own_status = match (view.origin, view.state) {
        (Origin::Profile, JobState::Failed | JobState::CancelFailed) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::OK,
    };
    let status = if view.separate_status { StatusCode::OK } else { own_status };
    let mut response = if own_status == StatusCode::OK {
        (status, Json(body(api, granted, view, base).await?)).into_response()
    } else {
        failed(view, status)
    };
    let set = response.headers_mut();
    if view.separate_status {
        set.insert(EXPORT_STATUS, HeaderValue::from(own_status.as_u16()));
    }
    if let Some(expires) = api.service.readable_until(view, api.settings.signed_urls)
        && let Ok(expires) = HeaderValue::try_from(date::in_headers(expires.unix_seconds()))
    {
        set.insert(header::EXPIRES, expires);
    }
    if api.settings.signed_urls.is_some() {
        // URLs with signatures in them, which end before the files do: each look gives new ones.
        set.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

fn running(api: &Api, view: &JobView) -> Response {
    // No outcome here: some clients take its text for the next URL to ask.
    let body = Json(json!({"exportJobProperties": properties::of(view, Wire::Rest)}));
    let status = if view.separate_status { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    let seconds = retry_after(api.service.age(view), api.settings.retry_after_seconds);
    headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    if let Ok(progress) = HeaderValue::try_from(format!("{}% {}", view.percent(), view.state)) {
        headers.insert(PROGRESS, progress);
    }
    if view.separate_status {
        headers.insert(EXPORT_STATUS, HeaderValue::from(StatusCode::ACCEPTED.as_u16()));
    }
    response
}

/// As long as the job has lasted: who waits so never waits for longer than the job takes, but for the first second.
fn retry_after(age: Duration, most_seconds: u32) -> u32 {
    u32::try_from(age.as_secs()).unwrap_or(u32::MAX).max(1).min(most_seconds)
}

fn failed(view: &JobView, status: StatusCode) -> Response {
    let why = view.message.as_deref().unwrap_or("the server's log says why");
    let diagnostics = format!("the export ended {}: {why}", view.state);
    let mut response = (status, Json(outcome(&[issue("exception", &diagnostics, None)]))).into_response();
    let fhir = HeaderValue::from_static("application/fhir+json");
    response.headers_mut().insert(header::CONTENT_TYPE, fhir);
    response
}

/// The properties of a job that is over, with the manifest's fields at their side, in HealthLake's order.
#[derive(Serialize)]
struct Described {
    #[serde(rename = "exportJobProperties")]
    properties: Value,
    #[serde(flatten)]
    manifest: Option<Manifest>,
}

async fn body(api: &Api, granted: &Granted, view: &JobView, base: &str) -> Result<Described, Refused> {
    let mut manifest = view.manifest.clone();
    if let Some(manifest) = &mut manifest {
        // Where the source lies is the server's own business.
        manifest.extension.source = view.datastore_id.to_string();
        manifest.extension.skipped.clear();
        // Nor is it told how much there is of what the caller may not read.
        manifest.extension.ledger.retain(|row| granted.reads(row.resource_type.as_deref()));
        if !granted.reads(None) {
            // Sums over all types.
            manifest.extension.deletions = None;
            manifest.extension.warnings.clear();
        }
        if !["Group", "Patient"].into_iter().all(|name| granted.reads(Some(name))) {
            manifest.extension.cohort = None;
        }
        match view.origin {
            // The whole URL, as the profile wants it.
            Origin::Profile => {
                manifest.request.clone_from(&view.request_url);
                manifest.requires_access_token =
                    api.settings.access.guard().is_some() && api.settings.signed_urls.is_none();
                let lists = [&mut manifest.output, &mut manifest.error, &mut manifest.deleted];
                for file in lists.into_iter().flatten() {
                    match signed(api, view, file).await? {
                        Some(url) => file.url = url,
                        None => files::point_here(file, base, view.id.as_str()),
                    }
                }
            }
            Origin::HealthLake | Origin::Sdk => manifest.request = echo(&view.request_url, &manifest.request),
        }
    }
    Ok(Described { properties: properties::of(view, Wire::Rest), manifest })
}

async fn signed(api: &Api, view: &JobView, file: &OutputFile) -> Result<Option<String>, Refused> {
    let Some(lifetime) = api.settings.signed_urls else { return Ok(None) };
    Ok(api.service.signed_url(view, file, lifetime).await?)
}

/// The request as HealthLake echoes it: the URL that was asked, with the normalised query (contract section 1.2).
fn echo(request_url: &str, normalised: &str) -> String {
    let url = request_url.split('?').next().unwrap_or_default();
    let query = normalised.split_once('?').map_or("", |(_, query)| query);
    format!("{}?{query}", url.replace("%24", "$"))
}

/// `DELETE /export/{job}`.
pub(super) async fn delete(
    State(api): State<Api>,
    granted: Granted,
    Path((datastore, job)): Path<(String, String)>,
) -> Result<Response, Refused> {
    granted.covers(Action::CancelExportWithDelete, &datastore)?;
    let view = find(&api, &granted, &datastore, &job).await?;
    if view.origin == Origin::Profile {
        api.service.delete(&view).await?;
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    // HealthLake contract, section 10, rows 2 to 4.
    if !view.state.is_cancellable() || !api.service.cancel(&view, None).await? {
        return Err(Refused::not_supported());
    }
    let properties = json!({
        "jobId": view.id.as_str(),
        "jobStatus": JobState::CancelSubmitted.as_str(),
        "datastoreId": view.datastore_id.as_str(),
    });
    Ok((StatusCode::ACCEPTED, Json(json!({"exportJobProperties": properties}))).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_young_job_is_asked_for_again_soon_and_an_old_one_as_it_is_set() {
        for (age_seconds, most_seconds, expected) in
            [(0, 5, 1), (1, 5, 1), (2, 5, 2), (5, 5, 5), (6, 5, 5), (u64::MAX, 120, 120), (0, 1, 1), (9, 0, 0)]
        {
            assert_eq!(retry_after(Duration::from_secs(age_seconds), most_seconds), expected, "{age_seconds}");
        }
    }
}
