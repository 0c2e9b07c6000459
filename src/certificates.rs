//! Certificate authorities that are trusted besides those of the system, and what else is kept of a client's settings.

use std::path::Path;

use object_store::{Certificate, ClientConfigKey};

use crate::error::{Error, ErrorKind, Result};

/// Settings of a client from the environment that a CA of one's own doesn't displace; timeouts aren't among them, they are
/// ours.
pub(crate) const KEPT_CLIENT_SETTINGS: [ClientConfigKey; 5] = [
    ClientConfigKey::AllowInvalidCertificates,
    ClientConfigKey::NoSystemCertificates,
    ClientConfigKey::ProxyCaCertificate,
    ClientConfigKey::ProxyExcludes,
    ClientConfigKey::ProxyUrl,
];

/// Reads certificates in PEM.
///
/// # Errors
/// When there is none, or one can't be read.
pub(crate) fn from_pem(pem: &[u8]) -> Result<Vec<Certificate>> {
    let refused = |message| Error::new(ErrorKind::InvalidConfig, message);
    let found = Certificate::from_pem_bundle(pem)
        .map_err(|error| refused("the CA certificate can't be read").caused_by(error))?;
    if found.is_empty() {
        return Err(refused("there is no CA certificate: none begins with -----BEGIN CERTIFICATE-----"));
    }
    Ok(found)
}

/// Reads the file that was named, or else the one that `AWS_CA_BUNDLE` names; nothing if there is neither.
///
/// # Errors
/// When it can't be read, or has no certificate.
pub(crate) fn pem_of(file: Option<&Path>) -> Result<Option<Vec<u8>>> {
    let usual = std::env::var_os("AWS_CA_BUNDLE").filter(|value| !value.is_empty());
    let Some(path) = file.or_else(|| usual.as_deref().map(Path::new)) else { return Ok(None) };
    let named = |error: Error| error.with_kind(ErrorKind::InvalidConfig).with("path", path.display());
    let pem = std::fs::read(path).map_err(|error| named(Error::io("the file of the CA can't be read", error)))?;
    from_pem(&pem).map_err(named)?;
    Ok(Some(pem))
}
