//! What limits are put through, after the table of the design: who comes when and where, and what
//! happens to the nodes meanwhile. Each returns figures; `bars` holds them and writes the table.

use std::time::Duration;

use tidegate::cluster::Profile;
use tidegate::cluster::machine::Input;
use tidegate::traffic::{Algorithm, LimitPlan, OnPartition, Sharing};

use crate::fabric::{Fabric, Links};
use crate::world::{BURST, RATE, Tally, World, even, plan, skewed};

const SECOND: Duration = Duration::from_secs(1);

/// A cluster to try a limit on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) nodes: usize,
    pub(crate) links: Links,
    pub(crate) profile: Profile,
    pub(crate) interval: Duration,
    pub(crate) seed: u64,
}

/// How demand is spread over nodes and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Evenly.
    Even,
    /// Nine tenths at one node.
    Skew,
    /// All of it at one node, each second at another.
    Shift,
    /// A second of it, a second of nothing.
    OnOff,
}

impl Pattern {
    pub(crate) const ALL: [Pattern; 4] =
        [Pattern::Even, Pattern::Skew, Pattern::Shift, Pattern::OnOff];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Pattern::Even => "even",
            Pattern::Skew => "90/10 skew",
            Pattern::Shift => "shift every second",
            Pattern::OnOff => "on and off every second",
        }
    }

    fn demand(self, nodes: usize, all: f64, second: usize) -> Vec<f64> {
        match self {
            Pattern::Even => even(nodes, all),
            Pattern::Skew => skewed(nodes, all),
            Pattern::Shift => {
                let at = second * 7 % nodes;
                (0..nodes).map(|node| if node == at { all } else { 0.0 }).collect()
            }
            Pattern::OnOff if second.is_multiple_of(2) => even(nodes, all),
            Pattern::OnOff => vec![0.0; nodes],
        }
    }
}

impl Place {
    pub(crate) fn world(&self, plan: &LimitPlan) -> World {
        let (interval, profile) = (self.interval, self.profile);
        let change = |fabric: &mut Fabric| {
            (fabric.interval, fabric.profile) = (interval, profile);
        };
        World::new(self.seed, self.links, self.nodes, plan, change)
    }

    fn load(&self, world: &mut World, pattern: Pattern, all: f64, seconds: usize) {
        for second in 0..seconds {
            world.run(SECOND, &pattern.demand(self.nodes, all, second));
        }
    }

    /// Three times the limit for ten seconds, after a moment: the share of the limit that was
    /// admitted, and how it was shared out.
    pub(crate) fn steady(&self) -> (f64, Tally) {
        let mut world = self.world(&plan(RATE, BURST));
        self.load(&mut world, Pattern::Even, 3.0 * RATE, 3);
        world.tally();
        self.load(&mut world, Pattern::Even, 3.0 * RATE, 10);
        let tally = world.tally();
        (tally.admitted as f64 / (10.0 * RATE), tally)
    }

    /// Three times the limit in a pattern: worst second and ten seconds above the limit, and how
    /// evenly nodes were served.
    pub(crate) fn overload(&self, pattern: Pattern) -> ((f64, f64), Tally) {
        let mut world = self.world(&plan(RATE, BURST));
        self.load(&mut world, pattern, 3.0 * RATE, 14);
        (world.overshoot(RATE, BURST), world.tally())
    }

    /// `times` the limit at once, from idle.
    pub(crate) fn flash(&self, times: f64) -> (f64, f64) {
        let mut world = self.world(&plan(RATE, BURST));
        self.load(&mut world, Pattern::Even, times * RATE, 12);
        world.overshoot(RATE, BURST)
    }

    /// Nine tenths of the limit: falsely refused.
    pub(crate) fn below(&self, pattern: Pattern) -> Tally {
        let mut world = self.world(&plan(RATE, BURST));
        self.load(&mut world, pattern, 0.9 * RATE, 10);
        world.tally()
    }

    /// The whole burst over one node at once, each second at another: falsely refused.
    pub(crate) fn bursts(&self) -> Tally {
        let mut world = self.world(&plan(RATE, BURST));
        for second in 0..10 {
            let node = second * 7 % self.nodes;
            (0..BURST as usize).for_each(|_| {
                world.ask(node);
            });
            world.run(SECOND, &[]);
        }
        world.tally()
    }

    /// Two halves that do not hear each other for ten seconds, at `share` of the limit in all; then
    /// they do. What was counted while they were apart, and in the ten seconds after.
    pub(crate) fn partition(&self, share: f64, sharing: Sharing) -> (Tally, Tally, World) {
        let mut world = self.world(&LimitPlan { sharing, ..plan(RATE, BURST) });
        self.load(&mut world, Pattern::Even, share * RATE, 3);
        let (one, other): (Vec<usize>, Vec<usize>) =
            (0..self.nodes).partition(|node| node % 2 == 0);
        world.fabric.split(&one, &other);
        // They find each other dead.
        self.load(&mut world, Pattern::Even, share * RATE, 5);
        world.tally();
        self.load(&mut world, Pattern::Even, share * RATE, 10);
        let apart = world.tally();
        world.fabric.heal();
        let mut seconds = 0;
        while !world.fabric.one_view() {
            self.load(&mut world, Pattern::Even, share * RATE, 1);
            seconds += 1;
            assert!(seconds < 30, "{}", world.fabric.picture());
        }
        self.load(&mut world, Pattern::Even, share * RATE, 10);
        let healed = world.tally();
        (apart, healed, world)
    }

    /// How long after a partition heals the nodes let in one limit again, at three times of it.
    pub(crate) fn converged(&self) -> Duration {
        let mut world = self.world(&plan(RATE, BURST));
        self.load(&mut world, Pattern::Even, 3.0 * RATE, 2);
        let (one, other): (Vec<usize>, Vec<usize>) =
            (0..self.nodes).partition(|node| node % 2 == 0);
        world.fabric.split(&one, &other);
        self.load(&mut world, Pattern::Even, 3.0 * RATE, 10);
        world.fabric.heal();
        let demand = even(self.nodes, 3.0 * RATE);
        let step = Duration::from_millis(100);
        let mut rates = Vec::new();
        for _ in 0..100 {
            world.tally();
            world.run(step, &demand);
            rates.push(world.tally().admitted as f64 / step.as_secs_f64());
        }
        // From when on no half second is further above the limit than one is now and then at rest: the
        // nodes' reports may fall together for a while.
        let above = |at: usize| rates[at..at + 5].iter().sum::<f64>() / 5.0;
        let last = (0..=rates.len() - 5).rev().find(|at| above(*at) > 1.15 * RATE);
        step * last.map_or(0, |at| at as u32 + 1)
    }

    /// The owner of the key is killed after five seconds, and starts again five seconds later: worst
    /// second and ten seconds above the limit, and what was counted from the kill on.
    pub(crate) fn owner_killed(&self, share: f64) -> ((f64, f64), Tally) {
        let mut world = self.world(&plan(RATE, BURST));
        self.load(&mut world, Pattern::Even, share * RATE, 5);
        world.tally();
        let owner = world.owner();
        world.fabric.kill(owner);
        let mut demand = even(self.nodes - 1, share * RATE);
        demand.insert(owner, 0.0);
        world.run(5 * SECOND, &demand);
        world.fabric.start(owner);
        world.run(8 * SECOND, &demand);
        (world.overshoot(RATE, BURST), world.tally())
    }

    /// The owner of the key says that it goes after five seconds, and is gone two seconds later.
    pub(crate) fn owner_left(&self, share: f64) -> ((f64, f64), Tally) {
        let mut world = self.world(&plan(RATE, BURST));
        self.load(&mut world, Pattern::Even, share * RATE, 5);
        world.tally();
        let owner = world.owner();
        let mut demand = even(self.nodes - 1, share * RATE);
        demand.insert(owner, 0.0);
        world.fabric.input(owner, Input::Leaving);
        world.run(SECOND, &demand);
        world.fabric.input(owner, Input::Leave);
        world.run(2 * SECOND, &demand);
        world.fabric.kill(owner);
        world.run(8 * SECOND, &demand);
        (world.overshoot(RATE, BURST), world.tally())
    }

    /// A small limit of `rate` and `burst` under `times` its rate: worst second and ten seconds as
    /// tokens above it, what was counted, and how long an owner's answer was awaited on average.
    pub(crate) fn small(&self, rate: f64, burst: f64, times: f64) -> ((f64, f64), Tally, Duration) {
        let mut world = self.world(&plan(rate, burst));
        self.load(&mut world, Pattern::Even, times * rate, 20);
        let held: Duration = world.held.iter().sum();
        let held = held / (world.held.len() as u32).max(1);
        let over = |seconds: u64| {
            let most = world.most_in(Duration::from_secs(seconds)) as f64;
            most - (seconds as f64 * rate + burst)
        };
        ((over(1), over(10)), world.tally(), held)
    }

    /// Rows of limits that a node sends a second for one saturated key.
    pub(crate) fn rows(&self) -> f64 {
        let mut world = self.world(&plan(RATE, BURST));
        self.load(&mut world, Pattern::Even, 3.0 * RATE, 3);
        let before = world.rows_sent();
        self.load(&mut world, Pattern::Even, 3.0 * RATE, 10);
        (world.rows_sent() - before) as f64 / 10.0 / self.nodes as f64
    }

    /// While apart, each half's share of the limit is `proportional` to its members.
    pub(crate) fn proportional(&self) -> f64 {
        let sharing = Sharing { on_partition: OnPartition::Proportional, ..Sharing::default() };
        let (apart, ..) = self.partition(3.0, sharing);
        apart.admitted as f64 / (10.0 * RATE + BURST) - 1.0
    }

    /// A node joins while the limit is asked for three times over, and is asked for all of it in its
    /// first second: how far that second is above the limit.
    pub(crate) fn late_join(&self) -> f64 {
        let mut world = self.world(&plan(RATE, BURST));
        self.load(&mut world, Pattern::Even, 3.0 * RATE, 3);
        world.join();
        world.tally();
        let mut demand = even(self.nodes, 3.0 * RATE);
        demand.push(RATE);
        world.run(SECOND, &demand);
        world.tally().admitted as f64 / (RATE + BURST) - 1.0
    }

    /// A fixed window of a second at three times its limit: how far the fullest second of the clock
    /// is above the limit; and what was counted at half of it.
    pub(crate) fn windows(&self, algorithm: Algorithm, limit: f64) -> (f64, Tally) {
        let plan = LimitPlan { algorithm, ..plan(RATE, BURST) };
        let mut world = self.world(&plan);
        self.load(&mut world, Pattern::Even, 3.0 * limit, 10);
        let most = world.fullest_window(SECOND) as f64 / limit - 1.0;
        let mut world = self.world(&plan);
        self.load(&mut world, Pattern::Even, 0.8 * limit, 10);
        (most, world.tally())
    }
}
