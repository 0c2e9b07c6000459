//! Whole jobs in memory: for any data, in any pieces, what comes out is what a plain loop over the lines says.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;

use fhir_export::destination::MemoryDestination;
use fhir_export::fhir::{Instant, ResourceType};
use fhir_export::job::{Config, Exporter, JobReport, JobState};
use fhir_export::request::{ExportRequest, Level, Period, TimeBound};
use fhir_export::resource::reference::{BaseUrls, Reference};
use fhir_export::resource::{Compartment, LastUpdated, References, ScanPlan, scan};
use fhir_export::source::memory::{MemoryRange, MemorySource};
use fhir_export::writer::{Compression, Content};

use super::lines::bare;
use super::wait_for;

const SINCE: &str = "2020-01-01T00:00:00Z";

/// Most types that a job may have.
const MOST_TYPES: usize = 256;

/// How a job is run: the first four bytes of an input.
#[derive(Clone, Copy, Debug)]
struct Setting {
    rows: bool,
    patients_only: bool,
    since: bool,
    limited: bool,
    gzip: bool,
    chunk_bytes: usize,
    block_bytes: usize,
    limit_bytes: usize,
}

impl Setting {
    fn new([flags, chunk, block, limit]: [u8; 4]) -> Self {
        let flag = |bit: u8| flags & (1 << bit) != 0;
        Self {
            rows: flag(0),
            patients_only: flag(1),
            since: flag(2),
            limited: flag(3),
            gzip: flag(4),
            chunk_bytes: usize::from(chunk) + 1,
            block_bytes: usize::from(block) * 2 + 1,
            limit_bytes: usize::from(limit) * 2 + 8,
        }
    }

    fn limit_bytes(&self) -> usize {
        if self.limited { self.limit_bytes } else { 1 << 20 }
    }
}

/// Four bytes for the setting, then NDJSON, or rows with `0x1E` between.
pub fn engine(data: &[u8]) {
    let Some((setting, text)) = data.split_first_chunk() else { return };
    let setting = Setting::new(*setting);
    let expected = Expected::of(&setting, text);
    let destination = MemoryDestination::new();
    let report = run(&setting, text, &destination);
    if expected.output.len() + expected.left_out > MOST_TYPES {
        return;
    }
    let with_errors = expected.quarantined > 0;
    let state = if with_errors { JobState::CompletedWithErrors } else { JobState::Completed };
    assert_eq!(report.state, state, "{:?}", report.error);
    assert_eq!(output(&report, &destination, setting.gzip), expected.output);
    let total =
        |of: fn(&fhir_export::ledger::LedgerRow) -> u64| report.ledger.iter().map(|(_, row)| of(row)).sum::<u64>();
    assert_eq!(total(|row| row.read.resources), expected.read);
    assert_eq!(total(|row| row.quarantined.resources), expected.quarantined);
    assert_eq!(destination.open_count(), 0);
}

fn run(setting: &Setting, text: &[u8], destination: &MemoryDestination) -> JobReport {
    let range = if setting.rows { MemoryRange::rows("r", rows(text)) } else { MemoryRange::lines("r", text.to_vec()) };
    let mut config = Config::default();
    config.threads = 1;
    config.block_bytes = setting.block_bytes;
    config.line_limit_bytes = Some(setting.limit_bytes());
    if setting.gzip {
        config.compression = Compression::Gzip { level: 1 };
    }
    let exporter = Exporter::builder()
        .source(Arc::new(MemorySource::new().with(range.in_chunks_of(setting.chunk_bytes))))
        .destination(Arc::new(destination.clone()))
        .config(config)
        .build()
        .expect("the settings fit together");
    let mut request = ExportRequest::new(if setting.patients_only { Level::Patient } else { Level::System });
    if setting.since {
        let since = TimeBound::parse(SINCE).expect("an instant");
        request = request.with_period(Period::new(Some(since), None).expect("open at its end"));
    }
    wait_for(async { exporter.start(request).expect("no types are asked for").join().await })
}

/// The bytes of all objects of a type, one after the other.
fn output(report: &JobReport, destination: &MemoryDestination, gzip: bool) -> BTreeMap<String, Vec<u8>> {
    let mut output = BTreeMap::<String, Vec<u8>>::new();
    for object in &report.objects {
        let bytes = destination.object(&object.key).expect("what is reported is there");
        if let Content::Resources(resource_type) = &object.content {
            let lines = output.entry(resource_type.to_string()).or_default();
            if gzip {
                flate2::read::MultiGzDecoder::new(&*bytes).read_to_end(lines).expect("gzip");
            } else {
                lines.extend_from_slice(&bytes);
            }
        }
    }
    output
}

fn rows(text: &[u8]) -> Vec<Vec<u8>> {
    if text.is_empty() { Vec::new() } else { text.split(|byte| *byte == 0x1E).map(<[u8]>::to_vec).collect() }
}

/// What is to come out.
#[derive(Debug, Default)]
struct Expected {
    output: BTreeMap<String, Vec<u8>>,
    read: u64,
    quarantined: u64,
    /// So many resources, and at most so many types, were understood and not written.
    left_out: usize,
}

impl Expected {
    fn of(setting: &Setting, text: &[u8]) -> Self {
        let mut expected = Self::default();
        if setting.rows {
            for row in rows(text) {
                expected.take(setting, &one_line(&row), row.len());
            }
        } else {
            for line in text.split(|byte| *byte == b'\n').filter(|line| !bare(line).is_empty()) {
                expected.take(setting, bare(line), line.len());
            }
        }
        expected
    }

    fn take(&mut self, setting: &Setting, body: &[u8], raw_bytes: usize) {
        self.read += 1;
        if raw_bytes > setting.limit_bytes() {
            self.quarantined += 1;
            return;
        }
        let plan = ScanPlan::with_references(Arc::new(Compartment::r4_patient()));
        let mut references = References::new();
        let Ok(facts) = scan(body, &plan, &mut references) else {
            self.quarantined += 1;
            return;
        };
        let modified = match &facts.last_updated {
            LastUpdated::Missing => Ok(None),
            LastUpdated::Text(text) => Instant::parse(text).map(Some).map_err(drop),
            LastUpdated::NotText => Err(()),
        };
        let since = Instant::parse(SINCE).expect("an instant");
        let in_time = match modified {
            _ if !setting.since => true,
            Ok(modified) => modified.is_none_or(|modified| modified >= since),
            Err(()) => {
                self.quarantined += 1;
                self.left_out += 1;
                return;
            }
        };
        if in_time && (!setting.patients_only || is_of_a_patient(&facts.resource_type, &references)) {
            let lines = self.output.entry(facts.resource_type.into_owned()).or_default();
            lines.extend_from_slice(body);
            lines.push(b'\n');
        } else {
            self.left_out += 1;
        }
    }
}

fn is_of_a_patient(resource_type: &str, references: &References) -> bool {
    let urls = BaseUrls::default();
    let names_one = |text| matches!(urls.classify(text), Reference::Local { resource_type: "Patient", .. });
    let in_compartment =
        ResourceType::new(resource_type).is_ok_and(|name| Compartment::r4_patient().contains_type(&name));
    resource_type == "Patient" || (in_compartment && references.iter().any(names_one))
}

/// A row as a line: what lies around it cut off, and of a resource, which has none in strings, raw line ends blanked.
fn one_line(row: &[u8]) -> Vec<u8> {
    let mut line = row.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(row);
    while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] | [rest @ .., b' ' | b'\t' | b'\r' | b'\n'] = line {
        line = rest;
    }
    let mut line = line.to_vec();
    if scan(&line, &ScanPlan::default(), &mut References::new()).is_ok() {
        line.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
    }
    line
}
