//! Whatever is granted and asked for, nothing comes out that a naive reading of the grant doesn't allow.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, TestRunner};
use regex::Regex;

use fhir_export::auth::Action;
use fhir_export::source::memory::{MemoryRange, MemorySource};

use super::rights::{Call, is_let_in};
use super::*;
use crate::support::naive::{self, Level, NaiveRequest};

const LINES: &str = r#"{"resourceType":"Patient","id":"1"}
{"resourceType":"Patient","id":"2"}
{"resourceType":"Group","id":"g","actual":true,"member":[{"entity":{"reference":"Patient/1"}}]}
{"resourceType":"Observation","id":"3","subject":{"reference":"Patient/1"}}
{"resourceType":"Observation","id":"4","subject":{"reference":"Patient/2"}}
{"resourceType":"Observation","id":"5","subject":{"reference":"Group/g"}}
{"resourceType":"Encounter","id":"6","subject":{"reference":"Patient/1"}}
{"resourceType":"Condition","id":"7","subject":{"reference":"Patient/2"}}
{"resourceType":"Practitioner","id":"8"}
{"resourceType":"Organization","id":"9"}
{"resourceType":"Strange","id":"10","subject":{"reference":"Patient/1"}}
{"id":"11"}
{"resourceType":"Patient","id":"12"
"#;

/// Types of R4 among them, and one that the source hasn't.
const TYPES: [&str; 8] =
    ["Patient", "Observation", "Encounter", "Condition", "Group", "Practitioner", "Organization", "Immunization"];

/// What no scope of its own name opens, as it is no type of R4.
const STRANGE: &str = "Strange";

/// Whether scopes let a type be exported, by the plainest reading of the two grammars.
fn is_open(scopes: &[String], resource_type: &str) -> bool {
    let of = if resource_type == STRANGE { r"\*".to_owned() } else { format!(r"(?:\*|{resource_type})") };
    let first = Regex::new(&format!(r"^system/{of}\.(?:read|\*)$")).unwrap();
    let second = Regex::new(&format!(r"^system/{of}\.(c?r?u?d?s?)$")).unwrap();
    let has = |letter| {
        scopes.iter().any(|scope| {
            first.is_match(scope) || second.captures(scope).is_some_and(|letters| letters[1].contains(letter))
        })
    };
    has('r') && has('s')
}

fn some_scope() -> impl Strategy<Value = String> {
    let level = prop_oneof![9 => Just("system"), 1 => Just("patient"), 1 => Just("user"), 1 => Just("System")];
    let of = prop_oneof![2 => Just("*"), 9 => select(&TYPES[..]), 1 => Just(STRANGE), 1 => Just("Pat*")];
    let rights = prop_oneof![
        4 => select(&["read", "rs", "*", "cruds"][..]),
        3 => select(&["r", "s", "rd", "us"][..]),
        1 => select(&["write", "cud", "sr", "rs?status=final", "READ", ""][..]),
    ];
    (level, of, rights).prop_map(|(level, of, rights)| format!("{level}/{of}.{rights}"))
}

fn some_scopes() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(some_scope(), 1..6)
}

fn some_level() -> impl Strategy<Value = Level> {
    prop_oneof![Just(Level::System), Just(Level::Patient), Just(Level::Group("g".to_owned()))]
}

/// What is asked for: a level, types if they are named, and by whose scopes. And scopes of who looks afterwards.
type Asked = (Level, Option<Vec<&'static str>>, Vec<String>, Vec<String>);

fn asked() -> impl Strategy<Value = Asked> {
    let types = prop::option::of(subsequence(&TYPES[..], 1..4));
    (some_level(), types, some_scopes(), some_scopes())
}

/// The lines of an export by type, as the naive exporter has them.
fn expected(level: &Level, types: Option<BTreeSet<String>>) -> BTreeMap<String, Vec<u8>> {
    let request = NaiveRequest { types, ..NaiveRequest::new(level.clone()) };
    let export = naive::export(&vec![("all.ndjson".to_owned(), LINES.as_bytes().to_vec())], &request).unwrap();
    export.output
}

async fn downloaded(guarded: &Guarded, token: &str, manifest: &Value) -> BTreeMap<String, Vec<u8>> {
    let mut output = BTreeMap::<String, Vec<u8>>::new();
    for file in manifest["output"].as_array().unwrap() {
        let path = path_of(file["url"].as_str().unwrap());
        let answer = guarded.bearing(token, "GET", &path).await;
        assert_eq!(answer.status, StatusCode::OK);
        output.entry(file["type"].as_str().unwrap().to_owned()).or_default().extend(&answer.body);
    }
    output
}

async fn check_scopes(guarded: &Guarded, (level, asked, scopes, others): Asked) {
    let open = |scopes: &[String], name: &str| is_open(scopes, name);
    let opened: BTreeSet<String> =
        TYPES.iter().filter(|name| open(&scopes, name)).map(|&name| name.to_owned()).collect();
    let opens_all = open(&scopes, STRANGE);
    let token = guarded.token("a", &scopes.join(" "), "store1");
    let path = match &level {
        Level::System => String::new(),
        Level::Patient => "/Patient".to_owned(),
        Level::Group(id) => format!("/Group/{id}"),
    };
    let query = asked.as_ref().map_or_else(String::new, |types| format!("?_type={}", types.join(",")));
    let started = guarded.bearing(&token, "GET", &format!("{BASE}{path}/$export{query}")).await;
    let is_beyond = asked.iter().flatten().any(|name| !open(&scopes, name));
    if opened.is_empty() {
        assert_eq!(started.status, StatusCode::FORBIDDEN, "{started:?}");
        return;
    }
    if started.status == StatusCode::BAD_REQUEST {
        // Types of which none is at the level.
        let outside = BTreeSet::from(["Practitioner", "Organization"]);
        let is_outside = |name: &&str| outside.contains(name) || (*name == "Group" && level == Level::Patient);
        assert!(level != Level::System && asked.iter().flatten().all(is_outside), "{started:?}");
        return;
    }
    assert_eq!(started.status == StatusCode::FORBIDDEN, is_beyond, "{started:?}");
    if is_beyond {
        return;
    }
    assert_eq!(started.status, StatusCode::ACCEPTED, "{started:?}");
    guarded.served.service.idle().await;
    let job = path_of(started.header("content-location"));
    let manifest = guarded.bearing(&token, "GET", &job).await.json();
    let output = downloaded(guarded, &token, &manifest).await;
    for lines in output.values() {
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: Value = serde_json::from_slice(line).unwrap();
            assert!(open(&scopes, line["resourceType"].as_str().unwrap()), "{line}");
        }
    }
    let asked = asked.map(|types| types.into_iter().map(str::to_owned).collect::<BTreeSet<_>>());
    let selected = asked.or_else(|| (!opens_all).then_some(opened));
    assert_eq!(output, expected(&level, selected.clone()), "the same as if it had been asked for so");

    // Another token of the same client sees it if it covers all that the job may hold.
    let covers = selected.map_or_else(|| open(&others, STRANGE), |types| types.iter().all(|name| open(&others, name)));
    let other = guarded.token("a", &others.join(" "), "store1");
    let file = manifest["output"].as_array().unwrap().first().map(|file| path_of(file["url"].as_str().unwrap()));
    for path in [Some(job.clone()), file].into_iter().flatten() {
        let answer = guarded.bearing(&other, "GET", &path).await;
        assert_eq!(answer.status == StatusCode::OK, covers, "{others:?} {answer:?}");
    }
    assert_eq!(guarded.bearing(&token, "DELETE", &job).await.status, StatusCode::ACCEPTED);
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn no_line_comes_out_that_the_scopes_do_not_cover() {
    let runtime = runtime();
    let source = MemorySource::new().with(MemoryRange::lines("all", LINES));
    let guarded = runtime.block_on(Guarded::with(source, Vec::new()));
    let checked = runner(200).run(&asked(), |asked| {
        runtime.block_on(check_scopes(&guarded, asked));
        Ok(())
    });
    checked.unwrap();
}

/// A statement, as it is written and as it is read here.
#[derive(Clone, Debug)]
struct Written {
    allows: bool,
    actions: Vec<&'static str>,
    resources: Vec<String>,
}

impl Written {
    fn to_json(&self) -> Value {
        let effect = if self.allows { "Allow" } else { "Deny" };
        json!({"Effect": effect, "Action": self.actions, "Resource": self.resources})
    }

    fn applies(&self, action: Action, resource: &str) -> bool {
        let action = action.name().to_lowercase();
        self.actions.iter().any(|pattern| fits(&pattern.to_lowercase(), &action))
            && self.resources.iter().any(|pattern| fits(pattern, resource))
    }
}

fn fits(pattern: &str, text: &str) -> bool {
    let pattern = regex::escape(pattern).replace(r"\*", ".*").replace(r"\?", ".");
    Regex::new(&format!("^(?s:{pattern})$")).unwrap().is_match(text)
}

fn may(statements: &[Written], action: Action, resource: &str) -> bool {
    let mut of = statements.iter().filter(|statement| statement.applies(action, resource)).peekable();
    of.peek().is_some() && of.all(|statement| statement.allows)
}

const ACTIONS: [&str; 17] = [
    "*",
    "healthlake:*",
    "healthlake:Start*",
    "healthlake:*With*",
    "HEALTHLAKE:describefhir*",
    "healthlake:StartFHIRExportJob",
    "healthlake:StartFHIRExportJobWith????",
    "healthlake:StartFHIRExportJobWithGet",
    "healthlake:DescribeFHIRExportJobWithGet",
    "healthlake:CancelFHIRExportJobWithDelete",
    "healthlake:GetExportedFile",
    "healthlake:ListFHIR*",
    "healthlake:DescribeFHIRExportJob",
    "iam:*",
    "iam:PassRole",
    "s3:*",
    "healthlake:?",
];

fn some_resource() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        2 => Just(arn("store1")),
        2 => Just(arn("store2")),
        1 => Just(arn("store?")),
        1 => Just(arn("*")),
        1 => Just(arn("store11")),
        1 => Just(arn("STORE1")),
        2 => Just(ROLE.to_owned()),
        1 => Just("arn:aws:iam::444455556666:role/*".to_owned()),
    ]
}

fn some_statements() -> impl Strategy<Value = Vec<Written>> {
    let statement = (
        prop::bool::weighted(0.7),
        prop::collection::vec(select(&ACTIONS[..]), 1..4),
        prop::collection::vec(some_resource(), 1..3),
    );
    let statement = statement.prop_map(|(allows, actions, resources)| Written { allows, actions, resources });
    prop::collection::vec(statement, 1..5)
}

async fn check_policies(statements: Vec<Written>) {
    let written: Vec<Value> = statements.iter().map(Written::to_json).collect();
    let guarded = Guarded::with(grouped_source(), vec![key("TESTER", &written)]).await;
    for store in ["store1", "store2"] {
        let started = guarded.signed("OWNER", "GET", &format!("/datastore/{store}/r4/$export"), ASYNC, "").await;
        let job = path_of(started.header("content-location"));
        guarded.served.service.idle().await;
        let manifest = guarded.signed("OWNER", "GET", &job, &[], "").await.json();
        let file = path_of(manifest["output"][0]["url"].as_str().unwrap());
        let [job, file] = [&job, &file].map(|path| path.rsplit('/').next().unwrap());
        for call in Call::all(store, job, file, store) {
            let resource = if call.action == Action::ListDatastores { "*".to_owned() } else { arn(store) };
            let takes_role = matches!(call.action, Action::StartExport | Action::StartExportWithPost);
            let expected =
                may(&statements, call.action, &resource) && (!takes_role || may(&statements, Action::PassRole, ROLE));
            let answer = call.ask(&guarded, "TESTER").await;
            assert_eq!(is_let_in(&answer), expected, "{} {}: {answer:?}", call.action, call.what);
            assert_eq!(answer.status.is_success(), expected, "{} {}: {answer:?}", call.action, call.what);
        }
    }
}

#[test]
fn a_caller_gets_what_each_action_allows_and_nothing_else() {
    let runtime = runtime();
    let checked = runner(64).run(&some_statements(), |statements| {
        runtime.block_on(check_policies(statements));
        Ok(())
    });
    checked.unwrap();
}
