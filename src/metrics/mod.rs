//! Numbers of running jobs, through the `metrics` facade.
//!
//! With the feature `metrics` a job publishes its numbers to whichever recorder the program has installed, such as that of
//! `metrics-exporter-prometheus`. Without a recorder that costs next to nothing, and without the feature nothing. Call
//! `describe` once, after the recorder is installed, to hand it units and descriptions.
//!
#![doc = include_str!("table.md")]
//!
//! Labels:
//! - `type`: one of R4's types; `other` for all types that R4 doesn't know, `unknown` for resources that couldn't be
//!   understood, `errors` for the job's own error report, `deleted` for its list of deletions. So there are at most 150
//!   of them, and no name that comes from data is ever published.
//! - `fate`: `written`, `excluded-` with the reason, `quarantined`, `cut`, `superseded`.
//! - `state`: a job's state, as HealthLake names it. `cause`: `throttled`, `server_error`, `timeout`, `connection`.
//!   `pool`: `read`, `fill`, `flight`. `stage`: `source`, `cpu`, `store`.
//!
//! Nothing is labelled with a job: a recorder keeps what it has seen for ever.
//!
//! # What the counters are equal to
//! Counters of resources are the [ledger](crate::ledger)'s: a job's rows are looked at once a second, and what has come
//! since is added; when the job ends, they are exactly its closing ledger. Of a job that goes on with an earlier attempt
//! they count what this attempt did: `written` over all attempts is what the manifest says, and what has to be read
//! again is counted again. Of an attempt that failed and can be resumed, `written` is what is durable of it.

#[cfg(feature = "metrics")]
mod sink;
#[cfg(not(feature = "metrics"))]
#[path = "no_sink.rs"]
mod sink;
mod table;

#[cfg(feature = "metrics")]
pub use sink::describe;
pub(crate) use sink::{Level, add, record};
pub(crate) use table::*;
pub use table::{Kind, Metric, TABLE, Unit};

/// Counts an upload that couldn't be aborted.
pub(crate) fn count_failed_abort() {
    add(&FAILED_ABORTS, &[], 1);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    use super::*;

    fn documented() -> String {
        let mut text =
            "| metric | kind | unit | labels | what it tells |\n| --- | --- | --- | --- | --- |\n".to_owned();
        for Metric { name, kind, unit, labels, help } in TABLE {
            let (kind, unit) = (format!("{kind:?}").to_lowercase(), format!("{unit:?}").to_lowercase());
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            writeln!(text, "| `{name}` | {kind} | {unit} | {} | {help} |", labels.join(", ")).unwrap();
        }
        text
    }

    #[test]
    fn the_documented_table_is_that_of_the_code() {
        let documented = documented();
        assert!(include_str!("table.md") == documented, "src/metrics/table.md should be\n{documented}");
    }

    #[test]
    fn names_are_unique_and_say_their_kind_and_unit() {
        let names: BTreeSet<&str> = TABLE.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), TABLE.len());
        for Metric { name, kind, unit, .. } in TABLE {
            assert!(name.starts_with("fhir_export_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            for (own, ending) in
                [(Unit::Bytes, "_bytes"), (Unit::Seconds, "_seconds"), (Unit::Milliseconds, "_milliseconds")]
            {
                assert_eq!(name.trim_end_matches("_total").ends_with(ending), *unit == own, "{name}");
            }
        }
    }
}
