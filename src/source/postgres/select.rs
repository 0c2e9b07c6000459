//! From what is asked for to statements.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::schema::MALFORMED;
use super::table::{BodyKind, IdKind, Table, Times};
use crate::fhir::Instant;
use crate::postgres::literal;
use crate::source::{Asked, CohortIds};

/// The rows of one type that are asked for.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    pub(super) table: Table,
    /// What its rows must fulfil, but for their ids' interval.
    conditions: Vec<String>,
    /// Whether the conditions leave little of the table: then it isn't cut.
    pub(super) is_picked: bool,
}

/// An interval of ids: behind one, up to and with another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) behind: Option<String>,
    pub(super) up_to: Option<String>,
}

impl Scan {
    /// The rows of a table that are asked for; `None` if there can be none.
    pub(super) fn new(table: &Table, asked: &Asked, cohort: Option<&CohortIds>) -> Option<Self> {
        let mut conditions: Vec<String> = table.condition.iter().cloned().collect();
        conditions.extend(table.is_alive());
        conditions.extend(times(&table.times, asked));
        if let Some(ids) = &asked.ids {
            conditions.push(one_of(&table.id, table.id_kind, ids)?);
        }
        if let Some(cohort) = cohort {
            conditions.extend(of_cohort(table, cohort)?);
        }
        let is_picked = asked.ids.is_some() || cohort.is_some();
        Some(Self { table: table.clone(), conditions, is_picked })
    }

    /// What its rows must fulfil, as one condition.
    pub(super) fn condition(&self, interval: &Interval) -> String {
        let mut all = self.conditions.clone();
        let id = &self.table.id;
        all.extend(interval.behind.as_ref().map(|behind| format!("{id} > {}", literal(behind))));
        all.extend(interval.up_to.as_ref().map(|up_to| format!("{id} <= {}", literal(up_to))));
        if all.is_empty() { "true".to_owned() } else { all.join(" AND ") }
    }

    /// Copies id, body, and the length of a body that is over the limit and not sent.
    pub(super) fn copy(&self, interval: &Interval, line_limit_bytes: usize) -> String {
        let Table { from, id, body, .. } = &self.table;
        let fields = match self.table.body_kind {
            // The length is known before the body is unpacked.
            BodyKind::Plain => format!(
                "CASE WHEN octet_length(body) <= {line_limit_bytes} THEN body END,
                 CASE WHEN octet_length(body) > {line_limit_bytes} THEN octet_length(body) END"
            ),
            BodyKind::Json => "body::text, NULL::int4".to_owned(),
        };
        let condition = self.condition(interval);
        // Inside, the server knows how wide the bodies are. Of the expressions it knows nothing, takes them for narrow, and
        // sorts all of a table where it could follow an index.
        format!(
            "COPY (SELECT id::text, {fields} FROM (
               SELECT {id} AS id, {body} AS body FROM {from} WHERE {condition} ORDER BY {id} OFFSET 0
             ) AS r ORDER BY id) TO STDOUT (FORMAT binary)"
        )
    }
}

fn times(times: &Times, asked: &Asked) -> Vec<String> {
    match times {
        Times::Unknown => Vec::new(),
        Times::Stamp(stamp) => {
            let bound = |instant: &Instant| format!("timestamptz {}", literal(&instant.to_string()));
            // The document's own time counts, and may be cut or rounded.
            let since = asked
                .since
                .as_ref()
                .map(|since| format!("({stamp} >= {} - interval '1 second' OR {stamp} IS NULL)", bound(since)));
            let until = asked.until.as_ref().map(|until| format!("{stamp} <= {} + interval '1 second'", bound(until)));
            since.into_iter().chain(until).collect()
        }
        Times::Exact => {
            let since = asked.since.as_ref().map(|since| {
                let (micros, beyond) = since.to_micros();
                let beyond = literal(&beyond);
                format!(
                    "(t.updated IS NULL OR t.updated > {micros} OR (t.updated = {micros} AND t.beyond >= {beyond}))"
                )
            });
            let until = asked.until.as_ref().map(|until| {
                let (micros, beyond) = until.to_micros();
                let beyond = literal(&beyond);
                format!("(t.beyond = '{MALFORMED}' OR t.updated < {micros} OR (t.updated = {micros} AND t.beyond <= {beyond}))")
            });
            since.into_iter().chain(until).collect()
        }
    }
}

/// That an id is one of these; `None` if none of them can be an id here.
fn one_of(id: &str, kind: IdKind, ids: &BTreeSet<String>) -> Option<String> {
    let mut list = String::new();
    for id in ids.iter().filter(|id| kind.takes(id)) {
        let separator = if list.is_empty() { "" } else { ", " };
        let _infallible = write!(list, "{separator}{}", literal(id));
    }
    (!list.is_empty()).then(|| format!("{id} IN ({list})"))
}

/// That a row belongs to the cohort, as far as the tables tell; `None` if none of this type can.
fn of_cohort(table: &Table, cohort: &CohortIds) -> Option<Option<String>> {
    let id = &table.id;
    match table.type_name.as_str() {
        "Patient" if cohort.is_empty() => None,
        "Patient" => Some(Some(format!("{id} IN ({})", table.id_kind.cohort()))),
        "Group" => one_of(id, table.id_kind, cohort.groups()).map(Some),
        _ if cohort.is_empty() => None,
        _ => {
            let Some(compartment) = &table.compartment else { return Some(None) };
            let mut conditions: Vec<String> = compartment.condition.iter().cloned().collect();
            if compartment.has_base {
                let bases: Vec<String> = std::iter::once(String::new())
                    .chain(cohort.base_urls().iter())
                    .map(|base| literal(&base))
                    .collect();
                conditions.push(format!("t.base IN ({})", bases.join(", ")));
            }
            let condition = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
            Some(Some(format!(
                "{id} IN (SELECT {} FROM ({}) AS p JOIN {} ON {} = p.patient WHERE {condition})",
                compartment.id,
                compartment.patient_kind.cohort(),
                compartment.from,
                compartment.patient,
            )))
        }
    }
}

impl Interval {
    /// The name of a range: the type, and the ends of its interval if it has any.
    pub(super) fn name(&self, type_name: &str) -> String {
        if *self == Self::default() {
            return type_name.to_owned();
        }
        let shown = |end: &Option<String>| end.as_deref().map(quoted).unwrap_or_default();
        format!("{type_name}/{}~{}", shown(&self.behind), shown(&self.up_to))
    }

    /// The type and the interval of a name.
    pub(super) fn of_name(name: &str) -> Option<(&str, Self)> {
        let Some((type_name, ends)) = name.split_once('/') else { return Some((name, Self::default())) };
        let (behind, up_to) = ends.split_once('~')?;
        let end = |text: &str| {
            let end = percent_encoding::percent_decode_str(text).decode_utf8().ok()?;
            Some((!end.is_empty()).then(|| end.into_owned()))
        };
        Some((type_name, Self { behind: end(behind)?, up_to: end(up_to)? }))
    }
}

/// An id in a name: what isn't in FHIR's ids is quoted.
fn quoted(id: &str) -> String {
    const PLAIN: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');
    percent_encoding::utf8_percent_encode(id, PLAIN).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_range_is_found_again_by_its_name(behind in prop::option::of(".+"), up_to in prop::option::of(".+")) {
            let interval = Interval { behind, up_to };
            let name = interval.name("Patient");
            prop_assert_eq!(Interval::of_name(&name), Some(("Patient", interval)));
        }
    }
}
