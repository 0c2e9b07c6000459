//! The server, as a process of its own.

#[cfg(feature = "testing")]
mod auth;
mod client;
mod clients;
mod robust;
mod roles;

use std::fs;
use std::path::Path;

use axum::http::StatusCode;
use serde_json::{Value, json};

use self::client::{Server, config};
use super::kill::SOURCE;
use super::program::{binary, command, end, small};
use crate::support::authority::Authority;
use crate::support::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

const PREFER: (&str, &str) = ("prefer", "respond-async");

/// HealthLake's body, for the bucket of the tests.
fn to_bucket() -> String {
    let s3 = json!({"S3Uri": format!("s3://{BUCKET}/out"), "KmsKeyId": "alias/exports"});
    let role = "arn:aws:iam::444455556666:role/my-role";
    json!({"DataAccessRoleArn": role, "OutputDataConfig": {"S3Configuration": s3}}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_all_that_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let source = small();
    let server = Server::start(&["--listen", "127.0.0.1:0", "--source", source.to_str().unwrap()], folder.path());
    assert_eq!(server.said.iter().filter(|line| line.contains("curl -i")).count(), 3, "{:?}", server.said);
    let job = server.kick_off(&server.bases[0], "").await;
    let manifest = server.until_over(&job).await.json();
    assert!(manifest["output"].as_array().unwrap().len() > 5);
    for file in manifest["output"].as_array().unwrap() {
        let answer = server.get(file["url"].as_str().unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK);
        let lines = answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
        assert_eq!(lines as u64, file["count"].as_u64().unwrap());
    }
    let root = server.root();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(server.get(&format!("{root}{path}")).await.status, StatusCode::OK);
    }
    let metrics = server.get(&format!("{root}/metrics")).await;
    assert!(metrics.header("content-type").starts_with("text/plain"));
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    for line in [
        "# HELP fhir_export_read_resources_total Resources read",
        "# TYPE fhir_export_read_resources_total counter",
        "fhir_export_ended_jobs_total{state=\"COMPLETED\"} 1",
        "fhir_export_read_resources_total{type=\"Patient\"} ",
        "fhir_export_journal_seconds_bucket{le=\"",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_says_all_over_tls_and_flags_go_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (certificate, key) = authority.certificate("127.0.0.1");
    let (certificate, key) = (certificate.pem(), key.serialize_pem());
    fs::write(folder.path().join("server.pem"), certificate).unwrap();
    fs::write(folder.path().join("server.key"), key).unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let file = config(
        folder.path(),
        &format!(
            "listen = '127.0.0.1:1'\nregion = 'eu-west-1'\n[tls]\ncertificate = '{}'\nkey = '{}'\n\
             [files]\nto = '{}'\nkeep_hours = 1\n[queue]\nmost_waiting = 5\n[limits]\nmemory = '64MiB'\n\
             [[data_stores]]\nid = 'one'\nsource = '{}'\naccount = '111122223333'\n\
             [[data_stores]]\nid = 'two'\nsource = '{}'\nbase_urls = ['https://fhir.example.org/r4']\n",
            path("server.pem"),
            path("server.key"),
            path("kept"),
            small().display(),
            small().join("Patient.ndjson").display(),
        ),
    );
    let mut server = Server::start(&["--config", &file, "--listen", "127.0.0.1:0"], folder.path());
    server.trust(&authority);
    assert_eq!(server.bases.len(), 2);
    assert!(server.bases.iter().all(|base| base.starts_with("https://127.0.0.1:")), "{:?}", server.bases);
    let mut types = Vec::new();
    for base in &server.bases {
        let job = server.kick_off(base, "").await;
        assert!(job.starts_with(base), "{job}");
        let over = server.until_over(&job).await;
        assert!(!over.header("expires").is_empty());
        let manifest = over.json();
        let output = manifest["output"].as_array().unwrap();
        let url = output[0]["url"].as_str().unwrap();
        assert!(url.starts_with("https://") && server.get(url).await.status == StatusCode::OK);
        types.push(output.len());
    }
    assert!(types[0] > 5 && types[1] == 1, "{types:?}");
    assert!(folder.path().join("kept").is_dir());
    let target = [("x-amz-target", "HealthLake.DescribeFHIRDatastore")];
    let described = server.ask("POST", &server.root(), &target, "{\"DatastoreId\":\"one\"}").await.json();
    let arn = "arn:aws:healthlake:eu-west-1:111122223333:datastore/fhir/one";
    assert_eq!(described["DatastoreProperties"]["DatastoreArn"], arn);
}

#[test]
fn what_is_wrong_with_the_file_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    for (text, said) in [
        (
            "listen = '0.0.0.0:8080'\n[[data_stores]]\nsource = 'x'",
            "serve.toml:1: listen \"0.0.0.0:8080\" isn't on this machine alone",
        ),
        ("[limits]\n\nmemory = 'much'\n[[data_stores]]\nsource = 'x'", "serve.toml:3: memory \"much\" isn't a size"),
        ("[[data_stores]]\nsorce = 'x'", "serve.toml:2: unknown field `sorce`"),
        ("[[data_stores]]\nsource = 'ftp://x'", "serve.toml:2: source: the scheme \"ftp\" is unknown"),
        ("[[data_stores]]\nsource = 'x'\naccount = '1'", "serve.toml:3: account \"1\" isn't an account"),
        (
            "[[data_stores]]\nsource = 'postgres://u:${NO_SUCH_VARIABLE}@h/d'",
            "serve.toml:2: source: the environment variable NO_SUCH_VARIABLE isn't set",
        ),
        ("[[data_stores]]\nsource = 'x'\nid = 'a/b'", "serve.toml:3: id \"a/b\" can't stand in a URL as it is"),
        ("region = 'x'", "there are no data stores"),
    ] {
        let file = config(folder.path(), text);
        let ended = binary(&["serve", "--config", &file]);
        ended.assert_exit(2);
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    }
    let missing = binary(&["serve", "--config", "/nowhere/serve.toml"]);
    missing.assert_exit(2);
    assert!(missing.stderr.contains("/nowhere/serve.toml can't be read"), "{}", missing.stderr);
    binary(&["serve"]).assert_exit(2);
    let outside = end(command(&["serve", "--listen", "0.0.0.0:0", "--source"]).arg(small()));
    outside.assert_exit(2);
    assert!(outside.stderr.contains("isn't on this machine alone"), "{}", outside.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_in_a_bucket_are_read_by_signed_urls_that_end() {
    let store = S3Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "listen = '127.0.0.1:0'\n[files]\nto = 's3://{BUCKET}/kept'\nsigned_url_seconds = 300\n\
         [s3]\nendpoint = 'http://{}'\nregion = 'us-east-1'\n[[data_stores]]\nsource = '{}'\n",
        store.address(),
        small().display()
    );
    let server = Server::start(&["--config", &config(folder.path(), &text)], folder.path());
    let job = server.kick_off(&server.bases[0], "?_type=Patient").await;
    let over = server.until_over(&job).await;
    assert_eq!(over.header("cache-control"), "no-store");
    let manifest = over.json();
    assert_eq!(manifest["requiresAccessToken"], false);
    let url = manifest["output"][0]["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with(&format!("http://{}/{BUCKET}/kept/", store.address())), "{url}");
    assert!(url.contains("X-Amz-Expires=300") && !url.contains(SECRET_KEY), "{url}");
    let file = server.get(&url).await;
    assert_eq!(file.status, StatusCode::OK);
    assert_eq!(file.body.len() as u64, manifest["output"][0]["extension"]["bytes"].as_u64().unwrap());
    let forged = url.replace("X-Amz-Expires=300", "X-Amz-Expires=900");
    assert_eq!(server.get(&forged).await.status, StatusCode::FORBIDDEN, "nobody makes it last longer");
    let unsigned = url.split('?').next().unwrap();
    assert_eq!(server.get(unsigned).await.status, StatusCode::FORBIDDEN);
    assert_eq!(server.ask("DELETE", &job, &[], "").await.status, StatusCode::ACCEPTED);
    assert_eq!(server.get(&url).await.status, StatusCode::NOT_FOUND);
}

/// Lets no part and no object into the store.
fn block(store: &S3Server) {
    use crate::support::proxy::Act;
    store.proxy.next(usize::MAX, |request| request.is_put() || request.is_begin(), Act::error(503, "SlowDown"));
}

/// A server with a job that runs, because its store takes nothing, and one behind it.
async fn busy(store: &S3Server, folder: &Path) -> (Server, Vec<String>, [String; 2]) {
    block(store);
    let arguments: Vec<String> = ["--listen", "127.0.0.1:0", "--endpoint", &format!("http://{}", store.address())]
        .into_iter()
        .chain(["--datastore-id", "one", "--source", SOURCE.to_str().unwrap()])
        .map(str::to_owned)
        .collect();
    let server = again(&arguments, folder);
    let first = format!("{}/$export", server.bases[0]);
    let started = server.ask("POST", &first, &[PREFER, ("content-type", "application/json")], &to_bucket()).await;
    assert_eq!(started.status, StatusCode::ACCEPTED, "{started:?}");
    let jobs = [started.header("content-location").to_owned(), server.kick_off(&server.bases[0], "?_type=Goal").await];
    runs_and_waits(&server, &jobs).await;
    (server, arguments, jobs)
}

fn again(arguments: &[String], folder: &Path) -> Server {
    Server::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), folder)
}

async fn runs_and_waits(server: &Server, jobs: &[String; 2]) {
    server.until_state(&jobs[0], "IN_PROGRESS").await;
    server.until_state(&jobs[1], "QUEUED").await;
}

fn of_new_address(server: &Server, jobs: &[String; 2]) -> [String; 2] {
    jobs.clone().map(|job| format!("{}/export/{}", server.bases[0], job.rsplit('/').next().unwrap()))
}

async fn end_right(server: &Server, store: &S3Server, jobs: &[String; 2]) {
    let over = [server.until_over(&jobs[0]).await.json(), server.until_over(&jobs[1]).await.json()];
    let count = |over: &Value, resource_type: &str| -> Option<u64> {
        let files = over["output"].as_array().unwrap().iter().filter(|file| file["type"] == resource_type);
        files.map(|file| file["count"].as_u64()).sum()
    };
    let lines = |name: &str| {
        let files = fs::read_dir(&*SOURCE).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
        let of_type = format!("{{\"resourceType\":\"{name}\"");
        files.map(|text| text.lines().filter(|line| line.starts_with(&of_type)).count() as u64).sum::<u64>()
    };
    for name in ["Patient", "Observation", "Basic", "Goal"] {
        assert_eq!(count(&over[0], name), Some(lines(name)), "{name}");
    }
    assert_eq!(count(&over[1], "Goal"), Some(lines("Goal")));
    let times = [0, 1].map(|job: usize| over[job]["extension"]["endTime"].as_str().unwrap().to_owned());
    assert!(times[0] <= times[1], "{times:?}");
    assert_eq!(over[0]["exportJobProperties"]["jobStatus"], "COMPLETED_WITH_ERRORS", "some lines aren't understood");
    assert_eq!(store.left_open(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_goes_on_with_the_job_that_ran_and_the_one_that_waited_in_their_order() {
    let (store, folder) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let (server, arguments, jobs) = busy(&store, folder.path()).await;
    server.kill();
    let server = again(&arguments, folder.path());
    let jobs = of_new_address(&server, &jobs);
    runs_and_waits(&server, &jobs).await;
    server.kill();
    let server = again(&arguments, folder.path());
    let jobs = of_new_address(&server, &jobs);
    store.proxy.behave();
    end_right(&server, &store, &jobs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_asked_to_stop_leaves_its_jobs_for_the_next_start() {
    let (store, folder) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let (server, arguments, jobs) = busy(&store, folder.path()).await;
    let (code, said) = server.terminate();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("2 jobs are left as they are and go on with the next start"), "{said}");
    store.proxy.behave();
    let server = again(&arguments, folder.path());
    let jobs = of_new_address(&server, &jobs);
    end_right(&server, &store, &jobs).await;
}

/// The environment of the server: where the store of the tests is, and its key.
fn environment() -> [(&'static str, &'static str); 2] {
    [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]
}
