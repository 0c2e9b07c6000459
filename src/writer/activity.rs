//! Whether a job moves, and what it waits for.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a job can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitsFor {
    /// Blocks of the source.
    Source,
    /// Scanning and compressing.
    Cpu,
    /// The object store.
    Store,
}

impl WaitsFor {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Source, Self::Cpu, Self::Store];

    /// The name in messages and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Cpu => "cpu",
            Self::Store => "store",
        }
    }
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Counts what a job does, and how long its one thread of fan-out waited for what.
#[derive(Debug)]
pub(crate) struct Activity {
    begun: Instant,
    events: AtomicU64,
    /// Since when it has been waiting for what is waited for now, in microseconds since the beginning.
    waiting_since: AtomicU64,
    now: AtomicU8,
    waited_micros: [AtomicU64; 3],
    range: Mutex<Option<Arc<str>>>,
}

/// Nothing is waited for.
const NOT_WAITING: u64 = u64::MAX;

impl Default for Activity {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            events: AtomicU64::new(0),
            waiting_since: AtomicU64::new(NOT_WAITING),
            now: AtomicU8::new(0),
            waited_micros: Default::default(),
            range: Mutex::default(),
        }
    }
}

impl Activity {
    fn micros(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Something was read, or has become durable.
    pub(crate) fn moved(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    /// How often something moved so far.
    pub(crate) fn count(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Waits, and counts the time as spent on waiting for that.
    pub(crate) async fn waiting<T>(&self, what: WaitsFor, wait: impl Future<Output = T>) -> T {
        self.now.store(what as u8, Ordering::Relaxed);
        let begun = self.micros();
        self.waiting_since.store(begun, Ordering::Relaxed);
        let value = wait.await;
        self.waiting_since.store(NOT_WAITING, Ordering::Relaxed);
        let micros = self.micros() - begun;
        if let Some(waited) = self.waited_micros.get(what as usize) {
            waited.fetch_add(micros, Ordering::Relaxed);
        }
        value
    }

    /// Goes on with another range.
    pub(crate) fn begin_range(&self, name: &Arc<str>) {
        *self.range.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(name));
    }

    /// Everything is read: what is waited for from now on is the store.
    pub(crate) fn end_reading(&self) {
        self.now.store(WaitsFor::Store as u8, Ordering::Relaxed);
        *self.range.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The range whose turn it is.
    pub(crate) fn range(&self) -> Option<Arc<str>> {
        self.range.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was waited for last.
    pub(crate) fn waits_for(&self) -> WaitsFor {
        let now = usize::from(self.now.load(Ordering::Relaxed));
        WaitsFor::ALL.get(now).copied().unwrap_or(WaitsFor::Store)
    }

    /// How long each was waited for, in the order of [`WaitsFor::ALL`], the wait of now included.
    pub(crate) fn waited(&self) -> [Duration; 3] {
        let since = self.waiting_since.load(Ordering::Relaxed);
        let still = if since == NOT_WAITING { 0 } else { self.micros().saturating_sub(since) };
        let now = usize::from(self.now.load(Ordering::Relaxed));
        std::array::from_fn(|index| {
            let micros = self.waited_micros.get(index).map_or(0, |waited| waited.load(Ordering::Relaxed));
            Duration::from_micros(micros + if index == now { still } else { 0 })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_that_lasts_is_told_of_while_it_lasts() {
        let activity = Activity::default();
        let told = activity.waiting(WaitsFor::Store, async {
            while activity.waited()[2] < Duration::from_millis(2) {
                tokio::task::yield_now().await;
            }
            activity.waits_for()
        });
        assert_eq!(told.await, WaitsFor::Store);
        let [source, cpu, store] = activity.waited();
        assert_eq!((source, cpu), (Duration::ZERO, Duration::ZERO));
        assert!(store >= Duration::from_millis(2));
        assert_eq!(activity.waited()[2], store, "it is over");
    }
}
