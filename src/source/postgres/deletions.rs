//! What was deleted: the tombstones of our own tables, or the rows that a mapping's flag marks.

use std::collections::BTreeMap;

use futures::TryStreamExt;

use super::snapshot::PostgresSnapshot;
use super::table::{Table, Times};
use crate::error::Result;
use crate::fhir::{Instant, ResourceType};
use crate::postgres::literal;
use crate::source::{Asked, DeletionSink, Tombstone};

const OWN: &str = "SELECT t.id, t.deleted, t.beyond, t.patients FROM fhir.tombstone AS t
 WHERE t.type = $1 AND t.deleted >= $2
   AND NOT EXISTS (SELECT 1 FROM fhir.resource AS r WHERE r.type = t.type AND r.id = t.id) ORDER BY t.id";

/// Reports what was deleted from `since` on, in byte order of type and id.
pub(super) async fn report(snapshot: &PostgresSnapshot, asked: &Asked, sink: &mut dyn DeletionSink) -> Result<()> {
    let Some(since) = &asked.since else { return Ok(()) };
    if snapshot.sessions().settings().mapping.is_none() {
        return report_own(snapshot, asked, since, sink).await;
    }
    for table in snapshot.tables(&Asked { since: None, until: None, ..asked.clone() }).await? {
        report_flagged(snapshot, &table, since, sink).await?;
    }
    Ok(())
}

async fn report_own(
    snapshot: &PostgresSnapshot,
    asked: &Asked,
    since: &Instant,
    sink: &mut dyn DeletionSink,
) -> Result<()> {
    let (sessions, since) = (snapshot.sessions(), since.to_micros().0);
    let failed = |error| sessions.failure.error("the tombstones can't be read", &error);
    let names =
        sessions.keeper.query("SELECT DISTINCT type FROM fhir.tombstone ORDER BY type", &[]).await.map_err(failed)?;
    for name in names {
        let name: String = name.get(0);
        let Ok(resource_type) = ResourceType::new(&name) else { continue };
        if !asked.wants_type(&resource_type) {
            continue;
        }
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&name, &since];
        let rows = sessions.keeper.query_raw(OWN, parameters).await.map_err(failed)?;
        let mut rows = std::pin::pin!(rows);
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            let patients: Option<String> = row.get(3);
            let tombstone = Tombstone {
                resource_type: resource_type.clone(),
                id: row.get(0),
                deleted_at: Instant::from_micros(row.get(1), row.get(2)),
                patients: patients.map(|list| list.split_terminator('\n').map(str::to_owned).collect()),
            };
            sink.deleted(tombstone).await?;
        }
    }
    Ok(())
}

async fn report_flagged(
    snapshot: &PostgresSnapshot,
    table: &Table,
    since: &Instant,
    sink: &mut dyn DeletionSink,
) -> Result<()> {
    let (Some(deleted), Times::Stamp(stamp), Some(resource_type)) =
        (&table.deleted, &table.times, &table.resource_type)
    else {
        return Ok(());
    };
    let sessions = snapshot.sessions();
    let Table { id, from, condition, .. } = table;
    let select = format!(
        "SELECT {id}::text, (extract(epoch FROM {stamp}) * 1000000)::bigint FROM {from}
         WHERE {} AND {deleted} AND {stamp} >= timestamptz {} ORDER BY {id}::text COLLATE \"C\"",
        condition.as_deref().unwrap_or("true"),
        literal(&since.to_string()),
    );
    let what = format!("what was deleted of {} can't be read", table.type_name);
    let failed = |error| sessions.failure.error(&what, &error);
    let links = links(snapshot, table, &select).await?;
    let rows = sessions.keeper.query_raw(&select, std::iter::empty::<&str>()).await.map_err(failed)?;
    let mut rows = std::pin::pin!(rows);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        let id: String = row.get(0);
        // A server may keep the links of what is deleted, or not: no link doesn't mean that there was none.
        let patients = links.get(&id).cloned();
        let deleted_at = Instant::from_micros(row.get(1), "");
        sink.deleted(Tombstone { resource_type: resource_type.clone(), id, deleted_at, patients }).await?;
    }
    Ok(())
}

/// The patients of what was deleted, as far as the compartment table still has them.
async fn links(snapshot: &PostgresSnapshot, table: &Table, deleted: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let Some(compartment) = &table.compartment else { return Ok(BTreeMap::new()) };
    let sessions = snapshot.sessions();
    let select = format!(
        "SELECT {id}::text, {}::text FROM {} WHERE {} AND {id}::text IN (SELECT d.id FROM ({deleted}) AS d (id, at))",
        compartment.patient,
        compartment.from,
        compartment.condition.as_deref().unwrap_or("true"),
        id = compartment.id,
    );
    let rows = sessions.keeper.query(&select, &[]).await;
    let rows =
        rows.map_err(|error| sessions.failure.error("the compartments of what was deleted can't be read", &error))?;
    let mut links: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows {
        links.entry(row.get(0)).or_default().push(row.get(1));
    }
    Ok(links)
}
