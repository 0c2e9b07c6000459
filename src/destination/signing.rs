//! URLs that read an object without credentials, where the store signs them.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use object_store::path::Path;

/// Signs URLs of objects.
#[async_trait]
pub(super) trait UrlSigner: fmt::Debug + Send + Sync {
    async fn signed_url(&self, path: &Path, lifetime: Duration) -> object_store::Result<String>;
}

/// One of object_store's stores.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
#[derive(Debug)]
pub(super) struct StoreSigner<S>(pub(super) std::sync::Arc<S>);

#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
#[async_trait]
impl<S: object_store::signer::Signer> UrlSigner for StoreSigner<S> {
    async fn signed_url(&self, path: &Path, lifetime: Duration) -> object_store::Result<String> {
        let url = self.0.signed_url(object_store::signer::Method::GET, path, lifetime).await?;
        Ok(url.to_string())
    }
}
