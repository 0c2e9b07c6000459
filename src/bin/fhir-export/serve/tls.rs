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

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_rustls::rustls::version::{TLS12, TLS13};
    use tokio_rustls::rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};

    use super::*;

    /// Longest message of a handshake that is sent here.
    const ROOM_BYTES: usize = 1 << 16;

    /// The server's end, and what trusts it.
    fn server() -> (TlsAcceptor, RootCertStore) {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let files = TlsFiles {
            certificate: write("server.pem", certificate.pem()),
            key: write("server.key", key.serialize_pem()),
        };
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        (files.acceptor().unwrap(), roots)
    }

    #[tokio::test]
    async fn clients_of_tls_1_2_and_1_3_are_served() {
        let (acceptor, roots) = server();
        let cases: [(&'static SupportedProtocolVersion, _); 2] =
            [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)];
        for (version, expected) in cases {
            let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            let (ours, theirs) = tokio::io::duplex(ROOM_BYTES);
            let connect =
                TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), theirs);
            let (accepted, connected) = tokio::join!(acceptor.accept(ours), connect);
            assert_eq!(accepted.unwrap().get_ref().1.protocol_version(), Some(expected));
            drop(connected.unwrap());
        }
    }

    /// A ClientHello that says nothing of versions but its own (RFC 5246, section 7.4.1.2), with what the server's
    /// certificate needs.
    fn hello(minor: u8) -> Vec<u8> {
        let groups = [0, 10, 0, 4, 0, 2, 0, 0x17];
        let point_formats = [0, 11, 0, 2, 1, 0];
        let signatures = [0, 13, 0, 4, 0, 2, 4, 3];
        let mut body = vec![3, minor];
        body.extend([7; 32]);
        // No session, the suite TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, no compression, so many bytes of extensions.
        body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0, 0, 22]);
        body.extend([&groups[..], &point_formats, &signatures].concat());
        let length = u8::try_from(body.len()).unwrap();
        let mut hello = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
        hello.extend(body);
        hello
    }

    #[tokio::test]
    async fn versions_of_tls_before_1_2_are_refused_for_their_version() {
        let (acceptor, _) = server();
        // SSL 3.0, TLS 1.0, 1.1 and 1.2: a fatal alert, protocol_version, of each but the last.
        for (minor, is_refused) in [(0, true), (1, true), (2, true), (3, false)] {
            let (ours, mut theirs) = tokio::io::duplex(ROOM_BYTES);
            theirs.write_all(&hello(minor)).await.unwrap();
            theirs.shutdown().await.unwrap();
            assert!(acceptor.accept(ours).await.is_err(), "the client says no more");
            let mut told = Vec::new();
            theirs.read_to_end(&mut told).await.unwrap();
            let refused = told.first() == Some(&21) && told.ends_with(&[2, 70]);
            assert_eq!((refused, told.first() == Some(&22)), (is_refused, !is_refused), "3.{minor}: {told:?}");
        }
    }
}
