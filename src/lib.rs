//! High-throughput FHIR bulk export: from a server's own store into one streamed NDJSON object for each resource type.
//!
//! An `$export` reads most of a store, filters it, and must not lose or leak a resource on the way. This crate does what
//! lies between the store and the bucket: it takes resources from a [`Source`](source::Source), which a server
//! implements on its store, through the level and the filters of a request, and streams them into a
//! [`Destination`](destination::Destination): S3, Google Cloud Storage, Azure, a local folder, or memory. What comes out
//! is what AWS HealthLake's `$export` writes. In particular:
//!
//! - **Nothing is lost and nothing leaks silently.** Every resource that is read has exactly one [`Fate`](ledger::Fate),
//!   and a job completes only if its books balance.
//! - **Bytes pass through.** A resource is scanned, never parsed and written anew.
//! - **Memory is a number you set**: all buffered data is charged to one [budget].
//! - **A crash costs no byte.** With a [`JobStore`](job::JobStore) a job goes on where it was killed, to the same objects.
//! - **A cancelled job is a sealed result**: what is there is whole, counted and listed, and can be continued.
//!
//! # Example
//! The source is here one of the two that the crate has, a folder of NDJSON being the other; `examples/embed.rs` in the
//! repository implements one for a server's store, in about forty lines.
//! ```
//! use std::sync::Arc;
//! use fhir_export::destination::LocalDestination;
//! use fhir_export::fhir::ResourceType;
//! use fhir_export::job::{Exporter, JobState};
//! use fhir_export::request::{ExportRequest, Level, TypeSelection};
//! use fhir_export::source::memory::{MemoryRange, MemorySource};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let source = MemorySource::new().with(MemoryRange::rows("all", [
//!     r#"{"resourceType":"Patient","id":"1"}"#,
//!     r#"{"resourceType":"Observation","id":"2","subject":{"reference":"Patient/1"}}"#,
//!     r#"{"resourceType":"Observation","id":"3","subject":{"reference":"Device/1"}}"#,
//! ]));
//! let folder = tempfile::tempdir()?;
//! let exporter = Exporter::builder()
//!     .source(Arc::new(source))
//!     .destination(Arc::new(LocalDestination::new(folder.path())?))
//!     .build()?;
//!
//! let types = TypeSelection::only(ResourceType::r4("Observation"))?;
//! let request = ExportRequest::new(Level::Patient).with_types(types);
//! let report = exporter.start(request)?.join().await;
//!
//! assert_eq!(report.state, JobState::Completed);
//! let manifest = report.manifest.ok_or("a job that completed has a manifest")?;
//! assert_eq!(manifest.output.len(), 1);
//! assert_eq!((manifest.output[0].resource_type.as_str(), manifest.output[0].count), ("Observation", 1));
//! # Ok(())
//! # }
//! ```
//!
//! # Modules, as the data flows
//! - [`request`]: what was asked for, from a query, a body, a `Parameters` resource or a command line.
//! - [`job`]: the door. An [`Exporter`](job::Exporter) starts jobs; a [`JobHandle`](job::JobHandle) watches and cancels
//!   one; a [`Manifest`](job::Manifest) says what it produced.
//! - [`source`]: where resources come from. The trait, folders and object stores of NDJSON, memory.
//! - [`resource`]: the scan, which checks a line and learns its type, id, time and references, and the compartment.
//! - [`scope`]: whose data, a Group resolved to its patients.
//! - [`filter`]: which resources are written, and an embedder's own rule.
//! - [`engine`]: reads ranges side by side, scans them on a CPU pool, fans them out in order.
//! - [`writer`]: objects and their parts.
//! - [`destination`]: where objects go. The traits, object stores, folders, memory.
//!
//! Beside the flow: [`import`], which fills a store from a source; [`ledger`], what became of every resource;
//! [`budget`], the bytes that may be buffered; [`cpu`], the pool that scans and compresses; [`metrics`]; [`fhir`], the
//! words of the standard; [`clock`]; [`error`]. With the feature `auth`, a module of that name decides who may ask for what.
//!
//! # Features
//! All are off by default and add to each other.
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `sqlite` | stores in SQLite files: of jobs, so that they survive a crash, and of resources, as a source |
//! | `postgres` | PostgreSQL as a source, and a store of jobs that several servers share |
//! | `s3` | Amazon S3 and compatible stores |
//! | `gcs` | Google Cloud Storage |
//! | `azure` | Azure Blob Storage |
//! | `http` | the HTTP face: HealthLake's operations and the Bulk Data profile, as an axum router |
//! | `auth` | who may export what: signatures of AWS, policies of IAM, tokens of SMART |
//! | `cli` | the `fhir-export` binary, with local folders and S3 |
//! | `metrics` | numbers of running jobs, for whichever recorder the program installs: see [`metrics`] |
//! | `testing` | faulty destinations, the naive exporter and the source contract suite, for tests of embedders |
//! | `full` | everything |

// Data runs one way: source → scan → filter → fan-out → writer → destination, with the job above.
// `tests/it/hygiene.rs` reads the imports and keeps it so.
#[cfg(any(feature = "auth", feature = "http"))]
pub mod auth;
pub mod budget;
#[cfg(feature = "s3")]
mod certificates;
pub mod clock;
pub mod cpu;
pub mod destination;
pub mod engine;
pub mod error;
pub mod fhir;
pub mod filter;
#[cfg(feature = "http")]
pub mod http;
pub mod import;
pub mod job;
pub mod ledger;
mod location;
pub mod metrics;
#[cfg(feature = "postgres")]
mod postgres;
pub mod request;
pub mod resource;
pub mod scope;
pub mod source;
mod sync;
pub mod writer;

pub use error::{Error, ErrorKind, Result};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
