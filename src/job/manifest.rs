//! The manifest: what a job produced, for its client.
//!
//! HealthLake's fields in HealthLake's order (contract, section 1.2), `count` as in the Bulk Data specification, and
//! under `extension` what is ours. Every number comes from the ledger.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::ledger::{Count, Exclusion, LedgerRow, Notes};
use crate::scope::CohortReport;
use crate::writer::{Crc64, ObjectReport};

/// Version of the manifest's own part.
pub const FORMAT_VERSION: u32 = 1;

/// What a job produced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The snapshot's transaction time T: the next export's `_since`.
    pub transaction_time: String,
    /// The request, normalised.
    pub request: String,
    /// Always `false`: the objects are fetched with the store's own credentials.
    pub requires_access_token: bool,
    /// The objects, sorted by key in byte order.
    pub output: Vec<OutputFile>,
    /// Objects of Bundles, each of which deletes a resource that was deleted since the request's `_since`; left out if
    /// there are none.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub deleted: Vec<OutputFile>,
    /// Objects of `OperationOutcome`s about what went wrong or was left out.
    pub error: Vec<OutputFile>,
    /// What is ours.
    pub extension: ManifestExtension,
}

/// One object of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// The type of the resources in it.
    #[serde(rename = "type")]
    pub resource_type: String,
    /// Where it is.
    pub url: String,
    /// Resources in it.
    pub count: u64,
    /// What is ours.
    pub extension: FileExtension,
}

/// What we say of an object besides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileExtension {
    /// Its key below the destination's prefix.
    pub key: String,
    /// Its size as stored, in bytes.
    pub bytes: u64,
    /// Size of its lines before compression, in bytes.
    pub line_bytes: u64,
    /// CRC64NVME of it as stored, as S3 writes it: base64 of eight bytes.
    pub crc64nvme: String,
    /// Its place in the sequence of its type's objects.
    pub sequence: u32,
    /// Why it isn't the one before: `first`, `parts`, `split` or `memory`.
    pub sequence_reason: String,
    /// Parts it was sent in; 0 for a single put.
    pub parts: u32,
    /// Whether its type goes on in the snapshot behind it: the job was cancelled.
    pub partial: bool,
    /// Up to where the snapshot is in it, if partial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What we say of a job besides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestExtension {
    /// Version of this part.
    pub format_version: u32,
    /// The id of the job.
    pub job_id: String,
    /// The state in which the job ended.
    pub job_status: String,
    /// The source.
    pub source: String,
    /// When the job began.
    pub submit_time: String,
    /// When it ended.
    pub end_time: String,
    /// Whether the snapshot lasted to the end of the job.
    pub snapshot: String,
    /// The books: what became of every resource that was read.
    pub ledger: Vec<LedgerEntry>,
    /// The books of what was deleted: tombstones, of all types; left out if there were none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deletions: Option<LedgerEntry>,
    /// How the Group was resolved.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cohort: Option<serde_json::Value>,
    /// Pieces of the source that weren't opened, because their type wasn't asked for.
    pub skipped: Vec<String>,
    /// What was durable when the cancellation was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub durable_at_cancel: Option<BTreeMap<String, CountEntry>>,
    /// What a reader should know.
    pub warnings: Vec<String>,
}

/// The row of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// The type; `null` for resources whose type isn't known.
    #[serde(rename = "type")]
    pub resource_type: Option<String>,
    /// Everything that was read.
    pub read: CountEntry,
    /// In an object.
    pub written: CountEntry,
    /// Left out, by reason; reasons that left nothing out aren't listed.
    pub excluded: BTreeMap<String, CountEntry>,
    /// Not understood.
    pub quarantined: CountEntry,
    /// Read, but not durable when the job ended.
    pub cut: CountEntry,
    /// Replaced by a version stamped after T.
    pub superseded: CountEntry,
    /// Written resources that also name patients outside the cohort.
    pub shared_with_non_members: u64,
    /// Compartment references to patients on other bases.
    pub foreign_references: u64,
    /// Bodies in which a raw line end between tokens became a blank.
    pub reflowed: u64,
    /// Resources stamped after T that belong to the snapshot all the same.
    pub stamped_after_transaction_time: u64,
}

/// A count of a manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountEntry {
    /// Number of resources.
    pub resources: u64,
    /// Their bytes, with a line feed each.
    pub bytes: u64,
}

impl From<Count> for CountEntry {
    fn from(Count { resources, bytes }: Count) -> Self {
        Self { resources, bytes }
    }
}

impl LedgerEntry {
    /// The row of a type as a manifest shows it.
    #[must_use]
    pub fn new(resource_type: Option<&str>, row: &LedgerRow) -> Self {
        let excluded = Exclusion::ALL
            .into_iter()
            .map(|exclusion| (exclusion.as_str().to_owned(), row.excluded(exclusion)))
            .filter(|(_, count)| *count != Count::default())
            .map(|(name, count)| (name, count.into()))
            .collect();
        let Notes { shared_with_non_members, foreign_references, reflowed, stamped_after_t } = row.notes;
        Self {
            resource_type: resource_type.map(str::to_owned),
            read: row.read.into(),
            written: row.written.into(),
            excluded,
            quarantined: row.quarantined.into(),
            cut: row.cut.into(),
            superseded: row.superseded.into(),
            shared_with_non_members,
            foreign_references,
            reflowed,
            stamped_after_transaction_time: stamped_after_t,
        }
    }
}

impl OutputFile {
    pub(super) fn new(object: &ObjectReport, url: String) -> Self {
        Self {
            resource_type: object.content.type_name().to_owned(),
            url,
            count: object.count.resources,
            extension: FileExtension {
                key: object.key.to_string(),
                bytes: object.crc.length_bytes(),
                line_bytes: object.count.bytes,
                crc64nvme: to_base64(object.crc),
                sequence: object.sequence,
                sequence_reason: object.reason.as_str().to_owned(),
                parts: object.parts,
                partial: object.partial.is_some(),
                cursor: object.partial.as_ref().map(ToString::to_string),
            },
        }
    }
}

/// A checksum as S3 writes it.
pub(super) fn to_base64(crc: Crc64) -> String {
    BASE64_STANDARD.encode(crc.value().to_be_bytes())
}

/// A cohort's report as a manifest shows it.
pub(super) fn cohort_entry(report: &CohortReport) -> Option<serde_json::Value> {
    serde_json::to_value(report).ok()
}
