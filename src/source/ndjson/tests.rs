use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::*;
use crate::budget::{Pool, Turn};
use crate::clock::FixedClock;
use crate::source::contract::{self, Collected};
use crate::source::{Buffer, Rows};

pub(super) const PATIENT: &str = "{\"resourceType\":\"Patient\",\"id\":\"1\"}\n";
const GROUP: &str = "{\"resourceType\":\"Group\",\"id\":\"g\"}\n";

fn folder_of(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        write(&folder.path().join(name), content);
    }
    folder
}

fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

pub(super) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn types(names: &[&str]) -> Asked {
    let types: BTreeSet<_> = names.iter().map(|name| ResourceType::r4(name).unwrap()).collect();
    Asked { types: Some(types), ..Asked::default() }
}

pub(super) fn named(ranges: &[Range]) -> Vec<String> {
    let declared = |range: &Range| range.resource_type.as_ref().map_or("mixed", ResourceType::as_str).to_owned();
    ranges.iter().map(|range| format!("{} {}", range.name, declared(range))).collect()
}

pub(super) async fn plan(source: &NdjsonSource, asked: &Asked) -> Plan {
    source.open().await.unwrap().plan(asked).await.unwrap()
}

pub(super) async fn read(snapshot: &dyn Snapshot, name: &str, from: u64) -> (Collected, Result<()>) {
    let range = Range::new(name);
    contract::read(snapshot, &range, &Cursor::from_offset(from)).await
}

async fn read_whole(source: &NdjsonSource, name: &str) -> Vec<u8> {
    let (collected, result) = read(&*source.open().await.unwrap(), name, 0).await;
    result.unwrap();
    collected.bytes().to_vec()
}

/// What reading fails with, and what came before.
pub(super) async fn read_broken(snapshot: &dyn Snapshot, name: &str) -> (String, Vec<u8>) {
    let (collected, result) = read(snapshot, name, 0).await;
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreadable, "{error}");
    assert!(error.to_string().contains(name), "{error} names the file");
    (error.to_string(), collected.bytes().to_vec())
}

#[tokio::test]
async fn files_at_any_depth_come_in_byte_order_of_their_paths() {
    let files = ["b.ndjson", "a/z.NDJSON", "a-b.ndjson", "a.ndjson", "a/b/c.ndjson", "B.ndjson"];
    let others = [".hidden.ndjson", ".git/x.ndjson", "readme.md", "a/data.json", "x.ndjson.bak"];
    let folder = folder_of(&files.map(|name| (name, GROUP.as_bytes())));
    for other in others {
        write(&folder.path().join(other), b"x");
    }
    let plan = plan(&NdjsonSource::folder(folder.path()), &Asked::default()).await;
    let names: Vec<_> = plan.ranges.iter().map(|range| range.name.as_str()).collect();
    assert_eq!(names, ["B.ndjson", "a-b.ndjson", "a.ndjson", "a/b/c.ndjson", "a/z.NDJSON", "b.ndjson"]);
    assert!(plan.skipped.is_empty());
}

#[tokio::test]
async fn a_type_is_declared_only_where_name_and_first_line_agree() {
    let folder = folder_of(&[
        ("Group.ndjson", GROUP.as_bytes()),
        ("Patient-1-0-0.ndjson", PATIENT.as_bytes()),
        ("Patient-2.ndjson", GROUP.as_bytes()),
        ("Patient-3.ndjson", b"what is this"),
        ("Patient-4.ndjson", b""),
        ("data.ndjson", PATIENT.as_bytes()),
    ]);
    let source = NdjsonSource::folder(folder.path());
    let all = plan(&source, &Asked::default()).await;
    let expected = [
        "Group.ndjson Group",
        "Patient-1-0-0.ndjson Patient",
        "Patient-2.ndjson mixed",
        "Patient-3.ndjson mixed",
        "Patient-4.ndjson Patient",
        "data.ndjson mixed",
    ];
    assert_eq!(named(&all.ranges), expected);
    assert_eq!(all.ranges[0].size_bytes, Some(GROUP.len() as u64));

    let some = plan(&source, &types(&["Group"])).await;
    assert_eq!(named(&some.ranges), ["Group.ndjson Group", "data.ndjson mixed"]);
    let skipped = ["Patient-1-0-0.ndjson", "Patient-2.ndjson", "Patient-3.ndjson", "Patient-4.ndjson"];
    assert_eq!(named(&some.skipped), skipped.map(|name| format!("{name} Patient")));

    let scanned = plan(&source.scan_all(true), &types(&["Group"])).await;
    assert_eq!(scanned.ranges.len(), 6);
    assert!(scanned.skipped.is_empty());
    assert!(scanned.ranges.iter().all(|range| range.resource_type.is_none()));
}

#[tokio::test]
async fn a_file_that_is_skipped_by_its_name_is_not_opened() {
    let folder = folder_of(&[("Group.ndjson", GROUP.as_bytes()), ("Patient.ndjson", PATIENT.as_bytes())]);
    let source = NdjsonSource::folder(folder.path());
    let snapshot = source.open().await.unwrap();
    fs::remove_file(folder.path().join("Patient.ndjson")).unwrap();
    let plan = snapshot.plan(&types(&["Group"])).await.unwrap();
    assert_eq!(named(&plan.skipped), ["Patient.ndjson Patient"]);
}

#[tokio::test]
async fn a_type_far_back_in_a_long_first_line_is_found_within_64_kib() {
    let line = |padding: usize| format!("{{\"x\":\"{}\",\"resourceType\":\"Group\"}}\n", "y".repeat(padding));
    let (near, far) = (line(60_000), line(70_000));
    let folder = folder_of(&[("Group-far.ndjson", far.as_bytes()), ("Group-near.ndjson", near.as_bytes())]);
    let plan = plan(&NdjsonSource::folder(folder.path()), &Asked::default()).await;
    assert_eq!(named(&plan.ranges), ["Group-far.ndjson mixed", "Group-near.ndjson Group"]);
}

#[tokio::test]
async fn bytes_come_as_they_are_in_blocks_of_any_size() {
    let text = format!("\u{FEFF}{PATIENT}\r\n\n{PATIENT}  {{\"resourceType\":\"Patient\"}}");
    let folder = folder_of(&[("p.ndjson", text.as_bytes()), ("empty.ndjson", b"")]);
    for block_bytes in [1, 3, 17, 1 << 20] {
        let source = NdjsonSource::folder(folder.path()).block_bytes(block_bytes);
        assert_eq!(read_whole(&source, "p.ndjson").await, text.as_bytes());
        assert_eq!(read_whole(&source, "empty.ndjson").await, b"");
        let snapshot = source.open().await.unwrap();
        for from in [0, 1, 5, text.len() - 1, text.len()] {
            let (collected, result) = read(&*snapshot, "p.ndjson", from as u64).await;
            result.unwrap();
            assert_eq!(collected.bytes(), &text.as_bytes()[from..]);
            assert_eq!(collected.cursors(), [(0, Cursor::from_offset(from as u64))]);
        }
        let (_, result) = read(&*snapshot, "p.ndjson", text.len() as u64 + 1).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unreadable);
    }
}

#[tokio::test]
async fn a_single_file_is_a_source() {
    let folder = folder_of(&[("Patient.ndjson", PATIENT.as_bytes()), ("notes.txt", b"x")]);
    let source = NdjsonSource::folder(folder.path().join("Patient.ndjson"));
    assert_eq!(named(&plan(&source, &Asked::default()).await.ranges), ["Patient.ndjson Patient"]);
    assert_eq!(read_whole(&source, "Patient.ndjson").await, PATIENT.as_bytes());

    let error = NdjsonSource::folder(folder.path().join("notes.txt")).open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert!(error.to_string().contains("notes.txt"), "{error}");
}

#[tokio::test]
async fn a_missing_or_empty_folder_is_named() {
    let folder = folder_of(&[("empty/readme.md", b"x"), ("empty/.hidden.ndjson", b"x")]);
    for name in ["empty", "missing"] {
        let error = NdjsonSource::folder(folder.path().join(name)).open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains(&format!("/{name}")), "{error}");
    }
}

#[tokio::test]
async fn the_transaction_time_is_when_the_snapshot_was_opened() {
    let folder = folder_of(&[("a.ndjson", b"")]);
    let clock = Arc::new(FixedClock(Duration::from_millis(1_700_000_000_123)));
    let snapshot = NdjsonSource::folder(folder.path()).clock(clock).open().await.unwrap();
    assert_eq!(snapshot.transaction_time(), Instant::from_unix(1_700_000_000, 123_000_000));
    assert_eq!(snapshot.after_transaction_time(), AfterTransactionTime::Kept);
}

#[tokio::test]
async fn a_file_that_is_not_what_it_was_fails_alone() {
    let names = ["appended", "changed", "replaced", "same", "truncated", "vanished"];
    let files: Vec<_> = names.iter().map(|name| format!("{name}.ndjson")).collect();
    let content: Vec<_> = files.iter().map(|name| (name.as_str(), PATIENT.as_bytes())).collect();
    let folder = folder_of(&content);
    let snapshot = NdjsonSource::folder(folder.path()).open().await.unwrap();
    let path = |name: &str| folder.path().join(format!("{name}.ndjson"));

    fs::write(path("appended"), format!("{PATIENT}{GROUP}")).unwrap();
    touch_later(&path("changed"));
    write(&path("other"), PATIENT.as_bytes());
    fs::rename(path("other"), path("replaced")).unwrap();
    fs::write(path("truncated"), b"{\"reso").unwrap();
    fs::remove_file(path("vanished")).unwrap();

    for name in ["appended.ndjson", "same.ndjson"] {
        let (collected, result) = read(&*snapshot, name, 0).await;
        result.unwrap();
        assert_eq!(collected.bytes(), PATIENT.as_bytes());
    }
    let (error, _) = read_broken(&*snapshot, "truncated.ndjson").await;
    assert!(error.contains(&format!("truncated: 6 bytes of {}", PATIENT.len())), "{error}");
    for (name, says) in [("changed", "changed"), ("replaced", "replaced"), ("vanished", "vanished")] {
        let (error, bytes) = read_broken(&*snapshot, &format!("{name}.ndjson")).await;
        assert!(error.contains(says), "{error}");
        assert!(bytes.is_empty());
    }
}

fn touch_later(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.set_modified(modified + Duration::from_secs(1)).unwrap();
}

#[tokio::test]
async fn compressed_files_come_as_what_they_hold() {
    let text = format!("\u{FEFF}{PATIENT}\r\n{PATIENT}{PATIENT}{{\"resourceType\":\"Patient\"}}");
    let (first, second) = text.as_bytes().split_at(50);
    let members = [gzip(first), gzip(b""), gzip(second), vec![0; 512]].concat();
    let folder = folder_of(&[
        ("Patient.ndjson.gz", &gzip(text.as_bytes())),
        ("Patient-2.NDJSON.GZ", &members),
        ("Patient-3.ndjson.gz", b""),
        ("Patient-4.ndjson.gz", &gzip(b"")),
    ]);
    for block_bytes in [3, 50, 1 << 20] {
        let source = NdjsonSource::folder(folder.path()).block_bytes(block_bytes);
        let plan = plan(&source, &Asked::default()).await;
        assert!(plan.ranges.iter().all(|range| range.resource_type.as_ref().unwrap().as_str() == "Patient"));
        assert!(plan.ranges.iter().all(|range| range.size_bytes.is_none()));
        let snapshot = source.open().await.unwrap();
        for from in [0, 1, 60, text.len()] {
            for name in ["Patient.ndjson.gz", "Patient-2.NDJSON.GZ"] {
                let (collected, result) = read(&*snapshot, name, from as u64).await;
                result.unwrap();
                assert_eq!(collected.bytes(), &text.as_bytes()[from..], "{name} from {from}");
            }
        }
        assert_eq!(read_whole(&source, "Patient-3.ndjson.gz").await, b"");
        assert_eq!(read_whole(&source, "Patient-4.ndjson.gz").await, b"");
        let (_, result) = read(&*snapshot, "Patient-3.ndjson.gz", 1).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unreadable);
    }
}

#[tokio::test]
async fn a_broken_compressed_file_delivers_what_comes_before_and_says_where_it_broke() {
    let whole = gzip(PATIENT.repeat(3).as_bytes());
    let mut corrupt = [whole.clone(), gzip(GROUP.as_bytes())].concat();
    let last = corrupt.len() - 5;
    corrupt[last] ^= 1;
    let folder = folder_of(&[
        ("bomb.ndjson.gz", &gzip(&vec![b'\n'; 17 << 20])),
        ("corrupt.ndjson.gz", &corrupt),
        ("garbage.ndjson.gz", &[whole.clone(), b"garbage".to_vec()].concat()),
        ("good.ndjson.gz", &whole),
        ("plain.ndjson.gz", PATIENT.as_bytes()),
        ("truncated.ndjson.gz", &[whole.clone(), whole[..20].to_vec()].concat()),
    ]);
    let snapshot = NdjsonSource::folder(folder.path()).max_expansion(30).open().await.unwrap();
    let three = PATIENT.repeat(3).into_bytes();

    let (error, bytes) = read_broken(&*snapshot, "corrupt.ndjson.gz").await;
    assert!(error.contains("corrupt") && bytes.starts_with(&three), "{error}");
    let (error, bytes) = read_broken(&*snapshot, "garbage.ndjson.gz").await;
    let place = format!("compressed offset: {}, offset: {}", whole.len(), three.len());
    assert!(error.contains("follows the last one") && error.contains(&place), "{error}");
    assert_eq!(bytes, three);
    let (error, bytes) = read_broken(&*snapshot, "truncated.ndjson.gz").await;
    assert!(error.contains("within a gzip member") && bytes.starts_with(&three), "{error}");
    let (error, bytes) = read_broken(&*snapshot, "plain.ndjson.gz").await;
    assert!(error.contains("no gzip file") && bytes.is_empty(), "{error}");
    let (error, _) = read_broken(&*snapshot, "bomb.ndjson.gz").await;
    assert!(error.contains("30 times"), "{error}");
    let (collected, result) = read(&*snapshot, "good.ndjson.gz", 0).await;
    result.unwrap();
    assert_eq!(collected.bytes(), three);
}

/// Passes on to a collecting sink, and does something to the world after the first hand-over.
struct MeddlingSink<'a> {
    pool: Pool,
    bytes: Vec<u8>,
    meddle: Option<&'a (dyn Fn() + Sync)>,
}

#[async_trait]
impl BlockSink for MeddlingSink<'_> {
    async fn buffer(&mut self, room_bytes: usize) -> Result<Buffer> {
        let permit = self.pool.acquire(Turn::default(), room_bytes, 0).await;
        Ok(Buffer::new(vec![0; room_bytes], 0, permit))
    }

    async fn lines(&mut self, buffer: Buffer) -> Result<()> {
        self.bytes.extend_from_slice(buffer.filled());
        if let Some(meddle) = self.meddle.take() {
            meddle();
        }
        Ok(())
    }

    async fn rows(&mut self, _: Rows) -> Result<()> {
        unreachable!("files have lines")
    }

    async fn row_too_long(&mut self, _: u64) -> Result<()> {
        unreachable!("files have lines")
    }

    fn line_limit_bytes(&self) -> usize {
        1 << 20
    }

    fn at(&mut self, _: Cursor) {}
}

/// Reads the one file of a new folder in blocks of ten bytes and meddles with it after the first.
async fn read_while(meddle: impl Fn(&Path) + Sync) -> (Vec<u8>, Result<()>) {
    let folder = folder_of(&[("p.ndjson", PATIENT.as_bytes())]);
    let path = folder.path().join("p.ndjson");
    let snapshot = NdjsonSource::folder(folder.path()).block_bytes(10).open().await.unwrap();
    let range = snapshot.plan(&Asked::default()).await.unwrap().ranges.remove(0);
    let meddle = || meddle(&path);
    let mut sink = MeddlingSink { pool: Pool::new(1 << 20), bytes: Vec::new(), meddle: Some(&meddle) };
    let result = snapshot.read(&range, &Cursor::start(), &mut sink).await;
    (sink.bytes, result)
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_told_from_one_that_grows() {
    let (bytes, result) = read_while(|path| {
        let mut file = fs::File::options().append(true).open(path).unwrap();
        file.write_all(GROUP.as_bytes()).unwrap();
    })
    .await;
    result.unwrap();
    assert_eq!(bytes, PATIENT.as_bytes());

    let (bytes, result) = read_while(|path| fs::remove_file(path).unwrap()).await;
    result.unwrap();
    assert_eq!(bytes, PATIENT.as_bytes());

    let (bytes, result) = read_while(|path| fs::write(path, &PATIENT.as_bytes()[..15]).unwrap()).await;
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreadable);
    assert!(error.to_string().contains("truncated: 15 bytes of"), "{error}");
    assert_eq!(bytes, &PATIENT.as_bytes()[..15]);

    let (bytes, result) = read_while(touch_later).await;
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreadable);
    assert!(error.to_string().contains("rewritten while it was read (file: p.ndjson)"), "{error}");
    assert_eq!(bytes, PATIENT.as_bytes());
}

#[tokio::test]
async fn the_source_keeps_its_contract() {
    let text = format!("\u{FEFF}{PATIENT}\r\n{}", PATIENT.trim_end());
    let folder = folder_of(&[
        ("Patient.ndjson", text.as_bytes()),
        ("Patient.ndjson.gz", &gzip(text.as_bytes())),
        ("a/mixed.ndjson", format!("{PATIENT}{GROUP}").as_bytes()),
        ("a/Group.ndjson.gz", &[gzip(GROUP.as_bytes()), gzip(GROUP.as_bytes())].concat()),
        ("empty.ndjson", b""),
        ("empty.ndjson.gz", b""),
    ]);
    for block_bytes in [3, 1 << 20] {
        let source = NdjsonSource::folder(folder.path()).block_bytes(block_bytes);
        contract::check(&source).await.unwrap();
        contract::check(&source.scan_all(true)).await.unwrap();
    }
}

#[cfg(unix)]
#[tokio::test]
async fn links_to_files_are_followed_and_links_to_folders_are_not() {
    use std::os::unix::fs::symlink;

    let folder = folder_of(&[("a/Patient.ndjson", PATIENT.as_bytes())]);
    let elsewhere = folder_of(&[("x.ndjson", GROUP.as_bytes())]);
    symlink(folder.path(), folder.path().join("a/cycle")).unwrap();
    symlink(elsewhere.path(), folder.path().join("linked")).unwrap();
    symlink(elsewhere.path().join("x.ndjson"), folder.path().join("Group.ndjson")).unwrap();
    symlink("nowhere", folder.path().join("broken.ndjson")).unwrap();
    let source = NdjsonSource::folder(folder.path());
    let plan = plan(&source, &Asked::default()).await;
    assert_eq!(named(&plan.ranges), ["Group.ndjson Group", "a/Patient.ndjson Patient", "broken.ndjson mixed"]);
    assert_eq!(read_whole(&source, "Group.ndjson").await, GROUP.as_bytes());
    let (error, _) = read_broken(&*source.open().await.unwrap(), "broken.ndjson").await;
    assert!(error.contains("when the snapshot was opened"), "{error}");

    symlink(folder.path(), elsewhere.path().join("root")).unwrap();
    let through_link = NdjsonSource::folder(elsewhere.path().join("root")).open().await.unwrap();
    assert_eq!(through_link.plan(&Asked::default()).await.unwrap().ranges.len(), 3);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn names_that_are_not_utf_8_are_shown_and_never_mistaken_for_others() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join(OsStr::from_bytes(b"a\xFF.ndjson")), PATIENT.as_bytes());
    let source = NdjsonSource::folder(folder.path());
    assert_eq!(read_whole(&source, "a\\xFF.ndjson").await, PATIENT.as_bytes());
    write(&folder.path().join("a\\xFF.ndjson"), GROUP.as_bytes());
    let error = source.open().await.unwrap_err();
    assert!(error.to_string().contains("can't be told apart"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn what_cannot_be_read_fails_alone_unless_it_is_the_source() {
    use std::os::unix::fs::PermissionsExt;

    let folder = folder_of(&[("a.ndjson", PATIENT.as_bytes()), ("b.ndjson", b"x"), ("sub/c.ndjson", b"x")]);
    let path = |name: &str| folder.path().join(name);
    let forbid = |name: &str| fs::set_permissions(path(name), fs::Permissions::from_mode(0o000)).unwrap();
    forbid("b.ndjson");
    forbid("sub");
    if fs::File::open(path("b.ndjson")).is_ok() {
        let message = "SKIPPED what_cannot_be_read_fails_alone_unless_it_is_the_source: root may read everything";
        writeln!(std::io::stderr(), "{message}").unwrap();
        return;
    }
    let source = NdjsonSource::folder(folder.path());
    let snapshot = source.open().await.unwrap();
    let plan = snapshot.plan(&Asked::default()).await.unwrap();
    assert_eq!(named(&plan.ranges), ["a.ndjson mixed", "b.ndjson mixed", "sub/ mixed"]);
    read(&*snapshot, "a.ndjson", 0).await.1.unwrap();
    let (error, _) = read_broken(&*snapshot, "b.ndjson").await;
    assert!(error.contains("no permission"), "{error}");
    read_broken(&*snapshot, "sub/").await;
    for name in ["b.ndjson", "sub"] {
        let error = NdjsonSource::folder(path(name)).open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains(name), "{error}");
    }
    fs::set_permissions(path("sub"), fs::Permissions::from_mode(0o700)).unwrap();
}
