//! The promises of a source, as a suite that an embedder runs against his own.
//!
//! [`check`] opens a source, reads everything several times and compares. Give it a small, well-formed and quiet
//! source of some hundred resources, several types among them, which nobody writes to meanwhile; all of it is held in
//! memory. [`read`] reads one range, for tests of one's own.

mod asking;
mod collect;
mod reading;

use std::collections::HashSet;

use collect::broken;
pub use collect::{Collected, read};

use super::{Asked, Cursor, Plan, Snapshot, Source};
use crate::error::Result;

/// How many places of a range are tried at most, where each could be: spread over the range, both ends among them.
const MOST_PLACES: usize = 24;

/// Checks that a source keeps its promises.
///
/// - The transaction time of a snapshot doesn't move; planning it twice for the same request gives the same ranges.
/// - A range gives the same bytes each time, alone or while the others are read, also after a read that was dropped.
/// - Reading on from a cursor that the sink was told gives the rest; of a line-based range, from the start of any line.
/// - What is declared of a range's types is true, no resource is in two ranges of rows, what is left out of a plan was
///   not asked for, be it by type, time, id or cohort, and what a source says it has filtered it has filtered right.
/// - A read tells where it begins, hands every buffer back, keeps to the line limit, and when the sink refuses, hands
///   the error on and is done.
///
/// # Errors
/// The promise that is broken, with the range; or the error that the source gave.
///
/// # Example
/// ```
/// use fhir_export::source::memory::{MemoryRange, MemorySource};
/// use fhir_export::source::contract;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> fhir_export::Result<()> {
/// let source = MemorySource::new().with(MemoryRange::lines("all", "{\"resourceType\":\"Patient\"}\n"));
/// contract::check(&source).await?;
/// # Ok(())
/// # }
/// ```
pub async fn check(source: &dyn Source) -> Result<()> {
    if source.name().is_empty() {
        return Err(broken("the source has no name"));
    }
    let snapshot = source.open().await?;
    let snapshot = &*snapshot;
    let transaction_time = snapshot.transaction_time();
    let after = snapshot.after_transaction_time();

    let everything = Reading::of(snapshot, &Asked::default()).await?;
    for (range, collected) in everything.plan.ranges.iter().zip(&everything.collected) {
        reading::check_range(snapshot, range, collected).await.map_err(|error| error.with("range", &range.name))?;
    }
    reading::check_side_by_side(snapshot, &everything).await?;
    asking::check_types(snapshot, &everything).await?;
    asking::check_times(snapshot, &everything).await?;
    asking::check_ids(snapshot, &everything).await?;
    asking::check_cohorts(snapshot, &everything).await?;
    asking::check_disjoint(&everything)?;

    if snapshot.transaction_time() != transaction_time || snapshot.after_transaction_time() != after {
        return Err(broken("the transaction time of the snapshot has moved"));
    }
    Ok(())
}

/// Checks that a snapshot doesn't see what is written while it is open, and that the next one does.
///
/// `write` changes the source in any way: it inserts, updates and deletes resources.
///
/// # Errors
/// The promise that is broken, or the error that the source or `write` gave.
///
/// # Cancellation
/// The future may be dropped at any await.
pub async fn check_isolation<W>(source: &dyn Source, write: W) -> Result<()>
where
    W: AsyncFnOnce() -> Result<()>,
{
    let snapshot = source.open().await?;
    let before = Reading::of(&*snapshot, &Asked::default()).await?;
    write().await?;
    let again = Reading::of(&*snapshot, &Asked::default()).await?;
    if again.resources() != before.resources() {
        return Err(broken("the snapshot sees what was written after it was opened"));
    }
    for (range, collected) in before.plan.ranges.iter().zip(&before.collected) {
        reading::check_range(&*snapshot, range, collected).await?;
    }
    let transaction_time = snapshot.transaction_time();
    drop(snapshot);
    let next = source.open().await?;
    if next.transaction_time() < transaction_time {
        return Err(broken("the transaction time of a later snapshot is before that of an earlier one"));
    }
    if Reading::of(&*next, &Asked::default()).await?.resources() == before.resources() {
        return Err(broken("a snapshot that was opened later doesn't see what was written before"));
    }
    Ok(())
}

/// A plan, and everything that its ranges hold.
struct Reading {
    plan: Plan,
    collected: Vec<Collected>,
}

impl Reading {
    async fn of(snapshot: &dyn Snapshot, asked: &Asked) -> Result<Self> {
        let plan = checked_plan(snapshot, asked).await?;
        let mut collected = Vec::new();
        for range in &plan.ranges {
            let (bytes, result) = read(snapshot, range, &Cursor::start()).await;
            result?;
            collected.push(bytes);
        }
        Ok(Self { plan, collected })
    }
}

async fn checked_plan(snapshot: &dyn Snapshot, asked: &Asked) -> Result<Plan> {
    let (plan, again) = (snapshot.plan(asked).await?, snapshot.plan(asked).await?);
    if plan.ranges != again.ranges || plan.skipped != again.skipped || plan.pushdown != again.pushdown {
        return Err(broken("the same snapshot is planned differently for the same request"));
    }
    let mut names = HashSet::new();
    for range in plan.ranges.iter().chain(&plan.skipped) {
        if !names.insert(&range.name) {
            return Err(broken("two ranges have one name").with("range", &range.name));
        }
    }
    Ok(plan)
}

/// Indexes below `count`, at most [`MOST_PLACES`] of them.
fn places(count: usize) -> impl Iterator<Item = usize> {
    let chosen = count.min(MOST_PLACES);
    (0..chosen).map(move |index| if chosen < 2 { index } else { index * (count - 1) / (chosen - 1) })
}

#[cfg(test)]
mod tests;
