//! Connections in flight between nodes. Every node is the only writer of its own; it tells what
//! changed, once more in the next round against loss, and now and then all that is not nothing. An
//! idle node says nothing.
//!
//! ```text
//!   tally ─look─▶ changed enough? ─▶ a datagram to every peer ─▶ once more
//!   datagram ─▶ rows of the peer ─sum, aged─▶ gauges
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::wire::records::{LoadRows, Record};
use crate::balance::{Gauge, Tallied};
use crate::base::{Actor, RuleName};

/// Between two looks at the tally, on average.
pub const LOOK: Duration = Duration::from_millis(200);
/// The least between two rounds; for each peer beyond [`NEAR`] a tenth of that longer, so that a
/// round costs a large cluster's node little more than a small one's.
const ROUND: Duration = Duration::from_millis(150);
const NEAR: u32 = 10;
/// A change of less than this part is told later.
const COARSE: u32 = 32;
/// How much later.
const SETTLED: Duration = Duration::from_secs(1);
/// Everything that is not nothing is told again this often, and per peer.
const REFRESH: Duration = Duration::from_secs(10);
const REFRESH_PER_PEER: Duration = Duration::from_secs(1);
/// From a peer's coming to when everything is told: it may know us a while later than we know it, and
/// hears nothing of us until then.
const NEW_PEER: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];
/// A peer's promised interval is believed up to here.
const LONGEST: Duration = Duration::from_secs(3600);
/// Rows in one datagram: 9 bytes for the backend, at most 5 for the count.
const ROWS_PER_PART: usize = 80;

/// Own counts, on their way out.
#[derive(Debug)]
pub struct Told {
    seq: u64,
    told: HashMap<u64, (u32, Instant)>,
    /// Told in the last round.
    again: Vec<u64>,
    next: Instant,
    refresh: Instant,
    /// When everything is told besides.
    hurried: Vec<Instant>,
}

impl Told {
    /// Nothing told.
    pub fn new(now: Instant) -> Self {
        Told {
            seq: 0,
            told: HashMap::new(),
            again: Vec::new(),
            next: now,
            refresh: now,
            hurried: vec![],
        }
    }

    /// Whether a round is due.
    pub fn due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// A round: what `peers` peers must be told of `own`, by backend's id, a record per datagram.
    /// Whatever is returned counts as told.
    pub fn round(&mut self, now: Instant, own: &[(u64, u32)], peers: usize) -> Vec<Record> {
        let peers = peers as u32;
        self.next = now + ROUND.max(ROUND / NEAR * peers);
        let interval = REFRESH.max(REFRESH_PER_PEER * peers);
        let hurried = self.hurried.extract_if(.., |at| *at <= now).count() > 0;
        let all = hurried || now >= self.refresh;
        if all {
            self.refresh = now + interval;
        }
        let again: HashSet<u64> = self.again.drain(..).collect();
        let mut rows = Vec::new();
        for &(backend, count) in own {
            let (before, at) = self.told.get(&backend).copied().unwrap_or((0, now));
            let change = u64::from(count.abs_diff(before));
            let much = change * u64::from(COARSE) > u64::from(count.max(before));
            let news = change > 0 && (much || now >= at + SETTLED);
            if news {
                self.told.insert(backend, (count, now));
                self.again.push(backend);
            }
            if news || again.contains(&backend) || all && count > 0 {
                rows.push((backend, count));
            }
        }
        // What is no longer there has none.
        let held: HashSet<u64> = own.iter().map(|(backend, _)| *backend).collect();
        let gone = self.told.extract_if(|backend, _| !held.contains(backend));
        rows.extend(gone.filter(|(_, (count, _))| *count > 0).map(|(backend, _)| (backend, 0)));
        if rows.is_empty() {
            return Vec::new();
        }
        self.seq += 1;
        let (seq, interval) = (self.seq, interval.as_millis() as u32);
        let part =
            |rows: &[(u64, u32)]| Record::Load(LoadRows { seq, interval, rows: rows.to_vec() });
        rows.chunks(ROWS_PER_PART).map(part).collect()
    }

    /// Somebody new is there: everything is told in the next round, and in some later ones.
    pub fn hurry(&mut self, now: Instant) {
        self.hurried = NEW_PEER.map(|after| now + after).to_vec();
    }
}

/// What peers have.
#[derive(Debug, Default)]
pub struct Heard {
    peers: BTreeMap<Actor, Peer>,
    /// This node's backends, by id.
    views: HashMap<u64, View>,
}

#[derive(Debug)]
struct Peer {
    interval: Duration,
    /// By backend's id.
    rows: HashMap<u64, Row>,
}

#[derive(Debug)]
struct Row {
    /// The round that said so.
    seq: u64,
    count: u32,
    /// Every row ages by itself: the word that it became nothing may be lost, while others come.
    heard: Instant,
}

/// The others' connections to one backend.
#[derive(Debug)]
struct View {
    sum: u64,
    /// This node's share of all connections of the rule.
    share: f64,
    gauges: Vec<Weak<Gauge>>,
}

impl View {
    fn show(&self) {
        for gauge in self.gauges.iter().filter_map(Weak::upgrade) {
            gauge.hear(self.sum, self.share);
        }
    }
}

impl Heard {
    /// A peer told its counts. They are shown at once: a view that moves only now and then makes
    /// all nodes run after the same backend in between. Rows of backends that are not known here
    /// are of no use, which bounds what is kept.
    pub fn rows(&mut self, now: Instant, actor: Actor, told: &LoadRows) {
        let interval = Duration::from_millis(told.interval.into()).clamp(REFRESH, LONGEST);
        let nobody = || Peer { interval, rows: HashMap::new() };
        let peer = self.peers.entry(actor).or_insert_with(nobody);
        peer.interval = interval;
        for &(backend, count) in &told.rows {
            let Some(view) = self.views.get_mut(&backend) else { continue };
            let told = Row { seq: told.seq, count, heard: now };
            let row = peer.rows.entry(backend).or_insert(Row { seq: 0, count: 0, heard: now });
            if told.seq > row.seq {
                view.sum = view.sum.saturating_sub(row.count.into()) + u64::from(count);
                *row = told;
                view.show();
            }
        }
    }

    /// Looks at this node's backends anew. Forgets peers that `keep` does not want, and rows that
    /// have not been heard for three intervals; what was not told again for two counts half: there
    /// may be none left, or as many.
    pub fn look(&mut self, now: Instant, own: &[Tallied], keep: impl Fn(Actor) -> bool) {
        let mut sums: HashMap<u64, u64> = own.iter().map(|b| (b.key.id(), 0)).collect();
        self.peers.retain(|actor, peer| {
            let interval = peer.interval;
            peer.rows.retain(|backend, row| {
                let Some(sum) = sums.get_mut(backend) else { return false };
                let fresh = keep(*actor) && now < row.heard + 3 * interval;
                if fresh {
                    let stale = now >= row.heard + 2 * interval;
                    *sum += u64::from(if stale { row.count / 2 } else { row.count });
                }
                fresh
            });
            !peer.rows.is_empty()
        });
        // A share is taken rule by rule, for each has its own clients.
        let mut rules: HashMap<&RuleName, (u64, u64)> = HashMap::new();
        for backend in own {
            let (ours, theirs) = rules.entry(&backend.key.rule).or_default();
            *ours += u64::from(backend.own);
            *theirs += sums[&backend.key.id()];
        }
        self.views.clear();
        for backend in own {
            let (ours, theirs) = rules[&backend.key.rule];
            // With the one that is about to come.
            let share = (ours + 1) as f64 / (ours + theirs + 1) as f64;
            let id = backend.key.id();
            let gauges = backend.gauges.iter().map(Arc::downgrade).collect();
            let view = View { sum: sums[&id], share, gauges };
            view.show();
            self.views.insert(id, view);
        }
    }

    /// Whether this node has no backends.
    pub fn is_empty(&self) -> bool {
        self.views.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{PARTS, Tally};
    use crate::base::{BackendKey, BootId, NodeId, time};

    fn actor(node: u64) -> Actor {
        Actor { node: NodeId(node), boot: BootId::new(1) }
    }

    fn rows(records: &[Record]) -> Vec<(u64, u32)> {
        let of = |record: &Record| match record {
            Record::Load(load) => load.rows.clone(),
            other => panic!("{other:?}"),
        };
        records.iter().flat_map(of).collect()
    }

    /// What is told in each of some rounds of these counts of one backend.
    fn told(counts: &[u32]) -> Vec<Vec<u32>> {
        let mut now = time::now();
        let mut told = Told::new(now);
        let round = |count: &u32| {
            now += ROUND;
            let records = told.round(now, &[(7, *count)], 2);
            rows(&records).into_iter().map(|(_, count)| count).collect()
        };
        counts.iter().map(round).collect()
    }

    #[test]
    fn a_change_is_told_twice_and_what_stays_is_not_told() {
        let nothing: Vec<u32> = Vec::new();
        assert_eq!(told(&[0, 0, 0]), [nothing.clone(), nothing.clone(), nothing.clone()]);
        let two = |count| vec![count];
        let quiet = || nothing.clone();
        assert_eq!(
            told(&[0, 4, 4, 4, 0, 0, 0]),
            [quiet(), two(4), two(4), quiet(), two(0), two(0), quiet()]
        );
    }

    #[test]
    fn a_small_change_of_a_large_count_waits_a_second() {
        let mut counts = vec![1000; 2];
        counts.extend([1010; 12]);
        let told = told(&counts);
        assert_eq!(told[..2], [[1000], [1000]]);
        let first = told.iter().position(|round| round.contains(&1010)).unwrap();
        let waited = ROUND * first as u32;
        assert!((SETTLED..SETTLED + ROUND).contains(&waited), "since round 0: {waited:?}");
    }

    #[test]
    fn what_is_not_nothing_is_told_again_and_what_is_gone_is_told_to_be_nothing() {
        let start = time::now();
        let mut told = Told::new(start);
        told.round(start, &[(1, 5), (2, 0)], 2);
        told.round(start + ROUND, &[(1, 5), (2, 0)], 2);
        assert_eq!(rows(&told.round(start + REFRESH, &[(1, 5), (2, 0)], 2)), [(1, 5)]);
        assert_eq!(rows(&told.round(start + REFRESH + ROUND, &[(2, 0)], 2)), [(1, 0)]);
        assert_eq!(rows(&told.round(start + 9 * REFRESH, &[(2, 0)], 2)), []);
    }

    #[test]
    fn many_rows_are_parted_and_each_part_fits_a_datagram() {
        let now = time::now();
        let own: Vec<(u64, u32)> = (0..500).map(|n| (u64::MAX - n, u32::MAX)).collect();
        let records = Told::new(now).round(now, &own, 2);
        assert_eq!(rows(&records).len(), 500);
        assert!(
            records.iter().all(|record| record.bytes().len() <= super::super::wire::MAX_PAYLOAD)
        );
    }

    fn load(seq: u64, rows: &[(u16, u32)]) -> LoadRows {
        let rows = rows.iter().map(|(port, count)| (key("web", *port).id(), *count)).collect();
        LoadRows { seq, interval: 10_000, rows }
    }

    fn key(rule: &str, port: u16) -> BackendKey {
        BackendKey { rule: rule.into(), address: ([10, 0, 0, 1], port).into() }
    }

    /// A node with one backend, and what it has heard so far: nothing.
    fn one() -> (Heard, Tally, Arc<Gauge>, Instant) {
        let (mut heard, tally, now) = (Heard::default(), Tally::default(), time::now());
        let gauge = tally.gauge(&key("web", 1));
        heard.look(now, &tally.look(), |_| true);
        (heard, tally, gauge, now)
    }

    fn rows_of(heard: &Heard) -> usize {
        heard.peers.values().map(|peer| peer.rows.len()).sum()
    }

    #[test]
    fn rows_that_come_late_or_twice_change_nothing_and_unknown_backends_are_not_kept() {
        let (mut heard, tally, gauge, now) = one();
        for (seq, count) in [(2, 5), (1, 9), (2, 9)] {
            heard.rows(now, actor(1), &load(seq, &[(1, count), (2, 1)]));
        }
        heard.rows(now, actor(2), &load(1, &[(1, 3)]));
        assert_eq!((gauge.elsewhere(), rows_of(&heard)), (8, 2), "at once");
        heard.rows(now, actor(1), &load(3, &[(1, 0)]));
        assert_eq!(gauge.elsewhere(), 3);
        heard.look(now, &tally.look(), |_| true);
        assert_eq!(gauge.elsewhere(), 3);
    }

    #[test]
    fn a_silent_row_counts_half_and_then_no_more_and_a_dead_peers_nothing() {
        let (mut heard, tally, gauge, now) = one();
        let two = tally.gauge(&key("web", 2));
        heard.look(now, &tally.look(), |_| true);
        heard.rows(now, actor(1), &load(1, &[(1, 10), (2, 7)]));
        let seen = |at, heard: &mut Heard| {
            heard.look(at, &tally.look(), |_| true);
            (gauge.elsewhere(), two.elsewhere())
        };
        assert_eq!(seen(now + REFRESH, &mut heard), (10, 7));
        assert_eq!(seen(now + 2 * REFRESH, &mut heard), (5, 3));
        // The one is told again, the other is not: its end was lost.
        heard.rows(now + 2 * REFRESH, actor(1), &load(2, &[(2, 7)]));
        assert_eq!(seen(now + 2 * REFRESH, &mut heard), (5, 7));
        assert_eq!(seen(now + 3 * REFRESH, &mut heard), (0, 7));
        heard.look(now + 3 * REFRESH, &tally.look(), |_| false);
        assert_eq!((two.elsewhere(), rows_of(&heard)), (0, 0));
    }

    #[test]
    fn a_nodes_share_of_a_rule_says_how_much_of_the_others_it_takes_on() {
        let (mut heard, tally, now) = (Heard::default(), Tally::default(), time::now());
        let (a, b, other) =
            (tally.gauge(&key("web", 1)), tally.gauge(&key("web", 2)), tally.gauge(&key("api", 1)));
        for (gauge, own) in [(&a, 9), (&b, 10), (&other, 1)] {
            gauge.own.store(own, std::sync::atomic::Ordering::Relaxed);
        }
        heard.look(now, &tally.look(), |_| true);
        heard.rows(now, actor(1), &load(1, &[(1, 60)]));
        heard.look(now, &tally.look(), |_| true);
        assert_eq!((a.load(), b.load(), other.load()), (69, 10, 1));
        // 20 of 80, with the next one: half of the others counts.
        assert_eq!((a.burden(), b.burden()), ((9 + 30) * PARTS, 10 * PARTS));
    }

    #[test]
    fn what_is_looked_at_is_not_held() {
        let (heard, tally, gauge, _) = one();
        drop(gauge);
        assert!(tally.look().is_empty());
        drop(heard);
    }
}
