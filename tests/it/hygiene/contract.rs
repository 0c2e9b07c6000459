//! The rows of `docs/contract.tsv`: what HealthLake's contract and the Bulk Data specification ask for, each with a test or
//! with a reason why not.
//!
//! A test answers a row if its name begins with the row's id (`p12_…`, several ids one after the other), or if the row
//! names it. `docs/divergences.md` is made of the rows and the names of the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use regex::Regex;

use super::{assert_none, rust_files};
use crate::support::repository;

const ROWS: &str = "docs/contract.tsv";
const TABLE: &str = "docs/divergences.md";

/// Set, the test writes the table.
const WRITE: &str = "FHIR_EXPORT_WRITE_TABLES";

/// Where tests are named after rows.
const ROW_TESTS: &str = "tests/it/http/rows/";

/// Rows without a test and without a reason; the number only ever becomes smaller.
const MOST_UNTESTED: usize = 0;

const STRENGTHS: [&str; 8] = ["SHALL", "SHOULD", "MAY", "D", "O", "choice", "client", "note"];

/// What one row says.
#[derive(Debug)]
struct Row {
    section: String,
    id: String,
    strength: String,
    asks: String,
    tests: Vec<String>,
    /// Kind and text: `differs`, `later` or `not here`.
    reason: Option<(String, String)>,
    is_untested: bool,
}

fn rows() -> Vec<Row> {
    let answer = Regex::new(r"^(?:tested: ([a-z0-9_, ]+))?(?:; )?(?:(differs|later|not here): (.+))?$").unwrap();
    let text = fs::read_to_string(repository(ROWS)).unwrap();
    let (mut rows, mut section) = (Vec::new(), "");
    for (line, text) in text.lines().enumerate() {
        if let Some(title) = text.strip_prefix("# ") {
            section = title;
            continue;
        }
        let [id, strength, asks, said] = text.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{ROWS}:{}: not four fields", line + 1)
        };
        let is_untested = said == "untested";
        let found = answer.captures(if is_untested { "" } else { said });
        let found = found.unwrap_or_else(|| panic!("{ROWS}:{}: an answer that isn't one: {said}", line + 1));
        let tests = found.get(1).map_or("", |tests| tests.as_str());
        rows.push(Row {
            section: section.to_owned(),
            id: id.to_owned(),
            strength: strength.to_owned(),
            asks: asks.to_owned(),
            tests: tests.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            reason: found.get(2).map(|kind| (kind.as_str().to_owned(), found[3].to_owned())),
            is_untested,
        });
    }
    assert!(rows.len() > 300, "the rows are where they are looked for");
    rows
}

/// The ids that a test's name begins with.
fn ids_of(name: &str) -> Vec<String> {
    let id = Regex::new("^[a-z][0-9]{1,3}$").unwrap();
    name.split('_').take_while(|word| id.is_match(word)).map(str::to_uppercase).collect()
}

/// Names of tests, and the path of a file that has one of this name.
pub(super) fn tests() -> BTreeMap<String, String> {
    let test =
        Regex::new(r"#\[(?:tokio::)?test(?:\([^)]*\))?\]\s*(?:#\[[^\n]*\]\s*)*(?:async )?fn ([a-z0-9_]+)\(").unwrap();
    let mut tests = BTreeMap::new();
    for (path, bytes) in rust_files(&["src", "tests"]) {
        let text = String::from_utf8(bytes).unwrap();
        let found = test.captures_iter(&text);
        tests.extend(found.map(|name| (name[1].to_owned(), path.clone())));
    }
    assert!(tests.len() > 500, "the tests are where they are looked for");
    tests
}

/// The rows, each with all of its tests.
fn answered() -> Vec<Row> {
    let tests = tests();
    let mut rows = rows();
    for row in &mut rows {
        let named = tests.iter().filter(|(name, path)| path.starts_with(ROW_TESTS) && ids_of(name).contains(&row.id));
        let named: Vec<String> = named.map(|(name, _)| name.clone()).filter(|name| !row.tests.contains(name)).collect();
        row.tests.splice(0..0, named);
    }
    rows
}

#[test]
fn every_row_of_the_contracts_has_a_test_or_a_reason() {
    let (tests, rows) = (tests(), answered());
    let mut broken = Vec::new();
    let mut ids = BTreeSet::new();
    for row in &rows {
        let Row { id, strength, tests: named, reason, is_untested, .. } = row;
        if !ids.insert(id.clone()) {
            broken.push(format!("{id} is there twice"));
        }
        if !STRENGTHS.contains(&strength.as_str()) {
            broken.push(format!("{id}: {strength} is no strength"));
        }
        let unknown = named.iter().filter(|name| !tests.contains_key(*name));
        broken.extend(unknown.map(|name| format!("{id} names a test that isn't there: {name}")));
        match (named.is_empty() && reason.is_none(), is_untested) {
            (true, false) => broken.push(format!("{id} has neither a test nor a reason")),
            (false, true) => broken.push(format!("{id} isn't untested any more")),
            _ => {}
        }
    }
    for (name, path) in tests.iter().filter(|(_, path)| path.starts_with(ROW_TESTS)) {
        let named = ids_of(name);
        if named.is_empty() {
            broken.push(format!("{path}: {name} is named after no row"));
        }
        broken.extend(named.iter().filter(|id| !ids.contains(*id)).map(|id| format!("{path}: {name}: no row {id}")));
    }
    assert_none("rows and tests don't fit together", &broken);
    let untested = rows.iter().filter(|row| row.is_untested).count();
    assert_eq!(untested, MOST_UNTESTED, "MOST_UNTESTED is the number of rows without a test");
}

/// The pages that rows come from lie beside the repository of those who work on it.
#[test]
fn every_row_of_the_pages_is_in_the_list() {
    let rows = rows();
    let mut broken = Vec::new();
    let page = |name: &str| fs::read_to_string(repository("../shared").join(name)).ok();
    if let Some(page) = page("bulk-data-ig.md") {
        let row = Regex::new(r"(?m)^\| ([A-Z][0-9]+) \|").unwrap();
        let on_page: Vec<&str> = row.captures_iter(&page).map(|row| row.get(1).unwrap().as_str()).collect();
        assert!(on_page.len() > 150);
        let missing = on_page.into_iter().filter(|id| !rows.iter().any(|row| row.id == *id));
        broken.extend(missing.map(|id| format!("bulk-data-ig.md: {id}")));
    }
    if let Some(page) = page("healthlake-contract.md") {
        let choices = page.split("\n## 10. ").nth(1).unwrap();
        let choice = Regex::new(r"(?m)^\| ([0-9]+) \|").unwrap();
        let ids = choice.captures_iter(choices).map(|choice| format!("U{}", &choice[1]));
        broken.extend(ids.filter(|id| !rows.iter().any(|row| row.id == *id)).map(|id| format!("contract: {id}")));
        // Its facts have no ids on the page: each of its sections has rows.
        let section = Regex::new(r"(?m)^## ([1-9])\. ").unwrap();
        for number in section.captures_iter(&page).map(|section| section[1].to_owned()) {
            let title = format!("HealthLake {number}");
            if !rows.iter().any(|row| row.section.starts_with(&title)) {
                broken.push(format!("contract: section {number}"));
            }
        }
    }
    assert_none("rows of the pages that aren't in the list", &broken);
}

/// What a row's answer looks like in the table.
fn shown(row: &Row) -> String {
    let tests: Vec<String> = row.tests.iter().map(|name| format!("`{name}`")).collect();
    let tests = if tests.is_empty() { String::new() } else { format!("tested by {}", tests.join(", ")) };
    let reason = row.reason.as_ref().map(|(kind, text)| format!("**{kind}**: {text}"));
    let untested = row.is_untested.then(|| "**untested**".to_owned());
    let parts = [Some(tests).filter(|tests| !tests.is_empty()), reason, untested];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ").replace('|', "\\|")
}

const PREFACE: &str = "\
# What is asked for, what is tested, and where we differ

Every row of HealthLake's wire contract and of the HL7 Bulk Data Access specification (versions 1.0.1, 2.0.0 and 3.0.0)
that concerns a server of exports, in a few words of our own. Strength: SHALL, SHOULD and MAY are the specification's; D is
documented by AWS, O was observed in its answers, choice is ours where both are silent; client is what real clients expect
besides; note is neither.

Where HealthLake and the profile disagree, HealthLake's operation (`POST` with its body) follows the first and the profile
(`GET`, or `POST` with `Parameters` or an empty body) the second, but for `_since` and `_until`, which include their
instants in both.

This file is made of `contract.tsv` beside it and of the names of the tests. After a change:
`FHIR_EXPORT_WRITE_TABLES=1 cargo test --all-features --test it hygiene::contract`.
";

fn table(rows: &[Row]) -> String {
    let count = |is: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| is(row)).count();
    let of_kind = |kind: &str| count(&|row| row.reason.as_ref().is_some_and(|(own, _)| own == kind));
    let mut text = PREFACE.to_owned();
    let numbers = [
        ("rows", rows.len()),
        ("with a test", count(&|row| !row.tests.is_empty())),
        ("where we differ, wholly or in part", of_kind("differs")),
        ("not here: not offered, or no matter of a server", of_kind("not here")),
        ("later: with authentication", of_kind("later")),
        ("untested", count(&|row| row.is_untested)),
    ];
    text.push_str("\n| | |\n| --- | ---: |\n");
    for (name, number) in numbers {
        writeln!(text, "| {name} | {number} |").unwrap();
    }
    let mut section = "";
    for row in rows {
        if row.section != section {
            section = &row.section;
            write!(text, "\n## {section}\n\n| id | strength | what | answer |\n| --- | --- | --- | --- |\n").unwrap();
        }
        writeln!(text, "| {} | {} | {} | {} |", row.id, row.strength, row.asks.replace('|', "\\|"), shown(row))
            .unwrap();
    }
    text
}

#[test]
fn the_table_of_divergences_is_that_of_the_rows() {
    let made = table(&answered());
    if std::env::var_os(WRITE).is_some() {
        fs::write(repository(TABLE), &made).unwrap();
    }
    let kept = fs::read_to_string(repository(TABLE)).unwrap_or_default();
    let differs = made.lines().zip(kept.lines()).find(|(made, kept)| made != kept);
    assert!(made == kept, "{TABLE} isn't up to date ({WRITE}=1 writes it): {differs:?}");
}
