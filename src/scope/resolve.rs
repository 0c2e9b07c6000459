//! From a Group to its cohort.

use std::collections::BTreeSet;

use super::group_reader::{GROUP_LIMIT_BYTES, GroupReader, MAX_GROUPS};
use super::group_sink::GroupSink;
use super::member::Rules;
use super::read_ahead::read_range;
use super::{CohortReport, PatientSet};
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::{Instant, ResourceType};
use crate::resource::reference::BaseUrls;
use crate::source::{Asked, CohortIds, Range, Snapshot};

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
    resolve_cohort_into(PatientSet::new()?, snapshot, group_id, transaction_time, base_urls)
        .await
        .map(|(cohort, _)| cohort)
}

/// The same under a given key, as of a job that goes on; with the ids, if the snapshot takes them.
pub(crate) async fn resolve_cohort_into(
    patients: PatientSet,
    snapshot: &dyn Snapshot,
    group_id: &str,
    transaction_time: &Instant,
    base_urls: &BaseUrls,
) -> Result<(Cohort, Option<CohortIds>)> {
    let reader = GroupReader::new(Rules { transaction_time, base_urls }, patients, GROUP_LIMIT_BYTES);
    let sink = GroupSink::new(reader, GROUP_LIMIT_BYTES, group_id);
    resolve_into(sink, snapshot, group_id).await
}

/// Lists the ids of a cohort that was resolved in another snapshot, for which its Groups are read again; `None` if they
/// don't name all of its patients any more, or the snapshot takes no list. Who was added since isn't listed.
///
/// Takes the memory of the set once more while they are read.
///
/// # Errors
/// As of [`resolve_cohort`].
pub(crate) async fn list_again(
    cohort: &Cohort,
    snapshot: &dyn Snapshot,
    group_id: &str,
    transaction_time: &Instant,
    base_urls: &BaseUrls,
) -> Result<Option<CohortIds>> {
    if !snapshot.takes_cohort() {
        return Ok(None);
    }
    let patients = cohort.patients.sibling();
    let (now, listed) = resolve_cohort_into(patients, snapshot, group_id, transaction_time, base_urls).await?;
    let Some(listed) = listed else { return Ok(None) };
    if now.patients.digest() == cohort.patients.digest() {
        return Ok(Some(listed.with_groups(cohort.groups.clone())));
    }
    let mut known = CohortIds::default();
    listed.patients().filter(|id| cohort.patients.contains(id)).for_each(|id| known.push(id));
    Ok((known.len() == cohort.patients.len()).then(|| known.with_groups(cohort.groups.clone())))
}

/// Reads level by level: the Group, those that are its members, those that are theirs.
async fn resolve_into(
    mut sink: GroupSink<'_>,
    snapshot: &dyn Snapshot,
    root: &str,
) -> Result<(Cohort, Option<CohortIds>)> {
    if snapshot.takes_cohort() {
        sink.list_patients();
    }
    let mut wanted = BTreeSet::from([root.to_owned()]);
    let mut known = wanted.clone();
    while !wanted.is_empty() {
        find(&mut sink, snapshot, &wanted).await?;
        settle_missing(&mut sink, &wanted, root)?;
        wanted = sink.take_nested().difference(&known).cloned().collect();
        known.extend(wanted.iter().cloned());
        if known.len() > MAX_GROUPS {
            let message = format!("the cohort of Group/{root} is made of more than {MAX_GROUPS} Groups");
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
    }
    let (mut cohort, listed) = sink.into_parts();
    let Cohort { patients, groups, report } = &mut cohort;
    report.groups_resolved.clone_from(groups);
    report.patients_resolved = patients.len() as u64;
    if patients.is_empty() {
        report.warnings.push("the cohort is empty".to_owned());
    }
    let listed = listed.map(|listed| listed.with_groups(cohort.groups.clone()));
    Ok((cohort, listed))
}

/// Looks for Groups where the source says they are, and where it says they aren't only for those that are missing.
async fn find(sink: &mut GroupSink<'_>, snapshot: &dyn Snapshot, wanted: &BTreeSet<String>) -> Result<()> {
    let types = ResourceType::r4("Group").map(|group| BTreeSet::from([group]));
    let asked = Asked { types, ids: Some(wanted.clone()), ..Asked::default() };
    let plan = snapshot.plan(&asked).await.map_err(never_an_unknown_group)?;
    sink.want(wanted.clone());
    read(sink, snapshot, &plan.ranges).await?;
    let missing: BTreeSet<String> = wanted.difference(sink.found()).cloned().collect();
    if missing.is_empty() {
        return Ok(());
    }
    sink.want(missing);
    read(sink, snapshot, &plan.skipped).await
}

async fn read(sink: &mut GroupSink<'_>, snapshot: &dyn Snapshot, ranges: &[Range]) -> Result<()> {
    for range in ranges {
        sink.begin_range(range);
        let outcome = read_range(sink, snapshot, range).await;
        sink.end_range(outcome.map_err(never_an_unknown_group))?;
    }
    Ok(())
}

/// Decides what it means that some Groups were found nowhere.
fn settle_missing(sink: &mut GroupSink<'_>, wanted: &BTreeSet<String>, root: &str) -> Result<()> {
    let suspect = sink.take_suspect();
    let missing: BTreeSet<String> = wanted.difference(sink.found()).cloned().collect();
    let Some(first) = missing.first() else { return Ok(()) };
    if let Some(suspect) = suspect {
        return Err(suspect.with("not found", format_args!("Group/{first}")));
    }
    if missing.contains(root) {
        let shown: String = root.chars().take(100).collect();
        return Err(Error::new(ErrorKind::NotFound, format!("the source holds no Group/{shown}")));
    }
    sink.report_mut().groups_missing.extend(missing);
    Ok(())
}

/// An error of the source may be of a kind that, of a cohort, would blame the request.
fn never_an_unknown_group(error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::InvalidRequest => error.with_kind(ErrorKind::CohortUnreadable),
        _ => error,
    }
}
