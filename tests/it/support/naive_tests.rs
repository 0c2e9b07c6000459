//! The naive exporter against figures that were worked out without it.

use std::collections::BTreeMap;

use super::naive::{Count, Counts, Export, Level, NaiveRequest, Quarantined, Reason, Refusal, export, instant, local};
use super::{Files, ndjson_files};

const MIDNIGHT: &str = "2024-01-01T00:00:00Z";

fn small(level: Level, change: impl FnOnce(&mut NaiveRequest)) -> Export {
    let mut request = NaiveRequest::new(level);
    request.base_urls.push("https://fhir.example.org/r4/".to_owned());
    change(&mut request);
    let export = export(&ndjson_files("small"), &request).unwrap();
    assert_balanced(&export);
    assert!(export.quarantine.is_empty() && export.unreadable.is_empty());
    export
}

fn assert_balanced(export: &Export) {
    for (name, counts) in &export.counts {
        let mut sum = counts.written.resources + counts.quarantined.resources;
        sum += counts.excluded.values().map(|count| count.resources).sum::<u64>();
        assert_eq!(sum, counts.read.resources, "{name:?}");
        let output = name.as_ref().and_then(|name| export.output.get(name)).map_or(0, Vec::len);
        assert_eq!(counts.written.bytes, output as u64, "{name:?}");
    }
}

fn written(export: &Export) -> u64 {
    export.counts.values().map(|counts| counts.written.resources).sum()
}

fn excluded(export: &Export, reason: &str) -> u64 {
    export.counts.values().filter_map(|counts| counts.excluded.get(reason)).map(|count| count.resources).sum()
}

fn group(id: &str) -> Level {
    Level::Group(id.to_owned())
}

fn ids(export: &Export, name: &str) -> Vec<String> {
    let output = export.output.get(name).cloned().unwrap_or_default();
    let mut ids: Vec<String> = String::from_utf8(output)
        .unwrap()
        .lines()
        .map(|line| line.split(r#""id":""#).nth(line.matches(r#""id":""#).count().min(1)).unwrap().to_owned())
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

#[test]
fn the_system_level_is_every_line_of_every_file() {
    let export = small(Level::System, |_| {});
    assert_eq!((written(&export), export.output.len()), (353, 73));
    assert_eq!(export.output.values().map(Vec::len).sum::<usize>(), 107_361);
    assert_eq!(export.output["Observation"].len(), 12_421);
    assert_eq!(export.counts[&Some("Observation".to_owned())].read, Count { resources: 32, bytes: 12_421 });
}

#[test]
fn the_patient_level_is_what_names_a_patient_of_the_sources_own() {
    let export = small(Level::Patient, |_| {});
    assert_eq!((written(&export), excluded(&export, "scope")), (290, 63));
    assert!(!export.output.contains_key("Practitioner") && !export.output.contains_key("Device"));
    assert_eq!(export.output["Patient"].iter().filter(|&&byte| byte == b'\n').count(), 8);
    let without_base = small(Level::Patient, |request| request.base_urls.clear());
    assert_eq!(written(&without_base), 249);
}

#[test]
fn a_group_of_one_is_one_patient_and_what_names_her() {
    let export = small(group("only-ada"), |_| {});
    assert_eq!(written(&export), 32);
    assert_eq!(ids(&export, "Patient"), ["ada"]);
    assert_eq!(ids(&export, "Group"), ["only-ada"]);
    assert_eq!(export.counts.values().map(|counts| counts.shared_with_non_members).sum::<u64>(), 2);
}

#[test]
fn nested_and_cyclic_groups_are_followed_and_written() {
    let nested = small(group("nested"), |_| {});
    assert_eq!((written(&nested), ids(&nested, "Patient").join(" ")), (130, "ada bo cyd hal".to_owned()));
    let groups = nested.cohort.unwrap().groups;
    assert_eq!(groups.into_iter().collect::<Vec<_>>(), ["nested", "only-ada", "pair"]);
    for id in ["cycle-a", "cycle-b"] {
        let cyclic = small(group(id), |_| {});
        assert_eq!((written(&cyclic), ids(&cyclic, "Patient").join(" ")), (73, "dee eli".to_owned()));
        assert_eq!(ids(&cyclic, "Group"), ["cycle-a", "cycle-b"]);
    }
}

#[test]
fn members_count_when_they_are_members_at_the_transaction_time() {
    for (id, at, members) in [
        ("everyone", "2025-01-01T00:00:00Z", "ada bo cyd dee eli fay gus hal"),
        ("inactive-members", "2025-01-01T00:00:00Z", "bo"),
        ("ended", "2025-01-01T00:00:00Z", "eli"),
        ("ended", "2018-02-02T23:59:59.9Z", "bo cyd dee ada"),
        ("ended", "2019-06-30T23:59:59.999Z", "ada bo cyd dee eli"),
        ("ended", "2019-07-01T00:00:00Z", "ada dee eli"),
        ("ended", "2019-07-01T01:30:00Z", "ada dee eli"),
        ("ended", "2019-07-01T01:30:00.1Z", "ada dee eli"),
        ("ended", "2019-07-01T01:30:01Z", "ada eli"),
        ("ended", "2019-12-31T23:59:59.9999Z", "ada eli"),
        ("ended", "2999-12-31T23:59:59Z", "eli"),
        ("ended", "3000-01-01T00:00:00Z", ""),
        ("not-yet", "2025-01-01T00:00:00Z", "fay"),
        ("not-yet", "2018-06-30T23:59:59Z", ""),
        ("not-yet", "2999-02-28T00:00:00Z", "ada bo cyd fay"),
        ("not-yet", "2999-02-28T00:00:00.50Z", "ada bo cyd dee fay"),
        ("not-yet", "2999-03-02T00:00:00Z", "ada bo dee fay"),
        ("empty", "2025-01-01T00:00:00Z", ""),
        ("all-gone", "2025-01-01T00:00:00Z", ""),
        ("retired", "2025-01-01T00:00:00Z", "gus"),
        ("mixed-entities", "2025-01-01T00:00:00Z", "fay"),
        ("twice", "2025-01-01T00:00:00Z", "ada bo"),
        ("staff", "2025-01-01T00:00:00Z", ""),
    ] {
        let export = small(group(id), |request| request.transaction_time = at.to_owned());
        let mut expected: Vec<&str> = members.split_whitespace().collect();
        expected.sort_unstable();
        assert_eq!(ids(&export, "Patient"), expected, "{id} at {at}");
        assert_eq!(ids(&export, "Group"), [id]);
    }
}

#[test]
fn an_empty_cohort_is_nobody_and_a_patient_that_is_not_there_can_have_data() {
    let empty = small(group("empty"), |_| {});
    assert_eq!(written(&empty), 1, "the Group itself");
    let strangers = small(group("strangers"), |_| {});
    assert!(!strangers.output.contains_key("Patient"));
    assert_eq!(strangers.cohort.as_ref().unwrap().patients.iter().collect::<Vec<_>>(), ["not-here"]);
    assert!(written(&strangers) > 1);
}

#[test]
fn a_missing_nested_group_is_reported_and_a_missing_group_refused() {
    let dangling = small(group("dangling"), |_| {});
    assert_eq!(dangling.cohort.unwrap().missing.into_iter().collect::<Vec<_>>(), ["nowhere"]);
    let refusal = |id| export(&ndjson_files("small"), &NaiveRequest::new(group(id))).unwrap_err();
    assert_eq!(refusal("nowhere"), Refusal::UnknownGroup);
    assert_eq!(refusal("definition"), Refusal::GroupNotActual);
    let doubled = [ndjson_files("small"), ndjson_files("small")].concat();
    assert_eq!(export(&doubled, &NaiveRequest::new(group("nested"))).unwrap_err(), Refusal::GroupTwice);
}

#[test]
fn time_filters_compare_exactly_and_treat_a_missing_time_each_in_its_way() {
    let since = small(Level::System, |request| request.since = Some(MIDNIGHT.to_owned()));
    assert_eq!((written(&since), excluded(&since, "since")), (211, 142));
    let until = small(Level::System, |request| request.until = Some("2024-01-01T05:30:00.000+05:30".to_owned()));
    assert_eq!((written(&until), excluded(&until, "until")), (237, 116));
    let both = small(Level::System, |request| {
        request.since = Some(MIDNIGHT.to_owned());
        request.until = Some(MIDNIGHT.to_owned());
    });
    assert_eq!((written(&both), excluded(&both, "since"), excluded(&both, "until")), (95, 142, 116));
}

#[test]
fn types_that_are_not_asked_for_are_excluded_before_anything_else() {
    let export = small(group("only-ada"), |request| {
        request.types = Some(["Patient".to_owned(), "Location".to_owned()].into());
        request.until = Some(MIDNIGHT.to_owned());
    });
    assert_eq!(export.output.keys().collect::<Vec<_>>(), ["Patient"]);
    assert_eq!(excluded(&export, "type"), 353 - 9);
}

#[test]
fn deleted_rows_and_rows_after_the_transaction_time_are_counted() {
    let export = small(Level::System, |request| {
        request.excludes_after_t = true;
        request.transaction_time = MIDNIGHT.to_owned();
        request.is_deleted = |resource| resource["id"] == "ada";
    });
    // Patient/ada is older than T.
    assert_eq!((excluded(&export, "deleted"), excluded(&export, "after-T")), (1, 353 - 237 - 46));
}

#[test]
fn odd_lines_are_written_as_they_are_or_quarantined_with_their_place() {
    let export = export(&ndjson_files("odd"), &NaiveRequest::new(Level::System)).unwrap();
    assert_balanced(&export);
    let figures: BTreeMap<&str, (u64, u64)> = export
        .counts
        .iter()
        .map(|(name, counts)| {
            (name.as_deref().unwrap_or("none"), (counts.written.resources, counts.quarantined.resources))
        })
        .collect();
    let longest = "A".repeat(64);
    let expected = [
        (longest.as_str(), (1, 0)),
        ("Basic", (2, 0)),
        ("Condition", (1, 0)),
        ("Encounter", (2, 0)),
        ("HospitalThing", (1, 0)),
        ("Observation", (1, 0)),
        ("Patient", (35, 0)),
        ("none", (0, 33)),
    ];
    assert_eq!(figures, expected.into());
    assert_eq!(
        export.unreadable,
        ["corrupt", "not-gzip", "trailing-garbage", "truncated"].map(|kind| format!("Encounter-{kind}.ndjson.gz"))
    );
    let too_deep: Vec<_> = export.quarantine.iter().filter(|line| line.reason == Reason::TooDeep).collect();
    assert_eq!(too_deep.len(), 1);
    assert_eq!(too_deep[0].source, "Basic-nesting.ndjson");
}

#[test]
fn a_malformed_time_matters_only_under_a_time_filter() {
    let mut request = NaiveRequest::new(Level::System);
    request.since = Some("2999-01-01T00:00:00Z".to_owned());
    let export = export(&ndjson_files("odd"), &request).unwrap();
    let malformed: Vec<&Quarantined> =
        export.quarantine.iter().filter(|line| line.reason == Reason::LastUpdated).collect();
    assert_eq!(malformed.len(), 6);
    assert!(malformed.iter().all(|line| line.source == "Patient-last-updated.ndjson"));
    assert_eq!(export.counts[&Some("Patient".to_owned())].excluded["since"].resources, 3);
}

#[test]
fn offsets_are_those_of_the_resource_and_lengths_without_blanks() {
    let files: Files = vec![(
        "a".to_owned(),
        b"\n\xEF\xBB\xBF {} \r\n{\"resourceType\":\"Basic\"}\n  [1]\n\"01234567890123456789\"".to_vec(),
    )];
    let mut request = NaiveRequest::new(Level::System);
    request.line_limit = 24;
    let export = export(&files, &request).unwrap();
    let found: Vec<_> = export.quarantine.iter().map(|line| (line.offset, line.length, line.reason)).collect();
    assert_eq!(found, [(5, 2, Reason::NoResourceType), (37, 3, Reason::NotAnObject), (41, 22, Reason::NotAnObject)]);
    assert_eq!(export.output["Basic"], b"{\"resourceType\":\"Basic\"}\n");
    let basic = &export.counts[&Some("Basic".to_owned())];
    assert_eq!(*basic, Counts { read: basic.written, written: basic.written, ..Counts::default() });
    request.line_limit = 23;
    let too_long = super::naive::export(&files, &request).unwrap();
    assert_eq!(too_long.quarantine[1].reason, Reason::TooLong);
}

#[test]
fn references_and_instants_are_read_as_the_rules_say() {
    let bases = ["https://fhir.example.org/r4".to_owned()];
    let found = |reference: &str| local(reference, &bases).map(|(name, id)| format!("{name} {id}"));
    for reference in ["Patient/1", "Patient/1/_history/2", "https://fhir.example.org/r4/Patient/1"] {
        assert_eq!(found(reference).as_deref(), Some("Patient 1"));
    }
    for reference in
        ["#p", "urn:uuid:1", "https://fhir.example.org/r4x/Patient/1", "/Patient/1", "Patient/1#a", "Patient/"]
    {
        assert_eq!(found(reference), None, "{reference}");
    }
    assert_eq!(instant("0001-01-01T00:00:00Z"), Some((0, String::new())));
    assert_eq!(instant("1970-01-01T00:00:00.50Z"), Some((62_135_596_800, "5".to_owned())));
    assert_eq!(instant("2024-01-01T00:00:00-05:00"), instant("2024-01-01T05:00:00.0Z"));
    assert!(instant("2023-02-29T00:00:00Z").is_none() && instant("2024-02-29T00:00:00Z").is_some());
    assert!(instant("2024-01-01T00:00:00.2Z") > instant("2024-01-01T00:00:00.1999999999999Z"));
}
