//! PostgreSQL over TLS, with a certificate of an authority of our own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use fhir_export::ErrorKind;
use fhir_export::source::postgres::Mapping;
use fhir_export::source::{PostgresSource, Source};

use super::server::{Server, connect, is_root};
use crate::support::authority::Authority;

const PATIENTS: &str = "[[tables]]\ntypes = [\"Patient\"]\ntable = \"patients\"\nid = \"id\"\nbody = \"body\"\n";

/// A server whose certificate is for `localhost`.
fn server_with_tls(authority: &Authority, folder: &Path) -> Server {
    let (certificate, key) = authority.certificate("localhost");
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let (certificate_file, key_file) = (folder.join("server.crt"), folder.join("server.key"));
    fs::write(&certificate_file, certificate.pem()).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
    if is_root() {
        assert!(Command::new("chown").arg("postgres").arg(&key_file).status().unwrap().success());
    }
    let (certificate, key) = (certificate_file.display(), key_file.display());
    Server::start(&format!("ssl = on\nssl_cert_file = '{certificate}'\nssl_key_file = '{key}'"))
}

fn source(url: &str) -> fhir_export::Result<PostgresSource> {
    PostgresSource::new(url, None).map(|source| source.mapping(Mapping::parse(PATIENTS, "patients").unwrap()))
}

async fn refusal(url: &str) -> String {
    let error = match source(url) {
        Ok(source) => source.open().await.map(drop).expect_err(url),
        Err(error) => error,
    };
    let text = format!("{error:#} {error:?}");
    assert!(!text.contains("s3cret"), "{text}");
    assert!(!error.is_retryable() && error.kind() != ErrorKind::Internal, "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_trusted_by_its_ca_and_its_name_only() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let server = server_with_tls(&authority, folder.path());
    let (ca, other_ca) = (folder.path().join("ca.pem"), folder.path().join("other.pem"));
    fs::write(&ca, authority.pem()).unwrap();
    fs::write(&other_ca, other.pem()).unwrap();
    let url = |host: &str, query: &str| {
        let url = server.url("postgres").replace("postgres@127.0.0.1", &format!("postgres:s3cret@{host}"));
        format!("{url}?{query}")
    };
    let with_ca = |path: &Path| format!("sslrootcert={}", path.display());
    let client = connect(&server.url("postgres")).await;
    client.batch_execute("CREATE TABLE patients (id text PRIMARY KEY, body text)").await.unwrap();

    let is_encrypted = "SELECT bool_and(ssl), count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                        WHERE application_name = 'fhir-export'";
    for (query, expected) in [
        (with_ca(&ca), true),
        (format!("sslmode=verify-full&{}", with_ca(&ca)), true),
        ("sslmode=no-verify".to_owned(), true),
        // Here a plain connection would do, too.
        ("sslmode=prefer".to_owned(), true),
        (String::new(), true),
        ("sslmode=disable".to_owned(), false),
    ] {
        let snapshot =
            source(&url("localhost", &query)).unwrap().open().await.unwrap_or_else(|e| panic!("{query}: {e:#}"));
        let row = client.query_one(is_encrypted, &[]).await.unwrap();
        assert_eq!((row.get::<_, bool>(0), row.get::<_, i64>(1)), (expected, 1), "{query}");
        drop(snapshot);
        // Until the server has seen that it is gone.
        while client.query_one(is_encrypted, &[]).await.unwrap().get::<_, i64>(1) > 0 {
            tokio::task::yield_now().await;
        }
    }

    let untrusted = "the server's certificate isn't trusted";
    for (host, query, said) in [
        ("localhost", "sslmode=require".to_owned(), untrusted),
        ("localhost", with_ca(&other_ca), untrusted),
        ("localhost", format!("sslmode=require&{}", with_ca(&other_ca)), untrusted),
        ("127.0.0.1", with_ca(&ca), "127.0.0.1"),
        ("127.0.0.1", format!("sslmode=verify-full&{}", with_ca(&ca)), "localhost"),
        ("localhost", with_ca(&folder.path().join("nowhere.pem")), "nowhere.pem"),
        ("localhost", with_ca(&folder.path().join("server.key")), "server.key"),
    ] {
        let text = refusal(&url(host, &query)).await;
        assert!(text.contains(said), "{host} {query}: {text}");
        assert!(text.contains("postgres://postgres@") || text.contains("can't be read"), "{host} {query}: {text}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_when_tls_is_asked_for() {
    let server = Server::start("");
    for mode in ["require", "verify-ca", "verify-full", "no-verify"] {
        let url = server.url("postgres").replace("postgres@", "postgres:s3cret@");
        let text = refusal(&format!("{url}?sslmode={mode}")).await;
        assert!(text.contains("server does not support TLS"), "{mode}: {text}");
    }
}
