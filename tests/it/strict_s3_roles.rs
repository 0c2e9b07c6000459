//! Exports in the name of a role, to a server that has an STS and heeds policies: SeaweedFS.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fhir_export::ErrorKind;
use fhir_export::destination::open::{AssumeRole, RoleSessions};
use fhir_export::destination::{MultipartDestination, Retrying};
use fhir_export::job::{JobReport, JobState, JobStore, MemoryJobStore, SweepOptions, sweep};
use fhir_export::source::memory::Gate;

use crate::strict_s3::{assert_holds, retrying};
use crate::support::proxy::{Act, Proxy, Recorded};
use crate::support::strict_server::{SESSION, options, role_arn, strict_server};
use crate::support::wire_job::{
    LARGE_BYTES, OBJECTS, config, exporter, join, run_whole, source, source_stalled_at, source_stalled_by, start, whole,
};

/// Longer than anything here takes, unless it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);

const NAME: &str = "0123456789abcdef0123456789abcdef";

/// The token with which what is done in the name of a role comes.
const TOKEN: &str = "x-amz-security-token";

/// Below a prefix in the name of a role, whose STS is behind the proxy, too.
fn in_the_name_of(
    role: &str,
    proxy: &Proxy,
    prefix: &str,
    session_seconds: Option<u32>,
) -> Arc<Retrying<MultipartDestination>> {
    let sts_endpoint = Some(format!("http://{}", proxy.address()));
    let sessions = RoleSessions { sts_endpoint, external_id: None, session_seconds };
    let role = AssumeRole { role_arn: role_arn(role), session_name: NAME.to_owned(), sessions };
    retrying(options(proxy.address(), prefix).with_role(role).open().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_written_in_the_name_of_its_role_and_of_nobody_else() {
    let server = strict_server().s3;
    let proxy = Proxy::start(server).await;
    run_whole(in_the_name_of("ExportRole", &proxy, "roles/whole", Some(900))).await;
    assert_holds(server, "roles/whole", OBJECTS + 1).await;
    let (asked, done): (Vec<_>, Vec<_>) = proxy.recorded().into_iter().partition(Recorded::is_sts);
    assert_eq!(asked.len(), 1);
    assert!(
        asked[0].header(TOKEN).is_none() && asked[0].header("authorization").unwrap().contains("/sts/"),
        "{asked:?}"
    );
    assert!(done.iter().all(|request| request.header(TOKEN).is_some()), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_role_may_not_reach_is_refused_though_the_server_may() {
    let server = strict_server().s3;
    let proxy = Proxy::start(server).await;
    let destination = in_the_name_of("ExportRole", &proxy, "not-the-roles", Some(900));
    let report = join(start(&exporter(source(), destination, None, config()))).await;
    assert_eq!(report.state, JobState::Failed);
    let error = report.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert_holds(server, "not-the-roles", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_be_assumed_is_named() {
    let server = strict_server().s3;
    for role in ["UntrustingRole", "NoSuchRole"] {
        let proxy = Proxy::start(server).await;
        let destination = in_the_name_of(role, &proxy, "roles/refused", Some(900));
        let report = join(start(&exporter(source(), destination, None, config()))).await;
        assert_eq!(report.state, JobState::Failed);
        let error = report.error.unwrap();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::PermissionDenied, false));
        let text = error.to_string();
        assert!(
            text.contains(&role_arn(role)) && text.contains("403 AccessDenied") && text.contains("trust policy"),
            "{text}"
        );
        assert!(proxy.recorded().iter().all(Recorded::is_sts), "nothing was asked of the store");
        assert_holds(server, "roles/refused", 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_outlives_its_credentials() {
    let server = strict_server().s3;
    let proxy = Proxy::start(server).await;
    let gates = [Gate::new(), Gate::new(), Gate::new()];
    let destination = in_the_name_of("ExportRole", &proxy, "roles/long", None);
    let job = start(&exporter(source_stalled_by(&gates), destination.clone(), None, config()));
    for gate in &gates {
        tokio::time::timeout(HANGS_AFTER, gate.reached()).await.unwrap();
        tokio::time::sleep(SESSION).await;
        gate.open();
    }
    whole(join(job).await, destination.as_ref(), config()).await;
    assert_holds(server, "roles/long", OBJECTS + 1).await;
    let written = proxy.recorded().into_iter().filter(|request| matches!(request.method.as_str(), "PUT" | "POST"));
    let tokens: BTreeSet<_> = written.filter_map(|request| request.header(TOKEN).map(str::to_owned)).collect();
    assert!(tokens.len() >= 3, "{} credentials", tokens.len());
    assert!(proxy.of(Recorded::is_sts).len() >= tokens.len());
}

/// Runs a job whose role STS gives up while parts are on their way, and when its credentials have ended.
async fn refused_half_way(
    prefix: &str,
    act: Act,
) -> (Proxy, Arc<Retrying<MultipartDestination>>, Arc<MemoryJobStore>, JobReport) {
    let proxy = Proxy::start(strict_server().s3).await;
    let destination = in_the_name_of("ExportRole", &proxy, prefix, None);
    let (gate, store) = (Gate::new(), Arc::new(MemoryJobStore::new()));
    let source = source_stalled_at(LARGE_BYTES - 1000, &gate);
    let job = start(&exporter(source, destination.clone(), Some(store.clone()), config()));
    tokio::time::timeout(HANGS_AFTER, gate.reached()).await.unwrap();
    let sent = async {
        while proxy.of(Recorded::is_part).is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(HANGS_AFTER, sent).await.unwrap();
    proxy.next(usize::MAX, Recorded::is_sts, act);
    tokio::time::sleep(SESSION).await;
    gate.open();
    let failed = join(job).await;
    assert_eq!(failed.state, JobState::Failed);
    assert!(failed.resumable, "{:?}", failed.error);
    assert!(failed.ledger.iter().all(|(_, row)| row.balances()), "{:?}", failed.ledger);
    (proxy, destination, store, failed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_role_is_refused_half_way_fails_and_goes_on_when_it_is_given_back() {
    let refusal = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no more</Message></Error></ErrorResponse>";
    let (proxy, destination, store, failed) =
        refused_half_way("roles/refused-later", Act::Answer(403, refusal.into())).await;
    let error = failed.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert!(error.to_string().contains(&role_arn("ExportRole")) && error.to_string().contains("no more"), "{error}");
    proxy.behave();
    let report =
        join(exporter(source(), destination.clone(), Some(store), config()).resume(&failed.job_id).await.unwrap())
            .await;
    whole(report, destination.as_ref(), config()).await;
    assert_holds(strict_server().s3, "roles/refused-later", OBJECTS + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_sts_goes_away_fails_and_is_swept_without_a_trace() {
    let (proxy, destination, store, failed) = refused_half_way("roles/sts-gone", Act::Reset).await;
    let error = failed.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
    assert!(error.to_string().contains("no connection to STS"), "{error}");
    proxy.behave();
    sweep(store.as_ref(), destination.as_ref(), &failed.job_id, SweepOptions::default().objects(true)).await.unwrap();
    assert_holds(strict_server().s3, "roles/sts-gone", 0).await;
    assert!(!store.get(&failed.job_id).await.unwrap().unwrap().is_unfinished());
}
