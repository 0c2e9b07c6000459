//! The locks of the budget and the ledger.
//!
//! One place says which are meant: `tests/schedules` compiles both modules a second time, with the locks of a schedule
//! explorer in this one's stead. So the explorer runs the real code, and nothing of it is in the library.

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

/// Runs a unit test: here once, under the explorer in many schedules.
#[cfg(test)]
pub(crate) fn explore<F: Future>(test: impl Fn() -> F) {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(test());
}
