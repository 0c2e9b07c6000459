//! A file on its way to its place.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use object_store::PutPayload;
use tokio::sync::RwLock;

use super::STAGING_FOLDER;
use super::extents::{Extent, Extents};
use super::files::{self, Wanted, blocking, blocking_if_wanted, failed};
use crate::destination::{ObjectKey, OpenUpload, PartId, StoredPart, Upload};
use crate::error::{Error, ErrorKind, Result};

const SYNC_BYTES: u64 = 256 << 20;
const SYNC_AFTER: Duration = Duration::from_secs(2);

/// Extension of the record of a staged file's parts.
const RECORD: &str = "parts";

/// Extension of a copy of a staged file whose parts came out of order.
const ORDERED: &str = "ordered";

/// Makes the id of a new upload.
pub(super) fn fresh_id() -> Result<String> {
    let random = getrandom::u64()
        .map_err(|error| Error::new(ErrorKind::Internal, "the system gives no random number").caused_by(error))?;
    Ok(format!("{random:016x}"))
}

/// The upload that a file in the staging folder belongs to; `None` if it is none of ours.
pub(super) fn upload_of(name: &str) -> Option<OpenUpload> {
    let staged = [RECORD, ORDERED].into_iter().find_map(|beside| name.strip_suffix(beside)?.strip_suffix('.'));
    let (key, id) = staged.unwrap_or(name).rsplit_once('.')?;
    if id.len() != 16 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(OpenUpload { key: ObjectKey::new(key)?, upload_id: id.to_owned() })
}

/// The paths of one staged file.
#[derive(Clone, Debug)]
pub(super) struct Staged {
    root: Arc<Path>,
    key: ObjectKey,
    id: String,
    path: PathBuf,
    record: PathBuf,
    ordered: PathBuf,
}

impl Staged {
    pub(super) fn new(root: Arc<Path>, key: ObjectKey, id: &str) -> Self {
        let path = root.join(STAGING_FOLDER).join(format!("{key}.{id}"));
        let (record, ordered) = (path.with_added_extension(RECORD), path.with_added_extension(ORDERED));
        Self { root, key, id: id.to_owned(), path, record, ordered }
    }

    fn target(&self) -> PathBuf {
        self.root.join(self.key.as_str())
    }

    pub(super) fn refuse_existing(&self) -> Result<()> {
        let target = self.target();
        match target.symlink_metadata() {
            Ok(_) => {
                Err(Error::new(ErrorKind::AlreadyExists, "the object is already there").with("path", target.display()))
            }
            // Whatever else is wrong, making the file will tell.
            Err(_) => Ok(()),
        }
    }

    fn create(&self) -> Result<File> {
        files::in_parent(&self.path, || OpenOptions::new().write(true).create_new(true).open(&self.path))
            .map_err(|error| failed("the staged file can't be created", &self.path, error))
    }

    fn open(&self) -> Result<File> {
        match OpenOptions::new().read(true).write(true).open(&self.path) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.gone()),
            Err(error) => Err(failed("the staged file can't be opened", &self.path, error)),
        }
    }

    fn gone(&self) -> Error {
        Error::new(ErrorKind::NotFound, "the upload is complete, aborted or never was")
            .with("object", &self.key)
            .with("upload", &self.id)
    }

    /// Writes a whole object.
    pub(super) fn store(&self, payload: &PutPayload, wanted: &Wanted) -> Result<()> {
        let mut file = self.create()?;
        files::write_chunks(&mut file, payload)
            .map_err(|error| failed("the staged file can't be written", &self.path, error))?;
        self.publish(&self.path, &file, wanted)
    }

    /// Makes a file in the staging folder durable, and visible as the object.
    fn publish(&self, path: &Path, file: &File, wanted: &Wanted) -> Result<()> {
        file.sync_all().map_err(|error| failed("the staged file can't be synced", path, error))?;
        wanted.check()?;
        let target = self.target();
        files::in_parent(&target, || rename_to_new(path, &target))
            .map_err(|error| failed("the object can't be put in its place", &target, error))?;
        files::sync_parents(&self.root, &target)?;
        self.remove()
    }

    /// Removes what is left in the staging folder.
    pub(super) fn remove(&self) -> Result<()> {
        files::remove(&self.path)?;
        files::remove(&self.ordered)?;
        files::remove(&self.record)?;
        files::remove_empty_parents(&self.root, &self.path)
    }

    /// Cleans up after something else, whose outcome counts.
    pub(super) fn remove_or_warn(&self) {
        if let Err(error) = self.remove() {
            tracing::warn!(object = %self.key, error = format!("{error:#}"), "a staged file is left behind");
        }
    }

    fn add_to_record(&self, lines: &str) -> Result<()> {
        let write = || {
            let mut record = OpenOptions::new().append(true).create(true).open(&self.record)?;
            record.write_all(lines.as_bytes())
        };
        write().map_err(|error| failed("the record of the parts can't be written", &self.record, error))
    }

    /// The checksum of a part as the file holds it; `None` if the file ends before it does.
    fn read_back(&self, file: &mut File, part: Extent) -> Result<Option<u64>> {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
        let mut read = || {
            file.seek(SeekFrom::Start(part.offset))?;
            io::copy(&mut Read::by_ref(file).take(part.length), &mut digest)
        };
        let length = read().map_err(|error| failed("the staged file can't be read back", &self.path, error))?;
        Ok((length == part.length).then(|| digest.finalize()))
    }

    /// Copies the parts in order to a file of its own. The staged file stays as its record says until that is in place.
    fn copy_in_order(&self, file: &mut File, parts: &[Extent]) -> Result<File> {
        let mut copy = || {
            let mut ordered = File::create(&self.ordered)?;
            for part in parts {
                file.seek(SeekFrom::Start(part.offset))?;
                io::copy(&mut Read::by_ref(file).take(part.length), &mut ordered)?;
            }
            Ok(ordered)
        };
        copy().map_err(|error| failed("the parts can't be put in order", &self.ordered, error))
    }
}

/// A staged file that was just made, and is removed again if nobody takes it: its making may outlive the wish for it.
#[derive(Debug)]
pub(super) struct Unclaimed(Option<Staged>);

impl Unclaimed {
    pub(super) fn create(staged: Staged) -> Result<Self> {
        staged.create()?;
        Ok(Self(Some(staged)))
    }

    pub(super) fn claim(mut self) -> Option<Staged> {
        self.0.take()
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(staged) = self.0.take() {
            staged.remove_or_warn();
        }
    }
}

/// Renames, unless there is something in the place: in one step where the system can.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match tempfile::TempPath::try_from_path(from)?.persist_noclobber(to) {
        Ok(()) => Ok(()),
        Err(failure) => {
            // Dropped as it is, the path would take the staged file with it.
            drop(failure.path.keep());
            Err(failure.error)
        }
    }
}

/// An upload into a staged file.
#[derive(Debug)]
pub(super) struct StagedUpload {
    shared: Arc<Shared>,
    /// Held shared while a part is written, alone to complete and abort: a write whose future was dropped goes on,
    /// and must not meet a file that is already in its place.
    gate: Arc<RwLock<()>>,
}

#[derive(Debug)]
struct Shared {
    staged: Staged,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    extents: Extents,
    unsynced_bytes: u64,
    synced_at: Instant,
    complete: bool,
}

impl StagedUpload {
    /// An upload into a staged file that was just made.
    pub(super) fn new(staged: Staged) -> Self {
        Self::with_extents(staged, Extents::default())
    }

    /// An upload into a staged file that is there already.
    ///
    /// If only its record is there, the process died between the rename and the clean-up, which is then done.
    pub(super) fn reopened(staged: Staged) -> Result<Self> {
        if let Err(error) = staged.open() {
            if error.kind() == ErrorKind::NotFound {
                staged.remove()?;
            }
            return Err(error);
        }
        let record = match std::fs::read(&staged.record) {
            Ok(record) => record,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed("the record of the parts can't be read", &staged.record, error)),
        };
        // After a failure of the machine's power there may be anything in it.
        let mut record = String::from_utf8_lossy(&record).into_owned();
        if !record.is_empty() && !record.ends_with('\n') {
            // The next line must not be taken for the rest of one that was cut off.
            staged.add_to_record("\n")?;
            record.push('\n');
        }
        Ok(Self::with_extents(staged, Extents::from_record(&record)))
    }

    fn with_extents(staged: Staged, extents: Extents) -> Self {
        let state = State { extents, unsynced_bytes: 0, synced_at: Instant::now(), complete: false };
        Self { shared: Arc::new(Shared { staged, state: Mutex::new(state) }), gate: Arc::default() }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Upload for StagedUpload {
    fn id(&self) -> &str {
        &self.shared.staged.id
    }

    async fn put_part(&self, number: u32, payload: PutPayload) -> Result<PartId> {
        let length = payload.content_length() as u64;
        let passed = Arc::clone(&self.gate).read_owned().await;
        let extent = self.shared.lock().extents.place(number, length);
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let written = shared.write(number, extent, &payload);
            drop(passed);
            written
        })
        .await
    }

    async fn complete(&self, parts: &[PartId]) -> Result<()> {
        let alone = Arc::clone(&self.gate).write_owned().await;
        let (shared, parts) = (Arc::clone(&self.shared), parts.to_vec());
        blocking_if_wanted(move |wanted| {
            let completed = shared.complete(&parts, wanted);
            drop(alone);
            completed
        })
        .await
    }

    async fn abort(&self) -> Result<()> {
        let alone = Arc::clone(&self.gate).write_owned().await;
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let removed = shared.staged.remove();
            drop(alone);
            removed
        })
        .await
    }

    /// Lists the parts; those since the last sync of an earlier attempt are read back, for a failure of the machine's power
    /// may have cost their bytes.
    async fn parts(&self) -> Result<Option<Vec<StoredPart>>> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.parts().map(Some)).await
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, number: u32, extent: Extent, payload: &PutPayload) -> Result<PartId> {
        // A handle of its own, so that parts can be written at the same time.
        let mut file = self.staged.open()?;
        file.seek(SeekFrom::Start(extent.offset)).and_then(|_| files::write_chunks(&mut file, payload)).map_err(
            |error| failed("the staged file can't be written", &self.staged.path, error).with("part", number),
        )?;
        let mut record = Extents::line(number, extent);
        let synced = self.sync_is_due(extent.length);
        if let Some(lines) = synced {
            file.sync_data().map_err(|error| failed("the staged file can't be synced", &self.staged.path, error))?;
            record.push_str(&Extents::synced_line(lines));
        }
        self.staged.add_to_record(&record)?;
        let mut state = self.lock();
        state.extents.add_lines(1 + usize::from(synced.is_some()));
        state.extents.written(number, extent);
        Ok(part_id(number, extent.length))
    }

    fn parts(&self) -> Result<Vec<StoredPart>> {
        let parts = self.lock().extents.parts();
        let mut file = self.staged.open()?;
        let unreadable = |error| failed("the staged file can't be looked at", &self.staged.path, error);
        let held = file.metadata().map_err(unreadable)?.len();
        let mut stored = Vec::with_capacity(parts.len());
        for (number, extent, is_doubtful) in parts {
            let mut part = StoredPart { number, size_bytes: extent.length, crc64nvme: None };
            if extent.end() > held {
                continue;
            }
            if is_doubtful {
                part.crc64nvme = self.staged.read_back(&mut file, extent)?;
                if part.crc64nvme.is_none() {
                    continue;
                }
            }
            stored.push(part);
        }
        Ok(stored)
    }

    /// Whether the file is to be synced now; if so, how many lines the record has: all that they tell of is written.
    fn sync_is_due(&self, more_bytes: u64) -> Option<usize> {
        let mut state = self.lock();
        state.unsynced_bytes += more_bytes;
        let due = state.unsynced_bytes >= SYNC_BYTES || state.synced_at.elapsed() >= SYNC_AFTER;
        if due {
            state.unsynced_bytes = 0;
            state.synced_at = Instant::now();
        }
        due.then(|| state.extents.lines())
    }

    fn complete(&self, parts: &[PartId], wanted: &Wanted) -> Result<()> {
        if self.lock().complete {
            return Ok(());
        }
        let mut file = self.staged.open()?;
        let extents = self.judge(parts)?;
        let end = extents.iter().map(|extent| extent.end()).max().unwrap_or(0);
        let unreadable = |error| failed("the staged file can't be looked at", &self.staged.path, error);
        let held = file.metadata().map_err(unreadable)?.len();
        if held < end {
            return Err(self
                .refusal("the staged file is shorter than its parts")
                .with("bytes", held)
                .with("expected", end));
        }
        if Extents::in_order(&extents) {
            // What lies behind the last part belongs to one that isn't asked for.
            file.set_len(end).map_err(unreadable)?;
            self.staged.publish(&self.staged.path, &file, wanted)?;
        } else {
            let ordered = self.staged.copy_in_order(&mut file, &extents)?;
            self.staged.publish(&self.staged.ordered, &ordered, wanted)?;
        }
        self.lock().complete = true;
        Ok(())
    }

    /// Checks that these are the parts 1 to n as they were written.
    fn judge(&self, parts: &[PartId]) -> Result<Vec<Extent>> {
        if parts.is_empty() {
            return Err(self.refusal("an object can't be completed of no part"));
        }
        let extents = match self.lock().extents.first(parts.len()) {
            Ok(extents) => extents,
            Err(number) => return Err(self.refusal("a part is missing").with("part", number)),
        };
        let wrong =
            (1..).zip(&extents).zip(parts).find(|((number, extent), id)| part_id(*number, extent.length) != **id);
        match wrong {
            Some(((number, _), _)) => Err(self.refusal("the part isn't the one that was written").with("part", number)),
            None => Ok(extents),
        }
    }

    fn refusal(&self, message: &str) -> Error {
        Error::new(ErrorKind::Store, message).with("path", self.staged.path.display())
    }
}

fn part_id(number: u32, length: u64) -> PartId {
    PartId(format!("{number}:{length}"))
}
