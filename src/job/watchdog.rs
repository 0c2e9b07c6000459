//! Ends a job that stands still: it reads nothing, and nothing of it becomes durable.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::Instant;

use super::handle::Shared;
use crate::error::{Error, ErrorKind};

/// How often the job is looked at, at least.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// Watches a job for ever.
pub(super) async fn watch(shared: &Shared, limit: Option<Duration>) -> Infallible {
    let Some(limit) = limit else { return std::future::pending().await };
    let (mut last, mut since) = (shared.activity.count(), Instant::now());
    loop {
        tokio::time::sleep((limit / 10).min(LONGEST_LOOK)).await;
        let now = shared.activity.count();
        if now != last || shared.is_idle() {
            (last, since) = (now, Instant::now());
            continue;
        }
        if since.elapsed() >= limit {
            let waits_for = shared.activity.waits_for();
            let place = shared.activity.range();
            let message = format!(
                "nothing was read and nothing became durable for {} s; the job waits for the {waits_for}",
                limit.as_secs_f64()
            );
            let mut error = Error::new(ErrorKind::Stalled, message).retryable(true);
            if let Some(place) = place {
                error = error.with("range", place);
            }
            shared.fail(error);
            since = Instant::now();
        }
    }
}
