//! Cohorts: the same Groups give the same cohort in whatever pieces they come, and the cohort holds only members.

use fhir_export::fhir::Instant;
use fhir_export::resource::reference::BaseUrls;
use fhir_export::scope::{Cohort, resolve_cohort};
use fhir_export::source::Source as _;
use fhir_export::source::memory::{MemoryRange, MemorySource};
use fhir_export::{ErrorKind, Result};

use super::lines::bare;
use super::wait_for;

/// The first byte says how many bytes are handed over at once; the rest is NDJSON. The Group asked for is `g`.
pub fn cohort(data: &[u8]) {
    let Some((pace, text)) = data.split_first() else { return };
    let lines = MemoryRange::lines("lines", text.to_vec());
    let whole = resolve(lines.clone());
    compare(&whole, &resolve(lines.in_chunks_of(usize::from(*pace))), text);

    let rows: Vec<Vec<u8>> =
        text.split(|byte| *byte == b'\n').map(|row| row.strip_suffix(b"\r").unwrap_or(row).to_vec()).collect();
    // Of rows, a byte order mark with nothing behind it is a row.
    if rows.iter().all(|row| bare(row) != b"" || row.is_empty()) {
        compare(&whole, &resolve(MemoryRange::rows("rows", rows).in_chunks_of(usize::from(*pace))), text);
    }
}

fn resolve(range: MemoryRange) -> Result<Cohort> {
    let source = MemorySource::new().with(range);
    let now = Instant::from_unix(1_700_000_000, 0);
    wait_for(async { resolve_cohort(&*source.open().await?, "g", &now, &BaseUrls::default()).await })
}

fn compare(one: &Result<Cohort>, other: &Result<Cohort>, text: &[u8]) {
    match (one, other) {
        (Ok(one), Ok(other)) => {
            assert_eq!((&one.report, &one.groups), (&other.report, &other.groups));
            check(one, text);
            for id in ids(text) {
                assert_eq!(one.patients.contains(&id), other.patients.contains(&id), "{id}");
            }
        }
        (Err(one), Err(other)) => {
            assert_eq!((one.kind(), one.message()), (other.kind(), other.message()));
            let kinds =
                [ErrorKind::NotFound, ErrorKind::InvalidRequest, ErrorKind::CohortUnreadable, ErrorKind::LimitExceeded];
            assert!(kinds.contains(&one.kind()), "{one}");
        }
        (Ok(_), Err(error)) | (Err(error), Ok(_)) => panic!("only in some pieces: {error}"),
    }
}

/// The report adds up, and every patient of the cohort is named in the text.
fn check(cohort: &Cohort, text: &[u8]) {
    let report = &cohort.report;
    assert!(cohort.groups.contains("g"));
    assert_eq!(report.patients_resolved, cohort.patients.len() as u64);
    let others: u64 = report.other_types.values().sum();
    let dropped = report.dropped_inactive + report.dropped_ended + report.dropped_not_yet_started;
    let unread = report.unreadable_references + report.unreadable_periods + report.foreign_references;
    let taken = report.patients_resolved + report.duplicates + report.nested_groups;
    assert_eq!(report.members_listed, taken + dropped + others + unread);
    // An escape may spell any id.
    if !text.contains(&b'\\') {
        let named = ids(text).filter(|id| cohort.patients.contains(id)).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(named.len(), cohort.patients.len());
    }
}

/// Whatever follows `Patient/` in the text.
fn ids(text: &[u8]) -> impl Iterator<Item = String> {
    let text = String::from_utf8_lossy(text);
    let is_id = |character: char| character.is_ascii_alphanumeric() || "-.".contains(character);
    let ids: Vec<String> = text
        .split("Patient/")
        .skip(1)
        .map(|rest| rest.chars().take_while(|character| is_id(*character)).collect())
        .collect();
    ids.into_iter()
}
