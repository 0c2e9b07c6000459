//! Files of NDJSON in a folder of the file system, or one such file.

use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use super::files::{BrokenFile, Entry, Files, Format, Listing, StoredFile, blocking};
use super::local_file::LocalFile;
use crate::error::{Error, ErrorKind, Result};

/// A folder with everything below it, or a single file.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

#[async_trait]
impl Files for Folder {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    async fn list(&self) -> Result<Listing> {
        let stop = StopOnDrop(Arc::default());
        let stopped = Arc::clone(&stop.0);
        let path = self.path.clone();
        blocking(move || list(&path, &stopped)).await?
    }
}

/// Ends a walk whose listing nobody waits for any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn list(path: &Path, stopped: &AtomicBool) -> Result<Listing> {
    let metadata = fs::metadata(path).map_err(|error| cannot_open(path, error))?;
    if metadata.is_dir() {
        let mut walk = Walk { stopped, listing: Listing::default(), open: Vec::new() };
        walk.folder(path, "").map_err(|error| cannot_open(path, error))?;
        walk.run();
        return Ok(walk.listing);
    }
    let name = path.file_name().map(name_of).unwrap_or_default();
    if !metadata.is_file() || Format::of(&name).is_none() {
        return Err(Error::new(ErrorKind::InvalidRequest, "neither a folder nor a .ndjson or .ndjson.gz file")
            .with("path", path.display()));
    }
    // Where there is only one file, it is better to know now that it can't be read.
    fs::File::open(path).map_err(|error| cannot_open(path, error))?;
    let entry = entry_of(name, path.to_path_buf(), Ok(metadata));
    Ok(Listing { entries: vec![entry], ignored: 0 })
}

fn cannot_open(path: &Path, error: io::Error) -> Error {
    let message = match error.kind() {
        io::ErrorKind::NotFound => "there is no such folder or file",
        io::ErrorKind::PermissionDenied => "no permission to read the source",
        _ => "the source can't be read",
    };
    let error = Error::io(message, error).with("path", path.display());
    if error.kind() == ErrorKind::Store { error.with_kind(ErrorKind::Source) } else { error }
}

/// A walk through a folder.
///
/// Links to files are followed, links to folders aren't: so there are no cycles, and nothing is read twice because two
/// links lead to it. What a name with a leading dot hides isn't looked at.
struct Walk<'a> {
    stopped: &'a AtomicBool,
    listing: Listing,
    /// Folders to be walked, with the beginning of the names in them.
    open: Vec<(PathBuf, String)>,
}

impl Walk<'_> {
    fn run(&mut self) {
        while let Some((path, name)) = self.open.pop() {
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = self.folder(&path, &name) {
                // What lies in it isn't known, so the job must not end as if there were nothing.
                self.listing.entries.push(broken(name, &error));
            }
        }
    }

    fn folder(&mut self, path: &Path, parent: &str) -> io::Result<()> {
        for found in fs::read_dir(path)? {
            self.found(&found?, parent)?;
        }
        Ok(())
    }

    fn found(&mut self, found: &DirEntry, parent: &str) -> io::Result<()> {
        let file_name = found.file_name();
        if file_name.as_encoded_bytes().starts_with(b".") {
            return Ok(());
        }
        let name = format!("{parent}{}", name_of(&file_name));
        let kind = found.file_type()?;
        if kind.is_dir() {
            self.open.push((found.path(), format!("{name}/")));
            return Ok(());
        }
        if kind.is_symlink() && fs::metadata(found.path()).is_ok_and(|target| target.is_dir()) {
            tracing::warn!(folder = name, "a linked folder is not followed");
            self.listing.ignored += 1;
        } else if Format::of(&name).is_some() && (kind.is_file() || kind.is_symlink()) {
            self.listing.entries.push(entry_of(name, found.path(), fs::metadata(found.path())));
        } else {
            self.listing.ignored += 1;
        }
        Ok(())
    }
}

/// A name as text; bytes that are no UTF-8 are shown as `\xFF`.
fn name_of(file_name: &std::ffi::OsStr) -> String {
    let mut name = String::new();
    for chunk in file_name.as_encoded_bytes().utf8_chunks() {
        name.push_str(chunk.valid());
        name.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02X}")));
    }
    name
}

fn entry_of(name: String, path: PathBuf, metadata: io::Result<Metadata>) -> Entry {
    match metadata {
        Ok(metadata) if metadata.is_file() => {
            let file = LocalFile::new(name.clone(), path, &metadata);
            Entry::new(name, metadata.len(), Arc::new(file))
        }
        Ok(_) => broken(name, &io::Error::other("it is no regular file")),
        Err(error) => broken(name, &error),
    }
}

fn broken(name: String, error: &io::Error) -> Entry {
    let file: Arc<dyn StoredFile> = Arc::new(BrokenFile { name: name.clone(), reason: error.to_string() });
    // Of unknown size; 0 would mean that there is nothing to look at.
    Entry::new(name, 1, file)
}
