//! Objects in Amazon S3 and stores that speak its protocol.
//!
//! What is sent, and why:
//! - One request a call: object_store's own retries and timeouts are off, ours are in [`Retrying`](super::Retrying).
//! - A checksum with each part, CRC64NVME unless another is chosen, which S3 checks before it stores the part.
//! - Over TLS the payload isn't signed (TLS and the checksum protect it), over plain HTTP it is.
//! - SSE-KMS per destination: S3 takes the key when an upload begins and when a small object is put; parts and
//!   completion carry no key.
//! - In the name of a role, if one is to be assumed: its credentials come from STS, and are refreshed before they end.
//! - Keys as they are, byte for byte. No conditional writes: keys hold the job's id, and bytes are deterministic.
//!
//! Not supported: profiles of `~/.aws`, S3 Express, customer-provided keys, requests without a signature.

mod listing;
mod role;
mod sts;
mod uri;

use std::fmt;
use std::sync::Arc;

use object_store::RetryConfig;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredentialProvider, Checksum};
use object_store::client::HttpConnector;
use object_store::{Certificate, ClientConfigKey, ClientOptions, HeaderValue};

pub use uri::S3Uri;

use self::listing::S3Listing;
use self::role::RoleCredentials;
use self::sts::{Sts, regional_endpoint};
use super::answer::WatchedConnector;
use super::multipart::MultipartDestination;
use super::open::AssumeRole;
use super::signing::StoreSigner;
use super::{Capabilities, answer};
use crate::error::{Error, ErrorKind, Result};
use crate::{certificates, clock};

/// Where AWS takes requests when no region was named.
const DEFAULT_REGION: &str = "us-east-1";

/// The checksum that is sent with each part and small object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartChecksum {
    /// None: for stores that refuse the headers.
    Off,
    /// CRC64NVME, which S3 also combines to that of the whole object.
    #[default]
    Crc64Nvme,
    /// SHA-256, at the cost of hashing everything.
    Sha256,
}

/// Where the bucket's name stands in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// In the host name on AWS, if it has no dot (which a TLS certificate can't match); in the path at other endpoints.
    #[default]
    Auto,
    /// In the path: `https://host/bucket/key`.
    Path,
    /// In the host name: `https://bucket.host/key`.
    VirtualHosted,
}

/// How to reach a bucket.
#[derive(Clone)]
pub struct S3Options {
    uri: S3Uri,
    base: AmazonS3Builder,
    endpoint: Option<String>,
    region: Option<String>,
    kms_key: Option<String>,
    checksum: PartChecksum,
    addressing: Addressing,
    signed_payload: Option<bool>,
    root_certificates: Vec<Certificate>,
    role: Option<AssumeRole>,
    /// Credentials are at hand and aren't asked for over the network.
    has_credentials: bool,
}

impl fmt::Debug for S3Options {
    // The builder would show the secret key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("uri", &self.uri)
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("kms_key", &self.kms_key)
            .field("checksum", &self.checksum)
            .field("addressing", &self.addressing)
            .field("signed_payload", &self.signed_payload)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl S3Options {
    /// Takes a bucket and prefix. Nothing is read from the environment; without other credentials, those of the
    /// machine's metadata service are used.
    #[must_use]
    pub fn new(uri: S3Uri) -> Self {
        Self {
            uri,
            base: AmazonS3Builder::new(),
            endpoint: None,
            region: None,
            kms_key: None,
            checksum: PartChecksum::default(),
            addressing: Addressing::default(),
            signed_payload: None,
            root_certificates: Vec::new(),
            role: None,
            has_credentials: false,
        }
    }

    /// Takes a bucket and prefix, and credentials, region and endpoint from the usual AWS environment variables.
    ///
    /// These are `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_DEFAULT_REGION`,
    /// `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, those of web identity, containers and the metadata service
    /// (`AWS_EC2_METADATA_DISABLED` included), `AWS_SSE_KMS_KEY_ID`, and object_store's own for proxies.
    ///
    /// # Errors
    /// When there are no credentials and the metadata service is ruled out.
    pub fn from_env(uri: S3Uri) -> Result<Self> {
        let base = AmazonS3Builder::from_env();
        let value = |key: AmazonS3ConfigKey| base.get_config_value(&key).filter(|value| !value.is_empty());
        let given = [
            AmazonS3ConfigKey::AccessKeyId,
            AmazonS3ConfigKey::SecretAccessKey,
            AmazonS3ConfigKey::WebIdentityTokenFile,
            AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
            AmazonS3ConfigKey::ContainerCredentialsFullUri,
        ];
        let no_metadata =
            std::env::var("AWS_EC2_METADATA_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
        if no_metadata && !given.into_iter().any(|key| value(key).is_some()) {
            let message = "there are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or allow the metadata service";
            return Err(Error::new(ErrorKind::PermissionDenied, message).with("bucket", uri.bucket()));
        }
        let endpoint = value(AmazonS3ConfigKey::S3Endpoint).or_else(|| value(AmazonS3ConfigKey::Endpoint));
        let region = value(AmazonS3ConfigKey::Region).or_else(|| value(AmazonS3ConfigKey::DefaultRegion));
        let has_credentials = value(AmazonS3ConfigKey::AccessKeyId).is_some();
        Ok(Self { endpoint, region, has_credentials, base, ..Self::new(uri) })
    }

    /// Sets a fixed access key.
    #[must_use]
    pub fn with_access_key(mut self, key_id: impl Into<String>, secret_key: impl Into<String>) -> Self {
        self.base = self.base.with_access_key_id(key_id).with_secret_access_key(secret_key);
        self.has_credentials = true;
        self
    }

    /// Sets where credentials come from, such as a role to be assumed.
    #[must_use]
    pub fn with_credentials(mut self, credentials: AwsCredentialProvider) -> Self {
        self.base = self.base.with_credentials(credentials);
        self.has_credentials = true;
        self
    }

    /// Writes in the name of a role, which is assumed with the other credentials. `AWS_ENDPOINT_URL_STS` counts where
    /// the environment does and no endpoint of STS is named.
    #[must_use]
    pub fn with_role(mut self, role: AssumeRole) -> Self {
        self.role = Some(role);
        self
    }

    /// Sets the endpoint of a store that isn't AWS, with its scheme: `http://` is allowed by being named here.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// Sets the region.
    #[must_use]
    pub fn with_region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Encrypts objects with this KMS key: an id, alias or ARN (SSE-KMS).
    #[must_use]
    pub fn with_kms_key(mut self, key: impl Into<String>) -> Self {
        self.kms_key = Some(key.into());
        self
    }

    /// Sets the checksum of parts.
    #[must_use]
    pub fn with_checksum(mut self, checksum: PartChecksum) -> Self {
        self.checksum = checksum;
        self
    }

    /// Sets where the bucket's name stands.
    #[must_use]
    pub fn with_addressing(mut self, addressing: Addressing) -> Self {
        self.addressing = addressing;
        self
    }

    /// Signs payloads, or not; by default they are signed over plain HTTP only.
    #[must_use]
    pub fn with_signed_payload(mut self, signed: bool) -> Self {
        self.signed_payload = Some(signed);
        self
    }

    /// Trusts these certificate authorities besides those that the system trusts: one or more certificates in PEM.
    ///
    /// # Errors
    /// When there is none in it, or one can't be read.
    pub fn with_root_certificates(mut self, pem: &[u8]) -> Result<Self> {
        self.root_certificates.extend(certificates::from_pem(pem)?);
        Ok(self)
    }

    /// The bucket and prefix.
    #[must_use]
    pub const fn uri(&self) -> &S3Uri {
        &self.uri
    }

    /// Makes the destination. No request is sent.
    ///
    /// # Errors
    /// When the endpoint is no URL, or the settings don't go together.
    pub fn open(self) -> Result<MultipartDestination> {
        self.open_watched(&WatchedConnector::default())
    }

    /// Makes the destination over something in place of the network, such as scripted answers.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(any(test, feature = "testing"))]
    pub fn open_over(self, network: Arc<dyn HttpConnector>) -> Result<MultipartDestination> {
        self.open_watched(&WatchedConnector(network))
    }

    fn open_watched(self, connector: &WatchedConnector) -> Result<MultipartDestination> {
        let region = self.region.clone().unwrap_or_else(|| DEFAULT_REGION.to_owned());
        let root = self.bucket_url(&region)?;
        let plain = root.starts_with("http://");
        let client = self.client_options(plain);
        let unusable = |error| {
            Error::new(ErrorKind::InvalidConfig, "the settings for S3 can't be used")
                .with("bucket", self.uri.bucket())
                .caused_by(error)
        };
        let mut builder = (self.base.clone())
            .with_bucket_name(self.uri.bucket())
            .with_region(&region)
            // Our own URL of the bucket is used as it is: as if it were virtual-hosted, and before any other endpoint.
            .with_virtual_hosted_style_request(true)
            .with_config(AmazonS3ConfigKey::S3Endpoint, &root)
            .with_s3_express(false)
            .with_skip_signature(false)
            .with_disable_bulk_delete(true)
            .with_unsigned_payload(!self.signed_payload.unwrap_or(plain))
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .with_client_options(client.clone())
            .with_http_connector(connector.clone());
        match self.checksum {
            PartChecksum::Off => {}
            PartChecksum::Crc64Nvme => builder = builder.with_checksum_algorithm(Checksum::CRC64NVME),
            PartChecksum::Sha256 => builder = builder.with_checksum_algorithm(Checksum::SHA256),
        }
        if let Some(key) = &self.kms_key {
            builder = builder.with_sse_kms_encryption(key);
        }
        if let Some(role) = &self.role {
            let own = builder.clone().build().map_err(unusable)?;
            let credentials = self.role_credentials(role, own.credentials(), connector, &region)?;
            builder = builder.with_credentials(Arc::new(credentials));
        }
        let store = Arc::new(builder.build().map_err(unusable)?);
        let listing = S3Listing {
            client: connector.connect(&client).map_err(unusable)?,
            credentials: Arc::clone(store.credentials()),
            region,
            root,
            url: format!("s3://{}", self.uri.bucket()),
        };
        let capabilities = Capabilities { checks_parts: self.checksum != PartChecksum::Off, ..Capabilities::default() };
        let signer = StoreSigner(Arc::clone(&store));
        let destination = MultipartDestination::new(store, listing.url.clone(), self.uri.prefix(), capabilities)?;
        Ok(destination.with_listing(listing).with_signer(signer))
    }

    /// Those of a role that is assumed with the store's own.
    fn role_credentials(
        &self,
        role: &AssumeRole,
        own: &AwsCredentialProvider,
        connector: &WatchedConnector,
        region: &str,
    ) -> Result<RoleCredentials> {
        role.sessions.check()?;
        let of_environment = || self.base.get_config_value(&AmazonS3ConfigKey::StsEndpoint);
        let endpoint = role.sessions.sts_endpoint.clone().or_else(of_environment);
        let endpoint = endpoint.filter(|url| !url.is_empty()).unwrap_or_else(|| regional_endpoint(region));
        let client = connector.connect(&self.client_options(endpoint.starts_with("http://"))).map_err(|error| {
            Error::new(ErrorKind::InvalidConfig, "the settings for STS can't be used").caused_by(error)
        })?;
        let (own, region, role) = (Arc::clone(own), region.to_owned(), role.clone());
        Ok(RoleCredentials::new(Sts { client, endpoint, region, own, role }, clock::system()))
    }

    /// The URL that keys of the bucket are appended to.
    fn bucket_url(&self, region: &str) -> Result<String> {
        let bucket = self.uri.bucket();
        let in_host = match self.addressing {
            Addressing::Auto => self.endpoint.is_none() && !bucket.contains('.'),
            Addressing::Path => false,
            Addressing::VirtualHosted => true,
        };
        let aws = format!("https://s3.{region}.amazonaws.com");
        let endpoint = self.endpoint.as_deref().unwrap_or(&aws).trim_end_matches('/');
        let split =
            endpoint.split_once("://").filter(|(scheme, host)| matches!(*scheme, "http" | "https") && !host.is_empty());
        let Some((scheme, host)) = split else {
            let message = format!("the endpoint {endpoint:?} is no URL that begins with http:// or https://");
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        };
        Ok(if in_host { format!("{scheme}://{bucket}.{host}") } else { format!("{scheme}://{host}/{bucket}") })
    }

    fn client_options(&self, plain: bool) -> ClientOptions {
        let mut options = ClientOptions::new()
            .with_timeout_disabled()
            .with_read_timeout_disabled()
            .with_allow_http(plain)
            .with_user_agent(HeaderValue::from_static(concat!("fhir-export/", env!("CARGO_PKG_VERSION"))))
            .with_content_type_for_suffix("ndjson", "application/fhir+ndjson")
            .with_content_type_for_suffix("gz", "application/gzip")
            .with_content_type_for_suffix("json", "application/json");
        for certificate in &self.root_certificates {
            options = options.with_root_certificate(certificate.clone());
        }
        for key in certificates::KEPT_CLIENT_SETTINGS {
            if let Some(value) = self.base.get_config_value(&AmazonS3ConfigKey::Client(key)) {
                options = options.with_config(key, value);
            }
        }
        // Reading them takes milliseconds of every start, and nothing here speaks TLS. Credentials from the network and
        // proxies may.
        if plain && self.has_credentials && !uses_proxy(&self.base) {
            options = options.with_no_system_certificates(true);
        }
        options
    }
}

/// Whether a proxy is named, to object_store or to the HTTP client behind it.
fn uses_proxy(base: &AmazonS3Builder) -> bool {
    let named = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    base.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::ProxyUrl)).is_some()
        || ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"].iter().any(named)
}

/// Whether a refusal says that the store doesn't know the operation.
fn is_unknown_operation(error: &object_store::Error) -> bool {
    answer::refusal(error).is_some_and(|refusal| {
        matches!(refusal.status(), 405 | 501) || matches!(refusal.code(), "NotImplemented" | "MethodNotAllowed")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::{Destination, ObjectKey};

    fn options(uri: &str) -> S3Options {
        S3Options::new(S3Uri::parse(uri).unwrap()).with_access_key("AKIDEXAMPLE", "wJalrEXAMPLEKEY")
    }

    #[test]
    fn the_bucket_stands_where_the_endpoint_wants_it() {
        let auto = options("s3://bucket/p");
        let dotted = options("s3://bucket.with.dots/p");
        let local = auto.clone().with_endpoint("http://127.0.0.1:8333/");
        let hosted = local.clone().with_addressing(Addressing::VirtualHosted);
        let path = auto.clone().with_addressing(Addressing::Path);
        for (options, expected) in [
            (auto, "https://bucket.s3.eu-west-1.amazonaws.com"),
            (dotted, "https://s3.eu-west-1.amazonaws.com/bucket.with.dots"),
            (local, "http://127.0.0.1:8333/bucket"),
            (hosted, "http://bucket.127.0.0.1:8333"),
            (path, "https://s3.eu-west-1.amazonaws.com/bucket"),
        ] {
            assert_eq!(options.bucket_url("eu-west-1").unwrap(), expected);
        }
    }

    #[test]
    fn an_endpoint_without_a_scheme_is_refused() {
        for endpoint in ["127.0.0.1:8333", "ftp://x", "https://", ""] {
            let error = options("s3://bucket").with_endpoint(endpoint).open().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{endpoint}");
        }
    }

    #[test]
    fn a_destination_shows_its_url_and_no_secret() {
        let options = options("s3://bucket/a/prefix/");
        assert!(!format!("{options:?}").contains("wJalr"));
        let destination = options.open().unwrap();
        let key = ObjectKey::new("job/Patient.ndjson").unwrap();
        assert_eq!(destination.url(&key), "s3://bucket/a/prefix/job/Patient.ndjson");
        assert!(!format!("{destination:?}").contains("wJalr"));
        assert!(destination.capabilities().checks_parts && destination.capabilities().lists_uploads);
    }
}
