//! A job that is large enough for parts of the size that real stores want: objects of parts, small ones, an error report.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use fhir_export::destination::{Destination, MIN_PART_BYTES, MemoryDestination};
use fhir_export::job::{Config, Exporter, JobHandle, JobReport, JobState, JobStore};
use fhir_export::request::{DatastoreId, ExportRequest, Level};
use fhir_export::source::Source;
use fhir_export::source::memory::{Gate, MemoryRange, MemorySource};

use super::exported::Exported;

/// Bytes of the range of the largest type: two parts of 8 MiB and a rest.
pub(crate) const LARGE_BYTES: usize = 18 << 20;

/// Longer than any job here takes, unless it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(120);

static TEXTS: LazyLock<Vec<(&'static str, Bytes)>> = LazyLock::new(|| {
    let text = |types: &[&str], bytes: usize| {
        let mut text = String::with_capacity(bytes + 2000);
        for id in 0.. {
            if text.len() >= bytes {
                break;
            }
            let (name, filler) = (types[id % types.len()], "x".repeat(200 + id * 37 % 900));
            writeln!(text, "{{\"resourceType\":\"{name}\",\"id\":\"{id}\",\"note\":\"{id:08} {filler}\"}}").unwrap();
        }
        Bytes::from(text)
    };
    vec![
        ("observations", text(&["Observation"], LARGE_BYTES)),
        ("mixed", text(&["Patient", "Claim"], 20 << 20)),
        ("few", text(&["Goal", "Slot", "Device"], 20_000)),
        ("odd", Bytes::from_static(b"not a resource\n")),
    ]
});

pub(crate) fn source() -> MemorySource {
    ranges().fold(MemorySource::new(), MemorySource::with)
}

/// The same, but the first range waits before a byte.
pub(crate) fn source_stalled_at(offset: usize, gate: &Gate) -> MemorySource {
    let stalled = ranges().enumerate().map(|(index, range)| match index {
        0 => range.stalled_at(offset, gate),
        _ => range,
    });
    stalled.fold(MemorySource::new(), MemorySource::with)
}

/// The same, but each of the first ranges waits for a gate of its own near its beginning.
pub(crate) fn source_stalled_by(gates: &[Gate]) -> MemorySource {
    let stalled = ranges().enumerate().map(|(index, range)| match gates.get(index) {
        Some(gate) => range.stalled_at(10_000, gate),
        None => range,
    });
    stalled.fold(MemorySource::new(), MemorySource::with)
}

fn ranges() -> impl Iterator<Item = MemoryRange> {
    TEXTS.iter().map(|(name, text)| MemoryRange::lines(*name, text.clone()).in_chunks_of(1 << 20))
}

pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.budget_bytes = 64 << 20;
    config.threads = 2;
    // The server in this process keeps keys in names of files, which have room for so much.
    config.datastore_id = Some(DatastoreId::new("d").unwrap());
    config
}

pub(crate) fn exporter(
    source: impl Source + 'static,
    destination: Arc<dyn Destination>,
    store: Option<Arc<dyn JobStore>>,
    config: Config,
) -> Exporter {
    let mut builder = Exporter::builder().source(Arc::new(source)).destination(destination).config(config);
    if let Some(store) = store {
        builder = builder.job_store(store);
    }
    builder.build().unwrap()
}

pub(crate) fn start(exporter: &Exporter) -> JobHandle {
    exporter.start(ExportRequest::new(Level::System)).unwrap()
}

pub(crate) async fn join(job: JobHandle) -> JobReport {
    tokio::time::timeout(HANGS_AFTER, job.join()).await.expect("the job ends")
}

/// Runs the job to its end and compares it with one that nothing disturbed.
pub(crate) async fn run_whole(destination: Arc<dyn Destination>) -> Exported {
    let report = join(start(&exporter(source(), Arc::clone(&destination), None, config()))).await;
    whole(report, destination.as_ref(), config()).await
}

/// Reads back what a job left, and compares it with what one of these settings leaves that nothing disturbed.
pub(crate) async fn whole(report: JobReport, destination: &dyn Destination, config: Config) -> Exported {
    assert_eq!(report.state, JobState::CompletedWithErrors, "{:?}", report.error);
    let exported = Exported::read(report, destination).await;
    let memory = MemoryDestination::new().with_min_part_bytes(MIN_PART_BYTES);
    let undisturbed = exporter(source(), Arc::new(memory.clone()), None, config);
    let expected = Exported::read(join(start(&undisturbed)).await, &memory).await;
    exported.assert_well_formed();
    assert!(exported.objects() == expected.objects(), "the same objects");
    assert_eq!(exported.quarantine(), expected.quarantine());
    assert_eq!(exported.manifest().extension.ledger, expected.manifest().extension.ledger);
    exported
}

/// Objects of the job, the error report included, and those of them that are sent in parts.
pub(crate) const OBJECTS: usize = 7;
pub(crate) const OBJECTS_OF_PARTS: usize = 3;
