//! Clients that say who they are: the AWS CLI by a key, smart-fetch by a signed assertion.

use std::fs;
use std::path::Path;

use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use serde_json::Value;

use super::super::super::program::Ended;
use super::super::auth::{SECRETS, data_store, smart, start, two_keys};
use super::super::client::Server;
use super::smart_fetch::{downloaded, smart_fetch};
use super::{client, clients, run};
use crate::support::naive::{self, Level, NaiveRequest};
use crate::support::ndjson_files;
use crate::support::token_server::TokenServer;
use crate::support::token_server::forge::SigningKey;

/// Whom tokens are for: the port of the server isn't known before it starts.
const AUDIENCE: &str = "https://export.example";

/// Lists the jobs of a data store with a key.
async fn list(server: &Server, key: &[(&str, &str)]) -> Ended {
    let home = tempfile::tempdir().unwrap();
    let mut command = client(&clients().aws, home.path());
    command.args(["healthlake", "--region", "eu-west-1", "--endpoint-url", &server.root(), "list-fhir-export-jobs"]);
    command.args(["--datastore-id", "clinic"]).envs(key.iter().copied()).env("AWS_MAX_ATTEMPTS", "1");
    run(&mut command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_cli_is_known_by_its_key_and_told_why_it_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (id, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
    let server = start(folder.path(), &[two_keys(folder.path()), data_store()].concat());
    let known = list(&server, &[(id, "LOOKER"), (secret, SECRETS[1].1)]).await;
    known.assert_exit(0);
    assert_eq!(serde_json::from_str::<Value>(&known.stdout).unwrap()["ExportJobPropertiesList"], serde_json::json!([]));

    let over = two_keys(folder.path()).replacen(
        "id = 'NIGHTLY'\n",
        "id = 'NIGHTLY'\nsession_token = 'session'\nexpires = '2020-01-01T00:00:00Z'\n",
        1,
    );
    let session = start(folder.path(), &[over, data_store()].concat());
    for (server, key, said) in [
        (&server, vec![(id, "LOOKER"), (secret, SECRETS[0].1)], "InvalidSignatureException"),
        (&server, vec![(id, "NOBODY"), (secret, SECRETS[1].1)], "InvalidSignatureException"),
        (&server, vec![(id, "NIGHTLY"), (secret, SECRETS[0].1), ("AWS_SESSION_TOKEN", "any")], "InvalidSignature"),
        (&session, vec![(id, "NIGHTLY"), (secret, SECRETS[0].1), ("AWS_SESSION_TOKEN", "session")], "ExpiredToken"),
    ] {
        let refused = list(server, &key).await;
        refused.assert_exit(255);
        assert!(refused.stderr.contains(said), "{said}: {}", refused.stderr);
    }
}

/// Asks with a clock that is so many seconds off, by botocore, which the CLI signs with.
async fn with_clock(server: &Server, folder: &Path, seconds: i64) -> Ended {
    let script = folder.join("skewed.py");
    fs::write(
        &script,
        "import datetime, sys, botocore.auth\n\
         from awscli.clidriver import main\n\
         off = datetime.timedelta(seconds=int(sys.argv.pop(1)))\n\
         now = lambda *_, **__: datetime.datetime.utcnow() + off\n\
         name = 'get_current_datetime' if hasattr(botocore.auth, 'get_current_datetime') else None\n\
         assert name, 'where does the time come from?'\n\
         setattr(botocore.auth, name, now)\n\
         sys.exit(main())\n",
    )
    .unwrap();
    let python = clients().aws.with_file_name("python");
    let mut command = client(&python, folder);
    command.args([script.to_str().unwrap(), &seconds.to_string(), "healthlake", "--region", "eu-west-1"]);
    command.args(["--endpoint-url", &server.root(), "list-fhir-export-jobs", "--datastore-id", "clinic"]);
    let key = [("AWS_ACCESS_KEY_ID", "LOOKER"), ("AWS_SECRET_ACCESS_KEY", SECRETS[1].1), ("AWS_MAX_ATTEMPTS", "1")];
    run(command.envs(key)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_cli_with_a_clock_that_is_off_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[two_keys(folder.path()), data_store()].concat());
    for (seconds, exit) in [(0, 0), (240, 0), (-240, 0), (600, 255), (-600, 255)] {
        let ended = with_clock(&server, folder.path(), seconds).await;
        ended.assert_exit(exit);
        assert_eq!(ended.stderr.contains("InvalidSignatureException"), exit != 0, "{seconds}: {}", ended.stderr);
    }
}

/// A key whose id is what smart-fetch calls it: the thumbprint (RFC 7638).
fn called_by_thumbprint(mut key: SigningKey) -> SigningKey {
    let jwk = Jwk::from_encoding_key(&key.key, key.algorithm).unwrap();
    key.id = jwk.thumbprint(ThumbprintHash::SHA256);
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn smart_fetch_brings_an_assertion_gets_a_token_and_downloads_what_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = TokenServer::start(AUDIENCE).await;
    let server = start(
        folder.path(),
        &["listen = '127.0.0.1:0'\n".to_owned(), smart(&tokens, &format!("audiences = ['{AUDIENCE}']")), data_store()]
            .concat(),
    );
    let types = Some(["Patient", "Condition"].map(str::to_owned).into());
    let expected =
        naive::export(&ndjson_files("small"), &NaiveRequest { types, ..NaiveRequest::new(Level::System) }).unwrap();
    for (client, key) in [
        ("with-rsa", called_by_thumbprint(SigningKey::rsa("", Algorithm::RS384))),
        ("with-p384", called_by_thumbprint(SigningKey::es384(""))),
    ] {
        let (pem, to) = (folder.path().join(format!("{client}.pem")), folder.path().join(client).join("out"));
        fs::create_dir(folder.path().join(client)).unwrap();
        fs::write(&pem, &key.private_pem).unwrap();
        let arguments = ["bulk", "--no-default-filters", "--no-compression", "--type", "Patient,Condition"];
        let known_by = ["--smart-client-id", client, "--smart-key", pem.to_str().unwrap()];
        let arguments = [&arguments[..], &known_by].concat();
        let refused = run(&mut smart_fetch(&server, &to, &arguments)).await;
        assert_ne!(refused.code, Some(0), "nobody knows its key yet");
        assert!(!to.try_exists().unwrap() || downloaded(&to).is_empty());
        tokens.register(client, &key, "system/*.read");
        run(&mut smart_fetch(&server, &to, &arguments)).await.assert_exit(0);
        assert!(downloaded(&to) == expected.output, "the bytes that a plain reading of the files gives");
    }
}
