//! The connection, on a thread of its own, made again when it is lost.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{Address, Failure, Session, is_connection_lost};

/// How long something is tried again while the connection is lost: a restart of the database takes some seconds.
const TRIED_FOR: Duration = Duration::from_secs(15);

/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(30);

/// How long giving up claims may hold up the end of the process.
const FAREWELL: Duration = Duration::from_secs(2);

/// Name of the sessions in `pg_stat_activity`.
const APPLICATION: &str = "fhir-export jobs";

/// Version of the tables.
const TABLES_VERSION: i64 = 2;

/// Makes the tables, or brings those of an older version up to this one. Two servers that start together do so one after
/// the other.
const TABLES: &str = "
BEGIN;
SELECT pg_advisory_xact_lock(5064679018321);
CREATE SCHEMA IF NOT EXISTS fhir_export;
CREATE TABLE IF NOT EXISTS fhir_export.jobs (
  id text PRIMARY KEY, number bigint GENERATED ALWAYS AS IDENTITY, format bigint NOT NULL, fence bigint NOT NULL,
  submitted text NOT NULL, cancel text, holder text, lease_until timestamptz, record text NOT NULL
);
CREATE TABLE IF NOT EXISTS fhir_export.entries (
  job text NOT NULL REFERENCES fhir_export.jobs ON DELETE CASCADE, fence bigint NOT NULL, number bigint NOT NULL,
  entry text NOT NULL, PRIMARY KEY (job, fence, number)
);
CREATE TABLE IF NOT EXISTS fhir_export.jobs_version (version bigint PRIMARY KEY);
INSERT INTO fhir_export.jobs_version SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM fhir_export.jobs_version);
ALTER TABLE fhir_export.jobs ADD COLUMN IF NOT EXISTS queue text,
  ADD COLUMN IF NOT EXISTS has_turn boolean NOT NULL DEFAULT false;
CREATE INDEX IF NOT EXISTS jobs_in_line ON fhir_export.jobs (queue, number) WHERE queue IS NOT NULL;
UPDATE fhir_export.jobs_version SET version = 2;
COMMIT;
";

/// A connection for as long as the store lives.
pub(super) struct Connection {
    pub(super) inner: Arc<Inner>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What the thread and its tasks share.
pub(super) struct Inner {
    address: Address,
    failure: Failure,
    pub(super) lease: Duration,
    runtime: Handle,
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
    pub(super) tasks: TaskTracker,
    /// Ends renewals.
    pub(super) closing: CancellationToken,
    numbers: AtomicI64,
    /// The fence of each job that was given up here last.
    pub(super) given_up: Mutex<BTreeMap<String, u64>>,
}

impl Connection {
    pub(super) fn new(address: Address, lease: Duration) -> Result<Self> {
        let failed = |error| Error::io("the thread of the job store can't be started", error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let failure = Failure::of(&address, ErrorKind::Store);
        let inner = Arc::new(Inner {
            address,
            failure,
            lease,
            runtime: runtime.handle().clone(),
            session: tokio::sync::Mutex::new(None),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            numbers: AtomicI64::new(0),
            given_up: Mutex::default(),
        });
        let (closing, tasks) = (inner.closing.clone(), inner.tasks.clone());
        let thread = std::thread::Builder::new().name("fhir-export-jobs".to_owned()).spawn(move || {
            runtime.block_on(async {
                closing.cancelled().await;
                tasks.close();
                drop(tokio::time::timeout(FAREWELL, tasks.wait()).await);
            });
            runtime.shutdown_background();
        });
        Ok(Self { inner, thread: Some(thread.map_err(failed)?) })
    }

    pub(super) fn address(&self) -> &Address {
        &self.inner.address
    }

    pub(super) fn lease_seconds(&self) -> f64 {
        self.inner.lease.as_secs_f64()
    }

    /// The number of the next entry: higher than those before it under the same claim.
    pub(super) fn next_number(&self) -> i64 {
        self.inner.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes the tables, or checks them. Blocks.
    pub(super) fn prepare(&self) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        let (done, answer) = std::sync::mpsc::channel();
        drop(self.inner.spawn(async move {
            // Nobody may wait for it any more.
            drop(done.send(inner.prepare().await));
        }));
        answer.recv().unwrap_or_else(|_| Err(thread_gone()))
    }

    /// Runs work, again if the connection is lost over it. It must come to the same if it is done twice.
    pub(super) async fn run<T, F>(
        &self,
        what: &'static str,
        work: impl Fn(Arc<Session>) -> F + Send + Sync + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, tokio_postgres::Error>> + Send,
    {
        self.on_thread(what, TRIED_FOR, work).await
    }

    /// Runs work once.
    pub(super) async fn run_once<T, F>(
        &self,
        what: &'static str,
        work: impl Fn(Arc<Session>) -> F + Send + Sync + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, tokio_postgres::Error>> + Send,
    {
        self.on_thread(what, Duration::ZERO, work).await
    }

    async fn on_thread<T, F>(
        &self,
        what: &'static str,
        tried_for: Duration,
        work: impl Fn(Arc<Session>) -> F + Send + Sync + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, tokio_postgres::Error>> + Send,
    {
        let inner = Arc::clone(&self.inner);
        let running = self.inner.spawn(async move { inner.run(what, tried_for, work).await });
        running.await.unwrap_or_else(|_| Err(thread_gone()))
    }
}

impl Inner {
    async fn prepare(&self) -> Result<()> {
        let version = self.run("the tables of the job store can't be made", Duration::ZERO, |session| async move {
            let is_there: bool =
                session.query_one("SELECT to_regclass('fhir_export.jobs_version') IS NOT NULL", &[]).await?.get(0);
            let select = "SELECT max(version) FROM fhir_export.jobs_version";
            if is_there {
                let version: Option<i64> = session.query_one(select, &[]).await?.get(0);
                if version.is_some_and(|version| version >= TABLES_VERSION) {
                    return Ok(version);
                }
            }
            session.batch_execute(TABLES).await?;
            Ok(session.query_one(select, &[]).await?.get(0))
        });
        match version.await? {
            Some(version) if version > TABLES_VERSION => {
                let message = format!("the job store is of version {version}, this program knows {TABLES_VERSION}");
                Err(self.failure.own(ErrorKind::InvalidConfig, message))
            }
            _ => Ok(()),
        }
    }

    /// Runs a future on the thread.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.tasks.spawn_on(future, &self.runtime)
    }

    pub(super) async fn run<T, F>(
        &self,
        what: &str,
        tried_for: Duration,
        work: impl Fn(Arc<Session>) -> F + Send + Sync,
    ) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T, tokio_postgres::Error>> + Send,
    {
        let end = Instant::now() + tried_for;
        let mut pause = Duration::from_millis(50);
        loop {
            let failed = match self.attempt(what, &work).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if !failed.is_retryable() || Instant::now() + pause > end {
                return Err(failed);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    async fn attempt<T, F>(&self, what: &str, work: &(impl Fn(Arc<Session>) -> F + Sync)) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T, tokio_postgres::Error>> + Send,
    {
        let session = self.session().await?;
        match tokio::time::timeout(ANSWER, work(Arc::clone(&session))).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                if is_connection_lost(&error) {
                    self.forget(&session).await;
                }
                Err(self.failure.error(what, &error))
            }
            Err(_) => {
                self.forget(&session).await;
                let message = format!("{what}: the database hasn't answered for {} s", ANSWER.as_secs());
                Err(self.failure.own(ErrorKind::Store, message).retryable(true))
            }
        }
    }

    async fn session(&self) -> Result<Arc<Session>> {
        let mut session = self.session.lock().await;
        match session.as_ref().filter(|session| !session.is_closed()) {
            Some(session) => Ok(Arc::clone(session)),
            None => {
                let opened = Arc::new(Session::open(&self.address, APPLICATION, ErrorKind::Store).await?);
                *session = Some(Arc::clone(&opened));
                Ok(opened)
            }
        }
    }

    async fn forget(&self, lost: &Arc<Session>) {
        let mut session = self.session.lock().await;
        if session.as_ref().is_some_and(|session| Arc::ptr_eq(session, lost)) {
            *session = None;
        }
    }

    pub(super) fn given_up(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.inner.closing.cancel();
        if let Some(thread) = self.thread.take() {
            // It ends soon, and has nothing to say.
            drop(thread.join());
        }
    }
}

fn thread_gone() -> Error {
    Error::new(ErrorKind::Internal, "the thread of the job store has ended")
}
