//! Asking for some types and times only: nothing that was asked for may be missing.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::collect::{Collected, broken};
use super::{Reading, places};
use crate::error::Result;
use crate::fhir::{Instant, ResourceType};
use crate::resource::reference::{BaseUrls, Reference};
use crate::resource::{Compartment, References, ScanPlan, Validation, scan};
use crate::source::{Asked, CohortIds, Range, Snapshot};

/// One resource as the suite sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Resource {
    resource_type: Option<ResourceType>,
    id: Option<String>,
    last_updated: Option<Instant>,
    /// It has a time that can't be read: it is delivered whatever time is asked for.
    is_malformed: bool,
    deleted: bool,
    bytes: Vec<u8>,
}

impl Resource {
    fn new(bytes: &[u8], deleted: bool) -> Self {
        let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes).trim_ascii();
        let value: Value = serde_json::from_slice(text).unwrap_or_default();
        let resource_type = value.get("resourceType").and_then(Value::as_str);
        let last_updated = value.pointer("/meta/lastUpdated").and_then(Value::as_str);
        let has_time = value.pointer("/meta/lastUpdated").is_some();
        let last_updated = last_updated.and_then(|text| Instant::parse(text).ok());
        Self {
            is_malformed: has_time && last_updated.is_none(),
            resource_type: resource_type.and_then(|name| ResourceType::new(name).ok()),
            id: value.get("id").and_then(Value::as_str).map(str::to_owned),
            last_updated,
            deleted,
            bytes: text.to_vec(),
        }
    }
}

fn resources(collected: &Collected) -> impl Iterator<Item = Resource> {
    // Lines have no marks.
    let marks = collected.deleted().iter().copied().chain(std::iter::repeat(false));
    let all = collected.lines().zip(marks).map(|(bytes, deleted)| Resource::new(bytes, deleted));
    all.filter(|resource| !resource.bytes.is_empty())
}

impl Reading {
    /// All resources of all ranges, sorted: the order of another request may be another.
    pub(super) fn resources(&self) -> Vec<Resource> {
        let mut all: Vec<_> = self.collected.iter().flat_map(resources).collect();
        all.sort();
        all
    }
}

/// Checks declared types, and requests for single types.
pub(super) async fn check_types(snapshot: &dyn Snapshot, everything: &Reading) -> Result<()> {
    for (range, collected) in everything.plan.ranges.iter().zip(&everything.collected) {
        check_declared(range, collected)?;
    }
    if !everything.plan.skipped.is_empty() {
        return Err(broken("every type was asked for, and yet a range was skipped"));
    }
    let all = everything.resources();
    let types: BTreeSet<_> = all.iter().filter_map(|resource| resource.resource_type.clone()).collect();
    let types: Vec<_> = types.into_iter().collect();
    for wanted in places(types.len()).filter_map(|index| types.get(index)) {
        let asked = Asked { types: Some(BTreeSet::from([wanted.clone()])), ..Asked::default() };
        let is_asked = |resource: &Resource| resource.resource_type.as_ref() == Some(wanted);
        let some = Reading::of(snapshot, &asked).await?;
        compare(&all, &some, some.plan.pushdown.types, is_asked).map_err(|error| error.with("asked for", wanted))?;
    }
    Ok(())
}

fn check_declared(range: &Range, collected: &Collected) -> Result<()> {
    let Some(declared) = &range.resource_type else { return Ok(()) };
    match resources(collected).find(|resource| resource.resource_type.as_ref() != Some(declared)) {
        Some(_) => Err(broken("a range holds a resource of another type than it declares").with("range", &range.name)),
        None => Ok(()),
    }
}

/// Checks requests for what came since, and until, the middle one of all times there are.
pub(super) async fn check_times(snapshot: &dyn Snapshot, everything: &Reading) -> Result<()> {
    let all = everything.resources();
    let mut times: Vec<_> = all.iter().filter_map(|resource| resource.last_updated.clone()).collect();
    times.sort();
    let Some(middle) = times.get(times.len() / 2) else { return Ok(()) };

    let asked = Asked { since: Some(middle.clone()), ..Asked::default() };
    let some = Reading::of(snapshot, &asked).await?;
    let is_asked = |resource: &Resource| resource.last_updated.as_ref().is_none_or(|time| time >= middle);
    compare(&all, &some, some.plan.pushdown.times, is_asked).map_err(|error| error.with("asked since", middle))?;

    let asked = Asked { until: Some(middle.clone()), ..Asked::default() };
    let some = Reading::of(snapshot, &asked).await?;
    let is_asked = |resource: &Resource| {
        resource.is_malformed || resource.last_updated.as_ref().is_some_and(|time| time <= middle)
    };
    compare(&all, &some, some.plan.pushdown.times, is_asked).map_err(|error| error.with("asked until", middle))
}

/// Checks requests for single ids of a type, as Groups are fetched.
pub(super) async fn check_ids(snapshot: &dyn Snapshot, everything: &Reading) -> Result<()> {
    let all = everything.resources();
    let named: Vec<_> = all.iter().filter(|resource| resource.id.is_some()).collect();
    for wanted in places(named.len()).filter_map(|index| named.get(index)) {
        let ids: BTreeSet<String> = wanted.id.iter().cloned().collect();
        let types = wanted.resource_type.iter().cloned().collect();
        let asked = Asked { types: Some(types), ids: Some(ids.clone()), ..Asked::default() };
        let some = Reading::of(snapshot, &asked).await?;
        let is_asked = |resource: &Resource| {
            let has_id = resource.id.as_ref().is_some_and(|id| ids.contains(id));
            has_id && resource.resource_type == wanted.resource_type
        };
        compare(&all, &some, false, is_asked).map_err(|error| error.with("asked for an id of", wanted.name()))?;
    }
    Ok(())
}

/// Checks requests for a cohort: nobody, one patient, half of all.
pub(super) async fn check_cohorts(snapshot: &dyn Snapshot, everything: &Reading) -> Result<()> {
    if !snapshot.takes_cohort() {
        return Ok(());
    }
    let all = everything.resources();
    let compartment = Arc::new(Compartment::r4_patient());
    let mut patients: Vec<_> = all.iter().flat_map(|resource| resource.patients(&compartment)).collect();
    patients.sort_unstable();
    patients.dedup();
    let groups = all.iter().filter(|resource| resource.is("Group")).filter_map(|group| group.id.clone()).take(1);
    let groups: BTreeSet<String> = groups.collect();
    let one = patients.len().min(1);
    for chosen in [0, one, patients.len() / 2] {
        let members = patients.get(..chosen).unwrap_or_default();
        let ids = CohortIds::new(members.iter().map(String::as_str), groups.clone());
        let asked = Asked { cohort: Some(Arc::new(ids)), ..Asked::default() };
        let some = Reading::of(snapshot, &asked).await?;
        let is_asked = |resource: &Resource| {
            let holds = |id: &String| members.binary_search(id).is_ok();
            match resource.resource_type.as_ref().map(ResourceType::as_str) {
                Some("Patient") => resource.id.as_ref().is_some_and(holds),
                Some("Group") => resource.id.as_ref().is_some_and(|id| groups.contains(id)),
                _ => resource.patients(&compartment).iter().any(holds),
            }
        };
        compare(&all, &some, some.plan.pushdown.cohort, is_asked)
            .map_err(|error| error.with("asked for a cohort of", chosen))?;
    }
    Ok(())
}

/// Checks that no resource is in two ranges of rows. Files may hold a resource twice.
pub(super) fn check_disjoint(everything: &Reading) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (range, collected) in everything.plan.ranges.iter().zip(&everything.collected) {
        if collected.is_line_based() {
            continue;
        }
        let own: BTreeSet<_> = resources(collected)
            .filter(|resource| resource.id.is_some())
            .map(|resource| (resource.resource_type, resource.id))
            .collect();
        if !seen.is_disjoint(&own) {
            return Err(broken("a resource is in two ranges").with("range", &range.name));
        }
        seen.extend(own);
    }
    Ok(())
}

impl Resource {
    fn name(&self) -> String {
        self.resource_type.as_ref().map_or_else(|| "no type".to_owned(), ToString::to_string)
    }

    fn is(&self, name: &str) -> bool {
        self.resource_type.as_ref().is_some_and(|resource_type| resource_type.as_str() == name)
    }

    /// The patients in whose compartment it is by reference; of a Patient itself.
    fn patients(&self, compartment: &Arc<Compartment>) -> Vec<String> {
        if self.is("Patient") {
            return self.id.iter().cloned().collect();
        }
        let plan = ScanPlan { compartment: Some(Arc::clone(compartment)), validation: Validation::Full };
        let mut references = References::new();
        if scan(&self.bytes, &plan, &mut references).is_err() {
            return Vec::new();
        }
        let base_urls = BaseUrls::default();
        let of_patient = |reference: &str| match base_urls.classify(reference) {
            Reference::Local { resource_type: "Patient", id } => Some(id.to_owned()),
            _ => None,
        };
        references.iter().filter_map(of_patient).collect()
    }
}

/// Compares what came with what there is; where the source says that it filters, also that nothing else came.
fn compare(all: &[Resource], some: &Reading, filtered: bool, is_asked: impl Fn(&Resource) -> bool) -> Result<()> {
    let came = some.resources();
    let wanted = all.iter().filter(|resource| is_asked(resource));
    if !came.iter().filter(|resource| is_asked(resource)).eq(wanted) {
        return Err(broken("what was asked for didn't come, or came in another form or number"));
    }
    if filtered && !came.iter().all(is_asked) {
        return Err(broken("the source says that it filters, and yet something else came"));
    }
    Ok(())
}
