//! Whole exports to S3 servers that are strict where others are lenient, each a process of its own: SeaweedFS with real
//! encryption, and moto.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fhir_export::ErrorKind;
use fhir_export::destination::{
    Destination, MIN_PART_BYTES, MultipartDestination, ObjectKey, RetryCause, RetryPolicy, Retrying,
};
use fhir_export::job::{JobReport, JobState, JobStore, MemoryJobStore, OnCancel, SweepOptions, sweep};
use fhir_export::source::memory::Gate;

use crate::support::proxy::{Act, Proxy, Recorded};
use crate::support::s3_server::S3Server;
use crate::support::strict_server::{options, send, strict_server};
use crate::support::wire_job::{
    LARGE_BYTES, OBJECTS, OBJECTS_OF_PARTS, config, exporter, join, run_whole, source, source_stalled_at, start, whole,
};

const ENCRYPTION: &str = "x-amz-server-side-encryption";
const ENCRYPTION_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";

/// Longer than anything here takes, unless it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// Repeats without long waits.
pub(crate) fn retrying(destination: MultipartDestination) -> Arc<Retrying<MultipartDestination>> {
    let (first_wait, longest_wait) = (Duration::from_millis(1), Duration::from_millis(4));
    let policy = RetryPolicy { first_wait, longest_wait, ..RetryPolicy::default() };
    Arc::new(Retrying::new(Arc::new(destination)).with_policy(policy))
}

/// A destination of its own for each test.
fn below(server: SocketAddr, prefix: &str) -> Arc<Retrying<MultipartDestination>> {
    retrying(options(server, prefix).open().unwrap())
}

/// Nothing lies below the prefix but this many objects, and no upload is open, by the server's own word.
pub(crate) async fn assert_holds(server: SocketAddr, prefix: &str, objects: usize) {
    let text = |target: String| async move {
        let answer = send(server, "GET", &target).await;
        assert_eq!(answer.status(), 200);
        String::from_utf8(answer.into_body().bytes().await.unwrap().to_vec()).unwrap()
    };
    let listed = text(format!("?list-type=2&prefix={prefix}%2F")).await;
    assert_eq!(listed.matches("<Key>").count(), objects, "{listed}");
    let open = text(format!("?prefix={prefix}%2F&uploads=")).await;
    assert_eq!(open.matches("<UploadId>").count(), 0, "{open}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_strict_server_keeps_the_contract() {
    let server = strict_server();
    for (address, prefix) in [(server.s3, "contract"), (server.moto, "contract")] {
        fhir_export::destination::contract::check(below(address, prefix).as_ref()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_encrypted_with_the_key_of_the_destination() {
    let server = strict_server();
    for (address, prefix) in [(server.s3, "kms"), (server.moto, "kms")] {
        let destination = options(address, prefix).with_kms_key(&server.kms_key);
        // Read back through the server, which decrypts it with the key.
        let exported = run_whole(retrying(destination.open().unwrap())).await;
        for key in exported.stored.keys() {
            let head = send(address, "HEAD", &format!("/{prefix}/{key}")).await;
            let header = |name| head.headers().get(name).and_then(|value| value.to_str().ok());
            assert_eq!(header(ENCRYPTION), Some("aws:kms"), "{key}");
            assert!(header(ENCRYPTION_KEY).is_some_and(|key| key.ends_with(&server.kms_key)), "{key}: {head:?}");
        }
        assert_holds(address, prefix, OBJECTS + 1).await;
        let plain = run_whole(below(address, "unencrypted")).await;
        let key = plain.stored.keys().next().unwrap();
        let head = send(address, "HEAD", &format!("/unencrypted/{key}")).await;
        assert!(!head.headers().contains_key(ENCRYPTION) || head.headers()[ENCRYPTION] == "AES256", "{head:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_server_does_not_know_fails_the_job_and_leaves_nothing() {
    let server = strict_server();
    let destination = options(server.s3, "unknown-key").with_kms_key("no-such-key");
    let report = join(start(&exporter(source(), retrying(destination.open().unwrap()), None, config()))).await;
    assert_eq!(report.state, JobState::Failed);
    let error = report.error.unwrap().to_string();
    assert!(
        error.contains("the store answered 500 InternalError") && error.contains("s3://bench/unknown-key/"),
        "{error}"
    );
    assert_holds(server.s3, "unknown-key", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_says_of_a_key_is_told() {
    // As S3 does; SeaweedFS says only that something is wrong inside.
    let proxy = Proxy::start(strict_server().s3).await;
    let refusal =
        "<Error><Code>KMS.NotFoundException</Code><Message>Key 'arn:aws:kms:x' does not exist</Message></Error>";
    proxy.next(100, |request| request.is_begin() || request.is_put(), Act::Answer(400, refusal.to_owned()));
    let destination = below(proxy.address(), "kms-refused");
    let report = join(start(&exporter(source(), destination, None, config()))).await;
    assert_eq!(report.state, JobState::Failed);
    let error = report.error.unwrap().to_string();
    assert!(error.contains("KMS.NotFoundException: Key 'arn:aws:kms:x' does not exist"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_is_named() {
    let server = strict_server();
    let uri = fhir_export::destination::s3::S3Uri::parse("s3://nobodys-bucket/x").unwrap();
    for address in [server.s3, server.moto] {
        let options = fhir_export::destination::s3::S3Options::new(uri.clone())
            .with_access_key(crate::support::s3_server::ACCESS_KEY, crate::support::s3_server::SECRET_KEY);
        let destination = options.with_endpoint(format!("http://{address}")).open().unwrap();
        let key = ObjectKey::new("a").unwrap();
        for error in [
            destination.begin(&key).await.map(|_| ()).unwrap_err(),
            destination.put(&key, "x".into()).await.unwrap_err(),
            destination.list("").await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
            let text = error.to_string();
            assert!(text.contains("the bucket isn't there") && text.contains("nobodys-bucket"), "{text}");
        }
    }
}

/// The folder of a job.
fn folder(report: &JobReport) -> String {
    report.manifest_url.as_ref().unwrap().rsplit('/').next().unwrap().replace(".manifest.json", "")
}

/// Cancels a job that has sent parts and waits for its source.
async fn cancelled(server: SocketAddr, prefix: &str, on_cancel: OnCancel) -> JobReport {
    let proxy = Proxy::start(server).await;
    let gate = Gate::new();
    let source = source_stalled_at(LARGE_BYTES - 1000, &gate);
    let job = start(&exporter(source, below(proxy.address(), prefix), None, config()));
    tokio::time::timeout(HANGS_AFTER, gate.reached()).await.unwrap();
    tokio::time::timeout(HANGS_AFTER, async {
        while proxy.of(Recorded::is_part).is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    assert!(job.control().cancel_and(on_cancel));
    join(job).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_job_but_what_its_manifest_lists() {
    let server = strict_server();
    for (address, name) in [(server.s3, "seaweedfs"), (server.moto, "moto")] {
        let (sealed, discarded) = (format!("sealed-{name}"), format!("discarded-{name}"));
        let report = cancelled(address, &sealed, OnCancel::Seal).await;
        assert_eq!(report.state, JobState::CancelCompleted, "{:?}", report.error);
        assert_eq!(report.objects.len(), 1, "{:?}", report.objects);
        assert_holds(address, &sealed, 2).await;

        let report = cancelled(address, &discarded, OnCancel::Discard).await;
        assert_eq!(report.state, JobState::CancelCompleted, "{:?}", report.error);
        // Of which the manifest tells.
        assert_holds(address, &discarded, 1).await;
        assert_holds(address, &format!("{discarded}/{}", folder(&report)), 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_failed_is_resumed_or_swept_and_leaves_no_upload() {
    let server = strict_server();
    for (address, name) in [(server.s3, "seaweedfs"), (server.moto, "moto")] {
        for swept in [false, true] {
            let (proxy, prefix) = (Proxy::start(address).await, format!("failed-{name}-{swept}"));
            let last = |request: &Recorded| request.is_complete() && request.target.contains("Observation");
            proxy.next(usize::MAX, last, Act::error(403, "AccessDenied"));
            let (destination, store) = (below(proxy.address(), &prefix), Arc::new(MemoryJobStore::new()));
            let exporter = exporter(source(), destination.clone(), Some(store.clone()), config());
            let failed = join(start(&exporter)).await;
            assert!(failed.resumable && failed.state == JobState::Failed, "{:?}", failed.error);
            let error = failed.error.unwrap().to_string();
            assert!(error.contains("AccessDenied") && error.contains("Observation"), "{error}");
            assert!(!destination.open_uploads("").await.unwrap().unwrap().is_empty());
            proxy.behave();
            if swept {
                let options = SweepOptions::default().objects(true);
                sweep(store.as_ref(), destination.as_ref(), &failed.job_id, options).await.unwrap();
                assert_holds(address, &prefix, 0).await;
                assert!(!store.get(&failed.job_id).await.unwrap().unwrap().is_unfinished());
                continue;
            }
            let sent = proxy.of(Recorded::is_part).len();
            let report = join(exporter.resume(&failed.job_id).await.unwrap()).await;
            whole(report, destination.as_ref(), config()).await;
            assert_holds(address, &prefix, OBJECTS + 1).await;
            let again = proxy.of(Recorded::is_part).split_off(sent);
            assert!(!again.iter().any(|part| part.target.contains("Observation")), "what is durable isn't sent again");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_was_damaged_on_its_way_is_refused_and_sent_again() {
    let proxy = Proxy::start(strict_server().s3).await;
    proxy.next(2, Recorded::is_part, Act::Damage);
    proxy.next(1, Recorded::is_put, Act::Damage);
    let destination = below(proxy.address(), "damaged");
    run_whole(destination.clone()).await;
    assert_eq!(destination.counts().get(RetryCause::Connection), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_whose_checksum_is_always_wrong_fails_the_job_and_says_why() {
    let server = strict_server().s3;
    let proxy = Proxy::start(server).await;
    proxy.next(usize::MAX, Recorded::is_part, Act::Damage);
    let report = join(start(&exporter(source(), below(proxy.address(), "always-damaged"), None, config()))).await;
    assert_eq!(report.state, JobState::Failed);
    let error = report.error.unwrap().to_string();
    assert!(error.contains("400 BadDigest") && error.contains("part"), "{error}");
    assert_holds(server, "always-damaged", 0).await;
}

fn looks_for_an_object(request: &Recorded) -> bool {
    request.method == "HEAD" && request.target.ends_with(".ndjson")
}

/// The answer to each completion is lost, and then so is the answer to whether the object is there.
async fn assert_whole_though_answers_are_lost(proxy: &Proxy, destination: Arc<Retrying<MultipartDestination>>) {
    proxy.next(1, looks_for_an_object, Act::Answer(500, String::new()));
    proxy.next(OBJECTS_OF_PARTS, Recorded::is_complete, Act::LoseAnswer);
    let exported = run_whole(destination).await;
    assert_eq!(exported.stored.len(), OBJECTS + 1);
    let completions = proxy.of(Recorded::is_complete).len();
    assert!(completions > OBJECTS_OF_PARTS, "one was repeated: {completions}");
    assert_eq!(proxy.of(Recorded::is_abort).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_whose_answer_was_lost_is_whole_where_its_repetition_succeeds() {
    let server = strict_server();
    for (address, prefix) in [(server.s3, "lost-answer"), (server.moto, "lost-answer")] {
        let proxy = Proxy::start(address).await;
        assert_whole_though_answers_are_lost(&proxy, below(proxy.address(), prefix)).await;
        assert_holds(address, prefix, OBJECTS + 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_whose_answer_was_lost_is_whole_where_its_repetition_is_refused() {
    // This one refuses access (403).
    let server = S3Server::start().await;
    let destination = retrying(server.options("l").open().unwrap());
    assert_whole_though_answers_are_lost(&server.proxy, destination).await;
    assert_eq!(server.left_open(), Vec::<String>::new());

    // And this one doesn't know the upload any more (404).
    let server = S3Server::start().await;
    let destination = retrying(server.options("l").open().unwrap());
    server.proxy.next(1, looks_for_an_object, Act::Answer(500, String::new()));
    server.proxy.next(OBJECTS_OF_PARTS, Recorded::is_complete, Act::LoseAnswer);
    // Whichever object it is of: that of one may be repeated before another is completed.
    server.proxy.next(usize::MAX, Recorded::is_complete, Act::error_instead(404, "NoSuchUpload"));
    run_whole(destination).await;
    assert!(server.proxy.of(Recorded::is_complete).len() > OBJECTS_OF_PARTS);
    assert_eq!(server.left_open(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_small_is_whole_though_its_answer_was_lost() {
    let proxy = Proxy::start(strict_server().s3).await;
    proxy.next(3, Recorded::is_put, Act::LoseAnswer);
    proxy.next(2, Recorded::is_part, Act::LoseAnswer);
    proxy.next(2, Recorded::is_begin, Act::LoseAnswer);
    let destination = below(proxy.address(), "lost-puts");
    run_whole(destination.clone()).await;
    assert_eq!(destination.counts().get(RetryCause::Connection), 7);
}

#[test]
fn the_job_is_of_parts_that_a_strict_server_takes() {
    const { assert!(LARGE_BYTES > 2 * MIN_PART_BYTES) };
}
