//! Which bytes of a block are in strings.

use super::super::simd::{Kernel, Masks};

const EVEN_BITS: u64 = 0x5555_5555_5555_5555;

/// What the blocks so far say about strings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Strings {
    /// The last byte is a backslash that means the next one.
    escape: u64,
    /// All bits set while a string goes on.
    inside: u64,
}

/// What the strings of a block take up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quoted {
    /// Opening quotes.
    pub(super) opening: u64,
    /// Closing quotes.
    pub(super) closing: u64,
    /// Opening quotes and what follows up to the closing ones.
    pub(super) inside: u64,
    /// What a backslash stands before.
    pub(super) escaped: u64,
}

impl Strings {
    #[inline(always)]
    pub(super) fn next<K: Kernel>(&mut self, kernel: K, masks: &Masks) -> Quoted {
        let escaped =
            if masks.backslashes == 0 { std::mem::take(&mut self.escape) } else { self.escaped(masks.backslashes) };
        let quotes = masks.quotes & !escaped;
        let inside = kernel.prefix_xor(quotes) ^ self.inside;
        self.inside = 0_u64.wrapping_sub(inside >> 63);
        Quoted { opening: quotes & inside, closing: quotes & !inside, inside, escaped }
    }

    /// Every second one of a run of backslashes is meant by the one before it, and so is what follows an odd run.
    #[inline]
    fn escaped(&mut self, backslashes: u64) -> u64 {
        let meaning = backslashes & !self.escape;
        let after = meaning << 1 | self.escape;
        let odd_starts = meaning & !EVEN_BITS & !after;
        let (runs, carry) = odd_starts.overflowing_add(meaning);
        self.escape = u64::from(carry);
        (EVEN_BITS ^ runs << 1) & after
    }

    pub(super) const fn is_open(&self) -> bool {
        self.inside != 0
    }
}
