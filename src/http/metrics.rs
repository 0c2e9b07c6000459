//! Numbers for Prometheus.

use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::Api;
use super::outcome::Refused;

/// Writes the numbers of the program's recorder in Prometheus' text format.
///
/// The recorder is the host's own: the router installs none.
#[derive(Clone)]
pub struct MetricsText(Arc<dyn Fn() -> String + Send + Sync>);

impl MetricsText {
    /// That of a recorder, such as `move || handle.render()` with a handle of `metrics-exporter-prometheus`.
    pub fn new(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(render))
    }
}

impl fmt::Debug for MetricsText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsText").finish_non_exhaustive()
    }
}

/// `GET /metrics`.
pub(super) async fn text(State(api): State<Api>) -> Result<Response, Refused> {
    let metrics =
        api.settings.metrics.as_ref().ok_or_else(|| Refused::not_found("this server publishes no numbers"))?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], (metrics.0)()).into_response())
}
