//! The thread that has a snapshot's connection.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant as Moment};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::schema::{self, failed, indexed_by};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::Instant;

/// How long a moment is looked for in which nobody writes.
const QUIET_WITHIN: Duration = Duration::from_secs(30);

/// For how long it is looked for without a pause: writers that commit often leave moments that are short.
const EAGER: Duration = Duration::from_secs(2);

/// The pages that a snapshot keeps, in KiB; they lie outside the budget.
const CACHE_KIB: i64 = 64 << 10;

type Work = Box<dyn FnOnce(&mut Session) + Send>;

/// What is found out when a snapshot is opened.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) transaction_time: Instant,
    /// The compartment index is whole.
    pub(super) is_indexed: bool,
}

/// A connection in its read transaction.
pub(super) struct Session {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    /// Tables of chosen rows that were made.
    pub(super) chosen: u64,
}

impl Session {
    pub(super) fn failed(&self, error: rusqlite::Error) -> Error {
        failed(&self.path, error)
    }
}

/// Runs work on the connection of a snapshot, which ends with this.
#[derive(Debug)]
pub(super) struct SnapshotThread {
    work: mpsc::Sender<Work>,
}

impl SnapshotThread {
    /// Starts the thread, and the read transaction in it.
    pub(super) async fn start(path: PathBuf, clock: Arc<dyn Clock>) -> Result<(Self, Opened)> {
        let (work, waiting) = mpsc::channel::<Work>();
        let (tell, opened) = oneshot::channel();
        let serve = move || {
            let (mut session, opened) = match open(path, clock.as_ref()) {
                Ok(opened) => opened,
                Err(error) => return drop(tell.send(Err(error))),
            };
            if tell.send(Ok(opened)).is_ok() {
                waiting.into_iter().for_each(|work| work(&mut session));
            }
        };
        std::thread::Builder::new()
            .name("fhir-export-sqlite".to_owned())
            .spawn(serve)
            .map_err(|error| Error::io("the thread of the snapshot can't be started", error))?;
        let opened = opened.await.map_err(|_| thread_gone())??;
        Ok((Self { work }, opened))
    }

    /// Runs work on the connection and waits for its result.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Session) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (done, result) = oneshot::channel();
        let work: Work = Box::new(move |session| {
            // Of a read that was dropped while it waited nobody wants the rows.
            if !done.is_closed() {
                drop(done.send(work(session)));
            }
        });
        self.work.send(work).map_err(|_| thread_gone())?;
        result.await.map_err(|_| thread_gone())?
    }
}

fn thread_gone() -> Error {
    Error::new(ErrorKind::Internal, "the thread of the snapshot is gone")
}

fn open(path: PathBuf, clock: &dyn Clock) -> Result<(Session, Opened)> {
    let connection = schema::open_to_read(&path)?;
    let failed = |error| failed(&path, error);
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(failed)?;
    let transaction_time = begin(&connection, &path, clock)?;
    let is_indexed = indexed_by(&connection).map_err(failed)?.is_some();
    Ok((Session { connection, path, chosen: 0 }, Opened { transaction_time, is_indexed }))
}

/// Begins the read transaction in a moment in which nobody writes, and tells the time of that moment.
fn begin(connection: &Connection, path: &Path, clock: &dyn Clock) -> Result<Instant> {
    let failed = |error| failed(path, error);
    let start = || connection.execute_batch("BEGIN; SELECT count(*) FROM setting").map_err(failed);
    if connection.is_readonly(rusqlite::MAIN_DB).map_err(failed)? {
        // Who may not write can't tell whether somebody else does.
        let transaction_time = clock.now();
        start()?;
        return Ok(transaction_time);
    }
    let lock = Connection::open(path).map_err(failed)?;
    lock.busy_timeout(Duration::ZERO).map_err(failed)?;
    let since = Moment::now();
    loop {
        match lock.execute_batch("BEGIN IMMEDIATE") {
            Ok(()) => break,
            Err(error) if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) => return Err(failed(error)),
            Err(error) if since.elapsed() > QUIET_WITHIN => return Err(failed(error)),
            Err(_) if since.elapsed() > EAGER => std::thread::sleep(Duration::from_millis(1)),
            Err(_) => std::thread::yield_now(),
        }
    }
    start()?;
    let transaction_time = clock.now();
    lock.execute_batch("ROLLBACK").map_err(failed)?;
    Ok(transaction_time)
}
