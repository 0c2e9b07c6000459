//! Verification: whether a store holds what a manifest says.
//!
//! Every object is read whole. Compared are its size, its CRC64NVME, its lines and their bytes; each line must be a JSON
//! object of the object's type and nothing else; gzip members must be sound and end at line ends. Besides: the books of
//! the manifest must balance, and nothing may lie in the job folder that the manifest doesn't list.
//!
//! Objects are found by their keys, beside the manifest: a folder or prefix that was copied elsewhere as a whole can be
//! verified there.

mod books;
mod checker;
mod duplicates;
mod members;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, Fuse, StreamExt, TryStreamExt};

pub use duplicates::{Duplicates, SeenAgain};

use self::checker::Checker;
use self::duplicates::Seen;
use super::manifest::{FORMAT_VERSION, Manifest, OutputFile};
use crate::cpu::CpuPool;
use crate::destination::{Destination, ObjectKey};
use crate::error::{Error, ErrorKind, Result};

/// How much is read before it is checked, in bytes: two of these for each object that is open, and its longest line.
const BATCH_BYTES: usize = 1 << 20;

/// A manifest that is longer isn't one of ours.
const MAX_MANIFEST_BYTES: usize = 256 << 20;

/// What is to be verified besides, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// Whether resources are looked for that occur more than once, by type and id. It takes up to 50 bytes of memory a
    /// resource, and reads one object at a time.
    pub duplicates: bool,
    /// Threads that check, and objects that are read side by side; 0 is one for each core.
    pub threads: usize,
}

/// What was found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The manifest.
    pub manifest: Manifest,
    /// Each object of the manifest, in its order: output first, then error reports.
    pub objects: Vec<ObjectCheck>,
    /// What is wrong with the books of the manifest.
    pub books: Vec<String>,
    /// URLs of objects that lie in the job folder and aren't in the manifest.
    pub unlisted: Vec<String>,
    /// Resources that occur more than once, if they were looked for.
    pub duplicates: Option<Duplicates>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.objects.iter().all(ObjectCheck::is_ok)
            && self.books.is_empty()
            && self.unlisted.is_empty()
            && self.duplicates.as_ref().is_none_or(|duplicates| duplicates.resources == 0)
    }
}

/// What was found of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectCheck {
    /// Its key below the manifest's folder.
    pub key: String,
    /// Where it was looked for.
    pub url: String,
    /// Its size, in bytes.
    pub bytes: u64,
    /// Its lines.
    pub lines: u64,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

impl ObjectCheck {
    /// Whether the object is what the manifest says.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Something that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// There is no such object.
    Missing,
    /// The store can't be asked, or doesn't give all of it.
    Unreadable(String),
    /// The manifest's key of it can't be one, or leads out of the job folder.
    Key,
    /// A number differs from the manifest's.
    Number {
        /// What is counted: `bytes`, `lines`, `bytes of lines`.
        what: &'static str,
        /// The manifest's number.
        expected: u64,
        /// The object's.
        found: u64,
    },
    /// The checksum differs.
    Checksum {
        /// The manifest's.
        expected: String,
        /// The object's.
        found: String,
    },
    /// A line isn't what it has to be.
    Line {
        /// Its number, from 1.
        number: u64,
        /// What is wrong with it; nothing of its content.
        reason: String,
    },
    /// More lines are wrong than are told one by one.
    MoreLines(u64),
    /// The compression is unsound.
    Gzip(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Unreadable(error) => write!(f, "can't be read: {error}"),
            Self::Key => f.write_str("the manifest's key of it leads out of the job folder"),
            Self::Number { what, expected, found } => write!(f, "{found} {what}, the manifest says {expected}"),
            Self::Checksum { expected, found } => write!(f, "CRC64NVME {found}, the manifest says {expected}"),
            Self::Line { number, reason } => write!(f, "line {number}: {reason}"),
            Self::MoreLines(more) => write!(f, "{more} more lines are wrong"),
            Self::Gzip(reason) => write!(f, "gzip: {reason}"),
        }
    }
}

/// Reads the manifest of a name in the destination and compares with it what the destination holds.
///
/// `each` is called with each object when it is done, in the manifest's order. What is wrong is in the report, not an
/// error.
///
/// # Errors
/// When the manifest can't be read or isn't one, or the destination can't be listed.
pub async fn verify(
    destination: &dyn Destination,
    manifest: &str,
    options: VerifyOptions,
    each: &mut (dyn FnMut(&ObjectCheck) + Send),
) -> Result<VerifyReport> {
    let key = ObjectKey::new(manifest)
        .ok_or_else(|| Error::new(ErrorKind::InvalidRequest, "the manifest's name can't be one"))?;
    let folder = job_folder(&key);
    let manifest = read_manifest(destination, &key).await?;
    let cpu = CpuPool::new(options.threads)?;
    let seen = options.duplicates.then(Seen::new).transpose()?;
    let at_once = if seen.is_some() { 1 } else { cpu.threads() };
    let verifier = Verifier { destination, folder: &folder, cpu, seen: seen.map(Arc::new) };

    let mut objects = Vec::new();
    let mut checks = stream::iter(manifest.output.iter().chain(&manifest.deleted).chain(&manifest.error))
        .map(|file| verifier.check(file, manifest.output.iter().any(|output| std::ptr::eq(output, file))))
        .buffered(at_once);
    while let Some(check) = checks.next().await {
        each(&check);
        objects.push(check);
    }
    drop(checks);
    let unlisted = verifier.unlisted(&manifest).await?;
    let duplicates = verifier.seen.map(|seen| seen.found());
    Ok(VerifyReport { books: books::faults(&manifest), manifest, objects, unlisted, duplicates })
}

/// The folder that a manifest lies beside, with a slash at its end; empty in the flat layout.
fn job_folder(manifest: &ObjectKey) -> String {
    manifest.as_str().strip_suffix(".manifest.json").map_or_else(String::new, |stem| format!("{stem}/"))
}

async fn read_manifest(destination: &dyn Destination, key: &ObjectKey) -> Result<Manifest> {
    let unreadable = |message: &str| Error::new(ErrorKind::Unreadable, message).with("manifest", destination.url(key));
    let mut body = destination.get(key).await?;
    let mut text = Vec::new();
    while let Some(chunk) = body.try_next().await? {
        text.extend_from_slice(&chunk);
        if text.len() > MAX_MANIFEST_BYTES {
            return Err(unreadable("this is no manifest: it is too long"));
        }
    }
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| unreadable("this is no manifest").caused_by(error))?;
    if manifest.extension.format_version > FORMAT_VERSION {
        return Err(unreadable("the manifest is of a later version than this program knows")
            .with("version", manifest.extension.format_version));
    }
    Ok(manifest)
}

struct Verifier<'a> {
    destination: &'a dyn Destination,
    folder: &'a str,
    cpu: CpuPool,
    seen: Option<Arc<Seen>>,
}

impl Verifier<'_> {
    async fn check(&self, file: &OutputFile, is_output: bool) -> ObjectCheck {
        let key = ObjectKey::new(file.extension.key.as_str()).filter(|key| key.as_str().starts_with(self.folder));
        let Some(key) = key else {
            return broken(file, file.url.clone(), Problem::Key);
        };
        let url = self.destination.url(&key);
        match self.destination.get(&key).await {
            Ok(body) => {
                let seen = if is_output { self.seen.clone() } else { None };
                let checker = Checker::new(file, url.clone(), seen);
                match self.read(body, checker).await {
                    Ok(check) => check,
                    Err(error) => broken(file, url, Problem::Unreadable(format!("{error:#}"))),
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => broken(file, url, Problem::Missing),
            Err(error) => broken(file, url, Problem::Unreadable(format!("{error:#}"))),
        }
    }

    /// Reads an object through; the next batch is read while one is checked.
    async fn read(&self, body: BoxStream<'static, Result<Bytes>>, mut checker: Checker) -> Result<ObjectCheck> {
        // Asked for once more after its end.
        let mut body = body.fuse();
        let mut batch = next_batch(&mut body).await?;
        while !batch.is_empty() {
            let work = self.cpu.run(move || {
                for chunk in &batch {
                    checker.take(chunk);
                }
                checker
            });
            let (checked, next) = futures::join!(work.done(), next_batch(&mut body));
            (checker, batch) = (checked?, next?);
        }
        self.cpu.run(move || checker.finish()).done().await
    }

    async fn unlisted(&self, manifest: &Manifest) -> Result<Vec<String>> {
        let listed: BTreeSet<&str> = manifest
            .output
            .iter()
            .chain(&manifest.deleted)
            .chain(&manifest.error)
            .map(|file| file.extension.key.as_str())
            .collect();
        let stored = self.destination.list(self.folder).await?;
        let strays = stored.iter().filter(|object| {
            let key = object.key.as_str();
            // In the flat layout the folder is the caller's own and may hold other things.
            let is_ours = !self.folder.is_empty() || (!key.contains('/') && is_ndjson(key));
            is_ours && !listed.contains(key)
        });
        Ok(strays.map(|object| self.destination.url(&object.key)).collect())
    }
}

fn is_ndjson(key: &str) -> bool {
    key.strip_suffix(".gz").unwrap_or(key).ends_with(".ndjson")
}

fn broken(file: &OutputFile, url: String, problem: Problem) -> ObjectCheck {
    ObjectCheck { key: file.extension.key.clone(), url, bytes: 0, lines: 0, problems: vec![problem] }
}

/// Chunks of about a batch; none at the end.
async fn next_batch(body: &mut Fuse<BoxStream<'static, Result<Bytes>>>) -> Result<Vec<Bytes>> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES {
        let Some(chunk) = body.try_next().await? else { break };
        bytes += chunk.len();
        batch.push(chunk);
    }
    Ok(batch)
}

#[cfg(test)]
mod tests;
