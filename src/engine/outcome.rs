//! Lines of a job's error report: one `OperationOutcome` each.

use serde_json::{Value, json};

use super::sift::Reason;
use crate::error::Error;
use crate::ledger::Origin;

/// Where a resource that isn't understood lies: its raw bytes stay there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// Name of the range.
    pub(super) range: &'a str,
    /// Where its block begins.
    pub(super) origin: &'a Origin,
    /// Bytes from there to the resource.
    pub(super) bytes_into_block: u64,
    /// Rows from there to the resource.
    pub(super) rows_into_block: u64,
    /// Its length without the line feed, in bytes.
    pub(super) length_bytes: u64,
}

/// The report on a resource that isn't understood.
pub(super) fn quarantined(place: &Place<'_>, reason: &Reason) -> Vec<u8> {
    let (position, offset) = match place.origin {
        Origin::Offset(offset) => {
            let offset = offset + place.bytes_into_block;
            (format!("offset {offset}"), json!({"url": "offset", "valueString": offset.to_string()}))
        }
        Origin::Cursor { cursor, rows, .. } => {
            let row = rows + place.rows_into_block;
            let cursor = cursor.escape_ascii().to_string();
            let after = if cursor.is_empty() { "the start" } else { &cursor };
            (format!("row {row} after {after}"), json!({"url": "row", "valueString": format!("{cursor}+{row}")}))
        }
        Origin::End => ("at its end".to_owned(), json!({"url": "row", "valueString": "end"})),
    };
    let (range, length) = (place.range, place.length_bytes);
    line(&json!({
        "resourceType": "OperationOutcome",
        "issue": [{
            "severity": "error",
            "code": code(reason),
            "details": {"text": "The resource was not exported, because it could not be understood."},
            "diagnostics": format!("{range}, {position}, {length} bytes: {reason}"),
            "extension": [{
                "url": "urn:fhir-export:quarantine",
                "extension": [
                    {"url": "source", "valueString": range},
                    offset,
                    {"url": "length", "valueString": length.to_string()},
                    {"url": "reason", "valueString": reason.to_string()},
                ],
            }],
        }],
    }))
}

/// Facts of an error that say where in its range it is.
const PLACES_IN_RANGE: [&str; 2] = ["compressed offset", "offset"];

/// The report on a range that couldn't be read to its end. Causes may name places of the server's own, such as URLs: the
/// log has them.
pub(super) fn unreadable(range: &str, error: &Error) -> Vec<u8> {
    let places = error.context().filter(|(name, _)| PLACES_IN_RANGE.contains(name));
    let places: Vec<String> = places.map(|(name, value)| format!("{name}: {value}")).collect();
    let places = if places.is_empty() { String::new() } else { format!(" ({})", places.join(", ")) };
    line(&json!({
        "resourceType": "OperationOutcome",
        "issue": [{
            "severity": "error",
            "code": "incomplete",
            "details": {"text": "A piece of the source could not be read to its end."},
            "diagnostics": format!("{range}: {}{places}", error.message()),
        }],
    }))
}

/// The report on a type that was asked for but isn't in the scope of the request's level.
pub(super) fn outside_level(resource_type: &str, level: &str) -> Vec<u8> {
    line(&json!({
        "resourceType": "OperationOutcome",
        "issue": [{
            "severity": "information",
            "code": "informational",
            "details": {"text": format!("{resource_type} is not part of an export of level {level}.")},
            "diagnostics": format!("_type: {resource_type} is outside the Patient compartment"),
        }],
    }))
}

/// The report on a parameter that was skipped (Bulk Data Access IG, `Prefer: handling=lenient`).
pub(super) fn skipped(parameter: &str, why: &str) -> Vec<u8> {
    let mut issue = json!({
        "severity": "warning",
        "code": "not-supported",
        "details": {"text": "A parameter of the request was skipped, as its sender allowed."},
        "diagnostics": why,
    });
    if let Some(issue) = issue.as_object_mut().filter(|_| !parameter.is_empty()) {
        issue.insert("expression".to_owned(), json!([parameter]));
    }
    line(&json!({"resourceType": "OperationOutcome", "issue": [issue]}))
}

/// The report on something that a cohort lacks.
pub(super) fn cohort_incomplete(text: &str) -> Vec<u8> {
    line(&json!({
        "resourceType": "OperationOutcome",
        "issue": [{
            "severity": "error",
            "code": "not-found",
            "details": {"text": "The Group could not be resolved completely."},
            "diagnostics": text,
        }],
    }))
}

fn code(reason: &Reason) -> &'static str {
    match reason {
        Reason::Defect(_) => "structure",
        Reason::LastUpdated => "value",
        Reason::TooLong { .. } => "too-long",
    }
}

fn line(outcome: &Value) -> Vec<u8> {
    let mut line = outcome.to_string().into_bytes();
    line.push(b'\n');
    line
}
