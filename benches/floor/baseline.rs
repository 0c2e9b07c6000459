//! What can't be done without: the floor that the engine is measured against.
//!
//! - [`floor`] reads, splits into lines, copies every second line into parts and uploads them. It knows nothing of JSON.
//! - [`bare`] reads the same files in parts and uploads them as they are.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as StorePath;
use object_store::{ClientOptions, RetryConfig};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::measure::{Sample, Stopwatch};

const PART_BYTES: usize = 8 << 20;
/// Without a store, lines are copied into batches of this size, which stay in the cache.
const BATCH_BYTES: usize = 256 << 10;
const READ_BYTES: usize = 1 << 20;
/// What a thread takes at a time.
const REGION_BYTES: u64 = 16 << 20;
const UPLOADS_IN_FLIGHT: usize = 8;
const TYPES: usize = 7;

/// A runtime with so many threads.
pub fn runtime(threads: usize) -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
}

/// A store without signed payloads and checksums of parts.
fn store(endpoint: &str) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_bucket_name("bench")
        .with_region("us-east-1")
        .with_endpoint(endpoint)
        .with_access_key_id("AKIDEXAMPLE")
        .with_secret_access_key("wJalrEXAMPLEKEY")
        .with_unsigned_payload(true)
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .with_client_options(
            ClientOptions::new().with_allow_http(true).with_timeout_disabled().with_read_timeout_disabled(),
        )
        .build()
        .unwrap()
}

/// The NDJSON files of a folder and their sizes, in bytes.
pub fn files(folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "ndjson") {
            let size = fs::metadata(&path)?.len();
            files.push((path, size));
        }
    }
    files.sort();
    Ok(files)
}

/// Buffers of one size that are used again.
#[derive(Clone, Debug, Default)]
struct Recycled(Arc<Mutex<Vec<Vec<u8>>>>);

impl Recycled {
    fn take(&self, capacity: usize) -> Vec<u8> {
        let mut buffer = self.0.lock().unwrap().pop().unwrap_or_else(|| Vec::with_capacity(capacity));
        buffer.clear();
        buffer
    }

    fn share(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, home: self.clone() })
    }
}

struct Lent {
    buffer: Vec<u8>,
    home: Recycled,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.0.lock().unwrap().push(std::mem::take(&mut self.buffer));
    }
}

/// One object on its way.
struct Object {
    path: StorePath,
    id: String,
    parts: Mutex<Vec<(usize, PartId)>>,
    next: AtomicUsize,
}

/// Objects, and the parts on their way.
struct Uploads {
    store: Arc<AmazonS3>,
    objects: Vec<Arc<Object>>,
    in_flight: Arc<Semaphore>,
    handle: Handle,
    sending: Mutex<Vec<JoinHandle<()>>>,
    buffers: Recycled,
}

impl Uploads {
    async fn begin(endpoint: &str, count: usize) -> Self {
        let store = Arc::new(store(endpoint));
        let mut objects = Vec::new();
        for index in 0..count {
            let path = StorePath::from(format!("floor/{index}.ndjson"));
            let id = store.create_multipart(&path).await.unwrap();
            objects.push(Arc::new(Object { path, id, parts: Mutex::default(), next: AtomicUsize::new(0) }));
        }
        Self {
            store,
            objects,
            in_flight: Arc::new(Semaphore::new(UPLOADS_IN_FLIGHT)),
            handle: Handle::current(),
            sending: Mutex::default(),
            buffers: Recycled::default(),
        }
    }

    /// Sends a part as soon as there is room; blocks the thread until then.
    fn send(&self, object: usize, buffer: Vec<u8>) {
        let permit = self.handle.block_on(Arc::clone(&self.in_flight).acquire_owned()).unwrap();
        let (store, object) = (Arc::clone(&self.store), Arc::clone(&self.objects[object]));
        let payload = self.buffers.share(buffer);
        let sending = self.handle.spawn(async move {
            put(&store, &object, payload).await;
            drop(permit);
        });
        self.sending.lock().unwrap().push(sending);
    }

    async fn complete(self) {
        for sending in self.sending.into_inner().unwrap() {
            sending.await.unwrap();
        }
        for object in &self.objects {
            let mut parts = std::mem::take(&mut *object.parts.lock().unwrap());
            parts.sort_by_key(|(number, _)| *number);
            let parts = parts.into_iter().map(|(_, part)| part).collect();
            self.store.complete_multipart(&object.path, &object.id, parts).await.unwrap();
        }
    }
}

async fn put(store: &AmazonS3, object: &Object, payload: Bytes) {
    let number = object.next.fetch_add(1, Ordering::Relaxed);
    let part = store.put_part(&object.path, &object.id, number, payload.into()).await.unwrap();
    object.parts.lock().unwrap().push((number, part));
}

/// Pieces of files, each taken by one thread.
struct Regions {
    pieces: Vec<(usize, u64, u64)>,
    next: AtomicUsize,
}

impl Regions {
    fn of(files: &[(PathBuf, u64)], piece_bytes: u64) -> Self {
        let of_file = |(index, (_, size)): (usize, &(PathBuf, u64))| {
            let size = *size;
            let starts = (0..size).step_by(usize::try_from(piece_bytes).unwrap());
            starts.map(move |start| (index, start, size.min(start + piece_bytes))).collect::<Vec<_>>()
        };
        Self { pieces: files.iter().enumerate().flat_map(of_file).collect(), next: AtomicUsize::new(0) }
    }

    fn take(&self) -> Option<(usize, u64, u64)> {
        self.pieces.get(self.next.fetch_add(1, Ordering::Relaxed)).copied()
    }
}

/// Reads, splits, copies every second line, and uploads it if there is an endpoint; scans with so many threads.
pub fn floor(folder: &Path, endpoint: Option<&str>, threads: usize) -> io::Result<Sample> {
    let files = files(folder)?;
    let watch = Stopwatch::start();
    let opened: Vec<File> = files.iter().map(|(path, _)| File::open(path)).collect::<io::Result<_>>()?;
    let regions = Regions::of(&files, REGION_BYTES);
    let runtime = runtime(threads)?;
    let uploads = endpoint.map(|endpoint| runtime.block_on(Uploads::begin(endpoint, TYPES)));
    let kept_bytes = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut copier = Copier::new(uploads.as_ref());
                while let Some((file, start, end)) = regions.take() {
                    copier.region(&opened[file], start, end).unwrap();
                }
                kept_bytes.fetch_add(copier.finish(), Ordering::Relaxed);
            });
        }
    });
    if let Some(uploads) = uploads {
        runtime.block_on(uploads.complete());
    }
    Ok(watch.stop(files.iter().map(|(_, size)| size).sum(), kept_bytes.into_inner()))
}

/// One thread's lines on their way into parts.
struct Copier<'u> {
    uploads: Option<&'u Uploads>,
    parts: [Vec<u8>; TYPES],
    part_bytes: usize,
    read: Vec<u8>,
    lines: usize,
    kept_bytes: u64,
}

impl<'u> Copier<'u> {
    fn new(uploads: Option<&'u Uploads>) -> Self {
        let part_bytes = if uploads.is_some() { PART_BYTES } else { BATCH_BYTES };
        let parts = std::array::from_fn(|_| match uploads {
            Some(uploads) => uploads.buffers.take(part_bytes),
            None => Vec::with_capacity(part_bytes),
        });
        Self { uploads, parts, part_bytes, read: vec![0; READ_BYTES + (1 << 20)], lines: 0, kept_bytes: 0 }
    }

    /// Goes through the lines that begin in a piece of a file.
    fn region(&mut self, file: &File, start: u64, end: u64) -> io::Result<()> {
        let mut read = std::mem::take(&mut self.read);
        let (mut position, mut held) = (start.saturating_sub(1), 0);
        let mut skips_line = start > 0;
        // Where the line that is looked at next begins in the file.
        let mut next_line = position;
        'region: loop {
            let count = file.read_at(&mut read[held..held + READ_BYTES], position)?;
            position += count as u64;
            let filled = held + count;
            let mut from = 0;
            for at in memchr::memchr_iter(b'\n', &read[..filled]) {
                if std::mem::take(&mut skips_line) {
                    next_line += (at + 1 - from) as u64;
                    from = at + 1;
                    continue;
                }
                if next_line >= end {
                    break 'region;
                }
                self.line(&read[from..=at]);
                next_line += (at + 1 - from) as u64;
                from = at + 1;
            }
            if count == 0 || next_line >= end {
                break;
            }
            read.copy_within(from..filled, 0);
            held = filled - from;
        }
        self.read = read;
        Ok(())
    }

    fn line(&mut self, line: &[u8]) {
        self.lines += 1;
        if self.lines.is_multiple_of(2) {
            return;
        }
        let kind = (self.lines / 2) % TYPES;
        self.kept_bytes += line.len() as u64;
        if self.parts[kind].len() + line.len() > self.part_bytes {
            match self.uploads {
                Some(uploads) => {
                    let fresh = uploads.buffers.take(self.part_bytes);
                    uploads.send(kind, std::mem::replace(&mut self.parts[kind], fresh));
                }
                None => self.parts[kind].clear(),
            }
        }
        self.parts[kind].extend_from_slice(line);
    }

    fn finish(self) -> u64 {
        if let Some(uploads) = self.uploads {
            for (kind, part) in self.parts.into_iter().enumerate() {
                uploads.send(kind, part);
            }
        }
        self.kept_bytes
    }
}

/// Reads files in parts and uploads them as they are, one object for each file, on so many threads.
pub fn bare(folder: &Path, endpoint: &str, threads: usize) -> io::Result<Sample> {
    let files = files(folder)?;
    let watch = Stopwatch::start();
    let opened: Arc<Vec<File>> = Arc::new(files.iter().map(|(path, _)| File::open(path)).collect::<io::Result<_>>()?);
    let regions = Arc::new(Regions::of(&files, PART_BYTES as u64));
    let runtime = runtime(threads)?;
    runtime.block_on(async {
        let uploads = Arc::new(Uploads::begin(endpoint, files.len()).await);
        let tasks: Vec<_> = (0..UPLOADS_IN_FLIGHT)
            .map(|_| {
                let (uploads, regions, opened) = (Arc::clone(&uploads), Arc::clone(&regions), Arc::clone(&opened));
                runtime.spawn(async move {
                    while let Some((file, start, end)) = regions.take() {
                        let mut buffer = uploads.buffers.take(PART_BYTES);
                        buffer.resize(usize::try_from(end - start).unwrap(), 0);
                        opened[file].read_exact_at(&mut buffer, start).unwrap();
                        put(&uploads.store, &uploads.objects[file], uploads.buffers.share(buffer)).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        Arc::into_inner(uploads).unwrap().complete().await;
    });
    let bytes = files.iter().map(|(_, size)| size).sum();
    Ok(watch.stop(bytes, bytes))
}
