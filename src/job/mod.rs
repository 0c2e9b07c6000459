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
mod report;
mod run;
mod state;
mod summary;
mod tidy;

pub use config::{Config, OnCancel};
pub use exporter::{Exporter, ExporterBuilder};
pub use handle::{JobControl, JobHandle};
pub use manifest::{CountEntry, FORMAT_VERSION, FileExtension, LedgerEntry, Manifest, ManifestExtension, OutputFile};
pub use report::JobReport;
pub use state::JobState;
