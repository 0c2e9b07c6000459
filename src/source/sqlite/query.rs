//! From what is asked for to queries.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use rusqlite::types::Value;
use rusqlite::{Connection, ToSql, params, params_from_iter};

use super::schema::{MALFORMED, indexed_by};
use super::thread::Session;
use crate::error::Result;
use crate::fhir::{Instant, ResourceType};
use crate::source::{Asked, CohortIds, Plan, Pushdown, Range, Tombstone};

/// Tombstones that are fetched together.
const TOMBSTONES_TOGETHER: usize = 1000;

/// How the rows of one range are found: those of a type, perhaps only chosen ones, within times.
#[derive(Clone, Debug)]
pub(super) struct Query {
    /// The statement; its first parameter is the id behind which it begins.
    pub(super) sql: String,
    /// Its parameters from the second on.
    pub(super) bounds: Vec<Value>,
}

/// Plans what is asked for: a range for each type that is there.
pub(super) fn plan(session: &mut Session, asked: &Asked) -> Result<Plan> {
    let types = types(&session.connection).map_err(|error| session.failed(error))?;
    let types: Vec<(i64, ResourceType)> =
        types.into_iter().filter(|(_, resource_type)| asked.wants_type(resource_type)).collect();
    let digest = indexed_by(&session.connection).map_err(|error| session.failed(error))?;
    let cohort = asked.cohort.as_deref().filter(|cohort| digest.as_deref() == Some(cohort.compartment()));
    let chosen = match (&asked.ids, cohort) {
        (None, None) => None,
        (ids, cohort) => Some(choose(session, &types, ids.as_ref(), cohort).map_err(|error| session.failed(error))?),
    };
    let ranges = types.into_iter().map(|(number, resource_type)| {
        let query = Query::new(number, chosen, asked);
        Range::new(resource_type.as_str()).of_type(resource_type).carrying(query)
    });
    let pushdown = Pushdown { types: true, times: true, cohort: cohort.is_some() };
    Ok(Plan { ranges: ranges.collect(), pushdown, ..Plan::default() })
}

/// The types that are there, in byte order of their names.
fn types(connection: &Connection) -> rusqlite::Result<Vec<(i64, ResourceType)>> {
    let mut statement = connection.prepare_cached(
        "SELECT number, name FROM types t WHERE EXISTS (SELECT 1 FROM resource WHERE type = t.number) ORDER BY name",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    rows.filter_map(|row| row.map(|(number, name)| Some((number, ResourceType::new(&name).ok()?))).transpose())
        .collect()
}

impl Query {
    fn new(number: i64, chosen: Option<u64>, asked: &Asked) -> Self {
        let mut sql = "SELECT r.id, b.bytes FROM ".to_owned();
        if let Some(chosen) = chosen {
            // The order of the joins is fixed: the chosen ones are few.
            let _infallible = write!(sql, "chosen_{chosen} c CROSS JOIN ");
        }
        sql.push_str("resource r CROSS JOIN body b ON b.number = r.body WHERE ");
        let from = if chosen.is_some() {
            "c.type = ?2 AND c.id > ?1 AND r.type = c.type AND r.id = c.id"
        } else {
            "r.type = ?2 AND r.id > ?1"
        };
        sql.push_str(from);
        let mut query = Self { sql, bounds: vec![Value::Integer(number)] };
        query.within(asked);
        let order = if chosen.is_some() { " ORDER BY c.id" } else { " ORDER BY r.id" };
        query.sql.push_str(order);
        query
    }

    /// What isn't an instant is left to the engine.
    fn within(&mut self, asked: &Asked) {
        if let Some(since) = &asked.since {
            let (micros, beyond) = self.bind(since);
            let _infallible = write!(
                self.sql,
                " AND (r.updated IS NULL OR r.updated > {micros} OR (r.updated = {micros} AND r.beyond >= {beyond}))"
            );
        }
        if let Some(until) = &asked.until {
            let (micros, beyond) = self.bind(until);
            let _infallible = write!(
                self.sql,
                " AND (r.beyond = '{MALFORMED}' OR r.updated < {micros} OR (r.updated = {micros} AND r.beyond <= {beyond}))"
            );
        }
    }

    /// The names of the parameters of an instant.
    fn bind(&mut self, instant: &Instant) -> (String, String) {
        let (micros, beyond) = instant.to_micros();
        self.bounds.push(Value::Integer(micros));
        self.bounds.push(Value::Text(beyond));
        let last = self.bounds.len() + 1;
        (format!("?{}", last - 1), format!("?{last}"))
    }

    /// All parameters, for a read behind an id.
    pub(super) fn parameters<'q>(&'q self, after: &'q dyn ToSql) -> impl rusqlite::Params + use<'q> {
        let bounds = self.bounds.iter().map(|bound| bound as &dyn ToSql);
        params_from_iter(std::iter::once(after).chain(bounds).collect::<Vec<_>>())
    }
}

/// Makes a table of the rows that have one of the ids or belong to the cohort, and returns its number.
fn choose(
    session: &mut Session,
    types: &[(i64, ResourceType)],
    ids: Option<&BTreeSet<String>>,
    cohort: Option<&CohortIds>,
) -> rusqlite::Result<u64> {
    session.chosen += 1;
    let (connection, number) = (&session.connection, session.chosen);
    connection.execute_batch(&format!(
        "CREATE TEMP TABLE chosen_{number} (type INTEGER, id TEXT, PRIMARY KEY (type, id)) WITHOUT ROWID;
         CREATE TEMP TABLE wanted_{number} (type INTEGER PRIMARY KEY);"
    ))?;
    let mut want = connection.prepare(&format!("INSERT INTO wanted_{number} VALUES (?1)"))?;
    for (of_type, resource_type) in types {
        let is_by_id = cohort.is_some() && matches!(resource_type.as_str(), "Patient" | "Group");
        if ids.is_some() || !is_by_id {
            want.execute([of_type])?;
        }
    }
    match (ids, cohort) {
        (Some(ids), _) => choose_ids(connection, number, ids)?,
        (None, Some(cohort)) => choose_cohort(connection, number, types, cohort)?,
        (None, None) => {}
    }
    connection.execute_batch(&format!("DROP TABLE wanted_{number}"))?;
    Ok(number)
}

fn choose_ids(connection: &Connection, number: u64, ids: &BTreeSet<String>) -> rusqlite::Result<()> {
    let sql = format!("INSERT INTO chosen_{number} SELECT type, ?1 FROM wanted_{number}");
    let mut statement = connection.prepare(&sql)?;
    ids.iter().try_for_each(|id| statement.execute([id]).map(drop))
}

/// The Patients and Groups of a cohort by their ids, the rest by the compartment index, in one join.
fn choose_cohort(
    connection: &Connection,
    number: u64,
    types: &[(i64, ResourceType)],
    cohort: &CohortIds,
) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("CREATE TEMP TABLE cohort_{number} (patient TEXT PRIMARY KEY) WITHOUT ROWID"))?;
    let mut insert = connection.prepare(&format!("INSERT OR IGNORE INTO cohort_{number} VALUES (?1)"))?;
    cohort.patients().try_for_each(|id| insert.execute([id]).map(drop))?;
    let of_name = |name: &str| types.iter().find(|(_, resource_type)| resource_type.as_str() == name);
    if let Some((patient, _)) = of_name("Patient") {
        let sql = format!("INSERT OR IGNORE INTO chosen_{number} SELECT ?1, patient FROM cohort_{number}");
        connection.execute(&sql, [patient])?;
    }
    if let Some((group, _)) = of_name("Group") {
        let mut insert = connection.prepare(&format!("INSERT OR IGNORE INTO chosen_{number} VALUES (?1, ?2)"))?;
        cohort.groups().iter().try_for_each(|id| insert.execute(params![group, id]).map(drop))?;
    }
    let bases = std::iter::once(String::new()).chain(cohort.base_urls().iter());
    for base in bases {
        let sql = format!(
            "INSERT OR IGNORE INTO chosen_{number} SELECT c.type, c.id FROM cohort_{number} p
             CROSS JOIN compartment c ON c.patient = p.patient AND c.base = ?1
             WHERE c.type IN (SELECT type FROM wanted_{number})"
        );
        connection.execute(&sql, [base])?;
    }
    connection.execute_batch(&format!("DROP TABLE cohort_{number}"))
}

/// Some of what was deleted, behind a key, in byte order of type and id; none: that is all.
pub(super) fn tombstones(
    session: &Session,
    asked: &Asked,
    after: Option<&(ResourceType, String)>,
) -> Result<Vec<Tombstone>> {
    read_tombstones(&session.connection, asked, after).map_err(|error| session.failed(error))
}

fn read_tombstones(
    connection: &Connection,
    asked: &Asked,
    after: Option<&(ResourceType, String)>,
) -> rusqlite::Result<Vec<Tombstone>> {
    let mut statement = connection.prepare_cached(
        "SELECT n.name, t.id, t.deleted, t.beyond, t.patients FROM tombstone t JOIN types n ON n.number = t.type
         WHERE t.deleted >= ?1 AND (n.name, t.id) > (?2, ?3) ORDER BY n.name, t.id LIMIT ?4",
    )?;
    let since = asked.since.as_ref().map_or(i64::MIN, |since| since.to_micros().0);
    let (name, id) = after.map_or(("", ""), |(resource_type, id)| (resource_type.as_str(), id.as_str()));
    let rows = statement.query_map(params![since, name, id, TOMBSTONES_TOGETHER], |row| {
        let beyond: String = row.get(3)?;
        let patients: Option<String> = row.get(4)?;
        let tombstone =
            ResourceType::new(&row.get::<_, String>(0)?).ok().map(|resource_type| (resource_type, row.get(1)));
        let Some((resource_type, id)) = tombstone else { return Ok(None) };
        Ok(Some(Tombstone {
            resource_type,
            id: id?,
            deleted_at: Instant::from_micros(row.get(2)?, &beyond),
            patients: patients.map(|list| list.split_terminator('\n').map(str::to_owned).collect()),
        }))
    })?;
    rows.filter_map(Result::transpose).collect()
}
