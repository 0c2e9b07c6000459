//! The numbers of this process, for Prometheus.

use std::convert::Infallible;
use std::time::Duration;

use fhir_export::http::MetricsText;
use fhir_export::{Error, ErrorKind, Result, metrics};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// From a request that a fast store takes at once to one that was repeated for minutes.
const SECONDS: [f64; 12] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0];

/// How often what was recorded is put into its buckets.
const BETWEEN_UPKEEPS: Duration = Duration::from_secs(5);

/// The recorder of the process.
#[derive(Clone)]
pub(super) struct Recorder(PrometheusHandle);

impl Recorder {
    /// Installs the recorder, with a description of every metric.
    ///
    /// # Errors
    /// When there is one already.
    pub(super) fn install() -> Result<Self> {
        let failed = |error| Error::new(ErrorKind::Internal, "the metrics can't be recorded").caused_by(error);
        let seconds = Matcher::Suffix("_seconds".to_owned());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(seconds, &SECONDS).map_err(failed)?;
        let handle = builder.install_recorder().map_err(failed)?;
        metrics::describe();
        Ok(Self(handle))
    }

    pub(super) fn text(&self) -> MetricsText {
        let handle = self.0.clone();
        MetricsText::new(move || handle.render())
    }

    /// Keeps what was recorded small, though nobody asks for it.
    pub(super) async fn keep_small(&self) -> Infallible {
        loop {
            tokio::time::sleep(BETWEEN_UPKEEPS).await;
            self.0.run_upkeep();
        }
    }
}
