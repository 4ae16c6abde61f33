//! Verdicts on backends between nodes. Every node is the only writer of its own; it sends them all
//! to every peer when one changes, in parts that fit a datagram, and a short beat that names their
//! version: at once, again after 300 ms and 1 s, then every interval. Who holds another version
//! asks. Opinions end three intervals after their observer was last heard, or with their observer.
//! A node that cannot trust its own eyes says so by a version without verdicts, so that peers
//! forget the old ones at once.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::wire::records::{HealthBeat, HealthPart, HealthRow, Record};
use crate::base::{Actor, BackendKey};
use crate::health::{OwnVerdict, Report, Verdict, Verdicts};

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
/// Between two versions that differ in latencies alone.
const DETAILS: Duration = Duration::from_secs(60);
/// Rows in one part: 9 for the backend, 1, at most 9 for the number, three times at most 5.
const ROWS_PER_PART: usize = 33;
/// Backends taken of one observer.
const MOST_BACKENDS: usize = 16_384;

/// Own verdicts, on their way out.
#[derive(Debug, Default)]
pub struct Told {
    version: u64,
    /// What this version says.
    rows: Vec<(u64, Report)>,
    /// Own verdicts as last looked at.
    last: Vec<(BackendKey, OwnVerdict)>,
    /// Told as a node that has nothing to say.
    mute: bool,
    told_at: Option<Instant>,
    beats: Vec<Instant>,
}

impl Told {
    /// Looks at the own verdicts; whether what is told of them changed and is to be told in full.
    /// Nothing is told of them while `mute`.
    pub fn look(&mut self, now: Instant, own: &Verdicts, mute: bool) -> bool {
        self.last = own.fresh(now);
        let spoken = if mute { &[][..] } else { &self.last[..] };
        let words = |(key, own): &(BackendKey, OwnVerdict)| (key.id(), own.report);
        let rows: Vec<(u64, Report)> = spoken.iter().map(words).collect();
        let same = rows.len() == self.rows.len()
            && rows.iter().zip(&self.rows).all(|(a, b)| (a.0, a.1.seq) == (b.0, b.1.seq));
        let details = self.told_at.is_some_and(|at| now >= at + DETAILS)
            && rows.iter().zip(&self.rows).any(|(a, b)| moved(a.1.latency, b.1.latency));
        if same && mute == self.mute && !details {
            return false;
        }
        self.rows = rows;
        self.mute = mute;
        self.version += 1;
        self.told_at = Some(now);
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
    pub fn parts(&self, now: Instant) -> Vec<Record> {
        let rows = &self.rows[..self.rows.len().min(MOST_BACKENDS)];
        let parts = rows.len().div_ceil(ROWS_PER_PART).max(1) as u16;
        let part = |part: u16| {
            let from = usize::from(part) * ROWS_PER_PART;
            let until = rows.len().min(from + ROWS_PER_PART);
            let rows = rows[from..until].iter().map(|(backend, r)| row(*backend, r, now));
            Record::HealthPart(HealthPart {
                version: self.version,
                part,
                parts,
                rows: rows.collect(),
            })
        };
        (0..parts).map(part).collect()
    }

    /// Own verdicts as last looked at.
    pub fn own(&self) -> &[(BackendKey, OwnVerdict)] {
        &self.last
    }
}

/// Whether a latency is another one than was told, and not just a little.
fn moved(now: Option<Duration>, told: Option<Duration>) -> bool {
    match (now, told) {
        (Some(now), Some(told)) => now > told * 2 || told > now * 2,
        (now, told) => now != told,
    }
}

fn row(backend: u64, report: &Report, now: Instant) -> HealthRow {
    let whole = |number: u128| u32::try_from(number).unwrap_or(u32::MAX);
    HealthRow {
        backend,
        down: report.verdict == Verdict::Down,
        seq: report.seq,
        age: whole(now.saturating_duration_since(report.since).as_secs().into()),
        streak: report.streak,
        latency: report.latency.map_or(0, |latency| whole(latency.as_micros()).max(1)),
    }
}

/// A row as it was heard at `now`.
fn report(row: &HealthRow, now: Instant) -> Report {
    let age = Duration::from_secs(row.age.into());
    Report {
        verdict: if row.down { Verdict::Down } else { Verdict::Up },
        // A machine's clock may have begun after the peer's verdict.
        since: now.checked_sub(age).unwrap_or(now),
        streak: row.streak,
        latency: (row.latency > 0).then(|| Duration::from_micros(row.latency.into())),
        seq: row.seq,
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
    rows: HashMap<u64, Report>,
    coming: Option<Coming>,
    until: Instant,
    interval: Duration,
}

#[derive(Debug)]
struct Coming {
    version: u64,
    parts: Vec<Option<Vec<HealthRow>>>,
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
        let rows = std::mem::take(&mut coming.parts).into_iter().flatten().flatten();
        observer.rows = rows.map(|row| (row.backend, report(&row, now))).collect();
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

    /// Opinions by backend's id.
    pub fn opinions(&self) -> Opinions {
        let mut all = Opinions::new();
        for (actor, observer) in &self.0 {
            for (backend, report) in &observer.rows {
                all.entry(*backend).or_default().push((*actor, *report));
            }
        }
        all
    }
}

/// What peers think, by backend's id.
pub type Opinions = HashMap<u64, Vec<(Actor, Report)>>;

impl Observer {
    fn new(now: Instant) -> Self {
        let (version, rows, coming) = (0, HashMap::new(), None);
        Observer { version, rows, coming, until: now + 3 * SHORTEST, interval: SHORTEST }
    }
}

/// How far a node may trust what it sees of its backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Senses {
    /// As far as anybody.
    #[default]
    Sound,
    /// What it checks is mostly down to it alone, but it checks only some: it must look at
    /// everything itself before it can tell.
    Doubtful,
    /// It rather than its backends is ill.
    Impaired,
}

/// Whether this node rather than its backends is ill: more than half of the `used` backends are
/// down to it while most of its peers find most of those up, though they had the time to find out.
/// (A backend that dies is down to one node before it is down to the others.)
///
/// A node that shares the checks has an `own` verdict on some backends only, and takes the peers'
/// word that the others are up: it could never find half of all down. So it is in doubt, and checks
/// everything itself, as soon as that holds for half of what it does check.
pub fn senses(
    now: Instant,
    own: &[(BackendKey, OwnVerdict)],
    used: usize,
    opinions: &Opinions,
) -> Senses {
    let down: Vec<&(BackendKey, OwnVerdict)> =
        own.iter().filter(|(_, own)| own.report.verdict == Verdict::Down).collect();
    if down.len() * 2 <= own.len() {
        return Senses::Sound;
    }
    let contradicted = |(key, _): &&&(BackendKey, OwnVerdict)| {
        let Some(opinions) = opinions.get(&key.id()) else { return false };
        let up = opinions.iter().filter(|(_, report)| report.verdict == Verdict::Up).count();
        // One peer against us is not "most peers".
        up >= 2 && up * 2 > opinions.len()
    };
    let settled = |(_, own): &&&(BackendKey, OwnVerdict)| own.settled <= now;
    let against = down.iter().filter(contradicted);
    if down.len() * 2 > used && against.clone().filter(settled).count() * 2 > down.len() {
        return Senses::Impaired;
    }
    match own.len() < used && against.count() * 2 > down.len() {
        true => Senses::Doubtful,
        false => Senses::Sound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BootId, NodeId, time};
    use crate::health::Sighting;

    fn key(port: u16) -> BackendKey {
        BackendKey { rule: "web".into(), address: ([10, 0, 0, 1], port).into() }
    }

    fn actor(node: u64) -> Actor {
        Actor { node: NodeId(node), boot: BootId::new(1) }
    }

    fn opinions(now: Instant, ports: &[u16], verdicts: &[Verdict]) -> Opinions {
        let of = |_: &u16| -> Vec<(Actor, Report)> {
            let said = |(at, verdict): (u64, &Verdict)| (actor(at), Report::first(*verdict, now));
            (0..).zip(verdicts).map(said).collect()
        };
        ports.iter().map(|port| (key(*port).id(), of(port))).collect()
    }

    fn own(port: u16, verdict: Verdict, settled: Instant) -> (BackendKey, OwnVerdict) {
        let report = Report::first(verdict, settled);
        (key(port), OwnVerdict { report, settled, until: settled })
    }

    fn sighting(verdict: Verdict, latency: u64, now: Instant) -> Sighting {
        let (settled, until) = (now, now + Duration::from_secs(3600));
        let latency = Some(Duration::from_millis(latency));
        Sighting { verdict, streak: 4, latency, settled, until }
    }

    #[test]
    fn who_sees_a_backend_die_first_is_not_ill_until_peers_had_the_time_to_see_it() {
        let now = time::now();
        let settled = now + Duration::from_secs(5);
        let own = [own(1, Verdict::Down, settled)];
        let said = |verdicts: &[Verdict]| opinions(now, &[1], verdicts);
        let up = said(&[Verdict::Up, Verdict::Up]);
        assert_eq!(senses(now, &own, 1, &up), Senses::Sound);
        assert_eq!(senses(settled, &own, 1, &up), Senses::Impaired);
        let split = said(&[Verdict::Up, Verdict::Down]);
        assert_eq!(senses(settled, &own, 1, &split), Senses::Sound);
        assert_eq!(senses(settled, &own, 1, &said(&[Verdict::Up])), Senses::Sound, "one to one");
    }

    #[test]
    fn one_bad_path_does_not_condemn_a_node_that_checks_few_backends() {
        let now = time::now();
        let up = opinions(now, &[1, 2, 3], &[Verdict::Up, Verdict::Up]);
        // The only one of three that it checks is down to it alone.
        let one = [own(1, Verdict::Down, now)];
        assert_eq!(senses(now, &one, 3, &up), Senses::Doubtful);
        // It looked at all of them: it is that path, or it is this node.
        let path = [own(1, Verdict::Down, now), own(2, Verdict::Up, now), own(3, Verdict::Up, now)];
        assert_eq!(senses(now, &path, 3, &up), Senses::Sound);
        let ill =
            [own(1, Verdict::Down, now), own(2, Verdict::Down, now), own(3, Verdict::Up, now)];
        assert_eq!(senses(now, &ill, 3, &up), Senses::Impaired);
    }

    #[test]
    fn a_node_that_falls_mute_takes_its_verdicts_back() {
        let (now, own) = (time::now(), Verdicts::default());
        own.note(&key(1), now, sighting(Verdict::Up, 1, now));
        let (mut told, mut heard) = (Told::default(), Heard::default());
        let mut tell = |told: &Told| {
            for record in told.parts(now) {
                if let Record::HealthPart(part) = record {
                    heard.part(now, actor(1), part);
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

    #[test]
    fn a_peer_hears_the_whole_register() {
        let (now, own) = (time::now(), Verdicts::default());
        own.note(&key(1), now, sighting(Verdict::Up, 7, now));
        let (mut told, mut heard) = (Told::default(), Heard::default());
        let later = now + Duration::from_secs(40);
        told.look(later, &own, false);
        let Some(Record::HealthPart(part)) = told.parts(later).pop() else { panic!("no part") };
        heard.part(later, actor(1), part);
        let told = own.of(&"web".into(), key(1).address).unwrap().report;
        assert_eq!(heard.opinions()[&key(1).id()], [(actor(1), told)]);
    }

    #[test]
    fn checks_that_find_the_same_are_not_told_and_a_latency_only_now_and_then() {
        let (now, own) = (time::now(), Verdicts::default());
        let mut told = Told::default();
        own.note(&key(1), now, sighting(Verdict::Up, 10, now));
        assert!(told.look(now, &own, false));
        let later = now + Duration::from_secs(30);
        own.note(&key(1), later, sighting(Verdict::Up, 100, later));
        assert!(!told.look(later, &own, false));
        assert!(told.look(now + DETAILS, &own, false));
        own.note(&key(1), later, sighting(Verdict::Up, 150, later));
        assert!(!told.look(now + 3 * DETAILS, &own, false), "not even twice as long");
    }

    #[test]
    fn a_verdict_whose_checker_stopped_is_taken_back() {
        let (now, own) = (time::now(), Verdicts::default());
        let mut told = Told::default();
        own.note(&key(1), now, sighting(Verdict::Up, 10, now));
        told.look(now, &own, false);
        let late = now + Duration::from_secs(3600);
        assert!(told.look(late, &own, false));
        let Some(Record::HealthPart(part)) = told.parts(late).pop() else { panic!("no part") };
        assert_eq!(part.rows, []);
    }
}
