//! Signatures of AWS: any head, and what our own signer makes of one, whole and with a byte changed.

use fhir_export::auth::sigv4::testing::{PathStyle, Signer, Unsigned};
use fhir_export::auth::sigv4::{Claimed, Expectation, Head, Secret, sha256};
use fhir_export::fhir::Instant;

const REGION: &str = "eu-west-1";
const HOST: &str = "localhost";

/// Lines: the method, the path, the query, then headers with a colon. The first byte says what is done with them.
pub fn sigv4(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let mut lines = text.split('\n');
    let [method, path, query] = [(); 3].map(|()| lines.next().unwrap_or_default());
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
    let bytes: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let as_sent = Head { method, path, query: Some(query), headers: &bytes };
    assert!(!holds(&as_sent, b"", None), "nobody signs with an example key by chance");
    round_trip(*how, method, path, query, &headers);
}

fn holds(head: &Head<'_>, body: &[u8], token: Option<&str>) -> bool {
    let is_claimed = Claimed::is_in(head);
    let signer = signer();
    let Ok(claimed) = Claimed::read(head, &signer.at, &Expectation::healthlake(REGION)) else { return false };
    assert!(is_claimed, "what can be read is seen to be signed");
    let secret = Secret { access_key: signer.secret, session_token: token };
    let is_known = claimed.access_key_id() == signer.access_key_id;
    let verdict = claimed.verify(is_known.then_some(&secret), &sha256(body));
    assert!(claimed.verify(None, &sha256(body)).is_err(), "without a secret nothing holds");
    verdict.is_ok()
}

fn signer() -> Signer<'static> {
    // 2026-11-24T03:00:00Z
    Signer::example(REGION, Instant::from_unix(1_795_489_200, 0))
}

/// What is signed holds, if it may be sent at all; and doesn't with another byte in it.
fn round_trip(how: u8, method: &str, path: &str, query: &str, headers: &[(&str, &str)]) {
    let token = (how & 1 != 0).then_some("a/token+");
    let path_style = if how & 2 != 0 { PathStyle::Once } else { PathStyle::Again };
    let signer = Signer { session_token: token, path_style, ..signer() };
    let is_presigned = how & 4 != 0;
    let mut signed: Vec<(&str, &str)> =
        headers.iter().copied().filter(|(name, value)| may_be_signed(name, value)).collect();
    signed.push(("host", HOST));
    let body: &[u8] = if is_presigned { b"" } else { b"{}" };
    let request = Unsigned { method, path, query, headers: &signed, body };
    let (query, added) = if is_presigned {
        (signer.presign(&request, 60), Vec::new())
    } else {
        (query.to_owned(), signer.sign(&request))
    };
    let mut sent: Vec<(&str, &[u8])> = signed.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    sent.extend(added.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
    let head = Head { method, path, query: Some(&query), headers: &sent };
    let expected = is_method(method) && is_plain_path(path) && is_plain_query(request.query);
    assert_eq!(holds(&head, body, token), expected, "{method} {path} {query}");

    let longer = format!("{path}x");
    assert!(!holds(&Head { path: &longer, ..head }, body, token), "another path");
    let longer = format!("{query}&x");
    assert!(!holds(&Head { query: Some(&longer), ..head }, body, token), "another query");
    assert!(!holds(&head, b"another", token), "another body");
    assert!(!holds(&head, body, Some("another")), "another token");
    let place = usize::from(how) % sent.len();
    if let Some((name, value)) = sent.get(place).copied() {
        let longer = [value, b"x"].concat();
        let mut changed = sent.clone();
        changed[place] = (name, &longer);
        assert!(!holds(&Head { headers: &changed, ..head }, body, token), "another {name}");
    }
}

/// Headers that a client may add to a request and sign.
fn may_be_signed(name: &str, value: &str) -> bool {
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let is_taken = ["host", "authorization"].contains(&name) || name.starts_with("x-amz-");
    is_name && !is_taken && value.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
}

fn is_method(method: &str) -> bool {
    !method.is_empty() && method.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'-'))
}

/// The rule for paths in other words: what may not be in a path is looked for in the whole of it.
fn is_plain_path(path: &str) -> bool {
    let Some(meaning) = decoded(path) else { return false };
    let lower = path.to_ascii_lowercase();
    let is_broken = lower.contains("%2f") || lower.contains("%25") || lower.contains("%5c") || path.contains('\\');
    let text: Vec<&[u8]> = meaning.split(|byte| *byte == b'/').collect();
    let has_dots = text.iter().any(|segment| *segment == b"." || *segment == b"..");
    let has_controls = meaning.iter().any(|byte| *byte < 0x20 || *byte == 0x7f);
    path.starts_with('/') && !path.contains("//") && !is_broken && !has_dots && !has_controls
}

fn is_plain_query(query: &str) -> bool {
    let name =
        |pair: &str| decoded(pair.split('=').next().unwrap_or_default()).unwrap_or_default().to_ascii_lowercase();
    let mut of_amazon: Vec<Vec<u8>> = query.split('&').map(name).filter(|name| name.starts_with(b"x-amz-")).collect();
    of_amazon.sort();
    let is_twice = of_amazon.windows(2).any(|pair| pair[0] == pair[1]);
    let is_for_urls =
        of_amazon.iter().any(|name| OF_URLS.iter().any(|of_urls| name == &[b"x-amz-", *of_urls].concat()));
    decoded(query).is_some() && query.split('&').all(decoded_halves) && !is_twice && !is_for_urls
}

/// What the parameters of a presigned URL are called behind `X-Amz-`.
const OF_URLS: [&[u8]; 8] = [
    b"algorithm",
    b"credential",
    b"date",
    b"expires",
    b"signedheaders",
    b"signature",
    b"security-token",
    b"content-sha256",
];

/// An escape doesn't reach over the `=`.
fn decoded_halves(pair: &str) -> bool {
    pair.split('=').all(|half| decoded(half).is_some())
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    Some(bytes)
}
