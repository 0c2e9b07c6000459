//! What holds of all policies.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const ACTIONS: [&str; 3] = [START, "healthlake:DescribeFHIRExportJobWithGet", "iam:PassRole"];
const RESOURCES: [&str; 3] =
    [STORE, "arn:aws:healthlake:eu-west-1:123456789012:datastore/fhir/anna", "arn:aws:iam::123456789012:role/export"];

#[derive(Clone, Debug)]
struct Draft {
    effect: &'static str,
    action: (bool, &'static str),
    resource: (bool, &'static str),
    condition: &'static str,
}

impl Draft {
    fn text(&self) -> String {
        let element = |(is_negated, text): (bool, &str), name: &str| {
            format!(r#""{}{name}":"{text}""#, if is_negated { "Not" } else { "" })
        };
        format!(
            r#""Effect":"{}",{},{},"Condition":{}"#,
            self.effect,
            element(self.action, "Action"),
            element(self.resource, "Resource"),
            self.condition
        )
    }
}

fn draft() -> impl Strategy<Value = Draft> {
    let action = (any::<bool>(), select(vec!["*", "healthlake:*", "healthlake:Start*", "iam:*", "s3:*"]));
    let resource = (
        any::<bool>(),
        select(vec![
            "*",
            "arn:aws:healthlake:*",
            "arn:*:datastore/fhir/${aws:username}",
            "arn:*:role/${aws:userid}",
            "arn:*:role/export",
        ]),
    );
    let condition = select(vec![
        "{}",
        "{}",
        r#"{"StringEquals":{"aws:username":"anna"}}"#,
        r#"{"StringNotLike":{"aws:username":"a*"}}"#,
        r#"{"Bool":{"aws:MultiFactorAuthPresent":"true"}}"#,
        r#"{"BoolIfExists":{"aws:SecureTransport":"true"}}"#,
        r#"{"NumericEquals":{"aws:EpochTime":"1"}}"#,
        r#"{"IpAddress":{"aws:SourceIp":"203.0.113.0/24"},"Null":{"aws:userid":"true"}}"#,
    ]);
    (select(vec!["Allow", "Deny"]), action, resource, condition)
        .prop_map(|(effect, action, resource, condition)| Draft { effect, action, resource, condition })
}

fn policies(drafts: &[Vec<Draft>]) -> Vec<Policy> {
    let written = |drafts: &Vec<Draft>| drafts.iter().map(Draft::text).collect::<Vec<_>>();
    let filled = drafts.iter().filter(|drafts| !drafts.is_empty());
    filled.map(|drafts| of_statements(&written(drafts).iter().map(String::as_str).collect::<Vec<_>>())).collect()
}

/// Whether each of several requests is allowed.
fn allowed(drafts: &[Vec<Draft>]) -> Vec<bool> {
    let policies = policies(drafts);
    let others = Context { user_name: None, source_ip: None, ..context() };
    let mut allowed = Vec::new();
    for action in ACTIONS {
        for resource in RESOURCES {
            for context in [&context(), &others, &Context::default()] {
                allowed.push(evaluate(&policies, &Request { action, resource, context }).is_allowed());
            }
        }
    }
    allowed
}

fn none_more(few: &[bool], many: &[bool]) -> bool {
    few.iter().zip(many).all(|(few, many)| !few | many)
}

fn drafts() -> impl Strategy<Value = Vec<Vec<Draft>>> {
    prop::collection::vec(prop::collection::vec(draft(), 1..4), 1..4)
}

proptest! {
    #[test]
    fn order_never_matters(drafts in drafts(), seed in any::<prop::sample::Index>()) {
        let expected = allowed(&drafts);
        let mut other = drafts.clone();
        let first = seed.index(other.len());
        other.rotate_left(first);
        for statements in &mut other {
            statements.reverse();
            let first = seed.index(statements.len());
            statements.rotate_left(first);
        }
        prop_assert_eq!(&allowed(&other), &expected);
        prop_assert_eq!(&allowed(&[drafts.concat()]), &expected, "nor how statements are spread over policies");
    }

    #[test]
    fn one_more_deny_allows_nothing_more(drafts in drafts(), draft in draft(), place in any::<prop::sample::Index>()) {
        let mut more = drafts.clone();
        let place = place.index(more.len());
        more[place].push(Draft { effect: "Deny", ..draft });
        prop_assert!(none_more(&allowed(&more), &allowed(&drafts)));
    }

    #[test]
    fn one_less_allow_allows_nothing_more(drafts in drafts()) {
        let all = allowed(&drafts);
        for policy in 0..drafts.len() {
            for statement in 0..drafts[policy].len() {
                if drafts[policy][statement].effect == "Allow" {
                    let mut less = drafts.clone();
                    less[policy].remove(statement);
                    prop_assert!(none_more(&allowed(&less), &all));
                }
            }
        }
    }

    #[test]
    fn a_statement_that_is_not_understood_allows_nothing_more(drafts in drafts(), draft in draft(), operator in "[A-Z][a-z]{3}(IfExists)?", key in "[a-z]{3}:[a-z]{4}") {
        for condition in [format!(r#"{{"{operator}":{{"aws:username":"anna"}}}}"#), format!(r#"{{"StringNotEquals":{{"{key}":"x"}}}}"#)] {
            prop_assume!(!operator.starts_with("Bool") && !operator.starts_with("Null"));
            let condition: &'static str = Box::leak(condition.into_boxed_str());
            let mut more = drafts.clone();
            more.push(vec![Draft { condition, ..draft.clone() }]);
            prop_assert!(none_more(&allowed(&more), &allowed(&drafts)));
        }
    }

    #[test]
    fn nothing_is_allowed_that_no_allow_names(drafts in drafts()) {
        let denies: Vec<Vec<Draft>> = drafts.iter().map(|drafts| drafts.iter().filter(|draft| draft.effect == "Deny").cloned().collect()).collect();
        prop_assert!(allowed(&denies).iter().all(|allowed| !allowed));
    }

    #[test]
    fn an_element_and_its_negation_leave_nothing_out(draft in draft()) {
        let draft = Draft { effect: "Allow", condition: "{}", ..draft };
        prop_assume!(!draft.resource.1.contains("userid"));
        let whole = |action, resource| allowed(&[vec![Draft { action, resource, ..draft.clone() }]]);
        let every = (false, "*");
        let (in_actions, but_actions) = (whole((false, draft.action.1), every), whole((true, draft.action.1), every));
        prop_assert!(in_actions.iter().zip(&but_actions).all(|(one, other)| one != other));
        prop_assume!(!draft.resource.1.contains("username"));
        let (in_resources, but_resources) = (whole(every, (false, draft.resource.1)), whole(every, (true, draft.resource.1)));
        prop_assert!(in_resources.iter().zip(&but_resources).all(|(one, other)| one != other));
    }

    #[test]
    fn no_text_makes_it_panic(text in "(\\{|\\}|\\[|\\]|\"|:|,|Statement|Effect|Allow|Action|\\*|\\$\\{|\\PC){0,40}") {
        prop_assert!(Policy::parse(&text).is_err(), "so few pieces make no policy");
    }
}
