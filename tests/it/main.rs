//! The integration tests: one binary, so that it links once.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    reason = "a test that can't go on fails, and says where"
)]

#[cfg(feature = "testing")]
mod embed;
#[cfg(feature = "testing")]
mod fuzz_replay;
mod hygiene;
#[cfg(feature = "testing")]
mod model;
#[cfg(feature = "s3")]
mod s3;
mod support;
mod testdata;
