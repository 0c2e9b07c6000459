//! A job that is small and does everything: several types, objects in parts and in one piece, an error report.

use std::sync::Arc;
use std::time::Duration;

use fhir_export::destination::{Destination, MemoryDestination};
use fhir_export::job::{Config, Exporter, JobReport};
use fhir_export::request::{ExportRequest, Level};
use fhir_export::source::Source;
use fhir_export::source::memory::{MemoryRange, MemorySource};
use fhir_export::writer::{Compression, PartSizing};

use super::exported::Exported;

/// Smallest part of the small job, in bytes.
const PART_BYTES: usize = 200;

/// Longer than any job here takes, unless it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// Two ranges of three types, a bad line in each.
pub(crate) fn source() -> MemorySource {
    let patient = |id: usize| format!(r#"{{"resourceType":"Patient","id":"p{id}"}}"#);
    let observation = |id: usize| {
        format!(r#"{{"resourceType":"Observation","id":"o{id}","subject":{{"reference":"Patient/p{}"}}}}"#, id % 10)
    };
    let mut first: Vec<String> = (0..10).map(patient).collect();
    first.insert(4, "not a resource".to_owned());
    first.insert(7, r#"{"resourceType":"Binary","id":"b"}"#.to_owned());
    let second: Vec<String> = (0..12).flat_map(|id| [observation(id), patient(id + 10)]).collect();
    MemorySource::new()
        .with(MemoryRange::lines("first", first.join("\n")).in_chunks_of(100))
        .with(MemoryRange::lines("second", format!("{}\n[]\n", second.join("\n"))).in_chunks_of(300))
}

pub(crate) fn destination() -> MemoryDestination {
    MemoryDestination::new().with_min_part_bytes(PART_BYTES)
}

pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.budget_bytes = 64 << 20;
    config.threads = 2;
    config.block_bytes = 100;
    config.read_ahead = 2;
    config.small_parts = Some(PartSizing::FollowsOffset { least_bytes: PART_BYTES, largest_bytes: 1 << 20 });
    config
}

/// The same with compressed objects.
pub(crate) fn compressing_config() -> Config {
    let mut config = config();
    config.compression = Compression::Gzip { level: 6 };
    config.member_bytes = 150;
    config
}

/// Runs a job of all data to its end.
pub(crate) async fn run(source: impl Source + 'static, destination: Arc<dyn Destination>, config: Config) -> JobReport {
    let exporter =
        Exporter::builder().source(Arc::new(source)).destination(destination).config(config).build().unwrap();
    let job = exporter.start(ExportRequest::new(Level::System)).unwrap();
    tokio::time::timeout(HANGS_AFTER, job.join()).await.expect("the job ends")
}

/// The small job, undisturbed.
pub(crate) async fn undisturbed(config: Config) -> Exported {
    let destination = destination();
    let report = run(source(), Arc::new(destination.clone()), config).await;
    Exported::read(report, &destination).await
}
