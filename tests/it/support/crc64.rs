//! CRC64NVME by its definition, to check the fast one with.

/// The polynomial, bits reversed. Source: the catalogue of CRC algorithms, CRC-64/NVME.
const POLYNOMIAL: u64 = 0x9a6c_9329_ac4b_c9b5;

const TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u64, 0);
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL * (crc & 1));
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

pub(crate) fn crc64nvme(bytes: &[u8]) -> u64 {
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ TABLE[(crc as u8 ^ byte) as usize])
}

#[test]
fn the_check_value_of_the_catalogue_comes_out() {
    assert_eq!(crc64nvme(b"123456789"), 0xae8b_1486_0a79_9888);
}
