//! The same answers without vector instructions. Slow; it is what the others are compared with, and what checks the
//! structure of lines where there is no other.

use super::{Block, Kernel, Masks};

/// Looks at one byte after the other.
#[derive(Clone, Copy, Debug)]
pub(in crate::resource::scan) struct Portable;

impl Kernel for Portable {
    #[inline(always)]
    fn masks(self, block: &Block) -> Masks {
        Masks {
            quotes: which(block, |byte| byte == b'"'),
            backslashes: which(block, |byte| byte == b'\\'),
            controls: which(block, |byte| byte < 0x20),
            opens: which(block, |byte| byte | 0x20 == b'{'),
            closes: which(block, |byte| byte | 0x20 == b'}'),
            braces: which(block, |byte| byte & 0x20 != 0),
            colons: which(block, |byte| byte == b':'),
            commas: which(block, |byte| byte == b','),
            spaces: which(block, |byte| byte == b' '),
        }
    }

    #[inline(always)]
    fn other_blanks(self, block: &Block) -> u64 {
        which(block, |byte| matches!(byte, b'\t' | b'\n' | b'\r'))
    }

    #[inline(always)]
    fn digits_and_dots(self, block: &Block) -> (u64, u64) {
        (which(block, |byte| byte.is_ascii_digit()), which(block, |byte| byte == b'.'))
    }

    #[inline(always)]
    fn short_escapes(self, block: &Block) -> u64 {
        which(block, |byte| matches!(byte, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't'))
    }

    #[inline(always)]
    fn prefix_xor(self, bits: u64) -> u64 {
        [1, 2, 4, 8, 16, 32].iter().fold(bits, |bits, distance| bits ^ bits << distance)
    }
}

/// Eight bytes at a time: the flags of a word become a byte by one multiplication.
#[inline(always)]
fn which(block: &Block, is: impl Fn(u8) -> bool) -> u64 {
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let flags = block.map(|byte| u8::from(is(byte)));
    let (words, _) = flags.as_chunks::<8>();
    words.iter().rev().fold(0, |bits, word| {
        let byte = u64::from_le_bytes(*word).wrapping_mul(GATHER) >> 56;
        bits << 8 | byte
    })
}
