//! Jobs: started, watched, cancelled, accounted for.
//!
//! An [`Exporter`] holds a source, a destination and settings, and starts jobs. A job opens the source's snapshot,
//! resolves whose data is asked for, runs the engine, ends the objects, checks that its books balance and writes the
//! manifest beside the job folder. A job that fails removes what it wrote; a job that is cancelled is sealed or discarded.

mod closing;
mod conclude;
mod config;
mod exporter;
mod handle;
mod manifest;
mod opening;
mod recorder;
mod report;
mod resume;
mod run;
mod state;
pub mod store;
mod summary;
mod sweep;
mod tidy;
mod verify;
mod watchdog;

pub use config::{Config, OnCancel};
pub use exporter::{Exporter, ExporterBuilder};
pub use handle::{JobControl, JobHandle};
pub use manifest::{CountEntry, FORMAT_VERSION, FileExtension, LedgerEntry, Manifest, ManifestExtension, OutputFile};
pub use report::JobReport;
pub use run::ResumeOptions;
pub use state::JobState;
#[cfg(feature = "sqlite")]
pub use store::SqliteJobStore;
pub use store::{CancelWish, JobRecord, JobStore, MemoryJobStore};
pub use sweep::{SweepOptions, Swept, sweep};
pub use verify::{Duplicates, ObjectCheck, Problem, SeenAgain, VerifyOptions, VerifyReport, verify};

// What the settings and reports of a job are made of, for those who see no more of the crate than jobs and requests.
pub use crate::engine::{OnBad, Progress, TypeProgress, Waited};
pub use crate::ledger::{Count, Exclusion, LedgerRow};
pub use crate::resource::Validation;
pub use crate::resource::reference::BaseUrls;
pub use crate::writer::{Compression, Layout, Split, WaitsFor};
