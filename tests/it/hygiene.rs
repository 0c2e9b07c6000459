//! Rules of the house that no compiler checks: which module uses which, how long files are, what words stay out.

mod contract;
mod documents;
mod rust_text;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use regex::Regex;

use crate::support::{Files, files_below, repository};
use rust_text::{Named, bare, named, without_tests};

/// The modules from low to high: each uses those before it, none after it.
const ORDER: [&str; 24] = [
    "error",
    "sync",
    "metrics",
    "cpu",
    "fhir",
    "clock",
    "location",
    "postgres",
    "certificates",
    "budget",
    "request",
    "auth",
    "resource",
    "ledger",
    "source",
    "scope",
    "filter",
    "import",
    "destination",
    "writer",
    "engine",
    "job",
    "http",
    "bin",
];

/// What a module doesn't use besides: other modules and crates.
const APART: [(&str, &[&str], &[&str]); 4] = [
    ("request", &[], &["tokio", "tokio_util", "object_store"]),
    ("resource", &[], &["tokio", "tokio_util", "object_store"]),
    ("writer", &["source", "scope", "filter"], &["serde_json", "simd_json"]),
    ("destination", &["request", "resource", "source", "scope", "filter"], &["serde_json", "simd_json"]),
];

/// What the faces (`http` and the binary) may name besides `job`, `request` and what the crate's root exports: plain
/// words, and the doors to sources and destinations. Add an item here only if it is one of these.
const FACES_MAY_NAME: [&str; 11] = [
    "error",
    "auth",
    "clock",
    "metrics",
    "http",
    "fhir::Instant",
    "fhir::ResourceType",
    "source::Source",
    "source::open",
    "destination::open",
    "import",
];

const MAX_LINES: usize = 500;

fn rust_files(folders: &[&str]) -> Files {
    let is_rust = |path: &str| path.ends_with(".rs") && !path.starts_with("target/") && !path.contains("/target/");
    let mut files = Files::new();
    for folder in folders {
        let path = repository(folder);
        if path.is_dir() {
            let found = files_below(&path, is_rust);
            files.extend(found.into_iter().map(|(name, bytes)| (format!("{folder}/{name}"), bytes)));
        }
    }
    files
}

/// A file of `src`: its path, the modules it is, its text, and the same without comments, strings and tests.
struct Source {
    path: String,
    module: Vec<String>,
    code: String,
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    let mut tests = BTreeSet::new();
    for (path, bytes) in rust_files(&["src"]) {
        let (code, test_files) = without_tests(&bare(&String::from_utf8(bytes).unwrap()));
        let inner = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        let module: Vec<String> = inner.split('/').map(str::to_owned).collect();
        tests.extend(test_files.into_iter().map(|name| [&module[..], &[name]].concat()));
        sources.push(Source { path, module, code });
    }
    let is_test = |module: &[String]| (1..=module.len()).any(|length| tests.contains(&module[..length]));
    sources.retain(|source| !is_test(&source.module));
    assert!(sources.len() > 10, "the sources are where they are looked for");
    sources
}

fn assert_none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

#[test]
fn modules_use_only_those_below_them() {
    let mut broken = Vec::new();
    for Source { path, module, code } in sources().iter().filter(|source| source.path != "src/lib.rs") {
        let Some(own) = ORDER.iter().position(|name| *name == module[0]) else {
            broken.push(format!("{path}:1: the module {} has no place in the order", module[0]));
            continue;
        };
        let own_path: Vec<&str> = module.iter().map(String::as_str).collect();
        let root = if module[0] == "bin" { "fhir_export" } else { "crate" };
        for Named { line, path: used } in named(code, root, &own_path) {
            let top = used.split("::").next().unwrap_or_default();
            let place = ORDER.iter().position(|name| *name == top);
            // The crate's root exports items of low modules only, and the binary has modules of its own.
            let is_module = place.is_some();
            let apart = APART.iter().any(|(name, others, _)| *name == module[0] && others.contains(&top));
            if is_module && (place > Some(own) || apart) {
                broken.push(format!("{path}:{line}: {} uses {used}", module[0]));
            }
        }
    }
    assert_none("modules use what they mustn't", &broken);
}

#[test]
fn the_faces_see_only_jobs_and_requests() {
    let mut broken = Vec::new();
    for Source { path, module, code } in sources().iter().filter(|source| ["http", "bin"].contains(&&*source.module[0]))
    {
        let own_path: Vec<&str> = module.iter().map(String::as_str).collect();
        let root = if module[0] == "bin" { "fhir_export" } else { "crate" };
        for Named { line, path: used } in named(code, root, &own_path) {
            let top = used.split("::").next().unwrap_or_default();
            let is_open = ["job", "request", &*module[0]].contains(&top) || !ORDER.contains(&top);
            let listed = FACES_MAY_NAME.iter().any(|name| used == *name || used.starts_with(&format!("{name}::")));
            if !is_open && !listed {
                broken.push(format!("{path}:{line}: {used} is neither of job and request nor in FACES_MAY_NAME"));
            }
        }
    }
    assert_none("a face looks behind the job", &broken);
}

#[test]
fn request_resource_writer_and_destination_stay_apart_from_some_crates() {
    let mut broken = Vec::new();
    for Source { path, module, code } in sources() {
        for (_, _, crates) in APART.iter().filter(|(name, _, _)| *name == module[0]) {
            for name in *crates {
                let uses = Regex::new(&format!(r"(?-u:\b){name}(?-u:\b) *(::|;|,|\}})")).unwrap();
                let lines = code.lines().enumerate().filter(|(_, line)| uses.is_match(line));
                broken.extend(lines.map(|(line, _)| format!("{path}:{}: {} uses {name}", line + 1, module[0])));
            }
        }
    }
    assert_none("modules use crates they mustn't", &broken);
}

#[test]
fn no_source_file_is_too_long() {
    let lines = |source: &Source| source.code.lines().count();
    let broken: Vec<String> = sources()
        .iter()
        .filter(|source| lines(source) > MAX_LINES)
        .map(|source| {
            format!("{}:{MAX_LINES}: {} lines without tests, {MAX_LINES} at most", source.path, lines(source))
        })
        .collect();
    assert_none("files are too long", &broken);
}

#[test]
fn nothing_is_left_to_be_done() {
    // Put together here, so that this file holds none of them.
    let words = ["TO_DO", "FIX_ME", "to_do!(", "un_implemented!("].map(|word| word.replace('_', ""));
    let mut broken = Vec::new();
    for (path, bytes) in rust_files(&["src", "tests", "examples", "benches", "fuzz"]) {
        for (line, text) in String::from_utf8(bytes).unwrap().lines().enumerate() {
            let found = words.iter().filter(|word| text.contains(word.as_str()));
            broken.extend(found.map(|word| format!("{path}:{}: {word}", line + 1)));
        }
    }
    assert_none("something is left to be done", &broken);
}

#[test]
fn files_are_named_after_what_is_in_them() {
    let vague = ["util", "utils", "helper", "helpers", "common", "manager", "misc"];
    let is_vague = |path: &&str| path.split(['/', '.']).any(|piece| vague.contains(&piece));
    let files = rust_files(&["src", "tests", "examples", "benches", "fuzz"]);
    let broken: Vec<String> =
        files.iter().map(|(path, _)| path.as_str()).filter(is_vague).map(|path| format!("{path}:1")).collect();
    assert_none("names that say nothing", &broken);
}

#[test]
fn no_text_speaks_of_the_machine_it_was_written_on() {
    let words = ["/ho_me/", "/Us_ers/", "/ro_ot/", "/wo_rk/", "/tm_p/wt"].map(|word| word.replace('_', ""));
    let mut broken = Vec::new();
    for (path, bytes) in repository_files() {
        let Ok(text) = String::from_utf8(bytes) else { continue };
        for (line, text) in text.lines().enumerate() {
            let found = words.iter().filter(|word| text.contains(word.as_str()));
            broken.extend(found.map(|word| format!("{path}:{}: {word}", line + 1)));
        }
    }
    assert_none("paths of one machine", &broken);
}

/// What is in the repository, but for what is built and what git keeps.
fn repository_files() -> Files {
    let root = repository("");
    let mut files = Files::new();
    for entry in fs::read_dir(&root).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if ["target", ".git", "out", "Cargo.lock"].contains(&name.as_str()) {
            continue;
        }
        if entry.file_type().unwrap().is_file() {
            files.push((name, fs::read(entry.path()).unwrap()));
            continue;
        }
        let is_source = |path: &str| !["target/", "artifacts/", "coverage/"].iter().any(|made| path.starts_with(made));
        files.extend(
            files_below(Path::new(&entry.path()), is_source)
                .into_iter()
                .map(|(path, bytes)| (format!("{name}/{path}"), bytes)),
        );
    }
    files
}

#[test]
fn every_feature_says_what_it_is_for() {
    let manifest = fs::read_to_string(repository("Cargo.toml")).unwrap();
    let section = manifest.split("\n[features]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let mut broken = Vec::new();
    let mut before = "";
    for line in section.lines() {
        let is_feature = !line.starts_with([' ', '#', ']']) && line.contains('=');
        if is_feature && !line.starts_with("default ") && !before.starts_with("## ") {
            broken.push(format!("Cargo.toml: {line}"));
        }
        before = line;
    }
    assert_none("features without a `##` comment", &broken);
    assert!(section.contains("\nfull = "), "the features are where they are looked for");
}
