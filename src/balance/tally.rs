//! Connections in flight per backend: this node's, exact, and the peers', as last told. Leases count
//! the own ones, the exchange with peers reads them and says what it heard, and every choice reads
//! both by two atomics.
//!
//! What peers told is always late, and all nodes see the same backend idle at the same moment: if
//! each sent it all that comes until the next word, it would get as many times too much as there are
//! nodes. And every node evens out its own connections at once and exactly, so that an unevenness
//! elsewhere is mostly gone before it can be told. So the least burdened backend is sought by the own
//! connections and a *part* of the others': each node evens out twice its share of what it hears. A
//! node that has most of the traffic takes nearly all of it on, a node among many equals a little;
//! together they pull about twice as hard as one that sees everything, which holds against delays of
//! a second. Two choices at random and bounds on loads need no such care; they count all in full.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

use crate::base::BackendKey;

/// Burdens are counted in parts of a connection.
pub const PARTS: u64 = 256;

/// One backend's connections, of one account of this node.
#[derive(Debug, Default)]
pub struct Gauge {
    /// Live or being made, on this node: raised and lowered by leases.
    pub own: AtomicU32,
    /// The peers' connections, and which part of them counts: `| count 32 | part 32 |`. One word, so
    /// that no choice sees half of one.
    elsewhere: AtomicU64,
}

impl Gauge {
    /// This node's.
    pub fn own(&self) -> u32 {
        self.own.load(Ordering::Relaxed)
    }

    /// The peers', as last told.
    pub fn elsewhere(&self) -> u32 {
        (self.elsewhere.load(Ordering::Relaxed) >> 32) as u32
    }

    /// The whole cluster's, as last told.
    pub fn load(&self) -> u32 {
        self.own().saturating_add(self.elsewhere())
    }

    /// Own connections and this node's part of the others', in [`PARTS`] of one.
    pub fn burden(&self) -> u64 {
        let word = self.elsewhere.load(Ordering::Relaxed);
        u64::from(self.own()) * PARTS + (word >> 32) * (word & 0xffff_ffff)
    }

    /// Peers have `count` connections, and this node has `share` (0 to 1) of all there are.
    pub fn hear(&self, count: u64, share: f64) {
        let part = (2.0 * share * PARTS as f64).clamp(0.0, PARTS as f64) as u64;
        let word = count.min(u32::MAX.into()) << 32 | part;
        if self.elsewhere.load(Ordering::Relaxed) != word {
            self.elsewhere.store(word, Ordering::Relaxed);
        }
    }
}

/// The gauges of all backends of this node.
#[derive(Debug, Default)]
pub struct Tally(RwLock<BTreeMap<BackendKey, Vec<Weak<Gauge>>>>);

/// One backend, as the exchange looks at it.
#[derive(Clone, Debug)]
pub struct Tallied {
    /// Its rule and address.
    pub key: BackendKey,
    /// Connections of this node.
    pub own: u32,
    /// Where they are counted: more than one while connections of a former rule of that name live.
    pub gauges: Vec<Arc<Gauge>>,
}

impl Tally {
    /// A gauge for a backend, counted for as long as somebody holds it.
    pub fn gauge(&self, backend: &BackendKey) -> Arc<Gauge> {
        let gauge = Arc::new(Gauge::default());
        self.0.write().entry(backend.clone()).or_default().push(Arc::downgrade(&gauge));
        gauge
    }

    /// All backends that are used or have connections still; what nobody holds is forgotten.
    pub fn look(&self) -> Vec<Tallied> {
        let mut all = Vec::new();
        let mut gone = false;
        for (key, gauges) in &*self.0.read() {
            let held: Vec<Arc<Gauge>> = gauges.iter().filter_map(Weak::upgrade).collect();
            gone |= held.len() < gauges.len();
            if !held.is_empty() {
                let own = held.iter().map(|gauge| gauge.own()).fold(0, u32::saturating_add);
                all.push(Tallied { key: key.clone(), own, gauges: held });
            }
        }
        if gone {
            self.0.write().retain(|_, gauges| {
                gauges.retain(|gauge| gauge.strong_count() > 0);
                !gauges.is_empty()
            });
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauge(own: u32) -> Gauge {
        Gauge { own: AtomicU32::new(own), ..Gauge::default() }
    }

    #[test]
    fn alone_nothing_but_the_own_count_is_seen() {
        let gauge = gauge(7);
        assert_eq!((gauge.load(), gauge.burden(), gauge.elsewhere()), (7, 7 * PARTS, 0));
        gauge.hear(0, 1.0);
        assert_eq!((gauge.load(), gauge.burden()), (7, 7 * PARTS));
    }

    #[test]
    fn a_node_takes_on_twice_its_share_of_what_it_hears() {
        let gauge = gauge(10);
        gauge.hear(40, 0.125);
        assert_eq!((gauge.load(), gauge.burden()), (50, 20 * PARTS));
        gauge.own.store(11, Ordering::Relaxed);
        assert_eq!((gauge.load(), gauge.burden()), (51, 21 * PARTS), "own ones count in full");
        gauge.hear(40, 0.9);
        assert_eq!(gauge.burden(), 51 * PARTS, "but never more than there are");
    }

    #[test]
    fn the_largest_counts_fit() {
        let gauge = gauge(u32::MAX);
        gauge.hear(u64::MAX, f64::INFINITY);
        assert_eq!((gauge.load(), gauge.elsewhere()), (u32::MAX, u32::MAX));
        assert_eq!(gauge.burden(), 2 * u64::from(u32::MAX) * PARTS);
        gauge.hear(1, f64::NAN);
        assert_eq!(gauge.burden(), u64::from(u32::MAX) * PARTS);
    }

    #[test]
    fn a_tally_counts_all_accounts_of_a_backend_and_forgets_what_nobody_holds() {
        let tally = Tally::default();
        let key = BackendKey { rule: "web".into(), address: ([10, 0, 0, 1], 80).into() };
        let (one, two) = (tally.gauge(&key), tally.gauge(&key));
        one.own.store(2, Ordering::Relaxed);
        two.own.store(3, Ordering::Relaxed);
        assert_eq!(tally.look()[0].own, 5);
        drop(one);
        assert_eq!(tally.look()[0].own, 3);
        drop(two);
        assert!(tally.look().is_empty() && tally.0.read().is_empty());
    }
}
