//! Every number that is published: the one table of names, units and labels.

/// What becomes of the numbers of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They add up and never go down.
    Counter,
    /// It goes up and down; jobs side by side add up.
    Gauge,
    /// Each is kept, in buckets or quantiles.
    Histogram,
}

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Milliseconds, where the facade takes whole numbers only.
    Milliseconds,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What becomes of its numbers.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident: $kind:ident $name:literal in $unit:ident by [$($label:literal),*]: $help:literal;)*) => {
        $(pub(crate) const $constant: Metric = Metric {
            name: $name,
            kind: Kind::$kind,
            unit: Unit::$unit,
            labels: &[$($label),*],
            help: $help,
        };)*

        /// Every metric, in the order in which the documentation lists them.
        pub const TABLE: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    READ_RESOURCES: Counter "fhir_export_read_resources_total" in Count by ["type"]:
        "Resources read";
    READ_BYTES: Counter "fhir_export_read_bytes_total" in Bytes by ["type"]:
        "Bytes of resources read";
    RESOURCES: Counter "fhir_export_resources_total" in Count by ["type", "fate"]:
        "Resources by what became of them; `written` and `cut` are known when a job ends";
    RESOURCE_BYTES: Counter "fhir_export_resource_bytes_total" in Bytes by ["type", "fate"]:
        "Their bytes, before compression";
    DURABLE_RESOURCES: Counter "fhir_export_durable_resources_total" in Count by ["type"]:
        "Resources that the store has acknowledged";
    DURABLE_BYTES: Counter "fhir_export_durable_bytes_total" in Bytes by ["type"]:
        "Their bytes, before compression";
    SLOW_LINES: Counter "fhir_export_slow_lines_total" in Count by []:
        "Lines that had to be gone through byte by byte";
    STORED_PARTS: Counter "fhir_export_stored_parts_total" in Count by []:
        "Parts, and objects in one piece, that the store has acknowledged";
    STORED_BYTES: Counter "fhir_export_stored_bytes_total" in Bytes by []:
        "Their bytes, as they are stored";
    PUT_SECONDS: Histogram "fhir_export_put_seconds" in Seconds by []:
        "From a part's first request to its acknowledgement, repetitions included";
    STORE_FAILURES: Counter "fhir_export_store_failures_total" in Count by ["cause"]:
        "Calls to the store that failed for a cause that can pass, those that were repeated included";
    OPEN_UPLOADS: Gauge "fhir_export_open_uploads" in Count by []:
        "Multipart uploads that running jobs hold open";
    FAILED_ABORTS: Counter "fhir_export_failed_aborts_total" in Count by []:
        "Uploads that could not be aborted: they may still be open";
    JOBS: Gauge "fhir_export_jobs" in Count by ["state"]:
        "Jobs that are not over, by state";
    ENDED_JOBS: Counter "fhir_export_ended_jobs_total" in Count by ["state"]:
        "Jobs that are over, by the state in which they ended";
    CANCEL_SECONDS: Histogram "fhir_export_cancel_seconds" in Seconds by []:
        "From a cancel to the moment when nothing new is read or sent";
    CANCEL_END_SECONDS: Histogram "fhir_export_cancel_end_seconds" in Seconds by []:
        "From a cancel to the job's end";
    WAITED: Counter "fhir_export_waited_milliseconds_total" in Milliseconds by ["stage"]:
        "Time that jobs waited for source, cpu or store: what grows fastest is the bottleneck";
    BUDGET_SIZE: Gauge "fhir_export_budget_size_bytes" in Bytes by ["pool"]:
        "Bytes that running jobs may hold, by pool of the budget";
    BUDGET_HELD: Gauge "fhir_export_budget_held_bytes" in Bytes by ["pool"]:
        "Bytes that they hold";
    BUDGET_WAITERS: Gauge "fhir_export_budget_waiters" in Count by ["pool"]:
        "Those who wait for bytes of the pool";
    BUDGET_WAITS: Counter "fhir_export_budget_waits_total" in Count by ["pool"]:
        "How often the pool did not have the bytes when they were asked for";
    SPILLED_BYTES: Counter "fhir_export_spilled_bytes_total" in Bytes by []:
        "Bytes of open parts that were moved to disk";
    JOURNAL_SECONDS: Histogram "fhir_export_journal_seconds" in Seconds by []:
        "How long the job store took for one entry of a journal";
}
