//! When a failed call to a store is repeated, what it is counted as, and how the flight is throttled.

use std::error::Error as StdError;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, ErrorKind};

/// Why a call failed that may succeed when it is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryCause {
    /// The store asks for fewer requests: 429, 503, `SlowDown`.
    Throttled,
    /// The store failed: any other 5xx.
    ServerError,
    /// There was no answer in time.
    Timeout,
    /// The connection couldn't be made, was lost, or damaged the bytes.
    Connection,
}

impl RetryCause {
    /// All causes, in the order in which reports list them.
    pub const ALL: [Self; 4] = [Self::Throttled, Self::ServerError, Self::Timeout, Self::Connection];

    /// The cause as a name for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::Connection => "connection",
        }
    }

    /// The cause of an error; `None` if a retry won't mend it.
    #[must_use]
    pub fn of(error: &Error) -> Option<Self> {
        if !error.is_retryable() {
            return None;
        }
        let transient = error.source().and_then(|source| source.downcast_ref::<Transient>());
        Some(transient.map_or(Self::ServerError, |transient| transient.cause))
    }

    /// Makes an error retryable, for this cause.
    #[must_use]
    pub fn mark(self, error: Error) -> Error {
        error.retryable(true).caused_by(Transient { cause: self, source: None })
    }

    /// Makes an error retryable, for this cause, and keeps what it comes from.
    pub(super) fn mark_from(self, error: Error, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        error.retryable(true).caused_by(Transient { cause: self, source: Some(source.into()) })
    }
}

impl fmt::Display for RetryCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The link in an error's chain of causes that says why it may be repeated.
#[derive(Debug)]
struct Transient {
    cause: RetryCause,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl fmt::Display for Transient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cause.as_str())
    }
}

impl StdError for Transient {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// How often failed calls are repeated, and how long a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a call is made at most; [`complete`](super::Upload::complete) has a time instead.
    pub attempts: u32,
    /// The wait after the first failure; it doubles with each further one.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
    /// How long [`complete`](super::Upload::complete) is repeated.
    pub complete_for: Duration,
    /// How long one request may take, besides the time for its bytes.
    pub request_for: Duration,
    /// The slowest transfer that is waited for, in bytes a second.
    pub slowest_bytes_per_second: u64,
    /// How long a listing of several pages may take.
    pub listing_for: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 10,
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(20),
            complete_for: Duration::from_secs(600),
            request_for: Duration::from_secs(30),
            slowest_bytes_per_second: 256 << 10,
            listing_for: Duration::from_secs(300),
        }
    }
}

impl RetryPolicy {
    /// How long a request that carries so many bytes may take.
    #[must_use]
    pub fn deadline(&self, bytes: u64) -> Duration {
        let transfer_ms = bytes.saturating_mul(1000) / self.slowest_bytes_per_second.max(1);
        self.request_for.saturating_add(Duration::from_millis(transfer_ms))
    }

    /// How long to wait after so many failures: doubling, and by chance between half and all of it.
    pub(super) fn wait(&self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let longest = self.first_wait.saturating_mul(doubled).min(self.longest_wait);
        // Without randomness waits are merely less spread.
        let random = getrandom::u32().unwrap_or(u32::MAX);
        let fraction = 0.5 + f64::from(random) / f64::from(u32::MAX) / 2.0;
        longest.mul_f64(fraction)
    }
}

/// How many calls failed for each cause, the repeated ones and those that were given up.
#[derive(Debug, Default)]
pub struct RetryCounts {
    throttled: AtomicU64,
    server_error: AtomicU64,
    timeout: AtomicU64,
    connection: AtomicU64,
}

impl RetryCounts {
    /// How many calls failed for this cause.
    #[must_use]
    pub fn get(&self, cause: RetryCause) -> u64 {
        self.counter(cause).load(Ordering::Relaxed)
    }

    /// How many calls failed for any cause.
    #[must_use]
    pub fn total(&self) -> u64 {
        RetryCause::ALL.into_iter().map(|cause| self.get(cause)).sum()
    }

    /// The causes for which calls failed, by name, and how many for each.
    pub fn by_cause(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = RetryCause::ALL.map(|cause| (cause.as_str(), self.get(cause)));
        counts.into_iter().filter(|(_, count)| *count > 0)
    }

    pub(super) fn add(&self, cause: RetryCause) {
        self.counter(cause).fetch_add(1, Ordering::Relaxed);
    }

    const fn counter(&self, cause: RetryCause) -> &AtomicU64 {
        match cause {
            RetryCause::Throttled => &self.throttled,
            RetryCause::ServerError => &self.server_error,
            RetryCause::Timeout => &self.timeout,
            RetryCause::Connection => &self.connection,
        }
    }
}

/// How much of the flight a store can take: halved when it asks for less, given back while it doesn't.
#[derive(Debug)]
pub struct Throttle {
    state: Mutex<Halvings>,
}

#[derive(Debug)]
struct Halvings {
    count: u32,
    changed_at: Option<Instant>,
}

impl Throttle {
    /// Parts in flight at one time all meet the same overload: they count as one.
    const HALVED_AGAIN_AFTER: Duration = Duration::from_secs(1);
    const DOUBLED_AFTER: Duration = Duration::from_secs(10);
    const MOST_HALVINGS: u32 = 10;

    /// A throttle that is open.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: Mutex::new(Halvings { count: 0, changed_at: None }) }
    }

    /// How many of `most` bytes may be in flight now; a part is always let through when nothing else is.
    #[must_use]
    pub fn allowed(&self, most: usize) -> usize {
        most >> self.lock().count
    }

    /// Says that the store asked for fewer requests.
    pub fn throttled(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        let again = state.changed_at.is_none_or(|changed| now.duration_since(changed) >= Self::HALVED_AGAIN_AFTER);
        if state.count == 0 || again {
            state.count = (state.count + 1).min(Self::MOST_HALVINGS);
            state.changed_at = Some(now);
        }
    }

    /// Says that the store took a request.
    pub fn succeeded(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        let calm = state.changed_at.is_some_and(|changed| now.duration_since(changed) >= Self::DOUBLED_AFTER);
        if state.count > 0 && calm {
            state.count -= 1;
            state.changed_at = Some(now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Halvings> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new()
    }
}

/// The error of a call that had no answer in time.
pub(super) fn no_answer(what: &str, deadline: Duration) -> Error {
    let message = format!("{what}: the store gave no answer in {} s", deadline.as_secs());
    RetryCause::Timeout.mark(Error::new(ErrorKind::Store, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_doubles_up_to_the_longest() {
        let policy = RetryPolicy::default();
        for (failures, longest_ms) in [(1, 100), (2, 200), (5, 1600), (9, 20_000), (40, 20_000)] {
            let longest = Duration::from_millis(longest_ms);
            let wait = policy.wait(failures);
            assert!(wait >= longest / 2 && wait <= longest, "{failures}: {wait:?}");
        }
    }

    #[test]
    fn a_deadline_leaves_time_for_the_bytes() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.deadline(0), Duration::from_secs(30));
        assert_eq!(policy.deadline(8 << 20), Duration::from_secs(62));
    }

    #[test]
    fn a_cause_is_read_from_an_error() {
        let error = || Error::new(ErrorKind::Store, "no");
        assert_eq!(RetryCause::of(&error()), None);
        assert_eq!(RetryCause::of(&error().retryable(true)), Some(RetryCause::ServerError));
        let marked = RetryCause::Throttled.mark_from(error(), "SlowDown");
        assert_eq!(RetryCause::of(&marked), Some(RetryCause::Throttled));
        assert_eq!(format!("{marked:#}"), "no: throttled: SlowDown");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_refusals_halves_the_flight_once() {
        let throttle = Throttle::new();
        (0..5).for_each(|_| throttle.throttled());
        assert_eq!(throttle.allowed(12), 6);
        tokio::time::advance(Duration::from_secs(2)).await;
        (0..5).for_each(|_| throttle.throttled());
        assert_eq!((throttle.allowed(12), throttle.allowed(1)), (3, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_calm_gets_its_flight_back() {
        let throttle = Throttle::new();
        throttle.throttled();
        throttle.succeeded();
        assert_eq!(throttle.allowed(12), 6);
        tokio::time::advance(Duration::from_secs(10)).await;
        throttle.succeeded();
        throttle.succeeded();
        assert_eq!(throttle.allowed(12), 12);
    }
}
