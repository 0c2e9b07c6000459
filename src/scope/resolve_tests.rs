//! Cohorts out of a snapshot in memory that hands its lines over in awkward pieces.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use async_trait::async_trait;
use proptest::prelude::*;

use super::*;
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::{Instant, ResourceType};
use crate::resource::reference::BaseUrls;
use crate::source::{AfterTransactionTime, Asked, BlockSink, Cursor, Plan, Range, RowOutcome, Rows, Snapshot};

const T: &str = "2020-06-15T12:00:00Z";

#[derive(Clone, Debug)]
enum Content {
    /// Bytes in pieces of so many.
    Bytes(Vec<u8>, usize),
    /// Whole rows; the marked ones are deleted.
    Rows(Vec<(String, bool)>),
    /// A Group of so many members, never in memory as a whole.
    Large(usize),
}

/// What it takes to stand for a source: ranges, some of them skipped, one of them failing.
#[derive(Debug, Default)]
struct Store {
    ranges: Vec<(Range, Content)>,
    skipped: Vec<(Range, Content)>,
    failing: Option<(usize, ErrorKind)>,
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn range(name: &str, declared: Option<&str>) -> Range {
    Range::new(name).of_type(declared.map(|name| ResourceType::new(name).unwrap()))
}

fn lines(text: &str, piece_bytes: usize) -> Store {
    let content = Content::Bytes(text.as_bytes().to_vec(), piece_bytes);
    Store { ranges: vec![(range("Group.ndjson", Some("Group")), content)], ..Store::default() }
}

#[async_trait]
impl Snapshot for Store {
    fn transaction_time(&self) -> Instant {
        Instant::parse(T).unwrap()
    }

    fn after_transaction_time(&self) -> AfterTransactionTime {
        AfterTransactionTime::Kept
    }

    async fn plan(&self, asked: &Asked) -> Result<Plan> {
        assert_eq!((&asked.since, &asked.until), (&None, &None));
        let names = |ranges: &[(Range, Content)]| ranges.iter().map(|(range, _)| range.clone()).collect();
        Ok(Plan { ranges: names(&self.ranges), skipped: names(&self.skipped), ..Plan::default() })
    }

    async fn read(&self, range: &Range, from: &Cursor, sink: &mut dyn BlockSink) -> Result<()> {
        assert_eq!(from, &Cursor::start());
        let (_, content) = self.ranges.iter().chain(&self.skipped).find(|(known, _)| known == range).unwrap();
        match content {
            Content::Bytes(bytes, piece_bytes) => {
                for piece in bytes.chunks(*piece_bytes) {
                    hand_over(piece, sink).await?;
                }
            }
            Content::Rows(rows) => read_rows(rows, sink).await?,
            Content::Large(members) => read_large(*members, sink).await?,
        }
        match self.failing {
            Some((index, kind)) if self.ranges.get(index).is_some_and(|(failing, _)| failing == range) => {
                Err(Error::new(kind, "the disk is on fire"))
            }
            _ => Ok(()),
        }
    }
}

async fn hand_over(bytes: &[u8], sink: &mut dyn BlockSink) -> Result<()> {
    let mut buffer = sink.buffer(bytes.len()).await?;
    assert_eq!(buffer.append(bytes), bytes.len());
    sink.lines(buffer).await
}

async fn read_rows(bodies: &[(String, bool)], sink: &mut dyn BlockSink) -> Result<()> {
    let mut rows = Rows::new(sink.buffer(100).await?);
    for (body, deleted) in bodies {
        if body.len() > 100_000 {
            sink.row_too_long(body.len() as u64).await?;
            continue;
        }
        let push =
            |rows: &mut Rows| if *deleted { rows.push_deleted(body.as_bytes()) } else { rows.push(body.as_bytes()) };
        if push(&mut rows) == RowOutcome::Full {
            let full = std::mem::replace(&mut rows, Rows::new(sink.buffer(body.len() + 1).await?));
            sink.rows(full).await?;
            assert_eq!(push(&mut rows), RowOutcome::Taken);
        }
    }
    sink.rows(rows).await
}

async fn read_large(members: usize, sink: &mut dyn BlockSink) -> Result<()> {
    let mut text = String::from("{\"member\":[");
    for number in 0..members {
        let comma = if number == 0 { "" } else { "," };
        text.push_str(comma);
        text.push_str("{\"entity\":{\"reference\":\"Patient/");
        text.push_str(&number.to_string());
        text.push_str("\"}}");
        if text.len() > 100_000 {
            hand_over(text.as_bytes(), sink).await?;
            text.clear();
        }
    }
    text.push_str("],\"resourceType\":\"Group\",\"id\":\"g\",\"actual\":true}");
    hand_over(text.as_bytes(), sink).await
}

fn resolve(store: &Store) -> Result<Cohort> {
    let base_urls = BaseUrls::new(["https://own.example/fhir"]).unwrap();
    block_on(resolve_cohort(store, "g", &store.transaction_time(), &base_urls))
}

/// Resolves lines in pieces of 1 byte, 3 bytes and whole, and as rows, and checks that all say the same.
fn resolve_lines(text: &str) -> Result<Cohort> {
    let whole = resolve(&lines(text, usize::MAX));
    let rows = text.lines().map(|line| (line.to_owned(), false)).collect();
    let rows = Store { ranges: vec![(range("Group.ndjson", Some("Group")), Content::Rows(rows))], ..Store::default() };
    for other in [resolve(&lines(text, 1)), resolve(&lines(text, 3)), resolve(&rows)] {
        match (&whole, &other) {
            (Ok(whole), Ok(other)) => assert_eq!((&whole.report, &whole.groups), (&other.report, &other.groups)),
            (Err(whole), Err(other)) => assert_eq!(whole.to_string(), other.to_string()),
            _ => panic!("{whole:?} and {other:?}"),
        }
    }
    whole
}

fn kind(outcome: &Result<Cohort>) -> ErrorKind {
    outcome.as_ref().err().map(Error::kind).unwrap_or_else(|| panic!("{outcome:?}"))
}

fn group(id: &str, references: &[&str]) -> String {
    let members: Vec<String> =
        references.iter().map(|reference| format!("{{\"entity\":{{\"reference\":\"{reference}\"}}}}")).collect();
    format!("{{\"resourceType\":\"Group\",\"id\":\"{id}\",\"actual\":true,\"member\":[{}]}}\n", members.join(","))
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[test]
fn a_group_resolves_to_its_patients_without_doubles() {
    let text = group("h", &["Patient/9"]) + &group("g", &["Patient/1", "Patient/2", "Patient/1", "Device/1"]);
    let cohort = resolve_lines(&text).unwrap();
    assert!(cohort.patients.contains("1") && cohort.patients.contains("2") && !cohort.patients.contains("9"));
    assert_eq!(cohort.groups, set(&["g"]));
    let report = &cohort.report;
    assert_eq!((report.members_listed, report.patients_resolved, report.duplicates), (4, 2, 1));
    assert_eq!(report.other_types, BTreeMap::from([("Device".to_owned(), 1)]));
    assert!(report.warnings.is_empty() && !report.has_errors(), "{report:?}");
}

#[test]
fn nested_groups_are_followed_once_though_they_go_round_in_circles() {
    let text = group("b", &["Group/g", "Patient/3", "Group/c"])
        + &group("g", &["Group/a", "Group/g", "Patient/1", "Group/b"])
        + &group("c", &["Patient/4", "Group/a", "Patient/1"])
        + &group("a", &["Group/b", "Patient/2"]);
    let cohort = resolve_lines(&text).unwrap();
    assert!(["1", "2", "3", "4"].iter().all(|id| cohort.patients.contains(id)));
    assert_eq!(cohort.groups, set(&["a", "b", "c", "g"]));
    assert_eq!(cohort.report.groups_resolved, cohort.groups);
    assert_eq!((cohort.report.patients_resolved, cohort.report.duplicates, cohort.report.nested_groups), (4, 1, 7));
    assert!(!cohort.report.has_errors());
}

#[test]
fn an_unknown_group_is_not_found() {
    let outcome = resolve_lines(&group("h", &["Patient/1"]));
    assert_eq!(kind(&outcome), ErrorKind::NotFound);
    assert_eq!(outcome.unwrap_err().to_string(), "the source holds no Group/g");
    assert_eq!(kind(&resolve_lines("{\"resourceType\":\"Patient\",\"id\":\"g\"}")), ErrorKind::NotFound);
    assert_eq!(kind(&resolve(&Store::default())), ErrorKind::NotFound);
}

#[test]
fn a_group_without_members_is_an_empty_cohort() {
    for text in [
        "{\"resourceType\":\"Group\",\"id\":\"g\",\"actual\":true}".to_owned(),
        group("g", &[]),
        group("g", &["Group/g"]),
    ] {
        let cohort = resolve_lines(&text).unwrap();
        assert!(cohort.patients.is_empty() && !cohort.report.has_errors());
        assert_eq!(cohort.report.warnings, ["the cohort is empty"]);
    }
}

#[test]
fn a_group_that_describes_patients_has_no_cohort() {
    let described =
        r#"{"resourceType":"Group","id":"g","member":[{"entity":{"reference":"Patient/1"}}],"actual":false}"#;
    assert_eq!(kind(&resolve_lines(described)), ErrorKind::InvalidRequest);
}

#[test]
fn a_nested_group_that_describes_patients_adds_none_and_is_an_error() {
    let described = r#"{"resourceType":"Group","id":"d","member":[{"entity":{"reference":"Patient/1"}},{"entity":{"reference":"Group/x"}}],"actual":false}"#;
    let cohort = resolve_lines(&(group("g", &["Patient/2", "Group/d"]) + described)).unwrap();
    assert!(cohort.patients.contains("2") && !cohort.patients.contains("1"));
    assert_eq!(cohort.groups, set(&["d", "g"]));
    assert_eq!(cohort.report.groups_not_actual, set(&["d"]));
    assert!(cohort.report.groups_missing.is_empty() && cohort.report.has_errors());
    assert_eq!(cohort.report.members_listed, 2);
}

#[test]
fn a_group_leaves_nothing_behind_for_the_next_one() {
    let text = group("g", &["Patient/1", "Group/d", "Group/e", "Group/h"])
        + r#"{"resourceType":"Group","id":"d","active":false,"actual":false,"member":[{"entity":{"reference":"Patient/2"}}]}"#
        + "\n{\"resourceType\":\"Group\",\"id\":\"e\",\"actual\":true}\n{\"member\":7,\"id\":\"other\"}\n{\"resourceType\":\"Group\",\"id\":\"h\"}\n";
    let cohort = resolve_lines(&text).unwrap();
    assert!(cohort.patients.contains("1") && cohort.patients.len() == 1);
    assert_eq!(cohort.groups, set(&["d", "e", "g", "h"]));
    assert_eq!(cohort.report.groups_not_actual, set(&["d"]));
    assert_eq!(cohort.report.warnings, ["Group/h doesn't say whether it is actual; it is taken as actual"]);
}

#[test]
fn a_missing_nested_group_is_an_error_and_the_others_count() {
    let cohort = resolve_lines(&group("g", &["Patient/2", "Group/gone", "Group/lost"])).unwrap();
    assert!(cohort.patients.contains("2"));
    assert_eq!(cohort.groups, set(&["g"]));
    assert_eq!(cohort.report.groups_missing, set(&["gone", "lost"]));
    assert!(cohort.report.has_errors());
}

#[test]
fn a_group_that_is_not_active_or_does_not_say_that_it_is_actual_is_warned_of() {
    let text = r#"{"resourceType":"Group","id":"g","active":false,"member":[{"entity":{"reference":"Patient/1"}}]}"#;
    let cohort = resolve_lines(text).unwrap();
    assert!(cohort.patients.contains("1") && !cohort.report.has_errors());
    let expected = [
        "Group/g doesn't say whether it is actual; it is taken as actual",
        "Group/g isn't active; it is exported all the same",
    ];
    assert_eq!(cohort.report.warnings, expected);
}

#[test]
fn a_member_whose_period_can_not_be_read_is_left_out_and_is_an_error() {
    let text = r#"{"resourceType":"Group","id":"g","actual":true,"member":[{"entity":{"reference":"Patient/1"},"period":{"end":"31.12.2099"}},{"entity":{"reference":"Patient/2"}}]}"#;
    let cohort = resolve_lines(text).unwrap();
    assert!(!cohort.patients.contains("1") && cohort.patients.contains("2"));
    assert!(cohort.report.unreadable_periods == 1 && cohort.report.has_errors());
}

#[test]
fn a_group_is_found_in_a_range_of_another_type_that_was_read_or_skipped() {
    let mixed =
        format!("{{\"resourceType\":\"Patient\",\"id\":\"g\"}}\nno json\n{}", group("g", &["Patient/1", "Group/h"]));
    let patients = |text: &str| (range("Patient.ndjson", Some("Patient")), Content::Bytes(text.as_bytes().to_vec(), 5));
    let groups = |text: &str| (range("Group.ndjson", Some("Group")), Content::Bytes(text.as_bytes().to_vec(), 5));
    let nested = group("h", &["Patient/2"]);
    for store in [
        Store { ranges: vec![patients(&mixed), groups(&nested)], ..Store::default() },
        Store { ranges: vec![groups(&nested)], skipped: vec![patients(&mixed)], ..Store::default() },
        Store { skipped: vec![patients(&(mixed.clone() + &nested))], ..Store::default() },
    ] {
        let cohort = resolve(&store).unwrap();
        assert!(cohort.patients.contains("1") && cohort.patients.contains("2"));
        assert_eq!(cohort.groups, set(&["g", "h"]));
    }
    let unknown = Store {
        ranges: vec![groups("")],
        skipped: vec![patients("no json\n{\"id\":\"h\" no json")],
        ..Store::default()
    };
    assert_eq!(kind(&resolve(&unknown)), ErrorKind::NotFound);
}

#[test]
fn a_group_that_can_not_be_read_whole_is_never_an_empty_cohort() {
    let good = group("g", &["Patient/1"]);
    let cut = good.trim_end().trim_end_matches(']').trim_end_matches('}').to_owned() + "\n";
    for text in [
        cut.clone(),
        cut.clone() + &good,
        good.clone() + &cut,
        good.clone() + &good,
        "{\"member\":[\n".to_owned(),
        "hello\n".to_owned(),
        "{\"id\":\"g\",\n".to_owned(),
        format!("{}{{\"resourceType\":\"Group\"\n", group("g", &["Group/h"])),
        format!("{}{}", group("g", &["Group/h"]), cut.replace("\"g\"", "\"h\"")),
        format!("{}{}", good.trim_end(), "x\n"),
        "{\"resourceType\":\"Group\",\"id\":\"g\",\"member\":7}".to_owned(),
    ] {
        assert_eq!(kind(&resolve_lines(&text)), ErrorKind::CohortUnreadable, "{text}");
    }
    let error = resolve_lines(&("\n".to_owned() + &cut)).unwrap_err().to_string();
    assert_eq!(
        error,
        "Group/g can't be read whole, so the cohort isn't known: it ends too early (range: Group.ndjson, line: 2)"
    );
}

#[test]
fn junk_does_not_matter_when_every_group_is_found_whole() {
    let text = format!("hello\n{{\"member\":[\n{}{{\"id\":\"h\" x\n\n", group("g", &["Patient/1"]));
    assert_eq!(resolve_lines(&text).unwrap().patients.len(), 1);
}

#[test]
fn a_range_that_can_not_be_read_to_its_end_matters_only_when_a_group_may_be_in_it() {
    let cut = "{\"resourceType\":\"Group\",\"id\":\"g\",\"member\":[{\"entity\":";
    let store = |first: &str, second: &str, kind: ErrorKind| {
        let content = |text: &str| Content::Bytes(text.as_bytes().to_vec(), 7);
        let ranges = vec![(range("a", None), content(first)), (range("b", None), content(second))];
        Store { ranges, failing: Some((0, kind)), ..Store::default() }
    };
    let good = group("g", &["Patient/1"]);
    let unreadable = ErrorKind::Unreadable;
    assert_eq!(kind(&resolve(&store("", "", unreadable))), ErrorKind::CohortUnreadable);
    assert_eq!(kind(&resolve(&store(cut, &good, unreadable))), ErrorKind::CohortUnreadable);
    assert_eq!(kind(&resolve(&store("", &group("g", &["Group/h"]), unreadable))), ErrorKind::CohortUnreadable);
    assert_eq!(resolve(&store("", &good, unreadable)).unwrap().patients.len(), 1);
    assert_eq!(resolve(&store(&good, "", unreadable)).unwrap().patients.len(), 1);
    assert_eq!(kind(&resolve(&store("", &good, ErrorKind::Source))), ErrorKind::Source);
    assert_eq!(kind(&resolve(&store("", &good, ErrorKind::NotFound))), ErrorKind::CohortUnreadable);
    let error = format!("{:#}", resolve(&store("", "", unreadable)).unwrap_err());
    assert!(error.contains("range: a") && error.ends_with("the disk is on fire"), "{error}");
}

#[test]
fn a_row_that_is_deleted_is_no_group_and_one_that_is_too_long_may_be_any() {
    let good = (group("g", &["Patient/1"]), false);
    let deleted = (group("g", &["Patient/2"]), true);
    let long = ("x".repeat(200_000), false);
    let store = |declared: &str, rows: &[&(String, bool)]| {
        let rows = rows.iter().map(|row| (*row).clone()).collect();
        Store { ranges: vec![(range("rows", Some(declared)), Content::Rows(rows))], ..Store::default() }
    };
    let cohort = resolve(&store("Group", &[&deleted, &long, &good])).unwrap();
    assert!(cohort.patients.contains("1") && cohort.patients.len() == 1);
    assert_eq!(kind(&resolve(&store("Group", &[&deleted]))), ErrorKind::NotFound);
    assert_eq!(kind(&resolve(&store("Group", &[&long]))), ErrorKind::CohortUnreadable);
    assert_eq!(kind(&resolve(&store("Patient", &[&long]))), ErrorKind::NotFound);
}

#[test]
fn a_group_of_two_million_members_is_streamed_into_40_bytes_a_patient() {
    let members = 2_000_000;
    let store = Store { ranges: vec![(range("large", None), Content::Large(members))], ..Store::default() };
    let cohort = resolve(&store).unwrap();
    assert_eq!(cohort.patients.len(), members);
    assert!(cohort.patients.memory_bytes() <= 40 * members);
    assert!(cohort.patients.contains("1999999") && !cohort.patients.contains("2000000"));
}

#[test]
fn a_report_is_written_in_camel_case() {
    let cohort = resolve_lines(&group("g", &["Patient/1", "Group/h", "Device/1"])).unwrap();
    let written = serde_json::to_value(&cohort.report).unwrap();
    assert_eq!(written["group"], "g");
    assert_eq!(written["groupsMissing"][0], "h");
    assert_eq!(written["otherTypes"]["Device"], 1);
    assert_eq!(written["droppedNotYetStarted"], 0);
    assert!(written.get("patientsFound").is_none());
}

/// A member as the model sees it: what its JSON is, and whom it adds.
#[derive(Clone, Debug)]
enum Listed {
    Patient(u8),
    Group(u8),
    Nobody(&'static str),
}

impl Listed {
    fn json(&self, swapped: bool) -> String {
        let (entity, status) = match self {
            Self::Patient(id) => (format!("Patient/{id}"), "\"inactive\":false"),
            Self::Group(id) => (format!("https://own.example/fhir/Group/{id}"), "\"period\":{\"end\":\"2020-06-15\"}"),
            Self::Nobody(status) => ("Patient/7".to_owned(), *status),
        };
        let entity = format!("\"entity\":{{\"reference\":\"{entity}\"}}");
        if swapped { format!("{{{status},{entity}}}") } else { format!("{{{entity},{status}}}") }
    }
}

fn listed() -> impl Strategy<Value = Listed> {
    let outside = prop::sample::select(vec![
        r#""inactive":true"#,
        r#""period":{"end":"2020-06-14"}"#,
        r#""period":{"start":"2020-06-16","end":"2021"}"#,
        r#""period":{"start":"never"}"#,
    ]);
    prop_oneof![(0..20u8).prop_map(Listed::Patient), (0..8u8).prop_map(Listed::Group), outside.prop_map(Listed::Nobody)]
}

fn render(id: usize, members: &[Listed], order: u8) -> String {
    let members: Vec<String> = members.iter().map(|member| member.json(order.is_multiple_of(2))).collect();
    let mut fields = [
        "\"resourceType\":\"Group\"".to_owned(),
        format!("\"id\":\"{id}\""),
        "\"actual\":true".to_owned(),
        format!("\"member\":[{}]", members.join(",")),
    ];
    let places = fields.len();
    fields.rotate_left(usize::from(order) % places);
    if order >= 4 {
        fields.reverse();
    }
    format!("{{{}}}\n", fields.join(","))
}

proptest! {
    #[test]
    fn a_cohort_is_what_walking_the_groups_gives(
        groups in prop::collection::vec((prop::collection::vec(listed(), 0..12), 0..8u8), 1..7),
        root in any::<prop::sample::Index>(),
        piece_bytes in 1..200usize,
    ) {
        let text: String = groups.iter().enumerate().map(|(id, (members, order))| render(id, members, *order)).collect();
        let root = root.index(groups.len());
        let (mut patients, mut reached, mut missing) = (HashSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut open = vec![root];
        while let Some(id) = open.pop() {
            let Some((members, _)) = groups.get(id) else {
                missing.insert(id.to_string());
                continue;
            };
            if reached.insert(id.to_string()) {
                patients.extend(members.iter().filter_map(|member| if let Listed::Patient(id) = member { Some(*id) } else { None }));
                open.extend(members.iter().filter_map(|member| if let Listed::Group(id) = member { Some(usize::from(*id)) } else { None }));
            }
        }
        let store = lines(&text, piece_bytes);
        let base_urls = BaseUrls::new(["https://own.example/fhir"]).unwrap();
        let cohort = block_on(resolve_cohort(&store, &root.to_string(), &store.transaction_time(), &base_urls)).unwrap();
        prop_assert_eq!(cohort.patients.len(), patients.len());
        prop_assert!(patients.iter().all(|id| cohort.patients.contains(&id.to_string())));
        prop_assert_eq!(&cohort.groups, &reached);
        let report = cohort.report;
        prop_assert_eq!(&report.groups_missing, &missing);
        let counted = report.patients_resolved + report.duplicates + report.nested_groups + report.dropped_inactive
            + report.dropped_ended + report.dropped_not_yet_started + report.unreadable_periods;
        prop_assert_eq!(report.members_listed, counted);
    }
}
