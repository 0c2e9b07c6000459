//! Whose data an export holds: the level of a request, resolved.
//!
//! A Group is resolved once, before the scan, by [`resolve_cohort`], and a list of patients is checked; then [`Scope::admits`] decides resource by
//! resource.

mod decide;
mod group_fields;
mod group_reader;
mod group_sink;
mod json_push;
mod json_text;
mod member;
mod patient_search;
mod patient_set;
mod read_ahead;
mod report;
mod request;
mod resolve;
#[cfg(test)]
mod resolve_tests;

use std::sync::Arc;

pub use decide::Admission;
pub(crate) use decide::Question;
pub use group_reader::GROUP_LIMIT_BYTES;
pub(crate) use patient_set::Fingerprint;
pub use patient_set::PatientSet;
pub use report::CohortReport;
pub(crate) use request::{ScopeOf, for_no_system};
pub(crate) use resolve::list_again;
pub use resolve::{Cohort, resolve_cohort};

/// The level of a job, resolved.
///
/// There is no scope by default and an empty cohort admits nobody, so that nothing is exported by accident.
#[derive(Clone, Debug)]
pub enum Scope {
    /// Every resource: the System level.
    Everything,
    /// Every Patient and what refers to one: the Patient level.
    AnyPatient,
    /// The patients of a Group, or those that the request names, and what refers to them.
    Cohort(Arc<Cohort>),
}
