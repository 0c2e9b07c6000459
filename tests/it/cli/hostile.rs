//! The real server and the real program, against who means harm: over the wire, and in what lies in a source.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use regex::Regex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::program::{command, run, small};

/// Longer than anything here takes, unless it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// A server that runs; it is killed when it is dropped.
struct Running {
    child: Child,
    log: PathBuf,
    /// Host and port.
    address: String,
    /// The path of its data store.
    base: String,
}

impl Running {
    fn start(folder: &Path, source: &Path, more: &str, logged: Option<&str>) -> Self {
        let text = format!("listen = '127.0.0.1:0'\n{more}\n[[data_stores]]\nsource = '{}'\n", source.display());
        let (config, log) = (folder.join("serve.toml"), folder.join("log"));
        fs::write(&config, text).unwrap();
        let mut command = command(&["serve", "--config"]);
        command.arg(config).arg("--state").arg(folder.join("state")).envs(logged.map(|logged| ("RUST_LOG", logged)));
        let stderr = File::create(&log).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).next();
        let said = said.unwrap_or_else(|| panic!("the server didn't start: {}", fs::read_to_string(&log).unwrap()));
        let (address, path) = said.trim_start_matches("http://").split_once('/').unwrap();
        Self { child, log, address: address.to_owned(), base: format!("/{path}") }
    }

    /// Sends bytes as they are, and gives what comes until the server ends the connection.
    async fn send(&self, bytes: &[u8]) -> Vec<u8> {
        let mut socket = TcpStream::connect(&self.address).await.unwrap();
        // The server may have closed before all was sent.
        drop(socket.write_all(bytes).await);
        let mut answer = Vec::new();
        let read = tokio::time::timeout(HANGS_AFTER, socket.read_to_end(&mut answer)).await;
        drop(read.expect("the server answers"));
        answer
    }

    async fn ask(&self, head: &str, headers: &str) -> String {
        let bytes = format!("{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        String::from_utf8_lossy(&self.send(bytes.as_bytes()).await).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A policy that lets everything be done, and the table of a key that has it.
fn one_key(folder: &Path) -> String {
    let policy = folder.join("policy.json");
    let text = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}"#;
    fs::write(&policy, text).unwrap();
    format!(
        "[[auth.keys]]\nid = 'AKIDEXAMPLE'\nsecret = 'geheim-und-lang'\nprincipal = 'arn:aws:iam::111122223333:user/me'\n\
         policies = ['{}']",
        policy.display()
    )
}

fn assert_no_line_is_forged(log: &str) {
    let forged = Regex::new(r"(?m)^\W*(TRACE|DEBUG|INFO|WARN|ERROR|fhir-export:|error:)\W+forged").unwrap();
    assert!(!forged.is_match(log), "{log}");
    let whole = Regex::new(r"^(TRACE|DEBUG| INFO| WARN|ERROR|fhir-export:) ").unwrap();
    let broken: Vec<&str> = log.split('\n').filter(|line| !line.is_empty() && !whole.is_match(line)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(!log.contains(['\r', '\u{0}', '\u{8}']), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_over_the_wire_begins_no_line_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &small(), &one_key(folder.path()), Some("trace"));
    let forged = "x%0d%0aERROR%20forged%0a%20WARN%20forged";
    let base = &server.base;
    for path in [
        format!("{base}/$export?_type={forged}"),
        format!("{base}/Group/{forged}/$export"),
        format!("{base}/export/{forged}"),
        format!("/datastore/{forged}/r4/$export"),
        format!("{base}/export/x?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={forged}"),
    ] {
        for headers in [
            String::new(),
            format!("authorization: Bearer {forged}\r\n"),
            format!("authorization: AWS4-HMAC-SHA256 Credential={forged}/a/b, SignedHeaders=host, Signature=00\r\n"),
            "user-agent: x\tERROR forged\r\n".to_owned(),
            "user-agent: x\rERROR forged\r\n".to_owned(),
            "user-agent: x\r\n ERROR forged\r\n".to_owned(),
            "user-agent: x\u{85}ERROR forged\u{2028}ERROR forged\r\n".to_owned(),
        ] {
            let answer = server.ask(&format!("GET {path}"), &headers).await;
            assert!(answer.starts_with("HTTP/1.1 4"), "{path} {headers}: {answer}");
        }
    }
    for bytes in [
        &b"GET / HTTP/1.1\nERROR forged\n\n"[..],
        b"ERROR forged\n WARN forged\r\n\r\n",
        b"GET /\x00\nERROR forged HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01ERROR forged\n\n",
    ] {
        server.send(bytes).await;
    }
    let log = fs::read_to_string(&server.log).unwrap();
    assert!(log.contains("forged"), "it was logged: {log}");
    assert_no_line_is_forged(&log);
    assert!(!log.contains("geheim-und-lang"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_let_in_is_logged_without_being_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let text = one_key(folder.path());
    let path = {
        let server = Running::start(folder.path(), &small(), &text, None);
        server.ask(&format!("GET {}/export/x", server.base), "").await;
        server.log.clone()
    };
    assert!(fs::read_to_string(path).unwrap().contains("decision=\"unknown\""));
}

#[test]
fn what_lies_in_a_source_begins_no_line_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    symlink(folder.path(), source.join("x\nERROR forged\n WARN forged")).unwrap();
    let bad =
        "{\"resourceType\":\"Patient\\nERROR forged\"}\nERROR forged\n{\"resourceType\":\"Patient\",\"id\":\"1\"}\n";
    fs::write(source.join("Patient\nERROR forged\n WARN forged.ndjson"), bad).unwrap();
    fs::write(source.join("broken\nERROR forged.ndjson.gz"), "ERROR forged\n").unwrap();
    let to = folder.path().join("to");
    let mut command = command(&["run", "--progress", "none", "--source"]);
    let output = command.arg(&source).arg("--to").arg(&to).env("RUST_LOG", "trace").output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("forged"), "{log}");
    let forged = Regex::new(r"(?m)^\s*(TRACE|DEBUG|INFO|WARN|ERROR) forged").unwrap();
    assert!(!forged.is_match(&log), "{log}");
    assert!(!forged.is_match(&String::from_utf8(output.stdout).unwrap()));
    let stopped = run(&source, &folder.path().join("other"), &["--on-bad", "fail", "--progress", "none"]);
    assert!(!forged.is_match(&stopped.stderr), "{}", stopped.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_a_hundred_at_most_and_128_kib_in_all() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &small(), "", None);
    let headers = |count: usize| (0..count).map(|number| format!("x-{number}: a\r\n")).collect::<String>();
    let few = server.ask("GET /healthz", &headers(90)).await;
    assert!(few.starts_with("HTTP/1.1 200"), "{few}");
    let many = server.ask("GET /healthz", &headers(101)).await;
    assert!(many.starts_with("HTTP/1.1 431"), "{many}");
    let long = server.ask("GET /healthz", &format!("x-long: {}\r\n", "a".repeat(256 << 10))).await;
    assert!(long.is_empty() || long.starts_with("HTTP/1.1 431"), "{long}");
    let long = server.ask("GET /healthz", &format!("x-long: {}\r\n", "a".repeat(64 << 10))).await;
    assert!(long.starts_with("HTTP/1.1 200"), "{long}");
}

/// What two servers could take for different requests is one request, or none.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_servers_read_differently_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(folder.path(), &small(), "", None);
    let base = &server.base;
    let hidden = format!("DELETE {base}/export/x HTTP/1.1\r\nhost: x\r\n\r\n");
    for (name, headers, body) in [
        ("two lengths", "content-length: 0\r\ncontent-length: 60\r\n", hidden.as_str()),
        ("a list of lengths", "content-length: 0, 60\r\n", &hidden),
        ("a length with a sign", "content-length: +2\r\n", "{}"),
        ("a length below nought", "content-length: -1\r\n", "{}"),
        ("an unknown coding", "transfer-encoding: xchunked\r\n", "0\r\n\r\n"),
        ("a coding behind chunks", "transfer-encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ("a blank before the colon", "content-length : 2\r\n", "{}"),
        ("a folded header", "x: a\r\n content-length: 2\r\n", "{}"),
        ("a NUL in a header", "x: a\u{0}b\r\n", ""),
        ("a carriage return in a header", "x: a\rb: c\r\n", ""),
        ("chunks that are no number", "transfer-encoding: chunked\r\n", "zz\r\n\r\n"),
    ] {
        let head = format!("POST {base}/$export HTTP/1.1\r\nhost: x\r\nprefer: respond-async\r\n{headers}\r\n{body}");
        let answer = String::from_utf8_lossy(&server.send(head.as_bytes()).await).into_owned();
        assert!(!answer.contains("HTTP/1.1 2"), "{name}: {answer}");
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{name}: one request, not two: {answer}");
    }
}

/// How many files below a folder a process has open.
fn open_below(server: &Running, folder: &Path) -> usize {
    let handles = fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap();
    let paths = handles.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    paths.filter(|path| path.starts_with(folder) && path.extension().is_some_and(|kind| kind == "ndjson")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_of_a_download_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let (source, kept) = (folder.join("source"), folder.join("kept"));
    fs::create_dir(&source).unwrap();
    let line = format!("{{\"resourceType\":\"Binary\",\"id\":\"1\",\"data\":\"{}\"}}\n", "a".repeat(64 << 10));
    fs::write(source.join("Binary.ndjson"), line.repeat(512)).unwrap();
    let more = format!("[files]\nto = '{}'\n[limits]\nstalled_seconds = 1", kept.display());
    let server = Running::start(&folder, &source, &more, None);
    let started = server.ask(&format!("GET {}/$export", server.base), "prefer: respond-async\r\n").await;
    let job = started.lines().find_map(|line| line.strip_prefix("content-location: ")).unwrap().to_owned();
    let job = job.split_once("http://x").unwrap().1.to_owned();
    let begun = Instant::now();
    let manifest = loop {
        let answer = server.ask(&format!("GET {job}"), "").await;
        if answer.starts_with("HTTP/1.1 200") {
            break answer;
        }
        assert!(begun.elapsed() < HANGS_AFTER, "{answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let file = manifest.split("http://x").find(|rest| rest.contains(".ndjson\"")).unwrap();
    let file = file.split('"').next().unwrap();
    let mut socket = TcpStream::connect(&server.address).await.unwrap();
    socket.write_all(format!("GET {file} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut beginning = [0; 12];
    socket.read_exact(&mut beginning).await.unwrap();
    assert_eq!(&beginning, b"HTTP/1.1 200");
    while open_below(&server, &kept) > 0 {
        assert!(begun.elapsed() < HANGS_AFTER, "the file is still open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut rest = Vec::new();
    drop(socket.read_to_end(&mut rest).await);
    assert!(rest.len() < line.len() * 512, "not all was sent");
}
