//! Records and entries as they are stored: for tests of whatever reads them.

use super::{CancelWish, JobRecord, RECORD_FORMAT, wire};
use crate::error::Result;
use crate::writer::Entry;

/// The entry that a text says.
///
/// # Errors
/// When it says none, or one of a newer version.
pub fn entry(text: &str) -> Result<Entry> {
    wire::decode(text)
}

/// The text of an entry.
///
/// # Errors
/// None that is known.
pub fn entry_text(entry: &Entry) -> Result<String> {
    wire::encode(entry)
}

/// The record that a text says.
///
/// # Errors
/// When it says none.
pub fn record(text: &str) -> Result<JobRecord> {
    wire::decode_record(RECORD_FORMAT, text)
}

/// The text of a record.
///
/// # Errors
/// None that is known.
pub fn record_text(record: &JobRecord) -> Result<String> {
    wire::encode_record(record)
}

/// The wish that a text says; what isn't known is done as the job's settings say.
#[must_use]
pub fn wish(text: &str) -> CancelWish {
    wire::decode_wish(text)
}

/// The text of a wish.
#[must_use]
pub fn wish_text(wish: CancelWish) -> &'static str {
    wire::encode_wish(wish)
}
