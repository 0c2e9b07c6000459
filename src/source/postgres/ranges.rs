//! How a scan is cut: into intervals of ids that each fit into memory beside the others.

use std::collections::HashMap;

use super::select::{Interval, Scan};
use super::table::Times;
use crate::error::Result;
use crate::postgres::{Failure, Session};
use crate::source::{Asked, Range};

/// Ids that are looked at for each interval: more make them more even.
const SAMPLES_A_RANGE: u64 = 32;

/// No type is cut into more: the names of all ranges are written to the journal.
const MOST_RANGES: u64 = 20_000;

/// What the server knows of a table's size, without looking at it.
#[derive(Clone, Copy, Debug)]
struct Size {
    bytes: u64,
    rows: u64,
}

/// Sizes of tables, each asked for once: one may hold all types.
#[derive(Debug, Default)]
pub(super) struct Sizes(HashMap<String, Option<Size>>);

impl Sizes {
    async fn of(&mut self, session: &Session, failure: &Failure, relation: &str) -> Result<Option<Size>> {
        if let Some(known) = self.0.get(relation) {
            return Ok(*known);
        }
        let size = size(session, failure, relation).await?;
        self.0.insert(relation.to_owned(), size);
        Ok(size)
    }
}

/// The ranges of a scan, in the order of its ids.
///
/// The same snapshot is cut in the same way each time: what is looked at is chosen by a fixed seed, and what came later
/// isn't seen.
///
/// # Errors
/// When the server can't be asked.
pub(super) async fn ranges(
    session: &Session,
    failure: &Failure,
    scan: &Scan,
    asked: &Asked,
    range_bytes: u64,
    sizes: &mut Sizes,
) -> Result<Vec<Range>> {
    let whole = |size_bytes| vec![range(scan, Interval::default(), size_bytes)];
    let Some(relation) = scan.table.relation.as_ref().filter(|_| !scan.is_picked) else { return Ok(whole(None)) };
    let Some(size) = sizes.of(session, failure, relation).await? else { return Ok(whole(None)) };
    let mut bytes = size.bytes;
    let is_filtered =
        scan.table.condition.is_some() || (asked.since.is_some() && !matches!(scan.table.times, Times::Unknown));
    if is_filtered {
        let thousandths = share_in_thousandths(session, failure, scan, &size).await?;
        bytes = size.bytes / 1000 * thousandths + size.bytes % 1000;
    }
    let count = bytes.div_ceil(range_bytes.max(1)).min(MOST_RANGES);
    if count < 2 || size.rows == 0 {
        return Ok(whole(Some(bytes)));
    }
    let ends = ends(session, failure, scan, count, &size).await?;
    let each = Some(bytes / (ends.len() as u64 + 1));
    let behind = std::iter::once(None).chain(ends.iter().cloned().map(Some));
    let up_to = ends.iter().cloned().map(Some).chain([None]);
    Ok(behind.zip(up_to).map(|(behind, up_to)| range(scan, Interval { behind, up_to }, each)).collect())
}

/// A range that carries how it is read.
pub(super) fn range(scan: &Scan, interval: Interval, size_bytes: Option<u64>) -> Range {
    let name = interval.name(&scan.table.type_name);
    Range::new(name).of_type(scan.table.resource_type.clone()).of_size(size_bytes).carrying((scan.clone(), interval))
}

/// With its partitions, if it has any; `None` for a view.
async fn size(session: &Session, failure: &Failure, relation: &str) -> Result<Option<Size>> {
    let row = session
        .query_opt(
            "SELECT sum(pg_table_size(c.oid))::bigint, sum(greatest(c.reltuples, 0))::bigint, sum(c.relpages)::bigint
             FROM pg_class AS r LEFT JOIN LATERAL pg_partition_tree(r.oid) AS p ON true
             JOIN pg_class AS c ON c.oid = coalesce(p.relid, r.oid)
             WHERE r.oid = to_regclass($1) AND r.relkind IN ('r', 'p', 'm')",
            &[&relation],
        )
        .await
        .map_err(|error| failure.error("the size of a table can't be read", &error))?;
    let Some(row) = row else { return Ok(None) };
    let (bytes, rows, pages): (Option<i64>, Option<i64>, Option<i64>) = (row.get(0), row.get(1), row.get(2));
    let (Some(bytes), Some(rows), Some(pages)) = (bytes, rows, pages) else { return Ok(None) };
    let bytes = bytes.unsigned_abs();
    // A table that was never looked at by the server: take rows of 1 KiB.
    let rows = if pages == 0 { bytes / 1024 } else { rows.unsigned_abs() };
    Ok(Some(Size { bytes, rows }))
}

/// What share of a table's rows the scan takes, as the planner sees it.
async fn share_in_thousandths(session: &Session, failure: &Failure, scan: &Scan, size: &Size) -> Result<u64> {
    let condition = scan.condition(&Interval::default());
    let explain = format!("EXPLAIN (FORMAT JSON) SELECT 1 FROM {} WHERE {condition}", scan.table.from);
    let messages = session
        .simple_query(&explain)
        .await
        .map_err(|error| failure.error(&format!("the table of {} can't be read", scan.table.type_name), &error))?;
    let text: String = messages
        .iter()
        .filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .collect();
    let plan: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let rows = plan.pointer("/0/Plan/Plan Rows").and_then(serde_json::Value::as_u64);
    let all = size.rows.max(1);
    Ok(rows.map_or(1000, |rows| (rows.saturating_mul(1000) / all).min(1000)))
}

/// Ids that end the intervals but for the last, as evenly spread as a sample tells.
async fn ends(session: &Session, failure: &Failure, scan: &Scan, count: u64, size: &Size) -> Result<Vec<String>> {
    let percent = (100.0 * (count * SAMPLES_A_RANGE) as f64 / size.rows.max(1) as f64).clamp(0.000_1, 100.0);
    let (id, from, condition) = (&scan.table.id, &scan.table.from, scan.condition(&Interval::default()));
    let select = format!(
        "SELECT s.id::text FROM (
           SELECT {id} AS id, row_number() OVER (ORDER BY {id}) AS n, count(*) OVER () AS all_of
           FROM {from} TABLESAMPLE SYSTEM ({percent}) REPEATABLE (1) WHERE {condition}
         ) AS s WHERE s.n < s.all_of AND s.n * {count} / s.all_of > (s.n - 1) * {count} / s.all_of ORDER BY s.id"
    );
    let what = format!("the table of {} can't be looked at", scan.table.type_name);
    let rows = session.query(&select, &[]).await.map_err(|error| failure.error(&what, &error))?;
    let mut ends: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    ends.dedup();
    Ok(ends)
}
