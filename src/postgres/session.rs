//! One connection and the task that drives it.

use std::fmt;
use std::ops::Deref;

use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::{Address, Failure};
use crate::error::{ErrorKind, Result};

/// A connection. Dropping it closes it, whatever it is about.
pub(crate) struct Session {
    client: Client,
    // Held, not looked at: the driver ends with it.
    _driver: JoinSet<()>,
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// When the server can't be reached or refuses, or its certificate isn't trusted.
    ///
    /// # Cancellation
    /// Dropping the future leaves nothing open.
    pub(crate) async fn open(address: &Address, application: &str, kind: ErrorKind) -> Result<Self> {
        let mut config = address.config().clone();
        config.application_name(application);
        let connector = address.tls_settings().connector()?;
        let (client, connection) = config
            .connect(connector)
            .await
            .map_err(|error| Failure::of(address, kind).error("the database can't be connected to", &error))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Whoever waits for an answer is told, too.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the database has ended");
            }
        });
        Ok(Self { client, _driver: driver })
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("is_closed", &self.client.is_closed()).finish_non_exhaustive()
    }
}
