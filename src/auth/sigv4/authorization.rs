//! The header `Authorization`.

use super::Refusal;

pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What the header holds, as it is written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authorization<'a> {
    pub(super) credential: &'a str,
    pub(super) signed_headers: &'a str,
    pub(super) signature: &'a str,
}

/// Takes the header apart.
///
/// # Errors
/// When the algorithm is another, a part is missing, or there is one twice or too many.
pub(super) fn read(header: &str) -> Result<Authorization<'_>, Refusal> {
    let Some(parts) = header.strip_prefix(ALGORITHM).and_then(|rest| rest.strip_prefix(' ')) else {
        return Err(Refusal::Incomplete("Authorization must begin with AWS4-HMAC-SHA256"));
    };
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for part in parts.split(',') {
        let slot = match part.trim_matches(' ').split_once('=') {
            Some(("Credential", value)) => credential.replace(value),
            Some(("SignedHeaders", value)) => signed_headers.replace(value),
            Some(("Signature", value)) => signature.replace(value),
            _ => return Err(Refusal::Incomplete("Authorization holds a part that isn't known")),
        };
        if slot.is_some() {
            return Err(Refusal::Incomplete("Authorization holds a part twice"));
        }
    }
    match (credential, signed_headers, signature) {
        (Some(credential), Some(signed_headers), Some(signature)) => {
            Ok(Authorization { credential, signed_headers, signature })
        }
        _ => Err(Refusal::Incomplete("Authorization requires Credential, SignedHeaders and Signature")),
    }
}

/// Reads a signature: 64 lower-case hex digits.
///
/// # Errors
/// When it isn't that.
pub(super) fn read_signature(text: &str) -> Result<[u8; 32], Refusal> {
    read_hash(text).ok_or(Refusal::Incomplete("Signature must be 64 lower-case hex digits"))
}

/// Reads a hash of 64 lower-case hex digits.
pub(super) fn read_hash(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    bytes.filter(|_| rest.is_empty())?.try_into().ok()
}

/// Writes bytes as lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_may_be_in_any_order_with_or_without_blanks() {
        let expected = Authorization { credential: "c", signed_headers: "h;i", signature: "s=" };
        for header in [
            "AWS4-HMAC-SHA256 Credential=c, SignedHeaders=h;i, Signature=s=",
            "AWS4-HMAC-SHA256 Signature=s=,SignedHeaders=h;i,Credential=c",
            "AWS4-HMAC-SHA256   Credential=c ,  SignedHeaders=h;i,Signature=s=",
        ] {
            assert_eq!(read(header), Ok(Authorization { ..expected }), "{header}");
        }
    }

    #[test]
    fn headers_of_other_algorithms_and_other_parts_are_refused() {
        for header in [
            "",
            "AWS4-HMAC-SHA256",
            "AWS4-HMAC-SHA256 ",
            "AWS4-HMAC-SHA256Credential=c, SignedHeaders=h, Signature=s",
            "AWS4-HMAC-SHA1 Credential=c, SignedHeaders=h, Signature=s",
            "aws4-hmac-sha256 Credential=c, SignedHeaders=h, Signature=s",
            "AWS4-ECDSA-P256-SHA256 Credential=c, SignedHeaders=h, Signature=s",
            "AWS4-HMAC-SHA256 Credential=c, SignedHeaders=h",
            "AWS4-HMAC-SHA256 Credential=c, SignedHeaders=h, Signature=s,",
            "AWS4-HMAC-SHA256 Credential=c, SignedHeaders=h, Signature=s, Signature=s",
            "AWS4-HMAC-SHA256 Credential=c, SignedHeaders=h, Signature=s, X=y",
            "AWS4-HMAC-SHA256 credential=c, SignedHeaders=h, Signature=s",
        ] {
            assert!(read(header).is_err(), "{header}");
        }
    }

    #[test]
    fn a_hash_has_64_lower_case_digits() {
        let hash: [u8; 32] = std::array::from_fn(|index| u8::try_from(index * 8 + 3).unwrap());
        assert_eq!(read_hash(&hex(&hash)), Some(hash));
        for text in
            ["", "ab", &"ab".repeat(31), &"ab".repeat(33), &"aB".repeat(32), &"0g".repeat(32), &"abc".repeat(21)]
        {
            assert_eq!(read_hash(text), None, "{text}");
        }
    }
}
