//! The lines of queue keys, in which the jobs of all servers stand.

use std::num::NonZeroUsize;

use tokio_postgres::types::Type;

use super::connection::Connection;
use super::fence_of;
use crate::error::Result;
use crate::job::store::{Claim, fenced, unknown};
use crate::job::turns::QueueKey;
use crate::postgres::literal;

/// What the database says of a job: its fence, whether it stands in this line, whether it has its turn, and how many
/// others have theirs or came before it.
///
/// Who isn't held any more counts for another lease: within it somebody goes on with the job, which then has its place
/// still.
const LOOK: &str = "
SELECT own.fence, own.queue IS NOT DISTINCT FROM $2, own.has_turn,
  (SELECT count(*) FROM fhir_export.jobs AS other
   WHERE other.queue = $2 AND other.id <> own.id AND (other.has_turn OR other.number < own.number)
     AND other.lease_until > clock_timestamp() - make_interval(secs => $3))
FROM fhir_export.jobs AS own WHERE own.id = $1";

/// A look at a line.
enum Look {
    Unknown,
    Fenced,
    Turn,
    /// So many have their turns or came before.
    Waits(u64),
    /// The same, of who doesn't stand in this line yet.
    Outside,
}

/// Where a job stands, which it does from now on.
pub(super) async fn place(connection: &Connection, claim: &Claim, key: &QueueKey, most: NonZeroUsize) -> Result<u64> {
    let queue = format!("{} {}", key.account, key.region);
    let most_of_key = u64::try_from(most.get()).unwrap_or(u64::MAX);
    let mut has_asked = false;
    loop {
        let ahead = match look(connection, claim, queue.clone()).await? {
            Look::Unknown => return Err(unknown(claim.job())),
            Look::Fenced => return Err(fenced(claim.job())),
            Look::Turn => return Ok(0),
            Look::Waits(ahead) if ahead >= most_of_key || has_asked => ahead,
            Look::Waits(_) | Look::Outside => {
                ask(connection, claim, &queue, most_of_key).await?;
                has_asked = true;
                continue;
            }
        };
        return Ok((ahead + 1).saturating_sub(most_of_key).max(1));
    }
}

async fn look(connection: &Connection, claim: &Claim, queue: String) -> Result<Look> {
    let (id, fence, lease) = (claim.job().to_string(), fence_of(claim), connection.lease_seconds());
    let found = connection.run("the line of a job can't be read", move |session| {
        let (id, queue) = (id.clone(), queue.clone());
        async move {
            let values = [(&id as _, Type::TEXT), (&queue as _, Type::TEXT), (&lease as _, Type::FLOAT8)];
            let Some(row) = session.query_typed_opt(LOOK, &values).await? else { return Ok(Look::Unknown) };
            let (of, stands, has_turn): (i64, bool, bool) = (row.get(0), row.get(1), row.get(2));
            Ok(match (of == fence, stands, has_turn) {
                (false, ..) => Look::Fenced,
                (_, true, true) => Look::Turn,
                (_, true, false) => Look::Waits(row.get::<_, i64>(3).unsigned_abs()),
                (_, false, _) => Look::Outside,
            })
        }
    });
    found.await
}

/// Puts a job in line and gives it its turn if there is room: one job of a key after the other, whichever server asks.
async fn ask(connection: &Connection, claim: &Claim, queue: &str, most: u64) -> Result<()> {
    let (id, queue, fence) = (literal(claim.job().as_str()), literal(queue), fence_of(claim));
    let lease = connection.lease_seconds();
    // One message, and so one transaction; each statement of it sees what was done before the lock was had.
    let asked = format!(
        "SELECT pg_advisory_xact_lock(hashtextextended({queue}, 5064679018321));
         UPDATE fhir_export.jobs SET queue = {queue}, has_turn = false
         WHERE id = {id} AND fence = {fence} AND queue IS DISTINCT FROM {queue};
         UPDATE fhir_export.jobs AS own SET has_turn = true
         WHERE id = {id} AND fence = {fence} AND NOT has_turn AND {most} > (
           SELECT count(*) FROM fhir_export.jobs AS other
           WHERE other.queue = {queue} AND other.id <> own.id AND (other.has_turn OR other.number < own.number)
             AND other.lease_until > clock_timestamp() - make_interval(secs => {lease}))"
    );
    let done = connection.run("a job can't be put in line", move |session| {
        let asked = asked.clone();
        async move { session.batch_execute(&asked).await }
    });
    done.await
}
