//! References from one resource to another, and which of them name a resource of this source.
//!
//! Source of the grammar: <https://hl7.org/fhir/R4/references.html#literal>. A reference counts as local when it is
//! relative (`Patient/1`), versioned (`Patient/1/_history/2`), or absolute on one of the source's own bases. The same
//! shape on another base names another server's resource: another server's `Patient/1` is another person.

use std::str::FromStr;

use crate::error::{Error, ErrorKind};

const MAX_ID_BYTES: usize = 64;
const MAX_TYPE_BYTES: usize = 64;

/// What a reference names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference<'a> {
    /// A resource of this source.
    Local {
        /// The type, `[A-Z][A-Za-z]{1,63}`.
        resource_type: &'a str,
        /// The logical id, `[A-Za-z0-9\-.]{1,64}`.
        id: &'a str,
    },
    /// A resource on a base that isn't the source's own.
    Foreign {
        /// The type, `[A-Z][A-Za-z]{1,63}`.
        resource_type: &'a str,
        /// The logical id, `[A-Za-z0-9\-.]{1,64}`.
        id: &'a str,
    },
    /// Nothing that could be followed: `urn:…`, contained (`#p`), a search (`Patient?identifier=1`), empty, junk.
    Other,
}

/// The base URLs under which the source's resources are known.
///
/// Scheme and host compare without case, a default port and trailing slashes don't matter, the path compares exactly:
/// `https://h/fhir` isn't a base of `https://h/fhir2/Patient/1`. Percent escapes and `..` are taken as they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseUrls(Vec<BaseUrl>);

/// One base URL, normalised: lower case, no default port, no trailing slash.
#[derive(Clone, Debug, PartialEq, Eq)]
struct BaseUrl {
    scheme: String,
    authority: String,
    path: String,
}

impl BaseUrls {
    /// Takes bases such as `https://example.org/fhir/`. No base at all is fine: then only relative references are local.
    ///
    /// # Errors
    /// When one of them isn't `http://` or `https://` with a host, or has a query or a fragment.
    pub fn new<I: IntoIterator<Item: AsRef<str>>>(bases: I) -> Result<Self, Error> {
        bases.into_iter().map(|base| base.as_ref().parse()).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there is no base, so that only relative references are local.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bases, normalised.
    pub fn iter(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|BaseUrl { scheme, authority, path }| format!("{scheme}://{authority}{path}"))
    }

    /// Tells what a reference names.
    ///
    /// A fragment or a query anywhere makes it [`Reference::Other`]: `Patient/1#x` names a part of a resource, and R4
    /// lets nobody reference a contained resource from outside. So does anything before or after, blanks included.
    #[must_use]
    pub fn classify<'a>(&self, reference: &'a str) -> Reference<'a> {
        if let Some((resource_type, id)) = relative(reference) {
            return Reference::Local { resource_type, id };
        }
        self.classify_absolute(reference).unwrap_or(Reference::Other)
    }

    /// A reference taken apart without regard to whose base it is on: the base as [`iter`](Self::iter) gives it, empty if
    /// relative, the type and the id; `None` if it names no resource. Whoever keeps references keeps them so, and asks for
    /// the bases that count when they are read.
    #[must_use]
    pub fn take_apart(reference: &str) -> Option<(String, &str, &str)> {
        if let Some((resource_type, id)) = relative(reference) {
            return Some((String::new(), resource_type, id));
        }
        let (base, resource_type, id) = split_tail(reference)?;
        let Url { scheme, authority, path } = Url::split(base)?;
        Some((format!("{}://{}{path}", scheme.to_ascii_lowercase(), authority.to_ascii_lowercase()), resource_type, id))
    }

    fn classify_absolute<'a>(&self, reference: &'a str) -> Option<Reference<'a>> {
        let (base, resource_type, id) = split_tail(reference)?;
        let url = Url::split(base)?;
        let own = self.0.iter().any(|base| url.is(base));
        Some(if own { Reference::Local { resource_type, id } } else { Reference::Foreign { resource_type, id } })
    }
}

impl FromStr for BaseUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            let shown: String = text.chars().take(100).collect();
            Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "the base URL {shown:?} can't be used: give http:// or https://, a host, and a path without query"
                ),
            )
        };
        let url = Url::split(text).ok_or_else(wrong)?;
        let scheme = url.scheme.to_ascii_lowercase();
        if !matches!(scheme.as_str(), "http" | "https") {
            return Err(wrong());
        }
        Ok(Self { scheme, authority: url.authority.to_ascii_lowercase(), path: url.path.to_owned() })
    }
}

/// The pieces of a base as somebody wrote it, default port and trailing slashes left out.
#[derive(Clone, Copy)]
struct Url<'a> {
    scheme: &'a str,
    authority: &'a str,
    path: &'a str,
}

impl<'a> Url<'a> {
    fn split(text: &'a str) -> Option<Self> {
        if text.bytes().any(|byte| matches!(byte, 0..=b' ' | b'?' | b'#' | 0x7F)) {
            return None;
        }
        let (scheme, rest) = text.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let authority = without_default_port(scheme, authority);
        let host_is_empty = authority.is_empty() || authority.starts_with(':');
        if !is_scheme(scheme) || host_is_empty {
            return None;
        }
        Some(Self { scheme, authority, path: path.trim_end_matches('/') })
    }

    fn is(&self, base: &BaseUrl) -> bool {
        self.path == base.path
            && self.authority.eq_ignore_ascii_case(&base.authority)
            && self.scheme.eq_ignore_ascii_case(&base.scheme)
    }
}

fn without_default_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let port = if scheme.eq_ignore_ascii_case("http") {
        ":80"
    } else if scheme.eq_ignore_ascii_case("https") {
        ":443"
    } else {
        return authority;
    };
    // `host:` with an empty port is the default port too (RFC 3986 section 3.2.3).
    authority.strip_suffix(port).or_else(|| authority.strip_suffix(':')).unwrap_or(authority)
}

fn is_scheme(scheme: &str) -> bool {
    let Some((first, rest)) = scheme.as_bytes().split_first() else { return false };
    first.is_ascii_alphabetic()
        && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// Takes `Type/id` or `Type/id/_history/version` apart.
fn relative(reference: &str) -> Option<(&str, &str)> {
    let (resource_type, rest) = reference.split_once('/')?;
    if !is_type(resource_type) {
        return None;
    }
    let id = match rest.split_once('/') {
        None => rest,
        Some((id, rest)) => {
            if !is_id(rest.strip_prefix("_history/")?) {
                return None;
            }
            id
        }
    };
    is_id(id).then_some((resource_type, id))
}

/// Splits `…/Type/id` or `…/Type/id/_history/version` into the base, the type and the id.
fn split_tail(reference: &str) -> Option<(&str, &str, &str)> {
    let (mut rest, mut id) = reference.rsplit_once('/')?;
    // No id holds an underscore, so `_history` before the last piece can only mean a version.
    if let Some(before) = rest.strip_suffix("/_history") {
        if !is_id(id) {
            return None;
        }
        (rest, id) = before.rsplit_once('/')?;
    }
    let (base, resource_type) = rest.rsplit_once('/')?;
    (is_id(id) && is_type(resource_type)).then_some((base, resource_type, id))
}

fn is_id(id: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

fn is_type(name: &str) -> bool {
    let Some((first, rest)) = name.as_bytes().split_first() else { return false };
    first.is_ascii_uppercase() && (2..=MAX_TYPE_BYTES).contains(&name.len()) && rest.iter().all(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bases() -> BaseUrls {
        BaseUrls::new(["https://Example.org/fhir/", "http://localhost:8080", "http://old.example.org:80/r4"]).unwrap()
    }

    #[test]
    fn relative_and_versioned_references_are_local_and_so_are_those_on_an_own_base() {
        for (reference, id) in [
            ("Patient/1", "1"),
            ("Patient/1/_history/2", "1"),
            ("Patient/a-B.9", "a-B.9"),
            ("https://example.org/fhir/Patient/1", "1"),
            ("HTTPS://EXAMPLE.ORG:443/fhir/Patient/1", "1"),
            ("https://example.org/fhir//Patient/1/_history/7", "1"),
            ("http://LOCALHOST:8080/Patient/1", "1"),
            ("http://old.example.org/r4/Patient/1", "1"),
            ("http://old.example.org:/r4/Patient/1", "1"),
        ] {
            assert_eq!(bases().classify(reference), Reference::Local { resource_type: "Patient", id }, "{reference}");
        }
    }

    #[test]
    fn the_same_shape_on_another_base_is_foreign() {
        for reference in [
            "https://example.org/fhir2/Patient/1",
            "https://example.org/Patient/1",
            "https://example.org/fhir/r4/Patient/1",
            "https://example.org/FHIR/Patient/1",
            "https://example.org:8443/fhir/Patient/1",
            "http://example.org/fhir/Patient/1",
            "https://evil.org/https://example.org/fhir/Patient/1",
            "https://example.org@evil.org/fhir/Patient/1/_history/3",
            "https://localhost:8080/Patient/1",
            "https://localhost:80/Patient/1",
        ] {
            let expected = Reference::Foreign { resource_type: "Patient", id: "1" };
            assert_eq!(bases().classify(reference), expected, "{reference}");
        }
    }

    #[test]
    fn what_names_no_resource_is_neither() {
        let long = format!("Patient/{}", "1".repeat(65));
        for reference in [
            "",
            "#",
            "#p",
            "/",
            "Patient",
            "Patient/",
            "/Patient/1",
            "./Patient/1",
            "patient/1",
            "P/1",
            "Patient/1/",
            " Patient/1",
            "Patient/1 ",
            "Patient/1#x",
            "Patient/1?x=y",
            "Patient?identifier=http://h/s|1",
            "Patient/1/_history",
            "Patient/1/_history/",
            "Patient/1/_history/2/",
            "Patient/1/history/2",
            "Patient/_history/2",
            "Patient/a_b",
            "Patient/é",
            "Patient/1/Observation/2",
            "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0",
            "urn:oid:1.2/Patient/1",
            "https://example.org/fhir/Patient?identifier=1",
            "https://example.org/fhir?x=/Patient/1",
            "https://h#/Patient/1",
            "https:///Patient/1",
            "https://:443/Patient/1",
            "//example.org/fhir/Patient/1",
            "://h/Patient/1",
            "a b://h/Patient/1",
            "https://Patient/1",
            "https://example.org/fhir/Patient/1/",
            "https://example.org/fhir/Patient/1#x",
            &long,
        ] {
            assert_eq!(bases().classify(reference), Reference::Other, "{reference}");
        }
    }

    #[test]
    fn a_base_that_can_not_be_one_is_refused_by_name() {
        for bad in [
            "",
            "example.org/fhir",
            "ftp://h/fhir",
            "https://",
            "https:///x",
            "https://h/?a=b",
            "https://h/#x",
            "https://h /",
        ] {
            let error = BaseUrls::new([bad]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.message().contains(&format!("{bad:?}")), "{error}");
        }
        assert!(BaseUrls::new([""; 0]).unwrap().is_empty());
    }

    /// The rule in other words: cut everything at slashes, look at the pieces.
    fn oracle(reference: &str) -> Option<(bool, String, String)> {
        let mut pieces: Vec<&str> = reference.split('/').collect();
        if pieces.len() >= 4 && pieces[pieces.len() - 2] == "_history" {
            let version = pieces.pop()?;
            pieces.pop();
            id_oracle(version)?;
        }
        let id = id_oracle(pieces.pop()?)?;
        let resource_type = type_oracle(pieces.pop()?)?;
        if pieces.is_empty() {
            return Some((true, resource_type, id));
        }
        while pieces.len() > 3 && pieces.last() == Some(&"") {
            pieces.pop();
        }
        let (scheme, host) = (pieces.first()?.to_lowercase(), pieces.get(2)?.to_lowercase());
        let letters = scheme.strip_suffix(':')?;
        let clean = |text: &str| !text.contains(['?', '#', ' ']);
        if !pieces[1].is_empty() || letters.is_empty() || host.is_empty() || !clean(reference) {
            return None;
        }
        let host = match (letters, host.split_once(':')) {
            (_, None) => host,
            (_, Some(("", _))) => return None,
            ("http", Some((name, "" | "80"))) | ("https", Some((name, "" | "443"))) => name.to_owned(),
            _ => host,
        };
        let own = match (letters, host.as_str()) {
            ("https", "example.org") => pieces[3..] == ["fhir"],
            ("http", "localhost:8080") => pieces[3..].is_empty(),
            ("http", "old.example.org") => pieces[3..] == ["r4"],
            _ => false,
        };
        Some((own, resource_type, id))
    }

    fn id_oracle(text: &str) -> Option<String> {
        let allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.";
        (!text.is_empty() && text.len() <= 64 && text.chars().all(|char| allowed.contains(char)))
            .then(|| text.to_owned())
    }

    fn type_oracle(text: &str) -> Option<String> {
        crate::fhir::ResourceType::new(text).ok().map(|name| name.to_string())
    }

    fn piece() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "https:",
            "http:",
            "HTTPS:",
            "urn:",
            "",
            "example.org",
            "EXAMPLE.org:443",
            "example.org:80",
            "localhost:8080",
            "old.example.org",
            "old.example.org:80",
            "localhost:",
            ":80",
            "fhir",
            "r4",
            "fhir2",
            "Patient",
            "Group",
            "patient",
            "P",
            "1",
            "a-b.C",
            "a_b",
            "_history",
            "#p",
            "Patient?x=1",
            "1#x",
            " ",
            "é",
        ])
    }

    proptest! {
        #[test]
        fn what_is_taken_apart_is_local_if_its_base_counts(
            pieces in prop::collection::vec(piece(), 0..9), tail in any::<bool>()
        ) {
            let mut reference = pieces.concat();
            if tail {
                reference.push_str("https://EXAMPLE.org:443/fhir/Patient/1");
            }
            let own: Vec<String> = bases().iter().collect();
            let expected = match bases().classify(&reference) {
                Reference::Local { resource_type, id } => Some((true, resource_type, id)),
                Reference::Foreign { resource_type, id } => Some((false, resource_type, id)),
                Reference::Other => None,
            };
            let apart = BaseUrls::take_apart(&reference);
            let found = apart.as_ref().map(|(base, resource_type, id)| (base.is_empty() || own.contains(base), *resource_type, *id));
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn classifying_agrees_with_cutting_at_slashes(pieces in prop::collection::vec(piece(), 0..9), tail in any::<bool>()) {
            let mut reference = pieces.join("/");
            if tail {
                reference += "/Patient/1";
            }
            let expected = oracle(&reference);
            let found = match bases().classify(&reference) {
                Reference::Local { resource_type, id } => Some((true, resource_type.to_owned(), id.to_owned())),
                Reference::Foreign { resource_type, id } => Some((false, resource_type.to_owned(), id.to_owned())),
                Reference::Other => None,
            };
            prop_assert_eq!(found, expected, "{}", reference);
        }

        #[test]
        fn no_text_upsets_the_classification(reference in any::<String>()) {
            if let Reference::Local { id, .. } | Reference::Foreign { id, .. } = bases().classify(&reference) {
                prop_assert_eq!(id_oracle(id), Some(id.to_owned()));
            }
        }
    }
}
