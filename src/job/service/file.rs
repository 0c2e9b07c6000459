//! Files of Bulk Data exports, for download.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::super::manifest::{Manifest, OutputFile};
use super::order::{Kept, Origin};
use super::{JobService, JobView};
use crate::destination::ObjectKey;
use crate::error::Result;

/// A file of an export, to be read from its beginning.
#[expect(missing_debug_implementations, reason = "a stream of bytes has nothing to show")]
pub struct ExportedFile {
    /// Its size as stored, in bytes.
    pub size_bytes: u64,
    /// CRC64NVME of it as stored, in base64: what tells its content from any other.
    pub crc64nvme: String,
    /// Whether it is compressed.
    pub is_gzip: bool,
    /// Its bytes.
    pub bytes: BoxStream<'static, Result<Bytes>>,
}

/// The files that a manifest lists, with errors and deletions.
fn listed(manifest: &Manifest) -> impl Iterator<Item = &OutputFile> {
    manifest.output.iter().chain(&manifest.error).chain(&manifest.deleted)
}

/// The last part of a file's key: it differs from that of any other file of the job.
pub(super) fn name_of(file: &OutputFile) -> &str {
    file.extension.key.rsplit('/').next().unwrap_or_default()
}

impl JobService {
    /// A URL that reads a file of a Bulk Data export for so long without this server; `None` if its store has none.
    ///
    /// # Errors
    /// When the URL can't be signed.
    pub async fn signed_url(&self, view: &JobView, file: &OutputFile, lifetime: Duration) -> Result<Option<String>> {
        let data_store = self.known(view.datastore_id.as_str())?;
        let (Some(files), Some(key)) = (&data_store.files, ObjectKey::new(&file.extension.key)) else {
            return Ok(None);
        };
        files.signed_url(&key, lifetime).await
    }

    /// Opens a file of a Bulk Data export by its name, the last part of its key; `None` if the manifest lists none of it,
    /// or it is gone.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn open_file(&self, view: &JobView, name: &str) -> Result<Option<ExportedFile>> {
        let Some(manifest) = view.manifest.as_ref().filter(|_| view.origin == Origin::Profile) else { return Ok(None) };
        let Some(file) = listed(manifest).find(|file| name_of(file) == name) else { return Ok(None) };
        let Some(record) = self.0.jobs.get(&view.id).await? else { return Ok(None) };
        let Some(kept) = Kept::of_record(&record) else { return Ok(None) };
        let destination = self.destination(self.known(&kept.datastore_id)?, &kept, &view.id)?;
        let download = self.0.downloads.begin(&view.id);
        let Some(key) = ObjectKey::new(&file.extension.key) else { return Ok(None) };
        if destination.size_bytes(&key).await? != Some(file.extension.bytes) {
            return Ok(None);
        }
        Ok(Some(ExportedFile {
            size_bytes: file.extension.bytes,
            crc64nvme: file.extension.crc64nvme.clone(),
            is_gzip: name.ends_with(".gz"),
            // Nothing is removed while it is read.
            bytes: destination.get(&key).await?.inspect(move |_| _ = &download).boxed(),
        }))
    }
}
