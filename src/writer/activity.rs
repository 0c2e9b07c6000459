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
#[derive(Debug, Default)]
pub(crate) struct Activity {
    events: AtomicU64,
    now: AtomicU8,
    waited_micros: [AtomicU64; 3],
    range: Mutex<Option<Arc<str>>>,
}

impl Activity {
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
        let begun = Instant::now();
        let value = wait.await;
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
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

    /// How long each was waited for, in the order of [`WaitsFor::ALL`].
    pub(crate) fn waited(&self) -> [Duration; 3] {
        std::array::from_fn(|index| {
            let micros = self.waited_micros.get(index).map_or(0, |waited| waited.load(Ordering::Relaxed));
            Duration::from_micros(micros)
        })
    }
}
