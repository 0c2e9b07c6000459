//! Publishes nothing: the crate is built without the feature `metrics`.

use super::table::Metric;

pub(crate) const fn add(_: &Metric, _: &[(&'static str, &str)], _: u64) {}

pub(crate) const fn record(_: &Metric, _: &[(&'static str, &str)], _: f64) {}

#[derive(Debug)]
pub(crate) struct Level;

impl Level {
    pub(crate) const fn new(_: &Metric, _: &[(&'static str, &str)], _: f64) -> Self {
        Self
    }

    #[expect(clippy::needless_pass_by_ref_mut, reason = "the level that counts is changed")]
    pub(crate) const fn set(&mut self, _: f64) {}
}
