//! Jobs in an SQLite file: what one machine needs.
//!
//! One thread has the connection. Journal entries that come while it is busy are written in one transaction. The file is
//! in WAL mode, so that other processes can look and leave word while a job runs:
//!
//! - Entries are committed with `synchronous = NORMAL`: they survive the process at once and the machine's failure after
//!   the next checkpoint. A part whose entry is lost is sent again, so a sync for each would buy nothing.
//! - Records of jobs are committed with `synchronous = FULL`, which syncs the entries before them too: a state that was
//!   told to a client is not taken back.
//!
//! A job is claimed with an operating system lock on a file of its own beside the database, which ends with its process
//! however that ends. Network file systems that don't keep such locks are no place for it.

mod locks;

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::sync::oneshot;

use self::locks::Locks;
use super::{CancelWish, Claim, JobRecord, JobStore, RECORD_FORMAT, fenced, unknown, wire};
use crate::error::{Error, ErrorKind, Result};
use crate::request::JobId;
use crate::writer::Entry;

/// Name of the file in the state folder.
const FILE: &str = "jobs.sqlite";

/// Folder of the locks in the state folder.
const LOCKS: &str = "locks";

/// Marks the file as ours: "FHEX".
const APPLICATION_ID: i64 = 0x4648_4558;

/// How long another process is waited for that writes.
const BUSY: Duration = Duration::from_secs(10);

/// Commands that may wait for the connection.
const WAITING_COMMANDS: usize = 1024;

/// Entries that are written in one transaction.
const MOST_TOGETHER: usize = 256;

const TABLES: &str = "
CREATE TABLE jobs (
  id TEXT PRIMARY KEY NOT NULL, format INTEGER NOT NULL, fence INTEGER NOT NULL, submitted TEXT NOT NULL,
  cancel TEXT, record TEXT NOT NULL
) STRICT;
CREATE TABLE entries (
  job TEXT NOT NULL, number INTEGER NOT NULL, entry TEXT NOT NULL, PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;
";

/// A job store in a folder of the local file system: an SQLite file, and a lock file for each job that was ever run.
#[derive(Clone, Debug)]
pub struct SqliteJobStore {
    folder: Arc<Path>,
    locks: Locks,
    commands: mpsc::SyncSender<Command>,
}

enum Command {
    Append { job: String, fence: u64, entry: String, done: oneshot::Sender<Result<()>> },
    Run(Box<dyn FnOnce(&mut Connection) + Send>),
}

impl SqliteJobStore {
    /// Opens the store of a folder, which is made if it isn't there. Blocks.
    ///
    /// # Errors
    /// When the folder can't be made or written to, or the file is damaged, of a newer version, or no store of jobs.
    pub fn open(folder: &Path) -> Result<Self> {
        make_private(folder)?;
        let locks = folder.join(LOCKS);
        make_private(&locks)?;
        let path = folder.join(FILE);
        let mut connection = Connection::open(&path).map_err(|error| failed(&path, error))?;
        prepare(&mut connection, &path)?;
        let (commands, waiting) = mpsc::sync_channel(WAITING_COMMANDS);
        std::thread::Builder::new()
            .name("fhir-export-journal".to_owned())
            .spawn(move || serve(connection, &path, &waiting))
            .map_err(|error| Error::io("the thread of the job store can't be started", error))?;
        Ok(Self { folder: folder.into(), locks: Locks::new(&locks), commands })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// Runs work on the connection.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T> {
        let (done, answer) = oneshot::channel();
        let path = self.path();
        let work = move |connection: &mut Connection| {
            let result = work(connection).map_err(|error| failed(&path, error));
            // Nobody may wait for it any more.
            drop(done.send(result));
        };
        self.send(Command::Run(Box::new(work))).await?;
        answer.await.map_err(|_| thread_gone())?
    }

    async fn send(&self, command: Command) -> Result<()> {
        match self.commands.try_send(command) {
            Ok(()) => Ok(()),
            Err(mpsc::TrySendError::Disconnected(_)) => Err(thread_gone()),
            Err(mpsc::TrySendError::Full(command)) => {
                let commands = self.commands.clone();
                let sent = tokio::task::spawn_blocking(move || commands.send(command)).await;
                sent.ok().and_then(Result::ok).ok_or_else(thread_gone)
            }
        }
    }

    /// Writes under a claim, synced to the disk.
    async fn write(
        &self,
        claim: &Claim,
        work: impl FnOnce(&Transaction<'_>, &str) -> Result<(), rusqlite::Error> + Send + 'static,
    ) -> Result<()> {
        let (id, fence) = (claim.job().to_string(), claim.fence());
        let held = self.run(move |connection| {
            synced(connection, |transaction| {
                let holds = fence_of(transaction, &id)? == Some(fence);
                if holds {
                    work(transaction, &id)?;
                }
                Ok(holds)
            })
        });
        if held.await? { Ok(()) } else { Err(fenced(claim.job())) }
    }
}

#[async_trait]
impl JobStore for SqliteJobStore {
    async fn create(&self, record: &JobRecord) -> Result<Claim> {
        let exists = || Error::new(ErrorKind::AlreadyExists, "there is a job of this id").with("job", &record.id);
        let Some(lock) = self.locks.take(&record.id).await? else { return Err(exists()) };
        let (id, submitted, text) = (record.id.to_string(), record.submitted.clone(), wire::encode_record(record)?);
        let inserted = self.run(move |connection| {
            synced(connection, |transaction| {
                transaction.execute(
                    "INSERT OR IGNORE INTO jobs (id, format, fence, submitted, record) VALUES (?1, ?2, 1, ?3, ?4)",
                    params![id, RECORD_FORMAT, submitted, text],
                )
            })
        });
        if inserted.await? == 0 {
            return Err(exists());
        }
        Ok(Claim::new(record.id.clone(), 1, Arc::new(lock)))
    }

    async fn get(&self, id: &JobId) -> Result<Option<JobRecord>> {
        let id = id.to_string();
        let found = self.run(move |connection| {
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            connection.query_row("SELECT format, record FROM jobs WHERE id = ?1", [id], row).optional()
        });
        found.await?.map(|(format, text): (u32, String)| wire::decode_record(format, &text)).transpose()
    }

    async fn list(&self) -> Result<Vec<JobRecord>> {
        let found = self.run(|connection| {
            let mut rows = connection.prepare("SELECT format, record FROM jobs ORDER BY submitted, rowid")?;
            let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<Result<Vec<(u32, String)>, _>>()
        });
        found.await?.iter().map(|(format, text)| wire::decode_record(*format, text)).collect()
    }

    async fn claim(&self, id: &JobId) -> Result<Option<Claim>> {
        let Some(lock) = self.locks.take(id).await? else { return Ok(None) };
        let text = id.to_string();
        let fence = self.run(move |connection| {
            synced(connection, |transaction| {
                let raise = "UPDATE jobs SET fence = fence + 1 WHERE id = ?1 RETURNING fence";
                transaction.query_row(raise, [text], |row| row.get(0)).optional()
            })
        });
        Ok(fence.await?.map(|fence| Claim::new(id.clone(), fence, Arc::new(lock))))
    }

    async fn is_claimed(&self, id: &JobId) -> Result<bool> {
        self.locks.is_held(id).await
    }

    async fn update(&self, claim: &Claim, record: &JobRecord) -> Result<()> {
        let text = wire::encode_record(record)?;
        self.write(claim, move |transaction, id| {
            transaction.execute("UPDATE jobs SET record = ?2 WHERE id = ?1", params![id, text]).map(drop)
        })
        .await
    }

    async fn append(&self, claim: &Claim, entry: Entry) -> Result<()> {
        let (done, answer) = oneshot::channel();
        let (job, fence, entry) = (claim.job().to_string(), claim.fence(), wire::encode(&entry)?);
        self.send(Command::Append { job, fence, entry, done }).await?;
        answer.await.map_err(|_| thread_gone())?
    }

    async fn entries(&self, id: &JobId) -> Result<Vec<Entry>> {
        let id = id.to_string();
        let found = self.run(move |connection| {
            let mut rows = connection.prepare("SELECT entry FROM entries WHERE job = ?1 ORDER BY number")?;
            let rows = rows.query_map([id], |row| row.get(0))?;
            rows.collect::<Result<Vec<String>, _>>()
        });
        found.await?.iter().map(|text| wire::decode(text)).collect()
    }

    async fn heartbeat(&self, claim: &Claim) -> Result<Option<CancelWish>> {
        let id = claim.job().to_string();
        let found = self.run(move |connection| {
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            connection.query_row("SELECT fence, cancel FROM jobs WHERE id = ?1", [id], row).optional()
        });
        let (fence, cancel): (u64, Option<String>) = found.await?.ok_or_else(|| unknown(claim.job()))?;
        if fence != claim.fence() {
            return Err(fenced(claim.job()));
        }
        Ok(cancel.map(|text| wire::decode_wish(&text)))
    }

    async fn ask_cancel(&self, id: &JobId, wish: CancelWish) -> Result<()> {
        let text = id.to_string();
        let wish = wire::encode_wish(wish);
        let updated = self.run(move |connection| {
            synced(connection, |transaction| {
                transaction.execute("UPDATE jobs SET cancel = ?2 WHERE id = ?1", params![text, wish])
            })
        });
        if updated.await? == 0 { Err(unknown(id)) } else { Ok(()) }
    }

    async fn clear_cancel(&self, claim: &Claim) -> Result<()> {
        self.write(claim, |transaction, id| {
            transaction.execute("UPDATE jobs SET cancel = NULL WHERE id = ?1", [id]).map(drop)
        })
        .await
    }

    async fn remove(&self, claim: Claim) -> Result<()> {
        self.write(&claim, |transaction, id| {
            transaction.execute("DELETE FROM entries WHERE job = ?1", [id])?;
            transaction.execute("DELETE FROM jobs WHERE id = ?1", [id]).map(drop)
        })
        .await?;
        self.locks.remove(claim.job());
        Ok(())
    }
}

/// Makes the file ours, or checks that it is.
fn prepare(connection: &mut Connection, path: &Path) -> Result<()> {
    let failed = |error| failed(path, error);
    connection.busy_timeout(BUSY).map_err(failed)?;
    let number = |connection: &Connection, name: &str| {
        connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(failed)
    };
    // First of all: the rest is set in the same transaction, by another process perhaps.
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    let (application, version) = (number(connection, "application_id")?, number(connection, "user_version")?);
    if tables > 0 && application != APPLICATION_ID {
        return Err(Error::new(ErrorKind::InvalidConfig, "the file is no store of jobs").with("path", path.display()));
    }
    if version > i64::from(RECORD_FORMAT) {
        let message = format!("the job store is of version {version}, this program knows {RECORD_FORMAT}");
        return Err(Error::new(ErrorKind::InvalidConfig, message).with("path", path.display()));
    }
    let mode = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
    mode.map_err(failed)?;
    if tables == 0 {
        synced(connection, |transaction| {
            // Another process may have been quicker.
            let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            if tables == 0 {
                transaction.execute_batch(TABLES)?;
                transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
                transaction.pragma_update(None, "user_version", RECORD_FORMAT)?;
            }
            Ok(())
        })
        .map_err(failed)?;
        return Ok(());
    }
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if found != "ok" {
        return Err(broken(path).with("found", found));
    }
    Ok(())
}

/// Serves commands until nobody can send any more.
fn serve(mut connection: Connection, path: &Path, waiting: &mpsc::Receiver<Command>) {
    let mut next = waiting.recv().ok();
    while let Some(command) = next.take() {
        match command {
            Command::Run(work) => work(&mut connection),
            Command::Append { .. } => {
                let mut together = vec![command];
                while together.len() < MOST_TOGETHER {
                    match waiting.try_recv() {
                        Ok(append @ Command::Append { .. }) => together.push(append),
                        Ok(other) => {
                            next = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                append_all(&mut connection, path, together);
            }
        }
        if next.is_none() {
            next = waiting.recv().ok();
        }
    }
}

/// Writes entries in one transaction and tells each writer whether his is in.
fn append_all(connection: &mut Connection, path: &Path, commands: Vec<Command>) {
    let mut entries = Vec::new();
    let mut answers = Vec::new();
    for command in commands {
        if let Command::Append { job, fence, entry, done } = command {
            entries.push((job, fence, entry));
            answers.push(done);
        }
    }
    match append_in_one(connection, &entries) {
        Ok(held) => {
            for ((done, held), (job, ..)) in answers.into_iter().zip(held).zip(entries) {
                let lost = || JobId::new(&job).map_or_else(Error::from, |id| fenced(&id));
                drop(done.send(if held { Ok(()) } else { Err(lost()) }));
            }
        }
        Err(error) => {
            let text = error.to_string();
            let mut first = Some(error);
            for done in answers {
                let one = first.take().map_or_else(|| failed_again(path, &text), |error| failed(path, error));
                drop(done.send(Err(one)));
            }
        }
    }
}

fn append_in_one(connection: &mut Connection, entries: &[(String, u64, String)]) -> Result<Vec<bool>, rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut held = Vec::with_capacity(entries.len());
    {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO entries (job, number, entry)
             SELECT ?1, coalesce((SELECT max(number) FROM entries WHERE job = ?1), 0) + 1, ?3
             WHERE EXISTS (SELECT 1 FROM jobs WHERE id = ?1 AND fence = ?2)",
        )?;
        for (job, fence, entry) in entries {
            held.push(insert.execute(params![job, fence, entry])? == 1);
        }
    }
    transaction.commit()?;
    Ok(held)
}

/// A transaction that is on the disk when it returns.
fn synced<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, rusqlite::Error>,
) -> Result<T, rusqlite::Error> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    let done = (|| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    })();
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    done
}

fn fence_of(transaction: &Transaction<'_>, id: &str) -> Result<Option<u64>, rusqlite::Error> {
    transaction.query_row("SELECT fence FROM jobs WHERE id = ?1", [id], |row| row.get(0)).optional()
}

/// Makes a folder that only its owner looks into, if it isn't there.
fn make_private(folder: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(folder)
        .map_err(|error| Error::io(format!("the state folder {} can't be made", folder.display()), error))
}

fn failed(path: &Path, error: rusqlite::Error) -> Error {
    let (kind, message, retryable) = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => (ErrorKind::InvalidConfig, "the file is no store of jobs", false),
        Some(ErrorCode::DatabaseCorrupt) => return broken(path).caused_by(error),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (ErrorKind::Store, "another process keeps the job store locked", true)
        }
        Some(ErrorCode::DiskFull) => (ErrorKind::OutOfSpace, "there is no space left for the job store", true),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            (ErrorKind::PermissionDenied, "the job store can't be written to", false)
        }
        _ => (ErrorKind::Store, "the job store failed", false),
    };
    Error::new(kind, message).retryable(retryable).with("path", path.display()).caused_by(error)
}

fn failed_again(path: &Path, text: &str) -> Error {
    Error::new(ErrorKind::Store, "the job store failed").with("path", path.display()).with("because", text)
}

fn broken(path: &Path) -> Error {
    Error::new(ErrorKind::Store, "the job store is damaged: move it away, and its jobs begin again")
        .with("path", path.display())
}

fn thread_gone() -> Error {
    Error::new(ErrorKind::Internal, "the thread of the job store is gone")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::OnCancel;
    use crate::job::store::contract;

    fn store() -> (tempfile::TempDir, SqliteJobStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteJobStore::open(&folder.path().join("state")).unwrap();
        (folder, store)
    }

    #[tokio::test]
    async fn it_keeps_the_contract() {
        let (_folder, store) = store();
        contract::check(&store).await;
    }

    #[tokio::test]
    async fn two_stores_on_one_folder_share_jobs_and_claims() {
        let (_folder, first) = store();
        let second = SqliteJobStore::open(first.folder()).unwrap();
        let record = contract::record("a");
        let claim = first.create(&record).await.unwrap();
        assert!(second.claim(&record.id).await.unwrap().is_none());
        second.ask_cancel(&record.id, CancelWish { on_cancel: Some(OnCancel::Discard) }).await.unwrap();
        assert_eq!(first.heartbeat(&claim).await.unwrap().unwrap().on_cancel, Some(OnCancel::Discard));
        drop(claim);
        assert_eq!(second.claim(&record.id).await.unwrap().unwrap().fence(), 2);
    }

    #[tokio::test]
    async fn what_was_written_is_there_when_the_store_is_opened_again() {
        let (_folder, store) = store();
        let record = contract::record("a");
        let claim = store.create(&record).await.unwrap();
        store.append(&claim, Entry::Plan { ranges: Vec::new() }).await.unwrap();
        let folder = store.folder().to_owned();
        drop((store, claim));
        let again = SqliteJobStore::open(&folder).unwrap();
        assert_eq!(again.list().await.unwrap(), std::slice::from_ref(&record));
        assert_eq!(again.entries(&record.id).await.unwrap().len(), 1);
    }

    #[test]
    fn a_file_that_is_no_store_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        std::fs::write(&path, "something else entirely, and long enough to be looked at").unwrap();
        let error = SqliteJobStore::open(folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error:#}");
        assert!(error.to_string().contains(FILE), "{error}");
        let other = Connection::open(folder.path().join("other")).unwrap();
        other.execute_batch("CREATE TABLE mine (x)").unwrap();
        drop(other);
        std::fs::rename(folder.path().join("other"), &path).unwrap();
        assert_eq!(SqliteJobStore::open(folder.path()).unwrap_err().kind(), ErrorKind::InvalidConfig);
    }

    #[tokio::test]
    async fn a_damaged_file_and_a_newer_one_are_told_by_name() {
        let (_folder, store) = store();
        let claim = store.create(&contract::record("a")).await.unwrap();
        for _ in 0..200 {
            store.append(&claim, Entry::Plan { ranges: vec![("x".repeat(500), None)] }).await.unwrap();
        }
        let (folder, path) = (store.folder().to_owned(), store.path());
        drop((store, claim));
        let connection = Connection::open(&path).unwrap();
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        connection.pragma_update(None, "user_version", RECORD_FORMAT + 1).unwrap();
        let error = SqliteJobStore::open(&folder).unwrap_err();
        assert!(error.message().contains("version 2"), "{error}");
        connection.pragma_update(None, "user_version", RECORD_FORMAT).unwrap();
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        drop(connection);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[8192..40_000].fill(0xAB);
        std::fs::write(&path, bytes).unwrap();
        let error = SqliteJobStore::open(&folder).unwrap_err();
        assert!(error.message().contains("damaged") && error.to_string().contains(FILE), "{error}");
    }
}
