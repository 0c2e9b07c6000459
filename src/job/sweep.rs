//! Removes what dead jobs have left: open uploads, staged files, old records.

use super::resume::open_uploads_of;
use super::state::JobState;
use super::store::{JobRecord, JobStore};
use crate::destination::{Destination, ObjectKey};
use crate::error::{Error, ErrorKind, Result};
use crate::request::JobId;

/// What is swept of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SweepOptions {
    /// Removes the objects and the manifest too.
    pub objects: bool,
    /// Removes the record, so that the job is forgotten.
    pub record: bool,
}

impl SweepOptions {
    /// Sets whether objects and manifest are removed too.
    #[must_use]
    pub const fn objects(mut self, objects: bool) -> Self {
        self.objects = objects;
        self
    }

    /// Sets whether the record is removed.
    #[must_use]
    pub const fn record(mut self, record: bool) -> Self {
        self.record = record;
        self
    }
}

/// What was swept of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Uploads that were aborted.
    pub uploads: usize,
    /// Objects that were removed, the manifest included.
    pub objects: usize,
}

/// Sweeps a job that nobody runs: aborts its open uploads, found in its journal and in the store's listing, and ends it
/// for good. What is visible stays, unless the options say otherwise.
///
/// # Errors
/// - [`ErrorKind::NotFound`]: there is no such job.
/// - [`ErrorKind::Fenced`]: somebody runs it.
/// - [`ErrorKind::InvalidRequest`]: it has written to another destination.
/// - Any other if the job store or the destination fails. The job can be swept again.
pub async fn sweep(
    store: &dyn JobStore,
    destination: &dyn Destination,
    id: &JobId,
    options: SweepOptions,
) -> Result<Swept> {
    let unknown = || Error::new(ErrorKind::NotFound, "there is no such job").with("job", id);
    store.get(id).await?.ok_or_else(unknown)?;
    let claim = store.claim(id).await?;
    let claim = claim.ok_or_else(|| Error::new(ErrorKind::Fenced, "another process runs the job").with("job", id))?;
    let mut record = store.get(id).await?.ok_or_else(unknown)?;
    let naming = record.naming()?;
    let manifest = naming.manifest()?;
    let url = destination.url(&manifest);
    if url != record.manifest_url {
        return Err(Error::new(ErrorKind::InvalidRequest, "the job has written to another destination")
            .with("was", &record.manifest_url)
            .with("is", url));
    }
    let mut swept = Swept::default();
    let known = open_uploads_of(store.entries(id).await?, &naming)?;
    for (key, upload_id) in &known.uploads {
        swept.uploads += usize::from(abort(destination, key, upload_id).await?);
    }
    let folder = naming.folder();
    if !folder.is_empty() {
        for open in destination.open_uploads(&folder).await?.unwrap_or_default() {
            swept.uploads += usize::from(abort(destination, &open.key, &open.upload_id).await?);
        }
    }
    if options.objects {
        let mut keys = known.objects;
        if !folder.is_empty() {
            keys.extend(destination.list(&folder).await?.into_iter().map(|object| object.key));
        }
        keys.push(manifest);
        keys.sort();
        keys.dedup();
        for key in keys {
            if destination.size_bytes(&key).await?.is_some() {
                destination.delete(&key).await?;
                swept.objects += 1;
            }
        }
    }
    if options.record {
        store.remove(claim).await?;
    } else {
        end(&mut record);
        store.update(&claim, &record).await?;
    }
    Ok(swept)
}

/// A job that was swept can't go on.
fn end(record: &mut JobRecord) {
    if !record.state.is_terminal() {
        record.state = JobState::Failed;
    }
    if record.resumable {
        record.resumable = false;
        record.error.get_or_insert_with(|| "the job was swept".to_owned());
    }
}

/// Aborts an upload; `false` if it is gone.
async fn abort(destination: &dyn Destination, key: &ObjectKey, upload_id: &str) -> Result<bool> {
    match destination.reopen(key, upload_id).await {
        Ok(upload) => upload.abort().await.map(|()| true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
