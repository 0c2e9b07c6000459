//! The ledger while several threads scan: types are numbered once, and the books balance.

use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::sync::mpsc;
use shuttle::thread;

use crate::budget::{Permit, Pool, Turn};
use crate::ledger::{Books, Count, Exclusion, Fate, Origin, Slot, TypeTable};

const SCHEDULES: usize = 3000;

#[test]
fn a_type_that_several_threads_meet_at_once_has_one_number() {
    let test = || {
        let table = Arc::new(TypeTable::default());
        let workers: Vec<_> = [["Patient", "Basic"], ["Basic", "Patient"], ["Patient", "Flag"]]
            .into_iter()
            .map(|names| {
                let table = Arc::clone(&table);
                thread::spawn(move || names.map(|name| (name, table.slot(name).unwrap())))
            })
            .collect();
        for (name, slot) in workers.into_iter().flat_map(|worker| worker.join().unwrap()) {
            assert_eq!(table.slot(name).unwrap(), slot, "{name}");
            assert_eq!(table.resource_type(slot).unwrap().as_str(), name);
        }
        assert_eq!(table.all().len(), 3);
    };
    shuttle::check_random(test, SCHEDULES);
    shuttle::check_pct(test, SCHEDULES, 3);
}

/// A scanned block: what it pays with, and how many resources of which type are kept and left out.
type Scanned = (Permit, [(Slot, u64, u64); 2]);

/// A job in small: two ranges are scanned side by side, one thread keeps the books in order, parts leave by themselves.
#[test]
fn the_books_balance_and_every_byte_comes_back_whatever_the_schedule() {
    let test = || {
        let (read, fill) = (Pool::new(4), Pool::new(4));
        let types = Arc::new(TypeTable::default());
        let mut ranges = Vec::new();
        let scanners: Vec<_> = [(0, ["Patient", "Basic"]), (1, ["Basic", "Flag"])]
            .into_iter()
            .map(|(turn, names)| {
                let (out, blocks) = mpsc::sync_channel::<Scanned>(1);
                ranges.push(blocks);
                let (read, types) = (read.clone(), Arc::clone(&types));
                thread::spawn(move || {
                    for block in 1..3 {
                        let leave_bytes = if turn == 0 { 0 } else { 2 };
                        let permit = block_on(read.acquire(Turn(turn), 2, leave_bytes));
                        let facts = names.map(|name| (types.slot(name).unwrap(), block, 1));
                        out.send((permit, facts)).unwrap();
                    }
                })
            })
            .collect();
        let mut books = Books::default();
        let mut sending = Vec::new();
        for (index, blocks) in ranges.into_iter().enumerate() {
            let name = Arc::from("range");
            books.begin_range(index, &name, None);
            for (place, (permit, facts)) in (0..).zip(blocks) {
                books.begin_block(&name, Origin::Offset(place * 100));
                let charge = block_on(fill.acquire(Turn(0), 2, 0));
                drop(permit);
                for (slot, kept, left_out) in facts {
                    books.record(slot, Fate::Written, Count::new(kept, kept * 10), 10);
                    books.record(slot, Fate::Excluded(Exclusion::Since), Count::new(left_out, left_out * 10), 20);
                    assert!(books.mark(slot).row.balances());
                }
                sending.push(thread::spawn(move || drop(charge)));
            }
            books.end_range();
        }
        scanners.into_iter().chain(sending).for_each(|thread| thread.join().unwrap());
        for (slot, resource_type) in types.all() {
            let (row, ranges) = (books.row(slot), if resource_type.as_str() == "Basic" { 2 } else { 1 });
            assert_eq!(
                (row.written, row.read),
                (Count::new(3 * ranges, 30 * ranges), Count::new(5 * ranges, 50 * ranges))
            );
            assert!(row.balances(), "{resource_type}");
        }
        assert_eq!((read.free_bytes(), fill.free_bytes(), types.all().len()), (4, 4, 3));
    };
    shuttle::check_random(test, SCHEDULES);
    shuttle::check_pct(test, SCHEDULES, 3);
}
