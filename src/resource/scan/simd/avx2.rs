//! AVX2, with carry-less multiplication and the bit instructions that came with it: nearly every x86-64 since 2013.

use std::arch::asm;
use std::arch::x86_64::{
    __m256i, _mm_clmulepi64_si128, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_set1_epi8, _mm256_cmpeq_epi8,
    _mm256_loadu_si256, _mm256_min_epu8, _mm256_or_si256, _mm256_set1_epi8, _mm256_slli_epi16, _mm256_sub_epi8,
};
use std::sync::LazyLock;

use super::{BLOCK_BYTES, Block, Kernel, Masks, Task};

/// Proof that the processor has what this kernel needs: there is none without.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(());

static DETECTED: LazyLock<Option<Avx2>> = LazyLock::new(|| {
    let all = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt");
    // Miri knows the names of the features but not every instruction.
    (all && !cfg!(miri)).then_some(Avx2(()))
});

impl Avx2 {
    /// The kernel, if this processor can run it.
    #[inline]
    pub(super) fn detected() -> Option<Self> {
        *DETECTED
    }

    /// The line as text if it is nothing but ASCII.
    #[inline]
    pub(super) fn ascii(self, line: &[u8]) -> Option<&str> {
        // SAFETY: `self` exists only where the features were detected.
        unsafe { ascii(line) }
    }

    /// Does a piece of work with all its code compiled for these instructions.
    #[inline]
    pub(super) fn run<T: Task>(self, task: T) -> T::Output {
        // SAFETY: `self` exists only where all features that the function enables were detected.
        unsafe { run(self, task) }
    }
}

/// The line as text if it is nothing but ASCII.
#[target_feature(enable = "avx2")]
fn ascii(line: &[u8]) -> Option<&str> {
    let (blocks, rest) = line.as_chunks::<BLOCK_BYTES>();
    let mut all = _mm256_set1_epi8(0);
    for block in blocks {
        let Halves(low, high) = load(block);
        all = _mm256_or_si256(all, _mm256_or_si256(low, high));
    }
    if let (Some(last), false) = (line.last_chunk(), rest.is_empty()) {
        let Halves(low, high) = load(last);
        all = _mm256_or_si256(all, _mm256_or_si256(low, high));
    } else if !rest.is_ascii() {
        return None;
    }
    if half_top_bits(all) != 0 {
        return None;
    }
    // SAFETY: no byte has its top bit set: `blocks` and the last 64 bytes, or `rest`, are the whole line. ASCII is UTF-8.
    Some(unsafe { str::from_utf8_unchecked(line) })
}

#[target_feature(enable = "avx2,pclmulqdq,bmi1,bmi2,lzcnt,popcnt")]
fn run<T: Task>(kernel: Avx2, task: T) -> T::Output {
    task.run(kernel)
}

impl Kernel for Avx2 {
    #[inline(always)]
    fn masks(self, block: &Block) -> Masks {
        // SAFETY: `self` exists only where the features were detected.
        unsafe { masks(block) }
    }

    #[inline(always)]
    fn other_blanks(self, block: &Block) -> u64 {
        // SAFETY: as above.
        unsafe { other_blanks(block) }
    }

    #[inline(always)]
    fn digits_and_dots(self, block: &Block) -> (u64, u64) {
        // SAFETY: as above.
        unsafe { digits_and_dots(block) }
    }

    #[inline(always)]
    fn short_escapes(self, block: &Block) -> u64 {
        // SAFETY: as above.
        unsafe { short_escapes(block) }
    }

    #[inline(always)]
    fn prefix_xor(self, bits: u64) -> u64 {
        // SAFETY: as above.
        unsafe { prefix_xor(bits) }
    }
}

/// The two halves of a block.
// No closures over them: one isn't inlined into library code, which is compiled without these features.
#[derive(Clone, Copy, Debug)]
struct Halves(__m256i, __m256i);

#[inline]
#[target_feature(enable = "avx2")]
fn load(block: &Block) -> Halves {
    let start = block.as_ptr().cast::<__m256i>();
    // SAFETY: a block is 64 bytes, and the loads, which need no alignment, are of bytes 0 to 31 and 32 to 63.
    unsafe { Halves(_mm256_loadu_si256(start), _mm256_loadu_si256(start.add(1))) }
}

/// The top bit of every byte.
#[inline]
#[target_feature(enable = "avx2")]
fn top_bits(low: __m256i, high: __m256i) -> u64 {
    u64::from(half_top_bits(low)) | u64::from(half_top_bits(high)) << 32
}

/// The same for one half.
// The intrinsic is made of generic vector operations; the optimiser pulls those apart where two ways through the code
// meet, and then carries 64 single bits from one place to the next (Rust 1.95; half the speed).
#[inline]
#[target_feature(enable = "avx2")]
fn half_top_bits(half: __m256i) -> u32 {
    let bits: u32;
    // SAFETY: the instruction is part of AVX2 and does nothing but compute one register from another.
    unsafe {
        asm!("vpmovmskb {bits:e}, {half}", half = in(ymm_reg) half, bits = lateout(reg) bits,
            options(pure, nomem, nostack, preserves_flags));
    }
    bits
}

#[inline]
#[target_feature(enable = "avx2")]
fn equal(Halves(low, high): Halves, byte: u8) -> u64 {
    let wanted = _mm256_set1_epi8(byte.cast_signed());
    top_bits(_mm256_cmpeq_epi8(low, wanted), _mm256_cmpeq_epi8(high, wanted))
}

/// Bytes that are at most `limit`.
#[inline]
#[target_feature(enable = "avx2")]
fn up_to(Halves(low, high): Halves, limit: u8) -> u64 {
    let limit = _mm256_set1_epi8(limit.cast_signed());
    top_bits(_mm256_cmpeq_epi8(low, _mm256_min_epu8(low, limit)), _mm256_cmpeq_epi8(high, _mm256_min_epu8(high, limit)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn masks(block: &Block) -> Masks {
    let bytes = load(block);
    let Halves(low, high) = bytes;
    // With this bit set, brackets become braces; nothing else does.
    let bracket_bit = _mm256_set1_epi8(0x20);
    let braced = Halves(_mm256_or_si256(low, bracket_bit), _mm256_or_si256(high, bracket_bit));
    Masks {
        quotes: equal(bytes, b'"'),
        backslashes: equal(bytes, b'\\'),
        controls: up_to(bytes, 0x1F),
        opens: equal(braced, b'{'),
        closes: equal(braced, b'}'),
        braces: top_bits(_mm256_slli_epi16::<2>(low), _mm256_slli_epi16::<2>(high)),
        colons: equal(bytes, b':'),
        commas: equal(bytes, b','),
        spaces: equal(bytes, b' '),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn other_blanks(block: &Block) -> u64 {
    let bytes = load(block);
    equal(bytes, b'\t') | equal(bytes, b'\n') | equal(bytes, b'\r')
}

#[inline]
#[target_feature(enable = "avx2")]
fn digits_and_dots(block: &Block) -> (u64, u64) {
    let bytes = load(block);
    let zero = _mm256_set1_epi8(b'0'.cast_signed());
    let from_zero = Halves(_mm256_sub_epi8(bytes.0, zero), _mm256_sub_epi8(bytes.1, zero));
    (up_to(from_zero, 9), equal(bytes, b'.'))
}

#[inline]
#[target_feature(enable = "avx2")]
fn short_escapes(block: &Block) -> u64 {
    let bytes = load(block);
    let mut found = 0;
    for byte in [b'"', b'\\', b'/', b'b', b'f', b'n', b'r', b't'] {
        found |= equal(bytes, byte);
    }
    found
}

#[inline]
#[target_feature(enable = "pclmulqdq")]
fn prefix_xor(bits: u64) -> u64 {
    // Multiplying by all ones without carry adds up, for each bit, itself and all bits below it.
    let product = _mm_clmulepi64_si128::<0>(_mm_set_epi64x(0, bits.cast_signed()), _mm_set1_epi8(-1));
    _mm_cvtsi128_si64(product).cast_unsigned()
}
