//! The time, as a value that tests can set.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::fhir::Instant;

/// Tells the time of day.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time since 1970-01-01T00:00:00Z.
    fn since_epoch(&self) -> Duration;

    /// The time as an instant, cut to milliseconds, the precision of everything we report.
    fn now(&self) -> Instant {
        let since = self.since_epoch();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        Instant::from_unix(seconds, since.subsec_millis() * 1_000_000)
    }
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn since_epoch(&self) -> Duration {
        #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
        let now = SystemTime::now();
        now.duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// A clock that stands still at a given time.
#[derive(Clone, Copy, Debug)]
pub struct FixedClock(pub Duration);

impl Clock for FixedClock {
    fn since_epoch(&self) -> Duration {
        self.0
    }
}

/// The system clock, shared.
#[must_use]
pub fn system() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}
