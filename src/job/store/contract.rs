//! What every job store must do, as one suite that each of ours passes, and an embedder's own can.

use super::{CancelWish, JobRecord, JobStore};
use crate::error::ErrorKind;
use crate::job::{Config, JobState, OnCancel};
use crate::request::{ExportRequest, JobId, Level};
use crate::writer::Entry;

/// Checks that a job store, which has no jobs yet, keeps the contract of [`JobStore`].
///
/// # Panics
/// When it doesn't.
#[expect(clippy::unwrap_used, reason = "a check that fails says where")]
pub async fn check(store: &dyn JobStore) {
    assert!(store.list().await.unwrap().is_empty(), "it has no jobs yet");
    a_record_is_read_as_it_was_written(store).await;
    one_holds_a_job_at_a_time(store).await;
    what_comes_from_an_old_claim_is_refused(store).await;
    entries_keep_their_order_and_their_job(store).await;
    word_of_a_cancel_is_seen_until_it_is_taken_back(store).await;
    an_unknown_job_is_said_to_be_so(store).await;
    assert!(store.list().await.unwrap().is_empty(), "removed jobs are gone");
}

/// A record for tests.
///
/// # Panics
/// When the id isn't one.
#[must_use]
#[expect(clippy::unwrap_used, reason = "only tests ask for it")]
pub fn record(id: &str) -> JobRecord {
    let request = ExportRequest::new(Level::Patient);
    let (source, manifest_url, context) = ("memory".into(), "memory://m".into(), serde_json::json!({"a": 1}));
    JobRecord::new(&JobId::new(id).unwrap(), &request, source, manifest_url, &Config::default(), context)
}

fn entry(name: &str) -> Entry {
    Entry::Plan { ranges: vec![(name.to_owned(), None)] }
}

#[expect(clippy::unwrap_used, reason = "a check that fails says where")]
async fn a_record_is_read_as_it_was_written(store: &dyn JobStore) {
    let mut record = record("one");
    let claim = store.create(&record).await.unwrap();
    assert_eq!(store.create(&record).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(store.get(&record.id).await.unwrap().as_ref(), Some(&record));
    record.state = JobState::InProgress;
    record.transaction_time = Some((-1, 999_999_999));
    store.update(&claim, &record).await.unwrap();
    assert_eq!(store.list().await.unwrap(), [record]);
    store.remove(claim).await.unwrap();
}

#[expect(clippy::unwrap_used, reason = "a check that fails says where")]
async fn one_holds_a_job_at_a_time(store: &dyn JobStore) {
    let record = record("two");
    let claim = store.create(&record).await.unwrap();
    assert!(store.claim(&record.id).await.unwrap().is_none(), "its creator holds it");
    assert!(store.is_claimed(&record.id).await.unwrap());
    let fence = claim.fence();
    drop(claim);
    assert!(!store.is_claimed(&record.id).await.unwrap());
    let claim = store.claim(&record.id).await.unwrap().unwrap();
    assert!(claim.fence() > fence && store.claim(&record.id).await.unwrap().is_none());
    assert!(store.is_claimed(&record.id).await.unwrap());
    store.update(&claim, &record).await.unwrap();
    store.remove(claim).await.unwrap();
}

#[expect(clippy::unwrap_used, reason = "a check that fails says where")]
async fn what_comes_from_an_old_claim_is_refused(store: &dyn JobStore) {
    let record = record("three");
    let claim = store.create(&record).await.unwrap();
    let old = super::Claim::new(record.id.clone(), claim.fence(), std::sync::Arc::new(()));
    drop(claim);
    let claim = store.claim(&record.id).await.unwrap().unwrap();
    for refused in [
        store.update(&old, &record).await,
        store.append(&old, entry("late")).await,
        store.heartbeat(&old).await.map(drop),
        store.clear_cancel(&old).await,
        store.remove(old).await,
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Fenced);
    }
    assert!(store.entries(&record.id).await.unwrap().is_empty());
    store.remove(claim).await.unwrap();
}

#[expect(clippy::unwrap_used, reason = "a check that fails says where")]
async fn entries_keep_their_order_and_their_job(store: &dyn JobStore) {
    let claims = [store.create(&record("four")).await.unwrap(), store.create(&record("five")).await.unwrap()];
    for (number, claim) in (0..100).zip(claims.iter().cycle()) {
        store.append(claim, entry(&number.to_string())).await.unwrap();
    }
    for (claim, first) in claims.iter().zip(0..) {
        let expected: Vec<Entry> = (0..50).map(|number: usize| entry(&(number * 2 + first).to_string())).collect();
        assert_eq!(store.entries(claim.job()).await.unwrap(), expected);
    }
    let [four, five] = claims;
    store.remove(four).await.unwrap();
    assert_eq!(store.entries(five.job()).await.unwrap().len(), 50, "another job's journal stays");
    store.remove(five).await.unwrap();
}

#[expect(clippy::unwrap_used, reason = "a check that fails says where")]
async fn word_of_a_cancel_is_seen_until_it_is_taken_back(store: &dyn JobStore) {
    let record = record("six");
    let claim = store.create(&record).await.unwrap();
    assert_eq!(store.heartbeat(&claim).await.unwrap(), None);
    for on_cancel in [None, Some(OnCancel::Seal), Some(OnCancel::Discard)] {
        store.ask_cancel(&record.id, CancelWish { on_cancel }).await.unwrap();
        assert_eq!(store.heartbeat(&claim).await.unwrap(), Some(CancelWish { on_cancel }));
    }
    store.clear_cancel(&claim).await.unwrap();
    assert_eq!(store.heartbeat(&claim).await.unwrap(), None);
    store.remove(claim).await.unwrap();
}

#[expect(clippy::unwrap_used, reason = "a check that fails says where")]
async fn an_unknown_job_is_said_to_be_so(store: &dyn JobStore) {
    let id = JobId::new("nobody").unwrap();
    assert_eq!(store.get(&id).await.unwrap(), None);
    assert!(!store.is_claimed(&id).await.unwrap());
    assert!(store.claim(&id).await.unwrap().is_none() && store.entries(&id).await.unwrap().is_empty());
    assert_eq!(store.ask_cancel(&id, CancelWish::default()).await.unwrap_err().kind(), ErrorKind::NotFound);
}
