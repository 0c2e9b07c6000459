//! A store that is written to one resource at a time.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::super::Link;
use super::super::batch::{Scanned, Scanner};
use super::upsert::{Outcome, Upsert, When};
use crate::clock::{self, Clock};
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::{Instant, ResourceType};
use crate::ledger::TypeTable;
use crate::resource::{Compartment, ScanPlan, Validation};
use crate::source::sqlite::schema::{self, INDEXED};

/// A store of resources in an SQLite file.
///
/// Whoever reads it with [`SqliteSource`](crate::source::SqliteSource) may do so while it is written to. A server that
/// stamps `lastUpdated` itself takes the time from [`Write::now`]: then no export misses what it writes.
pub struct Store {
    pub(super) connection: Connection,
    pub(super) compartment: Arc<Compartment>,
    path: PathBuf,
    clock: Arc<dyn Clock>,
    scanner: Scanner,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store of a file, which is made if it isn't there. Blocks.
    ///
    /// # Errors
    /// When the file can't be made, or is something else.
    pub fn open(path: &Path) -> Result<Self> {
        let mut connection = schema::open_to_write(path)?;
        let compartment = Arc::new(Compartment::r4_patient());
        index_if_empty(&mut connection, &compartment).map_err(|error| schema::failed(path, error))?;
        let plan = ScanPlan { compartment: Some(Arc::clone(&compartment)), validation: Validation::Full };
        let scanner = Scanner { plan, types: TypeTable::default(), line_limit_bytes: usize::MAX };
        Ok(Self { connection, compartment, path: path.to_owned(), clock: clock::system(), scanner })
    }

    /// Takes the time from this clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Writes any number of resources, all or none of them. Blocks, also while another process writes.
    ///
    /// # Errors
    /// When the store can't be written to, or `work` gives an error: then nothing is written.
    pub fn write<T>(&mut self, work: impl FnOnce(&mut Write<'_>) -> Result<T>) -> Result<T> {
        let Self { connection, compartment, path, clock, scanner } = self;
        let failed = |error| schema::failed(path, error);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let mut write = Write {
            upsert: Upsert::new(&transaction, compartment).map_err(failed)?,
            scanner,
            path,
            // Taken when nobody else can write any more.
            now: clock.now(),
        };
        let result = work(&mut write)?;
        drop(write);
        transaction.commit().map_err(failed)?;
        Ok(result)
    }

    pub(super) fn transaction(&mut self) -> rusqlite::Result<Transaction<'_>> {
        self.connection.transaction_with_behavior(TransactionBehavior::Immediate)
    }

    pub(super) fn failed(&self, error: rusqlite::Error) -> Error {
        schema::failed(&self.path, error)
    }
}

/// The index of an empty store is whole.
fn index_if_empty(connection: &mut Connection, compartment: &Compartment) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute(
        "INSERT OR IGNORE INTO setting SELECT ?1, ?2
         WHERE NOT EXISTS (SELECT 1 FROM resource) AND NOT EXISTS (SELECT 1 FROM load)",
        [INDEXED, &compartment.digest()],
    )?;
    transaction.commit()
}

/// What is written together.
#[derive(Debug)]
pub struct Write<'s> {
    upsert: Upsert<'s>,
    scanner: &'s Scanner,
    path: &'s Path,
    now: Instant,
}

impl Write<'_> {
    /// The time of what is written: no export that doesn't hold it has a later transaction time.
    #[must_use]
    pub const fn now(&self) -> &Instant {
        &self.now
    }

    /// Creates or replaces a resource by its body, and tells whether it is new.
    ///
    /// # Errors
    /// When it is no resource with an id, or the store can't be written to.
    pub fn put(&mut self, body: &[u8]) -> Result<bool> {
        let refused = |reason| Error::new(ErrorKind::BadResource, reason);
        let mut scanned = self.scanner.lines(one_line(body), Vec::new())?;
        if let Some(first) = scanned.refused.pop() {
            return Err(refused(first.reason));
        }
        let Some(handle) = scanned.first() else {
            return Err(refused("there is no resource, or not on one line".to_owned()));
        };
        let put = self.upsert.put(&handle.row(), handle.links(), When::Always);
        put.map(|outcome| outcome == Outcome::Inserted).map_err(|error| schema::failed(self.path, error))
    }

    /// Deletes a resource, and notes when and whose it was. Tells whether it was there.
    ///
    /// # Errors
    /// When the store can't be written to.
    pub fn delete(&mut self, resource_type: &ResourceType, id: &str) -> Result<bool> {
        let (scanner, now) = (self.scanner, &self.now);
        let deleted = self.upsert.delete(resource_type, id, now, |body| patients_of(scanner, body));
        deleted.map_err(|error| schema::failed(self.path, error))
    }
}

/// A body in which line ends between tokens are blanks.
fn one_line(body: &[u8]) -> Vec<u8> {
    body.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }).collect()
}

/// The patients in whose compartment a body is, if it can be told.
fn patients_of(scanner: &Scanner, body: &[u8]) -> Option<Vec<(String, String)>> {
    let scanned: Scanned = scanner.lines(body.to_vec(), Vec::new()).ok()?;
    let handle = scanned.first()?;
    let pair = |Link { patient, base }: Link<'_>| (patient.to_owned(), base.to_owned());
    Some(handle.links().map(pair).collect())
}
