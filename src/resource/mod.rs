//! TBD
pub mod reference;
