//! Real files, read and written as users do it, against the naive exporter: all levels, types and times.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fhir_export::ErrorKind;
use fhir_export::clock::FixedClock;
use fhir_export::destination::LocalDestination;
use fhir_export::fhir::ResourceType;
use fhir_export::job::{Config, Exporter, JobReport, JobState};
use fhir_export::request::{ExportRequest, Level, Period, ResourceId, TimeBound, TypeSelection};
use fhir_export::resource::reference::BaseUrls;
use fhir_export::source::NdjsonSource;
use flate2::read::MultiGzDecoder;

use crate::support::exported::Exported;
use crate::support::naive::{self, NaiveRequest, Refusal};
use crate::support::{Files, files_below, repository};

/// 2025-01-01T00:00:00Z, the naive exporter's transaction time.
const TRANSACTION_TIME: Duration = Duration::from_secs(1_735_689_600);

/// Of a larger file only so much is compared with the naive exporter, which is slow.
const MOST_BYTES_A_FILE: usize = 400 << 10;

/// Files that are taken whole: few patients in them would leave nothing in any cohort.
const WHOLE: [&str; 2] = ["Patient.ndjson.gz", "Group.ndjson.gz"];

/// What is asked for, in words.
#[derive(Clone, Copy, Debug)]
struct Asked<'a> {
    level: &'a str,
    types: &'a str,
    since: &'a str,
    until: &'a str,
}

const EVERYTHING: Asked<'_> = Asked { level: "system", types: "", since: "", until: "" };

impl Asked<'_> {
    fn types(&self) -> Option<BTreeSet<String>> {
        (!self.types.is_empty()).then(|| self.types.split(',').map(str::to_owned).collect())
    }

    fn request(&self) -> ExportRequest {
        let types = match self.types() {
            None => TypeSelection::All,
            Some(names) => TypeSelection::only(names.iter().map(|name| ResourceType::new(name).unwrap())).unwrap(),
        };
        let bound = |text: &str| (!text.is_empty()).then(|| TimeBound::parse(text).unwrap());
        let period = Period::new(bound(self.since), bound(self.until)).unwrap();
        let level = match self.level {
            "system" => Level::System,
            "patient" => Level::Patient,
            id => Level::Group { id: ResourceId::new(id).unwrap() },
        };
        ExportRequest::new(level).with_types(types).with_period(period)
    }

    fn naive_request(&self, files: &Files, base_urls: &[&str]) -> NaiveRequest {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let level = match self.level {
            "system" => naive::Level::System,
            "patient" => naive::Level::Patient,
            id => naive::Level::Group(id.to_owned()),
        };
        let types = self.types();
        let unopened = files.iter().map(|(name, _)| name).filter(|name| match (&types, declared(name)) {
            (Some(asked), Some(declared)) => !asked.contains(declared.as_str()),
            _ => false,
        });
        NaiveRequest {
            types: types.clone(),
            since: text(self.since),
            until: text(self.until),
            base_urls: base_urls.iter().map(|&base| base.to_owned()).collect(),
            unopened: unopened.cloned().collect(),
            ..NaiveRequest::new(level)
        }
    }
}

/// The type that a file's name begins with.
fn declared(name: &str) -> Option<ResourceType> {
    let file_name = name.rsplit('/').next().unwrap();
    ResourceType::r4(file_name.split(|letter: char| !letter.is_ascii_alphabetic()).next()?)
}

/// A folder, its files, and the bases of the server that they come from.
struct Data {
    folder: PathBuf,
    files: Files,
    base_urls: &'static [&'static str],
    /// Groups that are asked for, one after the other.
    groups: Vec<String>,
    _copy: Option<tempfile::TempDir>,
}

impl Data {
    fn of_repository(folder: &str, groups: &[&str]) -> Self {
        let folder = repository("testdata").join(folder);
        let files = files_below(&folder, |path| path.contains(".ndjson"));
        let groups = groups.iter().map(|&id| id.to_owned()).collect();
        Self { folder, files, base_urls: &["https://fhir.example.org/r4"], groups, _copy: None }
    }

    /// A folder beside the checkout, with large files cut; `None`, and a line that says so, if it isn't there.
    fn shared(name: &str, groups: &[&str]) -> Option<Self> {
        let folder = shared(name)?;
        let copy = tempfile::tempdir().unwrap();
        for (name, bytes) in files_below(&folder, |path| path.ends_with(".ndjson.gz")) {
            if WHOLE.contains(&name.as_str()) {
                fs::write(copy.path().join(&name), bytes).unwrap();
            } else {
                fs::write(copy.path().join(name.trim_end_matches(".gz")), beginning(&bytes)).unwrap();
            }
        }
        let files = files_below(copy.path(), |_| true);
        let groups = groups.iter().map(|&id| id.to_owned()).collect();
        Some(Self { folder: copy.path().to_path_buf(), files, base_urls: &[], groups, _copy: Some(copy) })
    }

    /// Exports what is asked for and compares all of it.
    async fn check(&self, asked: Asked<'_>) {
        let naive = naive::export(&self.files, &asked.naive_request(&self.files, self.base_urls));
        let target = tempfile::tempdir().unwrap();
        let destination = LocalDestination::new(target.path()).unwrap();
        let report = export(&self.folder, destination.clone(), asked, self.base_urls).await;
        match naive {
            Err(refusal) => assert_refused(&report, refusal, asked),
            Ok(naive) => {
                let exported = Exported::read(report, &destination).await;
                exported.assert_well_formed();
                exported.assert_same_as(&naive, |_| false, &asked.types().unwrap_or_default());
            }
        }
    }

    /// Everything at each level, then some types, then some times.
    async fn check_all(&self, types: &str) {
        let levels: Vec<&str> =
            ["system", "patient"].into_iter().chain(self.groups.iter().map(String::as_str)).collect();
        for &level in &levels {
            self.check(Asked { level, ..EVERYTHING }).await;
        }
        for &level in levels.iter().take(4) {
            self.check(Asked { level, types, ..EVERYTHING }).await;
            self.check(Asked { level, since: "2023-06-15T12:30:00.5+02:00", ..EVERYTHING }).await;
            let (since, until) = ("2020-01-01T00:00:00Z", "2024-01-01T00:00:00Z");
            self.check(Asked { level, types, since, until }).await;
        }
    }
}

fn assert_refused(report: &JobReport, refusal: Refusal, asked: Asked<'_>) {
    let kind = report.error.as_ref().unwrap_or_else(|| panic!("{asked:?}: {refusal:?}")).kind();
    let expected = match refusal {
        Refusal::UnknownGroup => ErrorKind::NotFound,
        Refusal::GroupNotActual | Refusal::UnknownPatient => ErrorKind::InvalidRequest,
        Refusal::GroupTwice => ErrorKind::CohortUnreadable,
    };
    assert_eq!((report.state, kind), (JobState::Failed, expected), "{asked:?}");
}

async fn export(folder: &Path, destination: LocalDestination, asked: Asked<'_>, base_urls: &[&str]) -> JobReport {
    let mut config = Config::default();
    config.budget_bytes = 64 << 20;
    config.base_urls = BaseUrls::new(base_urls).unwrap();
    let source = NdjsonSource::folder(folder).clock(Arc::new(FixedClock(TRANSACTION_TIME)));
    let exporter =
        Exporter::builder().source(Arc::new(source)).destination(Arc::new(destination)).config(config).build().unwrap();
    let job = exporter.start(asked.request()).unwrap();
    tokio::time::timeout(Duration::from_secs(100), job.join()).await.expect("the job ends")
}

/// A file or folder beside the checkout, which isn't part of it. Says so when it isn't there.
fn shared(name: &str) -> Option<PathBuf> {
    let beside = || repository("../shared");
    let path = std::env::var_os("FHIR_EXPORT_SHARED").map_or_else(beside, PathBuf::from).join(name);
    if path.try_exists().unwrap() {
        return Some(path);
    }
    // Not eprintln: the test harness would keep that to itself.
    let _closed = writeln!(
        std::io::stderr(),
        "SKIPPED: {} is not there (FHIR_EXPORT_SHARED names another folder)",
        path.display()
    );
    None
}

/// The first lines of a compressed file, unpacked.
fn beginning(bytes: &[u8]) -> Vec<u8> {
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(bytes).take(MOST_BYTES_A_FILE as u64).read_to_end(&mut unpacked).unwrap();
    if unpacked.len() == MOST_BYTES_A_FILE {
        let end = unpacked.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        unpacked.truncate(end);
    }
    unpacked
}

#[tokio::test]
async fn the_small_test_data_at_every_level_and_every_group() {
    let groups = [
        "nested",
        "only-ada",
        "everyone",
        "pair",
        "cycle-a",
        "inactive-members",
        "ended",
        "not-yet",
        "empty",
        "all-gone",
        "definition",
        "retired",
        "dangling",
        "mixed-entities",
        "twice",
        "strangers",
        "staff",
        "nowhere",
    ];
    let data = Data::of_repository("small", &groups);
    data.check_all("Patient,Observation,CarePlan,Group").await;
    data.check(Asked { until: "2024-01-01T00:00:00Z", ..EVERYTHING }).await;
}

#[tokio::test]
async fn the_odd_test_data_line_by_line() {
    let data = Data::of_repository("odd", &[]);
    // Files that can't be read to their end have a test of their own.
    let copy = tempfile::tempdir().unwrap();
    let is_broken = |name: &str| BROKEN.iter().any(|broken| name.contains(broken));
    let files: Files = data.files.iter().filter(|(name, _)| !is_broken(name)).cloned().collect();
    for (name, bytes) in &files {
        fs::write(copy.path().join(name), bytes).unwrap();
    }
    let readable = Data { folder: copy.path().to_path_buf(), files, ..data };
    readable.check_all("Patient,Encounter").await;
}

const BROKEN: [&str; 4] = ["-corrupt.", "-not-gzip.", "-trailing-garbage.", "-truncated."];

#[tokio::test]
async fn files_that_cannot_be_read_to_their_end_are_named_and_the_others_are_complete() {
    let data = Data::of_repository("odd", &[]);
    let naive = naive::export(&data.files, &EVERYTHING.naive_request(&data.files, &[])).unwrap();
    let target = tempfile::tempdir().unwrap();
    let destination = LocalDestination::new(target.path()).unwrap();
    let report = export(&data.folder, destination.clone(), EVERYTHING, &[]).await;
    assert_eq!(report.state, JobState::CompletedWithErrors);
    let exported = Exported::read(report, &destination).await;
    exported.assert_well_formed();
    let told: Vec<String> =
        exported.issues().iter().map(|issue| issue["diagnostics"].as_str().unwrap().to_owned()).collect();
    assert_eq!(naive.unreadable.len(), BROKEN.len());
    for name in &naive.unreadable {
        assert_eq!(told.iter().filter(|line| line.starts_with(&format!("{name}: "))).count(), 1, "{name}: {told:?}");
    }
    let mut output = exported.output();
    let encounters = String::from_utf8(output.remove("Encounter").unwrap()).unwrap();
    // The wrong bit of the corrupt file is in a type's name. The checksum that tells comes behind the lines.
    assert!(output.remove("Encountes").is_some());
    let mut expected = naive.output;
    for line in String::from_utf8(expected.remove("Encounter").unwrap()).unwrap().lines() {
        assert!(encounters.lines().any(|found| found == line), "{line}");
    }
    assert_eq!(output.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, lines) in expected {
        assert!(output[&name] == lines, "{name} isn't in the broken files");
    }
}

#[tokio::test]
async fn synthetic_patients_at_every_level_and_every_group() {
    let groups = [
        "ten",
        "diabetes",
        "nested",
        "all-patients",
        "one",
        "some-inactive",
        "duplicate-members",
        "missing-members",
        "empty",
        "practitioners",
        "not-actual",
    ];
    let Some(data) = Data::shared("data/synthea-r4", &groups) else { return };
    data.check_all("Patient,Observation,Claim,Group").await;
}

#[tokio::test]
async fn the_examples_of_the_specification_at_every_level_and_every_group() {
    let Some(data) = Data::shared("data/r4-examples", &["102", "101", "example-patientlist", "herd1"]) else { return };
    data.check_all("Patient,Observation,DiagnosticReport,Group").await;
}

#[tokio::test]
async fn all_synthetic_patients_come_out_as_they_went_in() {
    let Some(folder) = shared("data/synthea-r4") else { return };
    let target = tempfile::tempdir().unwrap();
    let report = export(&folder, LocalDestination::new(target.path()).unwrap(), EVERYTHING, &[]).await;
    assert_eq!(report.state, JobState::Completed, "{:?}", report.error);
    assert_eq!(report.objects.len(), 17);
    for object in &report.objects {
        let file = fs::File::open(folder.join(format!("{}.ndjson.gz", object.content.type_name()))).unwrap();
        let mut expected = MultiGzDecoder::new(BufReader::new(file));
        let mut found = BufReader::new(fs::File::open(target.path().join(object.key.as_str())).unwrap());
        assert_same_bytes(&mut expected, &mut found, object.key.as_str());
    }
}

fn assert_same_bytes(expected: &mut impl Read, found: &mut impl Read, note: &str) {
    let (mut expected_piece, mut found_piece) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let count = expected.read(&mut expected_piece).unwrap();
        found.read_exact(&mut found_piece[..count]).unwrap_or_else(|error| panic!("{note}: {error}"));
        assert!(expected_piece[..count] == found_piece[..count], "{note}");
        if count == 0 {
            assert_eq!(found.read(&mut found_piece).unwrap(), 0, "{note} is longer");
            return;
        }
    }
}
