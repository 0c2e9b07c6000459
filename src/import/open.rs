//! The door to targets: from a URI to a [`Target`].

use super::Target;
use crate::error::Result;
use crate::location::{Location, unknown_scheme};

/// What targets there are, for messages.
const ACCEPTED: &str = "sqlite: or postgres:";

/// Opens a store to load into, and makes it if it isn't there: `sqlite:store.db`,
/// `postgres://user@host/database` with the password in the URI or in `PGPASSWORD`. Blocks.
///
/// # Errors
/// When the scheme is unknown or its feature isn't built in, or the store can't be opened.
pub fn from_uri(uri: &str) -> Result<Box<dyn Target>> {
    match Location::parse(uri)? {
        Location::Uri { scheme } if scheme == "sqlite" => sqlite(uri),
        Location::Uri { scheme } if ["postgres", "postgresql"].contains(&scheme.as_str()) => postgres(uri),
        Location::Uri { scheme } => Err(unknown_scheme(uri, &scheme, ACCEPTED)),
        Location::Path(_) => Err(unknown_scheme(uri, "file", ACCEPTED)),
    }
}

#[cfg(feature = "sqlite")]
fn sqlite(uri: &str) -> Result<Box<dyn Target>> {
    Ok(Box::new(super::sqlite::SqliteTarget::open(&crate::location::path_behind_scheme(uri)?)?))
}

#[cfg(not(feature = "sqlite"))]
fn sqlite(uri: &str) -> Result<Box<dyn Target>> {
    use crate::error::{Error, ErrorKind};
    use crate::location::excerpt;

    let message = "this build can't write there: it was built without the feature sqlite";
    Err(Error::new(ErrorKind::InvalidConfig, message).with("store", excerpt(uri)))
}

#[cfg(feature = "postgres")]
fn postgres(uri: &str) -> Result<Box<dyn Target>> {
    let from_environment = std::env::var("PGPASSWORD").ok();
    Ok(Box::new(super::postgres::PostgresTarget::new(uri, from_environment.as_deref())?))
}

#[cfg(not(feature = "postgres"))]
fn postgres(uri: &str) -> Result<Box<dyn Target>> {
    use crate::error::{Error, ErrorKind};
    use crate::location::{excerpt, without_password};

    let message = "this build can't write there: it was built without the feature postgres";
    Err(Error::new(ErrorKind::InvalidConfig, message).with("store", excerpt(&without_password(uri))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_target_is_named_by_a_scheme_that_is_known() {
        for uri in ["/srv/x.db", "mysql://host/x", "sqlite:"] {
            assert_eq!(from_uri(uri).err().map(|error| error.kind()), Some(ErrorKind::InvalidRequest), "{uri}");
        }
    }
}
