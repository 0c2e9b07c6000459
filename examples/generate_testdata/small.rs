//! The layout of `testdata/small`: clean data that exports without a complaint.

use std::collections::BTreeMap;

use super::resources::Writer;
use super::{File, gzip};

/// Types whose second half lies in a nested folder, as a second clinic would deliver it.
const IN_CLINIC: [&str; 4] = ["Condition", "Encounter", "Immunization", "Procedure"];

/// All files of `testdata/small`.
pub(crate) fn files() -> Vec<File> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (index, resource) in Writer::write().into_iter().enumerate() {
        let path = match resource.resource_type {
            _ if index % 9 == 4 => "mixed.ndjson".to_owned(),
            clinic if IN_CLINIC.contains(&clinic) && index % 2 == 1 => format!("clinic/2023/{clinic}.ndjson"),
            name => format!("{name}.ndjson"),
        };
        let bytes = files.entry(path).or_default();
        bytes.extend(resource.line.as_bytes());
        bytes.push(b'\n');
    }
    files.into_iter().map(|(path, bytes)| compressed(&path, bytes)).collect()
}

fn compressed(path: &str, bytes: Vec<u8>) -> File {
    let (suffix, bytes) = match path {
        "Claim.ndjson" | "clinic/2023/Immunization.ndjson" => (".gz", gzip::member(&bytes)),
        "Observation.ndjson" => (".gz", gzip::members(&bytes, &line_ends(&bytes))),
        // Members may end anywhere, within a line too.
        "CarePlan.ndjson" => (".gz", gzip::members(&bytes, &[100, 0, 1000])),
        _ => ("", bytes),
    };
    File { path: format!("small/{path}{suffix}"), bytes }
}

/// Lengths of the lines, line feeds included, but for the last line.
fn line_ends(bytes: &[u8]) -> Vec<usize> {
    let mut lengths: Vec<usize> = bytes.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::len).collect();
    lengths.pop();
    lengths
}
