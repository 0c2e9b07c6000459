//! Canonical paths.

use std::collections::BTreeSet;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::Refusal;

/// What the rules escape: all but letters, digits and these.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Bytes with their escapes, as the rules write them.
pub(super) fn escape(bytes: &[u8]) -> String {
    percent_encode(bytes, ESCAPED).to_string()
}

/// Undoes escapes; `None` if one is broken.
pub(super) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let [high, low, beyond @ ..] = after else {
            if *first == b'%' {
                return None;
            }
            bytes.push(*first);
            rest = after;
            continue;
        };
        if *first == b'%' {
            bytes.push(hex_digit(*high)? << 4 | hex_digit(*low)?);
            rest = beyond;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    Some(bytes)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The canonical paths that signers make of a path: what it means escaped once, the same escaped twice, the path as it came,
/// and that escaped once more.
///
/// The rule for services other than S3 escapes the escaped path once more, so it depends on which characters a signer's
/// HTTP library escapes: `$export` becomes `%24export` if the `$` is sent as it is, `%2524export` if it is sent as `%24`.
/// Some signers escape once, whatever they send, and curl up to 7.88 signs what it sends.
///
/// No two paths that mean something else have one of these in common. A path here means no `%`, since `%25` is refused:
/// - Escaping is injective, so two paths have a canonical path of the same kind in common only if they mean the same.
/// - If the meaning m, escaped once, were another n escaped twice, m would be n escaped once. Without `%` in m nothing was
///   escaped in n, and both are the same.
/// - If the path p of the meaning m, as it came and escaped once more, is n escaped once, then p is n; n has no `%`, so
///   nothing in p is an escape and m is n. If it is n escaped twice, then p is n escaped once, and means n.
/// - If the path p of the meaning m, as it came, is n escaped once, then m is n. If it is n escaped twice, or another path q as
///   it came escaped once more, then m is n escaped once, or q: without `%` in it, so they mean m themselves.
///
/// # Errors
/// When the path holds what servers and signers don't read alike.
pub(super) fn canonical_paths(path: &str) -> Result<BTreeSet<String>, Refusal> {
    const REFUSED: Refusal = Refusal::Incomplete(
        "The path must begin with a slash, and not hold empty or dot segments, escaped slashes or per cent signs, \
         backslashes, control characters or broken escapes",
    );
    let rest = path.strip_prefix('/').ok_or(REFUSED)?;
    let inner = rest.strip_suffix('/').unwrap_or(rest);
    let mut meaning = String::new();
    if !rest.is_empty() {
        for segment in inner.split('/') {
            let bytes = unescape(segment).filter(|bytes| is_plain(bytes)).ok_or(REFUSED)?;
            meaning.push('/');
            meaning.push_str(&escape(&bytes));
        }
    }
    if rest.is_empty() || rest.len() > inner.len() {
        meaning.push('/');
    }
    Ok(BTreeSet::from([escape_segments(&meaning), escape_segments(path), path.to_owned(), meaning]))
}

/// Whether a segment, without its escapes, is read alike by everybody.
fn is_plain(segment: &[u8]) -> bool {
    !matches!(segment, b"" | b"." | b"..")
        && !segment.iter().any(|byte| matches!(byte, b'/' | b'%' | b'\\') || byte.is_ascii_control())
}

fn escape_segments(path: &str) -> String {
    path.split('/').map(|segment| escape(segment.as_bytes())).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(path: &str) -> Vec<String> {
        canonical_paths(path).unwrap_or_else(|_| panic!("{path}")).into_iter().collect()
    }

    #[test]
    fn the_dollar_of_export_is_known_in_all_spellings_of_signers() {
        assert_eq!(all("/r4/$export"), ["/r4/$export", "/r4/%24export", "/r4/%2524export"]);
        assert_eq!(all("/r4/%24export"), ["/r4/%24export", "/r4/%2524export"]);
        assert_eq!(all("/a%20b/$c"), ["/a%20b/$c", "/a%20b/%24c", "/a%2520b/%24c", "/a%2520b/%2524c"]);
    }

    #[test]
    fn a_plain_path_has_one_spelling() {
        for path in ["/", "/r4", "/r4/", "/datastore/0123/r4/export/abc-1._~"] {
            assert_eq!(all(path), [path]);
        }
    }

    #[test]
    fn what_is_not_read_alike_by_everybody_is_refused() {
        for path in [
            "",
            "r4",
            "*",
            "//",
            "/r4//",
            "//r4",
            "/a//b",
            "/.",
            "/..",
            "/a/../b",
            "/a/./b",
            "/%2e%2E/b",
            "/.%2e",
            "/a%2Fb",
            "/a%2fb",
            "/a%5cb",
            "/a\\b",
            "/a%",
            "/a%2",
            "/a%2x",
            "/a%zz",
            "/a%25b",
            "/%2524export",
            "/a%00",
            "/a%0a",
            "/a\r\nb",
            "/a\u{7f}",
            "/%2F",
            "http://host/a",
            "/a/..",
        ] {
            assert!(canonical_paths(path).is_err(), "{path:?}");
        }
    }

    fn path() -> impl Strategy<Value = String> {
        prop::collection::vec("(/([ab$ ~.+é]|%24|%20|%2e|%61|%C3%A9|%c3%a9|%25){1,3}){1,2}/?", 1)
            .prop_map(|mut paths| paths.remove(0))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn no_two_paths_of_other_meaning_share_a_canonical_path(one in path(), other in path()) {
            let (Ok(first), Ok(second)) = (canonical_paths(&one), canonical_paths(&other)) else { return Ok(()) };
            let same = unescape(&one) == unescape(&other);
            prop_assert_eq!(same, first.intersection(&second).next().is_some());
        }

        #[test]
        fn escapes_are_undone(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            prop_assert_eq!(unescape(&escape(&bytes)), Some(bytes));
        }
    }
}
