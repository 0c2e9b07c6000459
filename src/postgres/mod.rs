//! The way to a PostgreSQL server: addresses, TLS, sessions, what failed. The source and the job store share it.

mod address;
mod failure;
mod quote;
mod session;
mod tls;

pub(crate) use address::{Address, with_absolute_files};
pub(crate) use failure::{Failure, is_connection_lost};
pub(crate) use quote::{identifier, literal};
pub(crate) use session::Session;
