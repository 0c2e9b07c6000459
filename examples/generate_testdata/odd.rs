//! `testdata/odd`: every odd line and file that an export may meet.

use super::{File, gzip};

/// Byte order mark.
const BOM: &str = "\u{FEFF}";

/// All files of `testdata/odd`.
pub(crate) fn files() -> Vec<File> {
    let mut files = Vec::new();
    files.extend(white_space());
    files.extend(keys_and_strings());
    files.extend(refused());
    files.extend(types_and_times());
    files.extend(gzipped());
    files
}

fn file(name: &str, bytes: impl Into<Vec<u8>>) -> File {
    File { path: format!("odd/{name}"), bytes: bytes.into() }
}

fn lines<L: AsRef<[u8]>>(name: &str, lines: &[L]) -> File {
    let mut bytes = Vec::new();
    for line in lines {
        bytes.extend(line.as_ref());
        bytes.push(b'\n');
    }
    file(name, bytes)
}

fn patient(id: &str) -> String {
    format!(r#"{{"resourceType":"Patient","id":"{id}"}}"#)
}

fn white_space() -> Vec<File> {
    let (one, two) = (patient("one"), patient("two"));
    vec![
        file("Patient-crlf.ndjson", format!("{one}\r\n{two}\r\n")),
        file("Patient-bom.ndjson", format!("{BOM}{one}\n{two}\n")),
        file("Patient-blank-lines.ndjson", format!("\n{one}\n\n  \t\n\r\n{two}\n\n\n")),
        file("Patient-no-final-newline.ndjson", format!("{one}\n{two}")),
        file("Patient-blanks-around.ndjson", format!("  {one}\n\t{two} \t \r\n")),
        file("Patient-empty.ndjson", ""),
        file("Patient-only-blanks.ndjson", " \n\r\n\n"),
    ]
}

fn keys_and_strings() -> Vec<File> {
    let base64 = "QUJD".repeat(2048);
    vec![
        lines(
            "Patient-keys.ndjson",
            &[
                r#"{"resource\u0054ype":"Patient","\u0069d":"escaped-keys"}"#,
                r#"{"resourceType":"Pat\u0069ent","id":"escaped\u002Dvalues"}"#,
                r#"{"resourceType":"Observation","id":"first","resourceType":"Patient","id":"duplicate-keys"}"#,
                r#"{"id":"type-last","name":[{"text":"\"resourceType\":\"Observation\""}],"resourceType":"Patient"}"#,
                "{ \"resourceType\"\t: \"Patient\" ,\t\"id\" :\"blanks\" , \"name\" : [ { } ] }",
                r#"{"contained":[{"resourceType":"Observation","id":"inner"}],"resourceType":"Patient","id":"contained-first"}"#,
                r#"{"ResourceType":"Observation","resourcetype":"Observation","resourceType":"Patient","id":"case"}"#,
            ],
        ),
        lines(
            "Patient-strings.ndjson",
            &[
                r#"{"resourceType":"Patient","id":"lone-high","name":[{"text":"\uD83C"}]}"#.to_owned(),
                r#"{"resourceType":"Patient","id":"lone-low","name":[{"text":"\udf21 and \uD83C\uD83C\uDF21"}]}"#.to_owned(),
                r#"{"resourceType":"Patient","id":"pair","name":[{"text":"\uD83C\uDF21 \\uD83C \u0000 \/"}]}"#.to_owned(),
                r#"{"resourceType":"Patient","id":"huge-number","extension":[{"url":"n","valueDecimal":-123456789012345678901234567890.10E+99999}]}"#.to_owned(),
                format!(r#"{{"resourceType":"Patient","id":"long-string","photo":[{{"data":"{base64}"}}]}}"#),
                r#"{"resourceType":"Patient","id":"not-an-id-of-fhir / 'ü'","name":[{"text":"line\u2028separator"}]}"#.to_owned(),
            ],
        ),
        lines("Basic-nesting.ndjson", &[nested(255), nested(256), nested(257)]),
    ]
}

/// A resource whose values lie so deep, the resource itself being the first level.
fn nested(depth: usize) -> String {
    let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
    format!(r#"{{"resourceType":"Basic","id":"depth-{depth}","extension":{open}{close}}}"#)
}

fn refused() -> Vec<File> {
    vec![
        lines(
            "Patient-not-json.ndjson",
            &[
                &b"{\"resourceType\":\"Patient\",\"id\":\"invalid-utf-8\",\"name\":\"\xC3\x28\"}"[..],
                b"{\"resourceType\":\"Patient\",\"id\":\"surrogate-in-utf-8\",\"name\":\"\xED\xA0\xBC\"}",
                b"{\"resourceType\":\"Patient\",\"id\":\"raw\tcontrol\"}",
                b"{\"resourceType\":\"Patient\",\"id\":\"raw\rcontrol\"}",
                b"{\"resourceType\":\"Patient\",\"id\":\"truncated\",\"name\":[{\"text\":\"Ad",
                b"{\"resourceType\":\"Patient\",\"id\":\"garbage\"} garbage",
                b"{\"resourceType\":\"Patient\",\"id\":\"two\"}{\"resourceType\":\"Patient\",\"id\":\"in-one-line\"}",
                b"{\"resourceType\":\"Patient\",\"id\":\"comma\",}",
                b"{'resourceType':'Patient','id':'quotes'}",
                b"{\"resourceType\":\"Patient\",\"multipleBirthInteger\":007}",
                b"{\"resourceType\":\"Patient\",\"extension\":[NaN]}",
                b"{\"resourceType\":\"Patient\",\"id\":\"bad\\xescape\"}",
                b"\xC2\xA0{\"resourceType\":\"Patient\",\"id\":\"no-break-space\"}",
                b"garbage",
            ],
        ),
        lines(
            "Patient-not-a-resource.ndjson",
            &[
                r#"[{"resourceType":"Patient","id":"in-an-array"}]"#,
                r#""Patient""#,
                "42",
                "null",
                "{}",
                r#"{"id":"no-type"}"#,
                r#"{"resourceType":null,"id":"null-type"}"#,
                r#"{"resourceType":["Patient"],"id":"array-type"}"#,
                r#"{"resourceType":"","id":"empty-type"}"#,
                r#"{"resourceType":"P","id":"one-letter"}"#,
                r#"{"resourceType":"patient","id":"lower-case"}"#,
                r#"{"resourceType":"Patient ","id":"blank-in-type"}"#,
                r#"{"resourceType":"../Patient","id":"path"}"#,
                r#"{"resourceType":"Patient/Observation","id":"slash"}"#,
                r#"{"resourceType":"Patient2","id":"digit"}"#,
                r#"{"entry":[{"resource":{"resourceType":"Patient","id":"inner"}}]}"#,
                r#"{"resourceType":"Patient","id":"last-wins","resourceType":"no type"}"#,
            ],
        ),
    ]
}

fn types_and_times() -> Vec<File> {
    let stamped = |id: &str, meta: &str| format!(r#"{{"resourceType":"Patient","id":"{id}","meta":{meta}}}"#);
    let (longest, too_long) = ("A".repeat(64), "A".repeat(65));
    vec![
        lines("HospitalThing.ndjson", &[r#"{"resourceType":"HospitalThing","id":"unknown-to-r4"}"#]),
        lines(
            "long-type-names.ndjson",
            &[
                format!(r#"{{"resourceType":"{longest}","id":"64-letters"}}"#),
                format!(r#"{{"resourceType":"{too_long}","id":"65-letters"}}"#),
            ],
        ),
        lines(
            "Patient-last-updated.ndjson",
            &[
                stamped("date-only", r#"{"lastUpdated":"2024-01-01"}"#),
                stamped("no-zone", r#"{"lastUpdated":"2024-01-01T00:00:00"}"#),
                stamped("no-such-day", r#"{"lastUpdated":"2023-02-29T00:00:00Z"}"#),
                stamped("empty", r#"{"lastUpdated":""}"#),
                stamped("number", r#"{"lastUpdated":1704067200}"#),
                stamped("last-wins", r#"{"lastUpdated":"never","lastUpdated":"2024-01-01T00:00:00Z"}"#),
                stamped("leap-second", r#"{"lastUpdated":"2016-12-31T23:59:60Z"}"#),
                stamped("future", r#"{"lastUpdated":"2999-01-01T00:00:00Z"}"#),
                stamped("escaped", r#"{"last\u0055pdated":"2024\u002D01-01T00:00:00Z"}"#),
                stamped("meta-is-an-array", r#"[{"lastUpdated":"2024-01-01T00:00:00Z"}]"#),
            ],
        ),
        lines(
            "Patient-other-types.ndjson",
            &[
                r#"{"resourceType":"Patient","id":"three"}"#,
                r#"{"resourceType":"Observation","id":"among-patients","subject":{"reference":"Patient/three"}}"#,
                r#"{"resourceType":"Patient","id":"four"}"#,
            ],
        ),
        lines(
            "Observation-name-lies.ndjson",
            &[r#"{"resourceType":"Condition","id":"in-the-wrong-file","subject":{"reference":"Patient/three"}}"#],
        ),
    ]
}

fn gzipped() -> Vec<File> {
    let two = [
        r#"{"resourceType":"Encounter","id":"in-gzip-one","subject":{"reference":"Patient/one"}}"#,
        r#"{"resourceType":"Encounter","id":"in-gzip-two","subject":{"reference":"Patient/two"}}"#,
    ]
    .join("\n");
    let whole = gzip::member(two.as_bytes());
    let mut truncated = whole.clone();
    truncated.truncate(whole.len() - 20);
    let mut corrupt = whole.clone();
    if let Some(byte) = corrupt.get_mut(40) {
        *byte ^= 1;
    }
    let mut garbage = whole.clone();
    garbage.extend(b"garbage after the last member");
    vec![
        file("Encounter-no-final-newline.ndjson.gz", whole),
        file("Encounter-empty.ndjson.gz", gzip::member(b"")),
        file("Encounter-truncated.ndjson.gz", truncated),
        file("Encounter-corrupt.ndjson.gz", corrupt),
        file("Encounter-trailing-garbage.ndjson.gz", garbage),
        file("Encounter-not-gzip.ndjson.gz", two),
    ]
}
