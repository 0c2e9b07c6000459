//! The scan against `serde_json` and a naive walk.

use std::sync::{Arc, LazyLock};

use fhir_export::fhir::ResourceType;
use fhir_export::resource::{Compartment, Defect, DefectKind, LastUpdated, References, ScanPlan, Validation, scan};
use serde::Deserialize as _;
use serde_json::Value;

/// Deepest nesting that the scan takes.
const DEEPEST: usize = 256;

/// Deepest nesting that the recursive oracle is asked about.
const ORACLE_DEEPEST: usize = 400;

static PLAN: LazyLock<ScanPlan> = LazyLock::new(|| ScanPlan::with_references(Arc::new(Compartment::r4_patient())));

/// What is to be known of a resource.
#[derive(Debug, PartialEq)]
struct Learned {
    resource_type: String,
    id: Option<String>,
    last_updated: Option<Option<String>>,
    references: Vec<String>,
}

/// With `arbitrary_precision`, `serde_json` takes an object of such a key for a number.
const MAGIC: &[u8] = b"$serde_json::private";

pub fn scan_line(line: &[u8]) {
    if line.windows(MAGIC.len()).any(|window| window == MAGIC) {
        return;
    }
    let mut references = References::new();
    for plan in [&*PLAN, &ScanPlan::default()] {
        let found = learned(line, plan, &mut references);
        if let Err(defect) = &found {
            assert!(defect.offset <= line.len() && references.is_empty(), "{defect}");
        }
        check_structure(line, plan, &found);
        let depth = depth(line);
        if depth > ORACLE_DEEPEST {
            assert!(found.is_err(), "nested {depth} deep");
            continue;
        }
        match (found, expected(line, plan)) {
            (Ok(found), Some(expected)) => {
                assert_eq!(found, expected);
                assert!(depth <= DEEPEST, "nested {depth} deep");
            }
            (Err(_), None) => {}
            (Ok(_), None) => panic!("only the scan takes it"),
            (Err(defect), Some(_)) => {
                assert!(defect.kind == DefectKind::TooDeep && depth > DEEPEST, "only serde_json takes it: {defect}");
            }
        }
    }
}

fn learned(line: &[u8], plan: &ScanPlan, references: &mut References) -> Result<Learned, Defect> {
    scan(line, plan, references).map(|facts| Learned {
        resource_type: facts.resource_type.into_owned(),
        id: facts.id.map(String::from),
        last_updated: match facts.last_updated {
            LastUpdated::Missing => None,
            LastUpdated::NotText => Some(None),
            LastUpdated::Text(text) => Some(Some(text.into_owned())),
        },
        references: sorted(references.iter().map(str::to_owned).collect()),
    })
}

/// The structural check finds the same in what is valid, tells the same of what it refuses, and takes nothing whose
/// strings and brackets aren't closed.
fn check_structure(line: &[u8], plan: &ScanPlan, full: &Result<Learned, Defect>) {
    let mut plan = plan.clone();
    plan.validation = Validation::Structure;
    let found = learned(line, &plan, &mut References::new());
    if full.is_ok() || found.is_err() {
        assert_eq!(&found, full);
    } else {
        assert!(std::str::from_utf8(line).is_ok() && is_closed(line), "only the structural check takes it");
    }
}

/// Whether the line is one object by its strings and brackets alone.
fn is_closed(line: &[u8]) -> bool {
    let (mut open, mut in_string, mut escaped) = (Vec::new(), false, false);
    for byte in line.trim_ascii() {
        match byte {
            0..0x20 if in_string => return false,
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => open.push(*byte),
            b'}' | b']' if !in_string && open.pop() != Some(if *byte == b'}' { b'{' } else { b'[' }) => return false,
            _ => {}
        }
    }
    open.is_empty() && !in_string
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

/// How deep brackets are nested, those in strings left out. Of what isn't JSON it is some number.
fn depth(line: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in line {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// What `serde_json` and a naive walk say of a line; none when it isn't a resource.
fn expected(line: &[u8], plan: &ScanPlan) -> Option<Learned> {
    let value = parse(&without_lone_surrogates(line))?;
    let object = value.as_object()?;
    let resource_type = ResourceType::new(object.get("resourceType")?.as_str()?).ok()?;
    let last_updated = match object.get("meta") {
        None => None,
        Some(Value::Object(meta)) => meta.get("lastUpdated").map(|value| value.as_str().map(str::to_owned)),
        Some(_) => Some(None),
    };
    let mut references = Vec::new();
    for path in plan.compartment.iter().flat_map(|compartment| compartment.paths_of(&resource_type)) {
        let elements = path.split('.').fold(vec![&value], |elements, name| members(&elements, name));
        references.extend(members(&elements, "reference").into_iter().filter_map(Value::as_str).map(str::to_owned));
    }
    let id = object.get("id").and_then(Value::as_str).map(str::to_owned);
    Some(Learned { resource_type: resource_type.to_string(), id, last_updated, references: sorted(references) })
}

/// The members of a name of all objects, of those in arrays too.
fn members<'v>(values: &[&'v Value], name: &str) -> Vec<&'v Value> {
    let mut found = Vec::new();
    for value in values {
        match value {
            Value::Array(elements) => found.extend(members(&elements.iter().collect::<Vec<_>>(), name)),
            Value::Object(object) => found.extend(object.get(name)),
            _ => {}
        }
    }
    found
}

/// Reads one value, at any depth and with any number.
fn parse(line: &[u8]) -> Option<Value> {
    let mut parser = serde_json::Deserializer::from_slice(line);
    parser.disable_recursion_limit();
    let value = Value::deserialize(&mut parser).ok()?;
    parser.end().ok()?;
    Some(value)
}

/// The line with every lone surrogate escape, which `serde_json` refuses, replaced by the one of U+FFFD.
fn without_lone_surrogates(line: &[u8]) -> Vec<u8> {
    let mut line = line.to_vec();
    let mut position = 0;
    while position < line.len() {
        let rest = &line[position..];
        match (unit(rest), rest.get(6..).and_then(unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => position += 12,
            (Some(0xD800..=0xDFFF), _) => {
                line[position + 2..position + 6].copy_from_slice(b"fffd");
                position += 6;
            }
            _ if rest.starts_with(b"\\") => position += 2,
            _ => position += 1,
        }
    }
    line
}

/// The code unit of the `\uXXXX` that a text begins with.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    let all_hex = digits.iter().all(u8::is_ascii_hexdigit);
    if all_hex { u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok() } else { None }
}
