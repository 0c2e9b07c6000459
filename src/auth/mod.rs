//! Who may ask for what.
//!
//! A caller is known by a signature of AWS ([`sigv4`]) or by a token of SMART on FHIR ([`smart`]). What he may do is said
//! by policies of IAM ([`policy`]) or by the scopes of his token.
//!
//! Sources: HealthLake contract section 7; Bulk Data Access IG, B rows; SMART Backend Services.

mod action;
pub mod policy;
pub mod sigv4;
pub mod smart;

pub use action::Action;
