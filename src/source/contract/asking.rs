//! Asking for some types and times only: nothing that was asked for may be missing.

use std::collections::BTreeSet;

use serde_json::Value;

use super::collect::{Collected, broken};
use super::{Reading, places};
use crate::error::Result;
use crate::fhir::{Instant, ResourceType};
use crate::source::{Asked, Range, Snapshot};

/// One resource as the suite sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Resource {
    resource_type: Option<ResourceType>,
    last_updated: Option<Instant>,
    deleted: bool,
    bytes: Vec<u8>,
}

impl Resource {
    fn new(bytes: &[u8], deleted: bool) -> Self {
        let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes).trim_ascii();
        let value: Value = serde_json::from_slice(text).unwrap_or_default();
        let resource_type = value.get("resourceType").and_then(Value::as_str);
        let last_updated = value.pointer("/meta/lastUpdated").and_then(Value::as_str);
        Self {
            resource_type: resource_type.and_then(|name| ResourceType::new(name).ok()),
            last_updated: last_updated.and_then(|text| Instant::parse(text).ok()),
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
    fn resources(&self) -> Vec<Resource> {
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
    let is_asked = |resource: &Resource| resource.last_updated.as_ref().is_some_and(|time| time <= middle);
    compare(&all, &some, some.plan.pushdown.times, is_asked).map_err(|error| error.with("asked until", middle))
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
