//! Whether the numbers of a manifest agree with each other.

use std::collections::BTreeMap;

use crate::job::manifest::{CountEntry, LedgerEntry, Manifest};

/// What doesn't agree, in words.
pub(super) fn faults(manifest: &Manifest) -> Vec<String> {
    let mut in_objects: BTreeMap<&str, CountEntry> = BTreeMap::new();
    for file in &manifest.output {
        let sum = in_objects.entry(&file.resource_type).or_default();
        add(sum, CountEntry { resources: file.count, bytes: file.extension.line_bytes });
    }
    let mut faults = Vec::new();
    for row in &manifest.extension.ledger {
        let name = row.resource_type.as_deref().unwrap_or("resources of no known type");
        let accounted = accounted(row);
        if accounted != row.read {
            faults.push(format!("{name}: {} read, but {} accounted for", row.read.resources, accounted.resources));
        }
        let held = row.resource_type.as_deref().and_then(|name| in_objects.remove(name)).unwrap_or_default();
        if held != row.written {
            faults.push(format!("{name}: {} written, but {} in objects", row.written.resources, held.resources));
        }
    }
    faults.extend(in_objects.into_keys().map(|name| format!("{name}: there is an object of it and no row")));
    faults
}

fn accounted(row: &LedgerEntry) -> CountEntry {
    let mut sum = CountEntry::default();
    for count in row.excluded.values().chain([&row.written, &row.quarantined, &row.cut, &row.superseded]) {
        add(&mut sum, *count);
    }
    sum
}

/// Adds what may come from a forged manifest.
fn add(sum: &mut CountEntry, count: CountEntry) {
    sum.resources = sum.resources.saturating_add(count.resources);
    sum.bytes = sum.bytes.saturating_add(count.bytes);
}
