//! TLS: certificates are checked unless the address says otherwise.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, ErrorKind, Result};

/// Which certificates are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    /// Those that the system trusts.
    System,
    /// Those of a file.
    File(PathBuf),
    /// All.
    Unchecked,
}

impl Tls {
    /// # Errors
    /// When the certificates to trust can't be read.
    pub(super) fn connector(&self) -> Result<MakeRustlsConnect> {
        let unusable = |what: &str, cause: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::InvalidConfig, format!("TLS can't be set up: {what}")).caused_by(cause)
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(Arc::<CryptoProvider>::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("no version of it is known", error.into()))?;
        let builder = match self {
            Self::System => builder
                .with_platform_verifier()
                .map_err(|error| unusable("the system's certificates can't be read", error.into()))?,
            Self::File(path) => {
                let what = format!("the certificates in {} can't be read", path.display());
                let mut roots = RootCertStore::empty();
                let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
                for certificate in read.map_err(|error| unusable(&what, error.into()))? {
                    roots.add(certificate).map_err(|error| unusable(&what, error.into()))?;
                }
                builder.with_root_certificates(roots)
            }
            Self::Unchecked => builder.dangerous().with_custom_certificate_verifier(Arc::new(Unchecked(algorithms))),
        };
        Ok(MakeRustlsConnect::new(builder.with_no_client_auth()))
    }
}

/// Takes any certificate, but checks that the server has its key.
#[derive(Debug)]
struct Unchecked(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
