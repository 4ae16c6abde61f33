//! What limits are put through, as in `tests/cluster/scenarios.rs`, with real connections: every
//! function runs one scenario and gives its figures.

use std::time::Duration;

use super::arrivals::{Arrival, Stretch, burst, draw, even, idle, skewed};
use super::bars::{self, Limit};
use super::field::{Act, Field, Rule, Run};
use super::offer::{Fate, Try};

const SECOND: Duration = Duration::from_secs(1);

/// The design's figures: 1000/s with a burst of 200.
pub(crate) const WEB: Rule = Rule { name: "web", limit: limit(1000.0, 200.0), extra: "" };
/// Smaller, so that ten and a hundred times of them can be offered on one machine.
pub(crate) const MIDDLE: Rule =
    Rule { name: "middle", limit: limit(300.0, 60.0), extra: ", consistency: optimistic" };
pub(crate) const SMALL: Rule =
    Rule { name: "small", limit: limit(100.0, 20.0), extra: ", consistency: optimistic" };
/// Each side of a cut keeps its share.
pub(crate) const SHARED: Rule =
    Rule { name: "shared", limit: limit(1000.0, 200.0), extra: ", on_partition: proportional" };
/// A fixed window of a second.
pub(crate) const WINDOW: Rule = Rule {
    name: "window",
    limit: limit(1000.0, 0.0),
    extra: "type: fixed_window, limit: 1000, window: 1s",
};
/// Tiny ones, strict by themselves.
pub(crate) const TINY: [Rule; 3] = [
    Rule { name: "five", limit: limit(5.0, 5.0), extra: ", consistency: strict" },
    Rule { name: "one", limit: limit(1.0, 1.0), extra: ", consistency: strict" },
    Rule { name: "twenty", limit: limit(20.0, 10.0), extra: ", consistency: strict" },
];

/// All rules of a field on which every scenario but a kill can be run.
pub(crate) fn all_rules() -> Vec<Rule> {
    [WEB, MIDDLE, SMALL, SHARED, WINDOW].into_iter().chain(TINY).collect()
}

const fn limit(rate: f64, burst: f64) -> Limit {
    Limit { rate, burst }
}

/// How demand is spread over nodes and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    Even,
    Skew,
    Shift,
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

    fn stretches(self, nodes: usize, rate: f64, seconds: usize) -> Vec<Stretch> {
        let second = |second: usize| match self {
            Pattern::Even => even(nodes, rate, 1.0),
            Pattern::Skew => skewed(nodes, 0, rate, 1.0),
            Pattern::Shift => {
                let mut one = even(nodes, rate, 1.0);
                let to = second * 7 % nodes;
                one.weights.iter_mut().enumerate().for_each(|(node, weight)| {
                    *weight = if node == to { 1.0 } else { 0.0 };
                });
                one
            }
            Pattern::OnOff if second.is_multiple_of(2) => even(nodes, rate, 1.0),
            Pattern::OnOff => idle(nodes, 1.0),
        };
        (0..seconds).map(second).collect()
    }
}

/// The connections of a run between two seconds of it, refused and asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    /// Beyond what one bucket would have refused of the same arrivals.
    pub(crate) falsely: usize,
    pub(crate) asked: usize,
}

impl Refused {
    pub(crate) fn share(self) -> f64 {
        self.falsely as f64 / self.asked.max(1) as f64
    }
}

fn refused(run: &Run, limit: Limit, from: f64, until: f64) -> Refused {
    let (from, until) = (Duration::from_secs_f64(from), Duration::from_secs_f64(until));
    let (falsely, asked) = bars::false_rejections(&run.tries, limit, from, until);
    Refused { falsely, asked }
}

/// Worst second and worst ten seconds.
fn worst(run: &Run, limit: Limit) -> (f64, f64) {
    let tries = &run.tries;
    (bars::worst_window(tries, limit, SECOND), bars::worst_window(tries, limit, 10 * SECOND))
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Field {
    fn steady_load(&self, rate: f64, seconds: f64) -> Vec<Arrival> {
        draw(1, &[even(self.nodes.len(), rate, seconds)])
    }

    /// Three times the limit: the share of it that was admitted in ten seconds after the first three.
    pub(crate) fn steady(&mut self) -> (f64, Run) {
        let arrivals = self.steady_load(3.0 * WEB.limit.rate, 13.0);
        let run = self.run(WEB.name, &arrivals, Vec::new());
        let admitted = bars::admitted(&run.tries, secs(3), secs(13));
        (admitted as f64 / (10.0 * WEB.limit.rate), run)
    }

    /// Three times the limit in a pattern: worst windows, and fairness between nodes.
    pub(crate) fn overload(&mut self, pattern: Pattern) -> ((f64, f64), f64) {
        let nodes = self.nodes.len();
        let arrivals = draw(2, &pattern.stretches(nodes, 3.0 * WEB.limit.rate, 14));
        let run = self.run(WEB.name, &arrivals, Vec::new());
        let fairness = bars::fairness(&run.tries, nodes, secs(0), secs(14));
        (worst(&run, WEB.limit), fairness)
    }

    /// A rule's limit many times over, from idle; also how much of it could be offered, and how late
    /// clients came.
    pub(crate) fn flash(&mut self, rule: Rule, times: f64) -> ((f64, f64), f64, Duration) {
        let arrivals = self.steady_load(times * rule.limit.rate, 11.0);
        let run = self.run(rule.name, &arrivals, Vec::new());
        let offered = run.tries.len() as f64 / arrivals.len() as f64;
        let late = run.tries.iter().map(|one| one.late).collect();
        (worst(&run, rule.limit), offered, bars::quantile(late, 0.99))
    }

    /// A share of the limit in a pattern.
    pub(crate) fn below(&mut self, pattern: Pattern, share: f64) -> Refused {
        let stretches = pattern.stretches(self.nodes.len(), share * WEB.limit.rate, 10);
        let run = self.run(WEB.name, &draw(3, &stretches), Vec::new());
        refused(&run, WEB.limit, 0.0, 10.0)
    }

    /// The whole burst over one node at once, each second over another.
    pub(crate) fn bursts(&mut self) -> Refused {
        let nodes = self.nodes.len();
        let number = WEB.limit.burst as usize;
        let arrivals: Vec<Arrival> =
            (0..10).flat_map(|second| burst(second as f64, second * 7 % nodes, number)).collect();
        let run = self.run(WEB.name, &arrivals, Vec::new());
        refused(&run, WEB.limit, 0.0, 11.0)
    }

    /// Even and odd nodes apart from the third second to the eighteenth: the run.
    fn partition(&mut self, rule: Rule, share: f64, more: f64) -> Run {
        let arrivals = self.steady_load(share * rule.limit.rate, 18.0 + more);
        let acts: Vec<Act<'_>> = vec![
            (3.0, Box::new(|field: &mut Field| field.cut())),
            (18.0, Box::new(|field: &mut Field| field.heal())),
        ];
        self.run(rule.name, &arrivals, acts)
    }

    /// Apart below the limit: refused while they were, and from the heal on.
    pub(crate) fn partition_below(&mut self) -> (Refused, Refused) {
        let run = self.partition(WEB, 0.8, 12.0);
        (refused(&run, WEB.limit, 8.0, 18.0), refused(&run, WEB.limit, 18.0, 30.0))
    }

    /// Apart above the limit: what both sides admitted in ten seconds against the limit of each, and
    /// from the heal to the last half second a tenth above one limit.
    pub(crate) fn partition_above(&mut self) -> (f64, Duration) {
        let run = self.partition(WEB, 3.0, 12.0);
        let tries = &run.tries;
        let apart = bars::admitted(tries, secs(8), secs(18)) as f64;
        let half = Duration::from_millis(500);
        let above = |after: &u64| {
            let from = secs(18) + Duration::from_millis(100 * after);
            bars::admitted(tries, from, from + half) as f64 > 1.1 * WEB.limit.rate / 2.0
        };
        let last = (0..100).rev().find(above);
        let converged =
            last.map_or(Duration::ZERO, |after| Duration::from_millis(100 * (after + 1)));
        (apart / (20.0 * WEB.limit.rate) - 1.0, converged)
    }

    /// Apart, with a limit that is shared in proportion: both sides' ten seconds against one limit.
    pub(crate) fn partition_shared(&mut self) -> f64 {
        let run = self.partition(SHARED, 3.0, 1.0);
        let apart = bars::admitted(&run.tries, secs(8), secs(18)) as f64;
        apart / (10.0 * SHARED.limit.rate + SHARED.limit.burst) - 1.0
    }

    /// At a share of the limit, the owner of the key, or its backup, is killed after five seconds and
    /// starts again five seconds later. Before, all of the limit is used up, so that there is something
    /// to own. On a field without other keys.
    pub(crate) fn owner_killed(&mut self, backup: bool, share: f64) -> ((f64, f64), Refused) {
        let nodes = self.nodes.len();
        let first = even(nodes, share.max(1.5) * WEB.limit.rate, 3.0);
        let arrivals = draw(4, &[first, even(nodes, share * WEB.limit.rate, 17.0)]);
        let found = std::cell::Cell::new(0);
        let acts: Vec<Act<'_>> = vec![
            (
                5.0,
                Box::new(|field: &mut Field| {
                    let owners = field.owners();
                    assert_eq!(owners.len(), 2, "owner and backup of the only key: {owners:?}");
                    found.set(owners[usize::from(backup)]);
                    field.kill(found.get());
                }),
            ),
            (10.0, Box::new(|field: &mut Field| field.restart(found.get()))),
        ];
        let run = self.run(WEB.name, &arrivals, acts);
        (worst(&run, WEB.limit), refused(&run, WEB.limit, 5.0, 20.0))
    }

    /// At a share of the limit, every node is killed in turn for four seconds, and starts again.
    pub(crate) fn each_killed(&mut self, share: f64) -> ((f64, f64), Refused) {
        let nodes = self.nodes.len();
        let end = 4.0 + 8.0 * nodes as f64;
        let arrivals = self.steady_load(share * WEB.limit.rate, end);
        let mut acts: Vec<Act<'_>> = Vec::new();
        for node in 0..nodes {
            let at = 4.0 + 8.0 * node as f64;
            acts.push((at, Box::new(move |field: &mut Field| field.kill(node))));
            acts.push((at + 4.0, Box::new(move |field: &mut Field| field.restart(node))));
        }
        let run = self.run(WEB.name, &arrivals, acts);
        (worst(&run, WEB.limit), refused(&run, WEB.limit, 0.0, end))
    }

    /// A fixed window of a second at three times its limit: the fullest second of the clock.
    pub(crate) fn window(&mut self) -> f64 {
        let arrivals = self.steady_load(3.0 * WINDOW.limit.rate, 10.0);
        let run = self.run(WINDOW.name, &arrivals, Vec::new());
        let clock = |at: Duration| (run.began + at).as_secs();
        let admitted = |one: &&Try| one.fate == Fate::Admitted;
        let sure =
            run.tries.iter().filter(admitted).filter(|one| clock(one.start) == clock(one.end));
        let mut windows = std::collections::BTreeMap::<u64, usize>::new();
        sure.for_each(|one| *windows.entry(clock(one.end)).or_default() += 1);
        let fullest = windows.values().max().copied().unwrap_or_default();
        fullest as f64 / WINDOW.limit.rate - 1.0
    }

    /// A tiny limit at five times its rate: tokens above it in the worst second and ten seconds, and
    /// what the decision took in the median.
    pub(crate) fn tiny(&mut self, rule: Rule) -> ((f64, f64), Duration) {
        let arrivals = self.steady_load(5.0 * rule.limit.rate, 20.0);
        let run = self.run(rule.name, &arrivals, Vec::new());
        let (one, ten) = worst(&run, rule.limit);
        let tokens = |share: f64, seconds: f64| {
            let allowed = seconds * rule.limit.rate + rule.limit.burst;
            (share * allowed).round()
        };
        let took = run.tries.iter().map(|one| one.end - one.start).collect();
        ((tokens(one, 1.0), tokens(ten, 10.0)), bars::quantile(took, 0.5))
    }
}
