//! Whatever is changed after signing, the request is refused.

use proptest::prelude::*;
use proptest::sample::Index;

use super::super::path::unescape;
use super::*;

fn request() -> impl Strategy<Value = (Sent, bool)> {
    let path = "(/[a-zA-Z0-9$._~:@-]{1,6}[a-z]){1,3}/?";
    let query = "([a-z_]{1,4}=([a-zA-Z0-9,:]|%2B|%20){0,5}(&[a-z]=[0-9])?)?";
    (path, query, "[ -~]{0,9}", prop::collection::vec(any::<u8>(), 0..12), any::<bool>(), any::<bool>()).prop_map(
        |(path, query, value, body, is_presigned, has_token)| {
            let headers = [("host", "localhost:8080"), ("x-amz-meta", value.as_str())];
            let body = if is_presigned { Vec::new() } else { body };
            let method = if is_presigned { "GET" } else { "POST" };
            let request = Unsigned { method, path: &path, query: &query, headers: &headers, body: &body };
            let signer = Signer { session_token: has_token.then_some("a-token"), ..signer() };
            let sent = if is_presigned { presigned(&signer, &request, 60) } else { signed(&signer, &request) };
            (sent, has_token)
        },
    )
}

fn holds(sent: &Sent, has_token: bool) -> bool {
    let secret = Secret { session_token: has_token.then_some("a-token"), ..SECRET };
    let Ok(claimed) = sent.claimed(&signer().at, &Expectation::healthlake(REGION)) else { return false };
    // A server has another secret, or none, for another key.
    let secret = (claimed.access_key_id() == signer().access_key_id).then_some(&secret);
    claimed.verify(secret, &sha256(&sent.body)).is_ok()
}

/// What a request means, as far as it is signed.
fn meaning(sent: &Sent) -> impl PartialEq + std::fmt::Debug + use<> {
    let query = sent.query.clone().unwrap_or_default();
    let mut pairs: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (unescape(name), unescape(value)))
        .collect();
    pairs.sort();
    let words =
        |value: &[u8]| String::from_utf8_lossy(value).split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let headers: Vec<_> = sent.headers.iter().map(|(name, value)| (name.clone(), words(value))).collect();
    (sent.method.clone(), unescape(&sent.path), pairs, headers, sent.body.clone())
}

fn put(text: &mut String, place: Index, byte: u8) {
    let mut bytes = std::mem::take(text).into_bytes();
    if !bytes.is_empty() {
        let place = place.index(bytes.len());
        bytes[place] = byte;
    }
    *text = String::from_utf8_lossy(&bytes).into_owned();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_byte_of_it((sent, has_token) in request(), part in 0..4, which in any::<Index>(), place in any::<Index>(), byte in 0x20..0x7f_u8) {
        prop_assert!(holds(&sent, has_token), "{sent:?}");
        let mut changed = sent.clone();
        match part {
            0 => put(&mut changed.path, place, byte),
            1 => {
                let mut query = changed.query.take().unwrap_or_default();
                put(&mut query, place, byte);
                changed.query = Some(query);
            }
            2 => {
                let which = which.index(changed.headers.len());
                let value = &mut changed.headers[which].1;
                if !value.is_empty() {
                    let place = place.index(value.len());
                    value[place] = byte;
                }
            }
            _ => {
                let place = place.index(changed.body.len() + 1);
                changed.body.insert(place, byte);
            }
        }
        prop_assert_eq!(holds(&changed, has_token), meaning(&sent) == meaning(&changed), "{:?} {:?}", sent, changed);
    }

    #[test]
    fn its_method_its_key_its_region_or_a_bit_of_its_body((sent, has_token) in request(), bit in any::<Index>(), secret in "[!-~]{1,40}") {
        for method in ["GET", "POST", "DELETE", "PUT", "get", ""] {
            let changed = Sent { method: method.to_owned(), ..sent.clone() };
            prop_assert_eq!(holds(&changed, has_token), method == sent.method);
        }
        let other = Secret { access_key: &secret, session_token: has_token.then_some("a-token") };
        prop_assert!(sent.verdict(&other, &signer().at, &Expectation::healthlake(REGION)).is_err());
        prop_assert!(sent.verdict(&other, &signer().at, &Expectation::healthlake("eu-west-2")).is_err());
        if !sent.body.is_empty() {
            let mut changed = sent;
            let bit = bit.index(changed.body.len() * 8);
            changed.body[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!holds(&changed, has_token));
        }
    }

    #[test]
    fn nothing_panics(
        method in ".{0,5}", path in "(/|%|\\PC|2e|2F){0,9}", query in prop::option::of("(X-Amz-[DSEC][a-z]*|[&=%+]|\\PC){0,9}"),
        headers in prop::collection::vec((prop::sample::select(vec!["host", "authorization", "x-amz-date", "x-amz-b", "b"]), prop::collection::vec(any::<u8>(), 0..9)), 0..4),
        parts in "(AWS4-HMAC-SHA256 )?((Credential|SignedHeaders|Signature)?=[a-z0-9/;]{0,9}[ ,]?){0,4}",
    ) {
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let sent = Sent { method, path, query, headers, body: Vec::new() }.header("authorization", &parts);
        prop_assert!(!holds(&sent, false));
        sent.with(Claimed::is_in);
    }
}
