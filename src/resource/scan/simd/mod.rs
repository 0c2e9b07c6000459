//! Questions about 64 bytes at once, answered with one bit a byte. The only place with `unsafe` code.
//!
//! A [`Kernel`] is a way to answer them. [`with_vectors`] picks one when the program runs, so that a binary built for
//! any processor of a family uses the vector instructions of the one it runs on. Everything else is safe code
//! that is generic over the kernel and compiled once for each.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;
#[cfg(test)]
mod tests;

pub(super) use portable::Portable;

/// How many bytes are looked at together: one bit each of a word.
pub(super) const BLOCK_BYTES: usize = 64;

/// Bytes of a line that are looked at together.
pub(super) type Block = [u8; BLOCK_BYTES];

/// What each byte of a block is, in or out of a string. Bit 0 is the first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Masks {
    /// `"`
    pub(super) quotes: u64,
    /// `\`
    pub(super) backslashes: u64,
    /// Below 0x20.
    pub(super) controls: u64,
    /// `{` or `[`
    pub(super) opens: u64,
    /// `}` or `]`
    pub(super) closes: u64,
    /// Has bit 0x20: tells braces from brackets. Says nothing of other bytes.
    pub(super) braces: u64,
    /// `:`
    pub(super) colons: u64,
    /// `,`
    pub(super) commas: u64,
    /// The space itself, no other blank.
    pub(super) spaces: u64,
}

impl Masks {
    /// Leaves out the first bytes.
    pub(super) const fn shifted(self, count: usize) -> Self {
        Self {
            quotes: self.quotes >> count,
            backslashes: self.backslashes >> count,
            controls: self.controls >> count,
            opens: self.opens >> count,
            closes: self.closes >> count,
            braces: self.braces >> count,
            colons: self.colons >> count,
            commas: self.commas >> count,
            spaces: self.spaces >> count,
        }
    }
}

/// A way to look at 64 bytes at once.
pub(super) trait Kernel: Copy {
    /// Tells what each byte is.
    fn masks(self, block: &Block) -> Masks;

    /// Tells which bytes are tab, line feed or carriage return.
    fn other_blanks(self, block: &Block) -> u64;

    /// Tells which bytes are digits, and which are `.`.
    fn digits_and_dots(self, block: &Block) -> (u64, u64);

    /// Tells which bytes may follow a backslash and are a whole escape with it: all but `u`.
    fn short_escapes(self, block: &Block) -> u64;

    /// Sets each bit to whether an odd number of bits is set up to it, itself included.
    fn prefix_xor(self, bits: u64) -> u64;
}

/// Work that is compiled for each kernel. Implementations of `run` are `#[inline(always)]`: only then does the
/// kernel's part become one with the rest.
pub(super) trait Task {
    type Output;

    fn run<K: Kernel>(self, kernel: K) -> Self::Output;
}

/// Does the work with the fastest kernel that this processor has, or hands it back when that is the portable one.
#[inline]
pub(super) fn with_vectors<T: Task>(task: T) -> Result<T::Output, T> {
    #[cfg(target_arch = "x86_64")]
    if let Some(kernel) = avx2::Avx2::detected() {
        return Ok(kernel.run(task));
    }
    Err(task)
}

/// The line as text. None when it isn't UTF-8.
///
/// Most lines are ASCII, for which this is much faster than the standard library.
#[inline]
pub(super) fn text(line: &[u8]) -> Option<&str> {
    #[cfg(target_arch = "x86_64")]
    if let Some(text) = avx2::Avx2::detected().and_then(|kernel| kernel.ascii(line)) {
        return Some(text);
    }
    str::from_utf8(line).ok()
}
