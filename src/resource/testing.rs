//! The slow and obvious way to the facts, and data to try both ways on.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use super::{Compartment, Defect, Facts, LastUpdated, References, ScanPlan, scan, scan_portably};
use crate::fhir::{Labels, ResourceType, Token};

/// A file or folder beside the checkout, which isn't part of it. Says so when it isn't there.
pub(super) fn shared(name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
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

pub(super) fn shared_json(name: &str) -> Option<Value> {
    shared(name).map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
}

/// The lines of all packed files of a folder, at most so many bytes of each.
pub(super) fn packed_lines(folder: &Path, most_bytes_a_file: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "gz"));
    files.sort();
    files.into_iter().flat_map(move |file| {
        let mut left = most_bytes_a_file;
        let unpacked = BufReader::new(MultiGzDecoder::new(std::fs::File::open(file).unwrap()));
        unpacked.split(b'\n').map(Result::unwrap).take_while(move |line| {
            let wanted = left > 0;
            left = left.saturating_sub(line.len());
            wanted
        })
    })
}

/// Facts that are owned and can be compared: references sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Learned {
    pub(super) resource_type: String,
    pub(super) id: Option<String>,
    pub(super) last_updated: LastUpdated<'static>,
    pub(super) references: Vec<String>,
    /// Which of [`LABELS`] it bears.
    pub(super) labels: [bool; LABELS.len()],
}

/// Labels that random documents are asked for: those of `meta.security`, and those of `meta.tag`.
const LABELS: [(&[&str], &[&str]); 7] = [
    (&["s|R"], &[]),
    (&[], &["s|R"]),
    (&[], &["s|"]),
    (&[], &["|R"]),
    (&["R"], &[]),
    (&["R"], &["R"]),
    (&[], &["R", "s|", "é|\""]),
];

fn labels() -> impl Iterator<Item = Labels> {
    let tokens = |texts: &[&str]| texts.iter().map(|text| Token::parse(text).unwrap()).collect();
    LABELS.iter().map(move |(security, tags)| Labels { security: tokens(security), tags: tokens(tags) })
}

fn each_of_labels(bears: impl Fn(&Labels) -> bool) -> [bool; LABELS.len()] {
    let mut borne = [false; LABELS.len()];
    borne.iter_mut().zip(labels()).for_each(|(borne, labels)| *borne = bears(&labels));
    borne
}

/// What the scan says of a line, whichever way it takes.
pub(super) fn scanned(line: &[u8], plan: &ScanPlan) -> Result<Learned, Defect> {
    let mut references = References::new();
    let found = scan(line, plan, &mut references).map(|facts| learned(&facts, &references));
    let portably = scan_portably(line, plan, &mut references).map(|facts| learned(&facts, &references));
    assert_eq!(found, portably, "{}", String::from_utf8_lossy(line));
    found
}

pub(super) fn learned(facts: &Facts<'_>, references: &References) -> Learned {
    let mut references: Vec<String> = references.iter().map(str::to_owned).collect();
    references.sort();
    Learned {
        resource_type: facts.resource_type.clone().into_owned(),
        id: facts.id.as_deref().map(str::to_owned),
        last_updated: match &facts.last_updated {
            LastUpdated::Missing => LastUpdated::Missing,
            LastUpdated::NotText => LastUpdated::NotText,
            LastUpdated::Text(text) => LastUpdated::Text(text.clone().into_owned().into()),
        },
        references,
        labels: each_of_labels(|labels| facts.bears(labels)),
    }
}

/// What `serde_json` and a naive walk say of a line. None when it isn't a resource.
pub(super) fn naive(line: &[u8], plan: &ScanPlan) -> Option<Learned> {
    let mut parser = serde_json::Deserializer::from_slice(line);
    parser.disable_recursion_limit();
    let value = <Value as serde::Deserialize>::deserialize(&mut parser).ok()?;
    parser.end().ok()?;
    naive_of(&value, plan)
}

pub(super) fn naive_of(value: &Value, plan: &ScanPlan) -> Option<Learned> {
    let object = value.as_object()?;
    let resource_type = ResourceType::new(object.get("resourceType")?.as_str()?).ok()?;
    let last_updated = match object.get("meta") {
        None => LastUpdated::Missing,
        Some(Value::Object(meta)) => match meta.get("lastUpdated") {
            None => LastUpdated::Missing,
            Some(Value::String(text)) => LastUpdated::Text(text.clone().into()),
            Some(_) => LastUpdated::NotText,
        },
        Some(_) => LastUpdated::NotText,
    };
    let mut references = Vec::new();
    if let Some(compartment) = &plan.compartment {
        naive_references(compartment, &resource_type, value, &mut references);
    }
    references.sort();
    let id = object.get("id").and_then(Value::as_str).map(str::to_owned);
    let labels = each_of_labels(|labels| {
        naive_bears(&value["meta"]["security"], &labels.security) && naive_bears(&value["meta"]["tag"], &labels.tags)
    });
    Some(Learned { resource_type: resource_type.to_string(), id, last_updated, references, labels })
}

fn naive_bears(codings: &Value, tokens: &BTreeSet<Token>) -> bool {
    let codings = codings.as_array().map_or_else(|| vec![codings], |codings| codings.iter().collect());
    let is_one = |token: &Token| {
        codings
            .iter()
            .filter(|coding| coding.is_object())
            .any(|coding| token.matches(coding["system"].as_str(), coding["code"].as_str()))
    };
    tokens.iter().all(is_one)
}

fn naive_references(compartment: &Compartment, resource_type: &ResourceType, value: &Value, into: &mut Vec<String>) {
    for path in compartment.paths_of(resource_type) {
        let mut elements = vec![value];
        for name in path.split('.') {
            elements = elements.into_iter().flat_map(flat).filter_map(|element| element.get(name)).collect();
        }
        let texts = elements.into_iter().flat_map(flat).filter_map(|element| element.get("reference")?.as_str());
        into.extend(texts.map(str::to_owned));
    }
}

/// The elements of an array, of arrays in it too, or the one that is no array.
fn flat(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(elements) => elements.iter().flat_map(flat).collect(),
        other => vec![other],
    }
}
