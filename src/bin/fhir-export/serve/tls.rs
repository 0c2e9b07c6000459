//! TLS with a certificate of the server's own.

use std::sync::Arc;

use fhir_export::{Error, ErrorKind, Result};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Files in PEM.
#[derive(Clone, Debug)]
pub(super) struct TlsFiles {
    /// The certificate, with those between it and its authority.
    pub(super) certificate: String,
    pub(super) key: String,
}

impl TlsFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// When one can't be read, or they don't belong together.
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor> {
        let unusable = |what: &str, file: &str| {
            Error::new(ErrorKind::InvalidConfig, format!("the {what} of TLS can't be used")).with("file", file)
        };
        let certificate = |error| unusable("certificate", &self.certificate).caused_by(error);
        let chain = CertificateDer::pem_file_iter(&self.certificate).map_err(certificate)?;
        let chain: Vec<_> = chain.collect::<std::result::Result<_, _>>().map_err(certificate)?;
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|error| unusable("key", &self.key).caused_by(error))?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .and_then(|config| config)
            .map_err(|error| unusable("certificate", &self.certificate).with("key", &self.key).caused_by(error))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
