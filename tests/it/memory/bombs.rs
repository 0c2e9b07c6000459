//! Small compressed files that decompress to much: what they take is the budget, whatever comes out of them.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use fhir_export::job::{Exporter, JobReport, JobState};
use fhir_export::request::{ExportRequest, Level};
use fhir_export::source::ndjson::NdjsonSource;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::{BUDGET_BYTES, HANGS_AFTER, MEASURED, MIB, REST_BYTES, config, peak_of_with};
use crate::support::null_destination::NullDestination;

/// Where the folder is that the process is to export.
const FOLDER: &str = "FHIR_EXPORT_BOMB";

/// What comes out of one member.
const MEMBER_BYTES: usize = 16 << 20;

/// As many as make a gibibyte.
const MEMBERS: usize = 64;

const PATIENT: &[u8] = b"{\"resourceType\":\"Patient\",\"id\":\"1\"}\n";

fn member(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A file that decompresses to a gibibyte of repetitions between one Patient and another.
fn write_bomb(folder: &Path, repeated: &[u8]) {
    let bomb = member(&repeated.repeat(MEMBER_BYTES / repeated.len()));
    let file = [member(PATIENT), bomb.repeat(MEMBERS), member(b"\n"), member(PATIENT)].concat();
    assert!(file.len() < 8 << 20, "{} bytes", file.len());
    std::fs::write(folder.join("Patient.ndjson.gz"), file).unwrap();
}

fn exported(max_expansion: Option<u32>) -> JobReport {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut source = NdjsonSource::folder(std::env::var(FOLDER).unwrap());
        if let Some(max_expansion) = max_expansion {
            source = source.max_expansion(max_expansion);
        }
        let builder = Exporter::builder().source(Arc::new(source)).destination(Arc::new(NullDestination::default()));
        let job = builder.config(config()).build().unwrap().start(ExportRequest::new(Level::System)).unwrap();
        tokio::time::timeout(HANGS_AFTER, job.join()).await.expect("the job ends")
    })
}

/// Exports a bomb in a process of its own, and checks that it took no more than the budget.
fn take(test: &str, repeated: &[u8], work: impl FnOnce()) {
    let folder = tempfile::tempdir().unwrap();
    if std::env::var_os(MEASURED).is_none() {
        write_bomb(folder.path(), repeated);
    }
    let environment = [(FOLDER, folder.path().to_str().unwrap())];
    let environment = if std::env::var_os(MEASURED).is_some() { &[][..] } else { &environment[..] };
    let peak = peak_of_with(test, environment, work);
    assert!(peak.is_none_or(|peak| peak < BUDGET_BYTES as u64 + REST_BYTES), "{peak:?}");
}

/// What was written and what is in quarantine.
fn fates(report: &JobReport) -> (u64, u64) {
    let sum = |of: fn(&fhir_export::ledger::LedgerRow) -> u64| report.ledger.iter().map(|(_, row)| of(row)).sum();
    (sum(|row| row.written.resources), sum(|row| row.quarantined.resources))
}

#[test]
fn a_bomb_of_one_line_is_one_line_in_quarantine() {
    take("memory::bombs::a_bomb_of_one_line_is_one_line_in_quarantine", b"x", || {
        let report = exported(Some(u32::MAX));
        assert_eq!(report.state, JobState::CompletedWithErrors, "{:?}", report.error);
        assert_eq!(fates(&report), (2, 1));
    });
}

#[test]
fn a_bomb_of_many_lines_is_written_within_the_budget() {
    take("memory::bombs::a_bomb_of_many_lines_is_written_within_the_budget", PATIENT, || {
        let report = exported(Some(u32::MAX));
        let lines = (MEMBER_BYTES / PATIENT.len() * MEMBERS) as u64 + 2;
        assert_eq!(fates(&report).0, lines, "{:?}", report.error);
    });
}

#[test]
fn a_bomb_of_empty_lines_is_passed_over() {
    take("memory::bombs::a_bomb_of_empty_lines_is_passed_over", b"\n", || {
        let report = exported(Some(u32::MAX));
        assert_eq!((report.state, fates(&report)), (JobState::Completed, (2, 0)), "{:?}", report.error);
    });
}

#[test]
fn a_bomb_is_read_no_further_than_250_times_its_size() {
    take("memory::bombs::a_bomb_is_read_no_further_than_250_times_its_size", b"x", || {
        let report = exported(None);
        assert_eq!(report.state, JobState::CompletedWithErrors, "{:?}", report.error);
        let (written, _) = fates(&report);
        assert_eq!(written, 1, "what comes before");
        let read: u64 = report.ledger.iter().map(|(_, row)| row.read.bytes).sum();
        assert!(read < 600 * MIB, "{read}");
    });
}
