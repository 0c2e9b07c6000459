//! Objects in a local folder.
//!
//! An object is staged in a hidden folder of the destination, [`STAGING_FOLDER`], and renamed into its place when it is
//! complete: what is visible below the destination is whole. The staging folder is on the same file system, so the
//! rename is atomic; it is beside the job folders, so nothing but the job's objects is ever inside them; what a killed
//! process leaves in it is listed by [`Destination::open_uploads`]. Folders that become empty are removed.
//!
//! A part is durable when it is written. The file is synced every 256 MiB or 2 s, and before the rename; the folder
//! after it. What a failure of the machine's power may have cost since the last sync is read back when the upload is
//! opened again, and written again where it isn't what it was. An existing object is never replaced.

mod extents;
mod files;
mod staged;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::PutPayload;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use tokio::sync::RwLock;

use self::staged::{Staged, StagedUpload, Unclaimed};
use super::{Capabilities, Destination, ObjectKey, OpenUpload, StoredObject, Upload};
use crate::error::{Error, ErrorKind, Result};

/// The folder, in the destination's own, in which objects wait until they are complete.
pub const STAGING_FOLDER: &str = ".fhir-export-staging";

const READ_BYTES: usize = 1 << 20;

/// What a path keeps in a URL (RFC 3986, unreserved characters and the separator).
const URL_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A destination that is a local folder.
///
/// It needs a tokio runtime: blocking work runs on its blocking threads.
#[derive(Clone, Debug)]
pub struct LocalDestination {
    folder: Arc<Path>,
    /// Held shared while a file is made, alone to remove one or look for open ones: work whose future was dropped goes on,
    /// and cleans up behind itself, which whoever comes after it must wait for.
    making: Arc<RwLock<()>>,
}

impl LocalDestination {
    /// Takes a folder, which is created with the first object if it isn't there.
    ///
    /// # Errors
    /// When the path is empty, or relative to a working directory that is gone.
    pub fn new(folder: &Path) -> Result<Self> {
        let absolute = std::path::absolute(folder).map_err(|error| {
            Error::io("the destination folder has no absolute path", error).with("folder", folder.display())
        })?;
        Ok(Self { folder: absolute.into(), making: Arc::default() })
    }

    /// The folder, as an absolute path.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of an object.
    #[must_use]
    pub fn path(&self, key: &ObjectKey) -> PathBuf {
        self.folder.join(key.as_str())
    }

    fn staged(&self, key: &ObjectKey, id: &str) -> Result<Staged> {
        if key.as_str().split('/').next() == Some(STAGING_FOLDER) {
            return Err(
                Error::new(ErrorKind::InvalidRequest, "the key is reserved for staged objects").with("object", key)
            );
        }
        Ok(Staged::new(Arc::clone(&self.folder), key.clone(), id))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Destination for LocalDestination {
    /// Of parts of any size; as many as S3 takes, so that an object is split where it would be there.
    fn capabilities(&self) -> Capabilities {
        Capabilities { min_part_bytes: 1, lists_parts: true, lists_uploads: true, ..Capabilities::default() }
    }

    fn flight_bytes(&self, most_bytes: usize) -> usize {
        most_bytes
    }

    fn url(&self, key: &ObjectKey) -> String {
        let path = self.path(key);
        let path = percent_encode(path.as_os_str().as_encoded_bytes(), URL_PATH);
        format!("file://{path}")
    }

    async fn signed_url(&self, _: &ObjectKey, _: Duration) -> Result<Option<String>> {
        Ok(None)
    }

    /// Begins a staged file.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if there is such an object.
    ///
    /// # Cancellation
    /// The staged file is removed again, though perhaps later.
    async fn begin(&self, key: &ObjectKey) -> Result<Box<dyn Upload>> {
        let staged = self.staged(key, &staged::fresh_id()?)?;
        let making = Arc::clone(&self.making).read_owned().await;
        let made = files::blocking(move || {
            staged.refuse_existing()?;
            // What nobody claims is removed before the lock is given back.
            Ok((Unclaimed::create(staged)?, making))
        });
        let (unclaimed, _making) = made.await?;
        let Some(staged) = unclaimed.claim() else { return Err(Error::cancelled()) };
        Ok(Box::new(StagedUpload::new(staged)))
    }

    /// Stores an object by way of a staged file.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if there is such an object.
    ///
    /// # Cancellation
    /// Nothing is stored, unless the file is being renamed at that moment.
    async fn put(&self, key: &ObjectKey, payload: PutPayload) -> Result<()> {
        let staged = self.staged(key, &staged::fresh_id()?)?;
        let making = Arc::clone(&self.making).read_owned().await;
        files::blocking_if_wanted(move |wanted| {
            staged.refuse_existing()?;
            let stored = staged.store(&payload, wanted);
            if stored.is_err() {
                staged.remove_or_warn();
            }
            drop(making);
            stored
        })
        .await
    }

    async fn list(&self, folder: &str) -> Result<Vec<StoredObject>> {
        let (root, folder) = (Arc::clone(&self.folder), folder.to_owned());
        files::blocking(move || {
            let mut objects = Vec::new();
            for (name, size_bytes) in files::walk(&root, &folder, Some(STAGING_FOLDER))? {
                // A name that is no key is none of ours.
                if let Some(key) = ObjectKey::new(name) {
                    objects.push(StoredObject { key, size_bytes });
                }
            }
            objects.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(objects)
        })
        .await
    }

    async fn size_bytes(&self, key: &ObjectKey) -> Result<Option<u64>> {
        let path = self.path(key);
        files::blocking(move || files::size_bytes(&path)).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<BoxStream<'static, Result<Bytes>>> {
        let path = self.path(key);
        let file = files::blocking({
            let path = path.clone();
            move || {
                std::fs::File::open(&path).map_err(|error| files::failed("the object can't be opened", &path, error))
            }
        })
        .await?;
        Ok(stream::try_unfold((file, path), read_chunk).boxed())
    }

    /// Removes an object, one that is still being stored though nobody waits for it too.
    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let alone = Arc::clone(&self.making).write_owned().await;
        let (root, path) = (Arc::clone(&self.folder), self.path(key));
        files::blocking(move || {
            files::remove(&path)?;
            let removed = files::remove_empty_parents(&root, &path);
            drop(alone);
            removed
        })
        .await
    }

    async fn open_uploads(&self, folder: &str) -> Result<Option<Vec<OpenUpload>>> {
        let alone = self.making.write().await;
        let (root, folder) = (Arc::clone(&self.folder), folder.to_owned());
        let found = files::blocking(move || {
            let staging = root.join(STAGING_FOLDER);
            let found = files::walk(&staging, &folder, None)?;
            let mut open: Vec<_> = found.into_iter().filter_map(|(name, _)| staged::upload_of(&name)).collect();
            open.sort_by(|a, b| (&a.key, &a.upload_id).cmp(&(&b.key, &b.upload_id)));
            open.dedup();
            Ok(Some(open))
        });
        let found = found.await;
        drop(alone);
        found
    }

    async fn reopen(&self, key: &ObjectKey, upload_id: &str) -> Result<Box<dyn Upload>> {
        let staged = self.staged(key, upload_id)?;
        let upload = files::blocking(move || StagedUpload::reopened(staged));
        Ok(Box::new(upload.await?))
    }
}

/// Reads the next piece of a file on a blocking thread.
async fn read_chunk((file, path): (std::fs::File, PathBuf)) -> Result<Option<(Bytes, (std::fs::File, PathBuf))>> {
    files::blocking(move || {
        let mut bytes = Vec::new();
        let mut piece = (&file).take(READ_BYTES as u64);
        piece.read_to_end(&mut bytes).map_err(|error| files::failed("the object can't be read", &path, error))?;
        Ok((!bytes.is_empty()).then(|| (bytes.into(), (file, path))))
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;
    use crate::destination::{PartId, contract};

    fn key(text: &str) -> ObjectKey {
        ObjectKey::new(text).unwrap()
    }

    fn destination() -> (tempfile::TempDir, LocalDestination) {
        let folder = tempfile::tempdir().unwrap();
        let destination = LocalDestination::new(&folder.path().join("out")).unwrap();
        (folder, destination)
    }

    fn entries(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = match std::fs::read_dir(folder) {
            Ok(entries) => entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect(),
            Err(_) => Vec::new(),
        };
        names.sort();
        names
    }

    #[tokio::test]
    async fn it_keeps_the_contract() {
        let (_folder, destination) = destination();
        contract::check(&destination).await;
        assert_eq!(entries(destination.folder()), Vec::<String>::new(), "no folder is left, hidden or empty");
    }

    #[tokio::test]
    async fn a_url_is_percent_encoded() {
        let destination = LocalDestination::new(Path::new("/srv/a b/ü#?")).unwrap();
        assert_eq!(destination.url(&key("ds~1/P.ndjson")), "file:///srv/a%20b/%C3%BC%23%3F/ds~1/P.ndjson");
    }

    #[tokio::test]
    async fn whoever_looks_for_open_uploads_waits_for_work_that_nobody_waits_for() {
        let (_folder, destination) = destination();
        for number in 0..50 {
            let key = key(&format!("job/{number}"));
            drop(futures::poll!(Box::pin(destination.put(&key, "x".into()))));
            if let Poll::Ready(upload) = futures::poll!(Box::pin(destination.begin(&key))) {
                // It was quicker than the look.
                upload.unwrap().abort().await.unwrap();
            }
            destination.delete(&key).await.unwrap();
            assert_eq!(destination.open_uploads("job/").await.unwrap(), Some(Vec::new()));
            assert_eq!(destination.list("job/").await.unwrap(), []);
        }
    }

    #[tokio::test]
    async fn an_existing_object_is_never_replaced() {
        let (_folder, destination) = destination();
        let late = destination.begin(&key("a")).await.unwrap();
        let part = late.put_part(1, "late".into()).await.unwrap();
        destination.put(&key("a"), "first".into()).await.unwrap();
        for error in [
            destination.put(&key("a"), "second".into()).await.unwrap_err(),
            destination.begin(&key("a")).await.map(|_| ()).unwrap_err(),
            late.complete(&[part]).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
            assert!(error.to_string().contains("out/a"), "{error}");
        }
        assert_eq!(std::fs::read(destination.path(&key("a"))).unwrap(), b"first");
        late.abort().await.unwrap();
        assert_eq!(entries(destination.folder()), ["a"]);
    }

    #[tokio::test]
    async fn nothing_but_the_object_is_ever_in_the_job_folder() {
        let (_folder, destination) = destination();
        let key = key("job/Patient/Patient-1-0-0.ndjson");
        let upload = destination.begin(&key).await.unwrap();
        let part = upload.put_part(1, "line\n".into()).await.unwrap();
        assert_eq!(entries(&destination.folder().join("job")), Vec::<String>::new());
        upload.complete(&[part]).await.unwrap();
        assert_eq!(entries(destination.folder()), ["job"]);
        assert_eq!(entries(&destination.folder().join("job/Patient")), ["Patient-1-0-0.ndjson"]);
        destination.delete(&key).await.unwrap();
        assert_eq!(entries(destination.folder()), Vec::<String>::new());
    }

    #[tokio::test]
    async fn what_a_killed_process_leaves_is_found_and_can_go_on() {
        let (_folder, destination) = destination();
        let key = key("job/Patient.ndjson");
        let upload = destination.begin(&key).await.unwrap();
        let first = upload.put_part(1, "first\n".into()).await.unwrap();
        // The second part was written while nobody was told of it, and the third one only half.
        upload.put_part(2, "second\n".into()).await.unwrap();
        let staged = destination.folder().join(format!("{STAGING_FOLDER}/{key}.{}", upload.id()));
        let half = std::fs::OpenOptions::new().append(true).open(&staged).unwrap();
        std::io::Write::write_all(&mut &half, b"thi").unwrap();
        drop(upload);

        let open = destination.open_uploads("job/").await.unwrap().unwrap();
        assert_eq!(open.iter().map(|open| &open.key).collect::<Vec<_>>(), [&key]);
        let upload = destination.reopen(&key, &open[0].upload_id).await.unwrap();
        let second = upload.put_part(2, "2nd\n".into()).await.unwrap();
        upload.complete(&[first, second]).await.unwrap();
        assert_eq!(std::fs::read(destination.path(&key)).unwrap(), b"first\n2nd\n");
        assert_eq!(entries(destination.folder()), ["job"]);
    }

    #[tokio::test]
    async fn a_part_that_failed_may_be_left_out_with_all_after_it() {
        let (_folder, destination) = destination();
        let key = key("a");
        let upload = destination.begin(&key).await.unwrap();
        let first = upload.put_part(1, "first\n".into()).await.unwrap();
        upload.put_part(3, "third\n".into()).await.unwrap();
        upload.complete(&[first]).await.unwrap();
        assert_eq!(std::fs::read(destination.path(&key)).unwrap(), b"first\n");
    }

    #[tokio::test]
    async fn a_list_of_parts_that_were_not_written_is_refused() {
        let (_folder, destination) = destination();
        let upload = destination.begin(&key("a")).await.unwrap();
        let first = upload.put_part(1, "first\n".into()).await.unwrap();
        for bad in [vec![], vec![first.clone(), first.clone()], vec![PartId("1:99".into())], vec![PartId("x".into())]] {
            assert!(upload.complete(&bad).await.is_err(), "{bad:?}");
        }
        upload.complete(&[first]).await.unwrap();
    }

    #[tokio::test]
    async fn a_staged_file_that_lost_bytes_is_refused() {
        let (_folder, destination) = destination();
        let upload = destination.begin(&key("a")).await.unwrap();
        let first = upload.put_part(1, "first\n".into()).await.unwrap();
        let staged = destination.folder().join(format!("{STAGING_FOLDER}/a.{}", upload.id()));
        std::fs::OpenOptions::new().write(true).open(&staged).unwrap().set_len(3).unwrap();
        let error = upload.complete(&[first]).await.unwrap_err();
        assert!(error.message().contains("shorter"), "{error}");
        assert_eq!(destination.size_bytes(&key("a")).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_file_in_the_way_of_a_folder_is_an_error_that_names_it() {
        let (folder, destination) = destination();
        std::fs::write(folder.path().join("out"), "in the way").unwrap();
        let error = destination.put(&key("a"), "x".into()).await.unwrap_err();
        assert!(error.to_string().contains("/out"), "{error}");
    }

    #[tokio::test]
    async fn what_a_process_killed_after_the_rename_leaves_is_swept_by_opening_it() {
        let (_folder, destination) = destination();
        let key = key("job/Patient.ndjson");
        let upload = destination.begin(&key).await.unwrap();
        upload.put_part(1, "line\n".into()).await.unwrap();
        std::fs::remove_file(destination.folder().join(format!("{STAGING_FOLDER}/{key}.{}", upload.id()))).unwrap();
        let open = destination.open_uploads("").await.unwrap().unwrap();
        assert_eq!(open.len(), 1);
        let error = destination.reopen(&key, &open[0].upload_id).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(entries(destination.folder()), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_key_inside_the_staging_folder_is_refused() {
        let (_folder, destination) = destination();
        let error = destination.put(&key(".fhir-export-staging/a"), "x".into()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_does_not_become_visible() {
        let (_folder, destination) = destination();
        let begun = Unclaimed::create(destination.staged(&key("a"), "0123456789abcdef").unwrap()).unwrap();
        assert_eq!(entries(destination.folder()), [STAGING_FOLDER]);
        drop(begun);
        assert_eq!(entries(destination.folder()), Vec::<String>::new());

        let staged = destination.staged(&key("b"), "0123456789abcdef").unwrap();
        let error = staged.store(&"x".into(), &files::Wanted::abandoned()).unwrap_err();
        assert!(error.is_cancelled(), "{error}");
        assert_eq!(destination.size_bytes(&key("b")).await.unwrap(), None);
    }

    #[tokio::test]
    async fn many_small_chunks_are_written_in_order() {
        let (_folder, destination) = destination();
        let chunks: Vec<Bytes> = (0..5000_u32).map(|number| format!("{number}\n").into()).collect();
        destination.put(&key("a"), PutPayload::from_iter(chunks.iter().cloned())).await.unwrap();
        assert_eq!(std::fs::read(destination.path(&key("a"))).unwrap(), chunks.concat());
    }
}
