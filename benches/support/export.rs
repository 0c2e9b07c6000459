//! One export after the other, each measured.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fhir_export::destination::Destination;
use fhir_export::job::{Config, Exporter, ExporterBuilder, JobReport, JobState};
use fhir_export::request::{ExportRequest, Level};
use fhir_export::source::Source;
use tokio::runtime::Runtime;

use super::Meter;

/// A runtime as the command line uses it: one thread a core, beside the CPU pool's.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

/// The folder of real data, if it is there: `FHIR_EXPORT_REAL_DATA`, or `../shared/data/synthea-r4` beside the checkout.
pub(crate) fn real_data() -> Option<PathBuf> {
    let named = std::env::var_os("FHIR_EXPORT_REAL_DATA").map(PathBuf::from);
    let folder =
        named.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/synthea-r4")));
    folder.is_dir().then_some(folder)
}

/// The default settings but for some.
pub(crate) fn configured(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

/// An export that can be run again and again.
#[derive(Debug)]
pub(crate) struct Export {
    runtime: Runtime,
    exporter: Exporter,
    request: ExportRequest,
    /// Bytes that one run reads.
    bytes: u64,
    /// What was measured so far.
    pub(crate) meter: Meter,
}

impl Export {
    /// An export of everything from a source of so many bytes.
    pub(crate) fn new(source: impl Source + 'static, bytes: u64, config: Config) -> Self {
        Self::of(Exporter::builder().source(Arc::new(source)).config(config), bytes)
    }

    /// An export of everything with an exporter that is put together elsewhere.
    pub(crate) fn of(builder: ExporterBuilder, bytes: u64) -> Self {
        let exporter = builder.build().unwrap();
        let request = ExportRequest::new(Level::System);
        Self { runtime: runtime(), exporter, request, bytes, meter: Meter::default() }
    }

    /// Asks for something else than everything.
    pub(crate) fn asking(mut self, request: ExportRequest) -> Self {
        self.request = request;
        self
    }

    /// Runs to the end and tells how long it took.
    pub(crate) fn run(&mut self, destination: impl Destination + 'static) -> (JobReport, Duration) {
        let (runtime, exporter, request) = (&self.runtime, &self.exporter, self.request.clone());
        let destination: Arc<dyn Destination> = Arc::new(destination);
        let (report, wall) = self.meter.run(self.bytes, || {
            runtime.block_on(async { exporter.start_to(request, destination).unwrap().join().await })
        });
        assert!(
            matches!(report.state, JobState::Completed | JobState::CompletedWithErrors),
            "{:?}: {:?}",
            report.state,
            report.error
        );
        (report, wall)
    }
}
