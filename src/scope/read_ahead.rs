//! Reads one buffer ahead while the one before is looked through.
//!
//! The pass that finds the Groups of a mixed snapshot reads all of it, so it is bound by reading; looking through what
//! was read goes on beside it, in the same task, while the source waits for its next bytes.

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::group_sink::GroupSink;
use crate::budget::{Permit, Pool};
use crate::error::{Error, ErrorKind, Result};
use crate::source::{BlockSink, Buffer, Cursor, Range, Rows, Snapshot};

/// Large, because each read of a file changes threads twice.
const BUFFER_BYTES: usize = 1 << 20;

/// What a source hands over.
pub(super) enum Piece {
    Lines(Buffer),
    Rows(Rows),
    RowTooLong,
}

/// Reads a range from its start to its end through the sink.
pub(super) async fn read_range(sink: &mut GroupSink<'_>, snapshot: &dyn Snapshot, range: &Range) -> Result<()> {
    let (pieces, mut read) = mpsc::channel(1);
    let (memory, spares) = mpsc::channel(2);
    let mut ahead = Ahead { pieces, spares, limit_bytes: sink.line_limit_bytes() };
    let reading = async {
        let outcome = snapshot.read(range, &Cursor::start(), &mut ahead).await;
        // Else the other side would wait for more.
        drop(ahead);
        outcome
    };
    let looking = async {
        while let Some(piece) = read.recv().await {
            match sink.take(piece) {
                // Nobody waits for memory when the range is at its end.
                Ok(Some(spare)) if spare.len() == BUFFER_BYTES => drop(memory.try_send(spare)),
                Ok(_) => {}
                // The sink knows why; the source is told by the closed channel.
                Err(()) => break,
            }
        }
        drop(read);
    };
    tokio::join!(reading, looking).0
}

struct Ahead {
    pieces: mpsc::Sender<Piece>,
    /// Memory of buffers that were looked through.
    spares: mpsc::Receiver<Vec<u8>>,
    limit_bytes: usize,
}

impl Ahead {
    async fn hand_over(&self, piece: Piece) -> Result<()> {
        let nobody = |_| Error::new(ErrorKind::Cancelled, "nothing more is looked for in the range");
        self.pieces.send(piece).await.map_err(nobody)
    }
}

#[async_trait]
impl BlockSink for Ahead {
    async fn buffer(&mut self, room_bytes: usize) -> Result<Buffer> {
        // A source that never waits would keep the caller from cancelling.
        tokio::task::yield_now().await;
        let size_bytes = room_bytes.max(BUFFER_BYTES);
        let spare = self.spares.try_recv().ok().filter(|spare| spare.len() >= size_bytes);
        let bytes = spare.unwrap_or_else(|| vec![0; size_bytes]);
        let permit = permit(bytes.len())?;
        Ok(Buffer::new(bytes, 0, permit))
    }

    async fn lines(&mut self, buffer: Buffer) -> Result<()> {
        self.hand_over(Piece::Lines(buffer)).await
    }

    async fn rows(&mut self, rows: Rows) -> Result<()> {
        self.hand_over(Piece::Rows(rows)).await
    }

    async fn row_too_long(&mut self, _length_bytes: u64) -> Result<()> {
        self.hand_over(Piece::RowTooLong).await
    }

    fn line_limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    fn at(&mut self, _cursor: Cursor) {}
}

/// A permit of no job: nothing else is buffered while a cohort is resolved, and three such buffers are all there is.
fn permit(bytes: usize) -> Result<Permit> {
    Pool::new(bytes)
        .try_acquire(bytes)
        .ok_or_else(|| Error::new(ErrorKind::Internal, "a new pool has no room for the buffer that it was made for"))
}
