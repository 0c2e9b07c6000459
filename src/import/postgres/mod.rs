//! Our own tables in a PostgreSQL database as the target of a load.
//!
//! A batch is copied into a temporary table and moved from there in the same transaction. The index of compartments is
//! built behind the first load. One load at a time has the store: another is refused.

mod encode;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures::SinkExt;
use tokio::time::Instant;

use super::version::Version;
use super::{Batch, FileProgress, RowHandle, Target, Written};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{Address, Failure, Session};
use crate::resource::Compartment;
use crate::source::postgres::schema::{INDEXED, TABLES};
use encode::Rows;

/// How long a load is waited for that has the store: the server may not know yet that its process is gone.
const WAITED_FOR: Duration = Duration::from_secs(10);

/// How often it is asked for meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// Name of the session in `pg_stat_activity`.
const APPLICATION: &str = "fhir-export import";

const LOCK: &str = "SELECT pg_try_advisory_lock(5064679018322)";

/// Tables of loads that aren't finished.
const LOADING: &str = r#"
CREATE TABLE IF NOT EXISTS fhir.load (
  source text NOT NULL, file text NOT NULL, progress text NOT NULL, PRIMARY KEY (source, file)
);
CREATE TABLE IF NOT EXISTS fhir.pending (
  patient text COLLATE "C" NOT NULL, base text COLLATE "C" NOT NULL, type text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL, batch bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS fhir.stale (type text COLLATE "C" NOT NULL, id text COLLATE "C" NOT NULL, batch bigint NOT NULL);
CREATE SEQUENCE IF NOT EXISTS fhir.batch;
DO $$ BEGIN
  ALTER TABLE fhir.resource ALTER COLUMN body SET COMPRESSION lz4;
EXCEPTION WHEN others THEN NULL; -- a server without it
END $$;
CREATE TEMPORARY TABLE fhir_stage (
  type text COLLATE "C" NOT NULL, id text COLLATE "C" NOT NULL, updated bigint, beyond text COLLATE "C" NOT NULL,
  body text NOT NULL, wins boolean NOT NULL
) ON COMMIT DELETE ROWS;
"#;

/// What was deleted later than this version of it stays deleted; what comes again is forgotten to have been deleted.
const BURIED: &str = "
DELETE FROM pg_temp.fhir_stage AS s USING fhir.tombstone AS t
WHERE t.type = s.type AND t.id = s.id AND (s.updated IS NULL OR (t.deleted, t.beyond) >= (s.updated, s.beyond))";
const UNBURIED: &str =
    "DELETE FROM fhir.tombstone AS t USING pg_temp.fhir_stage AS s WHERE t.type = s.type AND t.id = s.id";

/// Versions of the same time that differ: the versionId decides.
const TIES: &str = "
SELECT s.type, s.id, s.body, r.body FROM pg_temp.fhir_stage AS s JOIN fhir.resource AS r USING (type, id)
WHERE (s.updated IS NULL AND r.updated IS NULL OR s.updated = r.updated AND s.beyond = r.beyond) AND s.body <> r.body";

const MOVE: &str = "
INSERT INTO fhir.resource AS r SELECT type, id, updated, beyond, body FROM pg_temp.fhir_stage ORDER BY type, id
ON CONFLICT (type, id) DO UPDATE SET updated = excluded.updated, beyond = excluded.beyond, body = excluded.body
WHERE (excluded.updated IS NOT NULL
       AND (r.updated IS NULL OR (excluded.updated, excluded.beyond) > (r.updated, r.beyond)))
   OR EXISTS (SELECT 1 FROM pg_temp.fhir_stage AS s WHERE s.type = r.type AND s.id = r.id AND s.wins)
RETURNING type, id, xmax = 0";

const BUILD: &str = "
TRUNCATE fhir.compartment;
INSERT INTO fhir.compartment SELECT DISTINCT p.patient, p.base, p.type, p.id FROM fhir.pending AS p
WHERE NOT EXISTS (SELECT 1 FROM fhir.stale AS s WHERE s.type = p.type AND s.id = p.id AND p.batch < s.batch)
ORDER BY 1, 2, 3, 4;
CREATE UNIQUE INDEX IF NOT EXISTS compartment_key ON fhir.compartment (patient, base, type, id);
CREATE INDEX IF NOT EXISTS compartment_of ON fhir.compartment (type, id);
TRUNCATE fhir.pending, fhir.stale;";

/// A database that a load goes into.
pub struct PostgresTarget {
    address: Address,
    failure: Failure,
    session: Option<Session>,
    /// The compartment index is kept up to date; else it is built when the first load ends.
    is_indexed: bool,
}

impl PostgresTarget {
    /// A database: `postgres://user@host:port/database`. A password that isn't in the URI is taken from `password`. It is
    /// connected to when the load begins.
    ///
    /// # Errors
    /// When the URI is none.
    pub fn new(uri: &str, password: Option<&str>) -> Result<Self> {
        let address = Address::parse(uri, &[], password)?;
        let failure = Failure::of(&address, ErrorKind::Store);
        Ok(Self { address, failure, session: None, is_indexed: false })
    }

    fn session(&self) -> Result<&Session> {
        self.session.as_ref().ok_or_else(|| Error::new(ErrorKind::Internal, "the load hasn't begun"))
    }

    fn failed(&self, error: &tokio_postgres::Error) -> Error {
        self.failure.error("the store can't be written to", error)
    }

    async fn run(&self, statement: &str) -> Result<()> {
        self.session()?.batch_execute(statement).await.map_err(|error| self.failed(&error))
    }

    /// Copies rows into a table.
    async fn copy(&self, into: &str, mut rows: Rows) -> Result<()> {
        let statement = format!("COPY {into} FROM STDIN (FORMAT binary)");
        let sink = self.session()?.copy_in(&statement).await.map_err(|error| self.failed(&error))?;
        let mut sink = std::pin::pin!(sink);
        for chunk in rows.finish() {
            sink.send(chunk).await.map_err(|error| self.failed(&error))?;
        }
        sink.finish().await.map(drop).map_err(|error| self.failed(&error))
    }

    async fn write_in_one(&self, batch: &Batch, rows: &BTreeMap<(&str, &str), RowHandle<'_>>) -> Result<Written> {
        let session = self.session()?;
        let failed = |error: tokio_postgres::Error| self.failed(&error);
        let mut staged = Rows::default();
        for handle in rows.values() {
            staged.resource(&handle.row());
        }
        self.copy("pg_temp.fhir_stage", staged).await?;
        session.execute(BURIED, &[]).await.map_err(failed)?;
        session.execute(UNBURIED, &[]).await.map_err(failed)?;
        for tie in session.query(TIES, &[]).await.map_err(failed)? {
            let (new, old): (&str, &str) = (tie.get(2), tie.get(3));
            if Version::of(new.as_bytes()) > Version::of(old.as_bytes()) {
                let wins = "UPDATE pg_temp.fhir_stage SET wins = true WHERE type = $1 AND id = $2";
                session.execute(wins, &[&tie.get::<_, &str>(0), &tie.get::<_, &str>(1)]).await.map_err(failed)?;
            }
        }
        let moved = session.query(MOVE, &[]).await.map_err(failed)?;
        let number: i64 = session.query_one("SELECT nextval('fhir.batch')", &[]).await.map_err(failed)?.get(0);
        let (mut written, mut links, mut replaced) = (Written::default(), Rows::default(), Rows::default());
        let mut replaced_keys: Vec<(&str, &str)> = Vec::new();
        for row in &moved {
            let key: (&str, &str) = (row.get(0), row.get(1));
            if row.get::<_, bool>(2) {
                written.inserted += 1;
            } else {
                written.replaced += 1;
                replaced.texts(&[key.0, key.1], Some(number));
                replaced_keys.push(key);
            }
            for link in rows.get(&key).into_iter().flat_map(RowHandle::links) {
                let batch = (!self.is_indexed).then_some(number);
                links.texts(&[link.patient, link.base, key.0, key.1], batch);
            }
        }
        written.kept = batch.rows().count() as u64 - written.inserted - written.replaced;
        if self.is_indexed {
            for key in replaced_keys {
                let unlink = "DELETE FROM fhir.compartment WHERE type = $1 AND id = $2";
                session.execute(unlink, &[&key.0, &key.1]).await.map_err(failed)?;
            }
            self.copy("fhir.compartment", links).await?;
        } else {
            self.copy("fhir.stale", replaced).await?;
            self.copy("fhir.pending", links).await?;
        }
        let text = serde_json::to_string(&batch.progress_with(written)).unwrap_or_default();
        let note = "INSERT INTO fhir.load VALUES ($1, $2, $3)
                    ON CONFLICT (source, file) DO UPDATE SET progress = excluded.progress";
        session.execute(note, &[&batch.source, &batch.file, &text]).await.map_err(failed)?;
        Ok(written)
    }
}

/// The rows of a batch by key: of one resource the newest version, of equal ones the first.
fn newest(batch: &Batch) -> BTreeMap<(&str, &str), RowHandle<'_>> {
    let mut newest: BTreeMap<(&str, &str), RowHandle<'_>> = BTreeMap::new();
    for handle in batch.rows() {
        let row = handle.row();
        newest
            .entry((row.resource_type.as_str(), row.id))
            .and_modify(|there| {
                let old = there.row();
                let is_newer = row.stamp.is_after(old.stamp)
                    || (!old.stamp.is_after(row.stamp) && Version::of(row.body) > Version::of(old.body));
                if is_newer {
                    *there = handle;
                }
            })
            .or_insert(handle);
    }
    newest
}

#[async_trait]
impl Target for PostgresTarget {
    fn name(&self) -> String {
        self.address.shown().to_owned()
    }

    async fn begin(&mut self, source: &str) -> Result<BTreeMap<String, FileProgress>> {
        let session = Session::open(&self.address, APPLICATION, ErrorKind::Store).await?;
        self.session = Some(session);
        let session = self.session()?;
        let failed = |error| self.failed(&error);
        let end = Instant::now() + WAITED_FOR;
        while !session.query_one(LOCK, &[]).await.map_err(failed)?.get::<_, bool>(0) {
            if Instant::now() >= end {
                return Err(self.failure.own(ErrorKind::Store, "another process loads into this database"));
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.run("SET client_min_messages = warning").await?;
        self.run(TABLES).await?;
        self.run(LOADING).await?;
        // An index is sorted when all is there, which is far quicker than to keep it sorted.
        let unindex = "DELETE FROM fhir.setting WHERE key = $1 AND NOT EXISTS (SELECT 1 FROM fhir.resource)";
        session.execute(unindex, &[&INDEXED]).await.map_err(failed)?;
        let indexed = "SELECT 1 FROM fhir.setting WHERE key = $1";
        let is_indexed = session.query_opt(indexed, &[&INDEXED]).await.map_err(failed)?.is_some();
        let rows = session.query("SELECT file, progress FROM fhir.load WHERE source = $1", &[&source]).await;
        // What can't be read is loaded again.
        let files = rows
            .map_err(failed)?
            .iter()
            .filter_map(|row| Some((row.get(0), serde_json::from_str(row.get(1)).ok()?)))
            .collect();
        self.is_indexed = is_indexed;
        Ok(files)
    }

    async fn write(&mut self, batch: Batch) -> Result<Written> {
        self.run("BEGIN").await?;
        let written = {
            let rows = newest(&batch);
            self.write_in_one(&batch, &rows).await
        };
        match written {
            Ok(written) => self.run("COMMIT").await.map(|()| written),
            Err(error) => {
                // The first error is the one to tell.
                drop(self.run("ROLLBACK").await);
                Err(error)
            }
        }
    }

    async fn finish(&mut self, source: &str) -> Result<()> {
        let session = self.session()?;
        let failed = |error| self.failed(&error);
        self.run("BEGIN").await?;
        if !self.is_indexed {
            self.run(BUILD).await?;
            let note = "INSERT INTO fhir.setting VALUES ($1, $2)";
            session.execute(note, &[&INDEXED, &Compartment::r4_patient().digest()]).await.map_err(failed)?;
        }
        session.execute("DELETE FROM fhir.load WHERE source = $1", &[&source]).await.map_err(failed)?;
        self.run("COMMIT").await?;
        self.run("ANALYZE fhir.resource; ANALYZE fhir.compartment").await
    }
}

impl fmt::Debug for PostgresTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresTarget").field("address", &self.address).finish_non_exhaustive()
    }
}
