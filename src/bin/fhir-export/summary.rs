//! What is told at the end of an export.

use std::collections::BTreeMap;
use std::time::Duration;

use fhir_export::job::{Count, Exclusion, JobReport, JobState, LedgerEntry, LedgerRow};

use super::Exit;
use super::events::{Event, Finished, rounded};
use super::figures::{counted, duration, each_second, grouped, megabyte_rate, rate};
use super::screen::with_causes;
use super::table::Table;

/// How the program ends after a job.
pub(crate) fn exit(report: &JobReport) -> Exit {
    use fhir_export::ErrorKind::{InvalidConfig, InvalidRequest};
    match report.state {
        JobState::Completed => Exit::Success,
        JobState::CompletedWithErrors => Exit::CompletedWithErrors,
        JobState::CancelCompleted => Exit::Cancelled,
        _ if report.error.as_ref().is_some_and(|error| matches!(error.kind(), InvalidRequest | InvalidConfig)) => {
            Exit::Usage
        }
        _ => Exit::Failure,
    }
}

/// The last event.
pub(crate) fn event(report: &JobReport, elapsed: Duration) -> Event<'_> {
    let ledger = report
        .ledger
        .iter()
        .map(|(name, row)| LedgerEntry::new(name.as_ref().map(fhir_export::fhir::ResourceType::as_str), row));
    let manifest = report.manifest.as_ref();
    Event::Finished(Box::new(Finished {
        state: report.state.as_str(),
        exit_code: exit(report) as u8,
        manifest_url: report.manifest_url.as_deref(),
        error: report.error.as_ref().map(with_causes),
        elapsed_seconds: rounded(elapsed),
        objects: report.objects.len() as u64,
        bytes: report.objects.iter().map(|object| object.crc.length_bytes()).sum(),
        ledger: ledger.collect(),
        warnings: manifest.map_or(&[], |manifest| manifest.extension.warnings.as_slice()),
        leftovers: leftovers(report),
        resumable: report.resumable,
    }))
}

/// Keys of what may be left in the store.
pub(crate) fn leftovers(report: &JobReport) -> Vec<String> {
    report.leftovers.iter().map(|left| left.key.to_string()).collect()
}

/// The table of an export, and what is to be known besides.
pub(crate) fn text(report: &JobReport, elapsed: Duration) -> String {
    let mut text = String::new();
    let total = total(report);
    if total != LedgerRow::default() {
        text = format!("{}\n", table(report, &total));
    }
    let mut say = |name: &str, what: &str| text.extend([format!("{name:<9} "), what.to_owned(), "\n".to_owned()]);
    let (resources, bytes) = (each_second(total.read.resources, elapsed), each_second(total.read.bytes, elapsed));
    let speed =
        format!("{} in {}, {} resources/s, {}", report.state, duration(elapsed), rate(resources), megabyte_rate(bytes));
    say("state", &speed);
    for file in report.manifest.iter().flat_map(|manifest| &manifest.deleted) {
        say("deleted", &format!("{} in {}", counted(file.count, "deletion"), shown(&file.url)));
    }
    for (name, file) in report.manifest.iter().flat_map(|manifest| &manifest.error).map(|file| ("errors", file)) {
        say(name, &format!("{} in {}", counted(file.count, "OperationOutcome"), shown(&file.url)));
    }
    if let Some(url) = &report.manifest_url {
        say("manifest", &shown(url));
    }
    if let Some(manifest) = &report.manifest {
        let partial = manifest.output.iter().filter(|file| file.extension.partial).count() as u64;
        if partial > 0 {
            say(
                "partial",
                &format!("{}, whose types go on in the source: see the manifest", counted(partial, "object")),
            );
        }
        let skipped = manifest.extension.skipped.len() as u64;
        if skipped > 0 {
            say("skipped", &format!("{} whose names are of other types", counted(skipped, "file")));
        }
        for warning in &manifest.extension.warnings {
            say("warning", warning);
        }
    }
    text
}

/// A path in place of a `file:` URL.
pub(crate) fn shown(url: &str) -> String {
    match url.strip_prefix("file://") {
        Some(path) => percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned(),
        None => url.to_owned(),
    }
}

fn total(report: &JobReport) -> LedgerRow {
    let mut total = LedgerRow::default();
    for (_, row) in &report.ledger {
        total += *row;
    }
    total
}

/// A column of the books.
type Column = (String, fn(&LedgerRow, Exclusion) -> Count, Exclusion);

/// The columns that there is something in; the first two are always there.
fn columns(total: &LedgerRow) -> Vec<Column> {
    let any = Exclusion::Type;
    let mut columns: Vec<Column> =
        vec![("read".to_owned(), |row, _| row.read, any), ("written".to_owned(), |row, _| row.written, any)];
    let excluded = Exclusion::ALL.map(|why| -> Column { (format!("excluded: {why}"), LedgerRow::excluded, why) });
    let fates: [Column; 3] = [
        ("quarantined".to_owned(), |row, _| row.quarantined, any),
        ("cut".to_owned(), |row, _| row.cut, any),
        ("superseded".to_owned(), |row, _| row.superseded, any),
    ];
    let rare = excluded.into_iter().chain(fates);
    columns.extend(rare.filter(|(_, count, why)| count(total, *why).resources > 0));
    columns
}

fn table(report: &JobReport, total: &LedgerRow) -> Table {
    let mut stored: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for file in report.manifest.iter().flat_map(|manifest| &manifest.output) {
        let (bytes, objects) = stored.entry(&file.resource_type).or_default();
        *bytes += file.extension.bytes;
        *objects += 1;
    }
    let columns = columns(total);
    let row = |name: &str, row: &LedgerRow, (bytes, objects): (u64, u64)| -> Vec<String> {
        let counts = columns.iter().map(|(_, count, why)| grouped(count(row, *why).resources));
        std::iter::once(name.to_owned()).chain(counts).chain([grouped(bytes), grouped(objects)]).collect()
    };
    let rows = report.ledger.iter().map(|(name, books)| {
        let name = name.as_ref().map_or("(no type)", fhir_export::fhir::ResourceType::as_str);
        row(name, books, stored.get(name).copied().unwrap_or_default())
    });
    let all = stored.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let names = columns.iter().map(|(name, ..)| name.clone());
    Table {
        head: std::iter::once("type".to_owned())
            .chain(names)
            .chain(["bytes".to_owned(), "objects".to_owned()])
            .collect(),
        rows: rows.collect(),
        last: row("total", total, all),
    }
}
