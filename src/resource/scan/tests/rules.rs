//! Which members count.

use std::sync::Arc;

use crate::resource::testing::{learned, naive, scanned};
use crate::resource::{Compartment, DefectKind, LastUpdated, References, ScanPlan, scan};

fn plan() -> ScanPlan {
    ScanPlan::with_references(Arc::new(Compartment::r4_patient()))
}

/// Scans a line that has to be a resource, and checks that `serde_json` agrees.
fn facts(line: &str) -> (Option<String>, LastUpdated<'static>, Vec<String>) {
    let plan = plan();
    let found = scanned(line.as_bytes(), &plan).unwrap_or_else(|defect| panic!("{defect}: {line}"));
    assert_eq!(Some(&found), naive(line.as_bytes(), &plan).as_ref(), "{line}");
    (found.id, found.last_updated, found.references)
}

fn id(line: &str) -> Option<String> {
    facts(line).0
}

fn last_updated(line: &str) -> LastUpdated<'static> {
    facts(line).1
}

fn references(line: &str) -> Vec<String> {
    facts(line).2
}

fn kind(line: &str) -> DefectKind {
    scanned(line.as_bytes(), &plan()).unwrap_err().kind
}

#[test]
fn only_top_level_members_are_the_resources_own() {
    let line = r#"{"contained":[{"resourceType":"Patient","id":"inner","meta":{"lastUpdated":"i"},"subject":{"reference":"Patient/i"}}],
        "resourceType":"Observation","note":{"id":"n","resourceType":"Device"},"id":"outer","text":"\"id\":\"t\""}"#;
    assert_eq!(id(line).as_deref(), Some("outer"));
    assert_eq!(last_updated(line), LastUpdated::Missing);
    assert_eq!(references(line), [""; 0]);
    let contained_only = r#"{"id":"1","contained":[{"resourceType":"Patient"}]}"#;
    assert_eq!(kind(contained_only), DefectKind::NoResourceType);
}

#[test]
fn of_duplicate_members_the_last_counts() {
    assert_eq!(id(r#"{"resourceType":"Basic","id":"A","id":"B"}"#).as_deref(), Some("B"));
    assert_eq!(id(r#"{"resourceType":"Basic","id":"A","id":5}"#), None);
    assert_eq!(id(r#"{"resourceType":"Basic","id":5,"\u0069d":"B"}"#).as_deref(), Some("B"));
    let twice = r#"{"resourceType":"Basic","meta":{"lastUpdated":"x"},"meta":{}}"#;
    assert_eq!(last_updated(twice), LastUpdated::Missing);
    let within = r#"{"resourceType":"Basic","meta":{"lastUpdated":"x","lastUpdated":"y"}}"#;
    assert_eq!(last_updated(within), LastUpdated::Text("y".into()));
}

#[test]
fn of_duplicate_members_on_the_way_to_a_reference_the_last_counts() {
    for (members, expected) in [
        (r#""subject":{"reference":"A"},"subject":{"reference":"B"}"#, &["B"][..]),
        (r#""subject":{"reference":"A"},"subject":{}"#, &[]),
        (r#""subject":{"reference":"A"},"subject":null"#, &[]),
        (r#""subject":{"reference":"A","reference":"B"}"#, &["B"]),
        (r#""subject":{"reference":"A","reference":1}"#, &[]),
        (
            r#""subject":{"reference":"A"},"performer":[{"reference":"P"},{"reference":"Q"}],"subject":{"reference":"B"}"#,
            &["B", "P", "Q"],
        ),
        (
            r#""subject":{"reference":"A"},"performer":[{"reference":"P"}],"subject":1,"performer":[{"reference":"Q"}]"#,
            &["Q"],
        ),
        (
            r#""subject":{"reference":"A"},"performer":[{"reference":"P"}],"subject":1,"subject":{"reference":"C"},"performer":[]"#,
            &["C"],
        ),
        (
            r#""performer":[{"reference":"P","reference":"Q"},{"reference":"R"}],"subject":{"reference":"\u0041"}"#,
            &["A", "Q", "R"],
        ),
        (r#""s\u0075bject":{"ref\u0065rence":"A"},"subject":{"reference":"B"}"#, &["B"]),
    ] {
        for line in [
            format!(r#"{{"resourceType":"Observation",{members}}}"#),
            format!(r#"{{{members},"resourceType":"Observation"}}"#),
            format!(r#"{{{members},"r\u0065sourceType":"Observation"}}"#),
        ] {
            assert_eq!(references(&line), expected, "{line}");
        }
    }
}

#[test]
fn of_two_types_the_last_decides_where_references_are() {
    let references_of = |line: &str| {
        let mut found = References::new();
        let facts = scan(line.as_bytes(), &plan(), &mut found).unwrap();
        (facts.slow, learned(&facts, &found).references, references(line))
    };
    let members = r#""subject":{"reference":"S"},"patient":{"reference":"P"}"#;
    let early = format!(r#"{{"resourceType":"Observation","resourceType":"Immunization",{members}}}"#);
    let around = format!(r#"{{"resourceType":"Observation",{members},"resourceType":"Immunization"}}"#);
    let late = format!(r#"{{{members},"resourceType":"Observation","resourceType":"Immunization"}}"#);
    for line in [early, around, late] {
        assert_eq!(references_of(&line), (true, vec!["P".to_owned()], vec!["P".to_owned()]), "{line}");
    }
    let to_nothing = format!(r#"{{"resourceType":"Observation",{members},"resourceType":"Binary"}}"#);
    assert!(references(&to_nothing).is_empty());
    let to_no_text = format!(r#"{{"resourceType":"Observation",{members},"resourceType":1}}"#);
    assert_eq!(kind(&to_no_text), DefectKind::NoResourceType);
    let from_no_text = format!(r#"{{"resourceType":1,{members},"resourceType":"Observation"}}"#);
    assert_eq!(references(&from_no_text), ["S"]);
}

#[test]
fn the_type_may_come_after_any_number_of_members() {
    for count in [0, 1, 255, 256, 257, 1000] {
        let before: String = (0..count).map(|number| format!(r#""x{number}":[],"#)).collect();
        let line = format!(
            r#"{{"subject":{{"reference":"A"}},{before}"performer":[{{"reference":"B"}}],"resourceType":"Observation"}}"#
        );
        assert_eq!(references(&line), ["A", "B"], "{count}");
        let mut buffer = References::new();
        let slow = scan(line.as_bytes(), &plan(), &mut buffer).unwrap().slow;
        assert_eq!(slow, count + 2 > 256, "{count}");
    }
}

#[test]
fn only_reference_strings_at_the_paths_of_the_type_are_references() {
    for (line, expected) in [
        (r#"{"resourceType":"Observation","focus":[{"reference":"F"}],"subject":{"reference":"S"}}"#, &["S"][..]),
        (
            r#"{"resourceType":"Observation","subject":{"identifier":{"reference":"I"},"display":"D","type":"Patient"}}"#,
            &[],
        ),
        (r#"{"resourceType":"Observation","subject":{"reference":["S"]},"performer":"P"}"#, &[]),
        (r#"{"resourceType":"Observation","subject":{"reference":{"reference":"S"}}}"#, &[]),
        (r#"{"resourceType":"Observation","subject":{"x":{"reference":"S"}},"reference":"R"}"#, &[]),
        (r#"{"resourceType":"Observation","subject":[[{"reference":"S"},[]],{"reference":"T"},1,"x"]}"#, &["S", "T"]),
        (r#"{"resourceType":"Patient","link":[{"other":{"reference":"A"}},{"other":{"reference":"B"}}]}"#, &["A", "B"]),
        (
            r#"{"resourceType":"Claim","payee":{"party":{"reference":"A"}},"patient":{"reference":"B"},"party":{"reference":"C"}}"#,
            &["A", "B"],
        ),
        (
            r#"{"resourceType":"AuditEvent","agent":[{"who":{"reference":"A"},"x":{"who":{"reference":"X"}}}],"entity":[{"what":{"reference":"B"}}]}"#,
            &["A", "B"],
        ),
        (r#"{"resourceType":"Binary","securityContext":{"reference":"Patient/1"}}"#, &[]),
        (r#"{"resourceType":"HospitalThing","subject":{"reference":"S"}}"#, &[]),
        (r#"{"resourceType":"Flag","subject":{"reference":"Patient\/1\u00e9\ud83d\ude00"}}"#, &["Patient/1é😀"]),
        (r#"{"resourceType":"Flag","subject":{"reference":""}}"#, &[""]),
    ] {
        assert_eq!(references(line), expected, "{line}");
    }
}

#[test]
fn no_references_are_looked_for_without_a_compartment() {
    let line = br#"{"subject":{"reference":"S"},"resourceType":"Observation","resourceType":"Flag"}"#;
    let mut references = References::new();
    let facts = scan(line, &ScanPlan::default(), &mut references).unwrap();
    assert_eq!((facts.resource_type.as_ref(), facts.slow, references.len()), ("Flag", false, 0));
}

#[test]
fn a_malformed_last_updated_is_told_from_a_missing_one() {
    for (meta, expected) in [
        (r#""meta":{}"#, LastUpdated::Missing),
        (r#""x":1"#, LastUpdated::Missing),
        (r#""meta":{"tag":[{"lastUpdated":"x"}]}"#, LastUpdated::Missing),
        (r#""meta":{"lastUpdated":"tomorrow"}"#, LastUpdated::Text("tomorrow".into())),
        (r#""meta":{"lastUpdated":"a\/b"}"#, LastUpdated::Text("a/b".into())),
        (r#""meta":{"last\u0055pdated":"x"}"#, LastUpdated::Text("x".into())),
        (r#""meta":{"lastUpdated":null}"#, LastUpdated::NotText),
        (r#""meta":{"lastUpdated":{"x":[]}}"#, LastUpdated::NotText),
        (r#""meta":null"#, LastUpdated::NotText),
        (r#""meta":[{"lastUpdated":"x"}]"#, LastUpdated::NotText),
        (r#""meta":"x""#, LastUpdated::NotText),
    ] {
        assert_eq!(last_updated(&format!(r#"{{"resourceType":"Basic",{meta}}}"#)), expected, "{meta}");
        assert_eq!(last_updated(&format!(r#"{{{meta},"resourceType":"Basic"}}"#)), expected, "{meta}");
    }
}

#[test]
fn the_type_has_to_be_a_string_of_the_form_of_a_type() {
    let line = |value: &str| format!(r#"{{"resourceType":{value}}}"#);
    assert_eq!(kind("{}"), DefectKind::NoResourceType);
    for not_text in ["null", "1", "[\"Patient\"]", "{}"] {
        assert_eq!(kind(&line(not_text)), DefectKind::NoResourceType, "{not_text}");
    }
    let longest = format!("\"{}\"", "A".repeat(64));
    let too_long = format!("\"{}\"", "A".repeat(65));
    for bad in ["\"\"", "\"A\"", "\"patient\"", "\"Pa/tient\"", "\"../Patient\"", "\"P1\"", "\"Pätient\"", &too_long] {
        assert_eq!(kind(&line(bad)), DefectKind::BadResourceType, "{bad}");
    }
    assert_eq!(kind(&line(r#""\ud800""#)), DefectKind::BadResourceType);
    for good in ["\"Ab\"", "\"HospitalThing\"", r#""P\u0061tient""#, &longest] {
        assert_eq!(id(&line(good)), None);
    }
}

#[test]
fn a_lone_surrogate_in_a_fact_is_replaced() {
    let line = br#"{"resourceType":"Flag","id":"a\ud800","subject":{"reference":"\udc00b"},"\ud800":"\ud800"}"#;
    let found = scanned(line, &plan()).unwrap();
    assert_eq!(found.id.as_deref(), Some("a\u{fffd}"));
    assert_eq!(found.references, ["\u{fffd}b"]);
}

#[test]
fn a_compartment_may_go_through_meta() {
    let definition = serde_json::json!({"resourceType": "CompartmentDefinition", "code": "Patient",
        "resource": [{"code": "Basic", "param": ["owner"]}]});
    let parameters = serde_json::json!({"resourceType": "Bundle", "entry": [{"resource": {
        "resourceType": "SearchParameter", "id": "o", "code": "owner", "base": ["Basic"], "type": "reference",
        "expression": "Basic.meta.owner | Basic.subject | Basic.subject.reference"}}]});
    let compartment = Compartment::from_definitions(&definition, &parameters).unwrap();
    let plan = ScanPlan::with_references(Arc::new(compartment));
    for line in [
        r#"{"resourceType":"Basic","meta":{"owner":{"reference":"O"},"lastUpdated":"x"},"subject":{"reference":"S"}}"#,
        r#"{"meta":{"lastUpdated":"x","owner":{"reference":"O"}},"subject":{"reference":"S"},"resourceType":"Basic"}"#,
        r#"{"resourceType":"Basic","meta":[{"owner":{"reference":"O"}}],"subject":{"reference":{"reference":"S"}}}"#,
        r#"{"resourceType":"Basic","meta":{"owner":{"reference":"N"}},"subject":{"reference":"S"},"meta":{"owner":{"reference":"O"}}}"#,
    ] {
        let found = scanned(line.as_bytes(), &plan).unwrap();
        assert_eq!(found.references, ["O", "S"], "{line}");
        assert_eq!(Some(found), naive(line.as_bytes(), &plan), "{line}");
    }
}

#[test]
fn a_line_that_is_no_resource_leaves_no_references_behind() {
    let mut references = References::new();
    let good = br#"{"resourceType":"Flag","subject":{"reference":"S"}}"#;
    scan(good, &plan(), &mut references).unwrap();
    assert_eq!(references.len(), 1);
    for bad in [&br#"{"resourceType":"Flag","subject":{"reference":"T"}}}"#[..], b"\xFF", b""] {
        scan(good, &plan(), &mut references).unwrap();
        scan(bad, &plan(), &mut references).unwrap_err();
        assert!(references.is_empty());
    }
}

#[test]
fn a_million_references_do_not_pin_their_memory() {
    let members = r#"{"entity":{"reference":"Patient/123456789"}},"#.repeat(100_000);
    let line = format!(r#"{{"resourceType":"Group","member":[{members}{{}}]}}"#);
    let mut references = References::new();
    scan(line.as_bytes(), &plan(), &mut references).unwrap();
    assert_eq!(references.len(), 100_000);
    references.clear();
    assert!(references.kept_bytes() <= 2 << 20);
}
