//! One row for a rule.

use super::*;

#[test]
fn actions_match_in_any_case_with_wildcards() {
    for (action, asked, is_match) in [
        ("*", START, true),
        ("healthlake:*", START, true),
        ("*:*", START, true),
        ("healthlake:StartFHIRExportJobWithPost", START, true),
        ("HealthLake:startfhirexportjobwithpost", START, true),
        ("healthlake:StartFHIRExportJobWithPost", "HEALTHLAKE:STARTFHIREXPORTJOBWITHPOST", true),
        ("healthlake:Start*", START, true),
        ("healthlake:*Export*", START, true),
        ("health*:Start*Post", START, true),
        ("healthlake:StartFHIRExportJobWith????", START, true),
        ("healthlake:StartFHIRExportJobWith???", START, false),
        ("healthlake:StartFHIRExportJob", START, false),
        ("healthlake:StartFHIRExportJobWithPost*", START, true),
        ("healthlake:StartFHIRExportJobWithPostX", START, false),
        ("healthlake:Describe*", START, false),
        ("s3:*", START, false),
        ("healthlak:*", START, false),
        ("healthlake:*", "iam:PassRole", false),
    ] {
        let allow = of_statements(&[&format!(r#""Effect":"Allow","Action":"{action}","Resource":"*""#)]);
        assert_eq!(verdict(&[allow], asked, STORE).is_allowed(), is_match, "{action} {asked}");
        let but = of_statements(&[&format!(r#""Effect":"Allow","NotAction":["a:b","{action}"],"Resource":"*""#)]);
        assert_eq!(verdict(&[but], asked, STORE).is_allowed(), !is_match, "but {action} {asked}");
    }
}

#[test]
fn resources_match_in_their_case_with_wildcards_and_variables() {
    let named = |name: &str| format!("arn:aws:healthlake:eu-west-1:123456789012:datastore/fhir/{name}");
    for (resource, asked, is_match) in [
        ("*", STORE.to_owned(), true),
        ("arn:aws:healthlake:*", STORE.to_owned(), true),
        ("arn:aws:healthlake:eu-west-1:123456789012:datastore/fhir/0123456789abcdef", STORE.to_owned(), true),
        ("arn:aws:healthlake:eu-west-1:123456789012:datastore/fhir/*", STORE.to_owned(), true),
        ("arn:aws:healthlake:*:*:datastore/fhir/0123456789abcdef", STORE.to_owned(), true),
        ("arn:aws:healthlake:eu-*-1:123456789012:datastore/fhir/0*f", STORE.to_owned(), true),
        ("arn:aws:healthlake:eu-west-?:123456789012:datastore/fhir/*", STORE.to_owned(), true),
        ("arn:aws:healthlake:eu-west-1:123456789012:datastore/fhir/0123456789ABCDEF", STORE.to_owned(), false),
        ("arn:aws:healthlake:eu-west-2:123456789012:datastore/fhir/*", STORE.to_owned(), false),
        ("arn:aws:healthlake:eu-west-1:210987654321:datastore/fhir/*", STORE.to_owned(), false),
        ("arn:aws:s3:::bucket/*", STORE.to_owned(), false),
        ("arn:aws:healthlake:eu-west-1:123456789012:datastore/fhir/", STORE.to_owned(), false),
        ("arn:*:datastore/fhir/${aws:username}", named("anna"), true),
        ("arn:*:datastore/fhir/${AWS:UserName}", named("anna"), true),
        ("arn:*:datastore/fhir/${aws:username}", named("bert"), false),
        ("arn:*:datastore/fhir/${aws:PrincipalTag/team}-*", named("research-1"), true),
        ("arn:*:datastore/fhir/${aws:userid, 'nobody'}", named("nobody"), true),
        ("arn:*:datastore/fhir/${aws:userid}", named(""), false),
        ("arn:*:datastore/fhir/${aws:userid}", named("${aws:userid}"), false),
        ("arn:*:datastore/fhir/a${*}b", named("a*b"), true),
        ("arn:*:datastore/fhir/a${*}b", named("axb"), false),
        ("arn:*:datastore/fhir/a${?}b${$}", named("a?b$"), true),
        ("arn:*:datastore/fhir/a${?}b", named("axb"), false),
    ] {
        let allow =
            of_statements(&[&format!(r#""Effect":"Allow","Action":"*","Resource":["arn:a:b:c:d:e","{resource}"]"#)]);
        assert_eq!(verdict(&[allow], START, &asked).is_allowed(), is_match, "{resource} {asked}");
        if !resource.contains("userid}") {
            let but = of_statements(&[&format!(r#""Effect":"Allow","Action":"*","NotResource":"{resource}""#)]);
            assert_eq!(verdict(&[but], START, &asked).is_allowed(), !is_match, "but {resource} {asked}");
        }
    }
}

#[test]
fn a_wildcard_that_would_reach_over_parts_denies_and_does_not_allow() {
    let all = r#""Effect":"Allow","Action":"*","Resource":"*""#;
    for resource in ["arn:aws:h*2:datastore/fhir/*", "arn:*/0123456789abcdef", "arn:aws:healthlake?eu-west-1:*"] {
        for element in ["Resource", "NotResource"] {
            let statement = |effect: &str| format!(r#""Effect":"{effect}","Action":"*","{element}":"{resource}""#);
            assert!(!is_allowed(of_statements(&[&statement("Allow")])), "{element} {resource}");
            assert!(!is_allowed(of_statements(&[all, &statement("Deny")])), "{element} {resource}");
        }
    }
}

#[test]
fn values_of_variables_are_no_patterns() {
    let allow = of_statements(&[r#""Effect":"Allow","Action":"*","Resource":"arn:aws:x:::home/${aws:username}""#]);
    for (user_name, asked, is_match) in
        [("*", "arn:aws:x:::home/anna", false), ("*", "arn:aws:x:::home/*", true), ("a?", "arn:aws:x:::home/ab", false)]
    {
        let context = Context { user_name: Some(user_name.to_owned()), ..Context::default() };
        let request = Request { action: "x:y", resource: asked, context: &context };
        assert_eq!(evaluate(std::slice::from_ref(&allow), &request).is_allowed(), is_match, "{user_name} {asked}");
    }
}

#[test]
fn before_2012_there_are_no_variables() {
    for version in [r#""Version":"2008-10-17","#, ""] {
        let text = format!(
            r#"{{{version}"Statement":{{"Effect":"Allow","Action":"*","Resource":"arn:*:home/${{aws:username}}"}}}}"#
        );
        let policy = policy(&text);
        assert_eq!(policy.doubts().count(), 0);
        assert!(!verdict(std::slice::from_ref(&policy), START, "arn:aws:x:::home/anna").is_allowed());
        assert!(verdict(&[policy], START, "arn:aws:x:::home/${aws:username}").is_allowed());
    }
}

/// Conditions, and whether they hold for [`context`].
const CONDITIONS: &[(&str, bool)] = &[
    // Text: equal, in any case, like; several values are alternatives.
    (r#"{"StringEquals":{"aws:username":"anna"}}"#, true),
    (r#"{"StringEquals":{"aws:username":"Anna"}}"#, false),
    (r#"{"StringEquals":{"AWS:USERNAME":"anna"}}"#, true),
    (r#"{"StringEquals":{"aws:username":"ann*"}}"#, false),
    (r#"{"StringEquals":{"aws:username":["bert","anna"]}}"#, true),
    (r#"{"StringEquals":{"aws:username":["bert","carl"]}}"#, false),
    (r#"{"StringNotEquals":{"aws:username":"anna"}}"#, false),
    (r#"{"StringNotEquals":{"aws:username":"bert"}}"#, true),
    (r#"{"StringNotEquals":{"aws:username":["bert","anna"]}}"#, false),
    (r#"{"StringNotEquals":{"aws:username":["bert","carl"]}}"#, true),
    (r#"{"StringEqualsIgnoreCase":{"aws:username":"ANNA"}}"#, true),
    (r#"{"StringEqualsIgnoreCase":{"aws:username":"ann?"}}"#, false),
    (r#"{"StringNotEqualsIgnoreCase":{"aws:username":"ANNA"}}"#, false),
    (r#"{"StringLike":{"aws:username":"a*"}}"#, true),
    (r#"{"StringLike":{"aws:username":"A*"}}"#, false),
    (r#"{"StringLike":{"aws:username":"???"}}"#, false),
    (r#"{"StringLike":{"aws:username":["b*","an?a"]}}"#, true),
    (r#"{"StringNotLike":{"aws:username":["b*","an?a"]}}"#, false),
    (r#"{"StringNotLike":{"aws:username":["b*","c*"]}}"#, true),
    (r#"{"StringEquals":{"aws:PrincipalAccount":123456789012}}"#, true),
    (r#"{"StringEquals":{"aws:RequestedRegion":"eu-west-1"}}"#, true),
    (r#"{"StringLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/*"}}"#, true),
    // Tags, and variables that compare them.
    (r#"{"StringEquals":{"aws:ResourceTag/Team":"research"}}"#, true),
    (r#"{"StringEquals":{"aws:resourcetag/team":"research"}}"#, true),
    (r#"{"StringEquals":{"aws:ResourceTag/Team":"${aws:PrincipalTag/Team}"}}"#, true),
    (r#"{"StringNotEquals":{"aws:ResourceTag/Team":"${aws:PrincipalTag/Team}"}}"#, false),
    (r#"{"StringEquals":{"aws:ResourceTag/Team":["x","${aws:userid,'research'}"]}}"#, true),
    (r#"{"StringEquals":{"aws:ResourceTag/Owner":"anna"}}"#, false),
    (r#"{"StringNotEquals":{"aws:ResourceTag/Owner":"anna"}}"#, true),
    // ARNs, part by part.
    (r#"{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::123456789012:user/team/anna"}}"#, true),
    (r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::123456789012:user/*"}}"#, true),
    (r#"{"ArnEquals":{"aws:PrincipalArn":"arn:*:iam::*:user/team/ann?"}}"#, true),
    (r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::123456789012:role/*"}}"#, false),
    (r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:*:*:*:*"}}"#, true),
    (r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:i*:123456789012:user/team/anna:x"}}"#, false),
    (r#"{"ArnNotLike":{"aws:PrincipalArn":"arn:aws:iam::123456789012:role/*"}}"#, true),
    (r#"{"ArnNotEquals":{"aws:PrincipalArn":["arn:a:b:c:d:e","arn:aws:iam::123456789012:user/*"]}}"#, false),
    // Flags.
    (r#"{"Bool":{"aws:SecureTransport":"true"}}"#, true),
    (r#"{"Bool":{"aws:SecureTransport":true}}"#, true),
    (r#"{"Bool":{"aws:SecureTransport":"False"}}"#, false),
    (r#"{"Bool":{"aws:SecureTransport":["false","true"]}}"#, true),
    // Addresses.
    (r#"{"IpAddress":{"aws:SourceIp":"203.0.113.0/24"}}"#, true),
    (r#"{"IpAddress":{"aws:SourceIp":["198.51.100.0/24","203.0.113.9"]}}"#, true),
    (r#"{"IpAddress":{"aws:SourceIp":"198.51.100.0/24"}}"#, false),
    (r#"{"NotIpAddress":{"aws:SourceIp":["198.51.100.0/24","203.0.113.0/24"]}}"#, false),
    (r#"{"NotIpAddress":{"aws:SourceIp":["198.51.100.0/24","2001:db8::/32"]}}"#, true),
    // Times: of ISO 8601, and seconds since 1970.
    (r#"{"DateGreaterThan":{"aws:CurrentTime":"2026-11-24T02:59:59Z"}}"#, true),
    (r#"{"DateGreaterThan":{"aws:CurrentTime":"2026-11-24T03:00:00Z"}}"#, false),
    (r#"{"DateGreaterThanEquals":{"aws:CurrentTime":"2026-11-24T03:00:00Z"}}"#, true),
    (r#"{"DateLessThan":{"aws:CurrentTime":"2026-11-24T04:00:01+01:00"}}"#, true),
    (r#"{"DateLessThan":{"aws:CurrentTime":"2026-11-24"}}"#, false),
    (r#"{"DateLessThanEquals":{"aws:CurrentTime":"2026-11-24T03:00:00Z"}}"#, true),
    (r#"{"DateEquals":{"aws:EpochTime":"1795489200"}}"#, true),
    (r#"{"DateEquals":{"aws:EpochTime":1795489201}}"#, false),
    (r#"{"DateNotEquals":{"aws:EpochTime":1795489201}}"#, true),
    (r#"{"DateGreaterThan":{"aws:EpochTime":["9999","2025"]}}"#, true),
    // Keys that the request doesn't have.
    (r#"{"StringEquals":{"aws:userid":"a"}}"#, false),
    (r#"{"StringLike":{"aws:userid":"*"}}"#, false),
    (r#"{"StringNotEquals":{"aws:userid":"a"}}"#, true),
    (r#"{"StringNotLike":{"aws:userid":"*"}}"#, true),
    (r#"{"StringEqualsIfExists":{"aws:userid":"a"}}"#, true),
    (r#"{"StringNotEqualsIfExists":{"aws:userid":"a"}}"#, true),
    (r#"{"StringEqualsIfExists":{"aws:username":"bert"}}"#, false),
    (r#"{"StringEqualsIfExists":{"aws:username":"anna"}}"#, true),
    (r#"{"Bool":{"aws:MultiFactorAuthPresent":"false"}}"#, false),
    (r#"{"Bool":{"aws:MultiFactorAuthPresent":"true"}}"#, false),
    (r#"{"BoolIfExists":{"aws:MultiFactorAuthPresent":"true"}}"#, true),
    (r#"{"ArnEquals":{"iam:AssociatedResourceArn":"arn:a:b:c:d:e"}}"#, false),
    (r#"{"ArnNotLike":{"iam:AssociatedResourceArn":"arn:a:b:c:d:e"}}"#, true),
    (r#"{"StringEquals":{"iam:PassedToService":"healthlake.amazonaws.com"}}"#, false),
    (r#"{"Null":{"aws:userid":"true"}}"#, true),
    (r#"{"Null":{"aws:userid":"false"}}"#, false),
    (r#"{"Null":{"aws:username":true}}"#, false),
    (r#"{"Null":{"aws:username":"false"}}"#, true),
    (r#"{"Null":{"aws:SourceIp":["true","false"]}}"#, true),
    // Several keys, and several operators, must all hold.
    (r"{}", true),
    (r#"{"StringEquals":{"aws:username":"anna","aws:RequestedRegion":"eu-west-1"}}"#, true),
    (r#"{"StringEquals":{"aws:username":"anna","aws:RequestedRegion":"us-east-1"}}"#, false),
    (r#"{"StringEquals":{"aws:username":"anna"},"Bool":{"aws:SecureTransport":"true"}}"#, true),
    (r#"{"StringEquals":{"aws:username":"anna"},"Bool":{"aws:SecureTransport":"false"}}"#, false),
];

#[test]
fn conditions_hold_by_the_rules_of_aws() {
    for (condition, holds) in CONDITIONS {
        let allow =
            of_statements(&[&format!(r#""Effect":"Allow","Action":"*","Resource":"*","Condition":{condition}"#)]);
        assert_eq!(allow.doubts().next(), None, "{condition}");
        assert_eq!(is_allowed(allow), *holds, "{condition}");
        let deny = of_statements(&[
            r#""Effect":"Allow","Action":"*","Resource":"*""#,
            &format!(r#""Effect":"Deny","Action":"*","Resource":"*","Condition":{condition}"#),
        ]);
        assert_eq!(is_allowed(deny), !*holds, "but {condition}");
    }
}

/// Conditions that aren't understood.
const UNKNOWN: &[&str] = &[
    r#"{"NumericEquals":{"aws:EpochTime":"1795489200"}}"#,
    r#"{"BinaryEquals":{"aws:username":"YW5uYQ=="}}"#,
    r#"{"stringequals":{"aws:username":"anna"}}"#,
    r#"{"IfExists":{"aws:username":"anna"}}"#,
    r#"{"StringEqualsIfExistsIfExists":{"aws:username":"anna"}}"#,
    r#"{"NullIfExists":{"aws:username":"false"}}"#,
    r#"{"ForAnyValue:StringEquals":{"aws:username":"anna"}}"#,
    r#"{"ForAllValues:StringEquals":{"aws:username":"anna"}}"#,
    r#"{"StringEquals":{"aws:SourceVpc":"vpc-1"}}"#,
    r#"{"StringNotEquals":{"aws:SourceVpc":"vpc-1"}}"#,
    r#"{"StringEqualsIfExists":{"aws:SourceVpc":"vpc-1"}}"#,
    r#"{"Null":{"aws:SourceVpc":"true"}}"#,
    r#"{"StringEquals":{"aws:ResourceTag/":"research"}}"#,
    r#"{"StringEquals":{"aws:TagKeys":"Team"}}"#,
    r#"{"StringEquals":{"aws:SecureTransport":"true"}}"#,
    r#"{"StringEquals":{"aws:SourceIp":"203.0.113.9"}}"#,
    r#"{"ArnEquals":{"aws:username":"arn:a:b:c:d:e"}}"#,
    r#"{"ArnLike":{"aws:PrincipalArn":"*"}}"#,
    r#"{"Bool":{"aws:username":"true"}}"#,
    r#"{"Bool":{"aws:SecureTransport":["true","1"]}}"#,
    r#"{"IpAddress":{"aws:SourceIp":["203.0.113.9","anywhere"]}}"#,
    r#"{"NotIpAddress":{"aws:SourceIp":"203.0.113.0/33"}}"#,
    r#"{"DateLessThan":{"aws:CurrentTime":"tomorrow"}}"#,
    r#"{"DateEquals":{"aws:EpochTime":-1}}"#,
    r#"{"StringEquals":{"aws:username":"${aws:TokenIssueTime}"}}"#,
    r#"{"StringEquals":{"aws:username":["anna","${aws:username"]}}"#,
    r#"{"StringEquals":{"aws:username":"${aws:SourceIp}"}}"#,
    r#"{"StringEquals":{"aws:username":"${aws:username, anna}"}}"#,
    r#"{"StringNotEquals":{"aws:username":"${}"}}"#,
];

#[test]
fn what_is_not_understood_never_allows_and_always_denies() {
    for condition in UNKNOWN {
        // Beside one that doesn't hold, too: what the whole says can't be told.
        let beside = condition.replacen('{', r#"{"StringEqualsIgnoreCase":{"aws:username":"bert"},"#, 1);
        for condition in [*condition, &beside] {
            let allow =
                of_statements(&[&format!(r#""Effect":"Allow","Action":"*","Resource":"*","Condition":{condition}"#)]);
            assert_eq!(allow.doubts().count(), 1, "{condition}");
            assert!(!is_allowed(allow), "{condition}");
            let deny = |action: &str| {
                of_statements(&[
                    r#""Effect":"Allow","Action":"*","Resource":"*""#,
                    &format!(r#""Effect":"Deny","Action":"{action}","Resource":"*","Condition":{condition}"#),
                ])
            };
            assert!(!is_allowed(deny("healthlake:*")), "{condition}");
            assert!(is_allowed(deny("s3:*")), "another action is not denied: {condition}");
        }
    }
}

#[test]
fn a_resource_with_an_unknown_variable_never_allows_and_always_denies() {
    for element in ["Resource", "NotResource"] {
        for resource in [
            "arn:*:datastore/fhir/${aws:FederatedProvider}",
            "arn:*:datastore/fhir/${aws:username",
            "arn:*:datastore/fhir/${aws:CurrentTime}",
        ] {
            let statement =
                |effect: &str| format!(r#""Effect":"{effect}","Action":"*","{element}":["arn:*","{resource}"]"#);
            let allow = of_statements(&[&statement("Allow")]);
            assert!(allow.doubts().all(|doubt| doubt.starts_with(&format!("statement 1: {element}: "))));
            assert!(!is_allowed(allow), "{element} {resource}");
            let all = r#""Effect":"Allow","Action":"*","Resource":"*""#;
            assert!(!is_allowed(of_statements(&[all, &statement("Deny")])), "{element} {resource}");
        }
    }
}

#[test]
fn a_variable_without_a_value_denies_and_does_not_allow() {
    let all = r#""Effect":"Allow","Action":"*","Resource":"*""#;
    for element in ["Resource", "NotResource"] {
        let statement = |effect: &str| {
            format!(r#""Effect":"{effect}","Action":"*","{element}":"arn:*:datastore/fhir/${{aws:userid}}""#)
        };
        assert!(!is_allowed(of_statements(&[&statement("Allow")])), "{element}");
        assert!(!is_allowed(of_statements(&[all, &statement("Deny")])), "{element}");
    }
    for operator in ["StringEquals", "StringNotEquals", "StringLike", "StringNotLike"] {
        let statement = |effect: &str| {
            format!(
                r#""Effect":"{effect}","Action":"*","Resource":"*","Condition":{{"{operator}":{{"aws:username":"${{aws:userid}}"}}}}"#
            )
        };
        assert!(!is_allowed(of_statements(&[&statement("Allow")])), "{operator}");
        assert!(!is_allowed(of_statements(&[all, &statement("Deny")])), "{operator}");
    }
}

const ALLOW: &str = r#""Sid":"Yes","Effect":"Allow","Action":"healthlake:*","Resource":"*""#;
const DENY: &str = r#""Sid":"No","Effect":"Deny","Action":"healthlake:Start*","Resource":"*""#;
const OTHER: &str = r#""Effect":"Allow","Action":"s3:*","Resource":"*""#;

#[test]
fn an_explicit_deny_wins_and_nothing_else_is_allowed_by_itself() {
    let denied = |policy, statement| Verdict::DeniedExplicitly { policy, statement, sid: Some("No".to_owned()) };
    for (policies, expected) in [
        (vec![], Verdict::DeniedImplicitly),
        (vec![vec![OTHER]], Verdict::DeniedImplicitly),
        (vec![vec![ALLOW]], Verdict::Allowed),
        (vec![vec![OTHER, ALLOW]], Verdict::Allowed),
        (vec![vec![OTHER], vec![ALLOW]], Verdict::Allowed),
        (vec![vec![DENY]], denied(0, 0)),
        (vec![vec![ALLOW, DENY]], denied(0, 1)),
        (vec![vec![DENY, ALLOW]], denied(0, 0)),
        (vec![vec![ALLOW], vec![DENY]], denied(1, 0)),
        (vec![vec![DENY], vec![ALLOW]], denied(0, 0)),
        (vec![vec![ALLOW, OTHER], vec![ALLOW], vec![OTHER, DENY]], denied(2, 1)),
    ] {
        let policies: Vec<Policy> = policies.iter().map(|statements| of_statements(statements)).collect();
        assert_eq!(verdict(&policies, START, STORE), expected);
        assert_eq!(verdict(&policies, "healthlake:ListFHIRExportJobs", STORE).is_allowed(), {
            let allowing = |policy: &Policy| {
                verdict(std::slice::from_ref(policy), "healthlake:ListFHIRExportJobs", STORE).is_allowed()
            };
            policies.iter().any(allowing)
        });
    }
    assert_eq!(denied(0, 1).to_string(), "denied by statement 2 of policy 1 (No)");
}

#[test]
fn a_role_is_passed_to_the_service_that_the_policy_names() {
    let policy = of_statements(&[
        r#""Effect":"Allow","Action":"iam:PassRole","Resource":"arn:aws:iam::123456789012:role/export","Condition":{"StringEquals":{"iam:PassedToService":"healthlake.amazonaws.com"}}"#,
    ]);
    for (role, service, is_allowed) in [
        ("export", Some("healthlake.amazonaws.com"), true),
        ("export", Some("ec2.amazonaws.com"), false),
        ("export", None, false),
        ("admin", Some("healthlake.amazonaws.com"), false),
    ] {
        let context = Context { passed_to_service: service.map(str::to_owned), ..context() };
        let resource = format!("arn:aws:iam::123456789012:role/{role}");
        let request = Request { action: "iam:PassRole", resource: &resource, context: &context };
        assert_eq!(evaluate(std::slice::from_ref(&policy), &request).is_allowed(), is_allowed, "{role} {service:?}");
    }
}
