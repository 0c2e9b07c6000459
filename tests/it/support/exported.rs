//! What a job left behind, read back and compared with what must be.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use fhir_export::destination::Destination;
use fhir_export::job::{CountEntry, JobReport, JobState, LedgerEntry, Manifest, OutputFile};
use futures::TryStreamExt;
use regex::Regex;
use serde_json::Value;

use super::crc64::crc64nvme;
use super::naive::{Count, Counts, Export, Quarantined, Reason};

/// A job's report and everything that its destination holds.
#[derive(Debug)]
pub(crate) struct Exported {
    pub(crate) report: JobReport,
    /// Bytes by key.
    pub(crate) stored: BTreeMap<String, Vec<u8>>,
}

/// A line of the error report about a resource that wasn't understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuarantineEntry {
    pub(crate) source: String,
    /// A byte offset, or of rows their number.
    pub(crate) position: u64,
    pub(crate) length: u64,
    /// The code of the issue.
    pub(crate) code: String,
}

impl Exported {
    pub(crate) async fn read(report: JobReport, destination: &dyn Destination) -> Self {
        let mut stored = BTreeMap::new();
        for object in destination.list("").await.unwrap() {
            let pieces: Vec<_> = destination.get(&object.key).await.unwrap().try_collect().await.unwrap();
            let bytes = pieces.concat();
            assert_eq!(bytes.len() as u64, object.size_bytes, "{}", object.key);
            stored.insert(object.key.to_string(), bytes);
        }
        Self { report, stored }
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        self.report.manifest.as_ref().unwrap_or_else(|| panic!("no manifest: {:?}", self.report.error))
    }

    /// Checks all that must be true of any job with a manifest, whatever was exported.
    pub(crate) fn assert_well_formed(&self) {
        let manifest = self.manifest();
        let mut keys = BTreeSet::new();
        let (key, bytes) = self.stored.iter().find(|(key, _)| key.ends_with("manifest.json")).expect("a manifest");
        assert_eq!(serde_json::from_slice::<Manifest>(bytes).unwrap(), *manifest);
        assert_eq!(manifest.extension.job_status, self.report.state.to_string());
        keys.insert(key.clone());
        for files in [&manifest.output, &manifest.deleted, &manifest.error] {
            assert!(files.is_sorted_by(|a, b| a.extension.key < b.extension.key), "sorted by key, each once");
            for file in files {
                self.assert_object(file);
                keys.insert(file.extension.key.clone());
            }
        }
        assert_eq!(self.stored.keys().cloned().collect::<BTreeSet<_>>(), keys, "nothing but what the manifest lists");
        assert_sequences(&manifest.output);
        assert_sequences(&manifest.deleted);
        assert_sequences(&manifest.error);
        let told: u64 = manifest.deleted.iter().map(|file| file.count).sum();
        assert_eq!(told, manifest.extension.deletions.as_ref().map_or(0, |row| row.written.resources));
        for row in &manifest.extension.ledger {
            assert_row(row, &manifest.output);
        }
        let types: BTreeSet<_> = manifest.extension.ledger.iter().map(|row| row.resource_type.as_deref()).collect();
        assert_eq!(types.len(), manifest.extension.ledger.len(), "one row a type");
        assert!(manifest.output.iter().all(|file| types.contains(&Some(file.resource_type.as_str()))));
        assert!(self.report.ledger.iter().all(|(_, row)| row.balances()));
    }

    fn assert_object(&self, file: &OutputFile) {
        static LAID_OUT: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"^[0-9a-z]+-FHIR_EXPORT-[0-9a-f]{32}/([A-Za-z]+)/([A-Za-z]+)-[0-9]+-0-([0-9]+)\.ndjson(\.gz)?$")
                .unwrap()
        });
        let own = &file.extension;
        let bytes = self.stored.get(&own.key).unwrap_or_else(|| panic!("{} is listed and not there", own.key));
        if own.key.contains("FHIR_EXPORT") {
            let found = LAID_OUT.captures(&own.key).unwrap_or_else(|| panic!("{}", own.key));
            assert_eq!((&found[1], &found[2]), (file.resource_type.as_str(), file.resource_type.as_str()));
            assert_eq!(found[3], own.sequence.to_string());
        }
        assert!(file.url.ends_with(&own.key), "{}", file.url);
        assert_eq!(own.bytes, bytes.len() as u64, "{}", own.key);
        assert_eq!(own.crc64nvme, BASE64_STANDARD.encode(crc64nvme(bytes).to_be_bytes()), "{}", own.key);
        let plain = plain(&own.key, bytes);
        assert!(plain.ends_with(b"\n"), "{} ends with a whole line", own.key);
        assert_eq!(own.line_bytes, plain.len() as u64, "{}", own.key);
        assert_eq!(file.count, plain.iter().filter(|&&byte| byte == b'\n').count() as u64, "{}", own.key);
        assert_eq!(own.partial, own.cursor.is_some());
    }

    /// The objects of each type as they are stored, in sequence.
    pub(crate) fn objects(&self) -> BTreeMap<(String, u32), &[u8]> {
        let object = |file: &OutputFile| ((file.resource_type.clone(), file.extension.sequence), self.bytes(file));
        self.manifest().output.iter().map(object).collect()
    }

    /// What is to be deleted, as `Type/id`.
    pub(crate) fn deleted(&self) -> BTreeSet<String> {
        let mut urls = BTreeSet::new();
        for file in &self.manifest().deleted {
            for line in String::from_utf8(plain(&file.extension.key, self.bytes(file))).unwrap().lines() {
                let bundle: Value = serde_json::from_str(line).unwrap();
                assert_eq!((&bundle["resourceType"], &bundle["type"]), (&"Bundle".into(), &"transaction".into()));
                for entry in bundle["entry"].as_array().unwrap() {
                    assert_eq!(entry["request"]["method"], "DELETE");
                    assert!(urls.insert(entry["request"]["url"].as_str().unwrap().to_owned()), "each once");
                }
            }
        }
        urls
    }

    fn bytes(&self, file: &OutputFile) -> &[u8] {
        &self.stored[&file.extension.key]
    }

    /// By type: the lines of all its objects, in sequence.
    pub(crate) fn output(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files: Vec<&OutputFile> = self.manifest().output.iter().collect();
        files.sort_by_key(|file| file.extension.sequence);
        let mut output: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for file in files {
            let lines = plain(&file.extension.key, self.bytes(file));
            output.entry(file.resource_type.clone()).or_default().extend(lines);
        }
        output
    }

    /// The issues of the error report.
    pub(crate) fn issues(&self) -> Vec<Value> {
        let mut files: Vec<&OutputFile> = self.manifest().error.iter().collect();
        files.sort_by_key(|file| file.extension.sequence);
        let lines: Vec<u8> = files.iter().flat_map(|file| plain(&file.extension.key, self.bytes(file))).collect();
        let issue = |line: &str| {
            let mut outcome: Value = serde_json::from_str(line).unwrap();
            assert_eq!(outcome["resourceType"], "OperationOutcome");
            outcome["issue"][0].take()
        };
        std::str::from_utf8(&lines).unwrap().lines().map(issue).collect()
    }

    /// What of the error report is about resources that weren't understood, in order.
    pub(crate) fn quarantine(&self) -> Vec<QuarantineEntry> {
        self.issues().iter().filter_map(quarantine_entry).collect()
    }

    /// Checks that bytes, books and error report are what the naive exporter comes to; `is_rows` tells which ranges
    /// aren't line-based.
    pub(crate) fn assert_same_as(&self, naive: &Export, is_rows: impl Fn(&str) -> bool, asked: &BTreeSet<String>) {
        let output = self.output();
        assert_eq!(output.keys().collect::<Vec<_>>(), naive.output.keys().collect::<Vec<_>>());
        for (name, lines) in &naive.output {
            assert!(output[name] == *lines, "{name}: {:?} in place of {:?}", text(&output[name]), text(lines));
        }
        let mut counts = naive.counts.clone();
        for name in asked {
            counts.entry(Some(name.clone())).or_default();
        }
        let booked: BTreeMap<_, _> =
            self.manifest().extension.ledger.iter().map(|row| (row.resource_type.clone(), counts_of(row))).collect();
        assert_eq!(booked, counts);
        let expected: Vec<_> = naive.quarantine.iter().map(|line| expected_entry(line, &is_rows)).collect();
        assert_eq!(self.quarantine(), expected);
        let missing = naive.cohort.as_ref().map_or(0, |cohort| cohort.missing.len());
        let state = match naive.quarantine.len() + naive.unreadable.len() + missing {
            0 => JobState::Completed,
            _ => JobState::CompletedWithErrors,
        };
        assert_eq!(self.report.state, state);
    }
}

/// Of rows, the naive exporter's offset must be the row's number already.
fn expected_entry(line: &Quarantined, is_rows: &impl Fn(&str) -> bool) -> QuarantineEntry {
    let code = match line.reason {
        Reason::TooLong => "too-long",
        Reason::LastUpdated => "value",
        Reason::NotUtf8 | Reason::TooDeep | Reason::NotAnObject | Reason::NoResourceType => "structure",
    };
    let position = if is_rows(&line.source) { line.line } else { line.offset };
    QuarantineEntry { source: line.source.clone(), position, length: line.length, code: code.to_owned() }
}

fn quarantine_entry(issue: &Value) -> Option<QuarantineEntry> {
    let facts = issue["extension"].as_array()?.first()?;
    assert_eq!(facts["url"], "urn:fhir-export:quarantine");
    let fact = |name: &str| {
        let facts = facts["extension"].as_array().unwrap();
        facts.iter().find(|fact| fact["url"] == name).map(|fact| fact["valueString"].as_str().unwrap().to_owned())
    };
    let position = match (fact("offset"), fact("row")) {
        (Some(offset), None) => offset.parse().unwrap(),
        (None, Some(row)) => row_number(&row),
        other => panic!("{other:?}"),
    };
    Some(QuarantineEntry {
        source: fact("source").unwrap(),
        position,
        length: fact("length").unwrap().parse().unwrap(),
        code: issue["code"].as_str().unwrap().to_owned(),
    })
}

/// The number of a row of a memory source, whose cursors are numbers in eight bytes.
fn row_number(place: &str) -> u64 {
    let (cursor, rows) = place.rsplit_once('+').unwrap();
    let mut number = 0;
    let mut rest = cursor;
    while let Some(first) = rest.chars().next() {
        let (byte, length) = match rest.get(..2) {
            Some(r"\x") => (u64::from_str_radix(&rest[2..4], 16).unwrap(), 4),
            Some(r"\t") => (u64::from(b'\t'), 2),
            Some(r"\n") => (u64::from(b'\n'), 2),
            Some(r"\r") => (u64::from(b'\r'), 2),
            Some(escaped) if first == '\\' => (u64::from(escaped.as_bytes()[1]), 2),
            _ => (u64::from(first), 1),
        };
        number = (number << 8) | byte;
        rest = &rest[length..];
    }
    number + rows.parse::<u64>().unwrap()
}

fn counts_of(row: &LedgerEntry) -> Counts {
    const REASONS: [&str; 7] = ["deleted", "type", "since", "until", "after-T", "scope", "filter"];
    let count = |entry: CountEntry| Count { resources: entry.resources, bytes: entry.bytes };
    assert_eq!((row.cut, row.superseded), Default::default(), "{row:?}");
    let reason = |name: &String| *REASONS.iter().find(|reason| *reason == name).unwrap_or_else(|| panic!("{name}"));
    Counts {
        read: count(row.read),
        written: count(row.written),
        excluded: row.excluded.iter().map(|(name, excluded)| (reason(name), count(*excluded))).collect(),
        quarantined: count(row.quarantined),
        shared_with_non_members: row.shared_with_non_members,
    }
}

/// The books of one type balance, and its objects hold what was written.
fn assert_row(row: &LedgerEntry, output: &[OutputFile]) {
    let fates = [row.written, row.quarantined, row.cut, row.superseded];
    let sum = fates
        .iter()
        .chain(row.excluded.values())
        .fold((0, 0), |(resources, bytes), count| (resources + count.resources, bytes + count.bytes));
    assert_eq!(sum, (row.read.resources, row.read.bytes), "{row:?}");
    let files = output.iter().filter(|file| Some(&file.resource_type) == row.resource_type.as_ref());
    let held =
        files.fold((0, 0), |(resources, bytes), file| (resources + file.count, bytes + file.extension.line_bytes));
    assert_eq!(held, (row.written.resources, row.written.bytes), "{row:?}");
}

/// The objects of each type are numbered from 0 without a hole, and only the first is the first.
fn assert_sequences(files: &[OutputFile]) {
    let mut sequences: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for file in files {
        let own = &file.extension;
        assert_eq!(own.sequence == 0, own.sequence_reason == "first", "{own:?}");
        sequences.entry(&file.resource_type).or_default().insert(own.sequence);
    }
    for (name, sequences) in sequences {
        assert!(sequences.iter().copied().eq(0..sequences.len() as u32), "{name}: {sequences:?}");
    }
}

/// The lines of an object.
fn plain(key: &str, bytes: &[u8]) -> Vec<u8> {
    if !key.ends_with(".gz") {
        return bytes.to_vec();
    }
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().chars().take(2000).collect()
}
