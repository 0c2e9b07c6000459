//! Signatures of AWS's test suite, of botocore and of our own signer; and what becomes of them when something is changed.

mod changes;
mod refusals;
mod vectors;

use crate::fhir::Instant;

use super::testing::{Signer, Unsigned};
use super::{Claimed, Expectation, Head, Refusal, Secret, sha256};

const REGION: &str = "eu-west-1";
const SECRET: Secret<'static> = Secret { access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", session_token: None };

/// A request that owns its parts, so that they can be changed.
#[derive(Clone, Debug)]
struct Sent {
    method: String,
    path: String,
    query: Option<String>,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Sent {
    fn with<R>(&self, act: impl FnOnce(&Head<'_>) -> R) -> R {
        let headers: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        act(&Head { method: &self.method, path: &self.path, query: self.query.as_deref(), headers: &headers })
    }

    fn claimed(&self, now: &Instant, expected: &Expectation<'_>) -> Result<Claimed, Refusal> {
        self.with(|head| Claimed::read(head, now, expected))
    }

    /// What the server says to it.
    fn verdict(&self, secret: &Secret<'_>, now: &Instant, expected: &Expectation<'_>) -> Result<(), Refusal> {
        self.claimed(now, expected)?.verify(Some(secret), &sha256(&self.body))
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(own, _)| own != name);
        self
    }

    fn value(&self, name: &str) -> String {
        let (_, value) = self.headers.iter().find(|(own, _)| own == name).unwrap();
        String::from_utf8(value.clone()).unwrap()
    }
}

fn at(text: &str) -> Instant {
    Instant::parse(text).unwrap()
}

fn signer() -> Signer<'static> {
    Signer::example(REGION, at("2026-11-24T03:00:00Z"))
}

const START: Unsigned<'static> = Unsigned {
    method: "POST",
    path: "/datastore/0123/r4/Patient/$export",
    query: "_since=2021-01-01T00%3A00%3A00%2B01%3A00",
    headers: &[("content-type", "application/json"), ("host", "localhost:8080")],
    body: br#"{"JobName":"nightly"}"#,
};

const LOOK: Unsigned<'static> = Unsigned {
    method: "GET",
    path: "/datastore/0123/r4/export/4567",
    query: "",
    headers: &[("host", "localhost:8080")],
    body: b"",
};

fn sent(request: &Unsigned<'_>) -> Sent {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
    Sent {
        method: request.method.to_owned(),
        path: request.path.to_owned(),
        query: (!request.query.is_empty()).then(|| request.query.to_owned()),
        headers: request.headers.iter().map(owned).collect(),
        body: request.body.to_vec(),
    }
}

fn signed(signer: &Signer<'_>, request: &Unsigned<'_>) -> Sent {
    let mut sent = sent(request);
    sent.headers.extend(signer.sign(request).into_iter().map(|(name, value)| (name, value.into_bytes())));
    sent
}

fn presigned(signer: &Signer<'_>, request: &Unsigned<'_>, expires_seconds: u32) -> Sent {
    Sent { query: Some(signer.presign(request, expires_seconds)), ..sent(request) }
}

/// What a server in the Region says at the time of signing.
fn verdict(sent: &Sent) -> Result<(), Refusal> {
    sent.verdict(&SECRET, &signer().at, &Expectation::healthlake(REGION))
}
