//! Jobs in a PostgreSQL database: what several servers share.
//!
//! A job is claimed by a lease. A task of its own renews it, four times before it ends, so that a server that is busy
//! doesn't lose its jobs. Whoever holds a claim counts on it for three quarters of the lease only, by his own clock and
//! from before he asked; the database lets others in after all of it, by its own clock. So nobody goes on with what
//! another may have taken over, however long he was stopped.
//!
//! Each claim has a higher fence than the one before. Every write names its fence and locks the job's row in the same
//! statement, so an entry is either seen by whoever claims the job next, or refused.
//!
//! The jobs of a queue key stand in one line, whichever server has them ([`place_in_line`](JobStore::place_in_line)). A
//! server asks for its own; nobody tells it, because who is told must listen, and who was stopped doesn't.
//!
//! What a lost connection leaves in doubt is written again. Entries have numbers of their own, so none is in twice.

mod claims;
mod connection;
mod line;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::types::{ToSql, Type};

use super::{CancelWish, Claim, JobRecord, JobStore, RECORD_FORMAT, fenced, unknown, wire};
use crate::error::{Error, ErrorKind, Result};
use crate::job::turns::QueueKey;
use crate::postgres::Address;
use crate::request::JobId;
use crate::writer::Entry;
use connection::Connection;

/// How long a claim stands if it isn't renewed.
const LEASE: Duration = Duration::from_secs(60);

/// The parameter of an address that sets it, in seconds.
const LEASE_OPTION: &str = "lease_seconds";

/// A job store in a database, in a schema of its own: `fhir_export`.
///
/// Clones share the connection. When the last is dropped, what was given up is told to the database, for at most two
/// seconds.
#[derive(Clone)]
pub struct PostgresJobStore(Arc<Connection>);

impl PostgresJobStore {
    /// Opens the store of a database, and makes its tables if they aren't there: `postgres://user@host:port/database`.
    /// Blocks.
    ///
    /// A password that isn't in the URI is taken from `password`. `lease_seconds=…` in the URI says how long a claim
    /// stands that isn't renewed, 60 if it doesn't; every server of one database must have the same.
    ///
    /// # Errors
    /// When the URI is none, the database can't be reached or refuses, or its tables are of a newer version.
    pub fn open(uri: &str, password: Option<&str>) -> Result<Self> {
        let address = Address::parse(uri, &[LEASE_OPTION], password)?;
        let lease = match address.option(LEASE_OPTION) {
            None => LEASE,
            Some(text) => {
                text.parse().ok().filter(|seconds| (1..=86_400).contains(seconds)).map(Duration::from_secs).ok_or_else(
                    || {
                        Error::new(ErrorKind::InvalidRequest, "lease_seconds must be a whole number from 1 to 86400")
                            .with("uri", address.shown())
                    },
                )?
            }
        };
        let connection = Arc::new(Connection::new(address, lease)?);
        connection.prepare()?;
        Ok(Self(connection))
    }

    /// Writes under a claim; `None` if it isn't held any more.
    async fn held(&self, claim: &Claim, changed: u64) -> Result<()> {
        if changed > 0 {
            return Ok(());
        }
        match self.get(claim.job()).await? {
            Some(_) => Err(fenced(claim.job())),
            None => Err(unknown(claim.job())),
        }
    }
}

impl fmt::Debug for PostgresJobStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresJobStore").field(self.0.address()).finish()
    }
}

#[async_trait]
impl JobStore for PostgresJobStore {
    async fn create(&self, record: &JobRecord) -> Result<Claim> {
        let (id, submitted, text) = (record.id.to_string(), record.submitted.clone(), wire::encode_record(record)?);
        let asking = self.0.asking()?;
        let (holder, lease) = (asking.holder.clone(), self.0.lease_seconds());
        let held: Option<String> = self
            .0
            .run("a job can't be recorded", move |session| {
                let (id, submitted, text, holder) = (id.clone(), submitted.clone(), text.clone(), holder.clone());
                async move {
                    session
                        .execute_typed(
                            "INSERT INTO fhir_export.jobs (id, format, fence, submitted, record, holder, lease_until)
                             VALUES ($1, $2, 1, $3, $4, $5, clock_timestamp() + make_interval(secs => $6))
                             ON CONFLICT (id) DO NOTHING",
                            &[
                                (&id, Type::TEXT),
                                (&i64::from(RECORD_FORMAT), Type::INT8),
                                (&submitted, Type::TEXT),
                                (&text, Type::TEXT),
                                (&holder, Type::TEXT),
                                (&lease, Type::FLOAT8),
                            ],
                        )
                        .await?;
                    let row = session
                        .query_typed_opt("SELECT holder FROM fhir_export.jobs WHERE id = $1", &[(&id, Type::TEXT)])
                        .await?;
                    Ok(row.and_then(|row| row.get(0)))
                }
            })
            .await?;
        // After a lost connection the row may be there already, and ours.
        if held.as_deref() != Some(asking.holder.as_str()) {
            return Err(Error::new(ErrorKind::AlreadyExists, "there is a job of this id").with("job", &record.id));
        }
        Ok(self.0.claim(&record.id, 1, &asking))
    }

    async fn get(&self, id: &JobId) -> Result<Option<JobRecord>> {
        let id = id.to_string();
        let found = self.0.run("a job can't be read", move |session| {
            let id = id.clone();
            async move {
                let select = "SELECT format, record FROM fhir_export.jobs WHERE id = $1";
                let row = session.query_typed_opt(select, &[(&id, Type::TEXT)]).await?;
                Ok(row.map(|row| (row.get(0), row.get(1))))
            }
        });
        found.await?.map(|(format, text): (i64, String)| record_of(format, &text)).transpose()
    }

    async fn list(&self) -> Result<Vec<JobRecord>> {
        let found = self.0.run("the jobs can't be read", |session| async move {
            let rows = session
                .query_typed("SELECT format, record FROM fhir_export.jobs ORDER BY submitted, number", &[])
                .await?;
            Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect::<Vec<(i64, String)>>())
        });
        found.await?.iter().map(|(format, text)| record_of(*format, text)).collect()
    }

    async fn claim(&self, id: &JobId) -> Result<Option<Claim>> {
        let asking = self.0.asking()?;
        let (text, holder, lease) = (id.to_string(), asking.holder.clone(), self.0.lease_seconds());
        // What was given up here is free, though the database may not have heard of it yet.
        let given_up = self.0.given_up(id);
        let fence = self.0.run("a job can't be claimed", move |session| {
            let (id, holder) = (text.clone(), holder.clone());
            async move {
                let row = session
                    .query_typed_opt(
                        "UPDATE fhir_export.jobs
                         SET fence = CASE WHEN holder = $2 THEN fence ELSE fence + 1 END, holder = $2,
                             lease_until = clock_timestamp() + make_interval(secs => $3),
                             has_turn = has_turn AND lease_until > clock_timestamp() - make_interval(secs => $3)
                         WHERE id = $1 AND (lease_until IS NULL OR lease_until <= clock_timestamp() OR fence = $4
                             OR holder = $2)
                         RETURNING fence",
                        &[(&id, Type::TEXT), (&holder, Type::TEXT), (&lease, Type::FLOAT8), (&given_up, Type::INT8)],
                    )
                    .await?;
                Ok(row.map(|row| row.get::<_, i64>(0)))
            }
        });
        Ok(fence.await?.map(|fence| self.0.claim(id, fence.unsigned_abs(), &asking)))
    }

    async fn is_claimed(&self, id: &JobId) -> Result<bool> {
        let (id, given_up) = (id.to_string(), self.0.given_up(id));
        self.0
            .run("a job can't be read", move |session| {
                let id = id.clone();
                async move {
                    let select = "SELECT count(*) FROM fhir_export.jobs
                                  WHERE id = $1 AND lease_until > clock_timestamp() AND fence <> $2";
                    let held = session.query_typed_one(select, &[(&id, Type::TEXT), (&given_up, Type::INT8)]).await?;
                    Ok(held.get::<_, i64>(0) > 0)
                }
            })
            .await
    }

    async fn update(&self, claim: &Claim, record: &JobRecord) -> Result<()> {
        let (id, fence, text) = (claim.job().to_string(), fence_of(claim), wire::encode_record(record)?);
        // Who is over leaves the line.
        let stays = !record.state.is_terminal();
        let changed = self.0.run("the record of a job can't be written", move |session| {
            let (id, text) = (id.clone(), text.clone());
            async move {
                let update = "UPDATE fhir_export.jobs
                              SET record = $3, has_turn = has_turn AND $4, queue = CASE WHEN $4 THEN queue END
                              WHERE id = $1 AND fence = $2";
                let values: [(&(dyn ToSql + Sync), Type); 4] =
                    [(&id, Type::TEXT), (&fence, Type::INT8), (&text, Type::TEXT), (&stays, Type::BOOL)];
                session.execute_typed(update, &values).await
            }
        });
        self.held(claim, changed.await?).await
    }

    async fn append(&self, claim: &Claim, entry: Entry) -> Result<()> {
        let (id, fence, number) = (claim.job().to_string(), fence_of(claim), self.0.next_number());
        let text = wire::encode(&entry)?;
        let changed = self.0.run("the journal of a job can't be written", move |session| {
            let (id, text) = (id.clone(), text.clone());
            async move {
                // The lock keeps others from claiming the job before the entry can be seen.
                session
                    .query_typed_one(
                        "WITH held AS (SELECT id FROM fhir_export.jobs WHERE id = $1 AND fence = $2 FOR SHARE),
                         added AS (INSERT INTO fhir_export.entries (job, fence, number, entry)
                                   SELECT id, $2, $3, $4 FROM held ON CONFLICT DO NOTHING)
                         SELECT count(*) FROM held",
                        &[(&id, Type::TEXT), (&fence, Type::INT8), (&number, Type::INT8), (&text, Type::TEXT)],
                    )
                    .await
                    .map(|row| row.get::<_, i64>(0).unsigned_abs())
            }
        });
        self.held(claim, changed.await?).await
    }

    async fn entries(&self, id: &JobId) -> Result<Vec<Entry>> {
        let id = id.to_string();
        let found = self.0.run("the journal of a job can't be read", move |session| {
            let id = id.clone();
            async move {
                let select = "SELECT entry FROM fhir_export.entries WHERE job = $1 ORDER BY fence, number";
                let rows = session.query_typed(select, &[(&id, Type::TEXT)]).await?;
                Ok(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>())
            }
        });
        found.await?.iter().map(|text| wire::decode(text)).collect()
    }

    async fn heartbeat(&self, claim: &Claim) -> Result<Option<CancelWish>> {
        let id = claim.job().to_string();
        let found = self.0.run_once("the job store can't be asked", move |session| {
            let id = id.clone();
            async move {
                let select = "SELECT fence, cancel FROM fhir_export.jobs WHERE id = $1";
                let row = session.query_typed_opt(select, &[(&id, Type::TEXT)]).await?;
                Ok(row.map(|row| (row.get(0), row.get(1))))
            }
        });
        let (fence, cancel): (i64, Option<String>) = found.await?.ok_or_else(|| unknown(claim.job()))?;
        if fence != fence_of(claim) || claim.is_lost() {
            return Err(fenced(claim.job()));
        }
        Ok(cancel.map(|text| wire::decode_wish(&text)))
    }

    async fn ask_cancel(&self, id: &JobId, wish: CancelWish) -> Result<()> {
        let text = id.to_string();
        let wish = wire::encode_wish(wish);
        let changed = self.0.run("word of a cancellation can't be left", move |session| {
            let id = text.clone();
            async move {
                let update = "UPDATE fhir_export.jobs SET cancel = $2 WHERE id = $1";
                session.execute_typed(update, &[(&id, Type::TEXT), (&wish, Type::TEXT)]).await
            }
        });
        if changed.await? == 0 { Err(unknown(id)) } else { Ok(()) }
    }

    async fn clear_cancel(&self, claim: &Claim) -> Result<()> {
        let (id, fence) = (claim.job().to_string(), fence_of(claim));
        let changed = self.0.run("word of a cancellation can't be taken back", move |session| {
            let id = id.clone();
            async move {
                let update = "UPDATE fhir_export.jobs SET cancel = NULL WHERE id = $1 AND fence = $2";
                session.execute_typed(update, &[(&id, Type::TEXT), (&fence, Type::INT8)]).await
            }
        });
        self.held(claim, changed.await?).await
    }

    fn keeps_lines(&self) -> bool {
        true
    }

    async fn place_in_line(&self, claim: &Claim, key: &QueueKey, most: NonZeroUsize) -> Result<u64> {
        line::place(&self.0, claim, key, most).await
    }

    async fn remove(&self, claim: Claim) -> Result<()> {
        let (id, fence) = (claim.job().to_string(), fence_of(&claim));
        let removed = self.0.run("a job can't be removed", move |session| {
            let id = id.clone();
            async move {
                let delete = "DELETE FROM fhir_export.jobs WHERE id = $1 AND fence = $2";
                session.execute_typed(delete, &[(&id, Type::TEXT), (&fence, Type::INT8)]).await
            }
        });
        self.held(&claim, removed.await?).await
    }
}

fn fence_of(claim: &Claim) -> i64 {
    i64::try_from(claim.fence()).unwrap_or(i64::MAX)
}

fn record_of(format: i64, text: &str) -> Result<JobRecord> {
    wire::decode_record(u32::try_from(format).unwrap_or(u32::MAX), text)
}
