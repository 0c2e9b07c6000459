//! The transaction time T: everything that was stamped up to it and will ever be seen, is seen by the snapshot.
//!
//! A transaction stamps what it writes with its beginning, and may commit long after. So T lies before the beginning of
//! every transaction that is open and has written. One that has only read may still write; it counts for as long as the
//! lag, and is taken for a reader then. Prepared transactions don't tell when they began: the lag before they were prepared
//! is taken.
//!
//! Who isn't allowed to see others' transactions (`pg_read_all_stats`), and a standby, which has none of the primary's, go
//! by the lag alone.

use std::time::Duration;

use super::APPLICATION;
use crate::error::Result;
use crate::fhir::Instant;
use crate::postgres::{Failure, Session, literal};

/// Between a transaction's beginning and the moment when it shows: little.
const MARGIN_MICROS: i64 = 50_000;

/// Finds T, before the snapshot is taken, and whether the server is a standby.
///
/// # Errors
/// When the server can't be asked.
pub(super) async fn transaction_time(session: &Session, failure: &Failure, lag: Duration) -> Result<(Instant, bool)> {
    let failed = |error| failure.error("the transaction time can't be found", &error);
    // Before the look: whatever begins behind it is stamped later.
    let row = session
        .query_one(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
                    pg_is_in_recovery(), pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
                    (extract(epoch FROM pg_last_xact_replay_timestamp()) * 1000000)::bigint",
            &[],
        )
        .await
        .map_err(failed)?;
    let (now, is_standby, sees_all, replayed): (i64, bool, bool, Option<i64>) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    let lag = i64::try_from(lag.as_micros()).unwrap_or(i64::MAX);
    let behind = |micros: i64| micros.saturating_sub(lag);
    if is_standby {
        return Ok((cut(behind(replayed.unwrap_or(now).min(now))), true));
    }
    if !sees_all {
        tracing::info!("T lies the lag back: the role pg_read_all_stats would show which transactions are open");
        return Ok((cut(behind(now)), false));
    }
    let look = format!(
        "SELECT min(a.begun) FILTER (WHERE a.backend_xid IS NOT NULL), min(a.begun) FILTER (WHERE a.backend_xid IS NULL),
                (SELECT (extract(epoch FROM min(prepared)) * 1000000)::bigint FROM pg_prepared_xacts
                 WHERE database = current_database())
         FROM (SELECT (extract(epoch FROM xact_start) * 1000000)::bigint AS begun, backend_xid FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
                 AND backend_type NOT IN ('autovacuum worker', 'parallel worker', 'walsender')
                 AND NOT (application_name = {} AND backend_xid IS NULL)) AS a",
        literal(APPLICATION)
    );
    let row = session.query_one(&look, &[]).await.map_err(failed)?;
    let (writes, reads, prepared): (Option<i64>, Option<i64>, Option<i64>) = (row.get(0), row.get(1), row.get(2));
    let reads = reads.map(|begun| begun.max(behind(now)));
    let oldest = [writes, reads, prepared.map(behind)].into_iter().flatten().fold(now, i64::min);
    Ok((cut(oldest.saturating_sub(MARGIN_MICROS)), false))
}

/// Down to milliseconds, which is what is compared and what the manifest says.
fn cut(micros: i64) -> Instant {
    let nanos = u32::try_from(micros.rem_euclid(1_000_000) / 1000).unwrap_or_default() * 1_000_000;
    Instant::from_unix(micros.div_euclid(1_000_000), nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_cut_to_milliseconds_and_never_rounded_up() {
        assert_eq!(cut(1_999_999), Instant::from_unix(1, 999_000_000));
        assert_eq!(cut(-1), Instant::from_unix(-1, 999_000_000));
    }
}
