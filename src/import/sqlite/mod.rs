//! An SQLite store as the target of a load, and as a small server's own store.

mod store;
mod upsert;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rusqlite::params;

use super::{Batch, FileProgress, Target, Written};
use crate::error::{Error, ErrorKind, Result};
use crate::source::sqlite::schema::{INDEXED, indexed_by, try_journal_mode};
pub use store::{Store, Write};
use upsert::{Outcome, Upsert, When};

/// The pages that a load keeps, in KiB.
const CACHE_KIB: i64 = 256 << 10;

/// A store that a load goes into. The file is made when the load begins, if it isn't there, and removed if nothing comes
/// into it.
#[derive(Debug)]
pub struct SqliteTarget {
    path: PathBuf,
    /// Wanders to a blocking thread and back.
    store: Option<Store>,
    /// The file was made by this load, and nothing was written to it yet.
    is_new: bool,
}

impl SqliteTarget {
    /// Opens the store of a file that is there. Blocks.
    ///
    /// # Errors
    /// When it is something else, or can't be written to. Of one that isn't there, the load tells when it begins.
    pub fn open(path: &Path) -> Result<Self> {
        let is_new = std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        let store = if is_new { None } else { Some(open(path)?) };
        Ok(Self { path: path.to_owned(), store, is_new })
    }

    async fn make(&mut self) -> Result<()> {
        if self.store.is_some() {
            return Ok(());
        }
        let path = self.path.clone();
        self.store =
            Some(tokio::task::spawn_blocking(move || open(&path)).await.map_err(|error| lost().caused_by(error))??);
        Ok(())
    }

    async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut store = self.store.take().ok_or_else(lost)?;
        let work = tokio::task::spawn_blocking(move || {
            let result = work(&mut store).map_err(|error| store.failed(error));
            (store, result)
        });
        let (store, result) = work.await.map_err(|error| lost().caused_by(error))?;
        self.store = Some(store);
        result
    }
}

impl Drop for SqliteTarget {
    /// A file that this load has made and that holds nothing is nobody's store.
    fn drop(&mut self) {
        let Some(store) = self.store.take().filter(|_| self.is_new) else { return };
        let look = "SELECT NOT EXISTS (SELECT 1 FROM resource) AND NOT EXISTS (SELECT 1 FROM load)";
        if store.connection.query_row(look, [], |row| row.get(0)).unwrap_or(false) {
            // What is kept beside it goes with the connection.
            drop(store);
            if let Err(error) = std::fs::remove_file(&self.path) {
                tracing::debug!(%error, "the empty store can't be removed");
            }
        }
    }
}

fn open(path: &Path) -> Result<Store> {
    let store = Store::open(path)?;
    let pragma = store.connection.pragma_update(None, "cache_size", -CACHE_KIB);
    pragma.map_err(|error| store.failed(error))?;
    Ok(store)
}

fn lost() -> Error {
    Error::new(ErrorKind::Internal, "the store was lost with its thread")
}

#[async_trait]
impl Target for SqliteTarget {
    fn name(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    async fn begin(&mut self, source: &str) -> Result<BTreeMap<String, FileProgress>> {
        self.make().await?;
        let source = source.to_owned();
        self.run(move |store| {
            let transaction = store.transaction()?;
            // An index is sorted when all is there, which is far quicker than to keep it sorted.
            let is_empty: bool =
                transaction.query_row("SELECT NOT EXISTS (SELECT 1 FROM resource)", [], |row| row.get(0))?;
            if is_empty {
                transaction.execute("DELETE FROM setting WHERE key = ?1", [INDEXED])?;
            }
            let mut statement = transaction.prepare("SELECT file, progress FROM load WHERE source = ?1")?;
            let rows = statement.query_map([source], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
            let files = rows.collect::<rusqlite::Result<Vec<(String, String)>>>()?;
            drop(statement);
            transaction.commit()?;
            // A batch that is lost with the machine is loaded again. Into an empty store pages are written once and without
            // sums, as a WAL would have it; nobody reads it yet.
            store.connection.execute_batch("PRAGMA synchronous = NORMAL")?;
            if is_empty {
                try_journal_mode(&store.connection, "TRUNCATE");
            }
            // What can't be read is loaded again.
            Ok(files.into_iter().filter_map(|(file, text)| Some((file, serde_json::from_str(&text).ok()?))).collect())
        })
        .await
    }

    async fn write(&mut self, batch: Batch) -> Result<Written> {
        self.run(move |store| {
            let compartment = std::sync::Arc::clone(&store.compartment);
            let transaction = store.transaction()?;
            let mut upsert = Upsert::new(&transaction, &compartment)?;
            let mut rows: Vec<_> = batch.rows().collect();
            // Neighbours in the tables are written together; of one resource the first stays first.
            rows.sort_by(|a, b| {
                let (a, b) = (a.row(), b.row());
                a.resource_type.cmp(b.resource_type).then_with(|| a.id.cmp(b.id))
            });
            let mut written = Written::default();
            for handle in rows {
                match upsert.put(&handle.row(), handle.links(), When::Newer)? {
                    Outcome::Inserted => written.inserted += 1,
                    Outcome::Replaced => written.replaced += 1,
                    Outcome::Kept => written.kept += 1,
                }
            }
            drop(upsert);
            let progress = batch.progress_with(written);
            let text = serde_json::to_string(&progress).unwrap_or_default();
            transaction.execute(
                "INSERT OR REPLACE INTO load VALUES (?1, ?2, ?3, ?4)",
                params![batch.source, batch.file, progress.version, text],
            )?;
            transaction.commit()?;
            Ok(written)
        })
        .await
    }

    async fn finish(&mut self, source: &str) -> Result<()> {
        let source = source.to_owned();
        self.is_new = false;
        self.run(move |store| {
            let digest = store.compartment.digest();
            let transaction = store.transaction()?;
            if indexed_by(&transaction)?.is_none() {
                transaction.execute_batch(
                    "INSERT OR IGNORE INTO compartment
                       SELECT patient, base, type, id FROM pending
                       WHERE body NOT IN (SELECT body FROM stale) ORDER BY patient, base, type, id;
                     DELETE FROM pending; DELETE FROM stale;",
                )?;
                transaction.execute("INSERT INTO setting VALUES (?1, ?2)", params![INDEXED, digest])?;
            }
            transaction.execute("DELETE FROM load WHERE source = ?1", [source])?;
            transaction.commit()?;
            try_journal_mode(&store.connection, "WAL");
            store.connection.execute_batch("PRAGMA wal_checkpoint(PASSIVE); PRAGMA optimize;")
        })
        .await
    }
}
