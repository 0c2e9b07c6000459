//! Policies, row by row after the rules of AWS, and what holds of all of them.

mod documents;
mod properties;
mod rows;

use std::collections::BTreeMap;

use crate::fhir::Instant;

use super::{Context, Policy, Request, Verdict, evaluate};

const STORE: &str = "arn:aws:healthlake:eu-west-1:123456789012:datastore/fhir/0123456789abcdef";
const START: &str = "healthlake:StartFHIRExportJobWithPost";

fn policy(text: &str) -> Policy {
    Policy::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A policy of statements without their braces.
fn of_statements(statements: &[&str]) -> Policy {
    policy(&format!(r#"{{"Version":"2012-10-17","Statement":[{{{}}}]}}"#, statements.join("},{")))
}

fn context() -> Context {
    let tags = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    Context {
        source_ip: Some("203.0.113.9".parse().unwrap()),
        secure_transport: Some(true),
        now: Some(Instant::parse("2026-11-24T03:00:00Z").unwrap()),
        principal_arn: Some("arn:aws:iam::123456789012:user/team/anna".to_owned()),
        principal_account: Some("123456789012".to_owned()),
        user_name: Some("anna".to_owned()),
        requested_region: Some("eu-west-1".to_owned()),
        resource_tags: tags("Team", "research"),
        principal_tags: tags("Team", "research"),
        ..Context::default()
    }
}

fn verdict(policies: &[Policy], action: &str, resource: &str) -> Verdict {
    evaluate(policies, &Request { action, resource, context: &context() })
}

fn is_allowed(policy: Policy) -> bool {
    verdict(&[policy], START, STORE).is_allowed()
}
