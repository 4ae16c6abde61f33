//! Verdicts on backends between nodes. Every node is the only writer of its own; it sends them all
//! to every peer when one changes, in parts that fit a datagram, and a short beat that names their
//! version: at once, again after 300 ms and 1 s, then every interval. Who holds another version
//! asks. Opinions end three intervals after their observer was last heard, or with their observer.
//! A node that cannot trust its own eyes says so by a version without verdicts, so that peers
//! forget the old ones at once.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::wire::records::{HealthBeat, HealthPart, Record};
use crate::base::id::stable_hash;
use crate::base::{Actor, BackendKey};
use crate::health::{OwnVerdict, Verdict, Verdicts};

/// Between looks at the own verdicts.
pub const LOOK: Duration = Duration::from_millis(100);
/// Shortest time between two beats of an unchanged version.
const SHORTEST: Duration = Duration::from_secs(3);
/// Per peer: so that beats cost a node the same at any size.
const PER_PEER: Duration = Duration::from_millis(300);
/// A peer's promised interval is believed up to here.
const LONGEST: Duration = Duration::from_secs(300);
/// Beats after a change: lost parts are then asked for soon.
const REMINDERS: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(1)];
/// Rows in one part: 9 for the hash, 1, and at most 9 for the number.
const ROWS_PER_PART: usize = 56;
/// Backends taken of one observer.
const MOST_BACKENDS: usize = 16_384;

/// A backend's hash, the same on every node.
pub fn backend_hash(key: &BackendKey) -> u64 {
    let address = key.address.to_string();
    stable_hash(stable_hash(0, key.rule.0.as_bytes()), address.as_bytes())
}

/// Own verdicts, on their way out.
#[derive(Debug, Default)]
pub struct Told {
    version: u64,
    rows: Vec<(u64, bool, u64)>,
    last: Vec<(BackendKey, OwnVerdict)>,
    /// Told as a node that has nothing to say.
    mute: bool,
    beats: Vec<Instant>,
}

impl Told {
    /// Looks at the own verdicts; whether what is told of them changed and is to be told in full.
    /// Nothing is told of them while `mute`.
    pub fn look(&mut self, now: Instant, own: &Verdicts, mute: bool) -> bool {
        let all = own.all();
        if all == self.last && mute == self.mute {
            return false;
        }
        let row = |(key, own): &(BackendKey, OwnVerdict)| {
            (backend_hash(key), own.verdict == Verdict::Down, own.seq)
        };
        self.rows = if mute { Vec::new() } else { all.iter().map(row).collect() };
        self.last = all;
        self.mute = mute;
        self.version += 1;
        self.beats = REMINDERS.iter().map(|after| now + *after).collect();
        true
    }

    /// Whether a beat is due; counts it as sent.
    pub fn beat_due(&mut self, now: Instant, peers: usize) -> bool {
        let before = self.beats.len();
        self.beats.retain(|at| *at > now);
        if self.beats.len() == before {
            return false;
        }
        if self.beats.is_empty() {
            self.beats.push(now + interval(peers));
        }
        true
    }

    /// The next beats come at once: somebody new is there.
    pub fn hurry(&mut self, now: Instant) {
        self.beats.push(now);
    }

    /// Has there been a verdict at all?
    pub fn any(&self) -> bool {
        self.version > 0
    }

    /// The beat.
    pub fn beat(&self, peers: usize) -> Record {
        let interval = interval(peers).as_millis() as u32;
        Record::HealthBeat(HealthBeat { version: self.version, interval })
    }

    /// All verdicts, a record per datagram.
    pub fn parts(&self) -> Vec<Record> {
        let rows = &self.rows[..self.rows.len().min(MOST_BACKENDS)];
        let parts = rows.len().div_ceil(ROWS_PER_PART).max(1) as u16;
        let part = |part: u16| {
            let from = usize::from(part) * ROWS_PER_PART;
            let until = rows.len().min(from + ROWS_PER_PART);
            let rows = rows[from..until].to_vec();
            Record::HealthPart(HealthPart { version: self.version, part, parts, rows })
        };
        (0..parts).map(part).collect()
    }

    /// Own verdicts as last looked at.
    pub fn own(&self) -> &[(BackendKey, OwnVerdict)] {
        &self.last
    }
}

fn interval(peers: usize) -> Duration {
    SHORTEST.max(PER_PEER * peers as u32)
}

/// What peers think.
#[derive(Debug, Default)]
pub struct Heard(BTreeMap<Actor, Observer>);

#[derive(Debug)]
struct Observer {
    version: u64,
    rows: HashMap<u64, Verdict>,
    coming: Option<Coming>,
    until: Instant,
    interval: Duration,
}

#[derive(Debug)]
struct Coming {
    version: u64,
    parts: Vec<Option<Vec<(u64, bool, u64)>>>,
}

impl Heard {
    /// A beat came in; whether the observer must be asked for its verdicts.
    pub fn beat(&mut self, now: Instant, actor: Actor, beat: HealthBeat) -> bool {
        let interval = Duration::from_millis(beat.interval.into()).clamp(SHORTEST, LONGEST);
        let observer = self.0.entry(actor).or_insert_with(|| Observer::new(now));
        observer.interval = interval;
        if observer.version == beat.version {
            observer.until = now + 3 * interval;
        }
        // A beat that was overtaken by a newer version asks for nothing.
        observer.version < beat.version
    }

    /// Verdicts came in; whether they are complete now and were not known.
    pub fn part(&mut self, now: Instant, actor: Actor, part: HealthPart) -> bool {
        let most = MOST_BACKENDS.div_ceil(ROWS_PER_PART);
        let parts = usize::from(part.parts);
        if parts == 0 || parts > most || part.part >= part.parts || part.rows.len() > ROWS_PER_PART
        {
            return false;
        }
        let observer = self.0.entry(actor).or_insert_with(|| Observer::new(now));
        if part.version <= observer.version {
            return false;
        }
        let coming = match &mut observer.coming {
            Some(coming) if coming.version == part.version && coming.parts.len() == parts => coming,
            Some(coming) if coming.version > part.version => return false,
            slot => slot.insert(Coming { version: part.version, parts: vec![None; parts] }),
        };
        coming.parts[usize::from(part.part)] = Some(part.rows);
        if coming.parts.iter().any(Option::is_none) {
            return false;
        }
        let verdict = |down| if down { Verdict::Down } else { Verdict::Up };
        let rows = std::mem::take(&mut coming.parts).into_iter().flatten().flatten();
        observer.rows = rows.map(|(backend, down, _)| (backend, verdict(down))).collect();
        observer.version = part.version;
        observer.coming = None;
        observer.until = now + 3 * observer.interval;
        true
    }

    /// Forgets observers that `keep` does not want, and opinions that have ended; whether any did.
    pub fn expire(&mut self, now: Instant, keep: impl Fn(Actor) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|actor, observer| {
            // An observer that has not told anything whole yet may still do so.
            keep(*actor) && observer.until > now
        });
        self.0.len() != before
    }

    /// Opinions by backend's hash.
    pub fn opinions(&self) -> HashMap<u64, Vec<(Actor, Verdict)>> {
        let mut all: HashMap<u64, Vec<(Actor, Verdict)>> = HashMap::new();
        for (actor, observer) in &self.0 {
            for (backend, verdict) in &observer.rows {
                all.entry(*backend).or_default().push((*actor, *verdict));
            }
        }
        all
    }
}

impl Observer {
    fn new(now: Instant) -> Self {
        let (version, rows, coming) = (0, HashMap::new(), None);
        Observer { version, rows, coming, until: now + 3 * SHORTEST, interval: SHORTEST }
    }
}

/// Whether this node rather than its backends is ill: more than half of its backends are down to it
/// while most of its peers find most of those up, though they had the time to find out. (A backend
/// that dies is down to one node before it is down to the others.)
pub fn impaired(
    now: Instant,
    own: &[(BackendKey, OwnVerdict)],
    opinions: &HashMap<u64, Vec<(Actor, Verdict)>>,
) -> bool {
    let down: Vec<&(BackendKey, OwnVerdict)> =
        own.iter().filter(|(_, own)| own.verdict == Verdict::Down).collect();
    if down.len() * 2 <= own.len() {
        return false;
    }
    let contradicted = down.iter().filter(|(key, own)| {
        let Some(opinions) = opinions.get(&backend_hash(key)) else { return false };
        let up = opinions.iter().filter(|(_, verdict)| *verdict == Verdict::Up).count();
        // One peer against us is not "most peers".
        own.settled <= now && up >= 2 && up * 2 > opinions.len()
    });
    contradicted.count() * 2 > down.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BootId, NodeId, time};

    fn key() -> BackendKey {
        BackendKey { rule: "web".into(), address: ([10, 0, 0, 1], 80).into() }
    }

    fn opinions(verdicts: &[Verdict]) -> HashMap<u64, Vec<(Actor, Verdict)>> {
        let actor = |at| Actor { node: NodeId(at), boot: BootId::new(1) };
        let all = (0..).map(actor).zip(verdicts.iter().copied()).collect();
        HashMap::from([(backend_hash(&key()), all)])
    }

    #[test]
    fn who_sees_a_backend_die_first_is_not_ill_until_peers_had_the_time_to_see_it() {
        let now = time::now();
        let settled = now + Duration::from_secs(5);
        let own = [(key(), OwnVerdict { verdict: Verdict::Down, seq: 1, settled })];
        let up = opinions(&[Verdict::Up, Verdict::Up]);
        assert!(!impaired(now, &own, &up));
        assert!(impaired(settled, &own, &up));
        assert!(!impaired(settled, &own, &opinions(&[Verdict::Up, Verdict::Down])));
        assert!(!impaired(settled, &own, &opinions(&[Verdict::Up])), "one against one");
    }

    #[test]
    fn a_node_that_falls_mute_takes_its_verdicts_back() {
        let (now, own) = (time::now(), Verdicts::default());
        own.note(&key(), Verdict::Up, now);
        let (mut told, mut heard) = (Told::default(), Heard::default());
        let actor = Actor { node: NodeId(1), boot: BootId::new(1) };
        let mut tell = |told: &Told| {
            for record in told.parts() {
                if let Record::HealthPart(part) = record {
                    heard.part(now, actor, part);
                }
            }
            heard.opinions().len()
        };
        assert!(told.look(now, &own, false));
        assert_eq!(tell(&told), 1);
        assert!(!told.look(now, &own, false), "nothing is new");
        assert!(told.look(now, &own, true));
        assert_eq!(tell(&told), 0);
        assert!(told.look(now, &own, false));
        assert_eq!(tell(&told), 1);
    }
}
