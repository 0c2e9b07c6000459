//! The tables of a store.
//!
//! - `types`: resource types by number, so that keys are short.
//! - `resource`: one row for each resource, in the order of the export. Bodies lie elsewhere, so that filters by type,
//!   time and cohort never touch them.
//! - `body`: the bytes as they came. A new version of a resource gets a new number.
//! - `compartment`: who is in whose compartment. `base` is empty for relative references; absolute ones keep the base that
//!   they are on, and whether it counts is decided when they are read.
//! - `tombstone`: what was deleted. `patients`: ids in lines; `NULL`: unknown.
//! - `load`: files of imports that aren't finished, and how far they have come. `pending`: the compartment of a first
//!   load, which is sorted when the load is done; `stale`: versions in it that were replaced meanwhile.
//!
//! An instant is microseconds since 1970 (`updated`) and the digits of the fraction beyond them (`beyond`, a text that
//! compares in byte order), so that any fraction compares exactly. Without `lastUpdated`, `updated` is `NULL`, and so it
//! is if `lastUpdated` isn't an instant; `beyond` is `malformed` then.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use crate::error::{Error, ErrorKind, Result};

/// Marks the file as ours: "FHST".
const APPLICATION_ID: i64 = 0x4648_5354;

/// Version of the tables.
const FORMAT: i64 = 1;

/// Bytes of a page: some resources fit, and few need a chain of them.
const PAGE_BYTES: i64 = 16 << 10;

/// How long another process is waited for that writes.
const BUSY: Duration = Duration::from_secs(30);

/// What stands in `beyond` if `lastUpdated` isn't an instant.
pub(crate) const MALFORMED: &str = "malformed";

/// Keys of `setting`: the digest of the compartment that the index was made by; none while it isn't whole.
pub(crate) const INDEXED: &str = "compartment";

const TABLES: &str = "
CREATE TABLE setting (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE types (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE resource (
  type INTEGER NOT NULL, id TEXT NOT NULL, updated INTEGER, beyond TEXT NOT NULL, body INTEGER NOT NULL,
  PRIMARY KEY (type, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE body (number INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
CREATE TABLE compartment (
  patient TEXT NOT NULL, base TEXT NOT NULL, type INTEGER NOT NULL, id TEXT NOT NULL,
  PRIMARY KEY (patient, base, type, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE pending (
  patient TEXT NOT NULL, base TEXT NOT NULL, type INTEGER NOT NULL, id TEXT NOT NULL, body INTEGER NOT NULL
) STRICT;
CREATE TABLE stale (body INTEGER PRIMARY KEY) STRICT;
CREATE TABLE tombstone (
  type INTEGER NOT NULL, id TEXT NOT NULL, deleted INTEGER NOT NULL, beyond TEXT NOT NULL, patients TEXT,
  PRIMARY KEY (type, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE load (
  source TEXT NOT NULL, file TEXT NOT NULL, version TEXT, progress TEXT NOT NULL, PRIMARY KEY (source, file)
) STRICT, WITHOUT ROWID;
";

/// Opens a store that is there, to read it.
///
/// # Errors
/// When there is none, or the file is something else.
pub(super) fn open_to_read(path: &Path) -> Result<Connection> {
    if !path.is_file() {
        return Err(Error::new(ErrorKind::NotFound, "there is no such store").with("store", path.display()));
    }
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    // A reader of a file in WAL mode writes the index of the WAL, if it may.
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_READ_WRITE)
        .or_else(|_| Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_READ_ONLY))
        .map_err(|error| failed(path, error))?;
    configure(&connection).map_err(|error| failed(path, error))?;
    check(&connection, path)?;
    Ok(connection)
}

/// Opens a store to write to, and makes it if it isn't there.
///
/// # Errors
/// When the file can't be made or is something else.
pub(crate) fn open_to_write(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path).map_err(|error| failed(path, error))?;
    configure(&connection).map_err(|error| failed(path, error))?;
    let is_empty = is_empty(&connection).map_err(|error| failed(path, error))?;
    if is_empty {
        create(&connection).map_err(|error| failed(path, error))?;
    }
    check(&connection, path)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}

fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.execute_batch("PRAGMA journal_mode = WAL; BEGIN IMMEDIATE;")?;
    // Another process may have made it meanwhile.
    if is_empty(connection)? {
        connection.execute_batch(TABLES)?;
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        connection.pragma_update(None, "user_version", FORMAT)?;
    }
    connection.execute_batch("COMMIT")
}

fn check(connection: &Connection, path: &Path) -> Result<()> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let id = pragma("application_id").map_err(|error| failed(path, error))?;
    let format = pragma("user_version").map_err(|error| failed(path, error))?;
    if id != APPLICATION_ID {
        let message = "the file is no store of resources; fhir-export import makes one";
        return Err(Error::new(ErrorKind::InvalidRequest, message).with("store", path.display()));
    }
    if format > FORMAT {
        let message = format!("the store has format {format}, and this version knows {FORMAT}");
        return Err(Error::new(ErrorKind::InvalidRequest, message).with("store", path.display()));
    }
    Ok(())
}

/// The digest of the compartment that the index was made by, if it is whole.
pub(crate) fn indexed_by(connection: &Connection) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT value FROM setting WHERE key = ?1", [INDEXED], |row| row.get(0)).optional()
}

/// An error of SQLite, of the store at this path.
pub(crate) fn failed(path: &Path, error: rusqlite::Error) -> Error {
    let (kind, message) = match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) => (ErrorKind::PermissionDenied, "the store can't be opened"),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            (ErrorKind::PermissionDenied, "the store can't be written to")
        }
        Some(ErrorCode::DiskFull) => (ErrorKind::OutOfSpace, "the disk of the store is full"),
        Some(ErrorCode::NotADatabase) => (ErrorKind::InvalidRequest, "the file is no store of resources"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (ErrorKind::Source, "another process has held the store for too long")
        }
        _ => (ErrorKind::Source, "the store failed"),
    };
    let is_busy = matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked));
    Error::new(kind, message).with("store", path.display()).retryable(is_busy).caused_by(error)
}
