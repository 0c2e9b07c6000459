//! PostgreSQL: the job store and the source, on a real server.

mod deletions;
#[cfg(feature = "cli")]
mod elsewhere;
mod failures;
mod job_store;
pub(crate) mod layouts;
mod line;
pub(crate) mod server;
#[cfg(feature = "s3")]
mod tls;
#[cfg(feature = "cli")]
mod two_servers;
mod writers;
