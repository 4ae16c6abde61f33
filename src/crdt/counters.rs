//! Grow-only counters. A counter is only ever written by its actor and only ever grows, so the
//! largest total seen is the newest: loss, duplication and reordering are harmless.
//!
//! ```text
//!   total     0 ──────── tenure begins ───── known ──────────── total
//!             └ earlier tenures ──────────┘└ merged ┘└─ news ────┘
//! ```
//!
//! An actor that stopped tracking a key and begins again starts a new *tenure*, at or above
//! everything it told before. Only what lies above both the tenure's beginning and what is known has
//! been spent and not been merged yet.
//!
//! Only the low 32 bits of a total are kept, and compared as serial numbers are (RFC 1982): of two
//! totals less than 2³¹ apart it is clear which is the newer.

/// What an actor tells of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Tokens spent, cumulative; the low bits.
    pub total: u32,
    /// The part of `total` in the present tenure; stops at its maximum.
    pub tenure: u32,
    /// How many of the tokens matter still to somebody who hears of the key for the first time.
    pub recent: u32,
}

/// What is known of one actor's spending of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter(u32);

impl Counter {
    /// Nothing was known before; also what the actor has spent that matters still.
    pub fn first(told: Told) -> (Counter, u32) {
        (Counter(told.total), told.tenure.min(told.recent))
    }

    /// Merges what an actor tells, and says how much of it is news that matters: over any order,
    /// loss and repetition the news sum up to what the newest total says. After a silence it is no
    /// more than what is recent, as older tokens have long been refilled.
    pub fn merge(&mut self, told: Told, after_silence: bool) -> u32 {
        let ahead = told.total.wrapping_sub(self.0);
        if ahead > i32::MAX as u32 {
            // Overtaken by a newer one.
            return 0;
        }
        self.0 = told.total;
        let news = ahead.min(told.tenure);
        if after_silence { news.min(told.recent) } else { news }
    }

    /// Counts one that the actor was granted and will tell of.
    pub fn grow(&mut self) {
        self.0 = self.0.wrapping_add(1);
    }

    /// The low bits of the largest total merged.
    pub fn total(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn told(total: u32) -> Told {
        Told { total, tenure: u32::MAX, recent: 0 }
    }

    proptest! {
        #[test]
        fn news_sum_up_to_the_newest_total_in_any_order_and_repetition(
            begin in any::<u32>(),
            (steps, order) in vec(0..1000u32, 1..40).prop_flat_map(|steps| {
                let length = steps.len();
                (Just(steps), vec(0..length, 0..80))
            })
        ) {
            let mut total = begin;
            let totals: Vec<u32> = steps.iter().map(|step| {
                total = total.wrapping_add(*step);
                total
            }).collect();
            let (mut counter, _) = Counter::first(told(begin));
            let sum: u32 = order.iter().map(|at| counter.merge(told(totals[*at]), false)).sum();
            let newest = order.iter().copied().max().map_or(begin, |at| totals[at]);
            prop_assert_eq!(sum, newest.wrapping_sub(begin));
            prop_assert_eq!(counter.total(), newest);
        }
    }

    #[test]
    fn what_an_earlier_tenure_told_is_no_news() {
        let (mut counter, first) = Counter::first(Told { total: 500, tenure: 500, recent: 20 });
        assert_eq!(first, 20);
        // The key was evicted, and comes back above another one's total.
        assert_eq!(counter.merge(Told { total: 903, tenure: 3, recent: 3 }, false), 3);
        assert_eq!(counter.merge(Told { total: 913, tenure: 13, recent: 13 }, false), 10);
    }

    #[test]
    fn after_a_silence_only_what_is_recent_matters() {
        let (mut counter, _) = Counter::first(told(0));
        assert_eq!(counter.merge(Told { total: 1000, tenure: 1000, recent: 30 }, true), 30);
        assert_eq!(counter.merge(Told { total: 1010, tenure: 1010, recent: 40 }, false), 10);
    }
}
