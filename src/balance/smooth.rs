//! Smooth weighted round robin (nginx's algorithm), computed once: the sequence is then only read,
//! by all workers, with one atomic index between them.

/// Longest sequence for an ordinary pool. Weights that need more are rounded to `1 / MAX_SEQUENCE`
/// of the whole; a pool of more members than this has one turn for each at least.
pub const MAX_SEQUENCE: u64 = 4096;

/// Member indexes in smooth order. Over one length of it (from any place on, for it repeats) each
/// member comes exactly as often as its weight says, and never more than one turn ahead of its
/// share. Members of weight 0 do not come; empty when there are no others.
pub(super) fn smooth(weights: &[u32]) -> Box<[u32]> {
    let turns = turns(weights);
    let total: i64 = turns.iter().sum();
    // Per member: its share so far less what it has got, in units of 1/total.
    let mut credit = vec![0_i64; turns.len()];
    (0..total)
        .map(|_| {
            let mut best = 0;
            for (index, own) in turns.iter().enumerate() {
                credit[index] += own;
                if *own > 0 && (turns[best] == 0 || credit[index] > credit[best]) {
                    best = index;
                }
            }
            credit[best] -= total;
            best as u32
        })
        .collect()
}

/// Turns of each member in one sequence: the weights in lowest terms, scaled down when their sum is
/// beyond the bound, never to nothing.
fn turns(weights: &[u32]) -> Vec<i64> {
    let divisor = weights.iter().copied().filter(|&w| w > 0).fold(0, gcd).max(1);
    let lowest: Vec<u64> = weights.iter().map(|w| u64::from(w / divisor)).collect();
    let total: u64 = lowest.iter().sum();
    lowest
        .into_iter()
        .map(|own| match own {
            0 => 0,
            own if total <= MAX_SEQUENCE => own as i64,
            own => ((own * MAX_SEQUENCE + total / 2) / total).max(1) as i64,
        })
        .collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_textbook_weights_give_the_textbook_sequence() {
        assert_eq!(*smooth(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(*smooth(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(*smooth(&[10, 20]), [1, 0, 1]);
    }

    #[test]
    fn weight_zero_never_comes() {
        assert_eq!(*smooth(&[0, 2, 0, 1]), [1, 3, 1]);
        assert!(smooth(&[0, 0]).is_empty());
        assert!(smooth(&[]).is_empty());
    }

    #[test]
    fn huge_weights_are_bounded_and_the_smallest_still_has_its_turn() {
        let sequence = smooth(&[u32::MAX, u32::MAX - 1, 1]);
        assert!(sequence.len() as u64 <= MAX_SEQUENCE + 3);
        assert_eq!(sequence.iter().filter(|&&i| i == 2).count(), 1);
    }

    proptest! {
        #[test]
        fn every_member_gets_its_exact_share_and_is_never_a_turn_ahead(
            weights in proptest::collection::vec(0_u32..=100, 1..12),
        ) {
            let sequence = smooth(&weights);
            let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
            let rounds = sequence.len() as u64;
            for (member, &weight) in weights.iter().enumerate() {
                let mut got = 0;
                for (step, &who) in sequence.iter().enumerate() {
                    got += u64::from(who as usize == member);
                    // got < share + 1, in whole numbers
                    prop_assert!(got * total < (step as u64 + 1) * u64::from(weight) + total);
                }
                prop_assert_eq!(got * total, rounds * u64::from(weight));
            }
        }
    }
}
