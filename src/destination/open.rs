//! The door to destinations: from a URI to a [`Destination`].

use std::path::Path;
use std::sync::Arc;

use super::retry::{RetryCounts, Throttle};
use super::{Destination, LocalDestination};
use crate::error::{Error, ErrorKind, Result};

/// What a URI doesn't say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The endpoint of an S3 store that isn't AWS, with its scheme.
    pub endpoint: Option<String>,
    /// The KMS key that objects in S3 are encrypted with: an id, alias or ARN.
    pub kms_key: Option<String>,
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
    let Some((scheme, rest)) = scheme(uri) else {
        if uri.is_empty() {
            return Err(Error::new(ErrorKind::InvalidRequest, "the destination is empty"));
        }
        return from_folder(Path::new(uri), settings);
    };
    match scheme {
        "file" => from_folder(Path::new(&*decoded_path(uri, rest)?), settings),
        "s3" => s3(uri, settings),
        "gs" => gcs(uri, settings),
        "az" => azure(uri, settings),
        _ => {
            let message = format!("the scheme {:?} is unknown; use a folder, file:, s3:, gs: or az:", cut(scheme));
            Err(Error::new(ErrorKind::InvalidRequest, message).with("destination", cut(uri)))
        }
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

/// The scheme of a URI and what follows; `None` for a path. A letter alone is a drive.
fn scheme(uri: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = uri.split_once(':')?;
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    // A folder may have a colon in its name, but hardly like this.
    let is_known = matches!(scheme, "file" | "s3" | "gs" | "az");
    (is_scheme && (rest.starts_with("//") || is_known)).then_some((scheme, rest))
}

/// The path of a `file:` URI (RFC 8089): `file:/path`, `file:///path`, `file://localhost/path`.
fn decoded_path(uri: &str, rest: &str) -> Result<String> {
    let path = rest.strip_prefix("//").map_or(rest, |rest| rest.strip_prefix("localhost").unwrap_or(rest));
    let refused = |why| Err(Error::new(ErrorKind::InvalidRequest, why).with("destination", cut(uri)));
    if !path.starts_with('/') {
        return refused("a file URI must have an absolute path, and no host");
    }
    match percent_encoding::percent_decode_str(path).decode_utf8() {
        Ok(path) => Ok(path.into_owned()),
        Err(_) => refused("the path of the file URI isn't UTF-8"),
    }
}

fn refuse_s3_settings(settings: &Settings) -> Result<()> {
    let given = [("an endpoint", &settings.endpoint), ("a KMS key", &settings.kms_key)];
    match given.into_iter().find(|(_, value)| value.is_some()) {
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
    Err(Error::new(ErrorKind::InvalidConfig, message).with("destination", cut(uri)))
}

#[cfg(feature = "s3")]
fn s3(uri: &str, settings: &Settings) -> Result<Opened> {
    let mut options = super::s3::S3Options::from_env(super::s3::S3Uri::parse(uri)?)?;
    if let Some(endpoint) = &settings.endpoint {
        options = options.with_endpoint(endpoint);
    }
    if let Some(key) = &settings.kms_key {
        options = options.with_kms_key(key);
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

fn cut(text: &str) -> String {
    text.chars().take(100).collect()
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
            ("file:out", "absolute"),
            ("file://host/out", "absolute"),
            ("file:///%FF", "UTF-8"),
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
}
