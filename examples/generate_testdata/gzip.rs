//! Gzip members of stored blocks: the same bytes whatever version of a compressor is installed.

use flate2::Crc;

/// Longest stored block of deflate, in bytes.
const MAX_STORED_BYTES: usize = 0xFFFF;

/// One gzip member that holds `data`.
pub(crate) fn member(data: &[u8]) -> Vec<u8> {
    // Magic, deflate, no flags, no time, no extra flags, unknown operating system (RFC 1952 section 2.3).
    let mut out = vec![0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF];
    let mut chunks: Vec<&[u8]> = data.chunks(MAX_STORED_BYTES).collect();
    if chunks.is_empty() {
        chunks.push(&[]);
    }
    let last = chunks.len() - 1;
    for (index, chunk) in chunks.into_iter().enumerate() {
        let length = u16::try_from(chunk.len()).unwrap_or(u16::MAX);
        out.push(u8::from(index == last));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(chunk);
    }
    let mut crc = Crc::new();
    crc.update(data);
    out.extend(crc.sum().to_le_bytes());
    out.extend(crc.amount().to_le_bytes());
    out
}

/// Gzip members that end after so many bytes of `data` each, wherever a line may end; the last holds the rest.
pub(crate) fn members(data: &[u8], ends: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = data;
    for &length in ends {
        let (head, tail) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        out.extend(member(head));
        rest = tail;
    }
    out.extend(member(rest));
    out
}
