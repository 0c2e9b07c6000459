//! Policies of IAM: any text; what is one decides alike in any order.

use fhir_export::auth::Action;
use fhir_export::auth::policy::{Context, Policy, Request, Verdict, evaluate};
use fhir_export::fhir::Instant;
use serde_json::Value;

const RESOURCES: [&str; 3] = [
    "arn:aws:healthlake:eu-west-1:123456789012:datastore/fhir/0123456789abcdef",
    "arn:aws:iam::123456789012:role/export",
    "*",
];

/// A policy.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(policy) = Policy::parse(text) else { return };
    let document: Value = serde_json::from_str(text).expect("a policy is JSON");
    let statements = match &document["Statement"] {
        Value::Array(statements) => statements.clone(),
        statement => vec![statement.clone()],
    };
    let other = |statements: Vec<Value>| {
        let mut document = document.clone();
        document["Statement"] = Value::Array(statements);
        Policy::parse(&document.to_string()).expect("the same statements are a policy as well")
    };
    let reversed = other(statements.iter().rev().cloned().collect());
    let single: Vec<Policy> = statements.iter().rev().map(|statement| other(vec![statement.clone()])).collect();
    let allow: Vec<Policy> =
        statements.iter().filter(|one| one["Effect"] == "Allow").map(|one| other(vec![one.clone()])).collect();
    let deny: Vec<Policy> =
        statements.iter().filter(|one| one["Effect"] == "Deny").map(|one| other(vec![one.clone()])).collect();
    for context in [context(), Context::default()] {
        for action in Action::ALL {
            for resource in RESOURCES {
                let request = Request { action: action.name(), resource, context: &context };
                let kind = |policies: &[Policy]| std::mem::discriminant(&evaluate(policies, &request));
                let verdict = kind(std::slice::from_ref(&policy));
                assert_eq!(verdict, kind(std::slice::from_ref(&reversed)), "order matters");
                assert_eq!(verdict, kind(&single), "it matters how statements are spread over policies");
                let is_denied = deny.iter().any(|one| denies(one, &request));
                let is_allowed = allow.iter().any(|one| evaluate(std::slice::from_ref(one), &request).is_allowed());
                let expected = match (is_denied, is_allowed) {
                    (true, _) => {
                        std::mem::discriminant(&Verdict::DeniedExplicitly { policy: 0, statement: 0, sid: None })
                    }
                    (false, true) => std::mem::discriminant(&Verdict::Allowed),
                    (false, false) => std::mem::discriminant(&Verdict::DeniedImplicitly),
                };
                assert_eq!(verdict, expected, "an explicit Deny wins");
            }
        }
    }
    if policy.doubts().next().is_some() {
        assert!(policy.doubts().all(|doubt| doubt.starts_with("statement ")), "a doubt names its place");
    }
}

fn denies(policy: &Policy, request: &Request<'_>) -> bool {
    matches!(evaluate(std::slice::from_ref(policy), request), Verdict::DeniedExplicitly { .. })
}

fn context() -> Context {
    let tags = || [("Team".to_owned(), "research".to_owned())].into();
    Context {
        source_ip: Some([203, 0, 113, 9].into()),
        secure_transport: Some(true),
        now: Some(Instant::from_unix(1_795_489_200, 0)),
        principal_arn: Some("arn:aws:iam::123456789012:user/anna".to_owned()),
        user_name: Some("anna".to_owned()),
        resource_tags: tags(),
        principal_tags: tags(),
        ..Context::default()
    }
}
