//! CRC64NVME of an object, combined from its parts, and SHA-256 where it is asked for.

use bytes::Bytes;

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
        let value =
            crc_fast::checksum_combine(crc_fast::CrcAlgorithm::Crc64Nvme, self.value, next.value, next.length_bytes);
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
}
