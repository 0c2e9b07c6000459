//! How records, wishes and journal entries are stored: a record and an entry as one JSON object each.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::{CancelWish, JobRecord, RECORD_FORMAT};
use crate::destination::PartId;
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::ResourceType;
use crate::job::OnCancel;
use crate::ledger::{Count, Exclusion, LedgerRow, Mark, Notes, Position};
use crate::writer::{Content, Crc64, DurablePart, Entry, ObjectName, SequenceReason, WholeObject};

/// No type is called so.
const ERRORS: &str = "!errors";
const UNKNOWN: &str = "!unknown";
const DELETED: &str = "!deleted";

/// Most of anything that is counted: up to here the numbers of JSON are exact everywhere (RFC 8259 section 6), and sums of
/// a journal that is damaged don't overflow.
const MOST: u64 = (1 << 53) - 1;

/// A wish that leaves it to the job's settings what becomes of its objects.
const AS_SET: &str = "as set";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum EntryForm {
    Plan { ranges: Vec<(String, Option<String>)> },
    Begun { object: (String, u32), reason: String, upload_id: String },
    Part { object: (String, u32), number: u32, id: String, crc: (String, u64), count: (u64, u64), mark: MarkForm },
    Resumed { object: (String, u32), parts: u32 },
    Closing { object: (String, u32), whole: WholeForm },
    Closed { object: (String, u32) },
    Gone { object: (String, u32) },
    RangeEnd { range: String, rows: Vec<(String, RowForm)> },
}

#[derive(Serialize, Deserialize)]
struct WholeForm {
    reason: String,
    count: (u64, u64),
    crc: (String, u64),
    parts: u32,
    mark: MarkForm,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    next: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct MarkForm {
    range: String,
    cursor: String,
    #[serde(skip_serializing_if = "is_zero", default)]
    rows: u64,
    place: u64,
    row: RowForm,
    #[serde(skip_serializing_if = "is_false", default)]
    alone: bool,
}

#[derive(Serialize, Deserialize)]
struct RowForm {
    read: (u64, u64),
    written: (u64, u64),
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    excluded: BTreeMap<String, (u64, u64)>,
    #[serde(skip_serializing_if = "is_nothing", default)]
    quarantined: (u64, u64),
    #[serde(skip_serializing_if = "is_nothing", default)]
    superseded: (u64, u64),
    /// In the order of [`Notes`].
    #[serde(skip_serializing_if = "are_zero", default)]
    notes: [u64; 4],
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_false(value: &bool) -> bool {
    !*value
}

fn is_nothing(count: &(u64, u64)) -> bool {
    *count == (0, 0)
}

fn are_zero(notes: &[u64; 4]) -> bool {
    *notes == [0; 4]
}

/// A record as it is stored.
pub(super) fn encode_record(record: &JobRecord) -> Result<String> {
    serde_json::to_string(record)
        .map_err(|error| Error::new(ErrorKind::Internal, "the record of a job can't be written").caused_by(error))
}

/// A record that was stored in this format.
pub(super) fn decode_record(format: u32, text: &str) -> Result<JobRecord> {
    if format > RECORD_FORMAT {
        let message = format!("the record of a job is of version {format}, this program knows {RECORD_FORMAT}");
        return Err(Error::new(ErrorKind::InvalidConfig, message));
    }
    serde_json::from_str(text).map_err(|error| super::record::damaged("it can't be read").caused_by(error))
}

/// A wish as it is stored.
pub(super) fn encode_wish(wish: CancelWish) -> &'static str {
    let word = |way| OnCancel::WORDS.iter().find(|(_, known)| *known == way).map(|(word, _)| *word);
    wish.on_cancel.and_then(word).unwrap_or(AS_SET)
}

/// A wish that was stored. What this program doesn't know is done as the job's settings say.
pub(super) fn decode_wish(text: &str) -> CancelWish {
    CancelWish { on_cancel: OnCancel::WORDS.iter().find(|(word, _)| *word == text).map(|(_, way)| *way) }
}

/// An entry as it is stored.
pub(super) fn encode(entry: &Entry) -> Result<String> {
    let form = match entry {
        Entry::Plan { ranges } => EntryForm::Plan { ranges: ranges.clone() },
        Entry::Begun { object, reason, upload_id } => {
            EntryForm::Begun { object: name(object), reason: reason.as_str().into(), upload_id: upload_id.clone() }
        }
        Entry::Part { object, part } => EntryForm::Part {
            object: name(object),
            number: part.number,
            id: part.id.0.clone(),
            crc: crc(part.crc),
            count: count(part.count),
            mark: mark(&part.mark),
        },
        Entry::Resumed { object, parts } => EntryForm::Resumed { object: name(object), parts: *parts },
        Entry::Closing { object, whole } => EntryForm::Closing {
            object: name(object),
            whole: WholeForm {
                reason: whole.reason.as_str().into(),
                count: count(whole.count),
                crc: crc(whole.crc),
                parts: whole.parts,
                mark: mark(&whole.mark),
                next: whole.next.map(|next| next.as_str().into()),
            },
        },
        Entry::Closed { object } => EntryForm::Closed { object: name(object) },
        Entry::Gone { object } => EntryForm::Gone { object: name(object) },
        Entry::RangeEnd { range, rows } => EntryForm::RangeEnd {
            range: range.clone(),
            rows: rows.iter().map(|(content, one)| (content_name(content.as_ref()), row(one))).collect(),
        },
    };
    serde_json::to_string(&form)
        .map_err(|error| Error::new(ErrorKind::Internal, "a journal entry can't be written").caused_by(error))
}

/// The entry that was stored.
pub(super) fn decode(text: &str) -> Result<Entry> {
    let form = serde_json::from_str(text).map_err(|error| damaged("it isn't one of ours").caused_by(error))?;
    Ok(match form {
        EntryForm::Plan { ranges } => Entry::Plan { ranges },
        EntryForm::Begun { object, reason, upload_id } => {
            Entry::Begun { object: name_of(object)?, reason: reason_of(&reason)?, upload_id }
        }
        EntryForm::Part { object, number, id, crc, count, mark } => Entry::Part {
            object: name_of(object)?,
            part: DurablePart {
                number,
                id: PartId(id),
                crc: crc_of(&crc)?,
                count: count_of(count)?,
                mark: mark_of(mark)?,
            },
        },
        EntryForm::Resumed { object, parts } => Entry::Resumed { object: name_of(object)?, parts },
        EntryForm::Closing { object, whole } => Entry::Closing {
            object: name_of(object)?,
            whole: WholeObject {
                reason: reason_of(&whole.reason)?,
                count: count_of(whole.count)?,
                crc: crc_of(&whole.crc)?,
                parts: whole.parts,
                mark: mark_of(whole.mark)?,
                next: whole.next.as_deref().map(reason_of).transpose()?,
            },
        },
        EntryForm::Closed { object } => Entry::Closed { object: name_of(object)? },
        EntryForm::Gone { object } => Entry::Gone { object: name_of(object)? },
        EntryForm::RangeEnd { range, rows } => {
            let rows = rows.into_iter().map(|(name, row)| Ok((content_of(&name)?, row_of(row)?)));
            Entry::RangeEnd { range, rows: rows.collect::<Result<_>>()? }
        }
    })
}

fn name(object: &ObjectName) -> (String, u32) {
    (content_name(Some(&object.content)), object.sequence)
}

fn name_of((content, sequence): (String, u32)) -> Result<ObjectName> {
    let content = content_of(&content)?.ok_or_else(|| damaged("an object has no type"))?;
    Ok(ObjectName { content, sequence })
}

fn content_name(content: Option<&Content>) -> String {
    match content {
        None => UNKNOWN.to_owned(),
        Some(Content::Errors) => ERRORS.to_owned(),
        Some(Content::Deleted) => DELETED.to_owned(),
        Some(Content::Resources(resource_type)) => resource_type.to_string(),
    }
}

fn content_of(name: &str) -> Result<Option<Content>> {
    match name {
        UNKNOWN => Ok(None),
        ERRORS => Ok(Some(Content::Errors)),
        DELETED => Ok(Some(Content::Deleted)),
        _ => match ResourceType::new(name) {
            Ok(resource_type) => Ok(Some(Content::Resources(resource_type))),
            Err(error) => Err(damaged("the name of a type isn't one").caused_by(error)),
        },
    }
}

fn reason_of(name: &str) -> Result<SequenceReason> {
    let known = SequenceReason::ALL.into_iter().find(|reason| reason.as_str() == name);
    known.ok_or_else(|| damaged("the reason of a sequence is unknown"))
}

fn crc(crc: Crc64) -> (String, u64) {
    (crc.to_hex(), crc.length_bytes())
}

fn crc_of((value, length_bytes): &(String, u64)) -> Result<Crc64> {
    let value = u64::from_str_radix(value, 16).map_err(|error| damaged("a checksum is none").caused_by(error))?;
    if *length_bytes > MOST {
        return Err(damaged("a length is more than there can be"));
    }
    Ok(Crc64::known(value, *length_bytes))
}

const fn count(count: Count) -> (u64, u64) {
    (count.resources, count.bytes)
}

fn count_of((resources, bytes): (u64, u64)) -> Result<Count> {
    if resources.max(bytes) > MOST {
        return Err(damaged("a count is more than there can be"));
    }
    Ok(Count::new(resources, bytes))
}

fn mark(mark: &Mark) -> MarkForm {
    let Position { range, cursor, rows_after, place } = &mark.position;
    MarkForm {
        range: range.to_string(),
        cursor: BASE64_STANDARD.encode(cursor),
        rows: *rows_after,
        place: *place,
        row: row(&mark.row),
        alone: mark.alone,
    }
}

fn mark_of(form: MarkForm) -> Result<Mark> {
    let cursor = BASE64_STANDARD.decode(&form.cursor).map_err(|error| damaged("a cursor is none").caused_by(error))?;
    let position =
        Position { range: Arc::from(form.range), cursor: Arc::from(cursor), rows_after: form.rows, place: form.place };
    Ok(Mark { position, row: row_of(form.row)?, alone: form.alone })
}

fn row(row: &LedgerRow) -> RowForm {
    let excluded = Exclusion::ALL.into_iter().map(|why| (why.as_str().to_owned(), count(row.excluded(why))));
    let Notes { shared_with_non_members, foreign_references, reflowed, stamped_after_t } = row.notes;
    RowForm {
        read: count(row.read),
        written: count(row.written),
        excluded: excluded.filter(|(_, count)| !is_nothing(count)).collect(),
        quarantined: count(row.quarantined),
        superseded: count(row.superseded),
        notes: [shared_with_non_members, foreign_references, reflowed, stamped_after_t],
    }
}

fn row_of(form: RowForm) -> Result<LedgerRow> {
    let mut row = LedgerRow {
        read: count_of(form.read)?,
        written: count_of(form.written)?,
        quarantined: count_of(form.quarantined)?,
        superseded: count_of(form.superseded)?,
        ..LedgerRow::default()
    };
    for (name, count) in form.excluded {
        let known = Exclusion::ALL.into_iter().find(|why| why.as_str() == name);
        let why = known.ok_or_else(|| damaged("the reason of an exclusion is unknown"))?;
        if let Some(place) = row.excluded.get_mut(why.index()) {
            *place = count_of(count)?;
        }
    }
    let [shared_with_non_members, foreign_references, reflowed, stamped_after_t] =
        form.notes.map(|note| note.min(MOST));
    row.notes = Notes { shared_with_non_members, foreign_references, reflowed, stamped_after_t };
    Ok(row)
}

fn damaged(why: &str) -> Error {
    Error::new(ErrorKind::Store, format!("an entry of the job's journal is damaged: {why}"))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts() -> impl Strategy<Value = Count> {
        (0..=MOST, 0..=MOST).prop_map(|(resources, bytes)| Count::new(resources, bytes))
    }

    fn rows() -> impl Strategy<Value = LedgerRow> {
        (counts(), counts(), counts(), prop::array::uniform8(counts()), prop::array::uniform4(0..=MOST)).prop_map(
            |(read, written, quarantined, excluded, notes)| {
                let [shared_with_non_members, foreign_references, reflowed, stamped_after_t] = notes;
                let notes = Notes { shared_with_non_members, foreign_references, reflowed, stamped_after_t };
                LedgerRow { read, written, quarantined, excluded, notes, ..LedgerRow::default() }
            },
        )
    }

    fn marks() -> impl Strategy<Value = Mark> {
        (".*", any::<Vec<u8>>(), any::<[u64; 2]>(), rows(), any::<bool>()).prop_map(
            |(range, cursor, [rows_after, place], row, alone)| {
                let position = Position { range: Arc::from(range), cursor: Arc::from(cursor), rows_after, place };
                Mark { position, row, alone }
            },
        )
    }

    fn contents() -> impl Strategy<Value = Content> {
        prop_oneof![
            Just(Content::Errors),
            Just(Content::Deleted),
            "[A-Z][a-z]{1,20}".prop_map(|name| Content::Resources(ResourceType::new(&name).unwrap())),
        ]
    }

    fn objects() -> impl Strategy<Value = ObjectName> {
        (contents(), any::<u32>()).prop_map(|(content, sequence)| ObjectName { content, sequence })
    }

    fn crcs() -> impl Strategy<Value = Crc64> {
        (any::<u64>(), 0..=MOST).prop_map(|(value, length)| Crc64::known(value, length))
    }

    /// Any entry.
    pub(in super::super) fn entries() -> impl Strategy<Value = Entry> {
        let reason = prop::sample::select(SequenceReason::ALL.to_vec());
        let whole = (reason.clone(), counts(), crcs(), any::<u32>(), marks(), prop::option::of(reason.clone()));
        prop_oneof![
            any::<Vec<(String, Option<String>)>>().prop_map(|ranges| Entry::Plan { ranges }),
            (objects(), reason, ".*").prop_map(|(object, reason, upload_id)| Entry::Begun {
                object,
                reason,
                upload_id
            }),
            (objects(), any::<u32>(), ".*", crcs(), counts(), marks()).prop_map(
                |(object, number, id, crc, count, mark)| Entry::Part {
                    object,
                    part: DurablePart { number, id: PartId(id), crc, count, mark },
                }
            ),
            (objects(), whole).prop_map(|(object, (reason, count, crc, parts, mark, next))| Entry::Closing {
                object,
                whole: WholeObject { reason, count, crc, parts, mark, next },
            }),
            (objects(), any::<u32>()).prop_map(|(object, parts)| Entry::Resumed { object, parts }),
            objects().prop_map(|object| Entry::Closed { object }),
            objects().prop_map(|object| Entry::Gone { object }),
            (".*", prop::collection::vec((prop::option::of(contents()), rows()), 0..3))
                .prop_map(|(range, rows)| Entry::RangeEnd { range, rows }),
        ]
    }

    proptest! {
        #[test]
        fn an_entry_is_read_as_it_was_written(entry in entries()) {
            prop_assert_eq!(decode(&encode(&entry).unwrap()).unwrap(), entry);
        }

        #[test]
        fn an_entry_that_was_cut_is_refused(entry in entries(), cut in any::<prop::sample::Index>()) {
            let text = encode(&entry).unwrap();
            let end = text.floor_char_boundary(cut.index(text.len()));
            prop_assert!(decode(text.get(..end).unwrap()).is_err());
        }
    }
}
