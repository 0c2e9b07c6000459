//! Whether the patients that a request names are there.

use std::collections::BTreeSet;

use async_trait::async_trait;

use crate::budget::Pool;
use crate::error::{Error, ErrorKind, Result};
use crate::fhir::ResourceType;
use crate::resource::{Lines, References, ScanPlan, Validation, scan};
use crate::source::{Asked, BlockSink, Buffer, Cursor, Range, Rows, Snapshot};

/// Large, because each read of a file changes threads twice.
const BUFFER_BYTES: usize = 1 << 20;

/// A longer line is passed over: no Patient is so long.
const LINE_LIMIT_BYTES: usize = 64 << 20;

/// The ids, of those given, of patients that the snapshot holds no resource of.
///
/// They are looked for where the source says that Patients are, and where it says they aren't only if some are missing.
/// A piece of the source that can't be read may hold whoever is missing: then nobody is.
///
/// # Errors
/// When the snapshot can't be looked at.
///
/// # Cancellation
/// The future may be dropped at any await.
pub(super) async fn missing_patients(snapshot: &dyn Snapshot, ids: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let types = ResourceType::r4("Patient").map(|patient| BTreeSet::from([patient]));
    let asked = Asked { types, ids: Some(ids.clone()), ..Asked::default() };
    let plan = snapshot.plan(&asked).await?;
    let mut search = Search {
        missing: ids.clone(),
        plan: ScanPlan { validation: Validation::Structure, ..ScanPlan::default() },
        references: References::new(),
        line: Vec::new(),
    };
    for range in plan.ranges.iter().chain(&plan.skipped) {
        if search.missing.is_empty() {
            break;
        }
        if !search.read(snapshot, range).await? {
            return Ok(BTreeSet::new());
        }
    }
    Ok(search.missing)
}

struct Search {
    missing: BTreeSet<String>,
    plan: ScanPlan,
    references: References,
    /// The beginning of a line whose end hasn't come yet.
    line: Vec<u8>,
}

impl Search {
    /// Looks through one range; false if it can't be read to its end.
    async fn read(&mut self, snapshot: &dyn Snapshot, range: &Range) -> Result<bool> {
        let outcome = snapshot.read(range, &Cursor::start(), self).await;
        let rest = std::mem::take(&mut self.line);
        self.look_at_lines(&rest);
        match outcome {
            Err(error) if error.kind() == ErrorKind::Unreadable => Ok(false),
            // The search itself has ended the reading.
            Err(_) if self.missing.is_empty() => Ok(true),
            outcome => outcome.map(|()| true),
        }
    }

    fn look_at_lines(&mut self, bytes: &[u8]) {
        for line in Lines::new(bytes) {
            self.look_at(line.resource_of(bytes));
        }
    }

    fn look_at(&mut self, body: &[u8]) {
        let Ok(facts) = scan(body, &self.plan, &mut self.references) else { return };
        if let ("Patient", Some(id)) = (&*facts.resource_type, &facts.id) {
            self.missing.remove(&**id);
        }
    }

    /// Ends the reading once everybody was found.
    fn go_on(&self) -> Result<()> {
        if self.missing.is_empty() { Err(Error::cancelled()) } else { Ok(()) }
    }
}

#[async_trait]
impl BlockSink for Search {
    async fn buffer(&mut self, room_bytes: usize) -> Result<Buffer> {
        // A source that never waits would keep the caller from cancelling.
        tokio::task::yield_now().await;
        let bytes = vec![0; room_bytes.max(BUFFER_BYTES)];
        let permit = Pool::new(bytes.len()).try_acquire(bytes.len());
        let permit = permit.ok_or_else(|| Error::new(ErrorKind::Internal, "a new pool has no room for its buffer"))?;
        Ok(Buffer::new(bytes, 0, permit))
    }

    async fn lines(&mut self, buffer: Buffer) -> Result<()> {
        let bytes = buffer.filled();
        let Some(end) = memchr::memrchr(b'\n', bytes).map(|last| last + 1) else {
            if self.line.len() <= LINE_LIMIT_BYTES {
                self.line.extend_from_slice(bytes);
            }
            return Ok(());
        };
        let (whole, rest) = bytes.split_at(end);
        let first_end = memchr::memchr(b'\n', whole).map_or(end, |first| first + 1);
        let (first, others) = whole.split_at(first_end);
        let mut line = std::mem::take(&mut self.line);
        line.extend_from_slice(first);
        self.look_at_lines(&line);
        self.look_at_lines(others);
        line.clear();
        line.extend_from_slice(rest);
        self.line = line;
        self.go_on()
    }

    async fn rows(&mut self, rows: Rows) -> Result<()> {
        let (buffer, marks, _) = rows.into_parts();
        let mut start = 0;
        for mark in marks {
            if !mark.deleted {
                let row = buffer.filled().get(start..mark.end).unwrap_or_default();
                self.look_at_lines(row);
            }
            start = mark.end;
        }
        self.go_on()
    }

    async fn row_too_long(&mut self, _length_bytes: u64) -> Result<()> {
        Ok(())
    }

    fn line_limit_bytes(&self) -> usize {
        LINE_LIMIT_BYTES
    }

    fn at(&mut self, _cursor: Cursor) {}
}
