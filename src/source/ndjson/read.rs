//! From a file into the sink.

use bytes::{Buf, Bytes};

use super::files::{Entry, FileReader, Filled, blocking, unreadable};
use super::gunzip::{Gunzip, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::source::{BlockSink, Buffer, Cursor};

/// Reads a file that isn't compressed from an offset.
pub(super) async fn plain(entry: &Entry, from: u64, block_bytes: usize, sink: &mut dyn BlockSink) -> Result<()> {
    sink.at(Cursor::from_offset(from));
    let Some(mut rest_bytes) = entry.size_bytes.checked_sub(from) else {
        return Err(unreadable(&entry.name, "the file ends before the place to read on from").with("offset", from));
    };
    let mut reader = entry.file.open(from).await?;
    while rest_bytes > 0 {
        let room_bytes = usize::try_from(rest_bytes).unwrap_or(usize::MAX).min(block_bytes);
        let buffer = sink.buffer(room_bytes).await?;
        let before = buffer.filled().len();
        let filled = reader.fill(buffer).await?;
        let count = filled.buffer.filled().len() - before;
        if count == 0 && filled.failure.is_none() {
            return Err(Error::new(ErrorKind::Internal, "a reader gave nothing").with("file", &entry.name));
        }
        rest_bytes = rest_bytes.saturating_sub(count as u64);
        sink.lines(filled.buffer).await?;
        if let Some(failure) = filled.failure {
            return Err(failure);
        }
    }
    reader.finish().await
}

/// Reads a compressed file from an offset in what it decompresses to.
pub(super) async fn gzip(
    entry: &Entry,
    from: u64,
    block_bytes: usize,
    max_expansion: u32,
    sink: &mut dyn BlockSink,
) -> Result<()> {
    sink.at(Cursor::from_offset(from));
    let mut file = CompressedFile {
        name: entry.name.clone(),
        reader: entry.file.open(0).await?,
        piece: Bytes::new(),
        ended: false,
        gunzip: Some(Gunzip::new(max_expansion).skipping(from)),
    };
    let mut at_end = entry.size_bytes == 0 && from == 0;
    while !at_end {
        let buffer = sink.buffer(block_bytes).await?;
        let Filled { buffer, failure } = file.fill(buffer).await?;
        at_end = buffer.room_bytes() > 0;
        // Also if nothing came: the buffer may hold the beginning of the last line.
        sink.lines(buffer).await?;
        if let Some(failure) = failure {
            return Err(failure);
        }
    }
    file.reader.finish().await
}

struct CompressedFile {
    name: String,
    reader: Box<dyn FileReader>,
    piece: Bytes,
    ended: bool,
    /// Wanders to a blocking thread and back.
    gunzip: Option<Gunzip>,
}

impl CompressedFile {
    /// Reads on until the buffer is full or the file is at its end.
    async fn fill(&mut self, mut buffer: Buffer) -> Result<Filled> {
        loop {
            if self.piece.is_empty() && !self.ended {
                match self.reader.piece().await {
                    Ok(piece) => self.piece = piece,
                    Err(failure) => return Ok(Filled { buffer, failure: Some(failure) }),
                }
                self.ended = self.piece.is_empty();
            }
            let filled = self.decompress(buffer).await?;
            if filled.failure.is_some() || filled.buffer.room_bytes() == 0 || self.ended {
                return Ok(filled);
            }
            buffer = filled.buffer;
        }
    }

    /// Decompresses the piece into the buffer, as far as there is room.
    async fn decompress(&mut self, mut buffer: Buffer) -> Result<Filled> {
        let lost = || Error::new(ErrorKind::Internal, "the decoder was lost with its thread");
        let mut gunzip = self.gunzip.take().ok_or_else(lost)?;
        let (piece, ended, name) = (self.piece.clone(), self.ended, self.name.clone());
        let (gunzip, taken, filled) = blocking(move || {
            let mut step = Step::default();
            let mut answer = gunzip.advance(&piece, buffer.unfilled(), &mut step);
            buffer.advance(step.made);
            if answer.is_ok() && ended && buffer.room_bytes() > 0 {
                answer = gunzip.finish();
            }
            let failure = answer.err().map(|fault| gunzip.error(&name, fault));
            (gunzip, step.taken, Filled { buffer, failure })
        })
        .await?;
        self.gunzip = Some(gunzip);
        self.piece.advance(taken);
        Ok(filled)
    }
}
