//! foca's timers, in the order they are due. Inside the machine, so that none is ever lost: a probe
//! cycle whose timer vanished never runs again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Ordered by (time, `T`'s order, order of arrival).
#[derive(Debug)]
pub struct Timers<T> {
    heap: BinaryHeap<Reverse<Due<T>>>,
    arrived: u64,
}

/// A timer that is due.
#[derive(Debug, PartialEq, Eq)]
pub struct Due<T> {
    /// When.
    pub at: Instant,
    /// When it was asked for.
    pub since: Instant,
    /// What.
    pub timer: T,
    arrived: u64,
}

impl<T: Ord> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord> Ord for Due<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let by_time = self.at.cmp(&other.at);
        by_time.then_with(|| self.timer.cmp(&other.timer)).then(self.arrived.cmp(&other.arrived))
    }
}

impl<T: Ord> Default for Timers<T> {
    fn default() -> Self {
        Timers { heap: BinaryHeap::new(), arrived: 0 }
    }
}

impl<T: Ord> Timers<T> {
    /// `timer` is due at `at`; `since` is kept with it.
    pub fn push(&mut self, since: Instant, at: Instant, timer: T) {
        self.arrived += 1;
        self.heap.push(Reverse(Due { at, since, timer, arrived: self.arrived }));
    }

    /// The first timer that is due by `now`.
    pub fn pop(&mut self, now: Instant) -> Option<Due<T>> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due)
    }

    /// When the first timer is due.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(due)| due.at)
    }

    /// Puts everything off: time has passed in which we could not act (the process was stopped),
    /// and it should not count.
    pub fn put_off(&mut self, by: Duration) {
        let heap = std::mem::take(&mut self.heap);
        self.heap = heap
            .into_iter()
            .map(|Reverse(due)| Reverse(Due { at: due.at + by, since: due.since + by, ..due }))
            .collect();
    }

    /// Timers waiting.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// No timer waits.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::now;

    fn all(timers: &mut Timers<u8>, now: Instant) -> Vec<u8> {
        std::iter::from_fn(|| timers.pop(now).map(|due| due.timer)).collect()
    }

    #[test]
    fn timers_come_by_time_then_by_their_own_order() {
        let start = now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        for (ms, timer) in [(5, 2), (5, 1), (1, 9), (9, 0), (5, 1)] {
            timers.push(start, at(ms), timer);
        }
        assert_eq!(all(&mut timers, at(5)), [9, 1, 1, 2]);
        assert_eq!(timers.next(), Some(at(9)));
    }

    #[test]
    fn a_hundred_thousand_timers_are_all_kept() {
        let start = now();
        let mut timers = Timers::default();
        for n in 0..100_000u32 {
            timers.push(start, start + Duration::from_millis(u64::from(n % 977)), 0);
        }
        assert_eq!(all(&mut timers, start + Duration::from_secs(1)).len(), 100_000);
    }

    #[test]
    fn time_that_did_not_count_puts_everything_off() {
        let start = now();
        let mut timers = Timers::default();
        timers.push(start, start + Duration::from_secs(1), 1);
        timers.put_off(Duration::from_secs(5));
        assert_eq!(timers.pop(start + Duration::from_secs(5)), None);
        let due = timers.pop(start + Duration::from_secs(6)).unwrap();
        assert_eq!(due.since, start + Duration::from_secs(5));
    }
}
