//! Reads Groups out of lines, in constant memory but for the members.
//!
//! A line is read to its end only if it is a Group that is wanted. Any order of keys will do: members that come before
//! the id are collected until the id tells whose they are. Duplicate keys: the last one wins, but a line whose first
//! `resourceType` or `id` says that it isn't wanted is left at once, whatever a second one would say; such a Group then
//! counts as not found, which nobody can overlook.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::ControlFlow;

use super::PatientSet;
use super::group_fields::GroupFields;
use super::json_push::{JsonFault, JsonPush};
use super::member::{Added, Flag, Rules};
use crate::source::CohortIds;

/// Longest Group that is read, in bytes.
pub const GROUP_LIMIT_BYTES: usize = 1 << 30;

/// Most Groups that a cohort may be made of: what a job remembers of them isn't paid for by the 40 bytes a patient.
pub(super) const MAX_GROUPS: usize = 16_384;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What a line turned out to be.
#[derive(Debug)]
pub(super) enum LineEnd {
    /// Nothing that is wanted.
    Other,
    /// A wanted Group, read whole; its members are to be committed or rolled back.
    Group(GroupHead),
    /// Something that couldn't be read whole and may be a wanted Group.
    Broken(BrokenLine),
}

/// A Group but for its members.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GroupHead {
    pub(super) id: String,
    pub(super) actual: Flag,
    pub(super) active: Flag,
}

/// As much as is known of a line that couldn't be read whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BrokenLine {
    pub(super) why: Fault,
    /// Its type was read, and it is Group.
    pub(super) is_group: bool,
    /// Its id was read, and it is this wanted one.
    pub(super) id: Option<String>,
}

/// Why a Group can't be read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Json(JsonFault),
    NoObject,
    TooLong,
    TooManyGroups,
    TooManyPatients(usize),
    OddMember,
    OddActual,
    /// The source failed in the middle.
    CutOff,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(fault) => fault.fmt(f),
            Self::NoObject => f.write_str("it is no object"),
            Self::TooLong => write!(f, "it is longer than {GROUP_LIMIT_BYTES} bytes"),
            Self::TooManyGroups => write!(f, "it has more than {MAX_GROUPS} other Groups as members"),
            Self::TooManyPatients(limit) => write!(f, "its cohort has more than {limit} patients"),
            Self::OddMember => f.write_str("its member isn't an array"),
            Self::OddActual => f.write_str("its actual isn't a boolean"),
            Self::CutOff => f.write_str("the source can't be read to its end"),
        }
    }
}

/// Reads one line after another.
#[derive(Debug)]
pub(super) struct GroupReader<'a> {
    json: JsonPush,
    fields: GroupFields<'a>,
    state: LineState,
    limit_bytes: usize,
    line_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineState {
    /// At the start, after so many bytes of a byte order mark.
    Start(usize),
    Reading,
    /// The line is nothing that is wanted.
    Left,
    Broken(Fault),
}

impl<'a> GroupReader<'a> {
    pub(super) fn new(rules: Rules<'a>, patients: PatientSet, limit_bytes: usize) -> Self {
        Self {
            json: JsonPush::new(),
            fields: GroupFields::new(rules, patients),
            state: LineState::Start(0),
            limit_bytes,
            line_bytes: 0,
        }
    }

    /// Says which Groups are wanted from now on.
    pub(super) fn want(&mut self, ids: BTreeSet<String>) {
        self.fields.want(ids);
    }

    /// Takes the next bytes of the line.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let bytes = if let LineState::Start(seen) = self.state { self.after_mark(bytes, seen) } else { bytes };
        if self.state != LineState::Reading {
            return;
        }
        self.line_bytes += bytes.len();
        let outcome = self.json.push(bytes, &mut self.fields);
        self.follow(outcome);
        if self.state == LineState::Reading && self.line_bytes > self.limit_bytes {
            self.state = LineState::Broken(Fault::TooLong);
        }
    }

    fn follow(&mut self, outcome: Result<ControlFlow<()>, JsonFault>) {
        match outcome {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => self.state = self.fields.fault().map_or(LineState::Left, LineState::Broken),
            Err(fault) => self.state = LineState::Broken(Fault::Json(fault)),
        }
    }

    /// Skips a byte order mark, of which `seen` bytes came before.
    fn after_mark<'b>(&mut self, bytes: &'b [u8], seen: usize) -> &'b [u8] {
        let missing = BYTE_ORDER_MARK.get(seen..).unwrap_or_default();
        let count = bytes.iter().zip(missing).take_while(|(byte, mark)| byte == mark).count();
        let rest = bytes.get(count..).unwrap_or_default();
        self.state = if rest.is_empty() && count < missing.len() {
            LineState::Start(seen + count)
        } else if count == missing.len() || seen + count == 0 {
            LineState::Reading
        } else {
            LineState::Broken(Fault::Json(JsonFault::Syntax))
        };
        rest
    }

    /// Ends the line and says what it was. The next bytes begin a new one.
    pub(super) fn end_line(&mut self) -> LineEnd {
        if self.state == LineState::Reading && !self.json.is_blank() {
            let outcome = self.json.finish(&mut self.fields);
            self.follow(outcome);
        }
        let end = match self.state {
            LineState::Start(0) | LineState::Left => LineEnd::Other,
            LineState::Start(_) => self.fields.broken(Fault::Json(JsonFault::Incomplete)),
            LineState::Reading => self.fields.end(),
            LineState::Broken(fault) => self.fields.broken(fault),
        };
        self.next_line(&end);
        end
    }

    /// Ends the line because the source can't be read on.
    pub(super) fn cut_off(&mut self) -> LineEnd {
        let is_blank = self.json.is_blank() && matches!(self.state, LineState::Start(_) | LineState::Reading);
        let end =
            if is_blank || self.state == LineState::Left { LineEnd::Other } else { self.fields.broken(Fault::CutOff) };
        self.next_line(&end);
        end
    }

    fn next_line(&mut self, end: &LineEnd) {
        self.json.reset();
        self.state = LineState::Start(0);
        self.line_bytes = 0;
        self.fields.clear();
        if !matches!(end, LineEnd::Group(_)) {
            self.roll_back();
        }
    }

    /// Makes the members of the Group that was read part of the cohort.
    pub(super) fn commit(&mut self) -> Added {
        self.fields.members_mut().commit()
    }

    /// Forgets the members of the Group that was read.
    pub(super) fn roll_back(&mut self) {
        self.fields.members_mut().roll_back();
    }

    /// Keeps the ids of the patients too.
    pub(super) fn list_patients(&mut self) {
        self.fields.members_mut().list();
    }

    pub(super) fn into_patients(self) -> (PatientSet, Option<CohortIds>) {
        self.fields.into_patients()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fhir::Instant;
    use crate::resource::reference::BaseUrls;

    struct Read {
        end: LineEnd,
        added: Added,
        patients: Vec<&'static str>,
    }

    const PATIENTS: [&str; 6] = ["1", "2", "3", "4", "5", "6"];

    /// Reads one line in which Group/g is wanted, in pieces of so many bytes, under a limit of 2,000 bytes.
    fn read_in(line: &str, piece_bytes: usize) -> Read {
        let transaction_time = Instant::parse("2020-06-15T12:00:00Z").unwrap();
        let base_urls = BaseUrls::new(["https://own.example/fhir"]).unwrap();
        let rules = Rules { transaction_time: &transaction_time, base_urls: &base_urls };
        let mut reader = GroupReader::new(rules, PatientSet::with_key(&[7; 16]), 2000);
        reader.want(BTreeSet::from(["g".to_owned()]));
        // A line before must leave nothing behind.
        reader.push(
            b"{\"resourceType\":\"Group\",\"member\":[{\"inactive\":true,\"entity\":{\"reference\":\"Patient/6\"}},{",
        );
        assert!(matches!(reader.end_line(), LineEnd::Broken(_)));
        for piece in line.as_bytes().chunks(piece_bytes) {
            reader.push(piece);
        }
        let end = reader.end_line();
        let added = reader.commit();
        let (set, _) = reader.into_patients();
        Read { end, added, patients: PATIENTS.into_iter().filter(|id| set.contains(id)).collect() }
    }

    fn read(line: &str) -> Read {
        let whole = read_in(line, usize::MAX);
        for piece_bytes in [1, 2, 3, 7] {
            let pieces = read_in(line, piece_bytes);
            assert_eq!(format!("{:?}", pieces.end), format!("{:?}", whole.end), "{line}");
            assert_eq!((pieces.added.counts, pieces.patients), (whole.added.counts.clone(), whole.patients.clone()));
        }
        whole
    }

    fn group(fields: &str) -> String {
        format!("{{\"resourceType\":\"Group\",\"id\":\"g\",\"actual\":true,{fields}}}")
    }

    fn members(members: &str) -> String {
        group(&format!("\"member\":[{members}]"))
    }

    fn fault(line: &str) -> Option<(Fault, bool, Option<String>)> {
        match read(line).end {
            LineEnd::Broken(BrokenLine { why, is_group, id }) => Some((why, is_group, id)),
            LineEnd::Other | LineEnd::Group(_) => None,
        }
    }

    #[test]
    fn members_are_found_whatever_the_order_of_keys_and_however_they_are_written() {
        for line in [
            r#"{"resourceType":"Group","id":"g","actual":true,"member":[{"entity":{"reference":"Patient/1"}},{"entity":{"reference":"Patient/2"}}]}"#,
            r#"{"member":[{"entity":{"reference":"Patient/1"}},{"entity":{"reference":"Patient/2"}}],"actual":true,"id":"g","resourceType":"Group"}"#,
            "\u{feff} { \"id\" : \"g\" ,\t\"member\" : [ { \"entity\" : { \"display\":\"x\", \"reference\" : \"Patient/1\" } , \"x\":[{\"entity\":{\"reference\":\"Patient/3\"}}] } , { \"entity\" : { \"reference\" : \"Patient/2\" } } ] , \"resourceType\" : \"Group\", \"actual\":true } \r",
            r#"{"res\u006furceType":"Gro\u0075p","\u0069d":"\u0067","actual":true,"m\u0065mber":[{"entity":{"reference":"Patient\/1"}},{"entity":{"reference":"Pati\u0065nt/2"}}]}"#,
            r#"{"contained":[{"resourceType":"Patient","id":"x","member":[{"entity":{"reference":"Patient/3"}}]}],"resourceType":"Group","id":"g","actual":true,"member":[{"extension":[{"entity":{"reference":"Patient/4"}}],"entity":{"reference":"Patient/1","identifier":{"reference":"Patient/5"}}},{"entity":{"reference":"Patient/2"}}]}"#,
        ] {
            let Read { end, patients, added } = read(line);
            let LineEnd::Group(head) = end else { panic!("{line}: {end:?}") };
            assert_eq!(head, GroupHead { id: "g".to_owned(), actual: Flag::Is(true), active: Flag::Absent });
            assert_eq!(patients, ["1", "2"], "{line}");
            assert_eq!(added.counts.members_listed, 2);
        }
    }

    #[test]
    fn of_a_key_that_is_written_twice_the_last_one_counts() {
        for (line, expected) in [
            (
                group(
                    r#""member":[{"entity":{"reference":"Patient/1"}}],"member":[{"entity":{"reference":"Patient/2"}}]"#,
                ),
                "2",
            ),
            (members(r#"{"entity":{"reference":"Patient/1"},"entity":{"reference":"Patient/2"}}"#), "2"),
            (members(r#"{"entity":{"reference":"Patient/1","reference":"Patient/2"}}"#), "2"),
            (members(r#"{"inactive":true,"inactive":false,"entity":{"reference":"Patient/2"}}"#), "2"),
            (members(r#"{"period":{"end":"2019"},"period":{"start":"2019"},"entity":{"reference":"Patient/2"}}"#), "2"),
            (members(r#"{"period":{"end":"2019","end":"2021"},"entity":{"reference":"Patient/2"}}"#), "2"),
            (members(r#"{"period":7,"period":null,"entity":{"reference":"Patient/2"}}"#), "2"),
            (members(r#"{"entity":{"reference":"Patient/1"},"entity":{}},{"entity":{"reference":"Patient/2"}}"#), "2"),
        ] {
            let Read { end, patients, .. } = read(&line);
            assert!(matches!(end, LineEnd::Group(_)), "{line}");
            assert_eq!(patients, [expected], "{line}");
        }
    }

    #[test]
    fn every_member_finds_exactly_one_count() {
        let counts = read(&members(
            r#"{"entity":{"reference":"Patient/1"}},{"entity":{"reference":"https://own.example/fhir/Patient/1/_history/3"}},
            {"entity":{"reference":"Group/h"}},{"entity":{"reference":"Group/h"}},
            {"entity":{"reference":"Patient/2"},"inactive":true},{"entity":{"reference":"Patient/2"},"inactive":"true"},
            {"entity":{"reference":"Patient/2"},"period":{"end":"2020-06-14"}},
            {"entity":{"reference":"Patient/2"},"period":{"end":"2020-06-15T12:00:00+00:01"}},
            {"entity":{"reference":"Patient/3"},"period":{"end":"2020-06-15"}},
            {"entity":{"reference":"Patient/4"},"period":{"start":"2020-06","end":"2020-06"}},
            {"entity":{"reference":"Patient/2"},"period":{"start":"2020-06-15T12:00:00.1Z"}},
            {"entity":{"reference":"Patient/2"},"period":{"start":"soon"}},{"entity":{"reference":"Patient/2"},"period":[]},
            {"entity":{"reference":"Patient/2"},"period":{"end":"2019","start":"soon"}},
            {"entity":{"reference":"Practitioner/2"}},{"entity":{"reference":"Practitioner/3"},"period":"odd"},
            {"entity":{"reference":"https://other.example/fhir/Patient/2"}},
            {"entity":{"reference":"urn:uuid:7"}},{"entity":{"reference":7}},{"entity":{"identifier":{"value":"2"}}},{"entity":"Patient/2"},{},7,[{}]"#
                .replace('\n', "")
                .as_str(),
        ));
        let expected = super::super::CohortReport {
            members_listed: 24,
            duplicates: 1,
            nested_groups: 2,
            dropped_inactive: 1,
            dropped_ended: 3,
            dropped_not_yet_started: 1,
            other_types: [("Practitioner".to_owned(), 2)].into(),
            foreign_references: 1,
            unreadable_references: 7,
            unreadable_periods: 3,
            ..super::super::CohortReport::default()
        };
        assert_eq!(counts.added.counts, expected);
        assert_eq!(counts.patients, ["1", "3", "4"]);
        assert_eq!(counts.added.nested, BTreeSet::from(["h".to_owned()]));
    }

    #[test]
    fn what_is_not_wanted_is_left_without_a_word() {
        for line in [
            "",
            "  ",
            "\u{feff}",
            "\r",
            "{\"resourceType\":\"Patient\",\"id\":\"g\"}",
            "{\"resourceType\":\"Patient\", no json",
            "{\"id\":\"other\" no json",
            "{\"resourceType\":\"Group\",\"id\":\"other\",\"member\":[{\"entity\":{\"reference\":\"Patient/1\"}}]}",
            "{\"member\":[{\"entity\":{\"reference\":\"Patient/1\"}}],\"id\":\"other\"}",
            "{\"id\":7}",
            "{\"resourceType\":[\"Group\"],\"id\":\"g\"}",
            "{}",
            "{\"resourceType\":\"Group\"}",
            "{\"id\":\"g\"}",
        ] {
            let Read { end, patients, added } = read(line);
            assert!(matches!(end, LineEnd::Other), "{line}: {end:?}");
            assert!(patients.is_empty() && added.counts.members_listed == 0, "{line}");
        }
    }

    #[test]
    fn what_can_not_be_read_whole_tells_what_is_known_of_it() {
        let id = || Some("g".to_owned());
        let long = format!("{}{}", group("\"x\":\"").trim_end_matches('}'), "x".repeat(3000));
        for (line, expected) in [
            ("hello", (Fault::Json(JsonFault::Syntax), false, None)),
            ("[{\"resourceType\":\"Group\"}]", (Fault::NoObject, false, None)),
            ("{\"resourceType\":\"Group\"", (Fault::Json(JsonFault::Incomplete), true, None)),
            ("{\"id\":\"g\",\"member\":[", (Fault::Json(JsonFault::Incomplete), false, id())),
            ("{\"resourceType\":\"Group\",\"id\":\"g\",}", (Fault::Json(JsonFault::Syntax), true, id())),
            ("\u{feff}\u{feff}{}", (Fault::Json(JsonFault::Syntax), false, None)),
            ("\u{fec0}", (Fault::Json(JsonFault::Syntax), false, None)),
            (&group("\"member\":{}"), (Fault::OddMember, true, id())),
            (&group("\"member\":null"), (Fault::OddMember, true, id())),
            (&group("\"actual\":\"false\""), (Fault::OddActual, true, id())),
            (&long, (Fault::TooLong, true, id())),
        ] {
            assert_eq!(fault(line), Some(expected), "{line}");
            assert!(read(line).patients.is_empty());
        }
        let deep = group(&format!("\"x\":{}", "[".repeat(256)));
        assert_eq!(fault(&deep).unwrap().0, Fault::Json(JsonFault::TooDeep));
    }

    #[test]
    fn a_group_of_too_many_groups_is_not_read() {
        let rules_time = Instant::from_unix(0, 0);
        let base_urls = BaseUrls::default();
        let rules = Rules { transaction_time: &rules_time, base_urls: &base_urls };
        let mut reader = GroupReader::new(rules, PatientSet::with_key(&[7; 16]), GROUP_LIMIT_BYTES);
        reader.want(BTreeSet::from(["g".to_owned()]));
        reader.push(b"{\"resourceType\":\"Group\",\"id\":\"g\",\"member\":[");
        for number in 0..=MAX_GROUPS {
            reader.push(format!("{{\"entity\":{{\"reference\":\"Group/{number}\"}}}},").as_bytes());
        }
        let LineEnd::Broken(line) = reader.end_line() else { panic!("it was read") };
        assert_eq!(line.why, Fault::TooManyGroups);
    }

    #[test]
    fn a_group_of_too_many_patients_is_not_read() {
        let (time, base_urls) = (Instant::from_unix(0, 0), BaseUrls::default());
        let read = |limit| {
            let patients = PatientSet::with_key(&[7; 16]).with_limit(limit);
            let rules = Rules { transaction_time: &time, base_urls: &base_urls };
            let mut reader = GroupReader::new(rules, patients, GROUP_LIMIT_BYTES);
            reader.want(BTreeSet::from(["g".to_owned()]));
            reader.push(b"{\"resourceType\":\"Group\",\"id\":\"g\",\"member\":[");
            // Who is named twice is one patient.
            let members = [1, 2, 1, 3].map(|id| format!("{{\"entity\":{{\"reference\":\"Patient/{id}\"}}}}"));
            reader.push(members.join(",").as_bytes());
            reader.push(b"]}");
            reader.end_line()
        };
        assert!(!matches!(read(3), LineEnd::Broken(_)));
        let LineEnd::Broken(line) = read(2) else { panic!("it was read") };
        assert_eq!(line.why, Fault::TooManyPatients(2));
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_reader(text in "[\\[\\]{}:,\"0 ]{0,12}(\"resourceType\":\"Group\"|\"id\":\"g\"|\"member\":|\"entity\":|\\PC|[\\[\\]{},]){0,12}") {
            read(&text);
        }
    }
}
