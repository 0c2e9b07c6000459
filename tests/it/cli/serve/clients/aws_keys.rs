//! The AWS CLI, with keys that the server looks at: what it prints tells a script why it was refused.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::super::super::program::Ended;
use super::super::auth::{REGION, ROLE, SECRETS, data_store, start, two_keys};
use super::super::client::Server;
use super::{client, clients, run};
use crate::support::s3_server::{BUCKET, S3Server};

const STORE: [&str; 2] = ["--datastore-id", "clinic"];

/// What `aws` exits with when the service refuses.
const REFUSED: i32 = 255;

const MISMATCH: &str = "The request signature we calculated does not match the signature you provided";

/// Python reads it at its start: the clock of the CLI is moved, and the one that the server looks at isn't.
const MOVED_CLOCK: &str = "
import datetime, os

class Moved(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=int(os.environ['CLOCK_SECONDS']))

datetime.datetime = Moved
";

/// An environment that holds a key.
fn key<'a>(id: &'a str, secret: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)]
}

/// Asks one operation of the data store.
async fn aws(server: &Server, environment: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let home = tempfile::tempdir().unwrap();
    let mut command = client(&clients().aws, home.path());
    command.args(["healthlake", "--endpoint-url", &server.root()]).args(arguments).args(STORE);
    command.env("AWS_DEFAULT_REGION", REGION).env("AWS_MAX_ATTEMPTS", "1").envs(environment.iter().copied());
    run(&mut command).await
}

async fn list(server: &Server, environment: &[(&str, &str)]) -> Ended {
    aws(server, environment, &["list-fhir-export-jobs"]).await
}

#[track_caller]
fn assert_refused(ended: &Ended, name: &str, said: &str) {
    ended.assert_exit(REFUSED);
    assert!(ended.stderr.contains(&format!("An error occurred ({name}) when calling the ")), "{}", ended.stderr);
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
}

fn serve(folder: &Path) -> Server {
    start(folder, &(two_keys(folder) + &data_store()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_does_what_its_policies_allow_and_no_more() {
    let (store, folder) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let outputs = format!("[outputs]\nallow = ['s3://{BUCKET}/']\n[s3]\nendpoint = 'http://{}'\n", store.address());
    let server = start(folder.path(), &[two_keys(folder.path()), outputs, data_store()].concat());
    let (nightly, looker) = (key("NIGHTLY", SECRETS[0].1), key("LOOKER", SECRETS[1].1));
    let output = json!({"S3Configuration": {"S3Uri": format!("s3://{BUCKET}/cli"), "KmsKeyId": "alias/exports"}});
    let output = output.to_string();
    let start = ["start-fhir-export-job", "--output-data-config", &output, "--data-access-role-arn"];

    assert_refused(
        &aws(&server, &looker, &[&start[..], &[ROLE]].concat()).await,
        "AccessDeniedException",
        "the caller isn't allowed to perform healthlake:StartFHIRExportJob",
    );
    let other = aws(&server, &nightly, &[&start[..], &["arn:aws:iam::444455556666:role/other"]].concat()).await;
    assert_refused(&other, "AccessDeniedException", "the caller isn't allowed to perform iam:PassRole");
    let started = aws(&server, &nightly, &[&start[..], &[ROLE]].concat()).await;
    started.assert_exit(0);
    let started: Value = serde_json::from_str(&started.stdout).unwrap();
    let job = started["JobId"].as_str().unwrap();
    let describe = ["describe-fhir-export-job", "--job-id", job];
    // Who may look at the data store sees whatever runs there.
    for environment in [&nightly, &looker] {
        let listed = list(&server, environment).await;
        listed.assert_exit(0);
        assert!(listed.stdout.contains(job), "{}", listed.stdout);
        aws(&server, environment, &describe).await.assert_exit(0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_is_refused_by_the_names_of_aws() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path());
    list(&server, &key("NIGHTLY", SECRETS[0].1)).await.assert_exit(0);
    let elsewhere = [key("NIGHTLY", SECRETS[0].1), vec![("AWS_DEFAULT_REGION", "us-east-1")]].concat();
    #[rustfmt::skip]
    let rows = [
        (key("NIGHTLY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYWRONG"), "InvalidSignatureException", MISMATCH),
        (key("NIGHTLY", SECRETS[1].1), "InvalidSignatureException", MISMATCH),
        (key("UNKNOWN", SECRETS[0].1), "InvalidSignatureException", MISMATCH),
        (elsewhere, "InvalidSignatureException", "Credential should be scoped to "),
    ];
    for (environment, name, said) in rows {
        assert_refused(&list(&server, &environment).await, name, said);
    }
    let unsigned = aws(&server, &[], &["list-fhir-export-jobs", "--no-sign-request"]).await;
    assert_refused(&unsigned, "MissingAuthenticationTokenException", "neither a signature nor a token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_may_be_five_minutes_off_and_then_the_refusal_says_that_it_is_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path());
    fs::write(folder.path().join("sitecustomize.py"), MOVED_CLOCK).unwrap();
    // A minute is left where time that passes on the way counts.
    for (seconds, refused) in [
        ("-240", None),
        ("299", None),
        ("-301", Some("Signature expired")),
        ("361", Some("Signature not yet current")),
        ("-86400", Some("Signature expired")),
    ] {
        let clock = [("PYTHONPATH", folder.path().to_str().unwrap()), ("CLOCK_SECONDS", seconds)];
        let ended = list(&server, &[&key("NIGHTLY", SECRETS[0].1)[..], &clock].concat()).await;
        match refused {
            None => ended.assert_exit(0),
            Some(said) => assert_refused(&ended, "InvalidSignatureException", said),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_needs_its_token_and_ends() {
    let token = SECRETS[1].1;
    let with = |token| [key("NIGHTLY", SECRETS[0].1), vec![("AWS_SESSION_TOKEN", token)]].concat();
    for (ends, environment, refused) in [
        ("2999-01-01T00:00:00Z", with(token), None),
        ("2999-01-01T00:00:00Z", with("another"), Some(("InvalidSignatureException", MISMATCH))),
        ("2999-01-01T00:00:00Z", key("NIGHTLY", SECRETS[0].1), Some(("InvalidSignatureException", MISMATCH))),
        ("2020-01-01T00:00:00Z", with(token), Some(("ExpiredTokenException", "The security token"))),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let session = format!("id = 'NIGHTLY'\nsession_token = '${{LOOKER_SECRET}}'\nexpires = '{ends}'\n");
        let keys = two_keys(folder.path()).replacen("id = 'NIGHTLY'\n", &session, 1);
        let server = start(folder.path(), &(keys + &data_store()));
        let ended = list(&server, &environment).await;
        match refused {
            None => ended.assert_exit(0),
            Some((name, said)) => assert_refused(&ended, name, said),
        }
    }
}
