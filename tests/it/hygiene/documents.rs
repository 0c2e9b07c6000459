//! Pages that name tests as their proof: each test is there, and each row has one.

use std::fs;

use regex::Regex;

use super::assert_none;
use super::contract::tests;
use crate::support::repository;

/// Pages, and how many tests the tables of each name at least.
const PAGES: [(&str, usize); 2] = [("SECURITY.md", 90), ("docs/limits.md", 40)];

#[test]
fn every_row_of_a_page_names_tests_and_every_test_is_there() {
    let tests = tests();
    let name = Regex::new("`([a-z0-9_]+)`").unwrap();
    let mut broken = Vec::new();
    for (page, least) in PAGES {
        let text = fs::read_to_string(repository(page)).unwrap();
        let tables = text.split("\n\n").filter(|block| block.starts_with('|') && block.contains(" test |\n"));
        let mut count = 0;
        for row in tables.flat_map(|table| table.lines().skip(2)) {
            let proof = row.rsplit('|').nth(1).unwrap_or_default();
            let named: Vec<&str> = name.captures_iter(proof).map(|name| name.get(1).unwrap().as_str()).collect();
            if named.is_empty() {
                broken.push(format!("{page}: a row without a test: {row}"));
            }
            count += named.len();
            let unknown = named.into_iter().filter(|name| !tests.contains_key(*name));
            broken.extend(unknown.map(|name| format!("{page} names a test that isn't there: {name}")));
        }
        assert!(count >= least, "{page} names {count} tests");
    }
    assert_none("pages name tests that aren't there", &broken);
}
