//! Two processes that share a database of jobs: one is killed, or stopped and woken later.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::server::Database;
use crate::support::files_below;

/// Bytes of the source: some parts of each type.
const TYPE_BYTES: usize = 40 << 20;

struct Setting {
    database: Database,
    client: Client,
    folder: tempfile::TempDir,
}

impl Setting {
    async fn new() -> Self {
        let database = Database::new().await;
        let client = database.client().await;
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        for name in ["Observation", "Patient"] {
            let mut text = String::with_capacity(TYPE_BYTES + 2000);
            let filler = "x".repeat(1500);
            for id in 0.. {
                writeln!(text, "{{\"resourceType\":\"{name}\",\"id\":\"{id}\",\"note\":\"{filler}\"}}").unwrap();
                if text.len() >= TYPE_BYTES {
                    break;
                }
            }
            fs::write(folder.path().join(format!("in/{name}.ndjson")), text).unwrap();
        }
        Self { database, client, folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("fhir-export"));
        let state = format!("{}?lease_seconds=2", self.database.url);
        command.args(arguments).args(["--state", &state, "--progress", "none"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Starts an export and waits until some of it is durable and more is to come.
    async fn started(&self, to: &str) -> Child {
        let (source, to) = (self.path("in"), self.path(to));
        let run = ["run", "--source", &source, "--to", &to, "--memory", "64MiB", "--datastore-id", "d"];
        let mut child = self.command(&run).spawn().unwrap();
        for _ in 0..6000 {
            let durable = "SELECT count(*) FROM fhir_export.entries WHERE entry LIKE '{\"part\"%'";
            if let Ok(row) = self.client.query_one(durable, &[]).await
                && row.get::<_, i64>(0) > 1
            {
                return child;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        child.kill().unwrap();
        panic!("nothing becomes durable: {:?}", child.wait());
    }

    /// Lets the other server go on with what nobody runs, until there is nothing left.
    fn finished_by_the_other(&self) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let output = self.command(&["resume"]).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            if said.contains("going on with job") {
                assert!(output.status.success(), "{said}");
                return;
            }
            assert!(Instant::now() < end, "{said}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Every job and entry, as the database has it.
    async fn journal(&self) -> Vec<String> {
        let select = "SELECT row(j.*)::text FROM fhir_export.jobs AS j UNION ALL
                      SELECT row(e.*)::text FROM fhir_export.entries AS e ORDER BY 1";
        self.client.query(select, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }
}

/// Files by their names within the job's folder, which is named after the job.
fn objects(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = files_below(folder, |path| !path.ends_with("manifest.json"));
    let name = |path: &str| path.rsplit('/').next().unwrap().split('-').next().unwrap().to_owned();
    files.into_iter().map(|(path, bytes)| (name(&path), bytes)).collect()
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[tokio::test]
async fn a_job_of_a_server_that_was_killed_is_finished_by_the_other() {
    let setting = Setting::new().await;
    let mut killed = setting.started("out").await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    setting.finished_by_the_other();
    assert_eq!(
        objects(&setting.folder.path().join("out")),
        objects(&setting.folder.path().join("in"))
            .into_iter()
            .map(|(name, bytes)| (name.replace(".ndjson", ""), bytes))
            .collect()
    );
}

#[tokio::test]
async fn a_server_that_was_stopped_past_its_lease_touches_nothing_when_it_wakes() {
    let setting = Setting::new().await;
    let stopped = setting.started("out").await;
    signal(&stopped, "-STOP");
    setting.finished_by_the_other();
    let out = setting.folder.path().join("out");
    let everything = || {
        let times = |path: &str| fs::metadata(out.join(path)).unwrap().modified().unwrap();
        files_below(&out, |_| true).into_iter().map(|(path, bytes)| (times(&path), path, bytes)).collect::<Vec<_>>()
    };
    let (files, journal) = (everything(), setting.journal().await);
    signal(&stopped, "-CONT");
    let ended = stopped.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("taken") || said.contains("wasn't renewed"), "{said}");
    assert_eq!(setting.journal().await, journal);
    assert!(everything() == files, "files of the destination were touched");
}
