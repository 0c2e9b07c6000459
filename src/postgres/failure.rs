//! What a server refused or how it was lost, in our words.

use tokio_postgres::error::SqlState;

use super::Address;
use crate::error::{Error, ErrorKind};

/// Makes errors of a server's, for one who calls failures of the whole so.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    kind: ErrorKind,
    database: String,
}

impl Failure {
    /// Failures that have no kind of their own are of this one.
    pub(crate) fn of(address: &Address, kind: ErrorKind) -> Self {
        Self { kind, database: address.shown().to_owned() }
    }

    /// An error of the server's or of the way there. `what` says what was to be done: "a connection can't be made".
    ///
    /// The server's detail isn't quoted: it may hold what is in a row.
    #[cold]
    #[inline(never)]
    pub(crate) fn error(&self, what: &str, error: &tokio_postgres::Error) -> Error {
        let (kind, why, retryable) = match error.as_db_error() {
            Some(refusal) => {
                let (kind, retryable) = self.kind_of(refusal.code());
                (kind, format!("{} (SQLSTATE {})", refusal.message(), refusal.code().code()), retryable)
            }
            None => match untrusted(error) {
                Some(why) => (self.kind, why, false),
                None => (self.kind, without_secrets(error), is_connection_lost(error) || is_io(error)),
            },
        };
        Error::new(kind, format!("{what}: {why}")).with("database", &self.database).retryable(retryable)
    }

    /// An error of our own about the database.
    pub(crate) fn own(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(kind, message).with("database", &self.database)
    }

    fn kind_of(&self, code: &SqlState) -> (ErrorKind, bool) {
        match code.code() {
            "28P01" | "28000" | "42501" => (ErrorKind::PermissionDenied, false),
            "3D000" | "42P01" | "3F000" => (ErrorKind::NotFound, false),
            // Undefined columns and functions, operators that don't fit, syntax: a mapping that doesn't fit the tables.
            "42703" | "42883" | "42804" | "42601" | "42809" | "42846" | "22P02" => (ErrorKind::InvalidConfig, false),
            "53300" | "53400" | "57014" | "57P01" | "57P02" | "57P03" | "40001" | "40P01" | "55P03" => {
                (self.kind, true)
            }
            "53100" => (ErrorKind::OutOfSpace, false),
            other => (self.kind, other.starts_with("08")),
        }
    }
}

/// Whether the connection is gone, and another may be had.
pub(crate) fn is_connection_lost(error: &tokio_postgres::Error) -> bool {
    let by_server = error.code().is_some_and(|code| {
        [&SqlState::ADMIN_SHUTDOWN, &SqlState::CRASH_SHUTDOWN, &SqlState::CANNOT_CONNECT_NOW].contains(&code)
            || code.code() == "57P05"
            || code.code().starts_with("08")
    });
    by_server || error.is_closed() || is_io(error)
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<std::io::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What is wrong with the server's certificate, if it was refused.
fn untrusted(error: &tokio_postgres::Error) -> Option<String> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(rustls::Error::InvalidCertificate(why)) = inner.and_then(|inner| inner.downcast_ref()) {
            return Some(format!(
                "the server's certificate isn't trusted ({why}); sslrootcert in the URI names a file of CAs"
            ));
        }
        cause = error.source();
    }
    None
}

/// The text of an error that isn't the server's, with its causes.
fn without_secrets(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
