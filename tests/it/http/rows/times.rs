//! Rows about times: which resources a period holds, and what T promises.

use std::sync::Arc;

use fhir_export::fhir::Instant;
use fhir_export::http::Settings;
use fhir_export::job::JobService;
use fhir_export::source::memory::{MemoryRange, MemorySource};
use fhir_export::source::{AfterTransactionTime, NdjsonSource};
use serde_json::json;

use super::{FACES, Face, export, names};
use crate::http::expiry::{BEGIN, HOUR, SetClock};
use crate::http::parameters::{exported, post};
use crate::http::served::{Served, config, data_store};

/// The moment that tests ask about.
const AT: &str = "2024-05-09T00:00:00Z";

/// Observations by the time of their last update, each of which was made at quite another time.
fn stamped() -> MemorySource {
    let observation = |id: &str, last_updated: Option<&str>, made: &str| {
        let mut observation =
            json!({"resourceType": "Observation", "id": id, "effectiveDateTime": made, "issued": made});
        if let Some(last_updated) = last_updated {
            observation["meta"] = json!({"lastUpdated": last_updated});
        }
        format!("{observation}\n")
    };
    let lines = [
        observation("before", Some("2024-05-08T23:59:59.999Z"), "2025-01-01T00:00:00Z"),
        observation("at", Some("2024-05-09T02:00:00.000+02:00"), "2020-01-01T00:00:00Z"),
        observation("after", Some("2024-05-09T00:00:00.0001Z"), "2020-01-01T00:00:00Z"),
        observation("untimed", None, "2020-01-01T00:00:00Z"),
    ];
    MemorySource::new().with(MemoryRange::lines("all", lines.concat()))
}

fn expected(ids: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = ids.iter().map(|id| format!("Observation/{id}")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn h223_h225_h230_a_period_includes_its_ends_and_looks_at_the_last_update_alone() {
    let served = Served::new(stamped());
    for face in FACES {
        for (query, ids) in [
            (format!("_since={AT}"), &["at", "after", "untimed"][..]),
            (format!("_until={AT}"), &["before", "at"]),
            (format!("_since={AT}&_until={AT}"), &["at"]),
            ("_since=2024-05-10T00:00:00Z".to_owned(), &["untimed"]),
            ("_until=2024-05-01T00:00:00Z".to_owned(), &[]),
        ] {
            let (_, resources) = export(&served, face, &format!("/$export?{query}")).await;
            assert!(names(&resources).into_iter().eq(expected(ids)), "{face:?} {query}: {resources:?}");
        }
    }
}

#[tokio::test]
async fn p10_instants_may_have_any_offset_and_its_plus_needn_t_be_escaped() {
    let served = Served::new(stamped());
    for time in ["2024-05-09T00:00:00+00:00", "2024-05-09T02:00:00+02:00", "2024-05-08T19:00:00.000-05:00", AT] {
        for face in FACES {
            for time in [time.to_owned(), time.replace('+', "%2B").replace(':', "%3A")] {
                let (_, resources) = export(&served, face, &format!("/$export?_since={time}")).await;
                let expected = expected(&["at", "after", "untimed"]);
                assert!(names(&resources).into_iter().eq(expected), "{face:?} {time}: {resources:?}");
            }
        }
        let since = json!({"name": "_since", "valueInstant": time});
        let started = post(&served, "", vec![since], &[("prefer", "respond-async")]).await;
        let mut names = exported(&served, &started).await;
        names.sort();
        assert_eq!(names, expected(&["at", "after", "untimed"]), "{time}");
    }
}

#[tokio::test]
async fn m1_u10_the_transaction_time_is_when_the_snapshot_was_opened_however_late_it_is_asked_for() {
    let (clock, folder) = (SetClock::new(), tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join("a.ndjson"), "{\"resourceType\":\"Patient\",\"id\":\"1\"}\n").unwrap();
    let served = Served::set_up(Settings::default(), |files| {
        let source = NdjsonSource::folder(folder.path()).clock(Arc::new(clock.clone()));
        let mut config = config();
        config.clock = Arc::new(clock.clone());
        JobService::builder().config(config).data_store(data_store("store1", source, files))
    });
    for (face, seconds, time) in [
        (Face::HealthLake, BEGIN, "2023-11-14T22:13:20.000Z"),
        (Face::Profile, BEGIN + HOUR, "2023-11-14T23:13:20.000Z"),
    ] {
        clock.set(seconds);
        let (manifest, _) = export(&served, face, "/$export").await;
        assert_eq!(manifest["transactionTime"], time, "{face:?}");
        clock.set(seconds + HOUR);
        let job = manifest["exportJobProperties"]["jobId"].as_str().unwrap();
        let again = served.get(&format!("{}/export/{job}", crate::http::served::BASE)).await.json();
        assert_eq!(again["transactionTime"], time, "{face:?}");
    }
}

#[tokio::test]
async fn m2_everything_up_to_the_transaction_time_is_in_and_the_next_export_has_the_rest() {
    let source = |seconds: i64| {
        let at = Instant::from_unix(seconds, 0);
        stamped().at(at).after_transaction_time(AfterTransactionTime::Excluded)
    };
    for face in FACES {
        // 2024-05-09T00:00:00Z
        let (manifest, first) = export(&Served::new(source(1_715_212_800)), face, "/$export").await;
        assert!(names(&first).into_iter().eq(expected(&["before", "at", "untimed"])), "{face:?} {first:?}");
        let next = format!("/$export?_since={}", manifest["transactionTime"].as_str().unwrap());
        let (_, second) = export(&Served::new(source(1_715_299_200)), face, &next).await;
        assert!(names(&second).into_iter().eq(expected(&["at", "after", "untimed"])), "{face:?} {second:?}");
    }
}
