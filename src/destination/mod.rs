//! Where objects go: the object store behind one narrow trait.
//!
//! The writer sees [`Upload`] and [`Destination`] and nothing else of a store. One implementation runs over
//! object_store's `MultipartStore` (S3, GCS, Azure, memory), one over staged local files.
//!
//! | store | lists parts | lists uploads | equal parts | content type | abort | checksum of parts |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | Amazon S3 | yes | yes | no | by ending | repeated until no part is listed | CRC64NVME, SHA-256 |
//! | others with S3's protocol | if they do (501: no) | if they do (501: no) | some, such as R2 | by ending | as S3, if they list | can be turned off |
//! | Google Cloud Storage | no | no | no | no | once | no |
//! | Azure Blob Storage | no | no | no | no | none: blocks go after a week | no |
//! | local folder | yes | yes | no | none | yes | no |
//! | memory, ours | yes | yes | if asked | none | yes | no |
//!
//! Where uploads can't be listed, what a killed process leaves open stays until a lifecycle rule of the bucket removes
//! it: `AbortIncompleteMultipartUpload`, on S3 and on Google Cloud Storage.

#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
mod answer;
#[cfg(any(feature = "gcs", feature = "azure"))]
pub mod cloud;
#[cfg(any(test, feature = "testing"))]
pub mod contract;
#[cfg(any(test, feature = "testing"))]
pub mod faulty;
mod key;
pub mod local;
pub mod memory;
pub mod multipart;
pub mod open;
pub mod retry;
pub mod retrying;
#[cfg(feature = "s3")]
pub mod s3;
mod signing;
mod store_error;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::PutPayload;

pub use key::ObjectKey;
pub use local::LocalDestination;
pub use memory::MemoryDestination;
pub use multipart::MultipartDestination;
pub use retry::{RetryCause, RetryCounts, RetryPolicy, Throttle};
pub use retrying::Retrying;

use crate::error::Result;

/// S3's smallest part but for the last one, in bytes; every store we know takes parts of this size.
pub const MIN_PART_BYTES: usize = 5 << 20;

/// S3's largest number of parts of one upload.
pub const MAX_PARTS: u32 = 10_000;

/// The place where one job's objects go: store, bucket or folder, prefix, key and role.
#[async_trait]
pub trait Destination: fmt::Debug + Send + Sync {
    /// What the store can do.
    fn capabilities(&self) -> Capabilities;

    /// How many of `most_bytes` may be on their way now: fewer while the store asks for less.
    fn flight_bytes(&self, most_bytes: usize) -> usize {
        most_bytes
    }

    /// The URL of an object as a manifest gives it: `s3://bucket/prefix/…`, `file:///…`.
    fn url(&self, key: &ObjectKey) -> String;

    /// A URL that reads an object for so long without any credentials; `None` if the store has none.
    ///
    /// # Errors
    /// When the URL can't be signed, as when there are no credentials.
    async fn signed_url(&self, _key: &ObjectKey, _lifetime: Duration) -> Result<Option<String>> {
        Ok(None)
    }

    /// Begins a multipart upload. The object isn't visible before [`Upload::complete`].
    ///
    /// # Errors
    /// When the store can't be reached or refuses.
    ///
    /// # Cancellation
    /// An upload may have begun in the store though the future was dropped; [`open_uploads`](Self::open_uploads) finds it.
    async fn begin(&self, key: &ObjectKey) -> Result<Box<dyn Upload>>;

    /// Stores a whole small object in one request.
    ///
    /// # Errors
    /// When the store can't be reached or refuses.
    async fn put(&self, key: &ObjectKey, payload: PutPayload) -> Result<()>;

    /// Lists the objects below a folder, sorted by key in byte order; the folder is a prefix that ends in `/`, or empty.
    ///
    /// # Errors
    /// When the store can't be reached or refuses.
    async fn list(&self, folder: &str) -> Result<Vec<StoredObject>>;

    /// Size of an object, in bytes; `None` if there is none.
    ///
    /// # Errors
    /// When the store can't be reached or refuses.
    async fn size_bytes(&self, key: &ObjectKey) -> Result<Option<u64>>;

    /// Reads an object.
    ///
    /// # Errors
    /// When there is none, or the store can't be reached or refuses.
    async fn get(&self, key: &ObjectKey) -> Result<BoxStream<'static, Result<Bytes>>>;

    /// Removes an object; it is no error if there is none.
    ///
    /// # Errors
    /// When the store can't be reached or refuses.
    async fn delete(&self, key: &ObjectKey) -> Result<()>;

    /// Lists uploads below a folder that are neither complete nor aborted; `None` if the store can't tell.
    ///
    /// # Errors
    /// When the store can't be reached or refuses.
    async fn open_uploads(&self, folder: &str) -> Result<Option<Vec<OpenUpload>>>;

    /// Opens an upload again that [`begin`](Self::begin) has begun, by its id.
    ///
    /// # Errors
    /// When the upload is gone, or the store can't be reached or refuses.
    async fn reopen(&self, key: &ObjectKey, upload_id: &str) -> Result<Box<dyn Upload>>;
}

/// One object on its way into a store, part by part.
///
/// Parts may be sent at the same time and in any order; each has its number from the caller, so a part that failed is
/// sent again under the same number.
#[async_trait]
pub trait Upload: fmt::Debug + Send + Sync {
    /// The store's id of the upload, which [`Destination::reopen`] takes.
    fn id(&self) -> &str;

    /// Sends one part; numbers begin at 1. When it returns, the part is durable.
    ///
    /// # Errors
    /// When the store can't be reached or refuses.
    ///
    /// # Cancellation
    /// The part may or may not be stored; it may be sent again.
    async fn put_part(&self, number: u32, payload: PutPayload) -> Result<PartId>;

    /// Makes the object visible, of all its parts in order.
    ///
    /// # Errors
    /// When the store can't be reached or refuses. The object may be complete all the same: see [`crate::writer`].
    async fn complete(&self, parts: &[PartId]) -> Result<()>;

    /// Gives the upload up and removes its parts; repeated until the store lists none, where it can list.
    ///
    /// # Errors
    /// When the store can't be reached or refuses.
    async fn abort(&self) -> Result<()>;

    /// Lists the parts that the store holds; `None` if it can't tell.
    ///
    /// # Errors
    /// When the store can't be reached or refuses.
    async fn parts(&self) -> Result<Option<Vec<StoredPart>>>;
}

/// The store's name of a durable part, as [`Upload::complete`] wants it back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PartId(pub String);

/// An object that a listing shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// Its key.
    pub key: ObjectKey,
    /// Its size, in bytes.
    pub size_bytes: u64,
}

/// A part that a listing shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPart {
    /// Its number, from 1.
    pub number: u32,
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// CRC64NVME of what the store holds, if that had to be read back because it may have been lost.
    pub crc64nvme: Option<u64>,
}

/// An upload that a listing shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenUpload {
    /// The key it would become visible under.
    pub key: ObjectKey,
    /// The store's id of it.
    pub upload_id: String,
}

/// What a store can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each named where it is set")]
pub struct Capabilities {
    /// Smallest part but for the last one, in bytes.
    pub min_part_bytes: usize,
    /// Largest number of parts.
    pub max_parts: u32,
    /// Whether it lists the parts of an upload.
    pub lists_parts: bool,
    /// Whether it lists open uploads.
    pub lists_uploads: bool,
    /// Whether all parts but the last must be of one size.
    pub equal_parts: bool,
    /// Whether a checksum is sent with each part and checked by the store.
    pub checks_parts: bool,
}

impl Default for Capabilities {
    /// Of a store that takes what S3 takes and lists nothing.
    fn default() -> Self {
        Self {
            min_part_bytes: MIN_PART_BYTES,
            max_parts: MAX_PARTS,
            lists_parts: false,
            lists_uploads: false,
            equal_parts: false,
            checks_parts: false,
        }
    }
}
