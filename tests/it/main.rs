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
mod cancel;
#[cfg(feature = "testing")]
mod faults;
mod hygiene;
#[cfg(all(feature = "testing", target_os = "linux"))]
mod memory;
#[cfg(feature = "testing")]
mod model;
#[cfg(feature = "testing")]
mod real_data;
mod support;
mod testdata;
