//! The connections of one snapshot: one that keeps it, and those that read.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::SinkExt;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;

use super::{APPLICATION, Settings, time};
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::Instant as Time;
use crate::postgres::{Address, Failure, Session, is_connection_lost, literal};
use crate::source::CohortIds;

/// How long a server is tried that refuses a connection.
const TRIED_FOR: Duration = Duration::from_secs(20);

/// The server waits at least so long for a snapshot that seems to be forgotten.
const LEAST_IDLE: Duration = Duration::from_secs(60);

/// Bytes of the cohort that are sent together.
const SENT_BYTES: usize = 64 << 10;

/// The table of the cohort. Its collation is the default one, which gives way to that of the column that it is joined with:
/// an index of that column can be used.
const COHORT: &str = "CREATE TEMPORARY TABLE fhir_export_cohort (patient text NOT NULL)";

/// What a page costs that is read by an index, against one in sequence, in the server's own reckoning: as on disks that
/// don't turn. With its default of 4 it reads all of a large table for each tenth of it.
const RANDOM_PAGE_COST: &str = "1.1";

/// Queries that take so much longer than the quickest to begin slow the job down.
const SLOWER: u32 = 8;

/// What is always quick enough.
const QUICK: Duration = Duration::from_millis(250);

/// A snapshot of the database and the connections that share it.
pub(super) struct Sessions {
    address: Address,
    pub(super) failure: Failure,
    settings: Settings,
    /// Keeps the snapshot open and plans.
    pub(super) keeper: Session,
    pub(super) time: Time,
    snapshot: String,
    is_standby: bool,
    opened: Instant,
    idle: Mutex<Vec<(usize, Session)>>,
    /// The cohort of the last plan; each plan has a number.
    cohort: Mutex<(usize, Option<Arc<CohortIds>>)>,
    side_by_side: AtomicUsize,
    quickest: Mutex<Duration>,
}

/// A connection that reads, and the number of the plan that it was made for.
pub(super) type Reader = (usize, Session);

impl Sessions {
    /// Takes a snapshot.
    ///
    /// # Errors
    /// When the server can't be reached or refuses.
    pub(super) async fn open(address: &Address, settings: &Settings) -> Result<Self> {
        let failure = Failure::of(address, ErrorKind::Source);
        let keeper = Session::open(address, APPLICATION, ErrorKind::Source).await?;
        let failed = |error| failure.error("the snapshot can't be taken", &error);
        // The server ends it if this process is stopped: an open snapshot keeps a primary from tidying up.
        let most_idle = settings.snapshot_age.map_or(0, |age| (age + age / 2).max(LEAST_IDLE).as_millis());
        let set = format!(
            "SET TimeZone = 'UTC'; SET idle_in_transaction_session_timeout = {most_idle}; SET statement_timeout = {}; \
             SET lock_timeout = '30s'",
            settings.statement_timeout.as_millis()
        );
        keeper.batch_execute(&set).await.map_err(failed)?;
        let (time, is_standby) = time::transaction_time(&keeper, &failure, settings.lag).await?;
        keeper.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(failed)?;
        let snapshot = keeper.query_one("SELECT pg_export_snapshot()", &[]).await.map_err(failed)?.get(0);
        Ok(Self {
            address: address.clone(),
            failure,
            keeper,
            time,
            snapshot,
            is_standby,
            opened: Instant::now(),
            idle: Mutex::default(),
            cohort: Mutex::default(),
            side_by_side: AtomicUsize::new(settings.connections),
            quickest: Mutex::new(Duration::MAX),
            settings: settings.clone(),
        })
    }

    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) const fn is_standby(&self) -> bool {
        self.is_standby
    }

    /// Takes the cohort of a new plan: connections of plans before it are made ready for it when they are used again.
    pub(super) fn plan_for(&self, cohort: Option<Arc<CohortIds>>) {
        let mut current = lock(&self.cohort);
        *current = (current.0 + 1, cohort);
    }

    /// A connection that sees the snapshot.
    ///
    /// # Errors
    /// [`ErrorKind::SnapshotLost`] when there is no snapshot any more; any other when the server can't be reached or
    /// refuses.
    pub(super) async fn reader(&self) -> Result<Reader> {
        self.check()?;
        let (number, cohort) = lock(&self.cohort).clone();
        let idle = lock(&self.idle).pop();
        if let Some((of, session)) = idle
            && !session.is_closed()
        {
            if of == number {
                return Ok((of, session));
            }
            // A connection costs more than all that is done on it here. If it can't be used again, a new one can.
            if self.leave(&session).await.is_ok() && self.enter(&session, cohort.as_deref()).await.is_ok() {
                return Ok((number, session));
            }
        }
        let end = Instant::now() + TRIED_FOR;
        let mut pause = Duration::from_millis(50);
        loop {
            match self.new_reader(cohort.as_deref()).await {
                Ok(session) => return Ok((number, session)),
                Err(error) if error.is_retryable() && Instant::now() < end => {
                    self.slow_down();
                    tracing::debug!(error = format!("{error:#}"), "a connection is tried again");
                }
                Err(error) => return Err(error),
            }
            self.check()?;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Takes a connection back that has nothing left to do.
    pub(super) fn give_back(&self, reader: Reader) {
        if lock(&self.cohort).0 == reader.0 {
            lock(&self.idle).push(reader);
        }
    }

    /// # Errors
    /// When the snapshot is gone, or has become too old.
    fn check(&self) -> Result<()> {
        if self.keeper.is_closed() {
            return Err(self.lost("the connection that kept it is lost"));
        }
        match self.settings.snapshot_age {
            Some(age) if !self.is_standby && self.opened.elapsed() > age => {
                lock(&self.idle).clear();
                Err(self.lost(&format!(
                    "it is older than {} min, which a primary shouldn't be burdened with",
                    age.as_secs() / 60
                )))
            }
            _ => Ok(()),
        }
    }

    fn lost(&self, why: &str) -> Error {
        self.failure
            .own(ErrorKind::SnapshotLost, format!("the snapshot of the database is gone: {why}"))
            .retryable(true)
    }

    async fn new_reader(&self, cohort: Option<&CohortIds>) -> Result<Session> {
        let session = Session::open(&self.address, APPLICATION, ErrorKind::Source).await?;
        let failed = |error| self.failure.error("a connection can't be prepared", &error);
        let set = format!(
            "SET TimeZone = 'UTC'; SET idle_in_transaction_session_timeout = 0; SET statement_timeout = {}; \
             SET lock_timeout = '30s'; SET work_mem = '64MB'; SET max_parallel_workers_per_gather = 0; SET jit = off; \
             SET random_page_cost = {RANDOM_PAGE_COST}",
            self.settings.statement_timeout.as_millis()
        );
        session.batch_execute(&set).await.map_err(failed)?;
        self.enter(&session, cohort).await?;
        Ok(session)
    }

    /// Ends what a connection was in.
    async fn leave(&self, session: &Session) -> Result<()> {
        let left = session.batch_execute("COMMIT; DROP TABLE IF EXISTS pg_temp.fhir_export_cohort").await;
        left.map_err(|error| self.failure.error("a connection can't be used again", &error))
    }

    /// Makes a connection see the snapshot, and the cohort.
    async fn enter(&self, session: &Session, cohort: Option<&CohortIds>) -> Result<()> {
        let of_cohort = |error| self.failure.error("the cohort can't be handed to the database", &error);
        if cohort.is_some() {
            session.batch_execute(COHORT).await.map_err(of_cohort)?;
        }
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
            literal(&self.snapshot)
        );
        session.batch_execute(&begin).await.map_err(|error| match error.code() {
            // A snapshot that nobody keeps any more.
            Some(&SqlState::INVALID_PARAMETER_VALUE | &SqlState::UNDEFINED_OBJECT) => {
                self.lost("the server doesn't know it")
            }
            _ if is_connection_lost(&error) && self.keeper.is_closed() => self.lost("the server was stopped"),
            _ => self.failure.error("a connection can't be prepared", &error),
        })?;
        if let Some(cohort) = cohort {
            fill(session, cohort).await.map_err(of_cohort)?;
        }
        Ok(())
    }

    /// How many ranges may be read side by side just now.
    pub(super) fn side_by_side(&self) -> usize {
        self.side_by_side.load(Ordering::Relaxed)
    }

    /// Notes how long a query has taken to give its first row: a server that is slower than it was is asked for less.
    pub(super) fn note_latency(&self, latency: Duration) {
        let mut quickest = lock(&self.quickest);
        *quickest = latency.min(*quickest);
        if latency > QUICK && latency > *quickest * SLOWER {
            self.slow_down();
        } else {
            let more = |now: usize| (now < self.settings.connections).then_some(now + 1);
            // An error says that it is as many as it can be.
            let _as_many = self.side_by_side.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        }
    }

    fn slow_down(&self) {
        let less = |now: usize| (now > 1).then_some(now / 2);
        if self.side_by_side.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            tracing::info!("the database is slow: fewer ranges are read side by side");
        }
    }
}

/// Fills the table of the cohort. What was written before the transaction began its snapshot doesn't hold; a transaction
/// that only reads makes no tables, but writes to temporary ones.
async fn fill(session: &Session, cohort: &CohortIds) -> Result<(), tokio_postgres::Error> {
    let sink = session.copy_in("COPY pg_temp.fhir_export_cohort FROM STDIN (FORMAT text)").await?;
    let mut sink = std::pin::pin!(sink);
    let mut lines = BytesMut::with_capacity(SENT_BYTES + 1024);
    for patient in cohort.patients() {
        for byte in patient.bytes() {
            match byte {
                b'\\' => lines.extend_from_slice(b"\\\\"),
                b'\t' => lines.extend_from_slice(b"\\t"),
                b'\r' => lines.extend_from_slice(b"\\r"),
                _ => lines.extend_from_slice(&[byte]),
            }
        }
        lines.extend_from_slice(b"\n");
        if lines.len() >= SENT_BYTES {
            sink.send(lines.split().freeze()).await?;
        }
    }
    if !lines.is_empty() {
        sink.send(Bytes::from(lines)).await?;
    }
    sink.finish().await?;
    session.batch_execute("ANALYZE pg_temp.fhir_export_cohort").await
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("address", &self.address).field("time", &self.time).finish_non_exhaustive()
    }
}
