//! The AWS CLI, with `--endpoint-url` as the README says.

use serde_json::{Value, json};

use super::super::super::program::{Ended, small};
use super::super::client::{Server, config};
use super::{client, clients, environment, run};
use crate::support::proxy::Recorded;
use crate::support::s3_server::{BUCKET, S3Server};

const ROLE: &str = "arn:aws:iam::444455556666:role/my-role";
const STORE: &str = "clinic";

/// What `aws` exits with when the service refuses.
const REFUSED: i32 = 255;

/// Asks one operation of a server.
async fn aws(server: &Server, operation: &str, arguments: &[&str]) -> Ended {
    let home = tempfile::tempdir().unwrap();
    let mut command = client(&clients().aws, home.path());
    command.args(["healthlake", "--region", "us-east-1", "--endpoint-url", &server.root()]);
    command.args(operation.split(' ')).args(arguments).envs(environment()).env("AWS_MAX_ATTEMPTS", "1");
    run(&mut command).await
}

/// The same, of the data store, and what it answers.
async fn answer(server: &Server, operation: &str, arguments: &[&str]) -> Value {
    let ended = aws(server, operation, &[&["--datastore-id", STORE], arguments].concat()).await;
    ended.assert_exit(0);
    serde_json::from_str(&ended.stdout).unwrap()
}

fn output(uri: &str) -> String {
    json!({"S3Configuration": {"S3Uri": uri, "KmsKeyId": "alias/exports"}}).to_string()
}

/// The arguments of a start.
fn start<'a>(output: &'a str, name: &'a str) -> [&'a str; 6] {
    ["--output-data-config", output, "--data-access-role-arn", ROLE, "--job-name", name]
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name}: {value}"))
}

async fn until_over(server: &Server, job: &str) -> Value {
    server.until_over(&format!("{}/export/{job}", server.bases[0])).await.json()
}

async fn serve(store: &S3Server, folder: &tempfile::TempDir) -> Server {
    let endpoint = format!("http://{}", store.address());
    let source = small();
    let arguments = ["--listen", "127.0.0.1:0", "--endpoint", &endpoint, "--datastore-id", STORE, "--source"];
    Server::start(&[&arguments[..], &[source.to_str().unwrap()]].concat(), folder.path())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_started_waited_for_described_and_listed() {
    let (store, folder) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let server = serve(&store, &folder).await;
    let output = output(&format!("s3://{BUCKET}/cli"));
    let started = answer(&server, "start-fhir-export-job", &start(&output, "every night: 1")).await;
    let job = text(&started, "JobId");
    assert_eq!((text(&started, "JobStatus"), text(&started, "DatastoreId")), ("SUBMITTED", STORE));
    // Between two looks the CLI waits for two minutes, so that its first has to be the last.
    let described = until_over(&server, job).await;
    let waited = aws(&server, "wait fhir-export-job-completed", &["--datastore-id", STORE, "--job-id", job]).await;
    waited.assert_exit(0);
    let seen = answer(&server, "describe-fhir-export-job", &["--job-id", job]).await;
    let seen = &seen["ExportJobProperties"];
    let uri = format!("s3://{BUCKET}/cli/{STORE}-FHIR_EXPORT-{job}/");
    assert_eq!(
        seen["OutputDataConfig"],
        json!({"S3Configuration": {"S3Uri": uri, "KmsKeyId": "alias/exports"}}),
        "the folder of the job is behind the caller's URI"
    );
    assert_eq!((text(seen, "JobStatus"), text(seen, "JobName")), ("COMPLETED", "every night: 1"));
    assert_eq!((text(seen, "JobId"), text(seen, "DataAccessRoleArn")), (job, ROLE));
    // Seconds since 1970, which this version of the CLI passes on.
    let time = |name: &str| seen[name].as_f64().unwrap();
    assert!(time("SubmitTime") > 1.7e9 && time("SubmitTime") <= time("EndTime"), "{seen}");
    let listed = answer(&server, "list-fhir-export-jobs", &[]).await;
    assert_eq!(listed, json!({"ExportJobPropertiesList": [seen]}));

    let types = described["output"].as_array().unwrap();
    assert_eq!(types.len(), 73, "each type of the data");
    assert!(types.iter().all(|file| text(file, "url").starts_with(&uri)));
    let writes = store.proxy.of(|request| request.is_begin() || request.is_put());
    let key =
        |request: &Recorded| request.header("x-amz-server-side-encryption-aws-kms-key-id") == Some("alias/exports");
    assert!(writes.len() >= types.len() && writes.iter().all(key), "every object with the caller's key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_ends_the_wait() {
    let (store, folder) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let server = serve(&store, &folder).await;
    let output = output("s3://nobodys-bucket/cli");
    let started = answer(&server, "start-fhir-export-job", &start(&output, "lost")).await;
    let job = text(&started, "JobId");
    until_over(&server, job).await;
    let waited = aws(&server, "wait fhir-export-job-completed", &["--datastore-id", STORE, "--job-id", job]).await;
    waited.assert_exit(REFUSED);
    assert!(waited.stderr.contains("Waiter encountered a terminal failure state"), "{}", waited.stderr);
    let seen = answer(&server, "describe-fhir-export-job", &["--job-id", job]).await;
    assert_eq!(text(&seen["ExportJobProperties"], "JobStatus"), "FAILED");
    assert!(!text(&seen["ExportJobProperties"], "Message").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_the_names_of_the_model() {
    let (store, folder) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let server = serve(&store, &folder).await;
    let (good, bad) = (output(&format!("s3://{BUCKET}/x")), output("s3://Upper_Case/x"));
    let of = |id: &'static str| ["--datastore-id", id];
    let (nowhere, here) = (of("nowhere"), of(STORE));
    let cases: [(&str, Vec<&str>, &str, &str); 8] = [
        ("describe-fhir-datastore", nowhere.to_vec(), "ResourceNotFoundException", "no data store \"nowhere\""),
        ("list-fhir-export-jobs", nowhere.to_vec(), "ResourceNotFoundException", "no data store \"nowhere\""),
        ("describe-fhir-export-job", [&here[..], &["--job-id", "none"]].concat(), "ResourceNotFoundException", "none"),
        ("describe-fhir-export-job", [&here[..], &["--job-id", "a,b"]].concat(), "ValidationException", "JobId"),
        ("start-fhir-export-job", [&nowhere[..], &start(&good, "a")].concat(), "ResourceNotFoundException", "nowhere"),
        ("start-fhir-export-job", [&here[..], &start(&bad, "a")].concat(), "ValidationException", "s3://Upper_Case/x"),
        ("start-fhir-export-job", [&here[..], &start(&good, "a,b")].concat(), "ValidationException", "JobName"),
        (
            "list-fhir-export-jobs",
            [&here[..], &["--next-token", "none"]].concat(),
            "ValidationException",
            "NextToken isn't one of this list's",
        ),
    ];
    for (operation, arguments, name, said) in cases {
        let ended = aws(&server, operation, &arguments).await;
        ended.assert_exit(REFUSED);
        assert!(ended.stderr.contains(&format!("An error occurred ({name}) when calling the ")), "{}", ended.stderr);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
    let waited = aws(&server, "wait fhir-export-job-completed", &["--datastore-id", STORE, "--job-id", "none"]).await;
    waited.assert_exit(REFUSED);
    assert!(waited.stderr.contains("ResourceNotFoundException"), "{}", waited.stderr);
    assert_eq!(answer(&server, "list-fhir-export-jobs", &[]).await, json!({"ExportJobPropertiesList": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_token_starts_one_job() {
    let (store, folder) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let server = serve(&store, &folder).await;
    let output = output(&format!("s3://{BUCKET}/token"));
    let token = ["--client-token", "once-only"];
    let (first, other) = (start(&output, "first"), start(&output, "other"));
    let started = answer(&server, "start-fhir-export-job", &[&first[..], &token].concat()).await;
    until_over(&server, text(&started, "JobId")).await;
    let again = answer(&server, "start-fhir-export-job", &[&first[..], &token].concat()).await;
    assert_eq!(started, again);
    let arguments = [&["--datastore-id", STORE][..], &other, &token].concat();
    let refused = aws(&server, "start-fhir-export-job", &arguments).await;
    refused.assert_exit(REFUSED);
    assert!(refused.stderr.contains("(ValidationException)"), "{}", refused.stderr);
    // The CLI makes a token of its own for each call.
    let third = answer(&server, "start-fhir-export-job", &first).await;
    assert_ne!(third["JobId"], started["JobId"]);
    let listed = answer(&server, "list-fhir-export-jobs", &[]).await;
    assert_eq!(listed["ExportJobPropertiesList"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_and_by_name_and_status() {
    let (store, folder) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let server = serve(&store, &folder).await;
    let output = output(&format!("s3://{BUCKET}/pages"));
    let mut started = Vec::new();
    for name in ["a", "b", "c"] {
        let answer = answer(&server, "start-fhir-export-job", &start(&output, name)).await;
        started.push(text(&answer, "JobId").to_owned());
    }
    until_over(&server, &started[2]).await;
    let ids = |list: &Value| -> Vec<String> {
        let jobs = list["ExportJobPropertiesList"].as_array().unwrap();
        jobs.iter().map(|job| text(job, "JobId").to_owned()).collect()
    };
    let all = answer(&server, "list-fhir-export-jobs", &[]).await;
    assert_eq!(all.get("NextToken"), None);
    let first = answer(&server, "list-fhir-export-jobs", &["--max-results", "2"]).await;
    let token = text(&first, "NextToken");
    let second = answer(&server, "list-fhir-export-jobs", &["--max-results", "2", "--next-token", token]).await;
    assert_eq!(second.get("NextToken"), None);
    let pages = [ids(&first), ids(&second)];
    assert_eq!((pages[0].len(), pages[1].len()), (2, 1));
    assert_eq!(pages.concat(), ids(&all));
    let mut sorted = [ids(&all), started.clone()];
    sorted.iter_mut().for_each(|ids| ids.sort());
    assert_eq!(sorted[0], sorted[1]);

    let listed = |arguments: &'static [&'static str]| answer(&server, "list-fhir-export-jobs", arguments);
    assert_eq!(ids(&listed(&["--job-name", "b"]).await), started[1..2]);
    assert_eq!(ids(&listed(&["--job-status", "COMPLETED"]).await).len(), 3);
    assert!(ids(&listed(&["--job-status", "FAILED"]).await).is_empty());
    // The CLI makes seconds since 1970 of what it is given.
    assert_eq!(ids(&listed(&["--submitted-after", "2024-01-01T00:00:00Z"]).await).len(), 3);
    assert!(ids(&listed(&["--submitted-before", "2024-01-01T00:00:00Z"]).await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn data_stores_are_listed_and_described() {
    let folder = tempfile::tempdir().unwrap();
    let source = small();
    let text = format!(
        "listen = '127.0.0.1:0'\nregion = 'eu-west-1'\naccount = '111122223333'\n\
         [[data_stores]]\nid = 'clinic'\nsource = '{0}'\n[[data_stores]]\nid = 'archive'\nsource = '{0}'\n",
        source.display()
    );
    let server = Server::start(&["--config", &config(folder.path(), &text)], folder.path());
    let ended = aws(&server, "list-fhir-datastores", &[]).await;
    ended.assert_exit(0);
    let listed: Value = serde_json::from_str(&ended.stdout).unwrap();
    let listed = listed["DatastorePropertiesList"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    let described = answer(&server, "describe-fhir-datastore", &[]).await;
    let described = &described["DatastoreProperties"];
    assert!(listed.contains(described), "{listed:?}");
    assert_eq!(described["DatastoreArn"], "arn:aws:healthlake:eu-west-1:111122223333:datastore/fhir/clinic");
    assert_eq!(described["DatastoreEndpoint"], format!("{}/", server.bases[0]));
    assert_eq!((&described["DatastoreStatus"], &described["DatastoreTypeVersion"]), (&"ACTIVE".into(), &"R4".into()));
    aws(&server, "wait fhir-datastore-active", &["--datastore-id", STORE]).await.assert_exit(0);
}
