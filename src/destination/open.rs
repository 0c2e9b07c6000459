//! The door to destinations: from a URI to a [`Destination`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::retry::{RetryCounts, Throttle};
use super::{Destination, LocalDestination};
use crate::error::{Error, ErrorKind, Result};
use crate::location::{Location, unknown_scheme};

/// What a URI doesn't say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The endpoint of an S3 store that isn't AWS, with its scheme.
    pub endpoint: Option<String>,
    /// The region of the bucket in S3.
    pub region: Option<String>,
    /// A file of certificate authorities in PEM, which S3 is trusted by besides those of the system; without it, the
    /// file that `AWS_CA_BUNDLE` names.
    pub ca_file: Option<PathBuf>,
    /// The KMS key that objects in S3 are encrypted with: an id, alias or ARN.
    pub kms_key: Option<String>,
    /// The checksum that is sent with each part to S3; CRC64NVME if nothing else is said.
    pub checksum: Option<Checksum>,
    /// The role in whose name is written to S3.
    pub role: Option<AssumeRole>,
}

/// A role that is assumed to write in its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssumeRole {
    /// The ARN of the role.
    pub role_arn: String,
    /// The name of the session, by which the logs of the cloud tell one job from another.
    pub session_name: String,
    /// How it is assumed.
    pub sessions: RoleSessions,
}

/// How roles are assumed, whichever they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleSessions {
    /// Where, with the scheme; without it, at AWS's STS of the region.
    pub sts_endpoint: Option<String>,
    /// What trust policies know this server by besides its principal (`sts:ExternalId`).
    pub external_id: Option<String>,
    /// How long credentials are asked for; without it, as long as STS gives them, which is an hour at AWS. They are
    /// refreshed before they end.
    pub session_seconds: Option<u32>,
}

impl RoleSessions {
    /// Looks whether STS would take them (STS, "AssumeRole").
    ///
    /// # Errors
    /// When the endpoint is no URL, the external id isn't one, or the time is out of range.
    pub fn check(&self) -> Result<()> {
        let refused = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        if let Some(endpoint) = &self.sts_endpoint {
            let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
            if host.is_none_or(|host| {
                host.is_empty() || !host.bytes().all(|b| b.is_ascii_graphic() && !b"?#@".contains(&b))
            }) {
                let shown = crate::location::excerpt(endpoint);
                return refused(format!("the endpoint of STS {shown:?} is no URL of http:// or https:// and a host"));
            }
        }
        if let Some(id) = &self.external_id {
            let is_one = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@:/_-".contains(&byte);
            if !(2..=1224).contains(&id.len()) || !id.bytes().all(is_one) {
                return refused("an external id has 2 to 1224 letters, digits and any of _+=,.@:/-".to_owned());
            }
        }
        match self.session_seconds {
            Some(seconds) if !(900..=43_200).contains(&seconds) => {
                refused(format!("a session lasts 900 to 43200 seconds, not {seconds}"))
            }
            _ => Ok(()),
        }
    }
}

/// A checksum that a store checks before it keeps a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// None: for stores that refuse the headers.
    Off,
    /// CRC64NVME.
    Crc64Nvme,
    /// SHA-256.
    Sha256,
}

/// A destination, with what is known of its failed calls.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The destination; behind a network, failed calls are repeated.
    pub destination: Arc<dyn Destination>,
    /// The failed calls by cause.
    pub retries: Arc<RetryCounts>,
    /// What the store asks of the flight.
    pub throttle: Arc<Throttle>,
}

/// Opens a destination: a folder, `file:///folder`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`.
///
/// Credentials come from the usual environment variables. Nothing is created, and no request is sent.
///
/// # Errors
/// When the scheme is unknown or its feature isn't built in, the URI is none, or the settings can't be used.
pub fn from_uri(uri: &str, settings: &Settings) -> Result<Opened> {
    let scheme = match Location::parse(uri)? {
        Location::Path(folder) => return from_folder(&folder, settings),
        Location::Uri { scheme } => scheme,
    };
    match scheme.as_str() {
        "s3" => s3(uri, settings),
        "gs" => gcs(uri, settings),
        "az" => azure(uri, settings),
        _ => Err(unknown_scheme(uri, &scheme, "a folder, file:, s3:, gs: or az:")),
    }
}

/// Opens a local folder.
///
/// # Errors
/// When the path can't be made absolute, or a setting is for a store.
pub fn from_folder(folder: &Path, settings: &Settings) -> Result<Opened> {
    refuse_s3_settings(settings)?;
    let destination = Arc::new(LocalDestination::new(folder)?);
    Ok(Opened { destination, retries: Arc::default(), throttle: Arc::default() })
}

fn refuse_s3_settings(settings: &Settings) -> Result<()> {
    let given = [
        ("an endpoint", settings.endpoint.is_some()),
        ("a region", settings.region.is_some()),
        ("a file of the CA", settings.ca_file.is_some()),
        ("a KMS key", settings.kms_key.is_some()),
        ("a checksum of parts", settings.checksum.is_some()),
        ("a role to be assumed", settings.role.is_some()),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        Some((what, _)) => Err(Error::new(ErrorKind::InvalidConfig, format!("{what} is for a destination in S3 only"))),
        None => Ok(()),
    }
}

#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
fn retrying(destination: super::MultipartDestination) -> Opened {
    let retrying = super::Retrying::new(Arc::new(destination));
    let (retries, throttle) = (retrying.counts(), retrying.throttle());
    Opened { destination: Arc::new(retrying), retries, throttle }
}

#[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
fn not_built_in(uri: &str, feature: &str) -> Result<Opened> {
    let message = format!("this build can't write there: it was built without the feature {feature}");
    Err(Error::new(ErrorKind::InvalidConfig, message).with("destination", crate::location::excerpt(uri)))
}

#[cfg(feature = "s3")]
fn s3(uri: &str, settings: &Settings) -> Result<Opened> {
    use super::s3::{PartChecksum, S3Options, S3Uri};

    let mut options = S3Options::from_env(S3Uri::parse(uri)?)?;
    if let Some(endpoint) = &settings.endpoint {
        options = options.with_endpoint(endpoint);
    }
    if let Some(region) = &settings.region {
        options = options.with_region(region);
    }
    if let Some(pem) = crate::certificates::pem_of(settings.ca_file.as_deref())? {
        options = options.with_root_certificates(&pem)?;
    }
    if let Some(key) = &settings.kms_key {
        options = options.with_kms_key(key);
    }
    if let Some(checksum) = settings.checksum {
        options = options.with_checksum(match checksum {
            Checksum::Off => PartChecksum::Off,
            Checksum::Crc64Nvme => PartChecksum::Crc64Nvme,
            Checksum::Sha256 => PartChecksum::Sha256,
        });
    }
    if let Some(role) = &settings.role {
        options = options.with_role(role.clone());
    }
    Ok(retrying(options.open()?))
}

#[cfg(not(feature = "s3"))]
fn s3(uri: &str, _: &Settings) -> Result<Opened> {
    not_built_in(uri, "s3")
}

#[cfg(feature = "gcs")]
fn gcs(uri: &str, settings: &Settings) -> Result<Opened> {
    refuse_s3_settings(settings)?;
    Ok(retrying(super::cloud::gcs_from_env(uri)?))
}

#[cfg(not(feature = "gcs"))]
fn gcs(uri: &str, _: &Settings) -> Result<Opened> {
    not_built_in(uri, "gcs")
}

#[cfg(feature = "azure")]
fn azure(uri: &str, settings: &Settings) -> Result<Opened> {
    refuse_s3_settings(settings)?;
    Ok(retrying(super::cloud::azure_from_env(uri)?))
}

#[cfg(not(feature = "azure"))]
fn azure(uri: &str, _: &Settings) -> Result<Opened> {
    not_built_in(uri, "azure")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::ObjectKey;

    fn url(uri: &str) -> Result<String> {
        let opened = from_uri(uri, &Settings::default())?;
        Ok(opened.destination.url(&ObjectKey::new("k").unwrap()))
    }

    #[test]
    fn a_path_and_a_file_uri_are_folders() {
        for uri in ["/srv/out", "/srv/out/", "file:/srv/out", "file:///srv/out", "file://localhost/srv/out"] {
            assert_eq!(url(uri).unwrap(), "file:///srv/out/k", "{uri}");
        }
        assert_eq!(url("file:///srv/a%20b").unwrap(), "file:///srv/a%20b/k");
        assert!(url("out:1").unwrap().ends_with("/out%3A1/k"));
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        for (uri, said) in [
            ("", "empty"),
            ("ftp://host/x", "\"ftp\" is unknown"),
            ("sqlite:x.db", "\"sqlite\" is unknown"),
            ("file:out", "absolute"),
        ] {
            let error = url(uri).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{uri}");
            assert!(error.message().contains(said), "{uri}: {error}");
        }
    }

    #[test]
    fn a_key_for_a_folder_is_refused() {
        let settings = Settings { kms_key: Some("alias/x".into()), ..Settings::default() };
        let error = from_uri("/srv/out", &settings).unwrap_err();
        assert!(error.message().contains("KMS key"), "{error}");
    }

    #[cfg(not(feature = "s3"))]
    #[test]
    fn a_store_that_was_not_built_in_is_said_so() {
        let error = url("s3://bucket").unwrap_err();
        assert!(error.message().contains("feature s3"), "{error}");
    }

    #[cfg(feature = "s3")]
    #[test]
    fn what_is_no_s3_uri_is_refused() {
        for uri in ["s3:bucket", "s3://Bad_Bucket", "s3://bucket//x"] {
            assert_eq!(url(uri).unwrap_err().kind(), ErrorKind::InvalidRequest, "{uri}");
        }
    }
    #[test]
    fn what_sts_would_not_take_is_refused() {
        let (endpoint, id) = (|text: &str| Some(text.to_owned()), |text: &str| Some(text.to_owned()));
        let none = RoleSessions::default;
        for sessions in [
            none(),
            RoleSessions { sts_endpoint: endpoint("https://sts.eu-west-1.amazonaws.com/"), ..none() },
            RoleSessions { external_id: id("a:b/c@d=e,f.g_h-i+"), session_seconds: Some(900), ..none() },
        ] {
            sessions.check().unwrap();
        }
        for (sessions, said) in [
            (RoleSessions { sts_endpoint: endpoint("sts.example.org"), ..none() }, "endpoint of STS"),
            (RoleSessions { sts_endpoint: endpoint("https://"), ..none() }, "endpoint of STS"),
            (RoleSessions { sts_endpoint: endpoint("https://me:x@host"), ..none() }, "endpoint of STS"),
            (RoleSessions { sts_endpoint: endpoint("ftp://host"), ..none() }, "endpoint of STS"),
            (RoleSessions { external_id: id("x"), ..none() }, "external id"),
            (RoleSessions { external_id: id("with blank"), ..none() }, "external id"),
            (RoleSessions { external_id: id(&"x".repeat(1225)), ..none() }, "external id"),
            (RoleSessions { session_seconds: Some(899), ..none() }, "900 to 43200"),
            (RoleSessions { session_seconds: Some(43_201), ..none() }, "900 to 43200"),
        ] {
            let error = sessions.check().unwrap_err();
            assert!(error.kind() == ErrorKind::InvalidConfig && error.message().contains(said), "{error}");
        }
    }
}
