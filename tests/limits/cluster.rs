//! What three to ten nodes let in together. The bars are those of a limiter that debits its peers'
//! reports from its own bucket; the reconciled bucket is to tighten them.

use std::num::NonZeroU32;
use std::time::Duration;

use tidegate::traffic::{Algorithm, LimitPlan};

use crate::world::{World, plan, seeded};

const SECOND: Duration = Duration::from_secs(1);

/// Admitted over ten seconds as a share of what one central bucket lets in.
fn share(world: &mut World, demand: &[f64], rate: f64, burst: f64) -> f64 {
    world.run(10 * SECOND, demand);
    world.tally().0 as f64 / (10.0 * rate + burst)
}

#[test]
fn three_nodes_under_threefold_demand_let_in_one_limit() {
    for seed in 0..3 {
        for (rate, burst) in [(300.0, 300.0), (1000.0, 200.0), (100.0, 20.0)] {
            let mut world = World::new(3, &plan(rate, burst), seeded(seed));
            let share = share(&mut world, &[rate; 3], rate, burst);
            println!("{rate}/{burst}: {share:.3}");
            assert!((0.95..1.05).contains(&share), "{rate}/s, burst {burst}: {share}");
        }
    }
}

#[test]
fn datagram_loss_does_not_open_the_limit() {
    let mut world = World::new(3, &plan(300.0, 300.0), seeded(1));
    world.loss = 0.05;
    let share = share(&mut world, &[300.0; 3], 300.0, 300.0);
    println!("{share:.3}");
    assert!((0.95..1.05).contains(&share), "{share}");
}

#[test]
fn skewed_demand_lets_in_one_limit() {
    let mut world = World::new(3, &plan(1000.0, 200.0), seeded(1));
    let share = share(&mut world, &[2700.0, 150.0, 150.0], 1000.0, 200.0);
    println!("{share:.3}");
    assert!((0.95..1.05).contains(&share), "{share}");
}

#[test]
fn demand_below_the_limit_is_never_refused_however_it_is_spread() {
    for demand in [[266.0; 3], [720.0, 40.0, 40.0], [800.0, 0.0, 0.0]] {
        let mut world = World::new(3, &plan(1000.0, 200.0), seeded(2));
        world.run(10 * SECOND, &demand);
        let (admitted, refused) = world.tally();
        assert!(admitted > 7_500, "{admitted}");
        assert_eq!(refused, 0, "{demand:?}");
    }
}

#[test]
fn a_burst_over_one_connection_after_another_finds_its_whole_burst() {
    let mut world = World::new(3, &plan(1000.0, 200.0), seeded(3));
    world.run(SECOND, &[0.0; 3]);
    let now = world.now;
    (0..200).for_each(|_| world.nodes[1].ask(now));
    assert_eq!(world.tally(), (200, 0));
    // And the others know of it soon.
    world.run(Duration::from_millis(15), &[0.0; 3]);
    let now = world.now;
    (0..200).for_each(|_| world.nodes[2].ask(now));
    let (admitted, _) = world.tally();
    assert!(admitted < 60, "{admitted}");
}

#[test]
fn who_joins_late_does_not_debit_the_history() {
    let plan = plan(1000.0, 200.0);
    let mut world = World::new(2, &plan, seeded(4));
    world.run(20 * SECOND, &[400.0, 400.0]);
    world.tally();
    world.join(&plan);
    world.run(2 * SECOND, &[250.0, 250.0, 250.0]);
    assert_eq!(world.tally().1, 0);
}

#[test]
fn a_healed_partition_does_not_debit_the_other_half() {
    let mut world = World::new(4, &plan(1000.0, 200.0), seeded(5));
    world.run(2 * SECOND, &[200.0; 4]);
    world.cut = Some(2);
    world.run(10 * SECOND, &[220.0; 4]);
    let (_, refused) = world.tally();
    assert_eq!(refused, 0, "each half is below the limit");
    world.cut = None;
    world.run(5 * SECOND, &[220.0; 4]);
    let (admitted, refused) = world.tally();
    println!("{refused} of {admitted} refused after the heal");
    assert!(refused * 1000 <= admitted, "{refused} of {admitted} refused");
}

#[test]
fn each_half_of_a_partition_keeps_the_limit() {
    let mut world = World::new(4, &plan(1000.0, 200.0), seeded(6));
    world.cut = Some(2);
    world.run(5 * SECOND, &[1000.0; 4]);
    let (admitted, _) = world.tally();
    assert!((9_000..=2 * 5_700).contains(&admitted), "{admitted}");
    world.cut = None;
    world.run(2 * SECOND, &[1000.0; 4]);
    world.tally();
    let share = share(&mut world, &[1000.0; 4], 1000.0, 0.0);
    println!("{share:.3}");
    assert!((0.95..1.05).contains(&share), "{share}");
}

#[test]
fn ten_nodes_let_in_one_limit() {
    let mut world = World::new(10, &plan(1000.0, 1000.0), seeded(7));
    let share = share(&mut world, &[300.0; 10], 1000.0, 1000.0);
    println!("{share:.3}");
    assert!((0.95..1.08).contains(&share), "{share}");
}

#[test]
fn a_fixed_window_holds_over_the_cluster() {
    let limit = NonZeroU32::new(1000).unwrap();
    let algorithm = Algorithm::FixedWindow { limit, window: SECOND };
    let plan = LimitPlan { algorithm, ..plan(1.0, 1.0) };
    let mut world = World::new(3, &plan, seeded(8));
    world.run(10 * SECOND, &[1000.0; 3]);
    let (admitted, _) = world.tally();
    println!("{admitted}");
    assert!((9_000..=11_000).contains(&admitted), "{admitted}");
    // Below the limit nobody is refused.
    let mut world = World::new(3, &plan, seeded(8));
    world.run(10 * SECOND, &[260.0; 3]);
    assert_eq!(world.tally().1, 0);
}
