//! The parameters of a start, in each of the forms that they come in.

use axum::body::Body;
use axum::http::StatusCode;
use fhir_export::source::memory::{Gate, MemoryRange, MemorySource};
use serde_json::{Value, json};

use super::served::{Answer, BASE, Served, path_of};
use super::{JSON, grouped_source, healthlake_body};

const STRICT: &[(&str, &str)] = &[("prefer", "respond-async")];
const LENIENT: &[(&str, &str)] = &[("prefer", "respond-async"), ("prefer", "handling=lenient")];

/// A way in which parameters come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Get,
    EmptyPost,
    Parameters,
}

const FORMS: [Form; 3] = [Form::Get, Form::EmptyPost, Form::Parameters];

fn labelled_source() -> MemorySource {
    let tag = |code: &str| json!({"system": "http://t", "code": code});
    let lines = [
        json!({"resourceType": "Patient", "id": "1", "meta": {"tag": [tag("a")]}}),
        json!({"resourceType": "Patient", "id": "2", "meta": {"tag": [tag("b"), tag("a")], "security": [{"code": "R"}]}}),
        json!({"resourceType": "Patient", "id": "3", "meta": {"security": [{"system": "http://t", "code": "a"}]}}),
        json!({"resourceType": "Patient", "id": "4"}),
    ];
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    MemorySource::new().with(MemoryRange::lines("all", lines))
}

/// Asks for an export in one of the forms. Values of the query are taken as they are.
async fn ask(served: &Served, form: Form, level: &str, pairs: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
    let query: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}={}", value.replace('|', "%7C").replace(' ', "%20"))).collect();
    let path = format!("{BASE}{level}/$export");
    let with_query = format!("{path}?{}", query.join("&"));
    match form {
        Form::Get => served.ask("GET", &with_query, headers, Body::empty()).await,
        Form::EmptyPost => served.ask("POST", &with_query, headers, Body::empty()).await,
        Form::Parameters => {
            let parameters = pairs.iter().map(|(name, value)| json!({"name": name, "valueString": value}));
            post(served, level, parameters.collect(), headers).await
        }
    }
}

pub(super) async fn post(served: &Served, level: &str, parameters: Vec<Value>, headers: &[(&str, &str)]) -> Answer {
    let body = json!({"resourceType": "Parameters", "parameter": parameters}).to_string();
    let headers = [headers, &[("content-type", "application/fhir+json")]].concat();
    served.ask("POST", &format!("{BASE}{level}/$export"), &headers, body).await
}

fn patient(reference: &str) -> Value {
    json!({"name": "patient", "valueReference": {"reference": reference}})
}

/// The manifest of an export that was started.
pub(super) async fn manifest(served: &Served, started: &Answer) -> Value {
    assert_eq!(started.status, StatusCode::ACCEPTED, "{started:?}");
    let over = served.until_over(&path_of(started.header("content-location"))).await;
    assert_eq!(over.status, StatusCode::OK, "{over:?}");
    over.json()
}

/// The lines of a list of files of a manifest.
pub(super) async fn lines(served: &Served, files: &Value) -> Vec<Value> {
    let mut lines = Vec::new();
    for file in files.as_array().unwrap() {
        let answer = served.get(&path_of(file["url"].as_str().unwrap())).await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    lines
}

/// Type and id of everything that was exported.
pub(super) async fn exported(served: &Served, started: &Answer) -> Vec<String> {
    let manifest = manifest(served, started).await;
    let lines = lines(served, &manifest["output"]).await;
    let name = |line: &Value| format!("{}/{}", line["resourceType"].as_str().unwrap(), line["id"].as_str().unwrap());
    lines.iter().map(name).collect()
}

fn faults(answer: &Answer) -> Vec<(String, Option<String>)> {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    answer.issues()
}

#[tokio::test]
async fn only_what_bears_all_labels_is_exported() {
    let served = Served::new(labelled_source());
    for (pairs, expected) in [
        (&[("_tag", "http://t|a")][..], &["1", "2"][..]),
        (&[("_tag", "http://t|a"), ("_tag", "http://t|b")], &["2"]),
        (&[("_tag", "http://t|a,b")], &["2"]),
        (&[("_tag", "http://t|")], &["1", "2"]),
        (&[("_tag", "|a")], &[]),
        (&[("_security", "|R")], &["2"]),
        (&[("_security", "http://t|a")], &["3"]),
        (&[("_security", "R"), ("_tag", "b")], &["2"]),
        (&[("_security", "R"), ("_tag", "c")], &[]),
    ] {
        for form in FORMS {
            let started = ask(&served, form, "", pairs, STRICT).await;
            let expected: Vec<String> = expected.iter().map(|id| format!("Patient/{id}")).collect();
            assert_eq!(exported(&served, &started).await, expected, "{form:?} {pairs:?}");
        }
    }
}

#[tokio::test]
async fn healthlakes_operation_echoes_labels_and_counts_what_they_left_out() {
    let served = Served::new(labelled_source());
    let path = format!("{BASE}/Patient/$export?_tag=http%3A%2F%2Ft%7Ca&_security=R");
    let started = served.ask("POST", &path, JSON, healthlake_body()).await;
    let manifest = manifest(&served, &started).await;
    let request = "http://localhost:8080/datastore/store1/r4/Patient/$export\
        ?_type&_since&_security=R&_tag=http://t|a&_outputFormat=application/fhir+ndjson";
    assert_eq!(manifest["request"], request);
    let row = &manifest["extension"]["ledger"][0];
    assert_eq!((&row["written"]["resources"], &row["excluded"]["filter"]["resources"]), (&json!(1), &json!(3)));
}

#[tokio::test]
async fn patients_that_are_named_come_with_what_belongs_to_them_and_nothing_else() {
    let served = Served::new(grouped_source());
    let named = vec![patient("Patient/2"), patient("Patient/2/_history/1")];
    let started = post(&served, "/Patient", named, STRICT).await;
    assert_eq!(exported(&served, &started).await, ["Observation/4", "Patient/2"], "no Group: it names another patient");
    let started = post(&served, "/Group/g", vec![patient("Patient/1")], STRICT).await;
    assert_eq!(exported(&served, &started).await, ["Observation/3", "Patient/1"]);
    let observations = vec![patient("Patient/1"), json!({"name": "_type", "valueString": "Observation"})];
    let started = post(&served, "/Patient", observations, STRICT).await;
    assert_eq!(exported(&served, &started).await, ["Observation/3"]);
}

#[tokio::test]
async fn a_patient_who_is_not_there_or_no_member_is_refused_by_name() {
    let served = Served::new(grouped_source());
    let not_found = || ("not-found".to_owned(), Some("patient".to_owned()));
    for headers in [STRICT, LENIENT] {
        let named = || vec![patient("Patient/1"), patient("Patient/8"), patient("Patient/9")];
        let refused = post(&served, "/Patient", named(), headers).await;
        assert_eq!(faults(&refused), [not_found(), not_found()]);
        assert!(
            refused.json()["issue"][0]["diagnostics"]
                .as_str()
                .unwrap()
                .starts_with(r#"patient "Patient/8" isn't there"#)
        );
        let refused = post(&served, "/Group/g", vec![patient("Patient/2"), patient("Patient/1")], headers).await;
        assert_eq!(faults(&refused), [not_found()]);
        let refused = post(&served, "/Patient", vec![patient("https://other.example/fhir/Patient/1")], headers).await;
        assert_eq!(faults(&refused), [("value".to_owned(), Some("patient".to_owned()))]);
    }
    assert!(served.service.list("store1").await.unwrap().is_empty(), "nothing was started");
}

#[tokio::test]
async fn patients_are_named_in_bodies_only_and_never_for_the_whole_system() {
    let served = Served::new(grouped_source());
    for headers in [STRICT, LENIENT] {
        for form in [Form::Get, Form::EmptyPost] {
            let refused = ask(&served, form, "/Patient", &[("patient", "Patient/1")], headers).await;
            assert_eq!(faults(&refused), [("structure".to_owned(), Some("patient".to_owned()))], "{form:?}");
        }
        let refused = post(&served, "", vec![patient("Patient/1")], headers).await;
        assert_eq!(faults(&refused), [("value".to_owned(), Some("patient".to_owned()))]);
    }
    let refused = ask(&served, Form::Parameters, "/Patient", &[("patient", "Patient/1")], STRICT).await;
    assert!(refused.json()["issue"][0]["diagnostics"].as_str().unwrap().starts_with("patient has a valueString (acc"));
}

const UNSUPPORTED: [(&str, &str); 6] = [
    ("_typeFilter", "Patient?active=true"),
    ("_elements", "id"),
    ("includeAssociatedData", "_custom"),
    ("organizeOutputBy", "Patient"),
    ("allowPartialManifests", "true"),
    ("_unheardOf", "x"),
];

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name_all_of_it_at_once() {
    let served = Served::new(grouped_source());
    for form in FORMS {
        let refused = ask(&served, form, "", &UNSUPPORTED, STRICT).await;
        let expected: Vec<_> =
            UNSUPPORTED.iter().map(|(name, _)| ("not-supported".to_owned(), Some((*name).to_owned()))).collect();
        assert_eq!(faults(&refused), expected, "{form:?}");
    }
}

#[tokio::test]
async fn a_lenient_client_is_told_in_the_manifests_errors_what_was_skipped() {
    let served = Served::new(grouped_source());
    for form in FORMS {
        let started = ask(&served, form, "", &[&UNSUPPORTED[..], &[("_type", "Patient")]].concat(), LENIENT).await;
        let manifest = manifest(&served, &started).await;
        assert_eq!(manifest["exportJobProperties"]["jobStatus"], "COMPLETED", "it is no error");
        assert_eq!(manifest["output"][0]["count"], 2);
        assert_eq!(manifest["error"][0]["type"], "OperationOutcome");
        let told = lines(&served, &manifest["error"]).await;
        assert_eq!(told.len(), UNSUPPORTED.len());
        for (outcome, (name, _)) in told.iter().zip(UNSUPPORTED) {
            let issue = &outcome["issue"][0];
            assert_eq!((&issue["severity"], &issue["code"]), (&json!("warning"), &json!("not-supported")));
            assert_eq!(issue["expression"], json!([name]));
            assert!(issue["diagnostics"].as_str().unwrap().starts_with(&format!("{name} isn't supported")), "{issue}");
        }
    }
}

#[tokio::test]
async fn a_lenient_client_is_refused_what_it_got_wrong() {
    let served = Served::new(grouped_source());
    for form in FORMS {
        let refused =
            ask(&served, form, "", &[("_elements", "id"), ("_type", "Foo"), ("_since", "2024")], LENIENT).await;
        let named: Vec<_> = faults(&refused).into_iter().filter_map(|(_, expression)| expression).collect();
        assert_eq!(named, ["_type", "_since"], "{form:?}");
    }
}

#[tokio::test]
async fn lists_may_be_repeated_and_single_values_may_not() {
    let served = Served::new(grouped_source());
    let at = "2024-05-09T00:00:00Z";
    for form in FORMS {
        for pairs in [
            &[("_type", "Patient,Observation")][..],
            &[("_type", "Patient"), ("_type", "Observation"), ("_type", "Patient")],
            &[("_type", "Patient , Observation"), ("_since", at), ("_until", "2099-01-01T00:00:00.5+14:00")],
            &[("_type", "Patient"), ("_outputFormat", "ndjson")],
            &[("_type", "Patient"), ("_outputFormat", "ndjson,application/ndjson"), ("_outputFormat", "ndjson")],
            &[("_type", "Patient"), ("_outputFormat", "application/fhir+ndjson")],
        ] {
            let started = ask(&served, form, "", pairs, STRICT).await;
            let has_since = pairs.iter().any(|(name, _)| *name == "_until");
            let output = manifest(&served, &started).await["output"].as_array().unwrap().len();
            assert_eq!(output == 0, has_since, "what has no time is older than any end: {form:?} {pairs:?}");
        }
        for (pairs, code, name) in [
            (&[("_since", at), ("_since", at)][..], "invalid", "_since"),
            (&[("_until", at), ("_until", "2025-05-09T00:00:00Z")], "invalid", "_until"),
            (&[("_since", at), ("_until", "2023-05-09T00:00:00Z")], "value", "_since"),
            (&[("_since", "2024-05-09")], "value", "_since"),
            (&[("_until", "tomorrow")], "value", "_until"),
            (&[("_outputFormat", "ndjson,text/csv")], "value", "_outputFormat"),
            (&[("_outputFormat", "application/fhir+xml")], "value", "_outputFormat"),
            (&[("_type", "Patient,Foo")], "value", "_type"),
            (&[("_type", ",")], "value", "_type"),
            (&[("_tag", "a|b|c")], "value", "_tag"),
            (&[("_security", ",")], "value", "_security"),
        ] {
            let refused = ask(&served, form, "", pairs, STRICT).await;
            assert_eq!(faults(&refused), [(code.to_owned(), Some(name.to_owned()))], "{form:?} {pairs:?}");
        }
    }
}

#[tokio::test]
async fn a_value_of_another_type_is_named() {
    let served = Served::new(grouped_source());
    for (parameter, beginning) in [
        (json!({"name": "_type", "valueInteger": 1}), "_type has a valueInteger (accepted: one value as valueString"),
        (
            json!({"name": "_since", "valueDate": "2024-05-09"}),
            "_since has a valueDate (accepted: one value as valueIns",
        ),
        (
            json!({"name": "_outputFormat", "valueUri": "ndjson"}),
            "_outputFormat has a valueUri (accepted: one value as",
        ),
        (
            json!({"name": "patient", "valueString": "Patient/1"}),
            "patient has a valueString (accepted: one value as val",
        ),
    ] {
        let refused = post(&served, "/Patient", vec![parameter], STRICT).await;
        assert_eq!(faults(&refused).len(), 1);
        let told = refused.json()["issue"][0]["diagnostics"].as_str().unwrap().to_owned();
        assert!(told.starts_with(beginning), "{told}");
    }
    let both = json!({"name": "_type", "valueString": "Patient", "valueCode": "Patient"});
    let refused = post(&served, "", vec![both, json!({"name": "_until"})], STRICT).await;
    let named: Vec<_> = faults(&refused).into_iter().filter_map(|(_, expression)| expression).collect();
    assert_eq!(named, ["_type", "_until"]);
}

#[tokio::test]
async fn a_list_of_types_that_are_all_outside_of_the_level_is_refused_by_its_name() {
    let served = Served::new(grouped_source());
    for form in FORMS {
        let refused = ask(&served, form, "/Patient", &[("_type", "Practitioner,Location")], STRICT).await;
        assert_eq!(faults(&refused), [("value".to_owned(), Some("_type".to_owned()))], "{form:?}");
    }
}

/// Two patients, one with a label, and what belongs to them.
fn clinic(gate: Option<&Gate>) -> MemorySource {
    let meta = json!({"tag": [{"code": "a"}]});
    let patients = [
        json!({"resourceType": "Patient", "id": "1", "meta": meta}),
        json!({"resourceType": "Patient", "id": "2", "meta": meta}),
    ];
    let observation = |id: &str, patient: &str, meta: &Value| {
        let subject = json!({"reference": patient});
        json!({"resourceType": "Observation", "id": id, "subject": subject, "meta": meta})
    };
    let observations = [
        observation("3", "Patient/1", &meta),
        observation("4", "Patient/1", &json!({})),
        observation("5", "Patient/2", &meta),
    ];
    let range = |name: &str, lines: &[Value]| {
        let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
        MemoryRange::lines(name, lines)
    };
    let observations = range("observations", &observations);
    let observations = match gate {
        Some(gate) => observations.stalled_at(0, gate),
        None => observations,
    };
    MemorySource::new().with(range("patients", &patients)).with(observations)
}

#[test]
fn a_server_that_starts_again_knows_what_was_asked_and_what_was_skipped() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (before, job) = first.block_on(async {
        let gate = Gate::new();
        let served = Served::new(clinic(Some(&gate)));
        let asked = vec![
            patient("Patient/1"),
            json!({"name": "_tag", "valueString": "|a"}),
            json!({"name": "_elements", "valueString": "id"}),
        ];
        let started = post(&served, "/Patient", asked, LENIENT).await;
        assert_eq!(started.status, StatusCode::ACCEPTED, "{started:?}");
        gate.reached().await;
        (served, path_of(started.header("content-location")))
    });
    drop(first);
    runtime().block_on(async {
        let served = Served::after(&before, clinic(None));
        drop(before);
        assert_eq!(served.service.recover().await.unwrap(), 1);
        let manifest = served.until_over(&job).await.json();
        let names: Vec<_> = lines(&served, &manifest["output"]).await.iter().map(|line| line["id"].clone()).collect();
        assert_eq!(names, [json!("3"), json!("1")]);
        let told = lines(&served, &manifest["error"]).await;
        assert_eq!(told.len(), 1);
        assert_eq!(told[0]["issue"][0]["expression"], json!(["_elements"]));
    });
}
