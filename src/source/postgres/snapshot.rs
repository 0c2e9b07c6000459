//! A snapshot of a database: planned on the connection that keeps it, read on others.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use tokio::time::Instant;

use super::copy::{CopyReader, Piece};
use super::ranges::{Sizes, range, ranges};
use super::select::{Interval, Scan};
use super::sessions::{Reader, Sessions};
use super::table::{self, Table};
use super::{deletions, schema};
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::Instant as Time;
use crate::postgres::{Failure, is_connection_lost};
use crate::source::{
    AfterTransactionTime, Asked, BlockSink, Cursor, DeletionSink, Plan, Pushdown, Range, RowWriter, Snapshot,
};

/// How often in a row a range is read again without a row coming.
const MOST_TRIES: u32 = 4;

/// The database as of one instant.
#[derive(Debug)]
pub(super) struct PostgresSnapshot {
    sessions: Sessions,
    /// The scans of the last plan, for ranges that were planned before the database was opened again.
    scans: Mutex<Vec<Scan>>,
}

/// Why a copy has stopped.
enum Stop {
    /// The sink or the data: it can't be helped.
    Error(Error),
    /// The server or the way there: it may be tried again.
    Again(Error),
}

impl PostgresSnapshot {
    pub(super) const fn new(sessions: Sessions) -> Self {
        Self { sessions, scans: Mutex::new(Vec::new()) }
    }

    fn failure(&self) -> &Failure {
        &self.sessions.failure
    }

    pub(super) async fn tables(&self, asked: &Asked) -> Result<Vec<Table>> {
        let keeper = &self.sessions.keeper;
        match &self.sessions.settings().mapping {
            Some(mapping) => table::mapped(keeper, self.failure(), mapping, asked).await,
            None => table::own(keeper, self.failure(), asked).await,
        }
    }

    /// Whether the compartment index of our own tables was made by the same compartment as the cohort.
    async fn is_indexed_by(&self, compartment: &str) -> Result<bool> {
        if self.sessions.settings().mapping.is_some() {
            return Ok(true);
        }
        let select = "SELECT value FROM fhir.setting WHERE key = $1";
        let row = self.sessions.keeper.query_opt(select, &[&schema::INDEXED]).await;
        let row = row.map_err(|error| self.failure().error("the settings of the store can't be read", &error))?;
        Ok(row.is_some_and(|row| row.get::<_, &str>(0) == compartment))
    }

    /// Copies the rows of an interval behind an id; `behind` is moved on with each.
    async fn copy(
        &self,
        reader: &Reader,
        scan: &Scan,
        up_to: Option<&String>,
        behind: &mut Vec<u8>,
        rows: &mut RowWriter<'_>,
        line_limit_bytes: usize,
    ) -> Result<(), Stop> {
        let after = std::str::from_utf8(behind).map_err(|_| Stop::Error(not_ours()))?;
        let after = (!after.is_empty()).then(|| after.to_owned());
        let interval = Interval { behind: after, up_to: up_to.cloned() };
        let what = format!("the table of {} can't be read", scan.table.type_name);
        let failed = |error: &tokio_postgres::Error| {
            let refusal = self.failure().error(&what, error);
            if is_connection_lost(error) || refusal.is_retryable() {
                Stop::Again(refusal)
            } else {
                Stop::Error(refusal)
            }
        };
        let begun = Instant::now();
        let chunks =
            reader.1.copy_out(&scan.copy(&interval, line_limit_bytes)).await.map_err(|error| failed(&error))?;
        let mut chunks = std::pin::pin!(chunks);
        let mut copied = CopyReader::default();
        let mut is_first = true;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| failed(&error))?;
            if std::mem::take(&mut is_first) {
                self.sessions.note_latency(begun.elapsed());
            }
            let mut read = copied.rows(&chunk, 3).map_err(Stop::Error)?;
            let mut ended = false;
            while let Some(piece) = read.next().map_err(Stop::Error)? {
                let Piece::Row([id, body, length]) = piece else {
                    ended = true;
                    break;
                };
                let id = id.ok_or_else(|| Stop::Error(without_id(scan)))?;
                let pushed = match length {
                    Some(length) => rows.push_too_long(id, number(length)).await,
                    None => rows.push(id, body.unwrap_or_default()).await,
                };
                pushed.map_err(Stop::Error)?;
                behind.clear();
                behind.extend_from_slice(id);
            }
            let position = read.position();
            if ended {
                copied.end();
            }
            copied.keep(&chunk, position);
        }
        copied.finish().map_err(Stop::Again)
    }
}

#[async_trait]
impl Snapshot for PostgresSnapshot {
    fn transaction_time(&self) -> Time {
        self.sessions.time.clone()
    }

    fn after_transaction_time(&self) -> AfterTransactionTime {
        AfterTransactionTime::Excluded
    }

    async fn plan(&self, asked: &Asked) -> Result<Plan> {
        let tables = self.tables(asked).await?;
        let mut cohort = asked.cohort.clone();
        if let Some(ids) = &cohort
            && !self.is_indexed_by(ids.compartment()).await?
        {
            cohort = None;
        }
        let scans: Vec<Scan> = tables.iter().filter_map(|table| Scan::new(table, asked, cohort.as_deref())).collect();
        // What a server's own columns say may differ from its documents: nothing is promised of them.
        let is_exact = self.sessions.settings().mapping.is_none();
        let pushdown = Pushdown { types: true, times: is_exact, cohort: is_exact && cohort.is_some() };
        self.sessions.plan_for(cohort);
        let range_bytes = self.sessions.settings().range_bytes();
        let (mut all, mut sizes) = (Vec::new(), Sizes::default());
        for scan in &scans {
            let keeper = &self.sessions.keeper;
            all.extend(ranges(keeper, self.failure(), scan, asked, range_bytes, &mut sizes).await?);
        }
        *self.scans.lock().unwrap_or_else(PoisonError::into_inner) = scans;
        Ok(Plan { ranges: all, pushdown, ..Plan::default() })
    }

    fn takes_cohort(&self) -> bool {
        // A standby makes no temporary tables.
        !self.sessions.is_standby()
    }

    fn range(&self, name: &str) -> Option<Range> {
        let (type_name, interval) = Interval::of_name(name)?;
        let scans = self.scans.lock().unwrap_or_else(PoisonError::into_inner);
        let scan = scans.iter().find(|scan| scan.table.type_name == type_name)?;
        Some(range(scan, interval, None))
    }

    fn side_by_side(&self) -> Option<usize> {
        Some(self.sessions.side_by_side())
    }

    async fn deleted(&self, asked: &Asked, sink: &mut dyn DeletionSink) -> Result<()> {
        deletions::report(self, asked, sink).await
    }

    async fn read(&self, range: &Range, from: &Cursor, sink: &mut dyn BlockSink) -> Result<()> {
        let known = range.carried::<(Scan, Interval)>().cloned().or_else(|| {
            let again = self.range(&range.name)?;
            again.carried::<(Scan, Interval)>().cloned()
        });
        let Some((scan, interval)) = known else {
            let message = format!("the range {} isn't one of this database", range.name);
            return Err(self.failure().own(ErrorKind::Source, message));
        };
        let line_limit_bytes = sink.line_limit_bytes();
        let mut rows = RowWriter::new(sink, from);
        let mut behind = from.as_bytes().to_vec();
        if behind.is_empty() {
            behind.extend(interval.behind.iter().flat_map(|id| id.bytes()));
        }
        let (mut tries, mut last) = (0, behind.clone());
        loop {
            let reader = self.sessions.reader().await?;
            let copied =
                self.copy(&reader, &scan, interval.up_to.as_ref(), &mut behind, &mut rows, line_limit_bytes).await;
            match copied {
                Ok(()) => {
                    self.sessions.give_back(reader);
                    return rows.finish().await;
                }
                Err(Stop::Error(error)) => return Err(error.with("range", &range.name)),
                // The connection is in the middle of something, if it is there at all.
                Err(Stop::Again(error)) => {
                    drop(reader);
                    tries = if behind == last { tries + 1 } else { 1 };
                    last.clone_from(&behind);
                    if tries >= MOST_TRIES {
                        return Err(error.with("range", &range.name));
                    }
                    tracing::warn!(
                        range = range.name,
                        error = format!("{error:#}"),
                        "the range is read on from its last row"
                    );
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl PostgresSnapshot {
    pub(super) const fn sessions(&self) -> &Sessions {
        &self.sessions
    }
}

/// A length as it is copied: four bytes, or eight.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

fn not_ours() -> Error {
    Error::new(ErrorKind::SourceChanged, "the cursor isn't one of this database")
}

fn without_id(scan: &Scan) -> Error {
    Error::new(ErrorKind::Source, format!("the table of {} has a row without an id", scan.table.type_name))
}
