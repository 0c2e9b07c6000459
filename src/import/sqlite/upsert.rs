//! One resource into the tables, or out of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::super::batch::Scanner;
use super::super::version::Version;
use super::super::{Link, Row, Stamp};
use crate::fhir::{Instant, ResourceType};
use crate::ledger::TypeTable;
use crate::resource::{Compartment, ScanPlan, Validation};
use crate::source::sqlite::schema::{MALFORMED, indexed_by};

/// When a resource takes the place of the one that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// It is newer.
    Newer,
    /// In any case.
    Always,
}

/// What became of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Inserted,
    Replaced,
    Kept,
}

/// The tables in one transaction.
pub(super) struct Upsert<'c> {
    connection: &'c Connection,
    scanner: Scanner,
    types: BTreeMap<ResourceType, i64>,
    next_body: i64,
    /// The compartment index is kept up to date; else it is built when the first load ends.
    is_indexed: bool,
    has_tombstones: bool,
}

impl fmt::Debug for Upsert<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upsert").field("next_body", &self.next_body).finish_non_exhaustive()
    }
}

/// What is there of a resource.
struct Present {
    updated: Option<i64>,
    beyond: String,
    body: i64,
}

impl<'c> Upsert<'c> {
    pub(super) fn new(connection: &'c Connection, compartment: &Arc<Compartment>) -> rusqlite::Result<Self> {
        let one = |sql: &str| connection.query_row(sql, [], |row| row.get(0));
        let plan = ScanPlan { compartment: Some(Arc::clone(compartment)), validation: Validation::Structure };
        Ok(Self {
            connection,
            scanner: Scanner { plan, types: TypeTable::default(), line_limit_bytes: usize::MAX },
            types: BTreeMap::new(),
            next_body: one("SELECT coalesce(max(number), 0) + 1 FROM body")?,
            is_indexed: indexed_by(connection)?.is_some(),
            has_tombstones: one("SELECT count(*) FROM (SELECT 1 FROM tombstone LIMIT 1)")? > 0,
        })
    }

    /// Writes a resource.
    pub(super) fn put<'l>(
        &mut self,
        row: &Row<'_>,
        links: impl Iterator<Item = Link<'l>>,
        when: When,
    ) -> rusqlite::Result<Outcome> {
        let number = self.type_number(row.resource_type)?;
        let (updated, beyond) = columns(row.stamp);
        if self.has_tombstones && self.is_deleted_since(number, row, updated, &beyond, when)? {
            return Ok(Outcome::Kept);
        }
        let body = self.next_body;
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO resource VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING")?;
        let outcome = if insert.execute(params![number, row.id, updated, beyond, body])? == 1 {
            Outcome::Inserted
        } else {
            let present = self.present(number, row.id)?;
            if when == When::Newer && !self.is_newer(row, (updated, &beyond), &present)? {
                return Ok(Outcome::Kept);
            }
            self.unlink(number, row.id, present.body)?;
            let mut update = self.connection.prepare_cached(
                "UPDATE resource SET updated = ?3, beyond = ?4, body = ?5 WHERE type = ?1 AND id = ?2",
            )?;
            update.execute(params![number, row.id, updated, beyond, body])?;
            Outcome::Replaced
        };
        self.next_body += 1;
        self.connection.prepare_cached("INSERT INTO body VALUES (?1, ?2)")?.execute(params![body, row.body])?;
        for link in links {
            self.link(number, row.id, body, link)?;
        }
        Ok(outcome)
    }

    /// Deletes a resource and tells whether it was there.
    pub(super) fn delete(
        &mut self,
        resource_type: &ResourceType,
        id: &str,
        at: &Instant,
        patients_of: impl FnOnce(&[u8]) -> Option<Vec<(String, String)>>,
    ) -> rusqlite::Result<bool> {
        let number = self.type_number(resource_type)?;
        let sql = "SELECT r.body, b.bytes FROM resource r JOIN body b ON b.number = r.body WHERE type = ?1 AND id = ?2";
        let there = self.connection.prepare_cached(sql)?.query_row(params![number, id], |row| {
            Ok((row.get(0)?, patients_of(row.get_ref(1)?.as_blob().unwrap_or_default())))
        });
        let Some((body, links)) = there.optional()? else { return Ok(false) };
        self.unlink(number, id, body)?;
        self.connection
            .prepare_cached("DELETE FROM resource WHERE type = ?1 AND id = ?2")?
            .execute(params![number, id])?;
        // On which bases a patient is one of ours isn't known here.
        let is_known = |links: &Vec<(String, String)>| links.iter().all(|(_, base)| base.is_empty());
        let patients = links
            .filter(is_known)
            .map(|links| links.iter().fold(String::new(), |list, (patient, _)| list + patient + "\n"));
        let (deleted, beyond) = at.to_micros();
        let sql = "INSERT OR REPLACE INTO tombstone VALUES (?1, ?2, ?3, ?4, ?5)";
        self.connection.prepare_cached(sql)?.execute(params![number, id, deleted, beyond, patients])?;
        self.has_tombstones = true;
        Ok(true)
    }

    fn type_number(&mut self, resource_type: &ResourceType) -> rusqlite::Result<i64> {
        if let Some(number) = self.types.get(resource_type) {
            return Ok(*number);
        }
        let name = resource_type.as_str();
        self.connection.execute("INSERT OR IGNORE INTO types (name) VALUES (?1)", [name])?;
        let number = self.connection.query_row("SELECT number FROM types WHERE name = ?1", [name], |row| row.get(0))?;
        self.types.insert(resource_type.clone(), number);
        Ok(number)
    }

    /// Whether the resource was deleted after this version of it; if not, it is forgotten that it ever was.
    fn is_deleted_since(
        &self,
        number: i64,
        row: &Row<'_>,
        updated: Option<i64>,
        beyond: &str,
        when: When,
    ) -> rusqlite::Result<bool> {
        let sql = "SELECT (?3 IS NULL OR (deleted, beyond) >= (?3, ?4)) FROM tombstone WHERE type = ?1 AND id = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_row(params![number, row.id, updated, beyond], |row| row.get(0));
        match found.optional()? {
            None => return Ok(false),
            Some(true) if when == When::Newer => return Ok(true),
            Some(_) => {}
        }
        let sql = "DELETE FROM tombstone WHERE type = ?1 AND id = ?2";
        self.connection.prepare_cached(sql)?.execute(params![number, row.id])?;
        Ok(false)
    }

    fn present(&self, number: i64, id: &str) -> rusqlite::Result<Present> {
        let sql = "SELECT updated, beyond, body FROM resource WHERE type = ?1 AND id = ?2";
        self.connection.prepare_cached(sql)?.query_row(params![number, id], |row| {
            Ok(Present { updated: row.get(0)?, beyond: row.get(1)?, body: row.get(2)? })
        })
    }

    /// Whether a version is newer than the one that is there: by time, then by `versionId`.
    fn is_newer(&self, row: &Row<'_>, new: (Option<i64>, &str), present: &Present) -> rusqlite::Result<bool> {
        let key = |updated: Option<i64>, beyond: &str| updated.map(|updated| (updated, beyond.to_owned()));
        let (new, old) = (key(new.0, new.1), key(present.updated, &present.beyond));
        if new != old {
            return Ok(new > old);
        }
        let sql = "SELECT bytes FROM body WHERE number = ?1";
        self.connection.prepare_cached(sql)?.query_row([present.body], |found| {
            let old = found.get_ref(0)?.as_blob().unwrap_or_default();
            Ok(old != row.body && Version::of(row.body) > Version::of(old))
        })
    }

    fn link(&self, number: i64, id: &str, body: i64, link: Link<'_>) -> rusqlite::Result<()> {
        let Link { patient, base } = link;
        if self.is_indexed {
            let sql = "INSERT OR IGNORE INTO compartment VALUES (?1, ?2, ?3, ?4)";
            self.connection.prepare_cached(sql)?.execute(params![patient, base, number, id])?;
        } else {
            let sql = "INSERT INTO pending VALUES (?1, ?2, ?3, ?4, ?5)";
            self.connection.prepare_cached(sql)?.execute(params![patient, base, number, id, body])?;
        }
        Ok(())
    }

    /// Removes the body of a version, and it from the index.
    fn unlink(&self, number: i64, id: &str, body: i64) -> rusqlite::Result<()> {
        if self.is_indexed {
            let sql = "SELECT bytes FROM body WHERE number = ?1";
            let scanned = self.connection.prepare_cached(sql)?.query_row([body], |row| {
                let bytes = row.get_ref(0)?.as_blob().unwrap_or_default();
                Ok(self.scanner.lines(bytes.to_vec(), Vec::new()).ok())
            })?;
            for handle in scanned.iter().filter_map(|scanned| scanned.first()) {
                for Link { patient, base } in handle.links() {
                    let sql = "DELETE FROM compartment WHERE patient = ?1 AND base = ?2 AND type = ?3 AND id = ?4";
                    self.connection.prepare_cached(sql)?.execute(params![patient, base, number, id])?;
                }
            }
        } else {
            self.connection.prepare_cached("INSERT OR IGNORE INTO stale VALUES (?1)")?.execute([body])?;
        }
        self.connection.prepare_cached("DELETE FROM body WHERE number = ?1")?.execute([body])?;
        Ok(())
    }
}

fn columns(stamp: &Stamp) -> (Option<i64>, String) {
    match stamp {
        Stamp::At(instant) => {
            let (micros, beyond) = instant.to_micros();
            (Some(micros), beyond)
        }
        Stamp::Unknown { is_malformed: true } => (None, MALFORMED.to_owned()),
        Stamp::Unknown { is_malformed: false } => (None, String::new()),
    }
}
