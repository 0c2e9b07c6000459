//! What several tests share.

#[cfg(all(feature = "testing", any(feature = "sqlite", feature = "postgres")))]
pub(crate) mod asked;
#[cfg(feature = "s3")]
pub(crate) mod authority;
#[cfg(feature = "testing")]
pub(crate) mod crc64;
#[cfg(feature = "testing")]
pub(crate) mod exported;
#[cfg(feature = "testing")]
pub(crate) mod generated_source;
#[cfg(feature = "testing")]
pub(crate) mod late_puts;
pub(crate) mod naive;
pub(crate) mod naive_cohort;
mod naive_tests;
#[cfg(feature = "testing")]
pub(crate) mod null_destination;
#[cfg(feature = "testing")]
pub(crate) mod odd_data;
#[cfg(feature = "s3")]
pub(crate) mod proxy;
#[cfg(feature = "s3")]
pub(crate) mod s3_server;
#[cfg(any(feature = "s3", feature = "azure"))]
pub(crate) mod script;
#[cfg(feature = "testing")]
pub(crate) mod small_job;
#[cfg(all(feature = "testing", feature = "s3"))]
pub(crate) mod strict_server;
#[cfg(all(feature = "auth", feature = "http"))]
pub(crate) mod token_server;
#[cfg(all(feature = "testing", feature = "s3"))]
pub(crate) mod wire_job;

use std::fs;
use std::path::{Path, PathBuf};

/// A folder of the repository.
pub(crate) fn repository(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

/// Files as [`naive::export`] takes them: name, bytes.
pub(crate) type Files = Vec<(String, Vec<u8>)>;

/// All files below `folder` for which `wanted` says yes of their path, which has `/` between folders; sorted by path.
pub(crate) fn files_below(folder: &Path, wanted: impl Fn(&str) -> bool) -> Files {
    let mut files = Files::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|error| panic!("{}: {error}", next.display())) {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let path = entry.path();
            let name: Vec<_> = path.strip_prefix(folder).unwrap().iter().map(|piece| piece.to_str().unwrap()).collect();
            let name = name.join("/");
            if wanted(&name) {
                files.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// The NDJSON files of a folder of `testdata`.
pub(crate) fn ndjson_files(folder: &str) -> Files {
    files_below(&repository("testdata").join(folder), |path| path.contains(".ndjson"))
}
