//! Servers that share a database of jobs: one line for each queue key.

use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use fhir_export::destination::MemoryDestination;
use fhir_export::job::store::Claim;
use fhir_export::job::store::contract::record;
use fhir_export::job::{DataStore, JobService, JobState, JobStore, Order, Origin, PostgresJobStore, QueueKey};
use fhir_export::request::{DatastoreId, ExportRequest, Level};
use fhir_export::source::memory::Gate;
use futures::future::join_all;

use super::server::Database;
use crate::support::small_job;

/// Longer than anything here takes, unless it hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);

const ONE: NonZero<usize> = NonZero::<usize>::MIN;

fn key(account: &str) -> QueueKey {
    QueueKey { account: account.to_owned(), region: "eu-west-1".to_owned() }
}

/// A store of its own connection; claims that aren't renewed stand for so many seconds.
async fn store(database: &Database, lease_seconds: u32) -> PostgresJobStore {
    let url = format!("{}?lease_seconds={lease_seconds}", database.url);
    tokio::task::spawn_blocking(move || PostgresJobStore::open(&url, None).unwrap()).await.unwrap()
}

async fn place(store: &PostgresJobStore, claim: &Claim, account: &str) -> u64 {
    store.place_in_line(claim, &key(account), ONE).await.unwrap()
}

async fn ends(store: &PostgresJobStore, claim: Claim) {
    let mut record = store.get(claim.job()).await.unwrap().unwrap();
    record.state = JobState::Completed;
    store.update(&claim, &record).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_key_have_their_turns_in_the_order_in_which_they_were_created_wherever_they_run() {
    let database = Database::new().await;
    let stores = [store(&database, 60).await, store(&database, 60).await];
    let mut claims = Vec::new();
    for number in 0..4 {
        claims.push(stores[number % 2].create(&record(&format!("job{number}"))).await.unwrap());
    }
    let other = stores[0].create(&record("other")).await.unwrap();
    // Whoever asks first: the order is that of creation.
    for (number, expected) in [(0, 0), (3, 1), (2, 1), (1, 1), (2, 2), (3, 3)] {
        assert_eq!(place(&stores[number % 2], &claims[number], "a").await, expected, "job {number}");
    }
    assert_eq!(place(&stores[0], &other, "b").await, 0, "another key has a line of its own");
    assert_eq!(place(&stores[0], &claims[0], "a").await, 0, "who has the turn keeps it");
    for (number, claim) in claims.into_iter().enumerate() {
        assert_eq!(place(&stores[number % 2], &claim, "a").await, 0, "job {number}");
        ends(&stores[number % 2], claim).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_have_their_turns_than_may_however_they_ask_at_once() {
    let database = Database::new().await;
    let stores = [store(&database, 60).await, store(&database, 60).await, store(&database, 60).await];
    let (most, key) = (NonZero::new(2).unwrap(), key("a"));
    let jobs = (0..18).map(|number| {
        let store = &stores[number % 3];
        async move {
            let claim = store.create(&record(&format!("job{number}"))).await.unwrap();
            (store, claim)
        }
    });
    let mut left = join_all(jobs).await;
    while !left.is_empty() {
        let places = join_all(left.iter().map(|(store, claim)| store.place_in_line(claim, &key, most))).await;
        let places: Vec<u64> = places.into_iter().map(Result::unwrap).collect();
        let with_turns = places.iter().filter(|place| **place == 0).count();
        assert!((1..=2).contains(&with_turns), "{places:?}");
        let ended = places.iter().position(|place| *place == 0).unwrap();
        let (store, claim) = left.swap_remove(ended);
        ends(store, claim).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_let_go_keeps_its_place_for_a_while_and_then_others_pass_it_by() {
    let database = Database::new().await;
    let store = store(&database, 3).await;
    let first = store.create(&record("first")).await.unwrap();
    let second = store.create(&record("second")).await.unwrap();
    let third = store.create(&record("third")).await.unwrap();
    assert_eq!(place(&store, &first, "a").await, 0);
    assert_eq!((place(&store, &second, "a").await, place(&store, &third, "a").await), (1, 2));
    let (first_id, second_id) = (first.job().clone(), second.job().clone());
    drop(first);
    drop(second);
    assert_eq!(place(&store, &third, "a").await, 2, "they may be gone on with");
    let first = store.claim(&first_id).await.unwrap().unwrap();
    assert_eq!(place(&store, &first, "a").await, 0, "it has its turn still");
    drop(first);
    let passed = async {
        while place(&store, &third, "a").await > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(HANGS_AFTER, passed).await.expect("nobody goes on with them");
    let second = store.claim(&second_id).await.unwrap().unwrap();
    let first = store.claim(&first_id).await.unwrap().unwrap();
    assert_eq!(place(&store, &first, "a").await, 1, "its turn is another's now");
    assert_eq!(place(&store, &second, "a").await, 2);
    ends(&store, third).await;
    assert_eq!(place(&store, &second, "a").await, 1);
    assert_eq!(place(&store, &first, "a").await, 0, "it was created before");
}

/// A server whose source waits at a gate.
async fn server(database: &Database, gate: &Gate, files: &MemoryDestination, lease_seconds: u32) -> JobService {
    let id = DatastoreId::new("store1").unwrap();
    let source = Arc::new(small_job::source_stalled_at("second", 0, gate));
    let data_store = DataStore::new(id, source).files(Arc::new(files.clone())).queue_key(key("a"));
    let mut config = small_job::config();
    config.jobs_at_once_of_key = Some(ONE);
    let jobs = Arc::new(store(database, lease_seconds).await);
    JobService::builder().config(config).job_store(jobs).data_store(data_store).build().unwrap()
}

async fn start(service: &JobService) -> fhir_export::request::JobId {
    let order = Order {
        origin: Origin::Profile,
        request_url: "https://example.org/$export".to_owned(),
        client_token: None,
        separate_status: false,
        skipped: Vec::new(),
        owner: None,
    };
    service.start("store1", ExportRequest::new(Level::System), &order).await.unwrap().id
}

async fn state(service: &JobService, id: &fhir_export::request::JobId) -> JobState {
    service.describe("store1", id).await.unwrap().unwrap().state
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_two_servers_were_asked_for_run_one_after_the_other() {
    let (database, gate, files) = (Database::new().await, Gate::new(), small_job::destination());
    let servers = [server(&database, &gate, &files, 60).await, server(&database, &gate, &files, 60).await];
    let mut jobs = Vec::new();
    for number in 0..6 {
        jobs.push(start(&servers[number % 2]).await);
    }
    gate.reached().await;
    assert_eq!(state(&servers[1], &jobs[0]).await, JobState::InProgress);
    for job in &jobs[1..] {
        let queued = async {
            while state(&servers[0], job).await != JobState::Queued {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(HANGS_AFTER, queued).await.expect("it waits");
    }
    gate.open();
    tokio::time::timeout(HANGS_AFTER, join_all(servers.iter().map(JobService::idle))).await.expect("all of them end");
    let mut views = servers[0].list("store1").await.unwrap();
    views.sort_by_key(|view| view.ended.as_ref().map(|time| (time.unix_seconds(), time.nanos())));
    assert_eq!(views.iter().map(|view| view.id.clone()).collect::<Vec<_>>(), jobs);
    assert!(views.iter().all(|view| view.state == JobState::CompletedWithErrors));
}

#[test]
fn the_jobs_of_a_server_that_is_gone_are_finished_by_the_other_before_those_that_came_later() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let files = small_job::destination();
    let (database, gone, jobs) = first.block_on(async {
        let (database, gate) = (Database::new().await, Gate::new());
        let gone = server(&database, &gate, &files, 20).await;
        let jobs = vec![start(&gone).await, start(&gone).await];
        gate.reached().await;
        (database, gone, jobs)
    });
    let (other, last) = second.block_on(async {
        let gate = Gate::new();
        gate.open();
        let other = server(&database, &gate, &files, 20).await;
        let last = start(&other).await;
        (other, last)
    });
    drop(first);
    drop(gone);
    second.block_on(async {
        let recovered = async {
            let mut recovered = 0;
            while recovered < 2 {
                recovered += other.recover().await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other.idle().await;
        };
        tokio::time::timeout(HANGS_AFTER, recovered).await.expect("they are finished");
        let mut views = other.list("store1").await.unwrap();
        views.sort_by_key(|view| view.ended.as_ref().map(|time| (time.unix_seconds(), time.nanos())));
        let expected: Vec<_> = jobs.into_iter().chain([last]).collect();
        assert_eq!(views.iter().map(|view| view.id.clone()).collect::<Vec<_>>(), expected);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_the_first_version_is_brought_up_to_date_with_its_jobs() {
    let database = Database::new().await;
    let client = database.client().await;
    drop(store(&database, 60).await.create(&record("kept")).await.unwrap());
    client
        .batch_execute(
            "ALTER TABLE fhir_export.jobs DROP COLUMN queue, DROP COLUMN has_turn;
             UPDATE fhir_export.jobs_version SET version = 1",
        )
        .await
        .unwrap();
    let store = store(&database, 60).await;
    assert_eq!(store.list().await.unwrap().len(), 1);
    let claim = store.create(&record("new")).await.unwrap();
    assert_eq!(place(&store, &claim, "a").await, 0);
}
