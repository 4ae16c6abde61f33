//! Consistent hashing by weighted rendezvous (Thaler, Ravishankar 1998; weights after Schindelhauer,
//! Schomaker 2005) with bounded loads (Mirrokni, Thorup, Zadimoghaddam 2016).
//!
//! Every member has a score for a client, the highest wins. When a member leaves, only its own
//! clients move; when a weight grows, clients move only to that member. All nodes agree, for a
//! score depends on nothing but the client's address and the member's.

use super::Member;
use super::turn::mix;

/// Connections that a member may have beyond its bound before clients are sent past it. Without it
/// a quiet pool would break every affinity: with two connections in all, one each is "even".
const SLACK: u64 = 64;

/// Score of `member` for `client`: in (0, ∞), the higher the better.
pub(super) fn score(client: u64, member: &Member) -> f64 {
    let bits = mix(client ^ mix(member.id));
    // Uniform in (0, 1): 53 bits and a half, so that neither end is met.
    let uniform = ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(member.weight) / -uniform.ln()
}

/// Most connections that a member of `weight` should have when one more comes to a pool with
/// `load` connections: 5/4 of its share, and some slack.
pub(super) fn bound(load: u64, weight: u32, total_weight: u64) -> u64 {
    let share = u128::from(load + 1) * u128::from(weight) * 5;
    (share.div_ceil(u128::from(total_weight.max(1)) * 4) as u64).saturating_add(SLACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_five_quarters_of_the_share_and_slack() {
        assert_eq!(bound(999, 1, 2), 625 + SLACK);
        assert_eq!(bound(999, 1, 4), 313 + SLACK);
        assert_eq!(bound(0, 1, 3), 1 + SLACK);
    }

    #[test]
    fn scores_win_by_weight() {
        let light = Member { id: 1, weight: 1 };
        let heavy = Member { id: 2, weight: 3 };
        let wins = (0..40_000).filter(|&c| score(mix(c), &heavy) > score(mix(c), &light)).count();
        assert!((29_400..30_600).contains(&wins), "{wins}");
    }
}
