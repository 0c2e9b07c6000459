//! The real process, killed at random moments and resumed: what comes out is what an undisturbed export writes.
//!
//! `FHIR_EXPORT_KILLS` says how often each way is tried, 4 times if it isn't set: 20 in all.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::program::{Ended, command, end, manifest_in};
use crate::support::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

/// Bytes of each large type: some parts.
const TYPE_BYTES: usize = 18 << 20;

/// Two large files of one type, one of several, small ones, and lines that aren't understood. One folder for all runs: it
/// is the same each time, and nobody is there to remove it when the last test has ended.
pub(super) static SOURCE: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kill-source-of-{TYPE_BYTES}"));
    if !folder.try_exists().unwrap() {
        let made = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        write_source(made.path());
        // Another run may have been quicker; its folder is as good.
        drop(fs::rename(made.path(), &folder));
    }
    folder
});

fn write_source(folder: &Path) {
    let line = |text: &mut String, name: &str, id: usize| {
        let filler = "x".repeat(200 + id * 37 % 900);
        writeln!(text, "{{\"resourceType\":\"{name}\",\"id\":\"{id}\",\"note\":\"{id:08} {filler}\"}}").unwrap();
    };
    let file = |name: &str, types: &[&str], bytes: usize| {
        let mut text = String::new();
        let mut id = 0;
        while text.len() < bytes {
            line(&mut text, types[id % types.len()], id);
            id += 1;
            if id % 5000 == 77 {
                text.push_str("not a resource\n");
            }
        }
        fs::write(folder.join(name), text).unwrap();
    };
    file("Patient.000.ndjson", &["Patient"], TYPE_BYTES);
    file("Observation.ndjson", &["Observation"], TYPE_BYTES);
    file("mixed.ndjson", &["Basic", "Account", "Observation", "Patient", "Claim"], TYPE_BYTES);
    for name in ["Goal", "Slot", "Device"] {
        file(&format!("{name}.ndjson"), &[name], 10_000);
    }
}

fn rounds() -> u32 {
    std::env::var("FHIR_EXPORT_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// Where a round exports to, and how.
pub(super) struct Way<'s> {
    pub(super) server: Option<&'s S3Server>,
    pub(super) compress: &'static str,
    pub(super) only: Option<&'static str>,
}

/// One export, its folder or bucket, and its state.
pub(super) struct Round<'s> {
    way: &'s Way<'s>,
    pub(super) folder: tempfile::TempDir,
    pub(super) to: String,
}

impl<'s> Round<'s> {
    pub(super) fn new(way: &'s Way<'s>, number: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let to = match way.server {
            Some(_) => format!("s3://{BUCKET}/{}{number}", &way.compress[..1]),
            None => folder.path().join("out").to_str().unwrap().to_owned(),
        };
        Self { way, folder, to }
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command.arg("--state").arg(self.folder.path().join("state")).args(["--progress", "none"]);
        command
    }

    pub(super) fn run(&self) -> Command {
        let source = match self.way.only {
            Some(name) => SOURCE.join(name),
            None => SOURCE.clone(),
        };
        let mut command =
            self.command(&["run", "--to", &self.to, "--compress", self.way.compress, "--gzip-level", "1"]);
        if self.way.compress == "none" {
            command = self.command(&["run", "--to", &self.to]);
        }
        if let Some(server) = self.way.server {
            command.args(["--endpoint", &format!("http://{}", server.address())]);
        }
        // The server keeps keys in names of files, which have room for so much.
        command.args(["--memory", "64MiB", "--datastore-id", "d", "--source"]).arg(source);
        command
    }

    pub(super) fn resume(&self) -> Command {
        self.command(&["resume"])
    }

    /// The manifest, and the files that it lists.
    fn manifest(&self) -> Value {
        match self.way.server {
            None => manifest_in(Path::new(&self.to)),
            Some(server) => {
                let prefix = self.to.strip_prefix("s3://").unwrap();
                serde_json::from_slice(&server.only_manifest(prefix)).unwrap()
            }
        }
    }

    fn bytes(&self, key: &str) -> Vec<u8> {
        match self.way.server {
            None => fs::read(Path::new(&self.to).join(key)).unwrap(),
            Some(server) => {
                let prefix = self.to.strip_prefix(&format!("s3://{BUCKET}/")).unwrap();
                server.object(&format!("{prefix}/{key}")).unwrap()
            }
        }
    }

    /// What an export comes to: bytes of objects by type and sequence, and the books.
    pub(super) fn outcome(&self) -> Outcome {
        let manifest = self.manifest();
        let files = ["output", "error"].into_iter().flat_map(|list| manifest[list].as_array().unwrap());
        let objects = files.map(|file| {
            let own = &file["extension"];
            let bytes = self.bytes(own["key"].as_str().unwrap());
            assert_eq!(own["bytes"], bytes.len() as u64, "{file}");
            let name = (file["type"].as_str().unwrap().to_owned(), own["sequence"].as_u64().unwrap());
            (name, (bytes, file["count"].clone(), own["sequenceReason"].clone()))
        });
        let objects = objects.collect();
        let extension = &manifest["extension"];
        // A store that was killed with a request may have lost an upload, of which a warning tells.
        let books = [&extension["ledger"], &extension["jobStatus"], &extension["snapshot"]];
        Outcome { objects, books: books.map(Clone::clone) }
    }
}

/// Bytes, number of resources, and why it isn't the one before. How many parts it has depends on the moment.
type Object = (Vec<u8>, Value, Value);

#[derive(PartialEq)]
pub(super) struct Outcome {
    objects: BTreeMap<(String, u64), Object>,
    books: [Value; 3],
}

impl Outcome {
    #[track_caller]
    pub(super) fn assert_same(&self, expected: &Self, note: &str) {
        assert_eq!(self.objects.keys().collect::<Vec<_>>(), expected.objects.keys().collect::<Vec<_>>(), "{note}");
        for (name, object) in &self.objects {
            let other = &expected.objects[name];
            assert_eq!((&object.1, &object.2), (&other.1, &other.2), "{note}: {name:?}");
            assert!(object.0 == other.0, "{note}: {name:?} has other bytes");
        }
        assert_eq!(self.books, expected.books, "{note}");
    }
}

/// Starts the command and kills it after a while; tells whether it still ran.
pub(super) fn killed(command: &mut Command, after: Duration) -> bool {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(after);
    let ran = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    ran
}

/// Random moments that are the same in each run of the tests.
pub(super) struct Moments(pub(super) u64);

impl Moments {
    /// A moment within a time.
    pub(super) fn within(&mut self, time: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        time.mul_f64((self.0 % 1000) as f64 / 1000.0)
    }
}

fn resumed(round: &Round<'_>, note: &str) -> Ended {
    let mut ended = end(&mut round.resume());
    // A completion isn't atomic in this server if its client is killed: it forgets the upload, and refuses access to it. The
    // next attempt begins the object again.
    for _ in 0..3 {
        if round.way.server.is_some() && ended.code == Some(1) {
            ended = end(&mut round.resume());
        }
    }
    assert!(matches!(ended.code, Some(0 | 3)), "{note}: {ended:?}");
    ended
}

/// Kills exports of one way, up to three times each, and compares what they come to.
fn kill_and_compare(way: &Way<'_>, seed: u64) {
    let undisturbed = Round::new(way, 0);
    let begun = Instant::now();
    let ended = end(&mut undisturbed.run());
    let time = begun.elapsed();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let expected = undisturbed.outcome();
    let mut moments = Moments(seed);
    let (mut interrupted, mut twice) = (0, 0);
    for number in 1..=rounds() {
        let round = Round::new(way, number);
        let first = moments.within(time.mul_f64(0.8));
        let mut note = format!("killed after {first:?}");
        if !killed(&mut round.run(), first) {
            continue;
        }
        interrupted += 1;
        for _ in 0..number % 3 {
            let again = moments.within(time);
            write!(note, " and after {again:?}").unwrap();
            twice += u32::from(killed(&mut round.resume(), again));
        }
        let ended = resumed(&round, &note);
        if ended.stdout.contains("no unfinished job") && fs::read_dir(&round.to).is_err() && way.server.is_none() {
            // It was killed before it had done anything.
            continue;
        }
        if !is_over(&round) {
            continue;
        }
        round.outcome().assert_same(&expected, &note);
        assert!(end(&mut round.resume()).stdout.contains("no unfinished job"), "{note}");
    }
    println!("{interrupted} of {} were interrupted, {twice} more than once", rounds());
}

/// Whether there is a manifest; there is none if the process was killed before the job had a record.
fn is_over(round: &Round<'_>) -> bool {
    let listed = end(command(&["jobs", "--state"]).arg(round.folder.path().join("state")));
    !listed.stdout.contains("no job is kept")
}

#[test]
fn an_export_to_a_folder_is_killed_and_goes_on_to_the_same_bytes() {
    kill_and_compare(&Way { server: None, compress: "none", only: None }, 1);
    kill_and_compare(&Way { server: None, compress: "gzip", only: None }, 2);
    kill_and_compare(&Way { server: None, compress: "none", only: Some("Observation.ndjson") }, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_to_s3_is_killed_and_goes_on_to_the_same_bytes() {
    let server = S3Server::start().await;
    tokio::task::spawn_blocking(move || {
        kill_and_compare(&Way { server: Some(&server), compress: "none", only: None }, 4);
        kill_and_compare(&Way { server: Some(&server), compress: "gzip", only: None }, 5);
    })
    .await
    .unwrap();
}

#[test]
fn an_export_that_is_killed_while_it_is_sealed_goes_on_to_the_whole() {
    let way = Way { server: None, compress: "none", only: None };
    let undisturbed = Round::new(&way, 0);
    let begun = Instant::now();
    end(&mut undisturbed.run());
    let (time, expected) = (begun.elapsed(), lines(&undisturbed));
    let mut moments = Moments(6);
    for number in 1..=rounds() {
        let round = Round::new(&way, number);
        let mut child = round.run().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(moments.within(time));
        let id = child.id().to_string();
        Command::new("kill").args(["-INT", &id]).status().unwrap();
        std::thread::sleep(moments.within(Duration::from_millis(40)));
        child.kill().unwrap();
        child.wait().unwrap();
        resumed(&round, "killed while it was sealed");
        if is_over(&round) && fs::read_dir(&round.to).is_ok_and(|mut entries| entries.next().is_some()) {
            assert!(lines(&round) == expected, "sealed and continued is the whole");
        }
    }
}

/// All lines of each type, over its objects.
fn lines(round: &Round<'_>) -> BTreeMap<String, Vec<u8>> {
    let mut lines = BTreeMap::<String, Vec<u8>>::new();
    for ((name, _), (bytes, ..)) in round.outcome().objects {
        lines.entry(name).or_default().extend(bytes);
    }
    lines
}

#[test]
fn two_processes_that_resume_one_job_at_once_are_one_too_many() {
    let way = Way { server: None, compress: "none", only: None };
    let begun = Instant::now();
    end(&mut Round::new(&way, 0).run());
    let (time, mut moments) = (begun.elapsed(), Moments(7));
    for number in 1..=40 {
        let round = Round::new(&way, number);
        if !killed(&mut round.run(), moments.within(time)) || !is_over(&round) {
            continue;
        }
        let start = || round.resume().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let children: Vec<_> = (0..4).map(|_| start()).collect();
        let ended: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
        let said = |one: &std::process::Output, what: &str| {
            let output = [one.stdout.as_slice(), &one.stderr].concat();
            String::from_utf8_lossy(&output).contains(what)
        };
        assert!(ended.iter().all(|one| matches!(one.status.code(), Some(0 | 3))), "{ended:?}");
        if ended.iter().all(|one| said(one, "no unfinished job")) {
            // It was killed when it was over.
            continue;
        }
        let ran = ended.iter().filter(|one| said(one, "going on with job")).count();
        assert_eq!(ran, 1, "{ended:?}");
        return;
    }
    panic!("none of 40 jobs was interrupted");
}
