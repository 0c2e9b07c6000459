//! The door to sources: from a URI to a [`Source`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{NdjsonSource, Source};
use crate::error::Result;
use crate::location::{Location, unknown_scheme};
pub use crate::location::{Password, without_password};

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
    /// Whether no file name is trusted: see [`NdjsonSource::scan_all`].
    pub scan_all: bool,
    /// The password of a database that the URI may lack; without it `PGPASSWORD` is taken from the environment.
    pub password: Password,
    /// How far the transaction time of a database may lie back; without it, what the URI's `lag_seconds` says.
    pub lag: Option<Duration>,
}

/// A path or URI as it would be typed in any working directory, without `/` at its end and without a password. So are the
/// files that the URI of a database names, its `mapping` and `sslrootcert`. What is neither stays as it is.
#[must_use]
pub fn whole_uri(uri: &str) -> String {
    let whole = crate::location::whole_uri(uri);
    #[cfg(feature = "postgres")]
    let whole = super::postgres::with_absolute_files(&whole);
    whole
}

/// Opens a source: a folder or file of NDJSON, `file:///folder`, `s3://bucket/prefix`, `sqlite:store.db`,
/// `postgres://user@host/database`.
///
/// Credentials come from the usual environment variables. Nothing is read, and no request is sent.
///
/// # Errors
/// When the scheme is unknown or its feature isn't built in, the URI is none, or the settings can't be used.
pub fn from_uri(uri: &str, settings: &Settings) -> Result<Arc<dyn Source>> {
    let source = match Location::parse(uri)? {
        Location::Path(path) => return Ok(Arc::new(from_path(&path, settings))),
        Location::Uri { scheme } if scheme == "s3" => s3(uri, settings)?,
        Location::Uri { scheme } if scheme == "sqlite" => return sqlite(uri),
        Location::Uri { scheme } if ["postgres", "postgresql"].contains(&scheme.as_str()) => {
            return postgres(uri, settings);
        }
        Location::Uri { scheme } => {
            return Err(unknown_scheme(uri, &scheme, "a folder or file, file:, s3:, sqlite: or postgres:"));
        }
    };
    Ok(Arc::new(source.scan_all(settings.scan_all)))
}

#[cfg(feature = "sqlite")]
fn sqlite(uri: &str) -> Result<Arc<dyn Source>> {
    Ok(Arc::new(super::SqliteSource::new(crate::location::path_behind_scheme(uri)?)))
}

#[cfg(not(feature = "sqlite"))]
fn sqlite(uri: &str) -> Result<Arc<dyn Source>> {
    use crate::error::{Error, ErrorKind};
    use crate::location::excerpt;

    let message = "this build can't read there: it was built without the feature sqlite";
    Err(Error::new(ErrorKind::InvalidConfig, message).with("source", excerpt(uri)))
}

#[cfg(feature = "postgres")]
fn postgres(uri: &str, settings: &Settings) -> Result<Arc<dyn Source>> {
    let from_environment = std::env::var("PGPASSWORD").ok();
    let source = super::PostgresSource::new(settings.password.uri(uri), from_environment.as_deref())?;
    Ok(Arc::new(match settings.lag {
        Some(lag) => source.lag(lag),
        None => source,
    }))
}

#[cfg(not(feature = "postgres"))]
fn postgres(uri: &str, _: &Settings) -> Result<Arc<dyn Source>> {
    use crate::error::{Error, ErrorKind};
    use crate::location::excerpt;

    let message = "this build can't read there: it was built without the feature postgres";
    Err(Error::new(ErrorKind::InvalidConfig, message).with("source", excerpt(&without_password(uri))))
}

/// Opens a folder with everything below it, or a single file.
#[must_use]
pub fn from_path(path: &Path, settings: &Settings) -> NdjsonSource {
    NdjsonSource::folder(path).scan_all(settings.scan_all)
}

#[cfg(not(feature = "s3"))]
fn s3(uri: &str, _: &Settings) -> Result<NdjsonSource> {
    use crate::error::{Error, ErrorKind};
    use crate::location::excerpt;

    let message = "this build can't read there: it was built without the feature s3";
    Err(Error::new(ErrorKind::InvalidConfig, message).with("source", excerpt(uri)))
}

#[cfg(feature = "s3")]
fn s3(uri: &str, settings: &Settings) -> Result<NdjsonSource> {
    use std::time::Duration;

    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
    use object_store::{ClientConfigKey, ClientOptions, RetryConfig, path};

    use crate::error::{Error, ErrorKind};
    use crate::request::S3Uri;

    /// How long a request and its repetitions may take: a reader that has to wait for memory keeps the store waiting.
    const REQUEST: Duration = Duration::from_secs(3600);
    /// How long the store may send nothing; the rest is then asked for again.
    const SILENCE: Duration = Duration::from_secs(60);

    let unusable = |error: object_store::Error| {
        Error::new(ErrorKind::InvalidConfig, "the settings for S3 can't be used").with("source", uri).caused_by(error)
    };
    let checked = S3Uri::new(uri).map_err(|fault| Error::from(fault.at("the source")))?;
    let (bucket, prefix) = split(checked.as_str());
    let parsed = if prefix.starts_with('/') { None } else { path::Path::parse(prefix).ok() };
    let prefix = parsed.ok_or_else(|| {
        let message = "the prefix of the source has a segment that is empty, . or ..";
        Error::new(ErrorKind::InvalidRequest, message).with("source", uri)
    })?;
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
    }
    if let Some(region) = &settings.region {
        builder = builder.with_region(region);
    }
    let client = |key: ClientConfigKey| AmazonS3ConfigKey::Client(key);
    if let Some(pem) = crate::certificates::pem_of(settings.ca_file.as_deref())? {
        let mut options = ClientOptions::new();
        for certificate in crate::certificates::from_pem(&pem)? {
            options = options.with_root_certificate(certificate);
        }
        for key in crate::certificates::KEPT_CLIENT_SETTINGS {
            if let Some(value) = builder.get_config_value(&client(key)) {
                options = options.with_config(key, value);
            }
        }
        builder = builder.with_client_options(options);
    }
    let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint]
        .into_iter()
        .find_map(|key| builder.get_config_value(&key));
    let plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let builder = builder
        // A plain endpoint is allowed by being named.
        .with_config(client(ClientConfigKey::AllowHttp), plain.to_string())
        .with_config(client(ClientConfigKey::Timeout), format!("{} s", REQUEST.as_secs()))
        .with_config(client(ClientConfigKey::ReadTimeout), format!("{} s", SILENCE.as_secs()))
        .with_retry(RetryConfig { retry_timeout: REQUEST, ..RetryConfig::default() });
    let store = builder.build().map_err(unusable)?;
    Ok(NdjsonSource::object_prefix(Arc::new(store), prefix, uri))
}

/// Bucket and prefix of `s3://bucket/prefix`.
#[cfg(feature = "s3")]
fn split(uri: &str) -> (&str, &str) {
    let rest = uri.strip_prefix("s3://").unwrap_or(uri);
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    (bucket, prefix.strip_suffix('/').unwrap_or(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn name(uri: &str) -> Result<String> {
        from_uri(uri, &Settings::default()).map(|source| source.name())
    }

    #[test]
    fn a_path_and_a_file_uri_are_folders() {
        for uri in ["/srv/in", "file:/srv/in", "file:///srv/in"] {
            assert_eq!(name(uri).unwrap(), "/srv/in", "{uri}");
        }
    }

    #[test]
    fn an_unknown_scheme_is_named_with_what_is_accepted() {
        for uri in ["ftp://host/x", "gs://bucket", "http://host"] {
            let error = name(uri).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidRequest);
            assert!(
                error.message().contains("is unknown; use a folder or file, file:, s3:, sqlite: or postgres:"),
                "{error}"
            );
        }
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn a_store_is_a_source_by_its_path() {
        for (uri, path) in
            [("sqlite:x.db", "x.db"), ("sqlite:/srv/x.db", "/srv/x.db"), ("sqlite:///srv/x.db", "/srv/x.db")]
        {
            assert_eq!(name(uri).unwrap(), format!("sqlite:{path}"));
        }
        assert_eq!(whole_uri("sqlite:///srv/x.db"), "sqlite:/srv/x.db");
        assert!(whole_uri("sqlite:x.db").ends_with("/x.db") && whole_uri("sqlite:x.db").starts_with("sqlite:/"));
        assert_eq!(name("sqlite:").unwrap_err().kind(), ErrorKind::InvalidRequest);
    }

    #[cfg(feature = "s3")]
    #[test]
    fn a_bucket_is_a_source_and_needs_no_request_to_be_opened() {
        let settings = Settings {
            endpoint: Some("http://127.0.0.1:9".into()),
            region: Some("eu-west-1".into()),
            ..Settings::default()
        };
        assert_eq!(from_uri("s3://bucket/a/b/", &settings).unwrap().name(), "s3://bucket/a/b/");
        assert_eq!(from_uri("s3://bucket", &settings).unwrap().name(), "s3://bucket");
    }

    #[cfg(feature = "s3")]
    #[test]
    fn what_is_no_s3_uri_is_refused() {
        for uri in ["s3:bucket", "s3://Bad_Bucket", "s3://bucket//x", "s3://bucket/a/../b"] {
            assert_eq!(name(uri).unwrap_err().kind(), ErrorKind::InvalidRequest, "{uri}");
        }
    }
}
