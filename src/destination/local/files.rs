//! Blocking work on files, with errors that name the path.

use std::fs::{self, File};
use std::io::{self, IoSlice, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use object_store::PutPayload;

use crate::error::{Error, ErrorKind, Result};

/// How many chunks one system call takes at most: Linux takes 1024.
const SLICES_A_CALL: usize = 512;

/// How often a folder is made again that another upload's clean-up removes in between.
const ATTEMPTS: usize = 16;

/// Runs blocking work on one of tokio's blocking threads.
///
/// # Cancellation
/// The work goes on when the future is dropped.
pub(super) async fn blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Error::new(ErrorKind::Internal, "work on a local file broke off").caused_by(error)),
    }
}

/// Tells blocking work whether somebody still waits for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    abandoned: Arc<AtomicBool>,
}

impl Wanted {
    #[cfg(test)]
    pub(super) fn abandoned() -> Self {
        Self { abandoned: Arc::new(AtomicBool::new(true)) }
    }

    /// To be asked before the step that others can see.
    ///
    /// # Errors
    /// When nobody waits any more.
    pub(super) fn check(&self) -> Result<()> {
        if self.abandoned.load(Ordering::Acquire) { Err(Error::cancelled()) } else { Ok(()) }
    }
}

/// Held by the one who waits.
struct Waits(Wanted);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::Release);
    }
}

/// Runs blocking work that may ask whether it is still wanted: it isn't when the future was dropped.
pub(super) async fn blocking_if_wanted<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&Wanted) -> Result<T> + Send + 'static,
{
    let wanted = Wanted::default();
    let waits = Waits(wanted.clone());
    let done = blocking(move || work(&wanted)).await;
    drop(waits);
    done
}

pub(super) fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    Error::io(what, error).with("path", path.display())
}

/// Writes all chunks, many with one system call.
pub(super) fn write_chunks(file: &mut File, payload: &PutPayload) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> =
        payload.iter().filter(|chunk| !chunk.is_empty()).map(|chunk| IoSlice::new(chunk)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        let batch = left.get(..SLICES_A_CALL).unwrap_or(left);
        match file.write_vectored(batch) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut left, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Does something that needs the parent folder of a path, and makes the folder if it isn't there.
pub(super) fn in_parent<T>(path: &Path, act: impl Fn() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..ATTEMPTS {
        match act() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match path.parent().map(fs::create_dir_all) {
                // Another's clean-up may have removed a parent while its child was made.
                Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            },
            done => return done,
        }
    }
    act()
}

/// Size of a file, in bytes; `None` if there is none.
pub(super) fn size_bytes(path: &Path) -> Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
        Ok(_) => Ok(None),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(failed("the object can't be looked at", path, error)),
    }
}

/// Removes a file if it is there.
pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if !is_absent(&error) => Err(failed("the file can't be removed", path, error)),
        _ => Ok(()),
    }
}

/// Removes the folders above a path that are empty, up to `root`, which stays.
pub(super) fn remove_empty_parents(root: &Path, path: &Path) -> Result<()> {
    for folder in path.ancestors().skip(1).take_while(|folder| *folder != root && folder.starts_with(root)) {
        match fs::remove_dir(folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(failed("the empty folder can't be removed", folder, error)),
        }
    }
    Ok(())
}

/// Makes the folders from the one of `path` up to `root` durable, so that a rename in them is.
pub(super) fn sync_parents(root: &Path, path: &Path) -> Result<()> {
    if cfg!(not(unix)) {
        // Elsewhere a folder can't be opened as a file.
        return Ok(());
    }
    for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(root)) {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| failed("the folder can't be synced", folder, error))?;
    }
    Ok(())
}

/// Names and sizes of all files below a folder of `root`, relative to `root`, in no order; links aren't followed.
pub(super) fn walk(root: &Path, folder: &str, skip: Option<&str>) -> Result<Vec<(String, u64)>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.trim_end_matches('/').to_owned()];
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        let unreadable = |error| failed("the folder can't be listed", &path, error);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            // It may be gone since its name was read.
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(unreadable(error)),
        };
        for entry in entries {
            let entry = entry.map_err(unreadable)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if skip == Some(name.as_str()) {
                continue;
            }
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(unreadable(error)),
            };
            if metadata.is_dir() {
                folders.push(name);
            } else if metadata.is_file() {
                files.push((name, metadata.len()));
            }
        }
    }
    Ok(files)
}

/// Whether there is nothing at a path: also when what should be a folder above it is a file.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
