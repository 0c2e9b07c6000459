//! Claims that end by themselves unless they are renewed.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::{Clock, SystemClock};

/// Up to when a claim stands without anybody being asked. Clones are one and the same.
///
/// It is kept by two clocks, and the claim is lost when either has passed: the one that runs evenly may stand still while
/// the machine sleeps, the time of day may be set back.
#[derive(Clone)]
pub struct Lease(Arc<Mutex<Until>>);

#[derive(Clone, Copy)]
struct Until {
    instant: Instant,
    since_epoch: Duration,
    is_lost: bool,
}

impl Lease {
    /// A lease that stands for so long from now on.
    #[must_use]
    pub fn lasting(duration: Duration) -> Self {
        let (instant, since_epoch) = (Instant::now() + duration, SystemClock.since_epoch() + duration);
        Self(Arc::new(Mutex::new(Until { instant, since_epoch, is_lost: false })))
    }

    /// Lets it stand as long as another, unless it is lost.
    pub fn extend(&self, to: &Self) {
        let to = *to.lock();
        let mut until = self.lock();
        (until.instant, until.since_epoch) = (to.instant, to.since_epoch);
    }

    /// Ends it for good.
    pub fn lose(&self) {
        self.lock().is_lost = true;
    }

    /// Whether the claim is no more, or may be no more.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        let mut until = self.lock();
        // What was lost once stays so: others may have seen it.
        until.is_lost |= Instant::now() >= until.instant || SystemClock.since_epoch() >= until.since_epoch;
        until.is_lost
    }

    /// Waits until it is lost.
    pub async fn lost(&self) {
        while !self.is_lost() {
            let until = self.lock().instant;
            // In between, too: it may be lost before its time.
            tokio::time::sleep_until(until.min(Instant::now() + Duration::from_millis(200))).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Until> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("is_lost", &self.lock().is_lost).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_in_time_and_what_was_lost_stays_lost() {
        let lease = Lease::lasting(Duration::from_secs(60));
        assert!(!lease.is_lost());
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(!lease.is_lost());
        lease.extend(&Lease::lasting(Duration::from_secs(60)));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(!lease.is_lost());
        lease.lost().await;
        lease.extend(&Lease::lasting(Duration::from_secs(60)));
        assert!(lease.is_lost());
    }
}
