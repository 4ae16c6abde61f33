//! One bit per set of the table: where the agent has to look. Of fixed size, never full, and
//! marking a set that is marked already only reads; so it holds up no decision.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

#[derive(Debug)]
pub(super) struct Marks {
    words: Box<[AtomicU64]>,
    /// Where the next visit begins, so that a visit that is cut short starves no set.
    next: AtomicUsize,
}

/// What becomes of a set's mark when it was visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visit {
    /// All is done.
    Done,
    /// Something is left for a later visit.
    Again,
    /// As [`Visit::Again`], and no more sets are to be visited now.
    Stop,
}

impl Marks {
    pub(super) fn new(sets: usize) -> Self {
        let words = (0..sets.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Marks { words, next: AtomicUsize::new(0) }
    }

    /// Marks a set; called under the set's lock, after the change.
    #[inline]
    pub(super) fn mark(&self, set: usize) {
        let (word, bit) = (&self.words[set / 64], 1 << (set % 64));
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Visits each marked set once. The mark is taken away before the visit (which takes the set's
    /// lock), so that a change during it is never overlooked.
    pub(super) fn visit(&self, mut visit: impl FnMut(usize) -> Visit) {
        let first = self.next.load(Ordering::Relaxed);
        for step in 0..self.words.len() {
            let at = (first + step) % self.words.len();
            if self.words[at].load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut marked = self.words[at].swap(0, Ordering::AcqRel);
            let mut again = 0;
            while marked != 0 {
                let bit = marked & marked.wrapping_neg();
                match visit(at * 64 + bit.trailing_zeros() as usize) {
                    Visit::Done => {}
                    Visit::Again => again |= bit,
                    Visit::Stop => {
                        self.words[at].fetch_or(again | marked, Ordering::Relaxed);
                        self.next.store(at, Ordering::Relaxed);
                        return;
                    }
                }
                marked &= marked - 1;
            }
            if again != 0 {
                self.words[at].fetch_or(again, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visited(marks: &Marks, mut answer: impl FnMut(usize) -> Visit) -> Vec<usize> {
        let mut seen = Vec::new();
        marks.visit(|set| {
            seen.push(set);
            answer(set)
        });
        seen
    }

    #[test]
    fn each_marked_set_is_visited_once() {
        let marks = Marks::new(200);
        for set in [0, 63, 64, 199, 63] {
            marks.mark(set);
        }
        assert_eq!(visited(&marks, |_| Visit::Done), [0, 63, 64, 199]);
        assert!(visited(&marks, |_| Visit::Done).is_empty());
    }

    #[test]
    fn what_is_left_is_visited_again() {
        let marks = Marks::new(200);
        for set in [1, 2, 150] {
            marks.mark(set);
        }
        let keep_2 = |set| if set == 2 { Visit::Again } else { Visit::Done };
        assert_eq!(visited(&marks, keep_2), [1, 2, 150]);
        assert_eq!(visited(&marks, |_| Visit::Done), [2]);
    }

    #[test]
    fn a_visit_cut_short_goes_on_where_it_stopped() {
        let marks = Marks::new(200);
        for set in [1, 100, 150] {
            marks.mark(set);
        }
        let stop = |set| if set == 100 { Visit::Stop } else { Visit::Done };
        assert_eq!(visited(&marks, stop), [1, 100]);
        marks.mark(1);
        assert_eq!(visited(&marks, |_| Visit::Done), [100, 150, 1]);
    }

    #[test]
    fn a_mark_made_during_the_visit_is_kept() {
        let marks = Marks::new(64);
        marks.mark(5);
        visited(&marks, |set| {
            marks.mark(set);
            Visit::Done
        });
        assert_eq!(visited(&marks, |_| Visit::Done), [5]);
    }
}
