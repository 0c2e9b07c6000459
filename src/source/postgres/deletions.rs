//! What was deleted: the tombstones of our own tables, or the rows that a mapping's flag marks and its tombstones.
//!
//! All of it is asked of the connection that keeps the snapshot: it is what the ranges see.

use futures::TryStreamExt;
use tokio_postgres::types::{ToSql, Type};

use super::mapping::{TombstoneMapping, has_placeholder, of_type};
use super::snapshot::PostgresSnapshot;
use super::table::{Compartment, IdKind, Table, Times, relation};
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::{Instant, ResourceType};
use crate::postgres::{is_connection_lost, literal};
use crate::source::{Asked, DeletionSink, Tombstone};

const OWN: &str = "SELECT t.id, t.deleted, t.beyond, string_to_array(rtrim(t.patients, E'\\n'), E'\\n')
 FROM fhir.tombstone AS t WHERE t.type = $1 AND t.deleted >= $2
   AND NOT EXISTS (SELECT 1 FROM fhir.resource AS r WHERE r.type = t.type AND r.id = t.id) ORDER BY t.id";

const OWN_TYPES: &str = "SELECT DISTINCT type FROM fhir.tombstone ORDER BY type";

/// Reports what was deleted from `since` on, in byte order of type and id.
pub(super) async fn report(snapshot: &PostgresSnapshot, asked: &Asked, sink: &mut dyn DeletionSink) -> Result<()> {
    let Some(since) = &asked.since else { return Ok(()) };
    let report = Report { snapshot, since };
    if snapshot.sessions().settings().mapping.is_none() {
        return report.own(asked, sink).await;
    }
    let tables = snapshot.tables(&Asked { since: None, until: None, ..asked.clone() }).await;
    let is_lost = snapshot.sessions().keeper.is_closed();
    for table in tables.map_err(|error| if is_lost || error.is_retryable() { lost(error) } else { error })? {
        report.mapped(&table, sink).await?;
    }
    Ok(())
}

struct Report<'s> {
    snapshot: &'s PostgresSnapshot,
    since: &'s Instant,
}

impl Report<'_> {
    async fn own(&self, asked: &Asked, sink: &mut dyn DeletionSink) -> Result<()> {
        let (keeper, since) = (&self.snapshot.sessions().keeper, self.since.to_micros().0);
        let names = keeper.query(OWN_TYPES, &[]).await.map_err(|error| self.failed("the tombstones", &error))?;
        for name in names {
            let name: String = name.get(0);
            let Ok(resource_type) = ResourceType::new(&name) else { continue };
            if asked.wants_type(&resource_type) {
                self.send(&resource_type, OWN, &[&name, &since], sink).await?;
            }
        }
        Ok(())
    }

    async fn mapped(&self, table: &Table, sink: &mut dyn DeletionSink) -> Result<()> {
        let Some(resource_type) = &table.resource_type else { return Ok(()) };
        let mut dead: Vec<String> = self.flagged(table).into_iter().collect();
        if let Some(mapping) = &table.tombstones {
            dead.extend(self.kept(table, mapping).await?);
        }
        if dead.is_empty() {
            return Ok(());
        }
        self.send(resource_type, &with_patients(table, &dead.join(" UNION ALL ")), &[], sink).await
    }

    /// The rows whose flag is set.
    fn flagged(&self, table: &Table) -> Option<String> {
        let (Some(deleted), Times::Stamp(stamp)) = (&table.deleted, &table.times) else { return None };
        let Table { id, from, condition, .. } = table;
        let condition = condition.as_deref().unwrap_or("true");
        let rows = format!(
            "SELECT {id} AS id, ({stamp})::timestamptz AS at, NULL::text[] AS patients
             FROM {from} WHERE {condition} AND {deleted} AND {}",
            self.since_on(stamp),
        );
        Some(dead(table, &rows, table.id_kind))
    }

    /// The rows of the table of tombstones; `None` if this type has no such table.
    async fn kept(&self, table: &Table, mapping: &TombstoneMapping) -> Result<Option<String>> {
        let sessions = self.snapshot.sessions();
        let what = format!("the tombstones of {}", table.type_name);
        let name = relation(&of_type(&mapping.table, &table.type_name));
        if has_placeholder(&mapping.table) {
            let look = sessions.keeper.query_one("SELECT to_regclass($1) IS NOT NULL", &[&name]).await;
            if !look.map_err(|error| self.failed(&what, &error))?.get::<_, bool>(0) {
                return Ok(None);
            }
        }
        let (id, at) = (mapping.id.expression(), mapping.deleted_at.expression());
        let patients = mapping.patients.as_ref().map_or_else(|| "NULL".to_owned(), |column| column.expression());
        let of_type = mapping.type_column.as_ref().map(|column| column.is(&table.type_name));
        let chosen = mapping.condition.as_ref().map(|condition| format!("({condition})"));
        let conditions: Vec<String> = of_type.into_iter().chain(chosen).chain([self.since_on(&at)]).collect();
        let select = format!(
            "SELECT {id} AS id, ({at})::timestamptz AS at, ({patients})::text[] AS patients FROM {name} AS t WHERE {}",
            conditions.join(" AND "),
        );
        let statement = sessions.keeper.prepare(&select).await.map_err(|error| self.failed(&what, &error))?;
        let id_kind = statement.columns().first().map_or(&Type::UNKNOWN, |column| column.type_());
        let Some(id_kind) = IdKind::of(id_kind) else {
            let message = format!("the column id of {what} is of type {id_kind}; it must be text, uuid or an integer");
            return Err(sessions.failure.own(ErrorKind::InvalidConfig, message));
        };
        Ok(Some(dead(table, &select, id_kind)))
    }

    fn since_on(&self, stamp: &str) -> String {
        format!("{stamp} >= timestamptz {} AND isfinite({stamp})", literal(&self.since.to_string()))
    }

    async fn send(
        &self,
        resource_type: &ResourceType,
        select: &str,
        parameters: &[&(dyn ToSql + Sync)],
        sink: &mut dyn DeletionSink,
    ) -> Result<()> {
        let what = format!("what was deleted of {resource_type}");
        let failed = |error| self.failed(&what, &error);
        let keeper = &self.snapshot.sessions().keeper;
        let rows = keeper.query_raw(select, parameters.iter().copied()).await.map_err(failed)?;
        let mut rows = std::pin::pin!(rows);
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            let patients: Option<Vec<Option<String>>> = row.get(3);
            let tombstone = Tombstone {
                resource_type: resource_type.clone(),
                id: row.get(0),
                deleted_at: Instant::from_micros(row.get(1), row.get(2)),
                patients: patients.map(|list| list.into_iter().flatten().collect()),
            };
            sink.deleted(tombstone).await?;
        }
        Ok(())
    }

    fn failed(&self, what: &str, error: &tokio_postgres::Error) -> Error {
        let refusal = self.snapshot.sessions().failure.error(&format!("{what} can't be read"), error);
        if is_connection_lost(error) { lost(refusal) } else { refusal }
    }
}

/// Without its connection the snapshot is gone: the job may go on in another.
fn lost(error: Error) -> Error {
    error.with_kind(ErrorKind::SnapshotLost).retryable(true)
}

/// Those of these rows that aren't there again.
fn dead(table: &Table, rows: &str, id_kind: IdKind) -> String {
    let Table { id, from, condition, .. } = table;
    let is_same = if id_kind == table.id_kind { format!("{id} = d.id") } else { format!("{id}::text = d.id::text") };
    let is_alive = table.is_alive();
    let is_alive = is_alive.as_deref().unwrap_or("true");
    format!(
        "SELECT d.id::text AS id, d.at, d.patients FROM ({rows}) AS d
         WHERE NOT EXISTS (SELECT 1 FROM {from} WHERE {} AND {is_same} AND {is_alive})",
        condition.as_deref().unwrap_or("true"),
    )
}

/// Each once, in the order of ids, with the patients that it names or that the compartment table still has. A server may
/// keep the links of what is deleted, or not: no link doesn't mean that there was none.
fn with_patients(table: &Table, dead: &str) -> String {
    let (patients, links) = match &table.compartment {
        None => ("d.patients", String::new()),
        Some(Compartment { from, patient, id, condition, .. }) => (
            "coalesce(d.patients, l.patients)",
            format!(
                "LEFT JOIN (
                   SELECT {id}::text AS id, array_agg(DISTINCT {patient}::text) AS patients FROM {from}
                   WHERE {} AND {id}::text IN (SELECT dead.id FROM dead) GROUP BY {id}::text
                 ) AS l ON l.id = d.id",
                condition.as_deref().unwrap_or("true"),
            ),
        ),
    };
    format!(
        "WITH dead AS MATERIALIZED ({dead})
         SELECT DISTINCT ON (d.id COLLATE \"C\") d.id, (extract(epoch FROM d.at) * 1000000)::bigint, ''::text, {patients}
         FROM dead AS d {links} ORDER BY d.id COLLATE \"C\", d.at DESC"
    )
}
