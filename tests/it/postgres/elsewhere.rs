//! The program goes on with a job of a database from another folder than it was begun in.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use fhir_export::fhir::Instant;
use serde_json::Value;

use super::server::Database;

const MAPPING: &str = r#"
[[tables]]
types = ["Patient"]
table = "patients"
id = "id"
body = "body"
last_updated = "updated"
"#;

fn command(folder: &Path, state: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("fhir-export"));
    command.current_dir(folder).args(arguments).args(["--progress", "none", "--state"]).arg(state);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_and_a_lag_are_found_again_when_a_job_goes_on_in_another_folder() {
    let database = Database::new().await;
    let client = database.client().await;
    let fill = r#"CREATE TABLE patients (id text PRIMARY KEY, body text, updated timestamptz);
        INSERT INTO patients SELECT 'p' || n, format('{"resourceType":"Patient","id":"p%s"}', n), now() - interval '1 day'
          FROM generate_series(1, 100) AS n"#;
    client.batch_execute(fill).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (here, there, state) = (folder.path().join("here"), folder.path().join("there"), folder.path().join("state"));
    fs::create_dir(&here).unwrap();
    fs::create_dir(&there).unwrap();
    fs::write(here.join("own.toml"), MAPPING).unwrap();
    let separator = if database.url.contains('?') { '&' } else { '?' };
    let with_password = database.url.replacen("@", ":s3cret@", 1);
    let source = format!("{with_password}{separator}mapping=own.toml");
    let run = ["run", "--source", &source, "--to", "../out", "--layout", "flat", "--lag", "0"];

    let reader = database.client().await;
    reader.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let now = r#"SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#;
    let begun: String = reader.query_one(now, &[]).await.unwrap().get(0);

    // The transaction time lies a little before the next transaction.
    client.batch_execute("SELECT pg_sleep(0.2)").await.unwrap();

    // It comes as far as the table.
    let mut holder = database.client().await;
    let lock = holder.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE patients IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut child = command(&here, &state, &run).spawn().unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND application_name = 'fhir-export' AND wait_event_type = 'Lock'";
    while client.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "{:?}", child.wait_with_output());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    lock.rollback().await.unwrap();

    let resumed = tokio::task::spawn_blocking(move || command(&there, &state, &["resume"]).output().unwrap());
    let resumed = resumed.await.unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&resumed.stdout), String::from_utf8_lossy(&resumed.stderr));
    assert_eq!(resumed.status.code(), Some(0), "{text}");
    assert!(text.contains("going on with job") && !text.contains("s3cret"), "{text}");
    let manifest: Value = serde_json::from_slice(&fs::read(folder.path().join("out/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["output"][0]["count"], 100);
    // The transaction that only reads is waited for as long as the lag.
    let time = Instant::parse(manifest["transactionTime"].as_str().unwrap()).unwrap();
    assert!(time > Instant::parse(&begun).unwrap(), "{time} {begun}");
}
