//! A limit under load in virtual time: the real limiter and the real gossip machines, clients that
//! come as a scenario says, and beside them one central bucket that is fed the same arrivals.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use rand::RngExt;
use tidegate::base::LimitId;
use tidegate::cluster::asks::Ticket;
use tidegate::cluster::machine::Input;
use tidegate::traffic::{
    Action, Algorithm, Ask, Decision, LimitKey, LimitPlan, LimitScope, Limiter, Origin, Quota,
    Sharing,
};

use crate::fabric::{EPOCH_MS, Fabric, Links};

/// The client that all scenarios with one key use.
pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// What the design's figures are for: 1000/s with a burst of 200.
pub(crate) const RATE: f64 = 1000.0;
pub(crate) const BURST: f64 = 200.0;

/// Between two looks at who comes.
const STEP: Duration = Duration::from_micros(500);
const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn plan(rate: f64, burst: f64) -> LimitPlan {
    LimitPlan {
        id: LimitId(1),
        algorithm: Algorithm::TokenBucket(Quota { rate, burst }),
        scope: LimitScope::Cluster,
        key: LimitKey::Client,
        action: Action::Reject,
        ipv6_prefix: 64,
        exempt: Vec::new(),
        shadow: false,
        max_keys: 8192,
        sharing: Sharing::default(),
    }
}

pub(crate) struct World {
    pub(crate) fabric: Fabric,
    central: Limiter,
    /// Admissions by millisecond since the beginning.
    admitted: Vec<u32>,
    /// By node since last tallied.
    tally: Vec<(u64, u64)>,
    refused: u64,
    /// Refused though the central bucket would have admitted that many.
    central_refused: u64,
    asked: u64,
    due: Vec<f64>,
    began: Instant,
    /// Who waits for an owner's answer, and how long the others did.
    holding: BTreeMap<(usize, Ticket), (Ask, Instant)>,
    pub(crate) held: Vec<Duration>,
    tickets: u64,
}

/// What was counted between two moments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) asked: u64,
    pub(crate) admitted: u64,
    pub(crate) refused: u64,
    pub(crate) central_refused: u64,
    /// Admitted and asked, by node.
    pub(crate) by_node: Vec<(u64, u64)>,
}

impl Tally {
    /// Share of the arrivals that were refused and would not have been by one central bucket.
    pub(crate) fn falsely_refused(&self) -> f64 {
        self.refused.saturating_sub(self.central_refused) as f64 / self.asked.max(1) as f64
    }

    /// Jain's index of fairness between nodes that were asked (Jain, Chiu, Hawe 1984): of what each
    /// admitted over its max-min fair share of what all admitted.
    pub(crate) fn jain(&self) -> f64 {
        let mut asked: Vec<(u64, u64)> =
            self.by_node.iter().copied().filter(|(_, asked)| *asked > 0).collect();
        asked.sort_by_key(|(_, asked)| *asked);
        let (mut left, mut sharing) = (self.admitted as f64, asked.len() as f64);
        let of_fair = asked.iter().map(|(admitted, asked)| {
            let fair = (*asked as f64).min(left / sharing);
            (left, sharing) = (left - fair, sharing - 1.0);
            *admitted as f64 / fair
        });
        let of_fair: Vec<f64> = of_fair.collect();
        let (sum, squares) =
            (of_fair.iter().sum::<f64>(), of_fair.iter().map(|x| x * x).sum::<f64>());
        sum * sum / (of_fair.len() as f64 * squares)
    }
}

impl World {
    /// `nodes` nodes of one view that share `plan`, two quiet seconds after they met; `change`
    /// changes the fabric before anybody starts.
    pub(crate) fn new(
        seed: u64,
        links: Links,
        nodes: usize,
        plan: &LimitPlan,
        change: impl FnOnce(&mut Fabric),
    ) -> World {
        let mut fabric = Fabric::new(seed, links);
        fabric.limit = Some(plan.clone());
        change(&mut fabric);
        for _ in 0..nodes {
            fabric.host();
        }
        for host in 0..nodes {
            fabric.start(host);
        }
        fabric.until("the first full view", Duration::from_secs(60), Fabric::one_view);
        fabric.run(2 * SECOND);
        let unix_ms = EPOCH_MS + (fabric.now - fabric.began).as_millis() as u64;
        let central = Limiter::new(plan.clone(), 7, 7, Origin { at: fabric.now, unix_ms });
        // Nodes are not asked in step.
        let due = (0..nodes).map(|_| fabric.rng.random_range(0.0..1.0)).collect();
        World {
            central,
            admitted: Vec::new(),
            tally: vec![(0, 0); nodes],
            refused: 0,
            central_refused: 0,
            asked: 0,
            due,
            began: fabric.now,
            holding: BTreeMap::new(),
            held: Vec::new(),
            tickets: 0,
            fabric,
        }
    }

    /// One more node, which starts now and is waited for.
    pub(crate) fn join(&mut self) -> usize {
        let late = self.fabric.host();
        self.tally.push((0, 0));
        self.due.push(0.0);
        self.fabric.start(late);
        self.fabric.until("it is let in", 10 * SECOND, Fabric::one_view);
        late
    }

    /// Who keeps the books of the one client's key.
    pub(crate) fn owner(&self) -> usize {
        let living = self.fabric.living();
        let limiter = self.fabric.hosts[living[0]].limiter.as_ref().expect("a limit");
        let key = limiter.key(CLIENT).expect("not exempt");
        let owners = self.fabric.machine(living[0]).exchange().owners();
        let owner = owners.of(limiter.plan().id, key).expect("there are members").primary;
        let is_owner = |node: &usize| self.fabric.machine(*node).identity().actor == owner;
        living.into_iter().find(is_owner).expect("it lives")
    }

    /// One client comes to a node.
    pub(crate) fn ask(&mut self, node: usize) -> Decision {
        let now = self.fabric.now;
        let host = &self.fabric.hosts[node];
        let Some(limiter) = host.limiter.as_ref().filter(|_| host.machine.is_some()) else {
            return Decision::Refuse { retry_after: SECOND };
        };
        let decision = limiter.admit(CLIENT, now);
        self.asked += 1;
        self.tally[node].1 += 1;
        if self.central.admit(CLIENT, now) != Decision::Admit {
            self.central_refused += 1;
        }
        if let Decision::Ask(ask) = decision {
            self.tickets += 1;
            let ticket = Ticket(self.tickets);
            self.holding.insert((node, ticket), (ask, now));
            self.fabric.input(node, Input::Ask { ticket, ask });
            self.take_answers();
        }
        self.note(node, decision);
        decision
    }

    fn note(&mut self, node: usize, decision: Decision) {
        match decision {
            Decision::Admit => {
                let at = (self.fabric.now - self.began).as_millis() as usize;
                self.admitted.resize(self.admitted.len().max(at + 1), 0);
                self.admitted[at] += 1;
                self.tally[node].0 += 1;
            }
            Decision::Refuse { .. } => self.refused += 1,
            Decision::Ask(_) => {}
        }
    }

    /// Those who were held until the owner answered.
    fn take_answers(&mut self) {
        for (node, ticket, answer) in std::mem::take(&mut self.fabric.answers) {
            let Some((ask, since)) = self.holding.remove(&(node, ticket)) else { continue };
            let now = self.fabric.now;
            self.held.push(now - since);
            let limiter = self.fabric.hosts[node].limiter.clone().expect("a limit");
            let decision = limiter.answered(ask, answer, now);
            self.note(node, decision);
        }
    }

    /// Goes on for `time`, with `demand[n]` connections a second at node n, unevenly. Who comes to
    /// a node that is dead is not counted.
    pub(crate) fn run(&mut self, time: Duration, demand: &[f64]) {
        let end = self.fabric.now + time;
        while self.fabric.now < end {
            for (node, per_second) in demand.iter().enumerate() {
                let uneven = self.fabric.rng.random_range(0.0..2.0);
                self.due[node] += per_second * STEP.as_secs_f64() * uneven;
                while self.due[node] >= 1.0 {
                    self.due[node] -= 1.0;
                    self.ask(node);
                    self.fabric.ring(node);
                }
            }
            self.fabric.run(STEP);
            self.take_answers();
        }
    }

    /// What happened since this was asked last.
    pub(crate) fn tally(&mut self) -> Tally {
        let tally = Tally {
            asked: std::mem::take(&mut self.asked),
            admitted: self.tally.iter().map(|(admitted, _)| admitted).sum(),
            refused: std::mem::take(&mut self.refused),
            central_refused: std::mem::take(&mut self.central_refused),
            by_node: self.tally.clone(),
        };
        self.tally.iter_mut().for_each(|counts| *counts = (0, 0));
        tally
    }

    /// Most admissions in any `window`, since the beginning.
    pub(crate) fn most_in(&self, window: Duration) -> u64 {
        let window = window.as_millis() as usize;
        let (mut sum, mut most) = (0u64, 0);
        for (at, count) in self.admitted.iter().enumerate() {
            sum += u64::from(*count);
            if at >= window {
                sum -= u64::from(self.admitted[at - window]);
            }
            most = most.max(sum);
        }
        most
    }

    /// Most admissions in any window of this length as the wall clock cuts them.
    pub(crate) fn fullest_window(&self, window: Duration) -> u64 {
        let window = window.as_millis() as u64;
        let began = EPOCH_MS + (self.began - self.fabric.began).as_millis() as u64;
        let mut windows = BTreeMap::<u64, u64>::new();
        for (at, count) in (began..).zip(&self.admitted) {
            *windows.entry(at / window).or_default() += u64::from(*count);
        }
        windows.into_values().max().unwrap_or(0)
    }

    /// By how much the worst second, and the worst ten, are above what one bucket lets in.
    pub(crate) fn overshoot(&self, rate: f64, burst: f64) -> (f64, f64) {
        let over = |seconds: u64| {
            let most = self.most_in(Duration::from_secs(seconds)) as f64;
            most / (seconds as f64 * rate + burst) - 1.0
        };
        (over(1), over(10))
    }

    /// Datagrams of limits and their rows sent so far, by all nodes.
    pub(crate) fn rows_sent(&self) -> u64 {
        let counted = |host: usize| self.fabric.machine(host).exchange().counted;
        let living = self.fabric.living().into_iter();
        living.map(counted).map(|counted| counted.reported + counted.levels + counted.hot).sum()
    }
}

/// The same demand at every node.
pub(crate) fn even(nodes: usize, all: f64) -> Vec<f64> {
    vec![all / nodes as f64; nodes]
}

/// Nine tenths of it at the first node.
pub(crate) fn skewed(nodes: usize, all: f64) -> Vec<f64> {
    let mut demand = vec![all / 10.0 / (nodes - 1) as f64; nodes];
    demand[0] = all * 0.9;
    demand
}
