//! What is learned of one resource from its bytes, without changing or re-rendering one of them.
//!
//! [`Lines`] finds the resources of a block of raw bytes, [`scan()`] checks one of them against RFC 8259 and returns
//! its [`Facts`], and a [`Compartment`] says which references of which types put a resource into the compartment of
//! a patient. Nothing here waits, and nothing is allocated per resource in the usual case.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use fhir_export::resource::{Compartment, Lines, References, ScanPlan, Validation, scan};
//!
//! let block = b"{\"resourceType\":\"Observation\",\"id\":\"1\",\"subject\":{\"reference\":\"Patient/7\"}}\r\n";
//! let plan = ScanPlan::with_references(Arc::new(Compartment::r4_patient()));
//! let mut references = References::new();
//! for line in Lines::new(block) {
//!     let facts = scan(line.resource_of(block), &plan, &mut references)?;
//!     assert_eq!(facts.resource_type, "Observation");
//!     assert_eq!(references.iter().collect::<Vec<_>>(), ["Patient/7"]);
//! }
//! # Ok::<(), fhir_export::resource::Defect>(())
//! ```

mod compartment;
mod defect;
mod facts;
mod lines;
pub mod reference;
mod scan;
#[cfg(test)]
mod testing;

pub use compartment::Compartment;
pub use defect::{Defect, DefectKind};
pub use facts::{Facts, LastUpdated};
pub use lines::{Line, Lines};
pub use scan::{References, ScanPlan, Validation, scan};
