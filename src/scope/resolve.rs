//! From a Group to its cohort.

use std::collections::BTreeSet;

use super::{CohortReport, PatientSet};
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::Instant;
use crate::resource::reference::BaseUrls;
use crate::source::Snapshot;

/// What a Group resolves to.
#[derive(Clone, Debug)]
pub struct Cohort {
    /// The patients; nobody is a value, never "no filter".
    pub patients: PatientSet,
    /// Ids of the Group itself and of the Groups nested in it, as far as the snapshot holds them.
    pub groups: BTreeSet<String>,
    /// How it came about.
    pub report: CohortReport,
}

/// Resolves a Group and the Groups nested in it to a cohort.
///
/// # Errors
/// - [`ErrorKind::NotFound`]: the snapshot holds no such Group.
/// - [`ErrorKind::InvalidRequest`]: the Group has `actual: false`, so it has no members.
/// - [`ErrorKind::CohortUnreadable`]: a Group can't be read whole, so the scope isn't known.
/// - Any other error of the snapshot.
///
/// # Cancellation
/// The future may be dropped at any await; nothing stays behind.
pub async fn resolve_cohort(
    snapshot: &dyn Snapshot,
    group_id: &str,
    transaction_time: &Instant,
    base_urls: &BaseUrls,
) -> Result<Cohort> {
    let _ = (snapshot, transaction_time, base_urls);
    Err(Error::new(ErrorKind::Internal, format!("Group/{group_id} isn't resolved yet")))
}
