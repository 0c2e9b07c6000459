//! The program and S3, over the wire.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::exported;
use super::program::{Ended, command, end, manifest_path, run, small};
use crate::support::authority::Authority;
use crate::support::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

fn with_key(mut command: Command, secret: &str) -> Command {
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", secret);
    command
}

/// Runs the program while the server of this process answers it.
async fn finished(command: Command) -> Ended {
    let mut command = command;
    tokio::task::spawn_blocking(move || end(&mut command)).await.unwrap()
}

fn endpoint(server: &S3Server) -> String {
    format!("http://{}", server.address())
}

fn run_to(server: &S3Server, to: &str, more: &[&str]) -> Command {
    let mut command = command(&["run", "--to", to, "--endpoint", &endpoint(server), "--progress", "json", "--source"]);
    command.arg(small()).args(more);
    command
}

fn last_event(ended: &Ended) -> Value {
    serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_goes_into_a_bucket_and_back_and_is_verified_there() {
    let server = S3Server::start().await;
    let to = format!("s3://{BUCKET}/exports");
    let ended = finished(with_key(run_to(&server, &to, &["--layout", "flat"]), SECRET_KEY)).await;
    ended.assert_exit(0);
    let url = last_event(&ended)["manifestUrl"].as_str().unwrap().to_owned();
    assert_eq!(url, format!("{to}/manifest.json"));
    assert_eq!(server.left_open(), Vec::<String>::new());

    let verified = finished(with_key(command(&["verify", &url, "--endpoint", &endpoint(&server)]), SECRET_KEY)).await;
    verified.assert_exit(0);
    assert!(verified.stdout.contains("OK: 73 objects with 353 lines"), "{}", verified.stdout);

    let (back, straight) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut again = command(&["run", "--source", &to, "--region", "us-east-1", "--to"]);
    again.arg(back.path()).env("AWS_ENDPOINT_URL", endpoint(&server));
    finished(with_key(again, SECRET_KEY)).await.assert_exit(0);
    run(&small(), straight.path(), &[]).assert_exit(0);
    assert!(exported(back.path()) == exported(straight.path()));
    let _: &Path = &manifest_path(back.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_and_a_wrong_key_are_named() {
    let server = S3Server::start().await;
    let missing = finished(with_key(run_to(&server, "s3://nobodys-bucket/x", &[]), SECRET_KEY)).await;
    missing.assert_exit(1);
    assert!(missing.stderr.contains("nobodys-bucket"), "{}", missing.stderr);
    assert_eq!(last_event(&missing)["state"], "FAILED");

    let wrong = finished(with_key(run_to(&server, &format!("s3://{BUCKET}/x"), &[]), "wrong")).await;
    wrong.assert_exit(1);
    assert!(wrong.stderr.starts_with("fhir-export: error: ") && wrong.stderr.contains(BUCKET), "{}", wrong.stderr);
    assert!(!wrong.stderr.contains("wrong"), "no secret is told: {}", wrong.stderr);

    let mut none = run_to(&server, &format!("s3://{BUCKET}/x"), &[]);
    none.env("AWS_EC2_METADATA_DISABLED", "true");
    let none = finished(none).await;
    none.assert_exit(2);
    assert!(none.stderr.contains("there are no AWS credentials"), "{}", none.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_a_ca_of_its_own_is_trusted_if_its_certificate_is_given_and_else_named() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let server = S3Server::start_tls(&authority).await;
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    let (file, endpoint) = (file.to_str().unwrap(), format!("https://{}", server.address()));
    let to = format!("s3://{BUCKET}/exports");
    let trusting = |arguments: &[&str], ca: &[&str]| {
        let mut command = command(arguments);
        command.args(["--endpoint", &endpoint]).args(ca);
        with_key(command, SECRET_KEY)
    };
    let (small, back) = (small(), folder.path().join("back"));
    let run = ["run", "--source", small.to_str().unwrap(), "--to", &to, "--layout", "flat"];

    let refused = finished(trusting(&run, &[])).await;
    refused.assert_exit(1);
    let said = format!("the certificate of {} isn't trusted", server.address());
    assert!(refused.stderr.contains(&said), "{}", refused.stderr);
    let missing = finished(trusting(&run, &["--ca-file", "nowhere.pem"])).await;
    missing.assert_exit(2);
    assert!(missing.stderr.contains("nowhere.pem"), "{}", missing.stderr);

    finished(trusting(&run, &["--ca-file", file])).await.assert_exit(0);
    let verify = ["verify", &format!("{to}/manifest.json")];
    finished(trusting(&verify, &["--ca-file", file])).await.assert_exit(0);
    // The usual variable serves the source, too.
    let mut again = trusting(&["run", "--source", &to, "--to", back.to_str().unwrap()], &[]);
    again.env("AWS_CA_BUNDLE", file);
    finished(again).await.assert_exit(0);
    assert_eq!(exported(&back).len(), 73);
}
