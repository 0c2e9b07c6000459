//! The job store in a database that servers share.

use std::time::Duration;

use fhir_export::ErrorKind;
use fhir_export::job::store::{Claim, contract};
use fhir_export::job::{JobStore, PostgresJobStore};
use fhir_export::writer::Entry;

use super::server::{Database, Server};

fn open(database: &Database, options: &str) -> PostgresJobStore {
    PostgresJobStore::open(&format!("{}?{options}", database.url), None).unwrap()
}

fn entry(name: &str) -> Entry {
    Entry::Plan { ranges: vec![(name.to_owned(), None)] }
}

/// Waits until a job can be claimed.
async fn claim(store: &PostgresJobStore, job: &fhir_export::request::JobId) -> Claim {
    for _ in 0..600 {
        if let Some(claim) = store.claim(job).await.unwrap() {
            return claim;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nobody gives up the job {job}");
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let database = Database::new().await;
    contract::check(&open(&database, "")).await;
}

#[tokio::test]
async fn servers_that_start_together_share_one_store() {
    let database = Database::new().await;
    let url = &database.url;
    let stores: Vec<PostgresJobStore> = std::thread::scope(|scope| {
        let open = || PostgresJobStore::open(url, None).unwrap();
        let opening: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
        opening.into_iter().map(|opening| opening.join().unwrap()).collect()
    });
    let record = contract::record("one");
    let claims = futures::future::join_all(stores.iter().map(|store| store.create(&record))).await;
    let (held, refused): (Vec<_>, Vec<_>) = claims.into_iter().partition(Result::is_ok);
    assert_eq!(held.len(), 1);
    assert!(refused.into_iter().all(|refused| refused.unwrap_err().kind() == ErrorKind::AlreadyExists));
    for store in &stores {
        assert!(store.claim(&record.id).await.unwrap().is_none());
        assert_eq!(store.list().await.unwrap(), std::slice::from_ref(&record));
    }
    drop(held);
    let claims = futures::future::join_all(stores.iter().map(|store| claim(store, &record.id)));
    let one_after_the_other = async {
        let mut fences: Vec<u64> = Vec::new();
        for store in &stores {
            fences.push(claim(store, &record.id).await.fence());
        }
        fences
    };
    drop(claims);
    let fences = one_after_the_other.await;
    assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
}

#[tokio::test]
async fn a_claim_is_renewed_for_as_long_as_it_is_held() {
    let database = Database::new().await;
    let (first, second) = (open(&database, "lease_seconds=1"), open(&database, "lease_seconds=1"));
    let record = contract::record("one");
    let held = first.create(&record).await.unwrap();
    for number in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(second.claim(&record.id).await.unwrap().is_none(), "after {number}00 ms");
    }
    first.append(&held, entry("still ours")).await.unwrap();
    assert!(!held.is_lost());
    drop(held);
    let taken = claim(&second, &record.id).await;
    assert_eq!(taken.fence(), 2);
}

#[tokio::test]
async fn who_does_not_renew_is_fenced_off_and_knows_it_before_others_can_claim_the_job() {
    let database = Database::new().await;
    let second = open(&database, "lease_seconds=2");
    let record = contract::record("one");
    // A server whose connection is cut and can't be made again.
    let gone = Server::start("max_connections = 20\nsynchronous_commit = on");
    let other = Database::on(&gone.url("postgres")).await;
    let first = open(&other, "lease_seconds=2");
    let held = first.create(&record).await.unwrap();
    let lease = held.lease().unwrap().clone();
    let begun = std::time::Instant::now();
    gone.kill();
    lease.lost().await;
    let known_after = begun.elapsed();
    assert!(known_after < Duration::from_secs(2), "{known_after:?}");
    assert!(first.append(&held, entry("late")).await.is_err());
    gone.start_again();
    let third = open(&other, "lease_seconds=2");
    let taken = claim(&third, &record.id).await;
    assert_eq!(taken.fence(), 2);
    let late = first.append(&held, entry("late")).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Fenced);
    assert!(third.entries(&record.id).await.unwrap().is_empty());
    drop((taken, second));
}

#[tokio::test]
async fn a_database_that_restarts_loses_no_entry_and_none_is_in_twice() {
    let server = Server::start("max_connections = 20\nfsync = on\nsynchronous_commit = on");
    let database = Database::on(&server.url("postgres")).await;
    let store = open(&database, "");
    let record = contract::record("one");
    let claim = store.create(&record).await.unwrap();
    let writing = async {
        for number in 0..300 {
            store.append(&claim, entry(&number.to_string())).await.unwrap();
        }
    };
    let restarting = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        server.crash_and_come_back().await
    };
    let ((), _server) = tokio::join!(writing, restarting);
    let expected: Vec<Entry> = (0..300).map(|number: u32| entry(&number.to_string())).collect();
    assert_eq!(store.entries(&record.id).await.unwrap(), expected);
}

#[tokio::test]
async fn a_wrong_password_is_said_to_be_wrong_and_is_not_said() {
    let server = Server::start("max_connections = 20\nsynchronous_commit = on");
    let database = Database::on(&server.url("postgres")).await;
    database
        .client()
        .await
        .batch_execute("CREATE ROLE with_password LOGIN SUPERUSER PASSWORD 'right-one'")
        .await
        .unwrap();
    let url = |password: &str| database.url.replace("postgres@", &format!("with_password{password}@"));
    let error = PostgresJobStore::open(&url(":wrong-one"), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let text = format!("{error:#} {error:?}");
    assert!(text.contains("password authentication failed") && !text.contains("wrong-one"), "{text}");
    let store = PostgresJobStore::open(&url(""), Some("right-one")).unwrap();
    let text = format!("{store:?}");
    assert!(text.contains("with_password@") && !text.contains("right-one"), "{text}");
    PostgresJobStore::open(&url(":right-one"), Some("wrong-one")).unwrap();
}
