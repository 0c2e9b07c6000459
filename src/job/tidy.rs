//! Leaves nothing behind: removes what a job wrote that isn't to stay.

use std::future::Future;
use std::time::Duration;

use super::closing::Closed;
use crate::destination::{Destination, ObjectKey};
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
    abort_strays(destination, naming, closed, limit).await;
}

/// Aborts uploads of the job that nobody knows any more, such as one whose first answer was lost.
pub(super) async fn abort_strays(destination: &dyn Destination, naming: &Naming, closed: &mut Closed, limit: Duration) {
    let folder = naming.folder();
    if folder.is_empty() {
        // In the flat layout other uploads of the folder may be somebody else's.
        return;
    }
    for _ in 0..ROUNDS {
        match in_time(abort_listed(destination, &folder), Some(limit)).await {
            Ok(0) => {
                closed.leftovers.retain(|left| left.upload_id.is_none());
                break;
            }
            Ok(_) => {}
            Err(error) => {
                if closed.error.is_none() {
                    closed.error = Some(error);
                }
                return;
            }
        }
    }
    remove_left_objects(destination, closed, limit).await;
}

/// Tries again to remove objects that could not be removed before.
async fn remove_left_objects(destination: &dyn Destination, closed: &mut Closed, limit: Duration) {
    let mut left = Vec::new();
    for leftover in std::mem::take(&mut closed.leftovers) {
        if in_time(destination.delete(&leftover.key), Some(limit)).await.is_err() {
            left.push(leftover);
        }
    }
    closed.leftovers = left;
    let gone: Vec<ObjectKey> = closed.objects.iter().map(|object| object.key.clone()).collect();
    closed.leftovers.retain(|leftover| !gone.contains(&leftover.key) || leftover.upload_id.is_some());
}

async fn abort_listed(destination: &dyn Destination, folder: &str) -> Result<usize> {
    let Some(open) = destination.open_uploads(folder).await? else { return Ok(0) };
    let count = open.len();
    for upload in open {
        destination.reopen(&upload.key, &upload.upload_id).await?.abort().await?;
    }
    Ok(count)
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
