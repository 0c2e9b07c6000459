//! The request: what an export was asked for, as values that can't be bad.
//!
//! A [`Draft`] reads a request from where it stands: a query string, HealthLake's JSON body, a FHIR `Parameters`
//! resource, the command line, or several of them. It gathers every fault on the way, and [`Draft::finish`] gives
//! either an [`ExportRequest`] or a [`Refusal`] with all of them.
//!
//! Nothing here reads a clock, a store or a source: whether a `_since` lies in the future, a Group exists or a bucket
//! can be written is for others to say. So is the table of the compartment: see [`ExportRequest::outside_level`].
//!
//! Sources: HealthLake contract sections 1, 2 and 9; the Bulk Data IG, kick-off parameters.
//!
//! # Example
//! ```
//! use fhir_export::request::{Draft, Handling, Level};
//!
//! let mut draft = Draft::new(Handling::Strict);
//! draft.set_level(Level::Patient);
//! draft.read_query("_type=Patient,Observation&_since=2024-05-09T00%3A00%3A00Z");
//! let accepted = draft.finish()?;
//! assert_eq!(
//!     accepted.request.normalised_query(),
//!     "_type=Observation,Patient&_since=2024-05-09T00:00:00Z&_outputFormat=application/fhir+ndjson",
//! );
//! # Ok::<(), fhir_export::request::Refusal>(())
//! ```

mod body;
mod draft;
mod export_request;
mod fault;
mod fields;
mod json;
mod labels;
mod level;
mod output_format;
mod parameters;
mod period;
mod query;
mod strings;
#[cfg(test)]
mod tests;
mod types;

pub use draft::{Accepted, Draft, Handling};
pub use export_request::{ExportRequest, OutputDataConfig};
pub use fault::{Excerpt, Fault, FaultKind, Faults, Refusal};
pub use fields::{ClientToken, DatastoreId, JobId, JobName, KmsKeyId, PatientReference, ResourceId, RoleArn, S3Uri};
pub use json::MAX_BODY_BYTES;
pub use level::Level;
pub use output_format::OutputFormat;
pub use period::{Period, TimeBound};
pub use strings::CommandLine;
pub use types::{TypeSelection, TypeSet};
