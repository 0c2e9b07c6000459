//! Canonical headers.

use super::{Head, Refusal};

/// What starts the names of headers that must be signed.
const OF_AMAZON: &[u8] = b"x-amz-";

/// Most headers that a signature may list: each is looked for among all headers of the request.
const SIGNED_MAX: usize = 100;

/// Headers that a request may have once only, so that everybody reads the same one.
const SINGLE: [&str; 6] =
    ["authorization", "host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token", "x-amz-target"];

/// Refuses headers that are there twice and mustn't be.
///
/// # Errors
/// When there are some.
pub(super) fn check_single(head: &Head<'_>) -> Result<(), Refusal> {
    if SINGLE.iter().any(|name| values(head, name).nth(1).is_some()) {
        return Err(Refusal::Incomplete("A header that may be there once is there twice"));
    }
    Ok(())
}

/// The value of a header, without blanks around it.
///
/// # Errors
/// When it has bytes that a header mustn't have.
pub(super) fn value<'a>(head: &Head<'a>, name: &str) -> Result<Option<&'a str>, Refusal> {
    values(head, name).next().map(text).transpose()
}

fn values<'a>(head: &Head<'a>, name: &str) -> impl Iterator<Item = &'a [u8]> {
    head.headers.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

/// Refused are bytes that readers of headers don't read alike; nothing that is signed has them.
fn text(value: &[u8]) -> Result<&str, Refusal> {
    let is_plain = value.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    match std::str::from_utf8(value) {
        Ok(text) if is_plain => Ok(text.trim_matches([' ', '\t'])),
        _ => Err(Refusal::Incomplete("A signed header holds bytes other than visible ASCII, blanks and tabs")),
    }
}

/// The names of signed headers, as a request lists them.
///
/// # Errors
/// When the list is too long or isn't sorted, names a header twice, or doesn't name one that it must.
pub(super) fn signed_names(list: &str, head: &Head<'_>) -> Result<Vec<String>, Refusal> {
    let names: Vec<&str> = list.split(';').take(SIGNED_MAX + 1).collect();
    if names.len() > SIGNED_MAX {
        return Err(Refusal::Incomplete("SignedHeaders lists too many headers"));
    }
    let is_name = |name: &&str| !name.is_empty() && name.bytes().all(is_name_byte);
    if !names.iter().all(is_name) || !names.is_sorted_by(|one, next| one < next) {
        return Err(Refusal::Incomplete("SignedHeaders must list names of headers in lower case, sorted, each once"));
    }
    if names.contains(&"authorization") {
        return Err(Refusal::Incomplete("SignedHeaders can't list the header that holds the signature"));
    }
    let is_listed = |name: &str| names.iter().any(|listed| listed.eq_ignore_ascii_case(name));
    let of_amazon =
        |name: &str| name.as_bytes().get(..OF_AMAZON.len()).is_some_and(|start| start.eq_ignore_ascii_case(OF_AMAZON));
    if !is_listed("host") || head.headers.iter().any(|(name, _)| of_amazon(name) && !is_listed(name)) {
        return Err(Refusal::Incomplete("SignedHeaders must list host, and every header x-amz-... of the request"));
    }
    if names.iter().any(|name| values(head, name).next().is_none()) {
        return Err(Refusal::Incomplete("SignedHeaders lists a header that the request doesn't have"));
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The signed headers with their values, a line for each, and the list of their names.
///
/// # Errors
/// When a value has bytes that a header mustn't have.
pub(super) fn canonical(head: &Head<'_>, signed: &[String]) -> Result<String, Refusal> {
    let mut lines = String::new();
    for name in signed {
        let mut joined = Vec::new();
        for value in values(head, name) {
            let words: Vec<&str> = text(value)?.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
            joined.push(words.join(" "));
        }
        lines.push_str(&format!("{name}:{}\n", joined.join(",")));
    }
    Ok(format!("{lines}\n{}", signed.join(";")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head<'a>(headers: &'a [(&'a str, &'a [u8])]) -> Head<'a> {
        Head { method: "GET", path: "/", query: None, headers }
    }

    #[test]
    fn values_are_trimmed_and_joined_in_order() {
        let headers: [(&str, &[u8]); 4] =
            [("host", b" a \t"), ("my-header", b" v2   \"x   y\" "), ("other", b"1"), ("my-header", b"v1")];
        let signed = signed_names("host;my-header", &head(&headers)).unwrap();
        assert_eq!(canonical(&head(&headers), &signed).unwrap(), "host:a\nmy-header:v2 \"x y\",v1\n\nhost;my-header");
    }

    #[test]
    fn lists_that_leave_something_out_or_are_not_lists_are_refused() {
        let headers: [(&str, &[u8]); 4] = [("host", b"a"), ("X-Amz-Target", b"t"), ("b", b""), ("authorization", b"x")];
        assert!(signed_names("b;host;x-amz-target", &head(&headers)).is_ok());
        for list in [
            "",
            "host",
            "b;host",
            "x-amz-target",
            "host;b;x-amz-target",
            "host;host;x-amz-target",
            "Host;x-amz-target",
            "host;x-amz-target;",
            ";host;x-amz-target",
            "host ;x-amz-target",
            "host;nowhere;x-amz-target",
            "authorization;host;x-amz-target",
            "host,x-amz-target",
            "h\u{f6}st;x-amz-target",
        ] {
            assert!(signed_names(list, &head(&headers)).is_err(), "{list:?}");
        }
    }

    #[test]
    fn a_hundred_headers_may_be_signed_and_no_more() {
        let names: Vec<String> = (0..100).map(|number| format!("h{number:03}")).chain(["host".to_owned()]).collect();
        let headers: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
        let head = Head { method: "GET", path: "/", query: None, headers: &headers };
        assert!(signed_names(&names[1..].join(";"), &head).is_ok());
        assert!(signed_names(&names.join(";"), &head).is_err());
    }

    #[test]
    fn bytes_that_are_not_read_alike_are_refused() {
        for bytes in [&b"a\0"[..], b"a\nb", b"a\rb", b"\x7f", b"\xff", "é".as_bytes()] {
            assert!(text(bytes).is_err(), "{bytes:?}");
        }
        assert_eq!(text(b"\t a\tb "), Ok("a\tb"));
    }

    #[test]
    fn single_headers_that_are_there_twice_are_refused() {
        for name in SINGLE {
            let headers: [(&str, &[u8]); 2] = [(name, b"a"), (name, b"a")];
            assert!(check_single(&head(&headers)).is_err(), "{name}");
        }
        assert!(check_single(&head(&[("a", b""), ("a", b"")])).is_ok());
    }
}
