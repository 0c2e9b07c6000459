//! Requests that others have signed.

use std::time::Duration;

use super::super::UnsignedPayload;
use super::*;

struct Row {
    name: String,
    sent: Sent,
    last: String,
}

fn rows(text: &str) -> Vec<Row> {
    text.lines().filter(|line| !line.starts_with('#')).map(row).collect()
}

fn row(line: &str) -> Row {
    let columns: Vec<&str> = line.split('\t').collect();
    let [name, method, path, query, headers, body, last] = columns.as_slice() else { panic!("{line}") };
    let header = |pair: &str| {
        let (name, value) = pair.split_once(':').unwrap();
        (name.to_owned(), value.as_bytes().to_vec())
    };
    Row {
        name: (*name).to_owned(),
        sent: Sent {
            method: (*method).to_owned(),
            path: (*path).to_owned(),
            query: (*query != "-").then(|| (*query).to_owned()),
            headers: headers.split('|').map(header).collect(),
            body: body.as_bytes().to_vec(),
        },
        last: (*last).to_owned(),
    }
}

fn token(sent: &Sent) -> Option<String> {
    sent.claimed(&signer().at, &Expectation::healthlake(REGION)).unwrap().session_token().map(str::to_owned)
}

const SUITE: Expectation<'static> = Expectation {
    service: "service",
    region: "us-east-1",
    max_skew: Duration::ZERO,
    unsigned_payload: UnsignedPayload::Refused,
};

#[test]
fn requests_of_the_test_suite_of_aws_hold_but_for_those_whose_paths_are_refused() {
    let refused = [
        "get-relative",
        "get-relative-relative",
        "get-slash",
        "get-slash-dot-slash",
        "get-slash-pointless-dot",
        "get-slashes",
    ];
    let rows = rows(include_str!("../vectors/aws_suite.tsv"));
    assert_eq!(rows.len(), 33);
    let now = at("2015-08-30T12:36:00Z");
    for Row { name, sent, last } in rows {
        let sent = sent.header("authorization", &last);
        let has_token = sent.headers.iter().any(|(name, _)| name == "x-amz-security-token");
        let token = has_token.then(|| sent.value("x-amz-security-token"));
        let verdict = sent.verdict(&Secret { session_token: token.as_deref(), ..SECRET }, &now, &SUITE);
        if refused.contains(&name.as_str()) {
            assert!(matches!(verdict, Err(Refusal::Incomplete(_))), "{name}: {verdict:?}");
        } else {
            assert_eq!(verdict, Ok(()), "{name}");
        }
    }
}

#[test]
fn a_token_that_is_added_after_signing_is_refused() {
    let rows = rows(include_str!("../vectors/aws_suite.tsv"));
    let Row { sent, last, .. } = rows.into_iter().find(|row| row.name == "post-sts-header-after").unwrap();
    let sent = sent.header("authorization", &last).header("x-amz-security-token", "AQoDYXdzEPT");
    let secret = Secret { session_token: Some("AQoDYXdzEPT"), ..SECRET };
    let verdict = sent.verdict(&secret, &at("2015-08-30T12:36:00Z"), &SUITE);
    assert!(matches!(verdict, Err(Refusal::Incomplete(_))), "{verdict:?}");
}

#[test]
fn requests_of_botocore_hold() {
    let rows = rows(include_str!("../vectors/botocore.tsv"));
    assert_eq!(rows.len(), 30);
    for Row { name, sent, last } in rows {
        let token = token(&sent);
        assert_eq!(token.is_some(), name.contains("session"), "{name}");
        let secret = Secret { access_key: &last, session_token: token.as_deref() };
        let check = |sent: &Sent| sent.verdict(&secret, &signer().at, &Expectation::healthlake(REGION));
        assert_eq!(check(&sent), Ok(()), "{name}");
        let other = Sent { body: b"another".to_vec(), ..sent.clone() };
        assert!(check(&other).is_err(), "{name}");
        let other = Sent { path: format!("{}x", sent.path), ..sent };
        assert!(check(&other).is_err(), "{name}");
    }
}
