//! A signer, for tests of servers. It shares no code with the checks.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::fhir::Instant;

/// How a signer writes the canonical path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathStyle {
    /// The path as it is sent, escaped once more: the rule of AWS.
    #[default]
    Again,
    /// What the path means, escaped once.
    Once,
    /// The path as it is sent.
    AsSent,
}

/// A request to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned<'a> {
    /// The method.
    pub method: &'a str,
    /// The path as it is sent.
    pub path: &'a str,
    /// The query as it is sent, without its question mark.
    pub query: &'a str,
    /// The headers to be signed, with `host`, names in lower case.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
}

/// Signs requests with a key.
#[derive(Clone, Debug)]
pub struct Signer<'a> {
    /// The id of the key.
    pub access_key_id: &'a str,
    /// Its secret.
    pub secret: &'a str,
    /// The token of the session, for temporary credentials.
    pub session_token: Option<&'a str>,
    /// The Region in the scope.
    pub region: &'a str,
    /// The service in the scope.
    pub service: &'a str,
    /// When the request is signed.
    pub at: Instant,
    /// How the canonical path is written.
    pub path_style: PathStyle,
}

impl<'a> Signer<'a> {
    /// A signer for HealthLake with AWS's example key, `AKIDEXAMPLE`.
    #[must_use]
    pub const fn example(region: &'a str, at: Instant) -> Self {
        Self {
            access_key_id: "AKIDEXAMPLE",
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            session_token: None,
            region,
            service: "healthlake",
            at,
            path_style: PathStyle::Again,
        }
    }

    /// The headers that sign a request, to be added to it: `x-amz-date`, `x-amz-security-token` for a session, and
    /// `authorization`. A header `x-amz-content-sha256` of the request is signed in place of the body's hash.
    #[must_use]
    pub fn sign(&self, request: &Unsigned<'_>) -> Vec<(String, String)> {
        let mut added = vec![("x-amz-date".to_owned(), self.stamp())];
        added.extend(self.session_token.map(|token| ("x-amz-security-token".to_owned(), token.to_owned())));
        let mut headers: Vec<(&str, &str)> = request.headers.to_vec();
        headers.extend(added.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let hash = headers.iter().find(|(name, _)| *name == "x-amz-content-sha256").map(|(_, hash)| (*hash).to_owned());
        let hash = hash.unwrap_or_else(|| hex(&Sha256::digest(request.body)));
        let (names, signature) = self.signature(request, request.query, &headers, &hash);
        let (id, scope) = (self.access_key_id, self.scope());
        let authorization =
            format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
        added.push(("authorization".to_owned(), authorization));
        added
    }

    /// The query of a request that is presigned for some seconds.
    #[must_use]
    pub fn presign(&self, request: &Unsigned<'_>, expires_seconds: u32) -> String {
        self.presign_hash(request, expires_seconds, &hex(&Sha256::digest(request.body)))
    }

    /// The same with `UNSIGNED-PAYLOAD` in place of the body's hash. A header or a parameter must say so.
    #[must_use]
    pub fn presign_unsigned(&self, request: &Unsigned<'_>, expires_seconds: u32) -> String {
        self.presign_hash(request, expires_seconds, "UNSIGNED-PAYLOAD")
    }

    fn presign_hash(&self, request: &Unsigned<'_>, expires_seconds: u32, hash: &str) -> String {
        let names = names(request.headers);
        let mut query = request.query.to_owned();
        let mut add = |name: &str, value: &str| {
            let separator = if query.is_empty() { "" } else { "&" };
            query = format!("{query}{separator}{name}={}", escaped(value.as_bytes()));
        };
        add("X-Amz-Algorithm", "AWS4-HMAC-SHA256");
        add("X-Amz-Credential", &format!("{}/{}", self.access_key_id, self.scope()));
        add("X-Amz-Date", &self.stamp());
        add("X-Amz-Expires", &expires_seconds.to_string());
        add("X-Amz-SignedHeaders", &names);
        if let Some(token) = self.session_token {
            add("X-Amz-Security-Token", token);
        }
        let (_, signature) = self.signature(request, &query, request.headers, hash);
        format!("{query}&X-Amz-Signature={signature}")
    }

    /// The names of the signed headers, and the signature.
    fn signature(&self, request: &Unsigned<'_>, query: &str, headers: &[(&str, &str)], hash: &str) -> (String, String) {
        let names = names(headers);
        let mut lines = vec![request.method.to_owned(), self.canonical_path(request.path), canonical_query(query)];
        for name in names.split(';') {
            let values = headers.iter().filter(|(own, _)| *own == name);
            let values: Vec<String> =
                values.map(|(_, value)| value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")).collect();
            lines.push(format!("{name}:{}", values.join(",")));
        }
        lines.extend([String::new(), names.clone(), hash.to_owned()]);
        let hash = hex(&Sha256::digest(lines.join("\n")));
        let text = ["AWS4-HMAC-SHA256", &self.stamp(), &self.scope(), &hash].join("\n");
        let scope = self.scope();
        let steps = scope.split('/').chain([text.as_str()]);
        let signature = steps.fold(format!("AWS4{}", self.secret).into_bytes(), |key, step| keyed(&key, step));
        (names, hex(&signature))
    }

    fn stamp(&self) -> String {
        self.at.to_string().replace(['-', ':'], "").split('.').next().unwrap_or_default().to_owned() + "Z"
    }

    fn scope(&self) -> String {
        let stamp = self.stamp();
        let day = stamp.split('T').next().unwrap_or_default();
        [day, self.region, self.service, "aws4_request"].join("/")
    }

    fn canonical_path(&self, path: &str) -> String {
        let segments = path.split('/').map(|segment| match self.path_style {
            PathStyle::Again => escaped(segment.as_bytes()),
            PathStyle::AsSent => segment.to_owned(),
            PathStyle::Once => escaped(&percent_encoding::percent_decode_str(segment).collect::<Vec<u8>>()),
        });
        segments.collect::<Vec<_>>().join("/")
    }
}

fn names(headers: &[(&str, &str)]) -> String {
    let mut names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    names.join(";")
}

fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<[String; 2]> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let mut halves =
            pair.splitn(2, '=').map(|half| percent_encoding::percent_decode_str(half).collect::<Vec<u8>>());
        pairs.push([0, 1].map(|_| escaped(&halves.next().unwrap_or_default())));
    }
    pairs.sort();
    pairs.iter().map(|pair| pair.join("=")).collect::<Vec<_>>().join("&")
}

fn escaped(bytes: &[u8]) -> String {
    let one = |byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(*byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    bytes.iter().map(one).collect()
}

fn keyed(key: &[u8], text: &str) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
