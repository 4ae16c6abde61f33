use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const POLICIES: [Policy; 5] = [
    Policy::WeightedRoundRobin,
    Policy::LeastConnections,
    Policy::PowerOfTwo,
    Policy::ConsistentHash,
    Policy::Random,
];

struct Fixed(Vec<u32>);

impl Loads for Fixed {
    fn load(&self, index: usize) -> u32 {
        self.0[index]
    }
}

fn members(weights: &[u32]) -> Vec<Member> {
    let numbered = weights.iter().enumerate();
    numbered.map(|(id, &weight)| Member { id: mix(id as u64), weight }).collect()
}

fn turn(number: u64) -> Turn {
    Turn::new(7, number, mix(number))
}

/// First choices of `turns` connections that all stay open.
fn spread(policy: Policy, weights: &[u32], turns: u64) -> Vec<u32> {
    let selector = Selector::new(policy, &members(weights));
    let mut loads = Fixed(vec![0; weights.len()]);
    for number in 0..turns {
        let chosen = selector.candidates(turn(number), &loads).next().unwrap();
        loads.0[chosen] += 1;
    }
    loads.0
}

proptest! {
    #[test]
    fn every_policy_hands_out_every_member_once_and_then_ends(
        weights in proptest::collection::vec(0_u32..20, 0..200),
        number: u64,
        loads in proptest::collection::vec(0_u32..200, 200),
    ) {
        let loads = Fixed(loads);
        for policy in POLICIES {
            let selector = Selector::new(policy, &members(&weights));
            let order: Vec<_> = selector.candidates(turn(number), &loads).collect();
            let distinct: HashSet<_> = order.iter().copied().collect();
            let usable: HashSet<_> = (0..weights.len()).filter(|&i| weights[i] > 0).collect();
            prop_assert_eq!(order.len(), distinct.len(), "{:?} repeats", policy);
            prop_assert_eq!(distinct, usable, "{:?} leaves out", policy);
        }
    }
}

#[test]
fn round_robin_is_exact_from_any_turn_on() {
    let selector = Selector::new(Policy::WeightedRoundRobin, &members(&[3, 1, 2]));
    let loads = Fixed(vec![0; 3]);
    for start in 0..12 {
        let mut counts = [0; 3];
        for number in start..start + 60 {
            counts[selector.candidates(turn(number), &loads).next().unwrap()] += 1;
        }
        assert_eq!(counts, [30, 10, 20], "from {start}");
    }
}

#[test]
fn retries_of_round_robin_are_shared_by_weight() {
    let selector = Selector::new(Policy::WeightedRoundRobin, &members(&[2, 1, 1, 2]));
    let loads = Fixed(vec![0; 4]);
    let mut counts = [0_u32; 4];
    for number in 0..60_000 {
        let mut order = selector.candidates(turn(number), &loads);
        if order.next() == Some(0) {
            counts[order.next().unwrap()] += 1;
        }
    }
    // 20 000 in all, by weights 1, 1, 2.
    let near = |count: u32, wanted: u32| count.abs_diff(wanted) < 300;
    assert!(near(counts[1], 5_000) && near(counts[2], 5_000), "{counts:?}");
    assert!(near(counts[3], 10_000), "{counts:?}");
}

#[test]
fn least_connections_fills_by_weight() {
    assert_eq!(spread(Policy::LeastConnections, &[3, 1, 2], 60), [30, 10, 20]);
}

#[test]
fn least_connections_takes_turns_among_idle_equals() {
    let selector = Selector::new(Policy::LeastConnections, &members(&[1, 1, 1]));
    let idle = Fixed(vec![0; 3]);
    let firsts: HashSet<_> =
        (0..3).map(|n| selector.candidates(turn(n), &idle).next().unwrap()).collect();
    assert_eq!(firsts.len(), 3);
}

#[test]
fn two_choices_stay_close_to_the_weights_where_one_does_not() {
    let two = spread(Policy::PowerOfTwo, &[1; 10], 10_000);
    let one = spread(Policy::Random, &[1; 10], 10_000);
    let off = |counts: &[u32]| counts.iter().map(|c| c.abs_diff(1000)).max().unwrap();
    assert!(off(&two) <= 12, "{two:?}");
    assert!(off(&one) > off(&two), "{one:?}");
}

#[test]
fn random_follows_the_weights() {
    let counts = spread(Policy::Random, &[1, 3], 40_000);
    assert!((29_400..30_600).contains(&counts[1]), "{counts:?}");
}

#[test]
fn a_hashed_client_stays_and_only_the_leavers_clients_move() {
    let all = members(&[1; 10]);
    let fewer: Vec<_> = all.iter().copied().filter(|m| m.id != all[4].id).collect();
    let before = Selector::new(Policy::ConsistentHash, &all);
    let after = Selector::new(Policy::ConsistentHash, &fewer);
    let idle = Fixed(vec![0; 10]);
    let mut moved = 0;
    for client in 0..10_000 {
        let old = all[before.candidates(turn(client), &idle).next().unwrap()].id;
        let new = fewer[after.candidates(turn(client), &idle).next().unwrap()].id;
        if old == all[4].id {
            moved += 1;
            // And they move to what would have been their retry.
            let retry = before.candidates(turn(client), &idle).nth(1).unwrap();
            assert_eq!(new, all[retry].id);
        } else {
            assert_eq!(old, new, "client {client} moved without need");
        }
    }
    assert!((850..1150).contains(&moved), "{moved}");
}

#[test]
fn a_hashed_client_depends_on_neither_turn_nor_seed() {
    let selector = Selector::new(Policy::ConsistentHash, &members(&[1, 2, 3]));
    let idle = Fixed(vec![0; 3]);
    let first = |turn| selector.candidates(turn, &idle).next();
    assert_eq!(first(Turn::new(1, 1, 99)), first(Turn::new(2, 17, 99)));
}

#[test]
fn one_client_with_all_the_load_is_bounded() {
    let selector = Selector::new(Policy::ConsistentHash, &members(&[1; 4]));
    let mut loads = Fixed(vec![0; 4]);
    for number in 0..4000 {
        let chosen = selector.candidates(Turn::new(1, number, 5), &loads).next().unwrap();
        loads.0[chosen] += 1;
    }
    let most = *loads.0.iter().max().unwrap();
    assert!(most <= 1250 + 65, "{:?}", loads.0);
    assert!(most >= 1250, "{:?}", loads.0);
}
