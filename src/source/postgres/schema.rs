//! The tables of our own: what `import` fills and what is read without a mapping.
//!
//! They are those of the SQLite store, in the schema `fhir`: an instant is microseconds since 1970 (`updated`) and the
//! digits of its fraction beyond them (`beyond`, compared in byte order), so that any fraction compares exactly. Without
//! `lastUpdated`, `updated` is NULL, and so it is if `lastUpdated` isn't an instant; `beyond` is `malformed` then.

/// What stands in `beyond` if `lastUpdated` isn't an instant.
pub(crate) const MALFORMED: &str = "malformed";

/// The digest of the compartment that the index was made by is kept under this key; none while it isn't whole.
pub(crate) const INDEXED: &str = "compartment";

/// Tells whether the tables are there.
pub(super) const IS_THERE: &str = "SELECT to_regclass('fhir.resource') IS NOT NULL";

/// Makes the tables if they aren't there.
pub(crate) const TABLES: &str = r#"
CREATE SCHEMA IF NOT EXISTS fhir;
CREATE TABLE IF NOT EXISTS fhir.setting (key text PRIMARY KEY, value text NOT NULL);
CREATE TABLE IF NOT EXISTS fhir.resource (
  type text COLLATE "C" NOT NULL, id text COLLATE "C" NOT NULL, updated bigint, beyond text COLLATE "C" NOT NULL,
  body text NOT NULL, PRIMARY KEY (type, id)
);
CREATE TABLE IF NOT EXISTS fhir.compartment (
  patient text COLLATE "C" NOT NULL, base text COLLATE "C" NOT NULL, type text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL
);
CREATE TABLE IF NOT EXISTS fhir.tombstone (
  type text COLLATE "C" NOT NULL, id text COLLATE "C" NOT NULL, deleted bigint NOT NULL,
  beyond text COLLATE "C" NOT NULL, patients text, PRIMARY KEY (type, id)
);
"#;
