//! The gzip members of an object, pushed through chunk by chunk.
//!
//! The checksum of each member is checked, and where it ends: anything but whole members is a fault.

use flate2::{Decompress, FlushDecompress, Status};

/// Largest window of gzip, as a power of two.
const WINDOW_BITS: u8 = 15;

/// How much is decompressed at once, in bytes.
const ROOM_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Members {
    inflate: Decompress,
    room: Vec<u8>,
    is_open: bool,
}

impl Members {
    pub(super) fn new() -> Self {
        Self { inflate: Decompress::new_gzip(WINDOW_BITS), room: vec![0; ROOM_BYTES], is_open: false }
    }

    /// Decompresses a chunk; `out` gets the text, and `true` after the last piece of each member.
    ///
    /// # Errors
    /// When the members are unsound from here on.
    pub(super) fn push(&mut self, mut chunk: &[u8], mut out: impl FnMut(&[u8], bool)) -> Result<(), String> {
        loop {
            if !self.is_open {
                if chunk.is_empty() {
                    return Ok(());
                }
                self.inflate.reset(true);
                self.is_open = true;
            }
            let (taken_before, made_before) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(chunk, &mut self.room, FlushDecompress::None)
                .map_err(|error| format!("a member is corrupt: {error}"))?;
            let taken = usize::try_from(self.inflate.total_in() - taken_before).unwrap_or(usize::MAX);
            let made = usize::try_from(self.inflate.total_out() - made_before).unwrap_or(usize::MAX);
            chunk = chunk.get(taken..).unwrap_or_default();
            self.is_open = status != Status::StreamEnd;
            out(self.room.get(..made).unwrap_or_default(), !self.is_open);
            if taken == 0 && made == 0 && self.is_open {
                return Ok(());
            }
        }
    }

    /// Says that there is no more.
    ///
    /// # Errors
    /// When that is within a member.
    pub(super) fn finish(&self) -> Result<(), String> {
        if self.is_open { Err("it ends within a member".to_owned()) } else { Ok(()) }
    }
}
