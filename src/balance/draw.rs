//! Drawing a member at random by weight.

use super::Member;
use super::tried::Tried;
use super::turn::below;

/// Sums of weights: member `i` owns the numbers from `ends[i - 1]` up to `ends[i]`.
#[derive(Debug)]
pub(super) struct Urn {
    ends: Box<[u64]>,
}

impl Urn {
    pub(super) fn new(members: &[Member]) -> Self {
        let ends = members.iter().scan(0_u64, |sum, member| {
            *sum += u64::from(member.weight);
            Some(*sum)
        });
        Urn { ends: ends.collect() }
    }

    fn start(&self, index: usize) -> u64 {
        index.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    fn weight(&self, index: usize) -> u64 {
        self.ends[index] - self.start(index)
    }

    fn total(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// One by weight among the untried; `None` when no weight is left.
    pub(super) fn draw(&self, bits: u64, tried: &Tried) -> Option<usize> {
        if tried.is_empty() {
            let total = self.total();
            return (total > 0).then(|| self.owner(below(bits, total)));
        }
        // A retry: rare, so that a scan is cheaper than keeping a structure.
        self.among(bits, |index| !tried.contains(index))
    }

    /// A second one by weight, not `first` and not tried.
    pub(super) fn draw_other(&self, bits: u64, first: usize, tried: &Tried) -> Option<usize> {
        if !tried.is_empty() {
            return self.among(bits, |index| index != first && !tried.contains(index));
        }
        // Closes the gap that `first` leaves, draws, and opens it again.
        let own = self.weight(first);
        let rest = self.total() - own;
        let drawn = below(bits, rest);
        let opened = if drawn < self.start(first) { drawn } else { drawn + own };
        (rest > 0).then(|| self.owner(opened))
    }

    fn owner(&self, number: u64) -> usize {
        self.ends.partition_point(|&end| end <= number)
    }

    fn among(&self, bits: u64, may: impl Fn(usize) -> bool) -> Option<usize> {
        let open = || (0..self.ends.len()).filter(|&index| may(index));
        let total: u64 = open().map(|index| self.weight(index)).sum();
        let mut left = below(bits, total);
        open().find(|&index| {
            let own = self.weight(index);
            let hit = left < own;
            left = left.saturating_sub(own);
            hit
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::turn::mix;
    use super::*;

    fn urn(weights: &[u32]) -> Urn {
        let members: Vec<_> = weights.iter().map(|&weight| Member { id: 0, weight }).collect();
        Urn::new(&members)
    }

    fn counts(draw: impl Fn(u64) -> Option<usize>) -> [u32; 3] {
        let mut counts = [0; 3];
        for number in 0..30_000 {
            counts[draw(mix(number)).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn draws_follow_the_weights() {
        let urn = urn(&[1, 0, 2]);
        let [a, b, c] = counts(|bits| urn.draw(bits, &Tried::default()));
        assert_eq!(b, 0);
        assert!((9_500..10_500).contains(&a) && (19_500..20_500).contains(&c), "{a} {c}");
    }

    #[test]
    fn a_second_draw_is_another_one_by_weight() {
        let urn = urn(&[1, 5, 2]);
        let [a, b, c] = counts(|bits| urn.draw_other(bits, 1, &Tried::default()));
        assert_eq!(b, 0);
        assert!((9_500..10_500).contains(&a) && (19_500..20_500).contains(&c), "{a} {c}");
    }

    #[test]
    fn a_draw_among_the_untried_leaves_out_the_tried_and_then_ends() {
        let urn = urn(&[1, 5, 2]);
        let mut tried = Tried::default();
        tried.insert(1);
        let [a, b, c] = counts(|bits| urn.draw(bits, &tried));
        assert_eq!(b, 0);
        assert!((9_500..10_500).contains(&a) && (19_500..20_500).contains(&c), "{a} {c}");
        assert_eq!(urn.draw_other(u64::MAX, 2, &tried), Some(0));
        tried.insert(0);
        assert_eq!(urn.draw_other(7, 2, &tried), None);
        tried.insert(2);
        assert_eq!(urn.draw(7, &tried), None);
    }

    #[test]
    fn an_urn_of_one_has_no_second() {
        assert_eq!(urn(&[3]).draw_other(9, 0, &Tried::default()), None);
        assert_eq!(urn(&[]).draw(9, &Tried::default()), None);
        assert_eq!(urn(&[0]).draw(9, &Tried::default()), None);
    }
}
