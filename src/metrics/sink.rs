//! The way to the facade's recorder.

use metrics::{Gauge, Key, Label, Level as Importance, Metadata, Recorder, with_recorder};

use super::table::{Kind, Metric, TABLE, Unit};

static METADATA: Metadata<'static> = Metadata::new("fhir_export", Importance::INFO, Some("fhir_export"));

/// The labels of one series, in the order of the table.
type Labels<'l> = &'l [(&'static str, &'l str)];

/// Hands units and descriptions of all metrics to the recorder that is installed.
pub fn describe() {
    with_recorder(|recorder| TABLE.iter().for_each(|metric| describe_one(recorder, metric)));
}

fn describe_one(recorder: &dyn Recorder, metric: &Metric) {
    let unit = match metric.unit {
        Unit::Count => metrics::Unit::Count,
        Unit::Bytes => metrics::Unit::Bytes,
        Unit::Seconds => metrics::Unit::Seconds,
        Unit::Milliseconds => metrics::Unit::Milliseconds,
    };
    let (name, unit, help) = (metric.name.into(), Some(unit), metric.help.into());
    match metric.kind {
        Kind::Counter => recorder.describe_counter(name, unit, help),
        Kind::Gauge => recorder.describe_gauge(name, unit, help),
        Kind::Histogram => recorder.describe_histogram(name, unit, help),
    }
}

fn key(metric: &Metric, kind: Kind, labels: Labels<'_>) -> Key {
    debug_assert_eq!(metric.kind, kind, "{}", metric.name);
    debug_assert!(metric.labels.iter().eq(labels.iter().map(|(name, _)| name)), "{}", metric.name);
    let labels: Vec<Label> = labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
    Key::from_parts(metric.name, labels)
}

/// Adds to a counter; a series begins with its first addition.
pub(crate) fn add(metric: &Metric, labels: Labels<'_>, by: u64) {
    if by > 0 {
        with_recorder(|recorder| {
            recorder.register_counter(&key(metric, Kind::Counter, labels), &METADATA).increment(by);
        });
    }
}

/// Records one number of a histogram.
pub(crate) fn record(metric: &Metric, labels: Labels<'_>, value: f64) {
    with_recorder(|recorder| {
        recorder.register_histogram(&key(metric, Kind::Histogram, labels), &METADATA).record(value);
    });
}

/// What one holder adds to a gauge; taken back when dropped.
pub(crate) struct Level {
    gauge: Gauge,
    value: f64,
}

impl Level {
    pub(crate) fn new(metric: &Metric, labels: Labels<'_>, value: f64) -> Self {
        let gauge = with_recorder(|recorder| recorder.register_gauge(&key(metric, Kind::Gauge, labels), &METADATA));
        gauge.increment(value);
        Self { gauge, value }
    }

    pub(crate) fn set(&mut self, value: f64) {
        self.gauge.increment(value - self.value);
        self.value = value;
    }
}

impl std::fmt::Debug for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Level").field("value", &self.value).finish_non_exhaustive()
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        self.set(0.0);
    }
}
