//! Clients that are slow, many, or gone.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::kill::SOURCE;
use super::super::program::small;
use super::client::{Server, config};

/// Longer than anything here takes, unless it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);

fn serve(folder: &Path, source: &Path, more: &str) -> Server {
    let text = format!("listen = '127.0.0.1:0'\n{more}\n[[data_stores]]\nsource = '{}'\n", source.display());
    Server::start(&["--config", &config(folder, &text)], folder)
}

/// Sends a beginning, and waits until the server gives up; tells what it answered.
async fn given_up(server: &Server, beginning: &str) -> String {
    let mut socket = TcpStream::connect(server.address()).await.unwrap();
    socket.write_all(beginning.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(HANGS_AFTER, socket.read_to_end(&mut answer)).await;
    drop(read.expect("the server gives up"));
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_given_up_and_the_others_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), &small(), "[limits]\nheader_seconds = 1\nbody_seconds = 1\nstarts_at_once = 30");
    let path = server.bases[0].split(&server.address()).nth(1).unwrap();
    let body = format!(
        "POST {path}/$export HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    let slow_headers = (0..100).map(|_| given_up(&server, "GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: "));
    let slow_bodies = (0..20).map(|_| given_up(&server, &body));
    let others = async {
        for _ in 0..20 {
            assert_eq!(server.get(&format!("{}/healthz", server.root())).await.status, StatusCode::OK);
        }
        let job = server.kick_off(&server.bases[0], "").await;
        assert_eq!(server.until_over(&job).await.status, StatusCode::OK);
    };
    let (headers, bodies, ()) = tokio::join!(join_all(slow_headers), join_all(slow_bodies), others);
    assert!(headers.iter().all(|answer| !answer.contains("200 OK")), "{headers:?}");
    assert!(bodies.iter().all(|answer| answer.contains(" 408 ") && answer.contains("timeout")), "{bodies:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_is_refused_and_a_connection_more_than_allowed_waits() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), &small(), "[limits]\nheader_seconds = 5\nconnections = 1");
    let path = server.bases[0].split(&server.address()).nth(1).unwrap();
    let query = "a".repeat(1 << 20);
    let long = given_up(&server, &format!("GET {path}/$export?_type={query} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    assert!(long.is_empty() || long.starts_with("HTTP/1.1 4"), "{long}");
    let body = format!(
        "POST {path}/$export HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{}",
        10 << 20,
        " ".repeat(2 << 20)
    );
    let long = given_up(&server, &body).await;
    assert!(long.is_empty() || long.contains(" 413 "), "{long}");
    let first = TcpStream::connect(server.address()).await.unwrap();
    let health = format!("{}/healthz", server.root());
    let second = server.get(&health);
    let (answer, ()) = tokio::join!(second, async { drop(first) });
    assert_eq!(answer.status, StatusCode::OK);
}

/// The numbers of a process that Linux tells in kibibytes.
#[cfg(target_os = "linux")]
fn resident_kib(server: &Server) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// How many files below a folder a process has open.
#[cfg(target_os = "linux")]
fn open_below(server: &Server, folder: &Path) -> usize {
    let handles = fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap();
    let paths = handles.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    paths.filter(|path| path.starts_with(folder) && path.extension().is_some_and(|kind| kind == "ndjson")).count()
}

#[cfg(target_os = "linux")]
async fn until_open(server: &Server, folder: &Path, count: usize) {
    let begun = Instant::now();
    while open_below(server, folder) != count {
        assert!(begun.elapsed() < HANGS_AFTER, "{} files are open, not {count}", open_below(server, folder));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn fifty_slow_downloads_take_no_memory_to_speak_of_and_leave_nothing_open() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().canonicalize().unwrap().join("kept");
    let more = format!("[files]\nto = '{}'\n[limits]\nmemory = '64MiB'", kept.display());
    let server = serve(folder.path(), &SOURCE, &more);
    let job = server.kick_off(&server.bases[0], "?_type=Patient").await;
    let manifest = server.until_over(&job).await.json();
    let file = &manifest["output"][0];
    let (url, bytes) = (file["url"].as_str().unwrap(), file["extension"]["bytes"].as_u64().unwrap() as usize);
    assert!(bytes > 20 << 20, "{bytes}");
    let before = resident_kib(&server);
    let path = url.split(&server.address()).nth(1).unwrap();
    let mut sockets = Vec::new();
    for _ in 0..50 {
        let mut socket = TcpStream::connect(server.address()).await.unwrap();
        socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut begin = [0; 12];
        socket.read_exact(&mut begin).await.unwrap();
        assert_eq!(&begin, b"HTTP/1.1 200");
        sockets.push(socket);
    }
    until_open(&server, &kept, 50).await;
    let grown_kib = resident_kib(&server).saturating_sub(before);
    assert!(grown_kib < 100 << 10, "{grown_kib} KiB for {bytes} bytes fifty times");
    sockets.truncate(25);
    until_open(&server, &kept, 25).await;
    let whole = server.get(url).await;
    assert_eq!((whole.status, whole.body.len()), (StatusCode::OK, bytes), "others are served");
    drop(sockets);
    until_open(&server, &kept, 0).await;
    let answers = join_all((0..50).map(|_| server.get(url))).await;
    assert!(answers.iter().all(|answer| answer.body == whole.body));
    until_open(&server, &kept, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_clients_with_connections_of_their_own_are_all_answered() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), &small(), "");
    let job = server.kick_off(&server.bases[0], "").await;
    server.until_over(&job).await;
    let answers = join_all((0..300).map(|_| server.get(&job))).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
}
