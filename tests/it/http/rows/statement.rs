//! Rows about what a server says of itself.

use std::fs;

use serde_json::json;

use super::{Face, export};
use crate::http::grouped_source;
use crate::http::served::{BASE, Served};
use crate::support::repository;

#[tokio::test]
async fn c1_c3_the_statement_names_the_profiles_and_each_type_with_its_last_update() {
    let served = Served::new(grouped_source());
    let statement = served.get(&format!("{BASE}/metadata")).await.json();
    let profiles = json!(["http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"]);
    assert_eq!(statement["instantiates"], profiles);
    let resources = statement["rest"][0]["resource"].as_array().unwrap();
    for resource in resources {
        // `_typeFilter` isn't offered, so no other parameter can be used.
        assert_eq!(resource["searchParam"], json!([{"name": "_lastUpdated", "type": "date"}]), "{resource}");
        let path = format!("/$export?_type={}", resource["type"].as_str().unwrap());
        export(&served, Face::Profile, &path).await;
    }
    let listed = resources.iter().map(|resource| resource["type"].as_str().unwrap());
    assert!(listed.is_sorted() && resources.len() == 146, "each type of R4 once");
}

/// The questions that the specification leaves to a server's documentation.
const QUESTIONS: [&str; 7] = [
    "Which profiles do resources have?",
    "How is data divided into files?",
    "Which resources come besides?",
    "Which levels and parameters are there?",
    "Which formats are there?",
    "What of patients who joined a Group since `_since`?",
    "Which associated data can be asked for?",
];

#[test]
fn c5_the_readme_answers_what_the_profile_leaves_to_a_server() {
    let readme = fs::read_to_string(repository("README.md")).unwrap();
    for question in QUESTIONS {
        let row = readme.lines().find(|line| line.starts_with(&format!("| {question} |")));
        let answer = row.unwrap_or_else(|| panic!("{question}")).split('|').nth(2).unwrap().trim();
        assert!(answer.len() > 20, "{question}");
    }
}
