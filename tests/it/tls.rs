//! S3 over TLS, with certificates of an authority of our own.

use std::sync::Arc;
use std::time::Instant;

use fhir_export::ErrorKind;
use fhir_export::destination::s3::{S3Options, S3Uri};
use fhir_export::destination::{Destination, ObjectKey, Retrying};

use crate::support::authority::Authority;
use crate::support::proxy::Recorded;
use crate::support::s3_server::S3Server;
use crate::support::wire_job::run_whole;

fn options(server: &S3Server) -> S3Options {
    server.options("tls").with_endpoint(format!("https://{}", server.address()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_export_goes_over_tls_with_a_ca_of_our_own() {
    let authority = Authority::new();
    let server = S3Server::start_tls(&authority).await;
    let options = options(&server).with_root_certificates(authority.pem().as_bytes()).unwrap();
    run_whole(Arc::new(Retrying::new(Arc::new(options.open().unwrap())))).await;
    for part in server.proxy.of(Recorded::is_part) {
        assert_eq!(part.header("x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"), "TLS and the checksum protect it");
        assert!(part.header("x-amz-checksum-crc64nvme").is_some());
    }
    assert_eq!(server.left_open(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_trusted_is_refused_at_once_and_its_host_named() {
    let (authority, other) = (Authority::new(), Authority::new());
    let of_another_host = S3Server::start_over(Some(authority.acceptor("elsewhere.example"))).await;
    let server = S3Server::start_tls(&authority).await;
    let trusting = |server: &S3Server, authority: &Authority| {
        options(server).with_root_certificates(authority.pem().as_bytes()).unwrap()
    };
    for (server, options) in [
        (&server, options(&server)),
        (&server, trusting(&server, &other)),
        (&of_another_host, trusting(&of_another_host, &authority)),
    ] {
        let destination = Retrying::new(Arc::new(options.open().unwrap()));
        let began = Instant::now();
        let key = ObjectKey::new("a").unwrap();
        for error in [
            destination.begin(&key).await.map(|_| ()).unwrap_err(),
            destination.put(&key, "x".into()).await.unwrap_err(),
            destination.list("").await.unwrap_err(),
            destination.open_uploads("").await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Store, "{error:?}");
            let said = format!("the certificate of {} isn't trusted (", server.address());
            assert!(error.to_string().contains(&said), "{error}");
        }
        assert_eq!(destination.counts().total(), 0, "not repeated: {:?}", began.elapsed());
        assert_eq!(server.proxy.recorded().len(), 0);
    }
}

#[test]
fn what_is_no_certificate_is_refused() {
    let options = || S3Options::new(S3Uri::parse("s3://bench").unwrap());
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for pem in ["", "nonsense"] {
        let error = options().with_root_certificates(pem.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{pem:?}");
        assert!(error.message().contains("CA certificate"), "{error}");
    }
    // Some are only found to be none when they are used.
    let used = options().with_root_certificates(broken.as_bytes()).and_then(S3Options::open);
    assert_eq!(used.unwrap_err().kind(), ErrorKind::InvalidConfig);
}
