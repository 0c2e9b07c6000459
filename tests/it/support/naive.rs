//! The naive exporter that tests compare with: the rules in the plainest words, on `serde_json::Value`.
//!
//! It uses nothing of the crate. It reads every file whole, trusts no file name, and is slow. Files that a source skips
//! because of their name are named to it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::ops::AddAssign;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde::Deserialize;
use serde_json::Value;

use super::Files;
use super::naive_cohort::{self, Cohort};

/// Whose data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    System,
    Patient,
    Group(String),
}

/// A label that is asked for: its system, if that counts, and its code, if that does. A system of `Some(None)` is absent.
pub(crate) type Label = (Option<Option<&'static str>>, Option<&'static str>);

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct NaiveRequest {
    pub(crate) level: Level,
    pub(crate) types: Option<BTreeSet<String>>,
    pub(crate) since: Option<String>,
    pub(crate) until: Option<String>,
    /// Labels that `meta.security` must hold, all of them.
    pub(crate) security: Vec<Label>,
    /// The same of `meta.tag`.
    pub(crate) tags: Vec<Label>,
    /// Ids of the only patients, of those whom the level holds.
    pub(crate) patients: Option<BTreeSet<String>>,
    /// Bases of the source's own, such as `https://fhir.example.org/r4`.
    pub(crate) base_urls: Vec<String>,
    /// Longest line without its line feed, in bytes.
    pub(crate) line_limit: usize,
    pub(crate) transaction_time: String,
    /// Whether what is stamped after the transaction time is left out, as of databases.
    pub(crate) excludes_after_t: bool,
    /// Which resources the source marks as deleted.
    pub(crate) is_deleted: fn(&Value) -> bool,
    /// Files that a source skips because of their name: only Groups of the cohort are looked for in them.
    pub(crate) unopened: BTreeSet<String>,
}

impl NaiveRequest {
    /// Everything at a level, of files.
    pub(crate) fn new(level: Level) -> Self {
        Self {
            level,
            types: None,
            since: None,
            until: None,
            security: Vec::new(),
            tags: Vec::new(),
            patients: None,
            base_urls: Vec::new(),
            line_limit: 64 << 20,
            transaction_time: "2025-01-01T00:00:00Z".to_owned(),
            excludes_after_t: false,
            is_deleted: |_| false,
            unopened: BTreeSet::new(),
        }
    }
}

/// So many resources of so many bytes, a line feed each included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) resources: u64,
    pub(crate) bytes: u64,
}

impl AddAssign<usize> for Count {
    fn add_assign(&mut self, resource_bytes: usize) {
        self.resources += 1;
        self.bytes += resource_bytes as u64 + 1;
    }
}

/// What became of the resources of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) read: Count,
    pub(crate) written: Count,
    /// By reason: deleted, type, since, until, after-T, scope, filter.
    pub(crate) excluded: BTreeMap<&'static str, Count>,
    pub(crate) quarantined: Count,
    /// Written resources that name a Patient outside the cohort besides.
    pub(crate) shared_with_non_members: u64,
}

/// Why a line is in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    TooLong,
    NotUtf8,
    TooDeep,
    NotAnObject,
    NoResourceType,
    LastUpdated,
}

/// A line in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quarantined {
    pub(crate) source: String,
    /// Where the resource begins in the (decompressed) file: after a byte order mark and blanks. A line over the limit
    /// isn't looked at: it begins where it begins.
    pub(crate) offset: u64,
    /// How many line feeds are before it.
    pub(crate) line: u64,
    /// Its length without blanks around it, in bytes; of a line over the limit with all but its line feed.
    pub(crate) length: u64,
    pub(crate) reason: Reason,
}

/// What comes out.
#[derive(Debug, Default)]
pub(crate) struct Export {
    /// By type: the bytes of all its objects, one after the other.
    pub(crate) output: BTreeMap<String, Vec<u8>>,
    /// By type; `None` has what has no valid `resourceType`.
    pub(crate) counts: BTreeMap<Option<String>, Counts>,
    pub(crate) quarantine: Vec<Quarantined>,
    /// Files that can't be decompressed to their end. What is before the fault isn't looked at.
    pub(crate) unreadable: Vec<String>,
    /// At the Group level, and of patients that were named.
    pub(crate) cohort: Option<Cohort>,
}

/// Why nothing comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownGroup,
    GroupNotActual,
    /// A patient that is named isn't there, or isn't a member of the Group.
    UnknownPatient,
    /// A Group of the cohort stands twice in the source, so the cohort isn't known.
    GroupTwice,
}

/// Exports files, in their order.
pub(crate) fn export(files: &Files, request: &NaiveRequest) -> Result<Export, Refusal> {
    let mut export = Export::default();
    let mut plain = Files::new();
    for (name, bytes) in files {
        match decompressed(name, bytes) {
            Some(bytes) => plain.push((name.clone(), bytes)),
            None => export.unreadable.push(name.clone()),
        }
    }
    // A Group of many members may be longer than any line that is written.
    let all = plain.iter().flat_map(|(_, bytes)| lines(bytes));
    let resources = || all.filter_map(|line| parse(line.raw, line.text, usize::MAX).ok()).collect::<Vec<Value>>();
    export.cohort = match (&request.level, &request.patients) {
        (Level::System, _) | (Level::Patient, None) => None,
        (Level::Group(id), None) => Some(naive_cohort::resolve(&resources(), id, request)?),
        (Level::Group(id), Some(patients)) => {
            let cohort = naive_cohort::resolve(&resources(), id, request)?;
            Some(listed(patients, |id| cohort.patients.contains(id), cohort.missing.clone())?)
        }
        (Level::Patient, Some(patients)) => {
            let resources = resources();
            let is_there = |id: &str| {
                let is_one = |resource: &&Value| type_of(resource) == Some("Patient") && resource["id"] == id;
                resources.iter().filter(is_one).any(|resource| !(request.is_deleted)(resource))
            };
            Some(listed(patients, is_there, BTreeSet::new())?)
        }
    };
    for (name, bytes) in plain.iter().filter(|(name, _)| !request.unopened.contains(name)) {
        for line in lines(bytes) {
            export_line(name, &line, request, &mut export);
        }
    }
    Ok(export)
}

/// The patients that were named as a cohort of their own, without Groups.
fn listed(
    patients: &BTreeSet<String>,
    is_known: impl Fn(&str) -> bool,
    missing: BTreeSet<String>,
) -> Result<Cohort, Refusal> {
    if !patients.iter().all(|id| is_known(id)) {
        return Err(Refusal::UnknownPatient);
    }
    Ok(Cohort { patients: patients.clone(), groups: BTreeSet::new(), missing })
}

fn export_line(source: &str, line: &Line<'_>, request: &NaiveRequest, export: &mut Export) {
    let decided = parse(line.raw, line.text, request.line_limit)
        .map_err(|reason| (None, Decision::Quarantined(reason)))
        .and_then(|value| match type_of(&value) {
            Some(name) => Ok((Some(name.to_owned()), decide(&value, name, request, export.cohort.as_ref()))),
            None => Err((None, Decision::Quarantined(Reason::NoResourceType))),
        });
    let (name, decision) = decided.unwrap_or_else(|quarantined| quarantined);
    let is_too_long = matches!(decision, Decision::Quarantined(Reason::TooLong));
    let (offset, length) = if is_too_long { (line.start, line.raw.len()) } else { (line.offset, line.text.len()) };
    let counts = export.counts.entry(name.clone()).or_default();
    counts.read += length;
    match decision {
        Decision::Written { shared } => {
            counts.written += line.text.len();
            counts.shared_with_non_members += u64::from(shared);
            let output = export.output.entry(name.unwrap()).or_default();
            output.extend(line.text);
            output.push(b'\n');
        }
        Decision::Excluded(reason) => *counts.excluded.entry(reason).or_default() += line.text.len(),
        Decision::Quarantined(reason) => {
            counts.quarantined += length;
            let (offset, length) = (offset as u64, length as u64);
            let line = line.number;
            export.quarantine.push(Quarantined { source: source.to_owned(), offset, line, length, reason });
        }
    }
}

enum Decision {
    Written { shared: bool },
    Excluded(&'static str),
    Quarantined(Reason),
}

fn decide(resource: &Value, name: &str, request: &NaiveRequest, cohort: Option<&Cohort>) -> Decision {
    if (request.is_deleted)(resource) {
        return Decision::Excluded("deleted");
    }
    if request.types.as_ref().is_some_and(|types| !types.contains(name)) {
        return Decision::Excluded("type");
    }
    let last_updated = last_updated(resource);
    if last_updated == LastUpdated::Malformed && (request.since.is_some() || request.until.is_some()) {
        return Decision::Quarantined(Reason::LastUpdated);
    }
    let stamp = if let LastUpdated::At(stamp) = last_updated { Some(stamp) } else { None };
    let at = |text: &String| instant(text).expect("an instant in the request");
    if request.since.as_ref().is_some_and(|since| stamp.as_ref().is_some_and(|stamp| *stamp < at(since))) {
        return Decision::Excluded("since");
    }
    if request.until.as_ref().is_some_and(|until| stamp.as_ref().is_none_or(|stamp| *stamp > at(until))) {
        return Decision::Excluded("until");
    }
    if request.excludes_after_t && stamp.is_some_and(|stamp| stamp > at(&request.transaction_time)) {
        return Decision::Excluded("after-T");
    }
    let Some(shared) = in_scope(resource, name, request, cohort) else { return Decision::Excluded("scope") };
    let meta = &resource["meta"];
    if !bears(&meta["security"], &request.security) || !bears(&meta["tag"], &request.tags) {
        return Decision::Excluded("filter");
    }
    Decision::Written { shared }
}

/// Whether a list of codings has one for each label. A coding alone is a list of one.
fn bears(codings: &Value, labels: &[Label]) -> bool {
    let codings: Vec<&Value> = match codings {
        Value::Array(items) => items.iter().collect(),
        one => vec![one],
    };
    let is_borne = |(system, code): &Label| {
        codings.iter().filter(|coding| coding.is_object()).any(|coding| {
            system.is_none_or(|system| coding["system"].as_str() == system)
                && code.is_none_or(|code| coding["code"].as_str() == Some(code))
        })
    };
    labels.iter().all(is_borne)
}

/// Whether the resource is in scope, and if so whether it is shared with non-members.
fn in_scope(resource: &Value, name: &str, request: &NaiveRequest, cohort: Option<&Cohort>) -> Option<bool> {
    let id = resource["id"].as_str();
    let patients = || compartment_patients(resource, name, &request.base_urls);
    let yes = match (&request.level, cohort) {
        (Level::System, _) => true,
        (Level::Patient, None) => name == "Patient" || !patients().is_empty(),
        (_, Some(cohort)) if name == "Patient" => id.is_some_and(|id| cohort.patients.contains(id)),
        (_, Some(cohort)) if name == "Group" => id.is_some_and(|id| cohort.groups.contains(id)),
        (_, Some(cohort)) => {
            let (members, others): (Vec<_>, Vec<_>) =
                patients().into_iter().partition(|id| cohort.patients.contains(id));
            return (!members.is_empty()).then_some(!others.is_empty());
        }
        (Level::Group(_), None) => unreachable!("a cohort is resolved first"),
    };
    yes.then_some(false)
}

/// The ids of the source's own patients that a resource's compartment references name.
pub(crate) fn compartment_patients(resource: &Value, name: &str, base_urls: &[String]) -> Vec<String> {
    COMPARTMENT.get(name).into_iter().flatten().flat_map(|path| patients_at(resource, path, base_urls)).collect()
}

/// The same for the references at one path.
pub(crate) fn patients_at(resource: &Value, path: &str, base_urls: &[String]) -> Vec<String> {
    let mut found = items(resource);
    for key in path.split('.') {
        found = found.into_iter().filter_map(|value| value.get(key)).flat_map(items).collect();
    }
    let references = found.into_iter().filter_map(|value| value["reference"].as_str());
    let local = references.filter_map(|reference| local(reference, base_urls));
    local.filter(|(target, _)| target == "Patient").map(|(_, id)| id).collect()
}

/// The items of an array; anything else is its own only item.
fn items(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().flat_map(|item| self::items(item)).collect(),
        other => vec![other],
    }
}

/// Element paths by type, of the official table's expressions: `Type.path`, perhaps with `.where(…)`, joined by `|`.
pub(crate) static COMPARTMENT: LazyLock<BTreeMap<String, BTreeSet<String>>> = LazyLock::new(|| {
    let mut paths: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in include_str!("patient-compartment.tsv").lines().skip(1) {
        let expression = row.split('\t').nth(2).unwrap();
        for path in expression.split(" | ") {
            let path = path.split(".where(").next().unwrap();
            let (name, path) = path.split_once('.').unwrap();
            paths.entry(name.to_owned()).or_default().insert(path.to_owned());
        }
    }
    paths
});

/// Type and id, if the reference is relative or absolute on one of the bases, versioned or not.
pub(crate) fn local(reference: &str, base_urls: &[String]) -> Option<(String, String)> {
    static RELATIVE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?$").unwrap()
    });
    let strip = |base: &String| reference.strip_prefix(base.trim_end_matches('/'))?.strip_prefix('/');
    let relative = base_urls.iter().find_map(strip).unwrap_or(reference);
    let found = RELATIVE.captures(relative)?;
    Some((found[1].to_owned(), found[2].to_owned()))
}

#[derive(PartialEq)]
enum LastUpdated {
    Missing,
    Malformed,
    At(Moment),
}

fn last_updated(resource: &Value) -> LastUpdated {
    match resource.get("meta") {
        None => LastUpdated::Missing,
        Some(Value::Object(meta)) => match meta.get("lastUpdated") {
            None => LastUpdated::Missing,
            Some(text) => text.as_str().and_then(instant).map_or(LastUpdated::Malformed, LastUpdated::At),
        },
        Some(_) => LastUpdated::Malformed,
    }
}

/// Seconds, and the fraction's digits without trailing zeros, which compare as text.
pub(crate) type Moment = (i64, String);

/// The moment that an `instant` of FHIR is.
pub(crate) fn instant(text: &str) -> Option<Moment> {
    static INSTANT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"^([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(?:Z|([+-])([0-9]{2}):([0-9]{2}))$",
        )
        .unwrap()
    });
    let found = INSTANT.captures(text)?;
    let number = |group: usize| found.get(group).map_or(0, |digits| digits.as_str().parse::<i64>().unwrap());
    let (hour, minute, second) = (number(4), number(5), number(6));
    let offset_minutes = number(9) * 60 + number(10);
    if hour > 23 || minute > 59 || second > 60 || number(10) > 59 || offset_minutes > 14 * 60 {
        return None;
    }
    let offset_seconds = if found.get(8).is_some_and(|sign| sign.as_str() == "-") { -60 } else { 60 } * offset_minutes;
    let seconds = days(number(1), number(2), number(3))? * 86_400 + hour * 3600 + minute * 60 + second - offset_seconds;
    let fraction =
        |found: &Captures<'_>| found.get(7).map_or("", |digits| digits.as_str()).trim_end_matches('0').to_owned();
    Some((seconds, fraction(&found)))
}

/// Days since the beginning of the year 1, if there is such a day.
pub(crate) fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month = usize::try_from(month).ok()?.checked_sub(1)?;
    if year < 1 || day < 1 || day > *lengths.get(month)? {
        return None;
    }
    let before = year - 1;
    Some(before * 365 + before / 4 - before / 100 + before / 400 + lengths[..month].iter().sum::<i64>() + day - 1)
}

/// The resource's type, if it has one of the allowed form.
pub(crate) fn type_of(resource: &Value) -> Option<&str> {
    let name = resource.get("resourceType")?.as_str()?;
    let letters = name.bytes().all(|byte| byte.is_ascii_alphabetic());
    (letters && (2..=64).contains(&name.len()) && name.as_bytes()[0].is_ascii_uppercase()).then_some(name)
}

/// A line that isn't blank.
struct Line<'a> {
    /// The line without its line feed.
    raw: &'a [u8],
    /// The same without byte order mark and blanks around it.
    text: &'a [u8],
    /// How many line feeds are before it.
    number: u64,
    /// Where `raw` begins in the file.
    start: usize,
    /// Where `text` begins in the file.
    offset: usize,
}

fn lines(bytes: &[u8]) -> Vec<Line<'_>> {
    let blank = |byte: &u8| b" \t\r".contains(byte);
    let mut lines = Vec::new();
    let mut start = 0;
    for (number, raw) in (0..).zip(bytes.split(|&byte| byte == b'\n')) {
        let marked = raw.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(raw);
        let first = marked.iter().position(|byte| !blank(byte));
        let last = marked.iter().rposition(|byte| !blank(byte));
        if let (Some(first), Some(last)) = (first, last) {
            let offset = start + raw.len() - marked.len() + first;
            lines.push(Line { raw, text: &marked[first..=last], number, start, offset });
        }
        start += raw.len() + 1;
    }
    lines
}

/// The JSON object that a line is.
fn parse(raw: &[u8], text: &[u8], line_limit: usize) -> Result<Value, Reason> {
    if raw.len() > line_limit {
        return Err(Reason::TooLong);
    }
    let text = std::str::from_utf8(text).map_err(|_| Reason::NotUtf8)?;
    if depth(text) > 256 {
        return Err(Reason::TooDeep);
    }
    let text = without_lone_surrogates(text);
    let mut parser = serde_json::Deserializer::from_str(&text);
    parser.disable_recursion_limit();
    match Value::deserialize(&mut parser) {
        Ok(value) if value.is_object() && parser.end().is_ok() => Ok(value),
        _ => Err(Reason::NotAnObject),
    }
}

/// How deep objects and arrays lie in each other, looking at brackets outside strings only.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in text.bytes() {
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

/// The text with `\uFFFD` for each escape of half a surrogate pair, which `serde_json` doesn't take.
fn without_lone_surrogates(text: &str) -> String {
    static ESCAPE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|\\u(d[89a-f][0-9a-f]{2})|\\.").unwrap()
    });
    let replace =
        |found: &Captures<'_>| if found.get(3).is_some() { r"\uFFFD".to_owned() } else { found[0].to_owned() };
    ESCAPE.replace_all(text, replace).into_owned()
}

/// The file's bytes, decompressed if its name says so; `None` if that fails.
fn decompressed(name: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    if !name.ends_with(".gz") {
        return Some(bytes.to_vec());
    }
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut plain).ok()?;
    Some(plain)
}
