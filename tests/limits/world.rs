//! Nodes, their clients and the datagrams between them, a millisecond at a time.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidegate::base::{Actor, BootId, LimitId, NodeId, time};
use tidegate::crdt::{Bounds, Counters, Row, RowKey};
use tidegate::traffic::{
    Action, Algorithm, Decision, Ledger, Levels, LimitKey, LimitPlan, LimitScope, Limiter, Limits,
    Quota, Spent,
};

/// The client that all scenarios with one key use.
pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Between two reports of what the threshold held back, in milliseconds.
const INTERVAL: u64 = 200;

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
        max_keys: 131_072,
    }
}

/// A generator whose seed is printed, and taken from `SIM_SEED` when that is set.
pub(crate) fn seeded(otherwise: u64) -> StdRng {
    let seed = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(otherwise);
    println!("SIM_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) now: Instant,
    /// Share of datagrams that are lost.
    pub(crate) loss: f64,
    /// Nodes below this index do not hear those at or above it, and the other way round.
    pub(crate) cut: Option<usize>,
    start: Instant,
    rng: StdRng,
    under_way: Vec<Datagram>,
}

pub(crate) struct Node {
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) admitted: u64,
    pub(crate) refused: u64,
    limits: Limits,
    counters: Counters,
    actor: Actor,
    /// A connection is due whenever a whole one has come together.
    due: f64,
}

struct Datagram {
    arrives: Instant,
    from: usize,
    to: usize,
    rows: Vec<Spent>,
}

impl World {
    pub(crate) fn new(nodes: usize, plan: &LimitPlan, rng: StdRng) -> Self {
        let start = time::now();
        let nodes = (0..nodes).map(|n| Node::new(n, plan, start)).collect();
        let world =
            World { nodes, now: start, loss: 0.0, cut: None, start, rng, under_way: Vec::new() };
        world.everybody_knows();
        world
    }

    /// One more node, which knows nothing yet.
    pub(crate) fn join(&mut self, plan: &LimitPlan) {
        self.nodes.push(Node::new(self.nodes.len(), plan, self.now));
        self.everybody_knows();
    }

    /// Goes on for `time`, with `demand[n]` connections per second of `client` at node n.
    pub(crate) fn run(&mut self, time: Duration, demand: &[f64]) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(1);
            self.deliver();
            for (n, node) in self.nodes.iter_mut().enumerate() {
                // Uneven arrivals with the demanded mean.
                node.due += demand[n] / 1000.0 * self.rng.random_range(0.0..2.0);
                while node.due >= 1.0 {
                    node.due -= 1.0;
                    node.ask(self.now);
                }
            }
            self.report();
        }
    }

    /// Admissions and refusals of all nodes since this was asked last.
    pub(crate) fn tally(&mut self) -> (u64, u64) {
        self.nodes.iter_mut().fold((0, 0), |(admitted, refused), node| {
            let tally = (admitted + node.admitted, refused + node.refused);
            (node.admitted, node.refused) = (0, 0);
            tally
        })
    }

    fn everybody_knows(&self) {
        let alive = self.nodes.len();
        self.nodes.iter().for_each(|node| node.limits.nodes(alive));
    }

    fn report(&mut self) {
        let elapsed = (self.now - self.start).as_millis() as u64;
        let all = elapsed.is_multiple_of(INTERVAL);
        if !elapsed.is_multiple_of(5) && !all {
            return;
        }
        for from in 0..self.nodes.len() {
            let mut rows = Vec::new();
            self.nodes[from].limits.drain(self.now, all, 10_000, &mut rows);
            if rows.is_empty() {
                continue;
            }
            for to in 0..self.nodes.len() {
                let severed = self.cut.is_some_and(|cut| (from < cut) != (to < cut));
                if to == from || severed || self.rng.random_bool(self.loss) {
                    continue;
                }
                let delay = Duration::from_micros(self.rng.random_range(500..1_500));
                let rows = rows.clone();
                self.under_way.push(Datagram { arrives: self.now + delay, from, to, rows });
            }
        }
    }

    fn deliver(&mut self) {
        let now = self.now;
        let (due, later) =
            self.under_way.drain(..).partition(|datagram: &Datagram| datagram.arrives <= now);
        self.under_way = later;
        for Datagram { from, to, rows, .. } in due {
            let actor = self.nodes[from].actor;
            let node = &mut self.nodes[to];
            for Spent { limit, key, total, since, recent } in rows {
                let row = Row { total, since, recent };
                let growth = node.counters.merge(RowKey { limit, key, actor }, row, now);
                node.limits.spent_elsewhere(now, limit, key, growth.debit);
            }
        }
    }
}

impl Node {
    fn new(n: usize, plan: &LimitPlan, start: Instant) -> Self {
        let limiter = Arc::new(Limiter::new(plan.clone(), 7, n as u64, start));
        let limits = Limits::new();
        limits.replace(vec![Arc::clone(&limiter)]);
        let bounds = Bounds {
            rows: 100_000,
            silence: Duration::from_secs(1),
            keep: Duration::from_secs(60),
        };
        Node {
            limiter,
            limits,
            counters: Counters::new(bounds),
            actor: Actor { node: NodeId(n as u64), boot: BootId::new(1) },
            admitted: 0,
            refused: 0,
            due: 0.0,
        }
    }

    pub(crate) fn ask(&mut self, now: Instant) {
        match self.limiter.admit(CLIENT, now) {
            Decision::Admit => self.admitted += 1,
            Decision::Refuse { .. } => self.refused += 1,
        }
    }
}
