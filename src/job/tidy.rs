//! Leaves nothing behind: removes what a job wrote that isn't to stay.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future;
use futures::stream::{self, StreamExt};

use super::closing::Closed;
use crate::destination::{Destination, ObjectKey, OpenUpload};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics;
use crate::writer::{Leftover, Naming, ObjectName};

/// How often open uploads are looked for: an upload that began as its request was given up may show late.
const ROUNDS: usize = 3;

/// How many objects are removed, and uploads aborted, side by side.
const REMOVED_AT_ONCE: usize = 16;

/// A store that is asked again only as long as it answers, so that one that is gone costs one time limit, not one for
/// each object.
#[derive(Debug)]
pub(super) struct Store<'a> {
    pub(super) destination: &'a dyn Destination,
    limit: Duration,
    is_gone: AtomicBool,
}

impl<'a> Store<'a> {
    /// Gives up after one request that takes longer than `limit`.
    pub(super) const fn new(destination: &'a dyn Destination, limit: Duration) -> Self {
        Self { destination, limit, is_gone: AtomicBool::new(false) }
    }

    /// Whether it has left a request without an answer.
    pub(super) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }

    /// Runs a request, in time.
    pub(super) async fn ask<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        if self.is_gone() {
            return Err(no_answer(self.limit));
        }
        match tokio::time::timeout(self.limit, request).await {
            Ok(result) => result,
            Err(_) => {
                self.is_gone.store(true, Ordering::Relaxed);
                Err(no_answer(self.limit))
            }
        }
    }
}

/// Removes every object and upload of a job; what can't be removed is left in the report.
pub(super) async fn discard(store: &Store<'_>, naming: &Naming, closed: &mut Closed) {
    let keys = closed.objects.iter().map(|object| object.key.clone()).collect();
    delete(store, keys, closed).await;
    let removals = std::mem::take(&mut closed.leftovers).into_iter().map(|leftover| async move {
        let removed = store.ask(remove(store.destination, &leftover)).await;
        removed.is_err().then_some(leftover)
    });
    let mut still_left: Vec<Leftover> =
        stream::iter(removals).buffer_unordered(REMOVED_AT_ONCE).filter_map(future::ready).collect().await;
    still_left.sort_by(|a, b| a.key.cmp(&b.key));
    closed.leftovers = still_left;
    abort_strays(store, naming, closed).await;
}

/// Removes the sealed objects that come behind one that isn't whole, and says of the others where their type goes on.
/// Returns those that are gone.
pub(super) async fn seal(store: &Store<'_>, closed: &mut Closed, is_read_to_end: bool) -> Vec<ObjectName> {
    let keys = closed.behind_gaps();
    let of_key = |key: &ObjectKey| closed.objects.iter().find(|object| object.key == *key);
    let named = keys
        .iter()
        .filter_map(of_key)
        .map(|object| (object.key.clone(), ObjectName { content: object.content.clone(), sequence: object.sequence }));
    let named: Vec<_> = named.collect();
    delete(store, keys, closed).await;
    closed.mark_partial(is_read_to_end);
    let is_gone = |key: &ObjectKey| closed.leftovers.iter().all(|left| left.key != *key);
    named.into_iter().filter(|(key, _)| is_gone(key)).map(|(_, name)| name).collect()
}

/// Removes objects and counts them as cut.
async fn delete(store: &Store<'_>, keys: Vec<ObjectKey>, closed: &mut Closed) {
    let removals = keys.into_iter().map(|key| async move {
        let removed = store.ask(store.destination.delete(&key)).await;
        (key, removed)
    });
    let removals: Vec<_> = stream::iter(removals).buffer_unordered(REMOVED_AT_ONCE).collect().await;
    let mut removed = Vec::new();
    for (key, outcome) in removals {
        match outcome {
            Ok(()) => removed.push(key),
            Err(error) => closed.leave(Leftover { key, upload_id: None }, error),
        }
    }
    closed.remove_objects(|key| removed.contains(key));
}

/// Aborts uploads of the job that nobody knows any more, such as one whose first answer was lost. What is listed as left
/// stays: it can be continued.
pub(super) async fn abort_strays(store: &Store<'_>, naming: &Naming, closed: &Closed) {
    let folder = naming.folder();
    let kept: Vec<ObjectKey> = closed.leftovers.iter().map(|left| left.key.clone()).collect();
    let begun = closed.begun(naming);
    // In the flat layout other uploads of the folder may be somebody else's.
    let is_stray = |key: &ObjectKey| !kept.contains(key) && (!folder.is_empty() || begun.contains(key));
    for _ in 0..ROUNDS {
        match store.ask(abort_listed(store.destination, &folder, is_stray)).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => tracing::warn!(folder, error = format!("{error:#}"), "open uploads can't be looked for"),
        }
    }
}

/// Aborts the strays among the uploads that the store lists, and tells how many they were.
async fn abort_listed(
    destination: &dyn Destination,
    folder: &str,
    is_stray: impl Fn(&ObjectKey) -> bool,
) -> Result<usize> {
    let open = destination.open_uploads(folder).await?.unwrap_or_default();
    let strays: Vec<OpenUpload> = open.into_iter().filter(|upload| is_stray(&upload.key)).collect();
    let count = strays.len();
    let aborts =
        strays.into_iter().map(|upload| async move { abort(destination, &upload.key, &upload.upload_id).await });
    let mut aborts = stream::iter(aborts).buffer_unordered(REMOVED_AT_ONCE);
    while let Some(aborted) = aborts.next().await {
        aborted?;
    }
    Ok(count)
}

/// Aborts an upload; one that is gone is as good as aborted.
async fn abort(destination: &dyn Destination, key: &ObjectKey, upload_id: &str) -> Result<()> {
    match destination.reopen(key, upload_id).await {
        Ok(upload) => upload.abort().await.inspect_err(|_| metrics::count_failed_abort()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

async fn remove(destination: &dyn Destination, left: &Leftover) -> Result<()> {
    if let Some(upload_id) = &left.upload_id {
        abort(destination, &left.key, upload_id).await?;
    }
    destination.delete(&left.key).await
}

fn no_answer(limit: Duration) -> Error {
    let message = format!("the store didn't answer within {} s", limit.as_secs_f64());
    Error::new(ErrorKind::Store, message).retryable(true)
}
