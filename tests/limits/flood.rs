//! A flood of one-shot keys against a table much smaller than it.

use std::net::IpAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidegate::base::{LimitId, time};
use tidegate::traffic::{
    Action, Algorithm, Decision, LimitKey, LimitPlan, LimitScope, Limiter, Quota, Sharing,
};

const FLOOD: u32 = 1_000_000;
const ABUSERS: u32 = 20;
const LEGAL: u32 = 200;

pub(crate) fn plan(rate: f64, burst: f64, max_keys: u32) -> LimitPlan {
    LimitPlan {
        id: LimitId(1),
        algorithm: Algorithm::TokenBucket(Quota { rate, burst }),
        scope: LimitScope::Cluster,
        key: LimitKey::Client,
        action: Action::Reject,
        ipv6_prefix: 64,
        exempt: Vec::new(),
        shadow: false,
        max_keys,
        sharing: Sharing::default(),
    }
}

/// A generator whose seed is printed, and taken from `SIM_SEED` when that is set.
fn seeded(otherwise: u64) -> StdRng {
    let seed = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(otherwise);
    println!("SIM_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// A million new keys in one second, among them clients who ask `abuse` times their rate and
/// clients who keep to 0.8 of it.
fn flood(rate: f64, burst: f64, abuse: f64, max_keys: u32) {
    let mut rng = seeded(9);
    let plan = plan(rate, burst, max_keys);
    let start = time::now();
    let limiter = Limiter::new(plan, 1, rng.random(), start);
    let bytes = limiter.bytes();
    let abuser = |n: u32| IpAddr::V4((0x0a00_0000 + n).into());
    let legal = |n: u32| IpAddr::V4((0x0b00_0000 + n).into());
    let mut admitted = [0u32; ABUSERS as usize];

    let step = Duration::from_secs(1) / FLOOD;
    let per_step = 1.0 / f64::from(FLOOD);
    let (mut abusive, mut lawful) = (0.0, 0.0);
    let (mut next_abuser, mut next_legal) = (0, 0);
    for n in 0..FLOOD {
        let now = start + step * n;
        let one_shot = IpAddr::V6((0x2001_0db8_u128 << 96 | u128::from(n) << 64).into());
        assert_eq!(limiter.admit(one_shot, now), Decision::Admit);
        abusive += rate * abuse * f64::from(ABUSERS) * per_step;
        while abusive >= 1.0 {
            abusive -= 1.0;
            let decision = limiter.admit(abuser(next_abuser), now);
            admitted[next_abuser as usize] += u32::from(decision == Decision::Admit);
            next_abuser = (next_abuser + 1) % ABUSERS;
        }
        lawful += rate * 0.8 * f64::from(LEGAL) * per_step;
        while lawful >= 1.0 {
            lawful -= 1.0;
            assert_eq!(limiter.admit(legal(next_legal), now), Decision::Admit);
            next_legal = (next_legal + 1) % LEGAL;
        }
    }
    let most = f64::from(*admitted.iter().max().unwrap()) / (rate + burst);
    let counts = limiter.counts();
    println!("{rate}/s, burst {burst}, {max_keys} keys: abusers at {most:.3}; {counts:?}");
    assert!(most <= 1.05, "an abuser got {most} of the limit");
    assert_eq!(limiter.bytes(), bytes);
    // Both rounded up to whole sets.
    let most = max_keys.next_multiple_of(7);
    assert!(bytes <= 56 * most as usize && counts.keys <= u64::from(most));
}

#[test]
fn a_flood_of_new_keys_frees_no_abuser_and_rejects_no_legal_client() {
    flood(100.0, 50.0, 10.0, 131_072);
}

#[test]
fn a_flood_against_a_slow_limit_and_a_small_table_displaces_only_itself() {
    flood(5.0, 10.0, 100.0, 65_536);
}
