//! Files of exports go when their time is over, and not before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use fhir_export::clock::Clock;
use fhir_export::http::Settings;
use fhir_export::job::JobService;
use http_body_util::BodyExt;

use super::served::{BASE, Served, config, data_store, path_of};
use super::{JSON, healthlake_body};
use crate::support::small_job;

pub(super) const HOUR: u64 = 3600;

/// 2023-11-14T22:13:20Z
pub(super) const BEGIN: u64 = 1_700_000_000;

/// A clock that tests set.
#[derive(Clone, Debug)]
pub(super) struct SetClock(Arc<AtomicU64>);

impl SetClock {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(BEGIN)))
    }

    pub(super) fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::Relaxed);
    }
}

impl Clock for SetClock {
    fn since_epoch(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

pub(super) fn served(clock: &SetClock, lifetime: Option<Duration>) -> Served {
    Served::set_up(Settings::default(), |files| {
        let mut config = config();
        config.clock = Arc::new(clock.clone());
        let builder = JobService::builder().config(config).data_store(data_store("store1", small_job::source(), files));
        match lifetime {
            Some(lifetime) => builder.files_lifetime(lifetime),
            None => builder,
        }
    })
}

async fn first_file(served: &Served, job: &str) -> String {
    let over = served.until_over(job).await;
    path_of(over.json()["output"][0]["url"].as_str().unwrap())
}

#[tokio::test]
async fn files_are_kept_for_48_hours_and_gone_with_their_job_afterwards() {
    let clock = SetClock::new();
    let served = served(&clock, None);
    let job = served.kick_off("/$export").await;
    let file = first_file(&served, &job).await;
    assert_eq!(served.get(&job).await.header("expires"), "Thu, 16 Nov 2023 22:13:20 GMT");
    clock.set(BEGIN + 48 * HOUR - 1);
    assert_eq!(served.service.remove_expired().await.unwrap(), 0);
    assert_eq!((served.get(&job).await.status, served.get(&file).await.status), (StatusCode::OK, StatusCode::OK));
    clock.set(BEGIN + 48 * HOUR);
    for path in [&job, &file] {
        let gone = served.get(path).await;
        assert_eq!((gone.status, gone.issues()[0].0.as_str()), (StatusCode::NOT_FOUND, "not-found"), "at once");
    }
    assert!(!served.files.keys().is_empty());
    assert_eq!(served.service.remove_expired().await.unwrap(), 1);
    assert!(served.files.keys().is_empty() && served.service.list("store1").await.unwrap().is_empty());
    assert_eq!(served.service.remove_expired().await.unwrap(), 0);
}

#[tokio::test]
async fn a_clock_that_is_set_back_removes_nothing_early() {
    let clock = SetClock::new();
    let served = served(&clock, Some(Duration::from_secs(HOUR)));
    let job = served.kick_off("/$export").await;
    let file = first_file(&served, &job).await;
    for seconds in [0, BEGIN - 100 * HOUR, BEGIN - 1, BEGIN + HOUR - 1] {
        clock.set(seconds);
        assert_eq!(served.service.remove_expired().await.unwrap(), 0);
        assert_eq!((served.get(&job).await.status, served.get(&file).await.status), (StatusCode::OK, StatusCode::OK));
    }
    clock.set(0);
    let at_the_beginning_of_time = served.kick_off("/$export").await;
    assert_eq!(served.until_over(&at_the_beginning_of_time).await.header("expires"), "Thu, 01 Jan 1970 01:00:00 GMT");
}

#[tokio::test]
async fn a_lifetime_without_end_is_one() {
    let clock = SetClock::new();
    let served = served(&clock, Some(Duration::MAX));
    let job = served.kick_off("/$export").await;
    served.until_over(&job).await;
    clock.set(1 << 60);
    assert_eq!(served.get(&job).await.status, StatusCode::OK);
    assert_eq!(served.service.remove_expired().await.unwrap(), 0);
}

#[tokio::test]
async fn nothing_is_removed_while_it_is_downloaded() {
    let clock = SetClock::new();
    let served = served(&clock, None);
    let job = served.kick_off("/$export").await;
    let file = first_file(&served, &job).await;
    let mut body = served.response(Request::get(&file).body(Body::empty()).unwrap()).await.into_body();
    assert_eq!(served.service.downloads(), 1);
    clock.set(BEGIN + 100 * HOUR);
    assert_eq!(served.service.remove_expired().await.unwrap(), 0);
    while let Some(frame) = body.frame().await {
        frame.unwrap();
    }
    drop(body);
    assert_eq!(served.service.downloads(), 0);
    assert_eq!(served.service.remove_expired().await.unwrap(), 1);
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_leaves_nothing_open() {
    let clock = SetClock::new();
    let served = served(&clock, None);
    let file = first_file(&served, &served.kick_off("/$export").await).await;
    for range in [None, Some("bytes=0-9")] {
        let request = Request::get(&file).header("range", range.unwrap_or("none"));
        let body = served.response(request.body(Body::empty()).unwrap()).await.into_body();
        assert_eq!(served.service.downloads(), 1);
        drop(body);
        assert_eq!(served.service.downloads(), 0);
    }
}

#[tokio::test]
async fn what_was_written_to_a_callers_bucket_stays() {
    let clock = SetClock::new();
    let served = served(&clock, None);
    let started = served.ask("POST", &format!("{BASE}/$export"), JSON, healthlake_body()).await;
    let job = path_of(started.header("content-location"));
    assert!(served.until_over(&job).await.headers.get("expires").is_none());
    clock.set(BEGIN + 10_000 * HOUR);
    assert_eq!(served.service.remove_expired().await.unwrap(), 0);
    assert_eq!(served.get(&job).await.status, StatusCode::OK);
    assert!(!served.buckets.bucket.keys().is_empty());
}
