//! Google Cloud Storage and Azure Blob Storage, by the code that S3 has.
//!
//! Neither was tested against the real service; Azure was against its emulator, Azurite. They list no open uploads here: a lifecycle rule must remove those that
//! a killed process leaves (GCS: `AbortIncompleteMultipartUpload`; Azure removes blocks by itself after a week, and has
//! no abort).

use std::sync::Arc;

use object_store::{ClientOptions, RetryConfig};

use super::Capabilities;
use super::answer::WatchedConnector;
use super::multipart::MultipartDestination;
use super::signing::StoreSigner;
use crate::error::{Error, ErrorKind, Result};

/// Opens `gs://bucket/prefix` with the credentials and settings of the usual `GOOGLE_…` environment variables.
///
/// Not tested against the real service.
///
/// # Errors
/// When the URI is none, or the settings can't be used.
#[cfg(feature = "gcs")]
pub fn gcs_from_env(uri: &str) -> Result<MultipartDestination> {
    let (bucket, prefix) = split(uri, "gs://")?;
    let builder = object_store::gcp::GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_retry(no_retries())
        .with_client_options(client_options())
        .with_http_connector(WatchedConnector::default());
    let store = builder.build().map_err(|error| unusable(uri, error))?;
    let store = Arc::new(store);
    let signer = StoreSigner(Arc::clone(&store));
    let destination = MultipartDestination::new(store, format!("gs://{bucket}"), prefix, Capabilities::default())?;
    Ok(destination.with_signer(signer))
}

/// Opens `az://container/prefix` with the account and credentials of the usual `AZURE_…` environment variables.
///
/// Not tested against the real service.
///
/// # Errors
/// When the URI is none, or the settings can't be used.
#[cfg(feature = "azure")]
pub fn azure_from_env(uri: &str) -> Result<MultipartDestination> {
    let (container, prefix) = split(uri, "az://")?;
    let builder = object_store::azure::MicrosoftAzureBuilder::from_env()
        .with_container_name(container)
        .with_retry(no_retries())
        .with_client_options(client_options())
        .with_http_connector(WatchedConnector::default());
    let store = builder.build().map_err(|error| unusable(uri, error))?;
    let store = Arc::new(store);
    let signer = StoreSigner(Arc::clone(&store));
    let destination = MultipartDestination::new(store, format!("az://{container}"), prefix, Capabilities::default())?;
    Ok(destination.with_signer(signer))
}

fn split<'a>(uri: &'a str, scheme: &str) -> Result<(&'a str, &'a str)> {
    let rest = uri.strip_prefix(scheme).unwrap_or_default();
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        let shown: String = uri.chars().take(100).collect();
        let message = format!("{shown:?} must begin with {scheme} and the name of a bucket");
        return Err(Error::new(ErrorKind::InvalidRequest, message));
    }
    Ok((bucket, prefix))
}

fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn client_options() -> ClientOptions {
    ClientOptions::new().with_timeout_disabled().with_read_timeout_disabled()
}

fn unusable(uri: &str, error: object_store::Error) -> Error {
    Error::new(ErrorKind::InvalidConfig, "the settings for the store can't be used").with("uri", uri).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_split_into_bucket_and_prefix() {
        assert_eq!(split("gs://b/p/q", "gs://").unwrap(), ("b", "p/q"));
        assert_eq!(split("gs://b", "gs://").unwrap(), ("b", ""));
        for bad in ["s3://b", "gs://", "gs:///p"] {
            assert_eq!(split(bad, "gs://").unwrap_err().kind(), ErrorKind::InvalidRequest);
        }
    }
}
