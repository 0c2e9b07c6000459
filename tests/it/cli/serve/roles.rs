//! A server that writes in the name of the role that its caller names.

use axum::http::StatusCode;
use serde_json::json;

use super::super::program::small;
use super::PREFER;
use super::client::{Server, config};
use crate::support::proxy::{Proxy, Recorded};
use crate::support::s3_server::BUCKET;
use crate::support::strict_server::{role_arn, strict_server};

#[tokio::test(flavor = "multi_thread")]
async fn strict_s3_a_server_assumes_the_role_that_its_caller_names() {
    let (strict, folder) = (strict_server(), tempfile::tempdir().unwrap());
    let proxy = Proxy::start(strict.s3).await;
    let at = format!("http://{}", proxy.address());
    let text = format!(
        "listen = '127.0.0.1:0'\n[s3]\nendpoint = '{at}'\n[roles]\nassume = true\nsts_endpoint = '{at}'\n\
         session_seconds = 900\n[[data_stores]]\nid = 'a'\nsource = '{}'\n",
        small().display()
    );
    let server = Server::start(&["--config", &config(folder.path(), &text)], folder.path());
    for (role, state) in [("ExportRole", "COMPLETED"), ("UntrustingRole", "FAILED")] {
        let s3 = json!({"S3Uri": format!("s3://{BUCKET}/roles/served"), "KmsKeyId": strict.kms_key});
        let body =
            json!({"DataAccessRoleArn": role_arn(role), "OutputDataConfig": {"S3Configuration": s3}}).to_string();
        let url = format!("{}/$export", server.bases[0]);
        let started = server.ask("POST", &url, &[PREFER, ("content-type", "application/json")], &body).await;
        assert_eq!(started.status, StatusCode::ACCEPTED, "{started:?}");
        let told = server.until_over(started.header("content-location")).await;
        assert!(String::from_utf8_lossy(&told.body).contains(state), "{role}: {told:?}");
    }
    assert!(proxy.of(Recorded::is_sts).len() > 1);
    let (_, log) = server.terminate();
    assert!(log.contains("UntrustingRole can't be assumed"), "{log}");
}
