//! The file of `serve --config`: any text. What is refused is told with its place and no secret.

#[path = "../../../src/bin/fhir-export/faults.rs"]
#[allow(dead_code, reason = "it is borrowed from the binary")]
mod faults;
mod screen;
mod serve;

use serve::told;

const SECRET: &str = "geheim";

/// A file, or how a secret is quoted, what is before it, the secret, and what is behind it, with `0x1E` between.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parts: Vec<&str> = text.splitn(4, '\u{1E}').collect();
    let [quotes, before, secret, behind] = parts.as_slice() else {
        drop(told(text));
        return;
    };
    let Some(secret) = quoted(quotes, secret) else { return };
    let Some(before) = bare(before) else { return };
    let text = [&before, "\nsecret = ", &secret, "\n", &behind.replace(SECRET, "")].concat();
    for line in told(&text) {
        assert!(!line.contains(SECRET), "{line:?} tells a secret");
    }
}

/// A secret that stays one value; one that names a variable of the environment is none.
fn quoted(quotes: &str, secret: &str) -> Option<String> {
    let (open, close) = match quotes {
        "'" | "\"" | "'''" | "\"\"\"" => (quotes, quotes),
        _ => ("", ""),
    };
    let ends = |byte: u8| close.as_bytes().first() == Some(&byte) || (close.len() < 3 && matches!(byte, b'\n' | b'\r'));
    if secret.bytes().any(ends) || secret.contains("${") {
        return None;
    }
    Some([open, secret, close].concat())
}

/// What is before a secret, so that the secret's line isn't one of a longer text.
fn bare(before: &str) -> Option<String> {
    let is_open = before.contains("'''") || before.contains("\"\"\"");
    (!is_open).then(|| before.replace(SECRET, ""))
}
