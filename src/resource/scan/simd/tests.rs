use proptest::prelude::*;

use super::*;

/// What a kernel says of a block, all of it.
struct Said<'b>(&'b Block, u64);

impl Task for Said<'_> {
    type Output = (Masks, u64, (u64, u64), u64, u64);

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> Self::Output {
        let Said(block, bits) = self;
        (
            kernel.masks(block),
            kernel.other_blanks(block),
            kernel.digits_and_dots(block),
            kernel.short_escapes(block),
            kernel.prefix_xor(bits),
        )
    }
}

fn bits_of(block: &Block, wanted: &[u8]) -> u64 {
    block.iter().enumerate().fold(0, |bits, (at, byte)| bits | u64::from(wanted.contains(byte)) << at)
}

fn check(block: &Block, bits: u64) {
    let (masks, other_blanks, (digits, dots), short_escapes, prefix_xor) = Said(block, bits).run(Portable);
    let brackets = masks.opens | masks.closes;
    assert_eq!(masks.quotes, bits_of(block, b"\""));
    assert_eq!(masks.backslashes, bits_of(block, b"\\"));
    assert_eq!(masks.controls, bits_of(block, &(0..0x20).collect::<Vec<_>>()));
    assert_eq!(masks.opens, bits_of(block, b"{["));
    assert_eq!(masks.closes, bits_of(block, b"}]"));
    assert_eq!(masks.braces & brackets, bits_of(block, b"{}"));
    assert_eq!(masks.colons, bits_of(block, b":"));
    assert_eq!(masks.commas, bits_of(block, b","));
    assert_eq!(masks.spaces, bits_of(block, b" "));
    assert_eq!(other_blanks, bits_of(block, b"\t\n\r"));
    assert_eq!(digits, bits_of(block, b"0123456789"));
    assert_eq!(dots, bits_of(block, b"."));
    assert_eq!(short_escapes, bits_of(block, b"\"\\/bfnrt"));
    let odd_up_to = |at: u32| u64::from((bits << (63 - at)).count_ones() % 2) << at;
    assert_eq!(prefix_xor, (0..64).fold(0, |all, at| all | odd_up_to(at)));
    if let Ok(said) = with_vectors(Said(block, bits)) {
        assert_eq!(said, (masks, other_blanks, (digits, dots), short_escapes, prefix_xor));
    }
}

#[test]
fn every_byte_is_seen_for_what_it_is_at_every_place() {
    for first in 0..=u8::MAX {
        check(&std::array::from_fn(|at| first.wrapping_add(u8::try_from(at).unwrap())), u64::MAX / 0xFF * 0x59);
    }
}

proptest! {
    #[test]
    fn all_kernels_say_the_same(block in any::<[u8; 32]>(), marks in prop::collection::vec(prop::sample::select(&b"{}[]:,\"\\ \t\n\r.019abu/"[..]), 32), bits in any::<u64>()) {
        let mut both = [0; BLOCK_BYTES];
        both.iter_mut().step_by(2).zip(block).for_each(|(to, from)| *to = from);
        both.iter_mut().skip(1).step_by(2).zip(marks).for_each(|(to, from)| *to = from);
        check(&both, bits);
    }
}
