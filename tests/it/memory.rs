//! Memory is a number that is set: more data than fits, in every awkward shape, within the budget and a stated rest.
//!
//! Each test runs in a process of its own, because the peak of a process is what is measured.

mod bombs;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod cohorts;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fhir_export::job::{Config, Exporter, JobReport, JobState};
use fhir_export::request::{ExportRequest, Level};
use fhir_export::writer::Compression;
use tokio::sync::watch;

use crate::support::generated_source::{GeneratedRange, GeneratedSource, MakeLine, Reads};
use crate::support::null_destination::NullDestination;

const BUDGET_BYTES: usize = 64 << 20;

/// What lies outside the budget: compressed members on their way, pages that the allocator keeps. Measured peaks stand at
/// each test; memory that lies idle between two uses is in them, within the budget.
const REST_BYTES: u64 = 16 << 20;

/// Longer than any job here takes, unless it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(100);

/// Tells a process that it is the one to be measured.
const MEASURED: &str = "FHIR_EXPORT_MEASURED";

const MIB: u64 = 1 << 20;

/// Runs `work` in a process of its own and returns its peak beyond what it began with, in bytes.
///
/// The allocator is told to give back what it is given back: glibc's keeps much of it in an arena for each thread, which
/// is a process's own choice and would hide what the engine holds.
fn peak_of(test: &str, work: impl FnOnce()) -> Option<u64> {
    peak_of_with(test, &[], work)
}

/// The same with something in the environment of that process.
fn peak_of_with(test: &str, environment: &[(&str, &str)], work: impl FnOnce()) -> Option<u64> {
    if std::env::var_os(MEASURED).is_some() {
        let base = status_bytes("VmRSS:");
        work();
        println!("\npeak beyond base: {}", status_bytes("VmHWM:") - base);
        return None;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(MEASURED, "1")
        .envs(environment.iter().copied())
        .env("MALLOC_ARENA_MAX", "1")
        .env("MALLOC_MMAP_THRESHOLD_", "131072")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    let told = output.lines().find_map(|line| line.strip_prefix("peak beyond base: "));
    let Some(peak) = told.filter(|_| child.status.success()) else {
        panic!("{output}{}", String::from_utf8_lossy(&child.stderr));
    };
    let peak = peak.parse().unwrap();
    println!("{test}: {} MiB", peak / MIB);
    Some(peak)
}

/// A figure of this process, as Linux tells it.
fn status_bytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn config() -> Config {
    let mut config = Config::default();
    config.budget_bytes = BUDGET_BYTES;
    config.threads = 2;
    config
}

/// Runs a job to its end and checks that all its objects arrived.
fn export(ranges: Vec<GeneratedRange>, config: Config, meanwhile: impl AsyncFnOnce(Arc<Reads>)) -> JobReport {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let source = GeneratedSource::new(ranges);
        let reads = source.reads();
        let destination = NullDestination::default();
        let exporter = Exporter::builder()
            .source(Arc::new(source))
            .destination(Arc::new(destination.clone()))
            .config(config)
            .build()
            .unwrap();
        let job = exporter.start(ExportRequest::new(Level::System)).unwrap();
        let ended = async {
            let ((), report) = tokio::join!(meanwhile(reads), job.join());
            report
        };
        let report = tokio::time::timeout(HANGS_AFTER, ended).await.expect("the job ends");
        assert_eq!(report.state, JobState::Completed, "{:?}", report.error);
        let stored = destination.objects();
        assert_eq!(stored.len(), report.objects.len() + 1, "the objects and the manifest");
        for object in &report.objects {
            assert_eq!(stored.get(&object.key), Some(&object.crc), "{}", object.key);
        }
        report
    })
}

/// Resources written, by type.
fn written(report: &JobReport) -> BTreeMap<String, u64> {
    let rows = report.ledger.iter();
    rows.map(|(name, row)| (name.as_ref().unwrap().to_string(), row.written.resources)).collect()
}

fn range(name: &'static str, lines: u64, make_line: MakeLine) -> GeneratedRange {
    GeneratedRange { name, lines, make_line, chunk_bytes: 1 << 20, stall: None }
}

/// A line of one of 150 types, one after the other, of so many bytes.
fn interleaved(number: u64, length_bytes: usize, line: &mut Vec<u8>) {
    let letter = |place: u64| char::from(b'a' + place as u8);
    let of_type = number % 150;
    let name = format!("T{}{}", letter(of_type / 16), letter(of_type % 16));
    line.extend(format!("{{\"resourceType\":\"{name}\",\"id\":\"{number}\",\"text\":\"").bytes());
    line.resize(length_bytes - 3, b'x');
    line.extend(b"\"}\n");
}

/// Measured: 62 MiB.
#[test]
fn types_of_eight_mebibytes_each_interleaved_line_by_line_fit_the_budget() {
    let peak = peak_of("memory::types_of_eight_mebibytes_each_interleaved_line_by_line_fit_the_budget", || {
        let make_line: MakeLine = |number, line| interleaved(number, 64 << 10, line);
        let report = export(vec![range("all", 150 * 129, make_line)], config(), async |_| {});
        assert_eq!(report.objects.len(), 150);
        assert!(report.objects.iter().all(|object| object.crc.length_bytes() > 8 << 20));
        assert!(written(&report).values().all(|resources| *resources == 129));
    });
    assert!(peak.is_none_or(|peak| peak < BUDGET_BYTES as u64 + REST_BYTES), "{peak:?}");
}

/// Measured: 68 MiB.
#[test]
fn the_same_compressed_fit_the_budget_though_they_do_not_compress() {
    let peak = peak_of("memory::the_same_compressed_fit_the_budget_though_they_do_not_compress", || {
        let make_line: MakeLine = |number, line| {
            interleaved(number, 64 << 10, line);
            scramble(number, line);
        };
        let mut config = config();
        config.compression = Compression::Gzip { level: 1 };
        let report = export(vec![range("all", 150 * 40, make_line)], config, async |_| {});
        assert_eq!(report.objects.len(), 150);
        assert!(written(&report).values().all(|resources| *resources == 40));
    });
    assert!(peak.is_none_or(|peak| peak < BUDGET_BYTES as u64 + REST_BYTES), "{peak:?}");
}

/// Puts letters and digits by chance in place of the line's text.
fn scramble(seed: u64, line: &mut [u8]) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for byte in line.iter_mut().filter(|byte| **byte == b'x') {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = LETTERS[(state >> 58) as usize];
    }
}

const LONG_LINE_BYTES: usize = 15 << 20;

/// Short lines of many types, and one of 15 MiB in between.
fn with_long_line(number: u64, line: &mut Vec<u8>) {
    if number % 1000 == 500 {
        line.extend(b"{\"resourceType\":\"Binary\",\"data\":\"");
        line.resize(LONG_LINE_BYTES, b'x');
        line.extend(b"\"}\n");
        scramble(number, line);
    } else {
        interleaved(number, 16 << 10, line);
    }
}

fn long_line(number: u64, line: &mut Vec<u8>) {
    with_long_line(number * 1000 + 500, line);
}

fn long_lines(compression: Compression) {
    let mut config = config();
    config.compression = compression;
    config.line_limit_bytes = Some(LONG_LINE_BYTES + 100);
    // Small pieces: a line grows in many steps while later ranges fill the pool.
    let in_small_pieces = |range| GeneratedRange { chunk_bytes: 64 << 10, ..range };
    let mixed = ["a", "b", "c", "d"].map(|name| in_small_pieces(range(name, 3000, with_long_line)));
    // One after the other, each is a block of its own.
    let ranges = [mixed.into(), vec![in_small_pieces(range("e", 4, long_line))]].concat();
    let report = export(ranges, config, async |_| {});
    assert_eq!(written(&report)["Binary"], 16);
    assert_eq!(report.objects.len(), 151);
}

/// Measured: 87 MiB, of which the source's own lines are up to 60.
#[test]
fn lines_of_fifteen_mebibytes_pass_a_full_budget() {
    let peak = peak_of("memory::lines_of_fifteen_mebibytes_pass_a_full_budget", || long_lines(Compression::None));
    // The four ranges of the source hold a line each.
    let rest_bytes = REST_BYTES + 4 * LONG_LINE_BYTES as u64;
    assert!(peak.is_none_or(|peak| peak < BUDGET_BYTES as u64 + rest_bytes), "{peak:?}");
}

/// Measured: 105 MiB, of which the source's own lines are up to 60.
#[test]
fn lines_of_fifteen_mebibytes_pass_a_full_budget_and_are_compressed() {
    let peak = peak_of("memory::lines_of_fifteen_mebibytes_pass_a_full_budget_and_are_compressed", || {
        long_lines(Compression::Gzip { level: 1 });
    });
    // A compressed member of one long line is charged to nobody, and grows as it is made.
    let rest_bytes = REST_BYTES + 6 * LONG_LINE_BYTES as u64;
    assert!(peak.is_none_or(|peak| peak < BUDGET_BYTES as u64 + rest_bytes), "{peak:?}");
}

/// Measured: 96 MiB, of which the source's own lines are up to 75.
#[test]
fn a_range_that_stalls_while_later_ones_are_ready_holds_nobody_for_ever() {
    let peak = peak_of("memory::a_range_that_stalls_while_later_ones_are_ready_holds_nobody_for_ever", || {
        let (go_on, may_go_on) = watch::channel(false);
        let stalled = |at| GeneratedRange { stall: Some((at, may_go_on.clone())), ..range("a", 3000, with_long_line) };
        // Within its first block, and in the middle of a long line.
        for at in [1, 501] {
            go_on.send_replace(false);
            let later = ["b", "c", "d", "e"].map(|name| range(name, 3000, with_long_line));
            let ranges = [vec![stalled(at)], later.into()].concat();
            let mut config = config();
            config.read_ahead = 5;
            let report = export(ranges, config, async |reads| {
                // As much as the later ranges may read before it is their turn.
                reads.until_bytes(10 << 20).await;
                go_on.send_replace(true);
            });
            assert_eq!(written(&report)["Binary"], 15);
        }
    });
    let rest_bytes = REST_BYTES + 5 * LONG_LINE_BYTES as u64;
    assert!(peak.is_none_or(|peak| peak < BUDGET_BYTES as u64 + rest_bytes), "{peak:?}");
}
