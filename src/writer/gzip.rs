//! Compression as a second stage: gzip members cut at line ends of one object's stream.
//!
//! A member ends at the first line end after 1 MiB of the stream, so the bytes depend on the data alone, not on the
//! number of threads or on the moment. Members are compressed side by side and put back in order.

use std::collections::VecDeque;
use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, GzBuilder};

use super::accumulator::Accumulator;
use crate::cpu::{CpuPool, Pending};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::{Count, Mark};

/// Bytes of the stream after which a member ends at the next line end.
pub(crate) const MEMBER_BYTES: usize = 1 << 20;

/// Members of one object and the order they are in.
#[derive(Debug)]
pub(super) struct Members {
    /// What waits to become the next member.
    pub(super) raw: Accumulator,
    /// Resources in it.
    pub(super) raw_count: Count,
    pending: VecDeque<PendingMember>,
    /// The next member in order, once it was waited for.
    ready: Option<Member>,
    level: u32,
    cpu: CpuPool,
}

#[derive(Debug)]
struct PendingMember {
    compressed: Pending<Result<Bytes>>,
    count: Count,
    mark: Mark,
}

/// A compressed member: a frame of the object.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) bytes: Bytes,
    pub(super) count: Count,
    pub(super) mark: Mark,
}

impl Members {
    pub(super) fn new(cpu: CpuPool, level: u32) -> Self {
        let (raw, raw_count) = (Accumulator::default(), Count::default());
        Self { raw, raw_count, pending: VecDeque::new(), ready: None, level, cpu }
    }

    /// Ends the open member and has it compressed; `mark` is the state of the books behind its last resource.
    pub(super) fn close(&mut self, mark: Mark) {
        if self.raw.len() == 0 {
            return;
        }
        let (raw, count, level) = (self.raw.take(), std::mem::take(&mut self.raw_count), self.level);
        let compressed = self.cpu.run(move || compress(&raw.into_chunks()?, level));
        self.pending.push_back(PendingMember { compressed, count, mark });
    }

    /// Waits until the next member in order is compressed and tells how long it is; `None`: there is none. It stays here,
    /// so that the order holds if the object ends while memory for the member is waited for.
    ///
    /// # Cancellation
    /// Must be polled to its end: a dropped wait loses the member.
    pub(super) async fn next_bytes(&mut self) -> Result<Option<usize>> {
        if self.ready.is_none() {
            let Some(PendingMember { compressed, count, mark }) = self.pending.pop_front() else { return Ok(None) };
            self.ready = Some(Member { bytes: compressed.done().await??, count, mark });
        }
        Ok(self.ready.as_ref().map(|member| member.bytes.len()))
    }

    /// Takes the member that was waited for.
    pub(super) fn take_ready(&mut self) -> Option<Member> {
        self.ready.take()
    }
}

fn compress(chunks: &[Bytes], level: u32) -> Result<Bytes> {
    let length: usize = chunks.iter().map(Bytes::len).sum();
    // No name and no time in the header: the same data gives the same bytes.
    let mut encoder = GzBuilder::new().write(Vec::with_capacity(length / 4), Compression::new(level));
    let failed = |error: std::io::Error| Error::new(ErrorKind::Internal, "compression failed").caused_by(error);
    for chunk in chunks {
        encoder.write_all(chunk).map_err(failed)?;
    }
    let mut compressed = encoder.finish().map_err(failed)?;
    // What the vector has beyond its length would be held until the part is sent, and charged to nobody.
    compressed.shrink_to_fit();
    Ok(Bytes::from(compressed))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_member_is_a_gzip_file_without_name_and_time() {
        let compressed = compress(&[Bytes::from_static(b"one\n"), Bytes::from_static(b"two\n")], 6).unwrap();
        assert_eq!(compressed.get(4..8), Some(&[0; 4][..]));
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(&compressed[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\ntwo\n");
    }
}
