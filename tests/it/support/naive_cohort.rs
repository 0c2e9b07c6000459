//! Groups and their members, as plainly as the rest of the naive exporter.

use std::collections::BTreeSet;

use serde_json::Value;

use super::naive::{Moment, NaiveRequest, Refusal, days, instant, local, type_of};

/// What a Group resolves to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cohort {
    /// Ids of patients.
    pub(crate) patients: BTreeSet<String>,
    /// Ids of the Group and of those nested in it.
    pub(crate) groups: BTreeSet<String>,
    /// Ids of nested Groups that aren't there.
    pub(crate) missing: BTreeSet<String>,
}

/// Resolves a Group and what is nested in it.
pub(crate) fn resolve(resources: &[Value], id: &str, request: &NaiveRequest) -> Result<Cohort, Refusal> {
    let mut cohort = Cohort::default();
    let mut waiting = vec![id.to_owned()];
    while let Some(next) = waiting.pop() {
        let found = |value: &&Value| type_of(value) == Some("Group") && value["id"] == next.as_str();
        let mut groups = resources.iter().filter(found);
        let Some(group) = groups.next() else {
            if next == id {
                return Err(Refusal::UnknownGroup);
            }
            cohort.missing.insert(next);
            continue;
        };
        if groups.next().is_some() {
            return Err(Refusal::GroupTwice);
        }
        cohort.groups.insert(next.clone());
        if group["actual"] == false {
            if next == id {
                return Err(Refusal::GroupNotActual);
            }
            continue;
        }
        for member in group["member"].as_array().into_iter().flatten() {
            let reference = member["entity"]["reference"].as_str().unwrap_or_default();
            match local(reference, &request.base_urls) {
                Some((name, id)) if name == "Patient" && is_current(member, request) => {
                    cohort.patients.insert(id);
                }
                Some((name, id)) if name == "Group" && is_current(member, request) && !cohort.groups.contains(&id) => {
                    waiting.push(id);
                }
                _ => {}
            }
        }
    }
    Ok(cohort)
}

/// Whether somebody is a member at the transaction time.
fn is_current(member: &Value, request: &NaiveRequest) -> bool {
    let now = instant(&request.transaction_time).expect("an instant");
    let bound = |name: &str| member["period"].get(name).map(|text| span(text.as_str().unwrap_or_default()));
    let active = member.get("inactive").is_none_or(|inactive| *inactive == false);
    let started = bound("start").is_none_or(|start| start.is_some_and(|(first, _)| first <= now));
    let not_ended = bound("end").is_none_or(|end| end.is_some_and(|(_, last)| last >= now));
    active && started && not_ended
}

/// First and last moment of a `dateTime`, a partial date being in UTC; a time with whole seconds lasts one second.
fn span(text: &str) -> Option<(Moment, Moment)> {
    // The last moment has no name in decimals; this one is later than any with fewer than thirty digits.
    let to_the_last = |seconds| (seconds, "9".repeat(30));
    if let Some(moment) = instant(text) {
        let last = if text.contains('.') { moment.clone() } else { to_the_last(moment.0) };
        return Some((moment, last));
    }
    let pieces: Vec<&str> = text.split('-').collect();
    let digits = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    let lengths = [4, 2, 2];
    if pieces.len() > 3 || !pieces.iter().zip(lengths).all(|(piece, length)| digits(piece, length)) {
        return None;
    }
    let number = |index: usize| pieces.get(index).map(|digits| digits.parse::<i64>().unwrap());
    let (year, month, day) = (number(0)?, number(1), number(2));
    let first = days(year, month.unwrap_or(1), day.unwrap_or(1))?;
    let next = match (month, day) {
        (_, Some(_)) => first + 1,
        (Some(12) | None, None) => days(year + 1, 1, 1)?,
        (Some(month), None) => days(year, month + 1, 1)?,
    };
    Some(((first * 86_400, String::new()), to_the_last(next * 86_400 - 1)))
}
