//! Where the resources of one type are: a mapping applied to the database that is there.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::types::Type;

use super::mapping::{Column, Mapping, TableMapping, TombstoneMapping, has_placeholder, of_type};
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::ResourceType;
use crate::postgres::{Failure, Session, identifier, literal};
use crate::source::Asked;

/// The resources of one type.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// As the database has it.
    pub(super) type_name: String,
    pub(super) resource_type: Option<ResourceType>,
    /// What is read, under the name `t`.
    pub(super) from: String,
    /// Its name, if it is a table and no query.
    pub(super) relation: Option<String>,
    /// What picks out the type.
    pub(super) condition: Option<String>,
    pub(super) id: String,
    pub(super) id_kind: IdKind,
    pub(super) body: String,
    pub(super) body_kind: BodyKind,
    pub(super) times: Times,
    pub(super) deleted: Option<String>,
    pub(super) compartment: Option<Compartment>,
    pub(super) tombstones: Option<TombstoneMapping>,
}

/// What ids can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdKind {
    Text,
    Uuid,
    Integer,
}

/// How bodies are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyKind {
    /// Text or bytes, whose length is known before they are unpacked.
    Plain,
    /// json and jsonb, which the server turns into text.
    Json,
}

/// How the time of the last update is kept.
#[derive(Clone, Debug)]
pub(super) enum Times {
    /// It isn't.
    Unknown,
    /// As a timestamp, which may differ from what the document says by less than a second.
    Stamp(String),
    /// As in our own tables: exactly.
    Exact,
}

/// Who is in whose compartment.
#[derive(Clone, Debug)]
pub(super) struct Compartment {
    pub(super) from: String,
    pub(super) patient: String,
    pub(super) patient_kind: IdKind,
    pub(super) id: String,
    pub(super) condition: Option<String>,
    /// Whether it tells on which base a link is.
    pub(super) has_base: bool,
}

impl Table {
    /// That a row isn't marked as deleted, if rows can be. The server knows how often this is so, which it does not of
    /// coalesce().
    pub(super) fn is_alive(&self) -> Option<String> {
        self.deleted.as_ref().map(|deleted| format!("({deleted}) IS NOT TRUE"))
    }
}

impl IdKind {
    pub(super) fn of(of_type: &Type) -> Option<Self> {
        match *of_type {
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME => Some(Self::Text),
            Type::UUID => Some(Self::Uuid),
            Type::INT2 | Type::INT4 | Type::INT8 => Some(Self::Integer),
            _ => None,
        }
    }

    /// Whether a text can be such an id: the server would refuse to compare it.
    pub(super) fn takes(self, id: &str) -> bool {
        match self {
            Self::Text => true,
            Self::Uuid => {
                id.len() == 36
                    && id.bytes().zip(0..).all(|(byte, place)| match place {
                        8 | 13 | 18 | 23 => byte == b'-',
                        _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
                    })
            }
            Self::Integer => id.len() <= 18 && !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()),
        }
    }

    /// The patients of the cohort's table that can be such ids, as a query with a column `patient`.
    pub(super) const fn cohort(self) -> &'static str {
        match self {
            Self::Text => "SELECT patient FROM pg_temp.fhir_export_cohort",
            Self::Uuid => {
                "SELECT patient::uuid AS patient FROM pg_temp.fhir_export_cohort \
                 WHERE patient ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'"
            }
            Self::Integer => {
                "SELECT patient::bigint AS patient FROM pg_temp.fhir_export_cohort WHERE patient ~ '^[0-9]{1,18}$'"
            }
        }
    }
}

impl Column {
    pub(super) fn expression(&self) -> String {
        match self {
            Self::Name(name) => format!("t.{}", identifier(name)),
            Self::Sql(sql) => format!("({})", sql.sql),
        }
    }

    /// That it names a type.
    pub(super) fn is(&self, type_name: &str) -> String {
        format!("{}::text = {}", self.expression(), literal(type_name))
    }
}

/// A name, perhaps with a schema before it.
pub(super) fn relation(name: &str) -> String {
    match name.split_once('.') {
        Some((schema, name)) => format!("{}.{}", identifier(schema), identifier(name)),
        None => identifier(name),
    }
}

/// The tables of our own, a type each.
///
/// # Errors
/// When they can't be read.
pub(super) async fn own(session: &Session, failure: &Failure, asked: &Asked) -> Result<Vec<Table>> {
    let names = distinct(session, failure, "fhir.resource AS t", "t.type").await?;
    Ok(wanted(names, asked)
        .map(|(type_name, resource_type)| Table {
            from: "fhir.resource AS t".to_owned(),
            relation: Some("fhir.resource".to_owned()),
            condition: Some(format!("t.type = {}", literal(&type_name))),
            id: "t.id".to_owned(),
            id_kind: IdKind::Text,
            body: "t.body".to_owned(),
            body_kind: BodyKind::Plain,
            times: Times::Exact,
            deleted: None,
            compartment: Some(Compartment {
                from: "fhir.compartment AS t".to_owned(),
                patient: "t.patient".to_owned(),
                patient_kind: IdKind::Text,
                id: "t.id".to_owned(),
                condition: Some(format!("t.type = {}", literal(&type_name))),
                has_base: true,
            }),
            tombstones: None,
            type_name,
            resource_type,
        })
        .collect())
}

fn wanted(names: BTreeSet<String>, asked: &Asked) -> impl Iterator<Item = (String, Option<ResourceType>)> + '_ {
    let with_type = |name: String| {
        let resource_type = ResourceType::new(&name).ok();
        (name, resource_type)
    };
    names
        .into_iter()
        .map(with_type)
        .filter(|(_, resource_type)| resource_type.as_ref().is_none_or(|resource_type| asked.wants_type(resource_type)))
}

/// The tables of a mapping, in byte order of their types.
///
/// # Errors
/// When one isn't there, or has not the columns that it should have.
pub(super) async fn mapped(
    session: &Session,
    failure: &Failure,
    mapping: &Mapping,
    asked: &Asked,
) -> Result<Vec<Table>> {
    let mut tables = BTreeMap::new();
    for mapping in &mapping.tables {
        for (type_name, resource_type) in wanted(types_of(session, failure, mapping).await?, asked) {
            let table = table(session, failure, mapping, &type_name, resource_type).await?;
            if tables.insert(type_name.clone(), table).is_some() {
                let message = format!("two tables of the mapping hold {type_name}");
                return Err(failure.own(ErrorKind::InvalidConfig, message));
            }
        }
    }
    Ok(tables.into_values().collect())
}

/// The types that a table of a mapping holds.
async fn types_of(session: &Session, failure: &Failure, mapping: &TableMapping) -> Result<BTreeSet<String>> {
    if let Some(types) = &mapping.types {
        return Ok(types.iter().map(|name| name.get_ref().clone()).collect());
    }
    match (&mapping.table, &mapping.type_column) {
        (Some(name), _) if has_placeholder(name.get_ref()) => {
            let all: Vec<ResourceType> = ResourceType::all_r4().collect();
            let relations: Vec<String> = all.iter().map(|of| relation(&of_type(name.get_ref(), of.as_str()))).collect();
            let found = session
                .query("SELECT x.n - 1 FROM unnest($1::text[]) WITH ORDINALITY AS x(r, n) WHERE to_regclass(x.r) IS NOT NULL", &[&relations])
                .await
                .map_err(|error| failure.error("the tables can't be looked for", &error))?;
            if found.is_empty() {
                let message = format!("the database has no table {:?} of any type", name.get_ref());
                return Err(failure.own(ErrorKind::NotFound, message));
            }
            let number = |row: &tokio_postgres::Row| usize::try_from(row.get::<_, i64>(0)).ok();
            Ok(found.iter().filter_map(|row| all.get(number(row)?).map(ToString::to_string)).collect())
        }
        (_, Some(column)) => {
            let text = |column: &Column| format!("{}::text", column.expression());
            let mut names = distinct(session, failure, &from_of(mapping, ""), &text(column)).await?;
            // Of a type may be left what was deleted only.
            if let Some(TombstoneMapping { table, type_column: Some(column), .. }) = &mapping.tombstones {
                let from = format!("{} AS t", relation(table));
                names.extend(distinct(session, failure, &from, &text(column)).await?);
            }
            Ok(names)
        }
        _ => Ok(BTreeSet::new()),
    }
}

/// The values of a column, which are few: found by skipping from one to the next.
async fn distinct(session: &Session, failure: &Failure, from: &str, column: &str) -> Result<BTreeSet<String>> {
    let select = format!(
        "WITH RECURSIVE v AS (
           (SELECT {column} AS v FROM {from} ORDER BY 1 LIMIT 1)
           UNION ALL SELECT (SELECT {column} FROM {from} WHERE {column} > v.v ORDER BY 1 LIMIT 1) FROM v WHERE v.v IS NOT NULL
         ) SELECT v FROM v WHERE v IS NOT NULL"
    );
    let rows = session.query(&select, &[]).await.map_err(|error| failure.error("the types can't be read", &error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn from_of(mapping: &TableMapping, type_name: &str) -> String {
    match (&mapping.table, &mapping.query) {
        (Some(name), _) => format!("{} AS t", relation(&of_type(name.get_ref(), type_name))),
        (None, Some(query)) => format!("({}) AS t", query.get_ref().trim().trim_end_matches(';')),
        (None, None) => String::new(),
    }
}

async fn table(
    session: &Session,
    failure: &Failure,
    mapping: &TableMapping,
    type_name: &str,
    resource_type: Option<ResourceType>,
) -> Result<Table> {
    let from = from_of(mapping, type_name);
    let condition = mapping.type_column.as_ref().map(|column| column.is(type_name));
    let (id, body) = (mapping.id.expression(), mapping.body.expression());
    let stamp = mapping.last_updated.as_ref().map(Column::expression);
    let deleted = mapping.deleted.as_ref().map(Column::expression);
    let absent = || "NULL".to_owned();
    let columns = format!(
        "SELECT {id} AS id, {body} AS body, {} AS last_updated, {} AS deleted FROM {from}",
        stamp.clone().unwrap_or_else(absent),
        deleted.clone().unwrap_or_else(absent),
    );
    let what = format!("the table of {type_name} can't be read");
    let statement = session.prepare(&columns).await.map_err(|error| failure.error(&what, &error))?;
    let types: Vec<&Type> = statement.columns().iter().map(tokio_postgres::Column::type_).collect();
    let [id_type, body_type, stamp_type, deleted_type] = types.as_slice() else {
        return Err(Error::new(ErrorKind::Internal, "a statement has other columns than it was made with"));
    };
    let wrong = |column: &str, of: &Type, must: &str| {
        let message = format!("the column {column} of the table of {type_name} is of type {of}; it must be {must}");
        failure.own(ErrorKind::InvalidConfig, message)
    };
    let id_kind = IdKind::of(id_type).ok_or_else(|| wrong("id", id_type, "text, uuid or an integer"))?;
    let body_kind = match **body_type {
        Type::TEXT | Type::VARCHAR | Type::BYTEA => BodyKind::Plain,
        Type::JSON | Type::JSONB => BodyKind::Json,
        _ => return Err(wrong("body", body_type, "text, json, jsonb or bytea")),
    };
    if stamp.is_some() && ![Type::TIMESTAMPTZ, Type::TIMESTAMP].contains(stamp_type) {
        return Err(wrong("last_updated", stamp_type, "timestamptz or timestamp"));
    }
    if deleted.is_some() && **deleted_type != Type::BOOL {
        return Err(wrong("deleted", deleted_type, "boolean"));
    }
    Ok(Table {
        type_name: type_name.to_owned(),
        resource_type,
        relation: mapping.table.as_ref().map(|name| relation(&of_type(name.get_ref(), type_name))),
        from,
        condition,
        id,
        id_kind,
        body,
        body_kind,
        times: stamp.map_or(Times::Unknown, Times::Stamp),
        deleted,
        compartment: compartment(session, failure, mapping, type_name).await?,
        tombstones: mapping.tombstones.clone(),
    })
}

async fn compartment(
    session: &Session,
    failure: &Failure,
    mapping: &TableMapping,
    type_name: &str,
) -> Result<Option<Compartment>> {
    let Some(mapping) = &mapping.compartment else { return Ok(None) };
    let from = format!("{} AS t", relation(&of_type(&mapping.table, type_name)));
    let (patient, id) = (mapping.patient.expression(), mapping.id.expression());
    let condition = mapping.type_column.as_ref().map(|column| column.is(type_name));
    let what = format!("the compartment table of {type_name} can't be read");
    let select = format!("SELECT {patient}, {id} FROM {from} WHERE {}", condition.as_deref().unwrap_or("true"));
    let statement = session.prepare(&select).await.map_err(|error| failure.error(&what, &error))?;
    let patient_kind = statement.columns().first().and_then(|column| IdKind::of(column.type_()));
    let patient_kind = patient_kind.ok_or_else(|| {
        failure.own(
            ErrorKind::InvalidConfig,
            format!("the column patient of the compartment table of {type_name} must be text, uuid or an integer"),
        )
    })?;
    Ok(Some(Compartment { from, patient, patient_kind, id, condition, has_base: false }))
}
