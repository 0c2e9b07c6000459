//! High-throughput FHIR bulk export.

// Data runs one way: source → scan → filter → fan-out → writer → destination, with the job above.
// `tests/it/hygiene.rs` reads the imports and keeps it so.
pub mod budget;
pub mod clock;
pub mod cpu;
pub mod destination;
pub mod engine;
pub mod error;
pub mod fhir;
pub mod filter;
pub mod job;
pub mod ledger;
mod location;
pub mod request;
pub mod resource;
pub mod scope;
pub mod source;
pub mod writer;

pub use error::{Error, ErrorKind, Result};
