//! Where keys come from: a file, or the issuer's own URL.

use std::fmt;
use std::io::Read;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{ACCEPT, CACHE_CONTROL, HeaderValue};
use reqwest::{Certificate, Client, Response, StatusCode, Url};

use super::key_set::MAX_BYTES;
use crate::error::{Error, ErrorKind, Result};

/// How long an answer may take, all of it.
const DEADLINE: Duration = Duration::from_secs(5);

/// Fetches the document of an issuer's keys.
#[async_trait::async_trait]
pub trait FetchKeys: fmt::Debug + Send + Sync {
    /// Fetches the document as it is now.
    ///
    /// # Errors
    /// When it can't be had. The keys of before are then used for a while: see [`KeyPatience`](super::KeyPatience).
    ///
    /// # Cancellation
    /// May be dropped at any moment.
    async fn fetch(&self) -> Result<FetchedKeys>;
}

/// A document, and how long its giver says it may be kept.
#[derive(Clone, Debug)]
pub struct FetchedKeys {
    /// The document.
    pub document: Vec<u8>,
    /// How long it may be kept, if that was said.
    pub max_age: Option<Duration>,
}

/// A file with keys, which is read again like a URL: a new file is seen without a restart.
#[derive(Clone, Debug)]
pub struct KeyFile(PathBuf);

impl KeyFile {
    /// Takes the path of a file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
}

#[async_trait::async_trait]
impl FetchKeys for KeyFile {
    async fn fetch(&self) -> Result<FetchedKeys> {
        let path = self.0.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut document = Vec::new();
            std::fs::File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut document).map(|_| document)
        });
        let named = |error: Error| error.with("path", self.0.display());
        let document = read
            .await
            .map_err(|error| Error::new(ErrorKind::Internal, "the keys weren't read").caused_by(error))?
            .map_err(|error| named(Error::io("the file of the keys can't be read", error)))?;
        Ok(FetchedKeys { document, max_age: None })
    }
}

/// The URL of an issuer's keys.
///
/// Nothing of a token decides what is fetched: the URL is the operator's. Redirects aren't followed, an answer may have
/// 256 KiB and take 5 s.
#[derive(Clone)]
pub struct KeyUrl {
    url: Url,
    client: Client,
}

impl KeyUrl {
    /// Takes a URL, which must be `https`; `http` is taken for the machine itself only.
    ///
    /// # Errors
    /// When it is no such URL, or has a user's name or a password in it.
    pub fn new(url: &str) -> Result<Self> {
        Self::with_authorities(url, &[])
    }

    /// Takes a URL, and certificates in PEM of authorities that are trusted besides those of the system.
    ///
    /// # Errors
    /// As [`new`](Self::new), or when a certificate can't be read.
    pub fn with_authorities(url: &str, pem: &[u8]) -> Result<Self> {
        let refused = |message: &str| Error::new(ErrorKind::InvalidConfig, message);
        let url = Url::parse(url).map_err(|error| refused("the URL of the keys can't be read").caused_by(error))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("the URL of the keys has a name or a password in it"));
        }
        let is_loopback = is_loopback(&url);
        if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback) {
            return Err(refused("the URL of the keys isn't https").with("url", &url));
        }
        let authorities = Certificate::from_pem_bundle(pem)
            .map_err(|error| refused("a certificate of the authorities can't be read").caused_by(error))?;
        if authorities.is_empty() && !pem.is_empty() {
            return Err(refused(
                "there is no certificate of an authority: none begins with -----BEGIN CERTIFICATE-----",
            ));
        }
        let mut client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(DEADLINE)
            .connect_timeout(DEADLINE)
            .https_only(!is_loopback)
            .tls_certs_merge(authorities);
        if is_loopback {
            client = client.no_proxy();
        }
        let client = client.build().map_err(|error| {
            Error::new(ErrorKind::Internal, "the client of the keys can't be made").caused_by(error)
        })?;
        Ok(Self { url, client })
    }

    fn failed(&self, message: &str) -> Error {
        Error::new(ErrorKind::Source, message).with("url", &self.url).retryable(true)
    }
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl fmt::Debug for KeyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyUrl").field(&self.url.as_str()).finish()
    }
}

#[async_trait::async_trait]
impl FetchKeys for KeyUrl {
    async fn fetch(&self) -> Result<FetchedKeys> {
        let request = self.client.get(self.url.clone()).header(ACCEPT, "application/json");
        let mut answer =
            request.send().await.map_err(|error| self.failed("the keys can't be fetched").caused_by(error))?;
        if answer.status() != StatusCode::OK {
            return Err(self.failed("the keys' URL doesn't answer 200").with("status", answer.status().as_u16()));
        }
        let max_age = max_age(&answer);
        let mut document = Vec::new();
        let broken = |error| self.failed("the answer with the keys broke off").caused_by(error);
        while let Some(piece) = answer.chunk().await.map_err(broken)? {
            if document.len() + piece.len() > MAX_BYTES {
                return Err(self.failed("the answer with the keys is longer than 256 KiB"));
            }
            document.extend_from_slice(&piece);
        }
        Ok(FetchedKeys { document, max_age })
    }
}

/// What `Cache-Control` allows.
fn max_age(answer: &Response) -> Option<Duration> {
    let values = answer.headers().get_all(CACHE_CONTROL);
    values.iter().filter_map(kept_for).min()
}

/// How long a value of `Cache-Control` lets an answer be kept; the shortest, if it says several.
fn kept_for(value: &HeaderValue) -> Option<Duration> {
    let directives = value.to_str().ok()?.split(',').map(str::trim);
    let kept = directives.filter_map(|directive| {
        let directive = directive.to_ascii_lowercase();
        match directive.split_once('=') {
            None if directive == "no-store" || directive == "no-cache" => Some(Duration::ZERO),
            Some(("max-age", seconds)) => seconds.trim_matches('"').parse().ok().map(Duration::from_secs),
            _ => None,
        }
    });
    kept.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_keys_is_https_or_of_the_machine_itself() {
        #[rustfmt::skip]
        let rows = [
            ("https://issuer.example/jwks.json", true),
            ("https://127.0.0.1:8443/jwks", true),
            ("http://127.0.0.1:8080/jwks", true),
            ("http://127.9.9.9/jwks", true),
            ("http://[::1]:8080/jwks", true),
            ("http://localhost:8080/jwks", true),
            ("http://issuer.example/jwks.json", false),
            ("http://localhost.issuer.example/jwks.json", false),
            ("http://127.0.0.1.issuer.example/jwks.json", false),
            ("http://169.254.169.254/latest/meta-data", false),
            ("http://10.0.0.1/jwks", false),
            ("http://0.0.0.0/jwks", false),
            ("https://user:secret@issuer.example/jwks", false),
            ("https://user@issuer.example/jwks", false),
            ("http://127.0.0.1@issuer.example/jwks", false),
            ("file:///etc/keys.json", false),
            ("ftp://issuer.example/jwks", false),
            ("data:application/json,{}", false),
            ("jwks.json", false),
            ("", false),
        ];
        for (url, taken) in rows {
            assert_eq!(KeyUrl::new(url).is_ok(), taken, "{url}");
        }
    }

    #[test]
    fn certificates_that_are_none_are_refused() {
        for pem in ["nonsense", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"] {
            assert!(KeyUrl::with_authorities("https://issuer.example/jwks.json", pem.as_bytes()).is_err(), "{pem}");
        }
    }

    #[test]
    fn an_answer_is_kept_no_longer_than_it_says() {
        let rows = [
            ("max-age=60", Some(60)),
            ("public, max-age=3600", Some(3600)),
            ("Max-Age=\"7\"", Some(7)),
            ("max-age=3600, no-cache", Some(0)),
            ("no-store", Some(0)),
            ("max-age=60, max-age=5", Some(5)),
            ("public", None),
            ("max-age=soon", None),
            ("s-maxage=1", None),
            ("", None),
        ];
        for (value, seconds) in rows {
            assert_eq!(kept_for(&HeaderValue::from_static(value)), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
