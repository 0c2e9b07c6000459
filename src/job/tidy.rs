//! Leaves nothing behind: removes what a job wrote that isn't to stay.

use std::future::Future;
use std::time::Duration;

use super::closing::Closed;
use crate::destination::{Destination, ObjectKey, OpenUpload};
use crate::error::{Error, ErrorKind, Result};
use crate::writer::{Leftover, Naming};

/// How often open uploads are looked for: an upload that began as its request was given up may show late.
const ROUNDS: usize = 3;

/// Removes every object and upload of a job; what can't be removed is left in the report.
pub(super) async fn discard(destination: &dyn Destination, naming: &Naming, closed: &mut Closed, limit: Duration) {
    let mut removed = Vec::new();
    for key in closed.objects.iter().map(|object| object.key.clone()).collect::<Vec<_>>() {
        match in_time(destination.delete(&key), Some(limit)).await {
            Ok(()) => removed.push(key),
            Err(error) => closed.leave(Leftover { key, upload_id: None }, error),
        }
    }
    closed.remove_objects(|key| removed.contains(key));
    let mut still_left = Vec::new();
    for leftover in std::mem::take(&mut closed.leftovers) {
        if in_time(remove(destination, &leftover), Some(limit)).await.is_err() {
            still_left.push(leftover);
        }
    }
    closed.leftovers = still_left;
    abort_strays(destination, naming, closed, limit).await;
}

/// Aborts uploads of the job that nobody knows any more, such as one whose first answer was lost. What is listed as left
/// stays: it can be continued.
pub(super) async fn abort_strays(destination: &dyn Destination, naming: &Naming, closed: &Closed, limit: Duration) {
    let folder = naming.folder();
    if folder.is_empty() {
        // In the flat layout other uploads of the folder may be somebody else's.
        return;
    }
    let kept: Vec<ObjectKey> = closed.leftovers.iter().map(|left| left.key.clone()).collect();
    for _ in 0..ROUNDS {
        match in_time(abort_listed(destination, &folder, &kept), Some(limit)).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => tracing::warn!(folder, error = format!("{error:#}"), "open uploads can't be looked for"),
        }
    }
}

/// Aborts the uploads that the store lists but for those of the keys in `kept`, and tells how many they were.
async fn abort_listed(destination: &dyn Destination, folder: &str, kept: &[ObjectKey]) -> Result<usize> {
    let open = destination.open_uploads(folder).await?.unwrap_or_default();
    let strays: Vec<OpenUpload> = open.into_iter().filter(|upload| !kept.contains(&upload.key)).collect();
    for upload in &strays {
        abort(destination, &upload.key, &upload.upload_id).await?;
    }
    Ok(strays.len())
}

/// Aborts an upload; one that is gone is as good as aborted.
async fn abort(destination: &dyn Destination, key: &ObjectKey, upload_id: &str) -> Result<()> {
    match destination.reopen(key, upload_id).await {
        Ok(upload) => upload.abort().await,
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

/// Runs a request with a time limit, if there is one.
pub(super) async fn in_time<T>(request: impl Future<Output = Result<T>>, limit: Option<Duration>) -> Result<T> {
    let Some(limit) = limit else { return request.await };
    match tokio::time::timeout(limit, request).await {
        Ok(result) => result,
        Err(_) => {
            let message = format!("the store didn't answer within {} s", limit.as_secs_f64());
            Err(Error::new(ErrorKind::Store, message).retryable(true))
        }
    }
}
