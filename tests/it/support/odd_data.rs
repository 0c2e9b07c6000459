//! Random data with everything odd that a source may deliver.

use std::fmt;

use fhir_export::fhir::ResourceType;
use fhir_export::source::memory::{MemoryRange, MemorySource};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::Files;

pub(crate) const OWN_BASE: &str = "https://own.example/fhir";
pub(crate) const TRANSACTION_TIME: &str = "2024-06-01T12:00:00Z";

/// Instants around each other, some equal but for how they are written.
pub(crate) const INSTANTS: [&str; 8] = [
    "2024-01-01T00:00:00Z",
    "2024-01-01T01:00:00.000+01:00",
    "2024-01-01T00:00:00.0000000001Z",
    "2023-12-31T23:59:59.999Z",
    "2024-06-01T12:00:00Z",
    "2024-06-01T12:00:00.001Z",
    "2024-03-01T00:00:00-14:00",
    "2030-01-01T00:00:00Z",
];

const TYPES: [&str; 10] = [
    "Patient",
    "Patient",
    "Observation",
    "Observation",
    "Condition",
    "Encounter",
    "Practitioner",
    "Binary",
    "HospitalThing",
    "OperationOutcome",
];

/// Lines that aren't resources, without a line feed in them.
const BAD: [&[u8]; 20] = [
    b"[1,2]",
    b"null",
    b"5",
    b"{}",
    br#"{"id":"x"}"#,
    br#"{"resourceType":5}"#,
    br#"{"resourceType":null,"id":"x"}"#,
    br#"{"resourceType":"patient"}"#,
    br#"{"resourceType":"A"}"#,
    br#"{"resourceType":"../Patient"}"#,
    br#"{"resourceType":"Patient/1"}"#,
    br#"{"contained":[{"resourceType":"Patient"}]}"#,
    br#"{"resourceType":"Patient""#,
    br#"{"resourceType":"Patient",}"#,
    br#"{"resourceType":"Patient"} {"resourceType":"Patient"}"#,
    br#"{"resourceType":"Patient","n":01}"#,
    b"{\"resourceType\":\"Patient\",\"n\":\"\t\"}",
    b"{\"resourceType\":\"Patient\",\"n\":\"\xFF\"}",
    b"{\"resourceType\":\"Patient\",\"n\":\"\xED\xA0\x80\"}",
    br#"{"resourceType":"Patient","n":"\q"}"#,
];

/// Groups that stand once in the data: members that are people, nested, cyclic, gone and not there.
pub(crate) const GROUPS: [&str; 4] = [
    r#"{"resourceType":"Group","id":"g1","actual":true,"member":[{"entity":{"reference":"Patient/p1"}},{"entity":{"reference":"Group/g2"}}]}"#,
    r#"{"id":"g2","member":[{"entity":{"reference":"https://own.example/fhir/Patient/p2"}},{"entity":{"reference":"Group/g1"}},{"entity":{"reference":"https://other.example/Patient/p3"}},{"entity":{"reference":"Patient/p3"},"inactive":true}],"actual":true,"resourceType":"Group"}"#,
    r#"{"resourceType":"Group","id":"g3","meta":{"lastUpdated":"2024-06-01T12:00:00.001Z"},"active":false,"actual":true,"member":[{"entity":{"reference":"Patient/p3"},"period":{"end":"2024-05"}},{"entity":{"reference":"Patient/p4"},"period":{"start":"2024-06-01","end":"2024"}},{"entity":{"reference":"Group/g4"}}]}"#,
    r#"{"resourceType":"Group","id":"g5","actual":true}"#,
];

/// One resource, or what stands in its place.
#[derive(Clone)]
pub(crate) struct Item {
    /// As the source holds it.
    pub(crate) body: Vec<u8>,
    /// The source marks it as deleted; of rows only.
    pub(crate) deleted: bool,
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.deleted { "deleted " } else { "" };
        write!(f, "{mark}{}", self.body.escape_ascii())
    }
}

/// A range of the source.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) name: String,
    pub(crate) declared: Option<&'static str>,
    pub(crate) is_rows: bool,
    pub(crate) items: Vec<Item>,
    pub(crate) ends_with_line_feed: bool,
}

impl Piece {
    /// The range as a source delivers it, in pieces of so many bytes.
    fn range(&self, chunk_bytes: usize) -> MemoryRange {
        let range = if self.is_rows {
            MemoryRange::marked_rows(&self.name, self.items.iter().map(|item| (item.body.clone(), item.deleted)))
        } else {
            MemoryRange::lines(&self.name, self.bytes())
        };
        let range = range.in_chunks_of(chunk_bytes);
        match self.declared {
            Some(name) => range.of_type(ResourceType::new(name).unwrap()),
            None => range,
        }
    }

    /// The range as a file of lines.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.items.iter().map(|item| self.line(item)).collect::<Vec<_>>().join(&b'\n');
        if self.ends_with_line_feed {
            bytes.push(b'\n');
        }
        bytes
    }

    /// An item on a line of its own: a raw line end of a row becomes a blank, or within a string what is as wrong there.
    fn line(&self, item: &Item) -> Vec<u8> {
        if !self.is_rows {
            return item.body.clone();
        }
        let mut line = item.body.clone();
        if let Some(start) = line.windows(IN_STRING.len()).position(|window| window == IN_STRING) {
            line[start + IN_STRING.len() - 2] = b'\x01';
        }
        line.iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }).collect()
    }
}

/// How a raw line end within a string of a row is written.
const IN_STRING: &[u8] = b"\"in a string\n\"";

/// The pieces as files, in their order.
pub(crate) fn files(pieces: &[Piece]) -> Files {
    pieces.iter().map(|piece| (piece.name.clone(), piece.bytes())).collect()
}

/// The pieces as a source, at [`TRANSACTION_TIME`].
pub(crate) fn source(pieces: &[Piece], chunk_bytes: usize) -> MemorySource {
    let source = MemorySource::new().at(fhir_export::fhir::Instant::parse(TRANSACTION_TIME).unwrap());
    pieces.iter().fold(source, |source, piece| source.with(piece.range(chunk_bytes)))
}

/// Some ranges of odd data; each of [`GROUPS`] stands in it once or not at all.
pub(crate) fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let groups = vec(option::weighted(0.8, any::<(prop::sample::Index, prop::sample::Index)>()), GROUPS.len());
    (vec(piece(), 1..6), groups).prop_map(|(mut pieces, groups)| {
        for (number, piece) in pieces.iter_mut().enumerate() {
            piece.name = format!("range-{number}");
        }
        for (group, place) in GROUPS.iter().zip(groups) {
            let Some((piece, item)) = place else { continue };
            let mut open: Vec<&mut Piece> = pieces.iter_mut().filter(|piece| piece.declared.is_none()).collect();
            if open.is_empty() {
                continue;
            }
            let index = piece.index(open.len());
            let items = &mut open[index].items;
            items.insert(item.index(items.len() + 1), Item { body: group.as_bytes().to_vec(), deleted: false });
        }
        pieces
    })
}

fn piece() -> impl Strategy<Value = Piece> {
    let declared = option::weighted(0.3, select(&["Patient", "Observation", "HospitalThing"][..]));
    (declared, any::<bool>()).prop_flat_map(|(declared, is_rows)| {
        let item = item(declared, is_rows);
        // Blanks in place of a body are no row.
        (vec(item, 0..25), any::<bool>()).prop_map(move |(items, ends_with_line_feed)| Piece {
            name: String::new(),
            declared,
            is_rows,
            items,
            ends_with_line_feed,
        })
    })
}

fn item(declared: Option<&'static str>, is_rows: bool) -> BoxedStrategy<Item> {
    let kind = match declared {
        Some(name) => Just(name).boxed(),
        None => select(&TYPES[..]).boxed(),
    };
    let bad = select(&BAD[..]).prop_map(<[u8]>::to_vec);
    let deep = prop_oneof![Just(255_usize), Just(256), Just(300)].prop_map(|depth| nested(depth).into_bytes());
    if is_rows {
        let in_string = Just([br#"{"resourceType":"Patient","n":"#, IN_STRING, b"}"].concat());
        let odd = prop_oneof![6 => bad, 1 => deep, 1 => in_string];
        let body = prop_oneof![20 => resource(kind, true), 2 => odd];
        let surrounded = (body, select(&["", " ", "\n", "\t\r\n"][..]), any::<bool>());
        return surrounded
            .prop_map(|(body, around, mark)| {
                let deleted = find(&body, b"\"gone");
                let mark = if mark && !around.is_empty() { "\u{FEFF}" } else { "" };
                Item { body: [mark.as_bytes(), around.as_bytes(), &body, around.as_bytes()].concat(), deleted }
            })
            .boxed();
    }
    let junk = vec(any::<u8>().prop_map(|byte| if byte == b'\n' { b' ' } else { byte }), 0..40);
    let blank =
        select(&["", " ", "\r", "\t \r", "\u{FEFF}", "\u{FEFF} \r"][..]).prop_map(|text| text.as_bytes().to_vec());
    let long_blank = (50..200_usize).prop_map(|length| vec![b' '; length]);
    let odd = prop_oneof![8 => bad, 1 => deep, 3 => junk, 4 => blank, 1 => long_blank];
    let body = prop_oneof![20 => resource(kind, false), 4 => odd];
    let before = prop_oneof![8 => Just(""), 1 => Just("\u{FEFF}"), 1 => Just(" \t"), 1 => Just("\u{FEFF} ")];
    let after = prop_oneof![8 => Just(""), 3 => Just("\r"), 1 => Just(" \r"), 1 => Just("\t ")];
    (before, body, after)
        .prop_map(|(before, body, after)| Item {
            body: [before.as_bytes(), &body, after.as_bytes()].concat(),
            deleted: false,
        })
        .boxed()
}

fn find(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|window| window == needle)
}

/// A resource that is so many objects and arrays deep.
fn nested(depth: usize) -> String {
    let arrays = depth - 1;
    format!(r#"{{"resourceType":"Basic","n":{}{}}}"#, "[".repeat(arrays), "]".repeat(arrays))
}

/// A well-formed resource, written in any way that JSON allows.
fn resource(kind: BoxedStrategy<&'static str>, is_row: bool) -> impl Strategy<Value = Vec<u8>> {
    let references = vec(reference(), 0..3);
    let id = option::weighted(0.9, select(&["p1", "p2", "p3", "p4", "o1", "gone-1", "ä\\u00e9"][..]));
    let separators = if is_row { &["", "", " ", "\n", "\r\n  "][..] } else { &["", "", "", " ", "\t", "\r"][..] };
    let order = Just(()).prop_perturb(|(), mut random| random.next_u64());
    (kind, id, meta(), references, padding(), select(separators), spelling(), order).prop_map(
        |(kind, id, meta, references, padding, separator, spelling, order)| {
            let mut members = vec![spelling.resource_type(kind)];
            // Only a row can be marked as deleted, so only there is the mark in the id.
            members.extend(id.filter(|id| is_row_id(id, separators)).map(|id| format!(r#""id":"{id}""#)));
            members.extend(meta.map(str::to_owned));
            members.extend(linking(kind, &references));
            members.extend(padding);
            let start = (order % members.len() as u64) as usize;
            members.rotate_left(start);
            if spelling == Spelling::Doubled {
                members.insert(0, r#""resourceType":"Basic""#.to_owned());
            }
            let joint = format!("{separator},{separator}");
            format!("{{{separator}{}{separator}}}", members.join(&joint)).into_bytes()
        },
    )
}

fn is_row_id(id: &str, separators: &[&str]) -> bool {
    separators.contains(&"\n") || !id.starts_with("gone")
}

/// How `resourceType` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    Plain,
    EscapedKey,
    EscapedValue,
    /// The last one wins.
    Doubled,
    /// A contained resource says something else.
    Contained,
}

impl Spelling {
    fn resource_type(self, kind: &str) -> String {
        match self {
            Self::Plain | Self::Doubled => format!(r#""resourceType":"{kind}""#),
            Self::EscapedKey => format!(r#""resourceT\u0079pe" : "{kind}""#),
            Self::EscapedValue => {
                format!(r#""resourceType":"{}\u00{:02x}""#, &kind[..kind.len() - 1], kind.as_bytes()[kind.len() - 1])
            }
            Self::Contained => format!(
                r#""contained":[{{"resourceType":"Binary","id":"p1","subject":{{"reference":"Patient/p1"}}}}],"resourceType":"{kind}""#
            ),
        }
    }
}

fn spelling() -> impl Strategy<Value = Spelling> {
    prop_oneof![
        6 => Just(Spelling::Plain),
        1 => Just(Spelling::EscapedKey),
        1 => Just(Spelling::EscapedValue),
        1 => Just(Spelling::Doubled),
        1 => Just(Spelling::Contained),
    ]
}

fn meta() -> impl Strategy<Value = Option<&'static str>> {
    const META: [&str; 24] = [
        r#""meta":{"lastUpdated":"2024-01-01T00:00:00Z"}"#,
        r#""meta":{"versionId":"1","lastUpdated":"2024-01-01T01:00:00.000+01:00"}"#,
        r#""meta":{"lastUpdated":"2024-01-01T00:00:00.0000000001Z"}"#,
        r#""meta":{"lastUpdated":"2023-12-31T23:59:59.999Z"}"#,
        r#""meta":{"lastUpdated":"2024-06-01T12:00:00Z"}"#,
        r#""meta":{"lastUpdated":"2024-06-01T12:00:00.001Z"}"#,
        r#""meta":{"lastUpdated":"2024-03-01T00:00:00-14:00"}"#,
        r#""meta":{"lastUpdated":"2030-01-01T00:00:00Z"}"#,
        r#""meta":{"lastUpdated":"1999-01-01T00:00:00Z","lastUpdated":"2024-02-01T00:00:00Z"}"#,
        r#""meta":{"l\u0061stUpdated":"2024-02-01T00:00:00\u005a"}"#,
        r#""meta":{"versionId":"7"}"#,
        r#""meta":{"lastUpdated":"2024-02-30T00:00:00Z"}"#,
        r#""meta":{"lastUpdated":"2024-02-01"}"#,
        r#""meta":{"lastUpdated":5}"#,
        r#""meta":[]"#,
        r#""meta":{"lastUpdated":"1999-01-01T00:00:00Z"},"meta":{}"#,
        r#""meta":{"tag":[{"system":"s","code":"R"}],"lastUpdated":"2024-02-01T00:00:00Z"}"#,
        r#""meta":{"security":[{"code":"x"},{"system":"s","code":"\u0052","display":"]}"}],"tag":[{"system":"s","code":"V"}]}"#,
        r#""meta":{"tag":[{"system":"s","code":"V"},{"system":"s","code":"R"}],"security":[{"code":"R"}]}"#,
        r#""meta":{"tag":[{"code":"R"}],"t\u0061g":[{"system":"s"}]}"#,
        r#""meta":{"tag":[{"system":"s","code":"R"}]},"meta":{"tag":[]}"#,
        r#""meta":{"tag":{"system":"s","code":"R"},"security":"R"}"#,
        r#""meta":{"tag":[null,5,"R",["s|R"],{"system":5,"code":"R"}],"security":null}"#,
        r#""meta":{"profile":["s|R"],"extension":[{"tag":[{"system":"s","code":"R"}]}]}"#,
    ];
    option::weighted(0.85, select(&META[..]))
}

fn reference() -> impl Strategy<Value = String> {
    let id = select(&["p1", "p1", "p2", "p3", "p4", "nobody"][..]);
    let form = select(
        &[
            "Patient/{}",
            "Patient/{}",
            "Patient/{}/_history/2",
            "https://own.example/fhir/Patient/{}",
            "https://other.example/fhir/Patient/{}",
            "Practitioner/{}",
            "urn:uuid:{}",
            "#{}",
            "P\\u0061tient/{}",
        ][..],
    );
    (form, id).prop_map(|(form, id)| format!(r#"{{"reference":"{}"}}"#, form.replace("{}", id)))
}

/// References where the compartment looks for them, and where it doesn't.
fn linking(kind: &str, references: &[String]) -> Vec<String> {
    let Some(first) = references.first() else { return Vec::new() };
    let focus = format!(r#""focus":[{}]"#, references.join(","));
    match kind {
        "Patient" => vec![format!(r#""link":[{{"other":{first}}}]"#)],
        "Observation" => {
            vec![format!(r#""subject":{first}"#), focus, format!(r#""performer":[{}]"#, references.join(","))]
        }
        "Condition" => vec![format!(r#""subject":{first}"#), focus],
        _ => vec![format!(r#""subject":{first}"#)],
    }
}

fn padding() -> impl Strategy<Value = Option<String>> {
    let text = prop_oneof![
        6 => (0..60_usize).prop_map(|length| format!(r#""{}""#, "x".repeat(length))),
        1 => (60..900_usize).prop_map(|length| format!(r#""{}""#, "long ".repeat(length / 5))),
        1 => Just(r#""\ud800 \u0000 \" \\ {[ ä""#.to_owned()),
        1 => Just("-1.5e999".to_owned()),
        1 => Just(r#"{"reference":"Patient/p1","resourceType":"Basic","list":[true,false,null,{}]}"#.to_owned()),
    ];
    option::of(text.prop_map(|text| format!(r#""n":{text}"#)))
}
