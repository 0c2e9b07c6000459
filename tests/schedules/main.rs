//! Budget and ledger under a schedule explorer: the real code of `src/budget` and `src/ledger`, compiled once more with
//! locks at which the explorer changes from one thread to another, in thousands of orders. It sees a lost wakeup as a
//! deadlock. The unit tests of both modules run under it too.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    reason = "the modules are whole, the tests use a part"
)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that can't go on fails, and says where"
)]

use fhir_export::{error, fhir};

#[path = "../../src/budget/mod.rs"]
mod budget;
#[path = "../../src/ledger/mod.rs"]
mod ledger;

mod sync {
    //! Stands for `src/sync.rs`.

    pub(crate) use shuttle::sync::{Mutex, MutexGuard, PoisonError, RwLock};

    /// Schedules that each unit test is tried in.
    const SCHEDULES: usize = 20;

    pub(crate) fn explore<F: Future + 'static>(test: impl Fn() -> F + Send + Sync + 'static) {
        let once = move || drop(shuttle::future::block_on(test()));
        shuttle::check_random(once, SCHEDULES);
    }
}

mod accounting;
mod permits;
