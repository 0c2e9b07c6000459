//! Resources in PostgreSQL: our own tables, or those of a FHIR server.
//!
//! - **One instant.** A snapshot is a transaction that only reads, exported once and shared by all connections of a job, so
//!   that ranges are read side by side and see the same. Its time T is explained in the source of `time`.
//! - **Bytes pass through.** Bodies come by binary `COPY` and are handed on as they are; `jsonb` comes as the server writes
//!   it, which is four times slower than text.
//! - **What isn't needed isn't read.** Types, times and cohorts are part of the query. A cohort is a temporary table that is
//!   joined with an index of compartments.
//! - **Courtesy.** Statements have a time limit, an open snapshot has an age limit on a primary, fewer ranges are read side
//!   by side while the server is slow, and sessions are called `fhir-export` in `pg_stat_activity`.
//! - **A lost connection** is made again, and its range goes on behind its last row. If the snapshot is gone with it, as
//!   after a restart of the server, the job goes on time-bounded.
//!
//! Memory outside of the job's budget: for each connection a row as long as the line limit, and 40 bytes a patient of a
//! cohort.
//!
//! # What the role must be allowed to
//! `SELECT` on the tables; `pg_read_all_stats`, so that T needn't lie back; `TEMPORARY` on the database, for Groups.

mod copy;
mod deletions;
mod mapping;
mod ranges;
pub(crate) mod schema;
mod select;
mod sessions;
mod snapshot;
mod table;
mod time;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use mapping::Mapping;

use super::{Snapshot, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{Address, Failure};
use sessions::Sessions;
use snapshot::PostgresSnapshot;

/// Name of the sessions in `pg_stat_activity`.
const APPLICATION: &str = "fhir-export";

/// Parameters of an address that are ours.
const OPTIONS: [&str; 5] = ["mapping", "lag_seconds", "connections", "statement_timeout_seconds", "snapshot_minutes"];

/// The URI of a database with the files that it names as they would be typed in any working directory; any other URI as
/// it is.
pub(super) fn with_absolute_files(uri: &str) -> String {
    let is_file = |name: &str, value: &str| name == "sslrootcert" || (name == "mapping" && !mapping::is_known(value));
    crate::postgres::with_absolute_files(uri, is_file)
}

/// Resources in a PostgreSQL database.
#[derive(Clone, Debug)]
pub struct PostgresSource {
    address: Address,
    settings: Settings,
}

/// How a database is read.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    mapping: Option<Arc<Mapping>>,
    lag: Duration,
    connections: usize,
    statement_timeout: Duration,
    /// `None`: no limit.
    snapshot_age: Option<Duration>,
    /// `None`: what suits the number of connections.
    range_bytes: Option<u64>,
}

impl Settings {
    /// How many bytes of a table make a range: what the default budget has for reading, by twice the ranges that are read
    /// side by side. A query's beginning takes 2 ms, so small ranges cost time.
    fn range_bytes(&self) -> u64 {
        let suitable = (64 << 20) / (2 * self.connections as u64);
        self.range_bytes.unwrap_or(suitable.clamp(8 << 20, 32 << 20))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mapping: None,
            lag: Duration::from_secs(60),
            connections: 2,
            statement_timeout: Duration::from_secs(600),
            snapshot_age: Some(Duration::from_secs(30 * 60)),
            range_bytes: None,
        }
    }
}

impl PostgresSource {
    /// A database: `postgres://user@host:port/database`.
    ///
    /// Nothing is asked yet. A password that isn't in the URI is taken from `password`. Parameters of the URI besides
    /// libpq's: `mapping` (see [`Mapping::load`]), `lag_seconds`, `connections`, `statement_timeout_seconds` and
    /// `snapshot_minutes` (0: no limit) set what the methods of the same names set.
    ///
    /// # Errors
    /// When the URI is none, or a mapping can't be understood.
    pub fn new(uri: &str, password: Option<&str>) -> Result<Self> {
        let address = Address::parse(&with_absolute_files(uri), &OPTIONS, password)?;
        let number = |name: &str| match address.option(name) {
            None => Ok(None),
            Some(text) => text.parse::<u32>().map(Some).map_err(|_| {
                Error::new(ErrorKind::InvalidRequest, format!("{name} must be a whole number"))
                    .with("uri", address.shown())
            }),
        };
        let seconds = |number: u32| Duration::from_secs(number.into());
        let (lag, connections) = (number("lag_seconds")?, number("connections")?);
        let (statement_timeout, snapshot) = (number("statement_timeout_seconds")?, number("snapshot_minutes")?);
        let mapping = address.option("mapping").map(Mapping::load).transpose()?;
        let mut source = Self { address, settings: Settings::default() };
        if let Some(mapping) = mapping {
            source = source.mapping(mapping);
        }
        if let Some(lag) = lag {
            source = source.lag(seconds(lag));
        }
        if let Some(connections) = connections {
            source = source.connections(connections as usize);
        }
        if let Some(timeout) = statement_timeout {
            source = source.statement_timeout(seconds(timeout));
        }
        if let Some(minutes) = snapshot {
            source = source.snapshot_age((minutes > 0).then(|| seconds(minutes) * 60));
        }
        Ok(source)
    }

    /// Sets which tables are read; without a mapping those that `import` fills.
    #[must_use]
    pub fn mapping(mut self, mapping: Mapping) -> Self {
        self.settings.mapping = Some(Arc::new(mapping));
        self
    }

    /// Sets how long a transaction may go on before it writes for the first time, 60 s if it isn't set, and how far T lies
    /// back if it can't be seen which transactions are open.
    #[must_use]
    pub const fn lag(mut self, lag: Duration) -> Self {
        self.settings.lag = lag;
        self
    }

    /// Sets how many ranges are read side by side, each on a connection of its own: 2 if it isn't set, at least 1.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.settings.connections = connections.clamp(1, 64);
        self
    }

    /// Sets how long one statement may take, waiting for the destination included: 10 minutes if it isn't set; zero: no limit.
    #[must_use]
    pub const fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.settings.statement_timeout = timeout;
        self
    }

    /// Sets how old the snapshot of a primary may become, 30 minutes if it isn't set; the job goes on time-bounded then.
    #[must_use]
    pub const fn snapshot_age(mut self, age: Option<Duration>) -> Self {
        self.settings.snapshot_age = age;
        self
    }

    /// Sets how many bytes of a table make a range; if it isn't set, 32 MiB with one connection, 16 MiB with two, 8 MiB with
    /// more.
    #[must_use]
    pub const fn range_bytes(mut self, bytes: u64) -> Self {
        self.settings.range_bytes = Some(bytes);
        self
    }
}

#[async_trait]
impl Source for PostgresSource {
    fn name(&self) -> String {
        self.address.shown().to_owned()
    }

    async fn open(&self) -> Result<Box<dyn Snapshot>> {
        let sessions = Sessions::open(&self.address, &self.settings).await?;
        if self.settings.mapping.is_none() {
            let failure = Failure::of(&self.address, ErrorKind::Source);
            let row = sessions.keeper.query_one(schema::IS_THERE, &[]).await;
            if !row.map_err(|error| failure.error("the tables can't be looked for", &error))?.get::<_, bool>(0) {
                let message =
                    "the database holds no store of resources: import makes one; tables of a server need a mapping";
                return Err(failure.own(ErrorKind::NotFound, message));
            }
        }
        Ok(Box::new(PostgresSnapshot::new(sessions)))
    }
}
