//! `import`, killed and failed: what is there in the end is what an undisturbed import makes.
//!
//! `FHIR_EXPORT_KILLS` says how often each kind of store is tried, 3 times if it isn't set.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Instant;

use super::kill::{Moments, killed};
use super::program::{Ended, command, end};

/// Files of a load: as many batches at least.
const FILES: usize = 12;

fn rounds() -> u64 {
    std::env::var("FHIR_EXPORT_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

/// Versions of the same resources over all files, newer and older ones, with references and without.
fn source(folder: &Path) {
    fs::create_dir(folder).unwrap();
    for file in 0..FILES {
        let mut text = String::new();
        for row in 0..2500 {
            let (id, patient) = ((row * 7 + file * 500) % 4000, (row + file) % 97);
            let updated = match (row * 31 + file * 17) % 10 {
                0 => String::new(),
                day => format!(r#","meta":{{"versionId":"{file}","lastUpdated":"2024-01-0{day}T00:00:00Z"}}"#),
            };
            let subject = format!(r#""subject":{{"reference":"Patient/p{patient}"}}"#);
            let note = "x".repeat(300);
            writeln!(text, r#"{{"resourceType":"Observation","id":"o{id}"{updated},{subject},"note":"{note}"}}"#)
                .unwrap();
        }
        text.push_str("no resource\n");
        fs::write(folder.join(format!("Observation.{file:02}.ndjson")), text).unwrap();
    }
}

fn import(from: &Path, to: &str) -> std::process::Command {
    let mut command = command(&["import", "--progress", "none", "--to", to, "--from"]);
    command.arg(from);
    command
}

/// Kills imports, up to three times each, and compares what they come to. `store` gives a new store's URI, `held` what is in it.
fn kill_and_compare(
    from: &Path,
    mut store: impl FnMut(u64) -> String,
    held: impl Fn(&str) -> Vec<String>,
    mut moments: Moments,
) {
    let first = store(0);
    let begun = Instant::now();
    let ended = end(&mut import(from, &first));
    let time = begun.elapsed();
    // A line of each file is refused.
    ended.assert_exit(3);
    let expected = held(&first);
    assert!(expected.len() > 4000, "{}", expected.len());
    let mut interrupted = 0;
    for number in 1..=rounds() {
        let to = store(number);
        let mut note = String::new();
        for _ in 0..=number % 3 {
            let moment = moments.within(time);
            write!(note, "killed after {moment:?}; ").unwrap();
            interrupted += u32::from(killed(&mut import(from, &to), moment));
        }
        end(&mut import(from, &to)).assert_exit(3);
        assert!(held(&to) == expected, "{note}");
        // Once more: everything is there as new.
        let again = end(&mut import(from, &to));
        assert!(again.stdout.contains(" 0 new, 0 replaced older ones"), "{note} {}", again.stdout);
        assert!(held(&to) == expected, "{note}");
    }
    println!("{interrupted} imports were interrupted");
    assert!(interrupted > 0);
}

/// All rows of a store in SQLite, and how much is left of loads.
fn held_by_sqlite(uri: &str) -> Vec<String> {
    let connection = rusqlite::Connection::open(uri.strip_prefix("sqlite:").unwrap()).unwrap();
    let mut rows = Vec::new();
    for select in [
        "SELECT name, id, updated, beyond, CAST(bytes AS TEXT) FROM resource JOIN types ON type = types.number
           JOIN body ON body = body.number ORDER BY name, id",
        "SELECT name, id, patient, base, '' FROM compartment JOIN types ON type = number ORDER BY 1, 2, 3, 4",
        "SELECT key, value, '', '', '' FROM setting ORDER BY key",
        "SELECT (SELECT count(*) FROM load), (SELECT count(*) FROM pending), (SELECT count(*) FROM stale),
           (SELECT count(*) FROM body) - (SELECT count(*) FROM resource), ''",
    ] {
        let mut statement = connection.prepare(select).unwrap();
        let text = |row: &rusqlite::Row<'_>| {
            (0..5).map(|column| Ok(format!("{:?} ", row.get_ref(column)?))).collect::<rusqlite::Result<String>>()
        };
        rows.extend(statement.query_map([], text).unwrap().map(Result::unwrap));
    }
    rows
}

#[test]
fn an_import_into_sqlite_that_is_killed_comes_to_the_same_store() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("in");
    source(&from);
    let store = |number| format!("sqlite:{}/{number}.db", folder.path().display());
    kill_and_compare(&from, store, held_by_sqlite, Moments(11));
}

#[cfg(all(feature = "postgres", feature = "testing"))]
#[tokio::test(flavor = "multi_thread")]
async fn an_import_into_postgresql_that_is_killed_comes_to_the_same_store() {
    use crate::postgres::server::{Database, connect};

    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("in");
    source(&from);
    let mut databases = Vec::new();
    for _ in 0..=rounds() {
        databases.push(Database::new().await);
    }
    let urls: Vec<String> = databases.iter().map(|database| database.url.clone()).collect();
    let runtime = tokio::runtime::Handle::current();
    let held = move |url: &str| {
        runtime.block_on(async {
            let client = connect(url).await;
            let mut rows = Vec::new();
            for select in [
                "SELECT r::text FROM fhir.resource AS r ORDER BY type, id",
                "SELECT c::text FROM fhir.compartment AS c ORDER BY patient, base, type, id",
                "SELECT s::text FROM fhir.setting AS s ORDER BY key",
                "SELECT (SELECT count(*) FROM fhir.load) || ' ' || (SELECT count(*) FROM fhir.pending) || ' ' ||
                   (SELECT count(*) FROM fhir.stale)",
            ] {
                rows.extend(client.query(select, &[]).await.unwrap().iter().map(|row| row.get::<_, String>(0)));
            }
            rows
        })
    };
    let all = move || kill_and_compare(&from, |number| urls[number as usize].clone(), held, Moments(12));
    tokio::task::spawn_blocking(all).await.unwrap();
}

#[track_caller]
fn assert_fails(ended: &Ended, code: i32, said: &str) {
    ended.assert_exit(code);
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
}

#[test]
fn an_import_that_fails_leaves_no_store_that_was_not_there_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let to = format!("sqlite:{}", path.display());
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert_fails(&end(&mut import(&folder.path().join("nowhere"), &to)), 1, "no such folder or file");
    assert_fails(&end(&mut import(&empty, &to)), 1, "holds no .ndjson");
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["empty"]);
    // One that is there stays as it is, and a file that is something else stays, too.
    source(&folder.path().join("in"));
    end(&mut import(&folder.path().join("in"), &to)).assert_exit(3);
    let held = held_by_sqlite(&to);
    assert_fails(&end(&mut import(&folder.path().join("nowhere"), &to)), 1, "no such folder or file");
    assert!(held_by_sqlite(&to) == held);
    let other = folder.path().join("notes.txt");
    fs::write(&other, "not a store, but somebody's notes, and long enough to be looked at as a database").unwrap();
    assert_fails(&end(&mut import(&folder.path().join("in"), &format!("sqlite:{}", other.display()))), 2, "no store");
    assert!(fs::read(&other).unwrap().starts_with(b"not a store"));
}
