//! S3 over the wire: a server that checks signatures, behind a proxy that shows what was sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fhir_export::ErrorKind;
use fhir_export::destination::s3::{PartChecksum, S3Options};
use fhir_export::destination::{
    Destination, MIN_PART_BYTES, MultipartDestination, ObjectKey, RetryCause, RetryPolicy, Retrying,
};
use object_store::PutPayload;

use crate::support::proxy::{Act, Recorded};
use crate::support::s3_server::S3Server;

const CRC: &str = "x-amz-checksum-crc64nvme";
const SHA: &str = "x-amz-checksum-sha256";
const KMS: &str = "x-amz-server-side-encryption";
const KMS_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const PAYLOAD: &str = "x-amz-content-sha256";

fn key() -> ObjectKey {
    ObjectKey::new("ds-FHIR_EXPORT-1/Patient/Patient-1-0-0.ndjson").unwrap()
}

/// A part of the least size, in chunks.
fn part(fill: u8) -> PutPayload {
    let bytes = Bytes::from(vec![fill; MIN_PART_BYTES]);
    PutPayload::from_iter([bytes.slice(..1000), bytes.slice(1000..)])
}

/// Sends an object of two parts.
async fn export(destination: &dyn Destination) -> fhir_export::Result<()> {
    let upload = destination.begin(&key()).await?;
    let parts = [upload.put_part(1, part(b'a')).await?, upload.put_part(2, "end\n".into()).await?];
    upload.complete(&parts).await
}

fn whole() -> Vec<u8> {
    let mut bytes = vec![b'a'; MIN_PART_BYTES];
    bytes.extend_from_slice(b"end\n");
    bytes
}

/// Repeats without long waits.
fn retrying(options: S3Options) -> Retrying<MultipartDestination> {
    let policy = RetryPolicy {
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(4),
        ..RetryPolicy::default()
    };
    Retrying::new(Arc::new(options.open().unwrap())).with_policy(policy)
}

#[cfg(feature = "testing")]
#[tokio::test]
async fn s3_keeps_the_contract() {
    let server = S3Server::start().await;
    let destination = server.options("a prefix/é").open().unwrap();
    fhir_export::destination::contract::check(&destination).await;
    assert_eq!(server.left_open(), Vec::<String>::new());
    fhir_export::destination::contract::check(&retrying(server.options(""))).await;
    assert_eq!(server.left_open(), Vec::<String>::new());
}

#[tokio::test]
async fn an_object_of_parts_goes_over_the_wire_signed_and_with_checksums() {
    let server = S3Server::start().await;
    export(&server.options("out").open().unwrap()).await.unwrap();
    assert_eq!(server.object(&format!("out/{}", key())).unwrap(), whole());

    let requests = server.proxy.recorded();
    let kinds: Vec<_> = requests.iter().map(|request| request.method.as_str()).collect();
    assert_eq!(kinds, ["POST", "PUT", "PUT", "POST"]);
    for request in &requests {
        let path = "/bench/out/ds-FHIR_EXPORT-1/Patient/Patient-1-0-0.ndjson?";
        assert!(request.target.starts_with(path), "{}", request.target);
        assert!(request.header("authorization").unwrap().starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"));
        assert_ne!(request.header(PAYLOAD), Some("UNSIGNED-PAYLOAD"), "signed over plain HTTP");
    }
    let begin = &requests[0];
    assert_eq!(begin.header("x-amz-checksum-algorithm"), Some("CRC64NVME"));
    assert_eq!(begin.header("content-type"), Some("application/fhir+ndjson"));
    let parts = server.proxy.of(Recorded::is_part);
    assert_eq!(parts.iter().map(|part| part.body_bytes).collect::<Vec<_>>(), [MIN_PART_BYTES, 4]);
    assert!(parts.iter().all(|part| part.header(CRC).is_some_and(|crc| crc.len() == 12)), "{parts:?}");
}

#[tokio::test]
async fn a_small_object_is_one_put() {
    let server = S3Server::start().await;
    let destination = server.options("").open().unwrap();
    destination.put(&key(), PutPayload::from_iter([Bytes::from("a\n"), Bytes::from("b\n")])).await.unwrap();
    assert_eq!(server.object(key().as_str()).unwrap(), b"a\nb\n");
    let requests = server.proxy.recorded();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].is_put() && requests[0].header(CRC).is_some());
    assert_eq!(requests[0].header("content-type"), Some("application/fhir+ndjson"));
}

#[tokio::test]
async fn the_kms_key_is_sent_when_an_object_begins_and_not_with_its_parts() {
    let server = S3Server::start().await;
    let arn = "arn:aws:kms:us-east-1:123456789012:key/1234abcd";
    let destination = server.options("").with_kms_key(arn).open().unwrap();
    export(&destination).await.unwrap();
    destination.put(&ObjectKey::new("small").unwrap(), "x".into()).await.unwrap();
    for request in server.proxy.recorded() {
        let begins = request.is_begin() || request.is_put();
        assert_eq!(request.header(KMS), begins.then_some("aws:kms"), "{}", request.target);
        assert_eq!(request.header(KMS_KEY), begins.then_some(arn), "{}", request.target);
    }
}

#[tokio::test]
async fn checksums_can_be_chosen_or_left_out() {
    let server = S3Server::start().await;
    for (checksum, crc, sha) in
        [(PartChecksum::Off, false, false), (PartChecksum::Crc64Nvme, true, false), (PartChecksum::Sha256, false, true)]
    {
        let before = server.proxy.of(Recorded::is_part).len();
        export(&server.options("").with_checksum(checksum).open().unwrap()).await.unwrap();
        let parts = server.proxy.of(Recorded::is_part).split_off(before);
        assert_eq!(parts.len(), 2);
        for part in parts {
            assert_eq!((part.header(CRC).is_some(), part.header(SHA).is_some()), (crc, sha), "{checksum:?}");
        }
    }
}

#[tokio::test]
async fn a_payload_can_be_left_unsigned() {
    let server = S3Server::start().await;
    export(&server.options("").with_signed_payload(false).open().unwrap()).await.unwrap();
    for part in server.proxy.of(Recorded::is_part) {
        assert_eq!(part.header(PAYLOAD), Some("UNSIGNED-PAYLOAD"));
    }
}

#[tokio::test]
async fn a_wrong_secret_or_key_is_refused_and_said_so() {
    let server = S3Server::start().await;
    for (key_id, secret, code) in
        [("AKIDEXAMPLE", "wrong", "SignatureDoesNotMatch"), ("UNKNOWN", "wJalrEXAMPLEKEY", "NotSignedUp")]
    {
        let destination = retrying(server.options("").with_access_key(key_id, secret));
        for error in [
            export(&destination).await.unwrap_err(),
            destination.put(&key(), "x".into()).await.unwrap_err(),
            destination.list("").await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
            let text = error.to_string();
            assert!(text.contains("refuses access") && text.contains(code) && text.contains("s3://bench"), "{text}");
        }
        assert_eq!(destination.counts().total(), 0, "not repeated");
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_named() {
    let server = S3Server::start().await;
    let options = server.options_of("no-such-bucket", "").with_access_key("AKIDEXAMPLE", "wJalrEXAMPLEKEY");
    let destination = retrying(options);
    // The in-process server doesn't look for the bucket when an upload begins, so the proxy answers as S3 does.
    server.proxy.next(2, |request| request.is_begin() || request.is_put(), Act::error(404, "NoSuchBucket"));
    for error in [
        destination.begin(&key()).await.map(|_| ()).unwrap_err(),
        destination.put(&key(), "x".into()).await.unwrap_err(),
        destination.list("").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        let text = error.to_string();
        assert!(text.contains("the bucket isn't there") && text.contains("no-such-bucket"), "{text}");
    }
}

#[tokio::test]
async fn an_upload_that_finds_nothing_where_it_begins_finds_no_bucket_whatever_the_store_calls_it() {
    let server = S3Server::start().await;
    for answer in [Act::error(404, "NoSuchUpload"), Act::error(404, "NoSuchKey"), Act::Answer(404, String::new())] {
        server.proxy.next(1, Recorded::is_begin, answer);
        let error = server.options("").open().unwrap().begin(&key()).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("the upload can't be begun: the bucket isn't there"), "{error}");
    }
}

#[tokio::test]
async fn a_part_that_is_refused_for_now_is_sent_again_under_its_number() {
    let server = S3Server::start().await;
    server.proxy.next(2, Recorded::is_part, Act::error(503, "SlowDown"));
    server.proxy.next(1, Recorded::is_part, Act::error(500, "InternalError"));
    server.proxy.next(1, Recorded::is_part, Act::Reset);
    let destination = retrying(server.options(""));
    export(&destination).await.unwrap();
    assert_eq!(server.object(key().as_str()).unwrap(), whole());

    let numbers: Vec<_> =
        server.proxy.of(Recorded::is_part).iter().map(|part| part.part_number().unwrap().to_owned()).collect();
    assert_eq!(numbers, ["1", "1", "1", "1", "1", "2"]);
    let counts = destination.counts();
    let counted = RetryCause::ALL.map(|cause| counts.get(cause));
    assert_eq!(counted, [2, 1, 0, 1], "throttled, server error, timeout, connection");
    assert_eq!(destination.throttle().allowed(8), 4, "the flight is halved");
}

#[tokio::test]
async fn nothing_is_repeated_below_us() {
    let server = S3Server::start().await;
    server.proxy.next(9, |_| true, Act::error(503, "SlowDown"));
    let error = server.options("").open().unwrap().begin(&key()).await.map(|_| ()).unwrap_err();
    assert_eq!(RetryCause::of(&error), Some(RetryCause::Throttled));
    assert!(error.to_string().contains("503 SlowDown: Please wait."), "{error}");
    assert_eq!(server.proxy.recorded().len(), 1);
}

#[tokio::test]
async fn a_lost_answer_to_complete_ends_well() {
    let server = S3Server::start().await;
    server.proxy.next(1, Recorded::is_complete, Act::LoseAnswer);
    let destination = retrying(server.options(""));
    export(&destination).await.unwrap();
    assert_eq!(server.object(key().as_str()).unwrap(), whole());
    assert_eq!(destination.counts().get(RetryCause::Connection), 1);
    assert_eq!(server.proxy.of(Recorded::is_abort).len(), 0);
}

#[tokio::test]
async fn an_error_in_an_answer_that_says_200_is_an_error() {
    let server = S3Server::start().await;
    server.proxy.next(1, Recorded::is_complete, Act::error(200, "InternalError"));
    let destination = retrying(server.options(""));
    export(&destination).await.unwrap();
    assert_eq!(destination.counts().get(RetryCause::ServerError), 1);
    assert_eq!(server.proxy.of(Recorded::is_complete).len(), 2);
    assert_eq!(server.object(key().as_str()).unwrap(), whole());
}

#[tokio::test]
async fn every_other_lost_answer_ends_well_too() {
    let server = S3Server::start().await;
    server.proxy.next(1, Recorded::is_begin, Act::LoseAnswer);
    server.proxy.next(1, Recorded::is_part, Act::LoseAnswer);
    server.proxy.next(1, Recorded::is_put, Act::LoseAnswer);
    let destination = retrying(server.options(""));
    export(&destination).await.unwrap();
    destination.put(&ObjectKey::new("small").unwrap(), "x".into()).await.unwrap();
    assert_eq!(server.object(key().as_str()).unwrap(), whole());
    assert_eq!(server.object("small").unwrap(), b"x");
    assert_eq!(destination.counts().get(RetryCause::Connection), 3);
}

#[tokio::test]
async fn an_abort_is_repeated_until_the_store_lists_no_part() {
    let server = S3Server::start().await;
    let destination = server.options("").open().unwrap();
    let upload = destination.begin(&key()).await.unwrap();
    upload.put_part(1, part(b'a')).await.unwrap();
    assert_eq!(upload.parts().await.unwrap().unwrap().len(), 1);
    assert!(!server.left_open().is_empty());
    // The first abort is answered, but does nothing.
    server.proxy.next(1, Recorded::is_abort, Act::Answer(204, String::new()));
    upload.abort().await.unwrap();
    assert_eq!(server.proxy.of(Recorded::is_abort).len(), 2);
    assert_eq!(upload.parts().await.unwrap().unwrap(), []);
    assert_eq!(server.left_open(), Vec::<String>::new());
}

#[tokio::test]
async fn a_store_that_cannot_list_uploads_says_so() {
    let server = S3Server::start().await;
    let destination = server.options("p").open().unwrap();
    assert_eq!(destination.open_uploads("job/").await.unwrap(), None);
    let upload = "<ListMultipartUploadsResult><Upload><Key>p/job/a</Key><UploadId>u</UploadId></Upload></ListMultipartUploadsResult>";
    server.proxy.next(1, |request| request.target.contains("uploads="), Act::Answer(200, upload.to_owned()));
    let open = destination.open_uploads("job/").await.unwrap().unwrap();
    assert_eq!((open[0].key.as_str(), open[0].upload_id.as_str()), ("job/a", "u"));
}

#[tokio::test]
async fn a_key_goes_over_the_wire_byte_for_byte() {
    let server = S3Server::start().await;
    let destination = server.options("a b").open().unwrap();
    let odd = ObjectKey::new("ds~1 (x)/ä+%20&=.ndjson").unwrap();
    destination.put(&odd, "x\n".into()).await.unwrap();
    let upload = destination.begin(&odd).await.unwrap();
    upload.put_part(1, "y\n".into()).await.unwrap();
    assert_eq!(upload.parts().await.unwrap().unwrap().len(), 1);
    upload.abort().await.unwrap();
    assert_eq!(server.object(&format!("a b/{odd}")).unwrap(), b"x\n");
    assert_eq!(destination.list("").await.unwrap()[0].key, odd);
    assert_eq!(destination.size_bytes(&odd).await.unwrap(), Some(2));
}

#[tokio::test]
async fn a_store_that_is_not_there_is_asked_again_and_then_told() {
    let gone = {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        listener.local_addr().unwrap()
    };
    let server = S3Server::start().await;
    let destination = retrying(server.options("").with_endpoint(format!("http://{gone}")));
    let error = destination.put(&key(), "x".into()).await.unwrap_err();
    assert!(error.to_string().contains("no connection to the store"), "{error}");
    assert_eq!(destination.counts().get(RetryCause::Connection), 10);
}
