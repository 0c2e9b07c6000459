//! The plan: what the arguments mean, checked, with source and destination opened but not asked for anything.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fhir_export::destination::open as destination;
use fhir_export::import::Loading;
use fhir_export::job::{BaseUrls, Compression, Config, Layout, OnBad, OnCancel, Split, Validation, VerifyOptions};
use fhir_export::request::{CommandLine, DatastoreId, Draft, ExportRequest};
use fhir_export::source::Source;
use fhir_export::source::open::{self, whole_uri, without_password};
use sha2::{Digest, Sha256};

use super::args::{ImportArgs, OutputArgs, ResourceArgs, RunArgs, StoreArgs, VerifyArgs};
use super::faults::Faults;
use super::places::{CHECKSUMS, Places, is_postgres, is_s3};
use super::state::State;
use super::values::{choice, memory_size, number, seconds, size};

const DEFAULT_GZIP_LEVEL: u32 = 6;

/// More threads than that are a slip of the finger.
const MOST_THREADS: u64 = 1024;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgressKind {
    Auto,
    Bar,
    Plain,
    Json,
    None,
}

/// An export, ready to run.
#[derive(Debug)]
pub(crate) struct RunPlan {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) destination: destination::Opened,
    pub(crate) request: ExportRequest,
    pub(crate) config: Config,
    pub(crate) progress: ProgressKind,
    pub(crate) state: State,
    pub(crate) places: Places,
    /// Source and destination as they were typed, for events.
    pub(crate) from: String,
    pub(crate) to: String,
}

impl RunPlan {
    /// Makes a plan of the arguments.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(crate) fn new(args: &RunArgs) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let request = request(&mut faults, args);
        let config = config(&mut faults, args);
        let progress = progress(&mut faults, &args.behaviour.progress);
        let lag = lag(&mut faults, args);
        let places = Places::of(args, lag);
        let source = faults.take("--source", places.open_source());
        let destination = open_destination(&mut faults, args, &places);
        match (request, config, progress, source, destination) {
            (Some(request), Some(config), Some(progress), Some(source), Some(destination)) if faults.is_empty() => {
                Ok(Self {
                    source,
                    destination,
                    request,
                    config,
                    progress,
                    state: State::of_run(args.behaviour.state.as_deref(), args.behaviour.no_state),
                    places,
                    from: without_password(&args.source),
                    to: args.to.clone(),
                })
            }
            _ => Err(faults),
        }
    }
}

pub(crate) fn progress(faults: &mut Faults, text: &str) -> Option<ProgressKind> {
    let kinds = [
        ("auto", ProgressKind::Auto),
        ("bar", ProgressKind::Bar),
        ("plain", ProgressKind::Plain),
        ("json", ProgressKind::Json),
        ("none", ProgressKind::None),
    ];
    choice(faults, "--progress", text, &kinds)
}

fn request(faults: &mut Faults, args: &RunArgs) -> Option<ExportRequest> {
    let asked = &args.request;
    let line = CommandLine {
        level: &asked.level,
        types: &asked.types,
        since: asked.since.as_deref(),
        until: asked.until.as_deref(),
        security: &asked.security,
        tags: &asked.tags,
        patients: &asked.patients,
    };
    match Draft::from_command_line(&line).finish() {
        Ok(accepted) => Some(accepted.request),
        Err(refusal) => {
            refusal.faults().iter().for_each(|fault| faults.say(fault.to_string()));
            None
        }
    }
}

fn lag(faults: &mut Faults, args: &RunArgs) -> Option<Duration> {
    let lag = seconds(faults, "--lag", args.request.lag.as_deref()?)?;
    if !is_postgres(&args.source) {
        faults.say(format!("--lag is for postgres://, and the source is {:?}", args.source));
    }
    Some(lag)
}

fn config(faults: &mut Faults, args: &RunArgs) -> Option<Config> {
    let mut config = Config::default();
    let behaviour = &args.behaviour;
    let on_bad = [("quarantine", OnBad::Quarantine), ("fail", OnBad::Fail)];
    set(&mut config.on_bad, choice(faults, "--on-bad", &behaviour.on_bad, &on_bad));
    let validation = [("full", Validation::Full), ("structure", Validation::Structure)];
    set(&mut config.validation, choice(faults, "--validate", &behaviour.validate, &validation));
    set(&mut config.on_cancel, choice(faults, "--on-cancel", &behaviour.on_cancel, &OnCancel::WORDS));
    set(&mut config.seal_timeout, seconds(faults, "--seal-timeout", &behaviour.seal_timeout));
    set(&mut config.base_urls, faults.take("--base-url", BaseUrls::new(&args.request.base_urls)));
    set_output(faults, &mut config, &args.output);
    set_resources(faults, &mut config, &args.resources);
    config.datastore_id = datastore_id(faults, args.output.datastore_id.as_deref(), &args.source);
    // Only of values that were read: else it would speak of what nobody typed.
    if !faults.is_empty() {
        return None;
    }
    match config.check() {
        Ok(()) => Some(config),
        Err(error) => {
            faults.say(error.to_string());
            None
        }
    }
}

fn set_output(faults: &mut Faults, config: &mut Config, args: &OutputArgs) {
    let layouts = [("healthlake", Layout::HealthLake), ("flat", Layout::Flat)];
    set(&mut config.layout, choice(faults, "--layout", &args.layout, &layouts));
    let level = args.gzip_level.as_deref().map(|text| number(faults, "--gzip-level", text, 1..=9));
    let chosen = level.flatten().and_then(|level| u32::try_from(level).ok()).unwrap_or(DEFAULT_GZIP_LEVEL);
    let compressions = [("none", Compression::None), ("gzip", Compression::Gzip { level: chosen })];
    set(&mut config.compression, choice(faults, "--compress", &args.compress, &compressions));
    if level.is_some() && config.compression == Compression::None {
        faults.say("--gzip-level is for --compress gzip");
    }
    config.split = Split {
        bytes: args.split_bytes.as_deref().and_then(|text| positive_size(faults, "--split-bytes", text)),
        resources: args
            .split_resources
            .as_deref()
            .and_then(|text| number(faults, "--split-resources", text, 1..=u64::MAX)),
    };
}

fn set_resources(faults: &mut Faults, config: &mut Config, args: &ResourceArgs) {
    set(&mut config.budget_bytes, memory_size(faults, "--memory", &args.memory));
    config.line_limit_bytes = args.line_limit.as_deref().and_then(|text| memory_size(faults, "--line-limit", text));
    config.fixed_part_bytes = args.part_size.as_deref().and_then(|text| memory_size(faults, "--part-size", text));
    set(&mut config.cohort_limit_patients, count(faults, "--cohort-limit", args.cohort_limit.as_deref(), u64::MAX));
    set(&mut config.threads, threads(faults, args.threads.as_deref()));
    set(&mut config.spill_limit_bytes, size(faults, "--spill-limit", &args.spill_limit));
    if let Some(folder) = &args.spill_dir {
        config.spill_folder = PathBuf::from(folder);
        if !config.spill_folder.is_dir() {
            faults.value("--spill-dir", folder, "isn't a folder", "a folder that is there");
        }
    }
}

fn positive_size(faults: &mut Faults, name: &str, text: &str) -> Option<u64> {
    let bytes = size(faults, name, text)?;
    if bytes == 0 {
        faults.value(name, text, "is nothing", "1 byte or more");
    }
    Some(bytes)
}

fn threads(faults: &mut Faults, text: Option<&str>) -> Option<usize> {
    count(faults, "--threads", text, MOST_THREADS)
}

/// A number of things, from one.
fn count(faults: &mut Faults, name: &str, text: Option<&str>, most: u64) -> Option<usize> {
    let count = number(faults, name, text?, 1..=most)?;
    usize::try_from(count).ok()
}

/// Sets what was given.
fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// The id that was given, or one made of the source's URI: the same source has the same id, and it looks like
/// HealthLake's.
/// The id that was given, or one made of the source's URI.
pub(crate) fn datastore_id(faults: &mut Faults, given: Option<&str>, source: &str) -> Option<DatastoreId> {
    let text = given.map(str::to_owned).unwrap_or_else(|| {
        let digest = Sha256::digest(whole_uri(source).as_bytes());
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    });
    DatastoreId::new(&text).map_err(|fault| faults.say(fault.at("--datastore-id").to_string())).ok()
}

fn open_destination(faults: &mut Faults, args: &RunArgs, places: &Places) -> Option<destination::Opened> {
    if let Some(text) = &args.checksum {
        choice(faults, "--checksum", text, &CHECKSUMS);
    }
    if !is_s3(&args.to) {
        for (name, is_given) in [
            ("--kms-key", args.kms_key.is_some()),
            ("--checksum", args.checksum.is_some()),
            ("--endpoint", args.store.endpoint.is_some() && !is_s3(&args.source)),
            ("--region", args.store.region.is_some() && !is_s3(&args.source)),
            ("--ca-file", args.store.ca_file.is_some() && !is_s3(&args.source)),
        ] {
            if is_given {
                faults.say(format!("{name} is for s3://, and the destination is {:?}", args.to));
            }
        }
    }
    faults.take("--to", places.open_destination())
}

impl StoreArgs {
    /// How a destination is reached.
    pub(crate) fn of_destination(&self) -> destination::Settings {
        let Self { endpoint, region, ca_file } = self.clone();
        let ca_file = ca_file.map(PathBuf::from);
        destination::Settings { endpoint, region, ca_file, ..destination::Settings::default() }
    }

    /// How the source of this URI is reached.
    pub(crate) fn of_source(&self, uri: &str) -> open::Settings {
        let Self { endpoint, region, ca_file } = self.clone();
        let (ca_file, password) = (ca_file.map(PathBuf::from), open::Password::of(uri));
        open::Settings { endpoint, region, ca_file, password, ..open::Settings::default() }
    }
}

/// An import, ready to run.
#[derive(Debug)]
pub(crate) struct ImportPlan {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) to: String,
    /// Of the target, if it was typed.
    pub(crate) password: open::Password,
    pub(crate) loading: Loading,
    pub(crate) progress: ProgressKind,
}

impl ImportPlan {
    /// Makes a plan of the arguments.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(crate) fn new(args: &ImportArgs) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let mut loading = Loading::default();
        set(&mut loading.threads, threads(&mut faults, args.threads.as_deref()));
        let progress = progress(&mut faults, &args.progress);
        let settings = open::Settings { scan_all: true, ..args.store.of_source(&args.from) };
        let source = faults.take("--from", open::from_uri(&whole_uri(&args.from), &settings));
        match (source, progress) {
            (Some(source), Some(progress)) if faults.is_empty() => {
                Ok(Self { source, to: whole_uri(&args.to), password: open::Password::of(&args.to), loading, progress })
            }
            _ => Err(faults),
        }
    }
}

/// A verification, ready to run.
#[derive(Debug)]
pub(crate) struct VerifyPlan {
    /// The folder that the manifest lies in.
    pub(crate) destination: destination::Opened,
    /// The manifest's name in it.
    pub(crate) manifest: String,
    pub(crate) options: VerifyOptions,
}

impl VerifyPlan {
    /// Makes a plan of the arguments.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(crate) fn new(args: &VerifyArgs) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let mut options = VerifyOptions::default();
        options.duplicates = args.duplicates;
        set(&mut options.threads, threads(&mut faults, args.threads.as_deref()));
        let (folder, name) = folder_and_name(&args.manifest);
        let manifest = if args.manifest.starts_with("file:") { decoded(name) } else { name.to_owned() };
        if manifest.is_empty() {
            faults.value("MANIFEST", &args.manifest, "names no file", "the path or URI of a manifest");
        }
        let is_s3 = is_s3(&args.manifest);
        let store = &args.store;
        if !is_s3 && (store.endpoint.is_some() || store.region.is_some() || store.ca_file.is_some()) {
            faults.say("--endpoint, --region and --ca-file are for s3://");
        }
        let settings = if is_s3 { args.store.of_destination() } else { destination::Settings::default() };
        match faults.take("MANIFEST", destination::from_uri(folder, &settings)) {
            Some(destination) if faults.is_empty() => Ok(Self { destination, manifest, options }),
            _ => Err(faults),
        }
    }
}

/// Splits a path or URI before its last segment.
fn folder_and_name(uri: &str) -> (&str, &str) {
    match uri.rsplit_once('/') {
        None => (".", uri),
        Some(("", name)) => ("/", name),
        Some((folder, name)) => (folder, name),
    }
}

/// A segment of a `file:` URI as the file's name; what isn't UTF-8 is no key, and not found.
fn decoded(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_lies_in_a_folder() {
        for (uri, folder, name) in [
            ("x.manifest.json", ".", "x.manifest.json"),
            ("/x.json", "/", "x.json"),
            ("out/x.json", "out", "x.json"),
            ("s3://bucket/x.json", "s3://bucket", "x.json"),
            ("file:///srv/a%20b/x.json", "file:///srv/a%20b", "x.json"),
        ] {
            assert_eq!(folder_and_name(uri), (folder, name));
        }
    }
}
