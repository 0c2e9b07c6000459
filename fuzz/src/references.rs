//! Classifying references, against a rule that takes URLs apart with patterns.

use std::sync::LazyLock;

use fhir_export::resource::reference::{BaseUrls, Reference};
use regex::Regex;

static LOCAL: LazyLock<Regex> = LazyLock::new(|| Regex::new(&format!("^{TAIL}$")).expect("a constant"));
static ABSOLUTE: LazyLock<Regex> = LazyLock::new(|| Regex::new(&format!("^(?<base>.*)/{TAIL}$")).expect("a constant"));
static URL: LazyLock<Regex> = LazyLock::new(|| {
    let text = r"^(?<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?<host>[^/:?#\x00-\x20\x7f][^/?#\x00-\x20\x7f]*)(?<path>(/[^?#\x00-\x20\x7f]*)?)$";
    Regex::new(text).expect("a constant")
});

const TAIL: &str = r"(?<type>[A-Z][A-Za-z]{1,63})/(?<id>[A-Za-z0-9.-]{1,64})(/_history/[A-Za-z0-9.-]{1,64})?";

/// Bases, a line each, and in the last line a reference.
pub fn references(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (bases, reference) = text.rsplit_once('\n').unwrap_or(("", text));
    let bases: Vec<&str> = bases.split('\n').filter(|base| !base.is_empty()).collect();
    let own: Vec<_> =
        bases.iter().filter_map(|base| normal(base)).filter(|(scheme, ..)| scheme.starts_with("http")).collect();
    let Ok(urls) = BaseUrls::new(&bases) else {
        let fit = |base: &&&str| normal(base).is_some_and(|(scheme, ..)| matches!(scheme.as_str(), "http" | "https"));
        assert!(bases.iter().filter(fit).count() < bases.len(), "all of {bases:?} would do");
        return;
    };
    assert_eq!(own.len(), bases.len(), "{bases:?}");
    let found = match urls.classify(reference) {
        Reference::Local { resource_type, id } => Some((true, resource_type, id)),
        Reference::Foreign { resource_type, id } => Some((false, resource_type, id)),
        Reference::Other => None,
    };
    assert_eq!(found, expected(reference, &own), "{reference:?} on {bases:?}");
}

type Normal = (String, String, String);

fn expected<'r>(reference: &'r str, own: &[Normal]) -> Option<(bool, &'r str, &'r str)> {
    let piece = |captures: &regex::Captures<'r>, name| captures.name(name).map_or("", |found| found.as_str());
    if let Some(captures) = LOCAL.captures(reference) {
        return Some((true, piece(&captures, "type"), piece(&captures, "id")));
    }
    let captures = ABSOLUTE.captures(reference)?;
    let base = normal(piece(&captures, "base"))?;
    Some((own.contains(&base), piece(&captures, "type"), piece(&captures, "id")))
}

/// Scheme, host and path of a base, so that equal ones are equal texts.
fn normal(base: &str) -> Option<Normal> {
    let captures = URL.captures(base)?;
    let scheme = captures["scheme"].to_ascii_lowercase();
    let mut host = captures["host"].to_ascii_lowercase();
    let port = match scheme.as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => "no port",
    };
    if scheme.starts_with("http") && scheme.len() < 6 {
        let bare = host.strip_suffix(port).or_else(|| host.strip_suffix(':')).map(str::to_owned);
        host = bare.unwrap_or(host);
    }
    Some((scheme, host, captures["path"].trim_end_matches('/').to_owned()))
}
