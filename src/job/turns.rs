//! Whose turn it is to run.
//!
//! Jobs wait in line under a key, first come, first served. The keys take turns, so that a long line under one doesn't
//! keep the others waiting.
//!
//! Where several servers share a job store, the store keeps the line of each key
//! ([`place_in_line`](super::store::JobStore::place_in_line)), and a job comes to its turn here when the store has let
//! it in. Two lines with an order of their own each would wait for each other.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// What jobs wait in line under: HealthLake runs one job at a time for an account in a Region (contract section 8).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct QueueKey {
    /// The account, 12 digits.
    pub account: String,
    /// The Region.
    pub region: String,
}

/// Gives jobs their turns.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Mutex<Lines>>);

/// A job's place in line, or its turn. It is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    key: QueueKey,
    number: u64,
    has_come: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Lines {
    most: usize,
    most_of_key: usize,
    running: usize,
    next_number: u64,
    /// Those with jobs, in the order in which they get their next turn.
    lines: VecDeque<Line>,
}

#[derive(Debug)]
struct Line {
    key: QueueKey,
    running: usize,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    /// Whether it may have its turn as far as other servers are concerned.
    is_let_in: bool,
    comes: watch::Sender<bool>,
}

impl Turns {
    /// Turns for so many jobs at a time, and so many of one key; `None`: any number.
    pub(super) fn new(most: Option<NonZeroUsize>, most_of_key: Option<NonZeroUsize>) -> Self {
        let number = |most: Option<NonZeroUsize>| most.map_or(usize::MAX, NonZeroUsize::get);
        Self(Arc::new(Mutex::new(Lines {
            most: number(most),
            most_of_key: number(most_of_key),
            running: 0,
            next_number: 0,
            lines: VecDeque::new(),
        })))
    }

    /// Puts a job at the end of its key's line. Unless it `is_let_in`, others pass it by until it is.
    pub(super) fn stand_in_line(&self, key: &QueueKey, is_let_in: bool) -> Turn {
        let (comes, has_come) = watch::channel(false);
        let mut lines = self.lock();
        let number = lines.next_number;
        lines.next_number += 1;
        let waiting = Waiting { number, is_let_in, comes };
        match lines.line(key) {
            Some(line) => line.waiting.push_back(waiting),
            None => {
                lines.lines.push_back(Line { key: key.clone(), running: 0, waiting: VecDeque::from([waiting]) });
            }
        }
        lines.give_turns();
        Turn { turns: self.clone(), key: key.clone(), number, has_come }
    }

    /// Number of jobs that wait under a key.
    pub(super) fn waiting(&self, key: &QueueKey) -> usize {
        self.lock().line(key).map_or(0, |line| line.waiting.len())
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn line(&mut self, key: &QueueKey) -> Option<&mut Line> {
        self.lines.iter_mut().find(|line| line.key == *key)
    }

    fn give_turns(&mut self) {
        while self.running < self.most {
            let may_run = |line: &Line| line.running < self.most_of_key && line.next().is_some();
            let Some(mut line) = self.lines.iter().position(may_run).and_then(|place| self.lines.remove(place)) else {
                return;
            };
            if let Some(waiting) = line.next().and_then(|next| line.waiting.remove(next)) {
                // Who waits no longer has left the line before.
                waiting.comes.send_replace(true);
                line.running += 1;
                self.running += 1;
            }
            self.lines.push_back(line);
        }
    }

    fn leave(&mut self, key: &QueueKey, number: u64) {
        let Some(place) = self.lines.iter().position(|line| line.key == *key) else { return };
        let Some(mut line) = self.lines.remove(place) else { return };
        if let Some(waits) = line.waiting.iter().position(|waiting| waiting.number == number) {
            line.waiting.remove(waits);
            self.lines.insert(place, line);
        } else {
            line.running -= 1;
            self.running -= 1;
            // Behind the keys that came while it ran.
            self.lines.push_back(line);
        }
        self.lines.retain(|line| line.running > 0 || !line.waiting.is_empty());
        self.give_turns();
    }
}

impl Line {
    /// The place of who is first of those that are let in.
    fn next(&self) -> Option<usize> {
        self.waiting.iter().position(|waiting| waiting.is_let_in)
    }
}

impl Turn {
    /// What the job stands in line under.
    pub(super) const fn key(&self) -> &QueueKey {
        &self.key
    }

    /// Lets the job in, as the store that servers share has done.
    pub(super) fn let_in(&self) {
        let mut lines = self.turns.lock();
        let waiting = lines.line(&self.key).map(|line| line.waiting.iter_mut());
        let Some(own) = waiting.and_then(|mut waiting| waiting.find(|waiting| waiting.number == self.number)) else {
            return;
        };
        own.is_let_in = true;
        lines.give_turns();
    }

    /// Whether it is the job's turn.
    pub(super) fn has_come(&self) -> bool {
        *self.has_come.borrow()
    }

    /// Waits until it is the job's turn.
    ///
    /// # Cancellation
    /// The job keeps its place.
    pub(super) async fn comes(&self) {
        // The other end is held until the turn has come.
        drop(self.has_come.clone().wait_for(|has_come| *has_come).await);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.lock().leave(&self.key, self.number);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(account: &str) -> QueueKey {
        QueueKey { account: account.to_owned(), region: "r".to_owned() }
    }

    fn turns(most: usize, most_of_key: usize) -> Turns {
        Turns::new(NonZeroUsize::new(most), NonZeroUsize::new(most_of_key))
    }

    /// Lets all run to their end, one after the other, and tells in which order they had their turns.
    fn order(mut waiting: Vec<(&'static str, Turn)>) -> Vec<&'static str> {
        let mut order = Vec::new();
        while let Some(place) = waiting.iter().position(|(_, turn)| turn.has_come()) {
            order.push(waiting.remove(place).0);
        }
        assert!(waiting.is_empty(), "{waiting:?}");
        order
    }

    #[test]
    fn jobs_of_a_key_run_in_the_order_in_which_they_came() {
        let turns = turns(0, 1);
        let waiting = ["1", "2", "3", "4"].map(|name| (name, turns.stand_in_line(&key("a"), true)));
        assert_eq!((turns.waiting(&key("a")), turns.waiting(&key("b"))), (3, 0));
        assert_eq!(order(waiting.into()), ["1", "2", "3", "4"]);
        assert!(turns.lock().lines.is_empty(), "a key without jobs takes no memory");
    }

    #[test]
    fn keys_take_turns_however_long_their_lines_are() {
        let turns = turns(1, 1);
        let of_a = ["a1", "a2", "a3"].map(|name| (name, turns.stand_in_line(&key("a"), true)));
        let of_b = ["b1", "b2"].map(|name| (name, turns.stand_in_line(&key("b"), true)));
        let of_c = [("c1", turns.stand_in_line(&key("c"), true))];
        let all = of_a.into_iter().chain(of_b).chain(of_c).collect();
        assert_eq!(order(all), ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[test]
    fn keys_do_not_wait_for_each_other_unless_there_is_a_limit_for_all() {
        let turns = turns(0, 1);
        let [a, b] = [key("a"), key("b")].map(|key| turns.stand_in_line(&key, true));
        assert!(a.has_come() && b.has_come() && !turns.stand_in_line(&key("a"), true).has_come());
    }

    #[test]
    fn who_leaves_the_line_is_passed_over() {
        let turns = turns(0, 1);
        let [first, second, third] = [(); 3].map(|()| turns.stand_in_line(&key("a"), true));
        drop(second);
        assert!(!third.has_come());
        drop(first);
        assert!(third.has_come());
    }

    #[test]
    fn without_limits_nobody_waits() {
        let turns = turns(0, 0);
        let all: Vec<Turn> = (0..100).map(|_| turns.stand_in_line(&QueueKey::default(), true)).collect();
        assert!(all.iter().all(Turn::has_come));
    }

    #[test]
    fn who_is_not_let_in_is_passed_by_and_keeps_his_place() {
        let turns = turns(0, 1);
        let [first, second] = [false, true].map(|is_let_in| turns.stand_in_line(&key("a"), is_let_in));
        let third = turns.stand_in_line(&key("a"), true);
        assert!(!first.has_come() && second.has_come() && !third.has_come());
        assert_eq!(turns.waiting(&key("a")), 2);
        first.let_in();
        assert!(!first.has_come(), "one at a time");
        drop(second);
        assert!(first.has_come() && !third.has_come());
    }

    #[tokio::test]
    async fn a_turn_can_be_waited_for() {
        let turns = turns(1, 0);
        let [first, second] = [(); 2].map(|()| turns.stand_in_line(&key("a"), true));
        first.comes().await;
        let (_, ()) = tokio::join!(async { drop(first) }, second.comes());
        assert!(second.has_come());
    }

    proptest! {
        #[test]
        fn limits_hold_and_no_turn_is_lost(
            most in 0usize..4,
            most_of_key in 0usize..3,
            steps in prop::collection::vec((0usize..3, any::<prop::sample::Index>(), any::<bool>()), 1..60),
        ) {
            let turns = turns(most, most_of_key);
            let most = if most == 0 { usize::MAX } else { most };
            let most_of_key = if most_of_key == 0 { usize::MAX } else { most_of_key };
            let mut all: Vec<(usize, Turn)> = Vec::new();
            for (name, place, leaves) in steps {
                if leaves && !all.is_empty() {
                    drop(all.remove(place.index(all.len())));
                } else {
                    all.push((name, turns.stand_in_line(&key(&name.to_string()), true)));
                }
                let running = |name: usize| all.iter().filter(|(own, turn)| *own == name && turn.has_come()).count();
                let in_all: usize = (0..3).map(running).sum();
                prop_assert!(in_all <= most);
                for name in 0..3 {
                    prop_assert!(running(name) <= most_of_key);
                    let own: Vec<bool> = all.iter().filter(|(own, _)| *own == name).map(|(_, turn)| turn.has_come()).collect();
                    prop_assert!(own.is_sorted_by(|before, after| before >= after), "first come, first served: {own:?}");
                    let waits = own.contains(&false);
                    prop_assert!(!waits || in_all == most || running(name) == most_of_key, "nobody waits for nothing");
                }
            }
        }
    }
}
