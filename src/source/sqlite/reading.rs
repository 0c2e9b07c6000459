//! From the connection into the sink: a block at a time, each found by the key before it.

use rusqlite::types::ValueRef;

use super::query::Query;
use super::thread::{Session, SnapshotThread};
use crate::error::{Error, ErrorKind, Result};
use crate::source::{BlockSink, Cursor, RowOutcome, Rows, trim};

/// Room that is asked for at once, in bytes; the engine gives more where its blocks are larger.
const BUFFER_BYTES: usize = 64 << 10;

/// A block of rows.
struct Fetched {
    rows: Rows,
    /// The id behind which the next block begins.
    last_id: String,
    end: End,
}

/// Why a block ends.
enum End {
    /// There are no more rows.
    All,
    /// The buffer is full.
    Full,
    /// It is empty, and the next body doesn't fit.
    NeedsRoom { bytes: usize },
    /// The next body is longer than the line limit.
    TooLong { id: String, bytes: usize },
}

/// Reads the rows of a query behind a cursor, which is an id.
pub(super) async fn read(thread: &SnapshotThread, query: Query, from: &Cursor, sink: &mut dyn BlockSink) -> Result<()> {
    let mut after = String::from_utf8(from.as_bytes().to_vec())
        .map_err(|_| Error::new(ErrorKind::Source, "the cursor is no id of the store"))?;
    let line_limit_bytes = sink.line_limit_bytes();
    let mut room_bytes = BUFFER_BYTES;
    sink.at(from.clone());
    loop {
        let rows = Rows::new(sink.buffer(room_bytes).await?);
        let of_block = query.clone();
        let fetched = thread.run(move |session| fetch(session, &of_block, after, rows, line_limit_bytes)).await?;
        after = fetched.last_id;
        sink.rows(fetched.rows).await?;
        sink.at(Cursor::new(after.as_bytes()));
        room_bytes = BUFFER_BYTES;
        match fetched.end {
            End::All => return Ok(()),
            End::Full => {}
            End::NeedsRoom { bytes } => room_bytes = bytes,
            End::TooLong { id, bytes } => {
                sink.row_too_long(bytes as u64).await?;
                after = id;
                sink.at(Cursor::new(after.as_bytes()));
            }
        }
    }
}

/// Fills a buffer.
fn fetch(session: &Session, query: &Query, after: String, rows: Rows, line_limit_bytes: usize) -> Result<Fetched> {
    fill(session, query, after, rows, line_limit_bytes).map_err(|error| session.failed(error))
}

fn fill(
    session: &Session,
    query: &Query,
    after: String,
    mut rows: Rows,
    line_limit_bytes: usize,
) -> rusqlite::Result<Fetched> {
    let mut statement = session.connection.prepare_cached(&query.sql)?;
    let mut found = statement.query(query.parameters(&after))?;
    let mut last_id = Vec::new();
    let end = loop {
        let Some(row) = found.next()? else { break End::All };
        let body = bytes_of(row.get_ref(1)?);
        let id = row.get_ref(0)?;
        let length = trim(body).len();
        if length > line_limit_bytes {
            break End::TooLong { id: String::from_utf8_lossy(bytes_of(id)).into_owned(), bytes: length };
        }
        if rows.push(body) == RowOutcome::Full {
            break if rows.is_empty() { End::NeedsRoom { bytes: length + 1 } } else { End::Full };
        }
        rows.at(bytes_of(id));
        last_id.clear();
        last_id.extend_from_slice(bytes_of(id));
    };
    drop(found);
    let last_id = if last_id.is_empty() { after } else { String::from_utf8_lossy(&last_id).into_owned() };
    Ok(Fetched { rows, last_id, end })
}

fn bytes_of(value: ValueRef<'_>) -> &[u8] {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => &[],
    }
}
