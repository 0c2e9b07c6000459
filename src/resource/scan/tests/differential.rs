//! The scan against `serde_json` and a naive walk: random documents, mutated bytes, real data.

use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;

use crate::resource::testing::{Learned, learned, naive, naive_of, packed_lines, scanned, shared};
use crate::resource::{Compartment, DefectKind, References, ScanPlan, Validation, scan};

fn plan() -> ScanPlan {
    ScanPlan::with_references(Arc::new(Compartment::r4_patient()))
}

/// A document that can hold the same name twice.
#[derive(Clone, Debug)]
enum Document {
    Scalar(String),
    Text(String),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

fn names() -> impl Strategy<Value = String> {
    let wanted = [
        "resourceType",
        "id",
        "meta",
        "lastUpdated",
        "reference",
        "subject",
        "patient",
        "performer",
        "actor",
        "link",
        "other",
        "member",
        "entity",
        "participant",
        "contained",
        "display",
        "identifier",
        "payee",
        "party",
        "security",
        "tag",
        "system",
        "code",
        "",
    ];
    prop_oneof![9 => prop::sample::select(wanted.to_vec()).prop_map(str::to_owned), 1 => "[a-zé\"\\\\\n\u{1}]{0,4}"]
}

fn texts() -> impl Strategy<Value = String> {
    let types = ["Patient", "Observation", "Group", "Claim", "Procedure", "Binary", "AuditEvent", "Thing", "A", "a/b"];
    prop_oneof![
        2 => prop::sample::select(types.to_vec()).prop_map(str::to_owned),
        2 => "Patient/[0-9]{1,3}",
        1 => ".{0,80}",
        1 => "[\"\\\\/\u{0}-\u{1f}aé€😀]{0,20}",
    ]
}

fn scalars() -> impl Strategy<Value = String> {
    let words = ["null", "true", "false", "0", "-0", "1.50", "1e999", "-12E-3", "123456789012345678901234567890"];
    prop::sample::select(words.to_vec()).prop_map(str::to_owned)
}

fn documents() -> impl Strategy<Value = Document> {
    let leaf = prop_oneof![scalars().prop_map(Document::Scalar), texts().prop_map(Document::Text)];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..5).prop_map(Document::Array),
            3 => prop::collection::vec((names(), inner), 0..6).prop_map(Document::Object),
        ]
    })
}

/// What stands where references are wanted, or nearly so.
fn near_references() -> impl Strategy<Value = Document> {
    let text = "Patient/[0-9]".prop_map(Document::Text);
    let reference = (prop::sample::select(vec!["reference", "reference", "display"]), text)
        .prop_map(|(name, text)| Document::Object(vec![(name.to_owned(), text)]));
    let below = prop::sample::select(vec!["other", "entity", "actor", "who", "party", "lastUpdated"]);
    let member = (below, reference.clone()).prop_map(|(name, inner)| (name.to_owned(), inner));
    prop_oneof![
        3 => reference.clone(),
        2 => prop::collection::vec(reference, 0..3).prop_map(Document::Array),
        2 => prop::collection::vec(member, 0..4).prop_map(Document::Object),
        1 => scalars().prop_map(Document::Scalar),
        1 => documents(),
    ]
}

/// A `meta` with labels in it, or what stands in its place.
fn metas() -> impl Strategy<Value = Document> {
    let text = prop_oneof![3 => Just("R"), 3 => Just("s"), 1 => Just("é"), 1 => Just("\"")]
        .prop_map(|text| Document::Text(text.to_owned()));
    let part = (
        prop::sample::select(vec!["system", "code", "code", "display"]),
        prop_oneof![8 => text, 1 => scalars().prop_map(Document::Scalar)],
    );
    let coding = prop_oneof![
        8 => prop::collection::vec(part, 0..4).prop_map(|parts| parts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()).prop_map(Document::Object),
        1 => near_references(),
    ];
    let list = prop_oneof![8 => prop::collection::vec(coding.clone(), 0..4).prop_map(Document::Array), 1 => coding];
    let member = (prop::sample::select(vec!["security", "tag", "tag", "lastUpdated", "profile"]), list);
    let members = prop::collection::vec(member.prop_map(|(name, list)| (name.to_owned(), list)), 0..4);
    prop_oneof![8 => members.prop_map(Document::Object), 1 => near_references()]
}

/// Objects that are resources as a rule, with few names, so that many come twice, and the type at any place.
fn resources() -> impl Strategy<Value = Document> {
    let types = ["Patient", "Observation", "Group", "Claim", "Procedure", "Binary", "AuditEvent", "Appointment"];
    let wanted = ["subject", "performer", "patient", "link", "member", "agent", "payee", "meta", "id"];
    let name = prop_oneof![6 => prop::sample::select(wanted.to_vec()).prop_map(str::to_owned), 1 => names()];
    let meta = (Just("meta".to_owned()), metas());
    let members = prop::collection::vec(prop_oneof![6 => (name, near_references()), 1 => meta], 0..8);
    (members, prop::sample::select(types.to_vec()), any::<prop::sample::Index>()).prop_map(|(mut members, name, at)| {
        let at = at.index(members.len() + 1);
        members.insert(at, ("resourceType".to_owned(), Document::Text(name.to_owned())));
        Document::Object(members)
    })
}

/// Writes a document in one of the many ways in which it can be written. Each choice takes one byte of `choices`.
struct Renderer<'c> {
    choices: std::iter::Cycle<std::slice::Iter<'c, u8>>,
    out: String,
}

impl Renderer<'_> {
    fn render(document: &Document, choices: &[u8]) -> String {
        let mut renderer = Renderer { choices: choices.iter().cycle(), out: String::new() };
        renderer.value(document);
        renderer.out
    }

    fn choose(&mut self, of: u8) -> u8 {
        self.choices.next().map_or(0, |choice| choice % of)
    }

    fn blanks(&mut self) {
        let blanks = ["", "", "", "", " ", "\t \r\n"];
        let chosen = usize::from(self.choose(6));
        self.out.push_str(blanks[chosen]);
    }

    fn value(&mut self, document: &Document) {
        self.blanks();
        match document {
            Document::Scalar(text) => self.out.push_str(text),
            Document::Text(text) => self.string(text),
            Document::Array(elements) => {
                self.out.push('[');
                for (index, element) in elements.iter().enumerate() {
                    self.separator(index);
                    self.value(element);
                }
                self.blanks();
                self.out.push(']');
            }
            Document::Object(members) => {
                self.out.push('{');
                for (index, (name, member)) in members.iter().enumerate() {
                    self.separator(index);
                    self.blanks();
                    self.string(name);
                    self.blanks();
                    self.out.push(':');
                    self.value(member);
                }
                self.blanks();
                self.out.push('}');
            }
        }
        self.blanks();
    }

    fn separator(&mut self, index: usize) {
        if index > 0 {
            self.out.push(',');
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        let escape_some = self.choose(4) == 0;
        for character in text.chars() {
            let must = matches!(character, '"' | '\\' | '\0'..' ');
            let short = match character {
                '"' => Some("\\\""),
                '\\' => Some("\\\\"),
                '/' => Some("\\/"),
                '\n' => Some("\\n"),
                '\t' => Some("\\t"),
                _ => None,
            };
            match short {
                _ if !must && (!escape_some || self.choose(4) != 0) => self.out.push(character),
                Some(short) if self.choose(2) == 0 => self.out.push_str(short),
                _ => {
                    let mut units = [0; 2];
                    for unit in character.encode_utf16(&mut units) {
                        let upper = self.choose(2) == 0;
                        let digits = if upper { format!("{unit:04X}") } else { format!("{unit:04x}") };
                        self.out.push_str("\\u");
                        self.out.push_str(&digits);
                    }
                }
            }
        }
        self.out.push('"');
    }
}

/// Whether a line that only the scan takes is one of those that it takes on purpose.
fn is_lone_surrogate(line: &[u8]) -> bool {
    let text = String::from_utf8_lossy(line);
    ["\\ud", "\\uD"].iter().any(|escape| text.contains(escape))
}

fn structure(plan: &ScanPlan) -> ScanPlan {
    ScanPlan { validation: Validation::Structure, ..plan.clone() }
}

/// Whether the line has what the structural check asks for, read byte by byte.
fn is_sound(line: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(line) else { return false };
    let text = text.trim_matches([' ', '\t', '\n', '\r']);
    let (mut open, mut in_string, mut escaped) = (Vec::new(), false, false);
    for (at, byte) in text.bytes().enumerate() {
        if at > 0 && open.is_empty() || at == 0 && byte != b'{' {
            return false;
        }
        match byte {
            0..0x20 if in_string => return false,
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => open.push(byte),
            b'}' | b']' if !in_string && open.pop() != Some(if byte == b'}' { b'{' } else { b'[' }) => return false,
            _ => {}
        }
    }
    open.is_empty() && !in_string && !text.is_empty()
}

/// The structural check finds the same in what is valid, and takes nothing that isn't sound.
fn structure_agrees(line: &[u8], plan: &ScanPlan) -> Result<(), TestCaseError> {
    let shown = String::from_utf8_lossy(line).into_owned();
    match (scanned(line, plan), scanned(line, &structure(plan))) {
        (Ok(full), structure) => prop_assert_eq!(Ok(full), structure, "{}", shown),
        (Err(_), Ok(_)) => prop_assert!(is_sound(line), "{}", shown),
        (Err(full), Err(structure)) => prop_assert_eq!(full, structure, "{}", shown),
    }
    Ok(())
}

fn agree(line: &[u8], plan: &ScanPlan) -> Result<(), TestCaseError> {
    structure_agrees(line, plan)?;
    let shown = String::from_utf8_lossy(line).into_owned();
    match (scanned(line, plan), naive(line, plan)) {
        (Ok(found), Some(expected)) => prop_assert_eq!(found, expected, "{}", shown),
        (Err(_), None) => {}
        (Ok(_), None) => prop_assert!(is_lone_surrogate(line), "only the scan takes {}", shown),
        (Err(defect), Some(_)) => {
            prop_assert_eq!(defect.kind, DefectKind::TooDeep, "only serde_json takes {}", shown);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_random_document_says_the_same_to_both(document in documents(), choices in prop::collection::vec(any::<u8>(), 1..64)) {
        let line = Renderer::render(&document, &choices);
        agree(line.as_bytes(), &plan())?;
        agree(line.as_bytes(), &ScanPlan::default())?;
    }

    #[test]
    fn a_random_resource_says_the_same_to_both(document in resources(), choices in prop::collection::vec(any::<u8>(), 1..64)) {
        let line = Renderer::render(&document, &choices);
        prop_assert!(serde_json::from_str::<Value>(&line).is_ok(), "{}", line);
        agree(line.as_bytes(), &plan())?;
    }

    #[test]
    fn a_mutated_resource_is_taken_by_both_or_neither(
        document in resources(),
        choices in prop::collection::vec(any::<u8>(), 1..64),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, prop::sample::select(&b"{}[]:,\"\\ \n\t0123456789eE+-.truefalsnu/xdD8\x00\x1f\x7f\x80\xC3\xFF"[..])), 1..4),
    ) {
        let mut line = Renderer::render(&document, &choices).into_bytes();
        for (at, kind, byte) in mutations {
            let at = at.index(line.len() + 1);
            match kind {
                0 => line.insert(at, byte),
                1 if at < line.len() => line[at] = byte,
                2 if at < line.len() => { line.remove(at); }
                3 if byte == b'{' => line.truncate(at),
                _ => {}
            }
        }
        agree(&line, &plan())?;
    }

    #[test]
    fn random_bytes_are_taken_by_both_or_neither(line in "[{}\\[\\]:,\"\\\\ a0-]{0,24}") {
        agree(line.as_bytes(), &ScanPlan::default())?;
        agree(format!("{{\"resourceType\":\"Flag\",\"subject\":{line}}}").as_bytes(), &plan())?;
    }
}

/// Writes a document as a database does that orders names by length, with a space behind colons and commas.
fn spaced(value: &Value, into: &mut String) {
    let mut separator = "";
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| (name.len(), *name));
            into.push('{');
            for (name, member) in members {
                write!(into, "{separator}{}: ", Value::String(name.clone())).unwrap();
                spaced(member, into);
                separator = ", ";
            }
            into.push('}');
        }
        Value::Array(elements) => {
            into.push('[');
            for element in elements {
                into.push_str(separator);
                spaced(element, into);
                separator = ", ";
            }
            into.push(']');
        }
        scalar => write!(into, "{scalar}").unwrap(),
    }
}

/// Checks each line as it is, and written anew: with sorted names, so that the type comes late, with spaces, and over
/// many lines. None of them is one for the slow way.
fn check_folder(folder: &str, most_bytes_a_file: usize) {
    let Some(folder) = shared(folder) else { return };
    let plan = plan();
    let plans = [structure(&plan), plan.clone()];
    let mut references = References::new();
    let mut check = |line: &[u8], expected: &Learned| {
        for plan in &plans {
            let facts = scan(line, plan, &mut references).unwrap_or_else(|defect| panic!("{defect}"));
            assert_eq!(&learned(&facts, &references), expected);
            assert!(!facts.slow);
        }
    };
    let mut anew = String::new();
    let mut count = 0;
    for line in packed_lines(&folder, most_bytes_a_file) {
        let value: Value = serde_json::from_slice(&line).unwrap();
        let expected = naive_of(&value, &plan).unwrap();
        check(&line, &expected);
        check(value.to_string().as_bytes(), &expected);
        anew.clear();
        spaced(&value, &mut anew);
        check(anew.as_bytes(), &expected);
        check(serde_json::to_string_pretty(&value).unwrap().as_bytes(), &expected);
        count += 1;
    }
    assert!(count > 100);
}

#[test]
fn the_official_examples_say_the_same_to_both() {
    check_folder("data/r4-examples", usize::MAX);
}

#[test]
fn every_synthetic_resource_says_the_same_to_both() {
    check_folder("data/synthea-r4", usize::MAX);
}
