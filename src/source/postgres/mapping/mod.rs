//! Mappings: which tables and columns of a server's own database hold its resources.
//!
//! A mapping is a TOML file:
//! ```toml
//! [[tables]]
//! types = ["Patient", "Observation"]   # without it: every R4 type that has such a table
//! table = "{type}"                     # {type} and {type_lower} stand for the type's name; "schema.table" is understood
//! id = "id"                            # a column, or { sql = "an expression" }
//! body = "content"                     # of type text, json, jsonb or bytea
//! last_updated = "lastUpdated"         # of type timestamptz or timestamp (in UTC); may be left out
//! deleted = "deleted"                  # boolean; may be left out: nothing is deleted
//!
//! [tables.compartment]                 # may be left out: Groups are picked out by the engine
//! table = "links"
//! patient = "patient_id"               # a patient's id
//! type = "resource_type"               # may be left out: ids are of this table's type
//! id = "resource_id"
//!
//! [tables.tombstones]                  # may be left out; what was deleted and has no row with a flag
//! table = "deleted_resources"          # with {type} in its name, a type may be without one
//! type = "resource_type"               # may be left out: ids are of this table's type
//! id = "resource_id"
//! deleted_at = "deleted_at"            # timestamptz or timestamp (in UTC)
//! patients = "patient_ids"             # text[], in whose compartments it was; may be left out
//! where = "status = 'deleted'"         # which of its rows are tombstones; may be left out: all
//! ```
//! What was deleted is told to exports that have a `_since`: rows whose flag is set, at their `last_updated`, and tombstones.
//! Whose it was is asked of the compartment table, if the tombstone doesn't say.
//!
//! In place of `table`, `query` is any SELECT that gives the columns. A table of several types has a column `type`. Where a
//! compartment is given it must hold every link that R4's Patient compartment knows: what it lacks isn't exported at Group
//! level, and nobody can tell.

use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use crate::error::{Error, ErrorKind, Result};
use crate::fhir::ResourceType;

/// Mappings that come with the crate, by name.
const KNOWN: [(&str, &str); 3] = [
    ("fhirbase", include_str!("fhirbase.toml")),
    ("medplum", include_str!("medplum.toml")),
    ("single-table", include_str!("single-table.toml")),
];

/// Whether a mapping of this name comes with the crate.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|(known, _)| *known == name)
}

/// The tables of a database that hold resources.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    pub(super) tables: Vec<TableMapping>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableMapping {
    pub(super) types: Option<Vec<Spanned<String>>>,
    pub(super) table: Option<Spanned<String>>,
    pub(super) query: Option<Spanned<String>>,
    #[serde(rename = "type")]
    pub(super) type_column: Option<Column>,
    pub(super) id: Column,
    pub(super) body: Column,
    pub(super) last_updated: Option<Column>,
    pub(super) deleted: Option<Column>,
    pub(super) compartment: Option<CompartmentMapping>,
    pub(super) tombstones: Option<TombstoneMapping>,
}

/// A column, or an expression over columns.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Column {
    Name(String),
    Sql(Sql),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sql {
    pub(super) sql: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CompartmentMapping {
    pub(super) table: String,
    pub(super) patient: Column,
    #[serde(rename = "type")]
    pub(super) type_column: Option<Column>,
    pub(super) id: Column,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TombstoneMapping {
    pub(super) table: String,
    #[serde(rename = "type")]
    pub(super) type_column: Option<Column>,
    pub(super) id: Column,
    pub(super) deleted_at: Column,
    pub(super) patients: Option<Column>,
    #[serde(rename = "where")]
    pub(super) condition: Option<String>,
}

impl Mapping {
    /// The mapping of this name that comes with the crate: `fhirbase` (one table of jsonb for each type, as fhirbase and
    /// Aidbox have), `medplum` (one table for each type with the resource in a text column `content`), `single-table`.
    #[must_use]
    pub fn known(name: &str) -> Option<Self> {
        let (_, text) = KNOWN.iter().find(|(known, _)| *known == name)?;
        Self::parse(text, name).ok()
    }

    /// The mapping of this name, or in this file.
    ///
    /// # Errors
    /// When there is none, or it can't be understood: the message names the line.
    pub fn load(name_or_path: &str) -> Result<Self> {
        if let Some(known) = Self::known(name_or_path) {
            return Ok(known);
        }
        let text = std::fs::read_to_string(Path::new(name_or_path)).map_err(|error| {
            let names: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).collect();
            Error::io(
                format!("the mapping {name_or_path} can't be read; it is a file or one of {}", names.join(", ")),
                error,
            )
        })?;
        Self::parse(&text, name_or_path)
    }

    /// Reads a mapping; `name` is what messages call it.
    ///
    /// # Errors
    /// When it can't be understood: the message names the line.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let refused = |offset: usize, why: &str| {
            let line = text.get(..offset).unwrap_or(text).matches('\n').count() + 1;
            Error::new(ErrorKind::InvalidConfig, format!("line {line} of the mapping: {why}")).with("mapping", name)
        };
        let mapping: Self = toml::from_str(text)
            .map_err(|error| refused(error.span().map_or(text.len(), |span| span.start), error.message()))?;
        if mapping.tables.is_empty() {
            return Err(refused(text.len(), "it has no [[tables]]"));
        }
        for table in &mapping.tables {
            table.check(&refused)?;
        }
        Ok(mapping)
    }
}

impl TableMapping {
    fn check(&self, refused: &dyn Fn(usize, &str) -> Error) -> Result<()> {
        for name in self.types.iter().flatten() {
            if let Err(error) = ResourceType::new(name.get_ref()) {
                return Err(refused(name.span().start, &format!("{:?} is no type: {error}", name.get_ref())));
            }
        }
        let at = self.table.as_ref().or(self.query.as_ref()).map_or(0, |place| place.span().start);
        match (&self.table, &self.query) {
            (Some(_), Some(query)) => Err(refused(query.span().start, "a table has either table or query")),
            (None, None) => Err(refused(0, "a table has neither table nor query")),
            (None, Some(_)) if self.types.is_none() && self.type_column.is_none() => {
                Err(refused(at, "a query needs types, or a column type"))
            }
            (Some(table), None) if !has_placeholder(table.get_ref()) && self.type_column.is_none() => {
                match self.types.as_ref().map(Vec::len) {
                    Some(1) => Ok(()),
                    _ => Err(refused(at, "a table of several types needs a column type, or {type} in its name")),
                }
            }
            _ => Ok(()),
        }
    }
}

/// Whether a name stands for one table of each type.
pub(super) fn has_placeholder(name: &str) -> bool {
    name.contains("{type}") || name.contains("{type_lower}")
}

/// A name with the type in its places.
pub(super) fn of_type(name: &str, type_name: &str) -> String {
    name.replace("{type}", type_name).replace("{type_lower}", &type_name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mappings_that_come_along_are_understood() {
        for (name, text) in KNOWN {
            Mapping::parse(text, name).unwrap();
            assert!(Mapping::known(name).is_some());
        }
        let error = Mapping::load("no-such-mapping").unwrap_err();
        assert!(error.message().contains("fhirbase, medplum, single-table"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let good = "id = \"id\"\nbody = \"b\"\n";
        for (text, line, said) in [
            (String::new(), 1, "tables"),
            (format!("[[tables]]\ntable = \"{{type}}\"\n{good}lastupdated = \"x\"\n"), 5, "unknown field"),
            (format!("[[tables]]\n{good}\ntable = \"t\"\n"), 5, "column type"),
            (format!("[[tables]]\ntypes = [\"Patient\",\n \"pat ient\"]\ntable = \"{{type}}\"\n{good}"), 3, "no type"),
            (format!("[[tables]]\ntable = \"{{type}}\"\n{good}query = \"SELECT 1\"\n"), 5, "either table or query"),
            (format!("[[tables]]\nquery = \"SELECT 1\"\n{good}"), 2, "needs types"),
            ("[[tables]]\ntable = \"{type}\"\nid = 5\n".to_owned(), 3, ""),
            ("[[tables]]\ntable = \"unended\n".to_owned(), 2, ""),
            ("[[tables]]\ntable = \"{type}\"\nid = \"id\"\n".to_owned(), 1, "body"),
        ] {
            let error = Mapping::parse(&text, "m.toml").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            let begins = format!("line {line} of the mapping");
            assert!(error.message().starts_with(&begins) && error.message().contains(said), "{text}\n{error}");
        }
    }
}
