//! smart-fetch with a key of its own: the token server takes what it signs, and this one the token that it gets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use jsonwebtoken::Algorithm;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::super::super::program::Ended;
use super::super::auth::{data_store, smart, start};
use super::super::client::Server;
use super::smart_fetch::{OWN_TYPES, downloaded, smart_fetch};
use super::{client, clients, run};
use crate::support::naive::{self, Level, NaiveRequest};
use crate::support::ndjson_files;
use crate::support::token_server::TokenServer;
use crate::support::token_server::forge::SigningKey;

const AUDIENCE: &str = "https://clinic.example/r4";

/// Writes a key as smart-fetch wants it, by the library with which smart-fetch reads it.
const TO_KEY_SET: &str = "
import json, sys
from jwcrypto import jwk

key = jwk.JWK.from_pem(sys.stdin.buffer.read()).export(as_dict=True)
print(json.dumps({'keys': [key | {'kid': sys.argv[1], 'alg': sys.argv[2], 'key_ops': ['sign']}]}))
";

/// The file of a key.
async fn key_file(folder: &Path, key: &SigningKey) -> PathBuf {
    let python = clients().smart_fetch.with_file_name("python3");
    let mut command = client(&python, folder);
    command.args(["-c", TO_KEY_SET, &key.id, &key.algorithm_name()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(key.private_pem.as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success());
    let path = folder.join(format!("{}.jwks", key.id));
    fs::write(&path, output.stdout).unwrap();
    path
}

async fn serve(folder: &Path) -> (TokenServer, Server) {
    let tokens = TokenServer::start(AUDIENCE).await;
    let smart = smart(&tokens, &format!("audiences = ['{AUDIENCE}']"));
    let server = start(folder, &format!("listen = '127.0.0.1:0'\n{smart}{}", data_store()));
    (tokens, server)
}

async fn fetch(server: &Server, to: &Path, id: &str, key: &SigningKey, types: &str) -> Ended {
    let file = key_file(to.parent().unwrap(), key).await;
    let filter: &[&str] = if types.is_empty() { &[] } else { &["--type", types] };
    let own = ["bulk", "--no-default-filters", "--no-compression", "--smart-client-id", id, "--smart-key"];
    let arguments = [&own[..], &[file.to_str().unwrap()], filter].concat();
    run(&mut smart_fetch(server, to, &arguments)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_a_registered_key_downloads_everything() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, server) = serve(folder.path()).await;
    let types = Some(OWN_TYPES.map(str::to_owned).into());
    let request = NaiveRequest { types, ..NaiveRequest::new(Level::System) };
    let expected = naive::export(&ndjson_files("small"), &request).unwrap();
    for key in [SigningKey::rsa("with-rs384", Algorithm::RS384), SigningKey::es384("with-es384")] {
        tokens.register(&key.id, &key, "system/*.read");
        let to = folder.path().join(&key.id);
        fetch(&server, &to, &key.id, &key, "").await.assert_exit(0);
        assert!(downloaded(&to) == expected.output, "{}: all of it, byte by byte", key.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_nobody_registered_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, server) = serve(folder.path()).await;
    let (registered, other) = (SigningKey::es384("mine"), SigningKey::es384("mine"));
    tokens.register("client", &registered, "system/*.read");
    for (id, key) in [("client", &other), ("stranger", &registered)] {
        let to = folder.path().join(id);
        let ended = fetch(&server, &to, id, key, "patient").await;
        ended.assert_exit(1);
        assert!(ended.stderr.contains("Could not authenticate") && ended.stderr.contains("401"), "{}", ended.stderr);
        assert!(!to.join("log.ndjson").try_exists().unwrap(), "it hasn't got so far as to ask for an export");
    }
    // A token of an issuer that this server doesn't know, or that isn't for it.
    let elsewhere = TokenServer::start(AUDIENCE).await.mint("client", "system/*.read", |_, _| ());
    let for_other = tokens.mint("client", "system/*.read", |_, claims| claims["aud"] = json!("https://other.example"));
    let to = folder.path().join("token");
    for token in [elsewhere, for_other] {
        let ended = run(&mut smart_fetch(&server, &to, &["bulk", "--type", "patient", "--bearer-token", &token])).await;
        ended.assert_exit(1);
        assert!(ended.stderr.contains("[401]"), "{}", ended.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_downloads_the_types_of_its_scopes_only() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, server) = serve(folder.path()).await;
    let key = SigningKey::es384("narrow");
    tokens.register("narrow", &key, "system/Patient.read");
    let (wide, narrow) = (folder.path().join("wide"), folder.path().join("narrow"));
    let refused = fetch(&server, &wide, "narrow", &key, "patient,condition").await;
    refused.assert_exit(1);
    assert!(refused.stderr.contains("[403]") && refused.stderr.contains("Condition"), "{}", refused.stderr);
    fetch(&server, &narrow, "narrow", &key, "patient").await.assert_exit(0);
    assert_eq!(downloaded(&narrow).keys().collect::<Vec<_>>(), ["Patient"]);
}
