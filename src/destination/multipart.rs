//! Objects in a store behind object_store's multipart interface: S3, GCS, Azure, memory.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::{BoxStream, StreamExt};
use object_store::multipart::{MultipartStore, PartId as StorePartId};
use object_store::path::Path;
use object_store::{MultipartId, ObjectStore, ObjectStoreExt, PutPayload};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::signing::UrlSigner;
use super::store_error::{begin_error, is_not_found, store_error};
use super::{Capabilities, Destination, ObjectKey, OpenUpload, PartId, StoredObject, StoredPart, Upload};
use crate::error::{Error, ErrorKind, Result};

/// How often an upload is aborted until the store lists none of its parts.
const ABORTS: u32 = 10;
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// What can't stand in a URL of an object as it is. Such URLs name a key, and most readers don't decode them.
const URL_UNSAFE: &AsciiSet = &CONTROLS.add(b'%').add(b' ').add(b'"').add(b'<').add(b'>').add(b'#').add(b'?');

/// A destination over object_store's [`MultipartStore`].
///
/// Keys are sent as they are, byte for byte, after the prefix. Errors are mapped to the crate's kinds; those that may
/// pass are retryable, and nothing is repeated here: see [`Retrying`](super::Retrying).
#[derive(Clone)]
pub struct MultipartDestination {
    shared: Arc<Shared>,
}

struct Shared {
    objects: Arc<dyn ObjectStore>,
    uploads: Arc<dyn MultipartStore>,
    listing: Option<Box<dyn UploadListing>>,
    signer: Option<Box<dyn UrlSigner>>,
    /// Of the bucket, without the prefix: `s3://bucket`.
    url: String,
    /// Empty, or with `/` at its end.
    prefix: String,
    capabilities: Capabilities,
}

/// What object_store can't do: look at uploads that aren't complete. `None`: the store can't either.
#[async_trait]
pub(super) trait UploadListing: fmt::Debug + Send + Sync {
    async fn parts(&self, path: &str, upload_id: &str) -> Result<Option<Vec<StoredPart>>>;

    /// Pairs of path and upload id.
    async fn uploads(&self, prefix: &str) -> Result<Option<Vec<(String, String)>>>;
}

impl fmt::Debug for MultipartDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { url, prefix, capabilities, .. } = &*self.shared;
        f.debug_struct("MultipartDestination")
            .field("url", url)
            .field("prefix", prefix)
            .field("capabilities", capabilities)
            .finish_non_exhaustive()
    }
}

impl MultipartDestination {
    /// Wraps a store.
    ///
    /// `url` is that of the bucket, such as `s3://bucket`; `prefix` is empty or goes before each key, with a `/` between.
    ///
    /// # Errors
    /// When the prefix has a segment that is empty, `.` or `..`, or a control character.
    pub fn new<S>(store: Arc<S>, url: impl Into<String>, prefix: &str, capabilities: Capabilities) -> Result<Self>
    where
        S: ObjectStore + MultipartStore,
    {
        let uploads: Arc<dyn MultipartStore> = Arc::<S>::clone(&store);
        let shared = Shared {
            objects: store,
            uploads,
            listing: None,
            signer: None,
            url: url.into(),
            prefix: String::new(),
            capabilities,
        };
        Self { shared: Arc::new(shared) }.with_prefix(prefix)
    }

    fn with_prefix(mut self, prefix: &str) -> Result<Self> {
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if prefix.is_empty() {
            return Ok(self);
        }
        let Some(key) = ObjectKey::new(prefix) else {
            let shown: String = prefix.chars().take(100).collect();
            let message = format!(
                "the prefix {shown:?} has a segment that is empty, . or .., or a character that no key may have"
            );
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        };
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.prefix = format!("{key}/");
        }
        Ok(self)
    }

    /// Adds what signs URLs of objects.
    #[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
    pub(super) fn with_signer(mut self, signer: impl UrlSigner + 'static) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.signer = Some(Box::new(signer));
        }
        self
    }

    /// Adds what object_store lacks.
    #[cfg(feature = "s3")]
    pub(super) fn with_listing(mut self, listing: impl UploadListing + 'static) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.capabilities.lists_parts = true;
            shared.capabilities.lists_uploads = true;
            shared.listing = Some(Box::new(listing));
        }
        self
    }
}

impl Shared {
    fn raw(&self, key: &ObjectKey) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The path as object_store has it: parsed, because its conversions re-write characters.
    fn path(&self, key: &ObjectKey) -> Result<Path> {
        let raw = self.raw(key);
        match Path::parse(&raw) {
            Ok(path) if path.as_ref() == raw => Ok(path),
            _ => {
                Err(Error::new(ErrorKind::InvalidRequest, "the store can't take the key as it is").with("object", raw))
            }
        }
    }

    fn url(&self, key: &ObjectKey) -> String {
        let raw = self.raw(key);
        format!("{}/{}", self.url, utf8_percent_encode(&raw, URL_UNSAFE))
    }

    fn key(&self, raw: &str) -> Option<ObjectKey> {
        ObjectKey::new(raw.strip_prefix(&self.prefix)?)
    }

    fn upload(self: &Arc<Self>, key: &ObjectKey, path: Path, id: MultipartId) -> Box<dyn Upload> {
        let shared = Arc::clone(self);
        Box::new(MultipartUpload { shared, key: key.clone(), path, id, aborted: AtomicBool::new(false) })
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Destination for MultipartDestination {
    fn capabilities(&self) -> Capabilities {
        self.shared.capabilities
    }

    fn flight_bytes(&self, most_bytes: usize) -> usize {
        most_bytes
    }

    fn url(&self, key: &ObjectKey) -> String {
        self.shared.url(key)
    }

    async fn signed_url(&self, key: &ObjectKey, lifetime: Duration) -> Result<Option<String>> {
        let Some(signer) = &self.shared.signer else { return Ok(None) };
        let signed = signer.signed_url(&self.shared.path(key)?, lifetime).await;
        let signed = signed.map_err(|error| store_error("the object's URL can't be signed", self.url(key), error))?;
        Ok(Some(signed))
    }

    async fn begin(&self, key: &ObjectKey) -> Result<Box<dyn Upload>> {
        let path = self.shared.path(key)?;
        let begun = self.shared.uploads.create_multipart(&path).await;
        let id = begun.map_err(|error| begin_error(self.url(key), error))?;
        Ok(self.shared.upload(key, path, id))
    }

    /// Stores an object; one that is already there is replaced.
    async fn put(&self, key: &ObjectKey, payload: PutPayload) -> Result<()> {
        let put = self.shared.objects.put(&self.shared.path(key)?, payload).await;
        put.map(drop).map_err(|error| store_error("the object can't be stored", self.url(key), error))
    }

    async fn list(&self, folder: &str) -> Result<Vec<StoredObject>> {
        let raw = format!("{}{folder}", self.shared.prefix);
        let failed = |error| store_error("the objects can't be listed", format!("{}/{raw}", self.shared.url), error);
        let path = Path::parse(&raw).map_err(|error| failed(error.into()))?;
        let mut listed = self.shared.objects.list(Some(&path));
        let mut objects = Vec::new();
        while let Some(object) = listed.try_next().await.map_err(failed)? {
            // A name that is no key, such as a folder's marker, is none of ours.
            if let Some(key) = self.shared.key(object.location.as_ref()) {
                objects.push(StoredObject { key, size_bytes: object.size });
            }
        }
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    async fn size_bytes(&self, key: &ObjectKey) -> Result<Option<u64>> {
        match self.shared.objects.head(&self.shared.path(key)?).await {
            Ok(found) => Ok(Some(found.size)),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(store_error("the object can't be looked for", self.url(key), error)),
        }
    }

    async fn get(&self, key: &ObjectKey) -> Result<BoxStream<'static, Result<Bytes>>> {
        let url = self.url(key);
        let failed = move |error| store_error("the object can't be read", &url, error);
        let found = self.shared.objects.get(&self.shared.path(key)?).await.map_err(&failed)?;
        Ok(found.into_stream().map_err(failed).boxed())
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        match self.shared.objects.delete(&self.shared.path(key)?).await {
            Ok(()) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(store_error("the object can't be removed", self.url(key), error)),
        }
    }

    async fn open_uploads(&self, folder: &str) -> Result<Option<Vec<OpenUpload>>> {
        let Some(listing) = &self.shared.listing else { return Ok(None) };
        let Some(uploads) = listing.uploads(&format!("{}{folder}", self.shared.prefix)).await? else { return Ok(None) };
        let ours = |(raw, upload_id): (String, String)| Some(OpenUpload { key: self.shared.key(&raw)?, upload_id });
        let mut open: Vec<_> = uploads.into_iter().filter_map(ours).collect();
        open.sort_by(|a, b| (&a.key, &a.upload_id).cmp(&(&b.key, &b.upload_id)));
        Ok(Some(open))
    }

    /// Opens an upload again; a store that can't list parts isn't asked whether it still has it.
    async fn reopen(&self, key: &ObjectKey, upload_id: &str) -> Result<Box<dyn Upload>> {
        let upload = self.shared.upload(key, self.shared.path(key)?, upload_id.to_owned());
        match upload.parts().await {
            // Who may write may not be allowed to list.
            Err(error) if error.kind() != ErrorKind::PermissionDenied => Err(error),
            _ => Ok(upload),
        }
    }
}

struct MultipartUpload {
    shared: Arc<Shared>,
    key: ObjectKey,
    path: Path,
    id: MultipartId,
    aborted: AtomicBool,
}

impl fmt::Debug for MultipartUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultipartUpload").field("path", &self.path).field("id", &self.id).finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Upload for MultipartUpload {
    fn id(&self) -> &str {
        &self.id
    }

    async fn put_part(&self, number: u32, payload: PutPayload) -> Result<PartId> {
        self.refuse_aborted()?;
        let Some(index) = number.checked_sub(1) else { return Err(self.refusal("a part's number is 1 or more")) };
        let sent = self.shared.uploads.put_part(&self.path, &self.id, index as usize, payload).await;
        let part = sent.map_err(|error| self.failed("the part can't be stored", error).with("part", number))?;
        Ok(PartId(format!("{number}:{}", part.content_id)))
    }

    async fn complete(&self, parts: &[PartId]) -> Result<()> {
        self.refuse_aborted()?;
        let parts = self.judge(parts)?;
        let completed = self.shared.uploads.complete_multipart(&self.path, &self.id, parts).await;
        completed.map(drop).map_err(|error| self.failed("the upload can't be completed", error))
    }

    /// Aborts until the store lists no part: one that was on its way when it aborted may be stored after it
    /// (S3, AbortMultipartUpload).
    async fn abort(&self) -> Result<()> {
        let mut wait = FIRST_WAIT;
        for _ in 0..ABORTS {
            self.abort_once().await?;
            if !self.holds_parts().await? {
                return Ok(());
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        Err(self.refusal("the store lists parts of the upload after it was aborted").retryable(true))
    }

    async fn parts(&self) -> Result<Option<Vec<StoredPart>>> {
        match &self.shared.listing {
            Some(listing) => listing.parts(self.path.as_ref(), &self.id).await,
            None => Ok(None),
        }
    }
}

impl MultipartUpload {
    /// Checks that these are the parts 1 to n: some stores complete an upload that has holes.
    fn judge(&self, parts: &[PartId]) -> Result<Vec<StorePartId>> {
        if parts.is_empty() {
            return Err(self.refusal("an object can't be completed of no part"));
        }
        let ours = |(number, part): (u32, &PartId)| {
            let content_id = part.0.strip_prefix(&format!("{number}:")).map(str::to_owned);
            let missing = || self.refusal("a part is missing, or has an id that isn't its own").with("part", number);
            Ok(StorePartId { content_id: content_id.ok_or_else(missing)? })
        };
        (1..).zip(parts).map(ours).collect()
    }

    /// Stores differ in what they answer for an upload that is gone; some fail, which looks as if it would pass.
    fn refuse_aborted(&self) -> Result<()> {
        if self.aborted.load(Ordering::Relaxed) {
            return Err(self.refusal("the upload was aborted").with_kind(ErrorKind::NotFound));
        }
        Ok(())
    }

    async fn abort_once(&self) -> Result<()> {
        match self.shared.uploads.abort_multipart(&self.path, &self.id).await {
            Ok(()) => {
                self.aborted.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => {
                let error = self.failed("the upload can't be aborted", error);
                // Stores differ in what they answer for an upload that is gone.
                let gone = self.aborted.load(Ordering::Relaxed) && !error.is_retryable();
                if gone { Ok(()) } else { Err(error) }
            }
        }
    }

    async fn holds_parts(&self) -> Result<bool> {
        match self.parts().await {
            Ok(parts) => Ok(parts.is_some_and(|parts| !parts.is_empty())),
            // Who may abort may not be allowed to list: then it can't be told.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn failed(&self, what: &str, error: object_store::Error) -> Error {
        store_error(what, self.shared.url(&self.key), error)
    }

    fn refusal(&self, message: &str) -> Error {
        Error::new(ErrorKind::Store, message).with("object", self.shared.url(&self.key))
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::destination::contract;

    fn key(text: &str) -> ObjectKey {
        ObjectKey::new(text).unwrap()
    }

    fn destination(prefix: &str) -> (Arc<InMemory>, MultipartDestination) {
        let store = Arc::new(InMemory::new());
        let capabilities = Capabilities { min_part_bytes: 1, ..Capabilities::default() };
        let destination = MultipartDestination::new(Arc::clone(&store), "memory://bucket", prefix, capabilities);
        (store, destination.unwrap())
    }

    #[tokio::test]
    async fn it_keeps_the_contract() {
        contract::check(&destination("").1).await;
        contract::check(&destination("a/b").1).await;
    }

    #[tokio::test]
    async fn a_key_is_sent_byte_for_byte() {
        let name = "ds~1-FHIR_EXPORT-1/é %#?*{}/Patient[1].ndjson";
        for (prefix, before) in [("", ""), ("my prefix%/x", "my prefix%/x/"), ("p/", "p/")] {
            let (store, destination) = destination(prefix);
            destination.put(&key(name), "x".into()).await.unwrap();
            let paths: Vec<_> =
                store.list(None).map_ok(|object| object.location.to_string()).try_collect().await.unwrap();
            assert_eq!(paths, [format!("{before}{name}")]);
            assert_eq!(destination.list("").await.unwrap()[0].key, key(name));
        }
    }

    #[tokio::test]
    async fn a_listing_stays_below_the_prefix() {
        let (store, destination) = destination("p");
        for path in ["p/a", "pq/a", "a"] {
            store.put(&Path::parse(path).unwrap(), "x".into()).await.unwrap();
        }
        let listed = destination.list("").await.unwrap();
        assert_eq!(listed.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn a_url_names_the_key() {
        let (_, destination) = destination("a prefix");
        assert_eq!(destination.url(&key("job/ä.ndjson")), "memory://bucket/a%20prefix/job/%C3%A4.ndjson");
    }

    #[test]
    fn a_prefix_with_an_empty_segment_is_refused() {
        for prefix in ["a//b", "/a", "../a", "a/./b", "a\nb"] {
            let made =
                MultipartDestination::new(Arc::new(InMemory::new()), "memory://b", prefix, Capabilities::default());
            assert_eq!(made.unwrap_err().kind(), ErrorKind::InvalidConfig, "{prefix:?}");
        }
    }
}
