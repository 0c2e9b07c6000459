//! Canonical queries, and the parameters of a presigned URL.

use std::collections::BTreeSet;

use percent_encoding::percent_decode_str;

use super::Refusal;
use super::path::{escape, unescape};

/// The parameters of a presigned URL, as they are spelt.
pub(super) const SIGNING: [&str; 8] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "X-Amz-Content-Sha256",
];

const SIGNATURE: &str = "X-Amz-Signature";

/// A query, taken apart.
pub(super) struct Query<'a>(Vec<Pair<'a>>);

struct Pair<'a> {
    raw_name: &'a str,
    raw_value: &'a str,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl<'a> Query<'a> {
    /// Takes a query apart.
    ///
    /// # Errors
    /// When an escape is broken, or a parameter `X-Amz-…` occurs twice, in whatever case.
    pub(super) fn read(query: Option<&'a str>) -> Result<Self, Refusal> {
        let mut pairs = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (raw_name, raw_value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (unescape(raw_name), unescape(raw_value)) else {
                return Err(Refusal::Incomplete("The query holds a broken escape"));
            };
            pairs.push(Pair { raw_name, raw_value, name, value });
        }
        let mut seen = BTreeSet::new();
        let is_new = |pair: &Pair<'_>| !is_of_amazon(&pair.name) || seen.insert(pair.name.to_ascii_lowercase());
        if pairs.iter().all(is_new) {
            Ok(Self(pairs))
        } else {
            Err(Refusal::Incomplete("A query parameter X-Amz-... occurs twice"))
        }
    }

    /// Whether a parameter says that the URL is presigned, in whatever case it is spelt.
    pub(super) fn is_presigned(&self) -> bool {
        self.0.iter().any(|pair| is_signing(&pair.name))
    }

    /// Whether those of some parameters that are there, in whatever case, are spelt like that and text.
    pub(super) fn spells(&self, names: &[&str]) -> bool {
        self.0.iter().all(|pair| {
            let same = names.iter().find(|name| pair.name.eq_ignore_ascii_case(name.as_bytes()));
            same.is_none_or(|name| pair.name == name.as_bytes() && std::str::from_utf8(&pair.value).is_ok())
        })
    }

    /// The value of a parameter, if it is there and text.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let pair = self.0.iter().find(|pair| pair.name == name.as_bytes())?;
        std::str::from_utf8(&pair.value).ok()
    }

    /// The canonical queries that signers make: the one of the rules, and the pairs as they came in order. Neither holds
    /// the signature of a presigned URL.
    ///
    /// botocore signs a query as it is sent, whether or not it is escaped as the rules say. A pair that is sent as the rules
    /// write another means the same as that one, so neither passes for something else. By the rules, a raw `+` is a plus, as
    /// `%2B` is: these two share a signature, and a form would read them differently. The order of pairs isn't signed.
    pub(super) fn canonical(&self) -> BTreeSet<String> {
        let signed = || self.0.iter().filter(|pair| pair.name != SIGNATURE.as_bytes());
        let by_rule = signed().map(|pair| (escape(&pair.name), escape(&pair.value))).collect();
        let as_sent = signed().map(|pair| (pair.raw_name.to_owned(), pair.raw_value.to_owned())).collect();
        BTreeSet::from([joined(by_rule), joined(as_sent)])
    }
}

/// Whether a query has a parameter of a presigned URL, even if it can't be read otherwise.
pub(super) fn looks_presigned(query: &str) -> bool {
    let name = |pair: &str| percent_decode_str(pair.split('=').next().unwrap_or_default()).collect::<Vec<u8>>();
    query.split('&').any(|pair| is_signing(&name(pair)))
}

fn is_signing(name: &[u8]) -> bool {
    SIGNING.iter().any(|signing| name.eq_ignore_ascii_case(signing.as_bytes()))
}

fn is_of_amazon(name: &[u8]) -> bool {
    name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"X-Amz-"))
}

/// The pairs by name, then by value.
fn joined(mut pairs: Vec<(String, String)>) -> String {
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(query: &str) -> Vec<String> {
        let query = Query::read(Some(query)).unwrap_or_else(|_| panic!("{query}"));
        query.canonical().into_iter().collect()
    }

    #[test]
    fn pairs_are_in_order_and_escaped_by_rule_and_as_sent() {
        assert_eq!(canonical("b=2&a=2&a=1&c"), ["a=1&a=2&b=2&c="]);
        assert_eq!(canonical("_type=A,B"), ["_type=A%2CB", "_type=A,B"]);
        assert_eq!(canonical("t=1+2"), ["t=1%2B2", "t=1+2"]);
        assert_eq!(canonical("t=%2b"), ["t=%2B", "t=%2b"]);
        assert_eq!(canonical("a=b=c&&"), ["a=b%3Dc", "a=b=c"]);
        assert_eq!(canonical(""), [""]);
    }

    #[test]
    fn names_are_in_order_as_they_are_escaped() {
        assert_eq!(canonical("Param-3=3&Param=2&%E1%88%B4=1"), ["%E1%88%B4=1&Param=2&Param-3=3"]);
    }

    #[test]
    fn the_signature_of_a_presigned_url_is_left_out() {
        assert_eq!(canonical("X-Amz-Signature=ab&a=1"), ["a=1"]);
        assert_eq!(canonical("X-Amz-%53ignature=ab&a=1"), ["a=1"]);
    }

    #[test]
    fn broken_escapes_and_repeated_parameters_of_amazon_are_refused() {
        for query in
            ["a=%", "a=%2", "%zz=1", "X-Amz-Date=1&X-Amz-Date=1", "X-Amz-Date=1&x-amz-date=2", "X-Amz-A&%58-Amz-a"]
        {
            assert!(Query::read(Some(query)).is_err(), "{query}");
        }
    }

    #[test]
    fn any_spelling_of_a_signing_parameter_makes_a_url_presigned() {
        for (query, is_presigned) in
            [("X-Amz-Signature=", true), ("x-amz-date", true), ("%58-amz-EXPIRES=1", true), ("a=X-Amz-Date", false)]
        {
            assert_eq!(Query::read(Some(query)).is_ok_and(|query| query.is_presigned()), is_presigned, "{query}");
            assert_eq!(looks_presigned(query), is_presigned, "{query}");
        }
    }
}
