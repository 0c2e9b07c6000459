//! The integration tests: one binary, so that it links once.
#![allow(
    clippy::clone_on_ref_ptr,
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
#[cfg(all(feature = "testing", feature = "http"))]
mod embed_auth;
#[cfg(all(feature = "testing", feature = "http"))]
mod embed_axum;
#[cfg(feature = "testing")]
mod faults;
#[cfg(all(feature = "testing", feature = "cli"))]
mod fuzz_replay;
#[cfg(all(feature = "testing", feature = "http"))]
mod http;
mod hygiene;
#[cfg(all(feature = "testing", target_os = "linux"))]
mod memory;
#[cfg(all(feature = "testing", feature = "metrics"))]
mod metrics;
#[cfg(feature = "testing")]
mod model;
#[cfg(all(feature = "testing", feature = "postgres", unix))]
mod postgres;
#[cfg(feature = "testing")]
mod real_data;
#[cfg(feature = "testing")]
mod resume;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "testing")]
mod spans;
#[cfg(all(feature = "testing", feature = "sqlite"))]
mod stores;
#[cfg(all(feature = "testing", feature = "s3"))]
mod strict_s3;
#[cfg(all(feature = "testing", feature = "s3"))]
mod strict_s3_roles;
mod support;
mod testdata;
#[cfg(all(feature = "testing", feature = "s3"))]
mod tls;
#[cfg(all(feature = "testing", feature = "s3", feature = "sqlite"))]
mod unruly_store;
