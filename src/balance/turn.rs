//! What one connection brings to its choice.

/// One connection's turn. Everything random in a choice follows from it, so that a choice can be
/// replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Which connection of the pool this is: 0, 1, 2, …
    pub number: u64,
    /// Uniform bits.
    pub noise: u64,
    /// Stable hash of the client's address, the same on every node.
    pub client: u64,
}

impl Turn {
    /// Turn `number` of a pool that draws from `seed`.
    pub fn new(seed: u64, number: u64, client: u64) -> Self {
        Turn { number, noise: mix(seed ^ mix(number)), client }
    }
}

/// SplitMix64's output function (Steele, Lea, Flood 2014): every input bit changes half the output
/// bits, which is all the randomness a balancer needs, at a nanosecond and without a lock.
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A number below `bound`, from uniform `bits`; 0 when `bound` is 0. The bias of the
/// multiply-shift is below `bound / 2^64`.
pub(super) fn below(bits: u64, bound: u64) -> u64 {
    ((u128::from(bits) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_below_a_bound_reaches_both_ends_and_not_the_bound() {
        assert_eq!((below(0, 7), below(u64::MAX, 7), below(u64::MAX, 0)), (0, 6, 0));
    }

    #[test]
    fn turns_of_one_seed_draw_differently() {
        let a = Turn::new(1, 0, 0).noise;
        assert_ne!(a, Turn::new(1, 1, 0).noise);
        assert_ne!(a, Turn::new(2, 0, 0).noise);
        assert_eq!(a, Turn::new(1, 0, 9).noise);
    }
}
