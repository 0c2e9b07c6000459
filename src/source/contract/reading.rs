//! Reading a range again and again: whole, in part, interrupted, beside the others.

use futures::{FutureExt, StreamExt, stream};

use super::collect::{Collected, CollectingSink, Trap, broken, read, read_within};
use super::{Reading, places};
use crate::error::Result;
use crate::source::{Cursor, Range, Snapshot};

/// Line limit of reads that aren't about it, in bytes.
const NO_LIMIT_BYTES: usize = 16 << 20;

/// Checks what is promised of one range, of which everything is known already.
pub(super) async fn check_range(snapshot: &dyn Snapshot, range: &Range, all: &Collected) -> Result<()> {
    check_again(snapshot, range, all, "a second read of the range gives something else").await?;
    check_told_cursors(snapshot, range, all).await?;
    if all.is_line_based() {
        check_line_starts(snapshot, range, all).await?;
    } else {
        check_line_limit(snapshot, range, all).await?;
    }
    check_dropped(snapshot, range, all).await?;
    check_refused(snapshot, range, all).await
}

/// Checks that ranges don't disturb each other, as many at once as the snapshot takes.
pub(super) async fn check_side_by_side(snapshot: &dyn Snapshot, all: &Reading) -> Result<()> {
    let start = Cursor::start();
    let ranges = &all.plan.ranges;
    let at_once = snapshot.side_by_side().unwrap_or(ranges.len()).max(1);
    let reads: Vec<_> =
        stream::iter(ranges.iter().map(|range| read(snapshot, range, &start))).buffered(at_once).collect().await;
    for ((range, alone), (beside, result)) in ranges.iter().zip(&all.collected).zip(reads) {
        result?;
        if !same_from(alone, 0, &beside) {
            return Err(broken("the range gives something else while others are read").with("range", &range.name));
        }
    }
    Ok(())
}

/// Whether `rest` is what `all` holds from a byte on.
fn same_from(all: &Collected, from: usize, rest: &Collected) -> bool {
    let rows_before = all.row_ends().iter().take_while(|end| **end <= from).count();
    all.bytes().get(from..) == Some(rest.bytes()) && all.deleted().get(rows_before..) == Some(rest.deleted())
}

async fn check_again(snapshot: &dyn Snapshot, range: &Range, all: &Collected, message: &str) -> Result<()> {
    check_rest(snapshot, range, all, 0, &Cursor::start(), message).await
}

async fn check_rest(
    snapshot: &dyn Snapshot,
    range: &Range,
    all: &Collected,
    from: usize,
    cursor: &Cursor,
    message: &str,
) -> Result<()> {
    let (rest, result) = read(snapshot, range, cursor).await;
    result?;
    if !same_from(all, from, &rest) {
        return Err(broken(message).with("cursor", format!("{cursor:?}")));
    }
    Ok(())
}

async fn check_told_cursors(snapshot: &dyn Snapshot, range: &Range, all: &Collected) -> Result<()> {
    let cursors = all.cursors();
    if cursors.is_empty() {
        return Err(broken("the read didn't say where it begins"));
    }
    for (from, cursor) in places(cursors.len()).filter_map(|index| cursors.get(index)) {
        check_rest(snapshot, range, all, *from, cursor, "reading on from a cursor doesn't give the rest").await?;
    }
    Ok(())
}

async fn check_line_starts(snapshot: &dyn Snapshot, range: &Range, all: &Collected) -> Result<()> {
    let [(0, first)] = all.cursors() else {
        return Err(broken("a line-based read says once where it begins, before anything else"));
    };
    let Some(base) = first.offset() else {
        return Err(broken("the cursor of a line-based range is no byte offset"));
    };
    let feeds = all.bytes().iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let starts: Vec<usize> = feeds.map(|(index, _)| index + 1).collect();
    for start in places(starts.len()).filter_map(|index| starts.get(index)) {
        let cursor = Cursor::from_offset(base + *start as u64);
        check_rest(snapshot, range, all, *start, &cursor, "reading on from a line's offset doesn't give the rest")
            .await?;
    }
    Ok(())
}

async fn check_line_limit(snapshot: &dyn Snapshot, range: &Range, all: &Collected) -> Result<()> {
    let longest = all.lines().map(<[u8]>::len).max().unwrap_or(0);
    let Some(limit_bytes) = longest.checked_sub(1) else { return Ok(()) };
    let (limited, result) = read_within(snapshot, range, &Cursor::start(), limit_bytes).await;
    result?;
    let expected = all.lines().filter(|row| row.len() <= limit_bytes);
    let left_out = all.lines().filter(|row| row.len() > limit_bytes).count();
    if !limited.lines().eq(expected) || limited.too_long().len() != left_out {
        return Err(broken("rows longer than the line limit must be told, and only these left out"));
    }
    Ok(())
}

/// Drops reads while they wait, in the source and in the sink.
async fn check_dropped(snapshot: &dyn Snapshot, range: &Range, all: &Collected) -> Result<()> {
    let start = Cursor::start();
    let mut sink = CollectingSink::new(NO_LIMIT_BYTES, Trap::None);
    drop(snapshot.read(range, &start, &mut sink).now_or_never());
    for call in places(all.calls()) {
        let mut sink = CollectingSink::new(NO_LIMIT_BYTES, Trap::Hang(call));
        let mut hanging = sink.hanging();
        tokio::select! {
            result = snapshot.read(range, &start, &mut sink) => result?,
            _ = hanging.wait_for(|hanging| *hanging) => {}
        }
        if !all.bytes().starts_with(sink.collected.bytes()) {
            return Err(broken("a read that was dropped had given something else"));
        }
    }
    check_again(snapshot, range, all, "the range gives something else after reads that were dropped").await
}

async fn check_refused(snapshot: &dyn Snapshot, range: &Range, all: &Collected) -> Result<()> {
    for call in places(all.calls()) {
        let mut sink = CollectingSink::new(NO_LIMIT_BYTES, Trap::Refuse(call));
        let result = snapshot.read(range, &Cursor::start(), &mut sink).await;
        if let Some(fault) = sink.fault(result.is_ok()) {
            return Err(broken(fault));
        }
        match result {
            Err(error) if error.is_cancelled() => {}
            _ => return Err(broken("an error of the sink wasn't handed on")),
        }
    }
    check_again(snapshot, range, all, "the range gives something else after the sink had refused").await
}
