//! Which documents are policies.

use super::*;

const GOOD: &str = r#""Effect":"Allow","Action":"healthlake:*","Resource":"*""#;

#[test]
fn a_statement_may_stand_alone_or_in_a_list() {
    for text in [
        format!(r#"{{"Statement":{{{GOOD}}}}}"#),
        format!(r#"{{"Version":"2012-10-17","Id":"a b","Statement":[{{{GOOD}}}]}}"#),
        format!(
            r#"{{"Version":"2008-10-17","Statement":[{{{GOOD}}},{{"Sid":"A1",{GOOD}}},{{"Sid":"",{GOOD}}},{{"Sid":"",{GOOD}}}]}}"#
        ),
        r#"{"Statement":{"Effect":"Allow","Action":["healthlake:*","iam:PassRole"],"Resource":["*"],"Condition":{}}}"#
            .to_owned(),
    ] {
        assert!(is_allowed(policy(&text)), "{text}");
    }
}

#[test]
fn what_is_no_identity_policy_is_refused_and_its_place_is_named() {
    let statement = |text: &str| format!(r#"{{"Statement":[{{{GOOD}}},{{{text}}}]}}"#);
    for (text, place) in [
        (String::new(), "the policy can't be read"),
        ("[]".to_owned(), "the policy isn't a JSON object"),
        ("{}".to_owned(), "the policy: Statement"),
        (r#"{"Statement":[]}"#.to_owned(), "the policy: Statement"),
        (r#"{"Statement":"a"}"#.to_owned(), "the policy: Statement"),
        (format!(r#"{{"Version":"2012-10-18","Statement":{{{GOOD}}}}}"#), "the policy: Version"),
        (format!(r#"{{"Version":2012,"Statement":{{{GOOD}}}}}"#), "the policy: Version"),
        (format!(r#"{{"Id":1,"Statement":{{{GOOD}}}}}"#), "the policy: Id"),
        (format!(r#"{{"statement":{{{GOOD}}}}}"#), "the policy: \"statement\""),
        (format!(r#"{{"Statement":{{{GOOD}}},"Statement":{{{GOOD}}}}}"#), "\"Statement\" occurs twice"),
        (statement(r#""Effect":"Deny","Effect":"Allow","Action":"*","Resource":"*""#), "\"Effect\" occurs twice"),
        (statement(&format!(r#"{GOOD},"Condition":{{"Bool":{{"a":"1","a":"2"}}}}"#)), "\"a\" occurs twice"),
        (r#"{"Statement":[1]}"#.to_owned(), "statement 1: isn't an object"),
        (statement(r#""Action":"*","Resource":"*""#), "statement 2: Effect"),
        (statement(r#""Effect":"allow","Action":"*","Resource":"*""#), "statement 2: Effect"),
        (statement(r#""Effect":["Allow"],"Action":"*","Resource":"*""#), "statement 2: Effect"),
        (statement(r#""Effect":"Allow","Resource":"*""#), "statement 2: Action"),
        (statement(r#""Effect":"Allow","Action":"*""#), "statement 2: Resource"),
        (statement(&format!(r#"{GOOD},"NotAction":"a:b""#)), "statement 2: Action"),
        (statement(&format!(r#"{GOOD},"NotResource":"*""#)), "statement 2: Resource"),
        (statement(r#""Effect":"Allow","Action":[],"Resource":"*""#), "statement 2: Action"),
        (statement(r#""Effect":"Allow","Action":[1],"Resource":"*""#), "statement 2: Action"),
        (statement(r#""Effect":"Allow","Action":"healthlake","Resource":"*""#), "statement 2: Action"),
        (statement(r#""Effect":"Allow","Action":":x","Resource":"*""#), "statement 2: Action"),
        (statement(r#""Effect":"Allow","NotAction":"a:b:c","Resource":"*""#), "statement 2: NotAction"),
        (statement(r#""Effect":"Allow","Action":"a:${aws:username}","Resource":"*""#), "statement 2: Action"),
        (statement(r#""Effect":"Allow","Action":"*","Resource":"datastore/*""#), "statement 2: Resource"),
        (statement(r#""Effect":"Allow","Action":"*","NotResource":["*",""]"#), "statement 2: NotResource"),
        (statement(&format!(r#"{GOOD},"Principal":"*""#)), "statement 2: Principal"),
        (statement(&format!(r#"{GOOD},"NotPrincipal":"*""#)), "statement 2: NotPrincipal"),
        (statement(&format!(r#"{GOOD},"Conditions":{{}}"#)), "statement 2: \"Conditions\""),
        (statement(&format!(r#"{GOOD},"Sid":"a b""#)), "statement 2: Sid"),
        (statement(&format!(r#"{GOOD},"Sid":1"#)), "statement 2: Sid"),
        (statement(&format!(r#"{GOOD},"Sid":"A"}},{{{GOOD},"Sid":"A""#)), "statement 3: Sid"),
        (statement(&format!(r#"{GOOD},"Condition":[]"#)), "statement 2: Condition"),
        (statement(&format!(r#"{GOOD},"Condition":{{"Bool":"a"}}"#)), "statement 2: Condition: \"Bool\""),
        (statement(&format!(r#"{GOOD},"Condition":{{"Bool":{{}}}}"#)), "statement 2: Condition: \"Bool\""),
        (statement(&format!(r#"{GOOD},"Condition":{{"Bool":{{"a":[]}}}}"#)), "statement 2: Condition: \"Bool\": \"a\""),
        (
            statement(&format!(r#"{GOOD},"Condition":{{"Bool":{{"a":null}}}}"#)),
            "statement 2: Condition: \"Bool\": \"a\"",
        ),
        (
            statement(&format!(r#"{GOOD},"Condition":{{"Bool":{{"a":[["b"]]}}}}"#)),
            "statement 2: Condition: \"Bool\": \"a\"",
        ),
        (
            statement(&format!(r#"{GOOD},"Condition":{{"Bool":{{"a":"b","A":"b"}}}}"#)),
            "statement 2: Condition: \"Bool\": \"a\"",
        ),
        (format!(r#"{{"Id":"{}","Statement":{{{GOOD}}}}}"#, "a".repeat(200_000)), "too long"),
    ] {
        let error = Policy::parse(&text).map(|_| ()).unwrap_err();
        assert!(error.message().contains(place), "{place}: {}", error.message());
        assert_eq!(error.kind(), crate::error::ErrorKind::InvalidConfig);
    }
}

#[test]
fn a_message_quotes_a_hundred_characters_at_most_and_no_line_ends() {
    let text = format!(r#"{{"a\n{}":1}}"#, "é".repeat(5000));
    let error = Policy::parse(&text).map(|_| ()).unwrap_err();
    assert!(error.message().len() < 300 && !error.message().contains('\n'), "{}", error.message());
}

#[test]
fn what_is_not_understood_is_named() {
    let statement = r#""Effect":"Deny","Action":"*","Resource":"arn:${a}","Condition":{"Numeric":{"aws:EpochTime":1}}"#;
    let doubts: Vec<String> = of_statements(&[statement]).doubts().map(str::to_owned).collect();
    assert_eq!(
        doubts,
        [
            "statement 1: Resource: a variable isn't known",
            "statement 1: Condition: \"Numeric\": \"aws:EpochTime\": the operator isn't known"
        ]
    );
}
