//! Where a source or a destination is: a path of the file system, or a URI.

use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};

/// Schemes that are taken for one though no `//` follows: hardly a file's name begins with them.
const KNOWN_SCHEMES: [&str; 7] = ["file", "s3", "gs", "az", "sqlite", "postgres", "postgresql"];

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// In the file system, by a path or a `file:` URI.
    Path(PathBuf),
    /// Anywhere else, by a URI of this scheme.
    Uri {
        /// In lower case.
        scheme: String,
    },
}

impl Location {
    /// Reads a path, `file:/path`, `file:///path`, `file://localhost/path` (RFC 8089), or any other URI.
    ///
    /// # Errors
    /// When the text is empty, or a `file:` URI has a host or no absolute path of UTF-8.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::new(ErrorKind::InvalidRequest, "a path or URI is empty"));
        }
        match scheme(text) {
            None => Ok(Self::Path(text.into())),
            Some((scheme, rest)) if scheme == "file" => decoded_path(text, rest).map(|path| Self::Path(path.into())),
            Some((scheme, _)) => Ok(Self::Uri { scheme }),
        }
    }
}

/// The path of a URI such as `sqlite:store.db`, `sqlite:/srv/store.db` or `sqlite:///srv/store.db`.
#[cfg_attr(not(feature = "sqlite"), allow(dead_code, reason = "only stores in files have such URIs"))]
pub(crate) fn path_behind_scheme(uri: &str) -> Result<PathBuf> {
    let path = uri.split_once(':').map_or("", |(_, rest)| rest.strip_prefix("//").unwrap_or(rest));
    if path.is_empty() {
        let message = "the URI names no file; write sqlite:store.db or sqlite:///srv/store.db";
        return Err(Error::new(ErrorKind::InvalidRequest, message).with("uri", excerpt(uri)));
    }
    Ok(path.into())
}

/// A path or URI as it would be typed in any working directory, without `/` at its end and without a password; what is
/// neither stays as it is.
#[must_use]
pub(crate) fn whole_uri(uri: &str) -> String {
    if scheme(uri).is_some_and(|(scheme, _)| scheme == "sqlite")
        && let Ok(path) = path_behind_scheme(uri).map(std::path::absolute)
        && let Some(path) = path.ok().as_deref().and_then(std::path::Path::to_str)
    {
        return format!("sqlite:{path}");
    }
    let trimmed = uri.trim_end_matches('/');
    let uri = if trimmed.is_empty() { uri } else { trimmed };
    let path = (scheme(uri).is_none() && !uri.is_empty()).then(|| std::path::absolute(uri).ok()).flatten();
    path.and_then(|path| path.to_str().map(str::to_owned)).unwrap_or_else(|| without_password(uri))
}

/// A password on its way to a server. It isn't shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Password(Option<String>);

impl Password {
    /// The password of a URI, if it has one.
    #[must_use]
    pub fn of(uri: &str) -> Self {
        let is_there = without_password(uri) != uri;
        Self(is_there.then(|| uri.to_owned()))
    }

    /// The URI that it came with, or else this one without.
    #[must_use]
    pub fn uri<'u>(&'u self, uri: &'u str) -> &'u str {
        self.0.as_deref().unwrap_or(uri)
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Password(…)" } else { "Password(none)" })
    }
}

/// A URI without the password that is in it.
#[must_use]
pub fn without_password(uri: &str) -> String {
    let Some((scheme, _)) = scheme(uri) else { return uri.to_owned() };
    let is_database = scheme.starts_with("postgres");
    let cut = without_user_password(uri, is_database);
    let Some((place, query)) = cut.split_once('?').filter(|_| is_database) else { return cut };
    let is_secret = |pair: &&str| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name).to_ascii_lowercase();
        name == "password" || name == "sslpassword"
    };
    let query: Vec<&str> = query.split('&').filter(|pair| !is_secret(pair)).collect();
    if query.is_empty() { place.to_owned() } else { format!("{place}?{}", query.join("&")) }
}

/// What stands between the user's name and the `@`, left out. A database's password may hold anything, unquoted.
fn without_user_password(uri: &str, is_database: bool) -> String {
    let Some((scheme, rest)) = uri.split_once("//") else { return uri.to_owned() };
    let ends: &[char] = if is_database { &['?'] } else { &['/', '?'] };
    let authority = rest.split(ends).next().unwrap_or(rest);
    let authority = if is_database && !authority.contains('@') { rest } else { authority };
    let Some(at) = authority.rfind('@') else { return uri.to_owned() };
    let (user, behind) = rest.split_at(at);
    let user = user.split_once(':').map_or(user, |(user, _)| user);
    format!("{scheme}//{user}{behind}")
}

/// The refusal of a scheme; `accepted` says what may stand in its place.
pub(crate) fn unknown_scheme(text: &str, scheme: &str, accepted: &str) -> Error {
    let message = format!("the scheme {:?} is unknown; use {accepted}", excerpt(scheme));
    Error::new(ErrorKind::InvalidRequest, message).with("uri", excerpt(&without_password(text)))
}

/// The beginning of a text from outside.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(100).collect()
}

/// The scheme of a URI and what follows; `None` for a path. A letter alone is a drive.
fn scheme(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let scheme = scheme.to_ascii_lowercase();
    // A file may have a colon in its name, but hardly like this.
    let is_known = KNOWN_SCHEMES.contains(&scheme.as_str());
    (is_scheme && (rest.starts_with("//") || is_known)).then_some((scheme, rest))
}

/// The path of a `file:` URI.
fn decoded_path(uri: &str, rest: &str) -> Result<String> {
    let path = rest.strip_prefix("//").map_or(rest, |rest| rest.strip_prefix("localhost").unwrap_or(rest));
    let refused = |why| Err(Error::new(ErrorKind::InvalidRequest, why).with("uri", excerpt(uri)));
    if !path.starts_with('/') {
        return refused("a file URI must have an absolute path, and no host");
    }
    match percent_encoding::percent_decode_str(path).decode_utf8() {
        Ok(path) => Ok(path.into_owned()),
        Err(_) => refused("the path of the file URI isn't UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_a_file_uri_are_paths() {
        for (text, path) in [
            ("/srv/in", "/srv/in"),
            ("in:1", "in:1"),
            ("c:\\in", "c:\\in"),
            ("file:/srv/in", "/srv/in"),
            ("file:///srv/a%20b", "/srv/a b"),
            ("FILE://localhost/srv/in", "/srv/in"),
        ] {
            assert_eq!(Location::parse(text).unwrap(), Location::Path(path.into()), "{text}");
        }
    }

    #[test]
    fn anything_else_is_a_uri_by_its_scheme() {
        for (text, expected) in
            [("s3://bucket/p", "s3"), ("s3:bucket", "s3"), ("FTP://host", "ftp"), ("sqlite:a.db", "sqlite")]
        {
            assert_eq!(Location::parse(text).unwrap(), Location::Uri { scheme: expected.to_owned() }, "{text}");
        }
    }

    #[test]
    fn a_place_is_the_same_however_it_is_typed() {
        let absolute = std::path::absolute("data").unwrap().display().to_string();
        for uri in ["data", "./data", "data/", absolute.as_str()] {
            assert_eq!(whole_uri(uri), absolute, "{uri}");
        }
        for uri in ["s3://bucket/in", "gs://bucket/x", "file:///srv/in", "/", ""] {
            assert_eq!(whole_uri(uri), uri);
        }
        assert_eq!(whole_uri("s3://bucket/in/"), "s3://bucket/in");
    }

    #[test]
    fn a_password_is_not_part_of_a_place() {
        for (typed, kept) in [
            ("postgres://u:p@h/d", "postgres://u@h/d"),
            ("postgres://u:p%40:@h:1/d?sslmode=require", "postgres://u@h:1/d?sslmode=require"),
            ("postgres://u:p@ss@h/d", "postgres://u@h/d"),
            ("postgres://h/d?password=p&sslmode=require&PASSWORD=q", "postgres://h/d?sslmode=require"),
            ("postgres:///d?password=p", "postgres:///d"),
            ("postgres://u@h/d?host=/run/x", "postgres://u@h/d?host=/run/x"),
            ("postgres://u:p?/x@h/d", "postgres://u@h/d"),
            ("https://u:p@h/a:b@c", "https://u@h/a:b@c"),
            ("s3://bucket/a:x@b:c?password=q", "s3://bucket/a:x@b:c?password=q"),
        ] {
            assert_eq!(without_password(typed), kept);
            assert_eq!(whole_uri(typed), kept);
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for (text, said) in
            [("", "empty"), ("file:in", "absolute"), ("file://host/in", "absolute"), ("file:///%FF", "UTF-8")]
        {
            let error = Location::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{text}");
            assert!(error.message().contains(said), "{text}: {error}");
        }
    }
}
