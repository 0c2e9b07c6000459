//! One export by the engine, through the library, as the command line would run it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fhir_export::destination::s3::{PartChecksum, S3Options, S3Uri};
use fhir_export::destination::{Destination, LocalDestination, Retrying};
use fhir_export::fhir::ResourceType;
use fhir_export::job::{Config, Exporter, JobReport, JobState, Validation};
use fhir_export::request::{ExportRequest, Level, Period, TimeBound, TypeSelection};
use fhir_export::source::ndjson::NdjsonSource;
use fhir_export::writer::Compression;

use crate::arguments::Arguments;
use crate::baseline;
use crate::measure::{Sample, Stopwatch};
use crate::watched::{Dropping, Watched};

/// Runs one export and tells what it cost.
///
/// `--source FOLDER --to drop|http://HOST:PORT|FOLDER [--since T] [--level L] [--types A,B] [--threads N]
/// [--validate full|structure] [--gzip LEVEL] [--memory-mib N] [--checksum off] [--signed yes]`
pub fn run(arguments: &Arguments, begun: Instant) -> fhir_export::Result<Sample> {
    let source = Path::new(arguments.required("source"));
    let threads = arguments.number("threads").unwrap_or(2);
    let runtime = baseline::runtime(threads).map_err(|error| fhir_export::Error::io("no runtime", error))?;
    let watch = Stopwatch::start();
    let watched = Watched::new(destination(arguments)?);
    let seen = watched.seen();
    let report = runtime.block_on(export(arguments, source, threads, Arc::new(watched)))?;
    let bytes_out = report.objects.iter().map(|object| object.count.bytes).sum();
    let bytes_in = bytes_of(source);
    let mut sample = watch.stop(bytes_in, bytes_out);
    sample.uncopied_bytes = seen.uncopied_bytes();
    sample.first_durable_seconds =
        seen.first_durable().map_or(0.0, |first| first.saturating_duration_since(begun).as_secs_f64());
    Ok(sample)
}

/// The median time of a job in which so many more types have a file of one line, and none of them is kept.
pub fn empty_types(folder: &Path, types: usize) -> std::io::Result<Duration> {
    let source = folder.join(format!("empty-{types}"));
    std::fs::create_dir_all(&source)?;
    let patient = r#"{"resourceType":"Patient","id":"1","meta":{"lastUpdated":"2024-01-01T00:00:00Z"}}"#;
    std::fs::write(source.join("Patient.ndjson"), patient)?;
    let names = ResourceType::all_r4().filter(|name| !matches!(name.as_str(), "Patient" | "Group"));
    for name in names.take(types) {
        let line = format!(r#"{{"resourceType":"{name}","id":"1","meta":{{"lastUpdated":"2020-01-01T00:00:00Z"}}}}"#);
        std::fs::write(source.join(format!("{name}.ndjson")), line)?;
    }
    let arguments = Arguments::from([("since", crate::synth::SINCE), ("to", "drop")]);
    let runtime = baseline::runtime(2)?;
    let mut walls = Vec::new();
    for _ in 0..21 {
        let begun = Instant::now();
        let destination = Arc::new(Dropping::default());
        runtime.block_on(export(&arguments, &source, 2, destination)).map_err(std::io::Error::other)?;
        walls.push(begun.elapsed());
    }
    walls.sort_unstable();
    Ok(walls[walls.len() / 2])
}

fn bytes_of(source: &Path) -> u64 {
    baseline::files(source).unwrap_or_default().iter().map(|(_, size)| size).sum()
}

/// Runs a job to its end.
pub async fn export(
    arguments: &Arguments,
    source: &Path,
    threads: usize,
    destination: Arc<dyn Destination>,
) -> fhir_export::Result<JobReport> {
    let exporter = Exporter::builder()
        .source(Arc::new(NdjsonSource::folder(source)))
        .destination(destination)
        .config(config(arguments, threads))
        .build()?;
    let mut report = exporter.start(request(arguments))?.join().await;
    match report.error.take() {
        Some(error) => Err(error),
        None if report.state == JobState::Completed => Ok(report),
        None => panic!("the job ended as {}", report.state),
    }
}

fn config(arguments: &Arguments, threads: usize) -> Config {
    let mut config = Config::default();
    config.validation = match arguments.value("validate").unwrap_or("full") {
        "full" => Validation::Full,
        "structure" => Validation::Structure,
        other => panic!("--validate {other}"),
    };
    config.threads = threads;
    if let Some(mebibytes) = arguments.number("memory-mib") {
        config.budget_bytes = mebibytes << 20;
    }
    if let Some(level) = arguments.number("gzip") {
        config.compression = Compression::Gzip { level: u32::try_from(level).unwrap() };
    }
    config
}

fn request(arguments: &Arguments) -> ExportRequest {
    let level = Level::parse(arguments.value("level").unwrap_or("system")).unwrap();
    let mut request = ExportRequest::new(level);
    if let Some(since) = arguments.value("since") {
        let since = TimeBound::parse(since).unwrap();
        request = request.with_period(Period::new(Some(since), None).unwrap());
    }
    if let Some(types) = arguments.value("types") {
        let types = types.split(',').map(|name| ResourceType::r4(name).unwrap());
        request = request.with_types(TypeSelection::only(types).unwrap());
    }
    request
}

fn destination(arguments: &Arguments) -> fhir_export::Result<Arc<dyn Destination>> {
    let to = arguments.required("to");
    if to == "drop" {
        return Ok(Arc::new(Dropping::default()));
    }
    if !to.starts_with("http") {
        return Ok(Arc::new(LocalDestination::new(Path::new(to))?));
    }
    let mut options = S3Options::new(S3Uri::parse("s3://bench/engine")?)
        .with_endpoint(to)
        .with_access_key("AKIDEXAMPLE", "wJalrEXAMPLEKEY")
        .with_signed_payload(arguments.value("signed").is_some());
    if arguments.value("checksum") == Some("off") {
        options = options.with_checksum(PartChecksum::Off);
    }
    Ok(Arc::new(Retrying::new(Arc::new(options.open()?))))
}
