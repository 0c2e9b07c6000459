//! Jobs: started, watched, cancelled, accounted for.
//!
//! An [`Exporter`] holds a source, a destination and settings, and starts jobs. A job opens the source's snapshot,
//! resolves whose data is asked for, runs the engine, ends the objects, checks that its books balance and writes the
//! manifest beside the job folder. A job that is cancelled is sealed or discarded. A job that fails removes what it wrote,
//! unless it is kept in a [`JobStore`] and failed for a reason that can pass.
//!
//! # Jobs that survive
//! With a job store, a job has a record and a journal. Of each object the journal knows when its upload began, which parts
//! the store has acknowledged, each with the place behind its last resource and the whole row of its type's books as of
//! there, when it is about to become visible, and when it is. [`Exporter::resume`] asks the store what it holds of that,
//! completes what only lacked its completion, and goes on with the rest.
//!
//! | killed | what is found | what happens |
//! | --- | --- | --- |
//! | before an upload is noted | an upload that nobody knows | aborted at the end of the job, where the store lists uploads |
//! | after a part is stored, before it is noted | a part beyond the journal | sent again under its number |
//! | after `closing` is noted | the object, of the size that was noted | it is complete |
//! | | no object, the upload with all parts | completed |
//! | | neither | begun again, and said so in the manifest |
//! | before the manifest's end is recorded | a manifest | written again |
//!
//! `resume` is the one way out of a state that is an end: from FAILED and CANCEL_COMPLETED back to IN_PROGRESS, for jobs
//! whose record says that they can go on.

mod closing;
mod conclude;
mod config;
mod exporter;
mod handle;
mod leased;
mod manifest;
mod meter;
mod opening;
mod recorder;
mod recovery;
mod report;
mod resume;
mod run;
pub mod service;
mod state;
pub mod store;
mod summary;
mod sweep;
mod tidy;
mod turns;
mod verify;
mod watchdog;

pub use config::{Config, OnCancel};
pub use exporter::{Exporter, ExporterBuilder, JobPlaces};
pub use handle::{JobControl, JobHandle};
pub use manifest::{CountEntry, FORMAT_VERSION, FileExtension, LedgerEntry, Manifest, ManifestExtension, OutputFile};
pub use report::JobReport;
pub use run::ResumeOptions;
pub use service::{DataStore, JobService, JobServiceBuilder, JobView, Order, Origin};
pub use state::JobState;
#[cfg(feature = "postgres")]
pub use store::PostgresJobStore;
#[cfg(feature = "sqlite")]
pub use store::SqliteJobStore;
pub use store::{CancelWish, JobRecord, JobStore, MemoryJobStore};
pub use sweep::{SweepOptions, Swept, sweep};
pub use turns::QueueKey;
pub use verify::{Duplicates, ObjectCheck, Problem, SeenAgain, VerifyOptions, VerifyReport, verify};

// What the settings and reports of a job are made of, for those who see no more of the crate than jobs and requests.
pub use crate::engine::{OnBad, Progress, TypeProgress, Waited};
pub use crate::ledger::{Count, Exclusion, LedgerRow};
pub use crate::resource::Validation;
pub use crate::resource::reference::BaseUrls;
pub use crate::writer::{Compression, Layout, Split, WaitsFor};
