//! The integration tests: one binary, so that it links once.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a test that can't go on fails, and says where"
)]

#[cfg(feature = "testing")]
mod cancel;
#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "testing")]
mod embed;
#[cfg(feature = "testing")]
mod faults;
#[cfg(all(feature = "testing", feature = "s3"))]
mod fuzz_replay;
#[cfg(all(feature = "testing", feature = "http"))]
mod http;
mod hygiene;
#[cfg(all(feature = "testing", target_os = "linux"))]
mod memory;
#[cfg(feature = "testing")]
mod model;
#[cfg(feature = "testing")]
mod real_data;
#[cfg(feature = "testing")]
mod resume;
#[cfg(feature = "s3")]
mod s3;
mod support;
mod testdata;
