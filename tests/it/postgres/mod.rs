//! PostgreSQL: the job store and the source, on a real server.

mod failures;
mod job_store;
mod layouts;
pub(crate) mod server;
#[cfg(feature = "cli")]
mod two_servers;
mod writers;
