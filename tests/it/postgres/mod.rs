//! PostgreSQL: the job store and the source, on a real server.

mod job_store;
mod layouts;
pub(crate) mod server;
