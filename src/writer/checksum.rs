//! CRC64NVME of an object, combined from its parts.
//!
//! Combining is ours: crc-fast squares matrices for it, which takes some 0.1 ms a part. A checksum is a polynomial over
//! GF(2) modulo that of the CRC, and bytes behind it multiply it by a power of x, which takes some 2 µs.

use bytes::Bytes;

/// The polynomial of CRC64NVME without its highest term, reflected: bit 63 is the factor of x^0.
const POLYNOMIAL: u64 = 0x9A6C_9329_AC4B_C9B5;

/// The product of two polynomials, modulo that of the CRC.
const fn multiply(one: u64, mut other: u64) -> u64 {
    let mut product = 0;
    let mut bit = 64;
    while bit > 0 {
        bit -= 1;
        if one >> bit & 1 == 1 {
            product ^= other;
        }
        let carry = other & 1;
        other >>= 1;
        if carry == 1 {
            other ^= POLYNOMIAL;
        }
    }
    product
}

/// What so many bytes more multiply a checksum by: x to the power of their bits.
const fn power_of_x(mut length_bytes: u64) -> u64 {
    let mut product = 1 << 63;
    let mut of_bit = 1 << (63 - 8);
    while length_bytes > 0 {
        if length_bytes & 1 == 1 {
            product = multiply(product, of_bit);
        }
        of_bit = multiply(of_bit, of_bit);
        length_bytes >>= 1;
    }
    product
}

/// The CRC64NVME of some bytes, together with their length, so that it can be combined.
///
/// CRC64NVME is the checksum that S3 computes over whole multipart objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crc64 {
    value: u64,
    length_bytes: u64,
}

impl Crc64 {
    /// Computes it over chunks in order.
    #[must_use]
    pub fn of<'b>(chunks: impl IntoIterator<Item = &'b Bytes>) -> Self {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
        let mut length_bytes = 0;
        for chunk in chunks {
            digest.update(chunk);
            length_bytes += chunk.len() as u64;
        }
        Self { value: digest.finalize(), length_bytes }
    }

    /// A checksum that was computed before, of so many bytes.
    #[must_use]
    pub const fn known(value: u64, length_bytes: u64) -> Self {
        Self { value, length_bytes }
    }

    /// The checksum of these bytes followed by those of `next`.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        if self.length_bytes == 0 {
            return next;
        }
        let value = multiply(self.value, power_of_x(next.length_bytes)) ^ next.value;
        Self { value, length_bytes: self.length_bytes + next.length_bytes }
    }

    /// The checksum.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.value
    }

    /// Length of what was summed, in bytes.
    #[must_use]
    pub const fn length_bytes(self) -> u64 {
        self.length_bytes
    }

    /// The checksum as 16 lower-case hex digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        format!("{:016x}", self.value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_check_value_of_the_catalogue_comes_out() {
        assert_eq!(Crc64::of([&Bytes::from_static(b"123456789")]).to_hex(), "ae8b14860a799888");
    }

    #[test]
    fn a_checksum_combined_from_parts_is_that_of_the_whole() {
        let (a, b) = (Bytes::from_static(b"1234"), Bytes::from_static(b"56789"));
        let whole = Crc64::of([&a, &b]);
        assert_eq!(Crc64::of([&a]).then(Crc64::of([&b])), whole);
        assert_eq!(Crc64::default().then(whole), whole);
        assert_eq!(whole.then(Crc64::default()), whole);
    }

    proptest! {
        #[test]
        fn combining_is_as_the_crate_does_it(first: u64, second: u64, length_bytes in 1..u64::MAX, shift in 0..64_u32) {
            let length_bytes = (length_bytes >> shift).max(1);
            let expected = crc_fast::checksum_combine(crc_fast::CrcAlgorithm::Crc64Nvme, first, second, length_bytes);
            prop_assert_eq!(multiply(first, power_of_x(length_bytes)) ^ second, expected);
        }
    }
}
