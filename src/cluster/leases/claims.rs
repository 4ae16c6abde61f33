//! The holder's side: what this node has told of each key that it holds permits of, or wants some,
//! and who waits for them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::{Loan, TIGHT, Told};
use crate::base::Actor;
use crate::cluster::asks::Ticket;
use crate::traffic::{CapKey, Standing, spare};

/// Keys that are claimed at once; beyond, nobody is asked.
const MOST: usize = 1 << 19;
/// Permits that lie about are given back after so long.
const LINGER: Duration = Duration::from_secs(1);
/// With more keys than this nothing lies about.
const MANY: usize = 1 << 17;
/// Everything held is told again so often.
pub const REFRESH: Duration = Duration::from_secs(30);
/// Who was answered takes his permit within this time; until then it is kept for him.
const PROMISED: Duration = Duration::from_millis(10);
/// An owner that had nothing to spare is asked for it again after this.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// No running number of ours comes near it; a forged one above is not followed.
const FORGED: u64 = 1 << 62;
/// Between two tries to reach an owner, at least and at most.
const AGAIN: Duration = Duration::from_millis(5);
const AT_MOST: Duration = Duration::from_secs(1);

/// All keys.
#[derive(Debug, Default)]
pub struct Claims {
    claims: HashMap<CapKey, Claim>,
    /// Runs over all keys.
    seq: u64,
    dirty: VecDeque<CapKey>,
    timers: BinaryHeap<Reverse<(Instant, CapKey)>>,
    /// Keys that are told again in turn, with the birth of the claim that is meant: those that are
    /// done with leave when their turn comes.
    rounds: VecDeque<(CapKey, u64)>,
}

/// One key.
#[derive(Debug)]
struct Claim {
    /// The running number at which it began.
    born: u64,
    cap: u32,
    life: u64,
    owners: [Option<Actor>; 2],
    taken: [u32; 2],
    /// What was taken, as last told: an owner that does not hear of it takes it for lent.
    told_taken: [u32; 2],
    acked: [u64; 2],
    /// As last told.
    last: Told,
    told_at: Option<Instant>,
    tries: u32,
    waiting: VecDeque<Ticket>,
    /// Connections, as last seen.
    seen: u32,
    /// Permits kept for who was granted one and has not taken it yet.
    promised: u32,
    promised_until: Option<Instant>,
    eager_until: Option<Instant>,
    /// As the room was last told.
    room_eager: bool,
    idle_since: Option<Instant>,
    /// To be told in any case.
    urged: bool,
    dirty: bool,
    timer: Option<Instant>,
}

/// What a loan brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Brought {
    /// Permits to add.
    pub permits: u32,
    /// The cap they are under.
    pub cap: u32,
    /// Who gets one.
    pub granted: Vec<Ticket>,
    /// Who gets none.
    pub refused: Vec<Ticket>,
    /// How long the owner took to answer, when that can be told.
    pub round_trip: Option<Duration>,
}

impl Claim {
    fn new(born: u64, cap: u32) -> Self {
        Claim {
            born,
            cap,
            life: 0,
            owners: [None; 2],
            taken: [0; 2],
            told_taken: [0; 2],
            acked: [0; 2],
            last: Told {
                life: 0,
                seq: 0,
                used: 0,
                held: 0,
                needed: 0,
                wanted: 0,
                cap,
                taken: 0,
                eager: false,
                instead: false,
            },
            told_at: None,
            tries: 0,
            waiting: VecDeque::new(),
            seen: 0,
            promised: 0,
            promised_until: None,
            eager_until: None,
            room_eager: false,
            idle_since: None,
            urged: false,
            dirty: false,
            timer: None,
        }
    }

    /// `used` are in use: some of those who were promised a permit may have taken it.
    fn see(&mut self, now: Instant, used: u32) {
        self.promised = self.promised.saturating_sub(used.saturating_sub(self.seen));
        self.seen = used;
        if self.promised == 0 || self.promised_until.is_some_and(|until| until <= now) {
            (self.promised, self.promised_until) = (0, None);
        }
    }

    /// Permits for who is there or waits, and some to spare; none when nobody is there, or when
    /// others wait.
    fn needs(&self, used: u32) -> (u32, u32) {
        let needed = used.saturating_add(self.promised).saturating_add(self.waiting.len() as u32);
        let none = needed == 0 || self.eager_until.is_some();
        (needed, if none { 0 } else { spare(needed) })
    }

    fn unacked(&self) -> bool {
        self.owners
            .iter()
            .zip(self.acked)
            .any(|(owner, acked)| owner.is_some() && acked < self.last.seq)
    }
}

impl Claims {
    /// Something happened at `key`: it is looked at by and by.
    pub fn touch(&mut self, key: CapKey, standing: Option<Standing>) {
        if !self.claims.contains_key(&key) {
            // Nothing is held and nothing was told: nothing to do.
            let Some(standing) = standing.filter(|standing| standing.held > 0) else { return };
            if self.claims.len() >= MOST {
                return;
            }
            self.begin(key, standing.cap);
        }
        self.mark(key);
    }

    /// `ticket` waits for a permit of `key`; `false` when there are too many keys.
    pub fn wait(&mut self, key: CapKey, cap: u32, ticket: Ticket) -> bool {
        if !self.claims.contains_key(&key) {
            if self.claims.len() >= MOST {
                return false;
            }
            self.begin(key, cap);
        }
        if let Some(claim) = self.claims.get_mut(&key) {
            claim.cap = cap;
            claim.waiting.push_back(ticket);
        }
        self.mark(key);
        true
    }

    fn begin(&mut self, key: CapKey, cap: u32) {
        self.seq += 1;
        self.claims.insert(key, Claim::new(self.seq, cap));
        self.rounds.push_back((key, self.seq));
    }

    fn mark(&mut self, key: CapKey) {
        if let Some(claim) = self.claims.get_mut(&key)
            && !std::mem::replace(&mut claim.dirty, true)
        {
            self.dirty.push_back(key);
        }
    }

    /// The owners may have changed: everything is looked at.
    pub fn touch_all(&mut self) {
        let keys: Vec<CapKey> = self.claims.keys().copied().collect();
        keys.into_iter().for_each(|key| self.mark(key));
    }

    /// The next key to look at.
    pub fn next_dirty(&mut self) -> Option<CapKey> {
        let key = self.dirty.pop_front()?;
        if let Some(claim) = self.claims.get_mut(&key) {
            claim.dirty = false;
        }
        Some(key)
    }

    /// Whether a key is to be looked at.
    pub fn any_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// When time alone has something to be done.
    pub fn due(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Has those looked at whose time has come.
    pub fn tick(&mut self, now: Instant) {
        while let Some(&Reverse((at, key))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            if let Some(claim) = self.claims.get_mut(&key)
                && claim.timer == Some(at)
            {
                claim.timer = None;
                self.mark(key);
            }
        }
    }

    /// Has those keys told again whose turn comes within `span`, so that each is told every
    /// [`REFRESH`].
    pub fn refresh(&mut self, span: Duration) {
        let part = span.as_secs_f64() / REFRESH.as_secs_f64();
        for _ in 0..(self.rounds.len() as f64 * part).ceil() as usize {
            let Some((key, born)) = self.rounds.pop_front() else { return };
            if let Some(claim) = self.claims.get_mut(&key)
                && claim.born == born
            {
                claim.urged |= claim.last.held > 0;
                self.rounds.push_back((key, born));
                self.mark(key);
            }
        }
    }

    /// How many permits of `key` to keep, when some lie about: at once when others wait for them,
    /// else after a moment. To be done before [`Claims::tell`]. `waits` says of a ticket whether it
    /// still does.
    pub fn settle(
        &mut self,
        now: Instant,
        key: CapKey,
        standing: &Standing,
        waits: impl Fn(Ticket) -> bool,
    ) -> Option<u32> {
        let many = self.claims.len() > MANY;
        let claim = self.claims.get_mut(&key)?;
        claim.waiting.retain(|ticket| waits(*ticket));
        claim.see(now, standing.used);
        claim.eager_until = claim.eager_until.filter(|until| *until > now);
        let (needed, to_spare) = claim.needs(standing.used);
        let keep = needed + to_spare;
        let idle = standing.held > needed + 2 * to_spare;
        if claim.eager_until.is_some() || many && needed == 0 {
            return (standing.held > keep).then_some(keep);
        }
        if !idle {
            claim.idle_since = None;
        } else if now >= *claim.idle_since.get_or_insert(now) + LINGER {
            claim.idle_since = None;
            return Some(keep);
        }
        None
    }

    /// What is to be told of `key`, which stands at `standing`, to its two owners. `quiet` says of an
    /// owner that it does not answer.
    pub fn tell(
        &mut self,
        now: Instant,
        key: CapKey,
        standing: &Standing,
        owners: [Option<Actor>; 2],
        round_trip: Duration,
        quiet: impl Fn(Actor) -> bool,
    ) -> [Option<(Actor, Told)>; 2] {
        let Some(claim) = self.claims.get_mut(&key) else { return [None; 2] };
        let Standing { used, held, cap } = *standing;
        claim.cap = cap;
        let moved = owners != claim.owners;
        if moved {
            self.seq += 1;
            (claim.life, claim.owners) = (self.seq, owners);
            (claim.taken, claim.acked, claim.tries) = ([0; 2], [0; 2], 0);
            claim.told_taken = [0; 2];
        }
        let (needed, to_spare) = claim.needs(used);
        let since = claim.told_at.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        let patience = AGAIN.max(round_trip * 3 / 2);
        let again = (patience * (1 << claim.tries.min(8))).min(AT_MOST);
        let waiting = !claim.waiting.is_empty();
        let short = held > 0 && held.saturating_sub(needed) < to_spare.div_ceil(2);
        let unanswered = claim.unacked() && !moved;
        let news = held != claim.last.held
            || claim.taken != claim.told_taken
            || moved && (held > 0 || waiting)
            || claim.urged
            || waiting && (needed > claim.last.needed || since >= patience)
            || short && (since >= ASK_AGAIN || needed + to_spare > claim.last.wanted);
        let mut tell = [None; 2];
        if news || unanswered && since >= again {
            self.seq += 1;
            let primary_silent = !moved && claim.acked[0] < claim.last.seq && since >= patience;
            let instead = waiting && (primary_silent || owners[0].is_some_and(quiet));
            claim.tries = if unanswered { claim.tries + 1 } else { 0 };
            claim.urged = false;
            claim.told_at = Some(now);
            claim.told_taken = claim.taken;
            claim.last = Told {
                life: claim.life,
                seq: self.seq,
                used,
                held,
                needed,
                wanted: needed + to_spare,
                cap,
                taken: 0,
                eager: claim.eager_until.is_some(),
                instead: false,
            };
            for i in 0..2 {
                let told = Told { taken: claim.taken[i], instead: instead && i == 1, ..claim.last };
                tell[i] = owners[i].map(|to| (to, told));
            }
        }
        if held == 0 && needed == 0 && claim.last.held == 0 && !claim.unacked() {
            self.claims.remove(&key);
            return tell;
        }
        let unanswered = claim.unacked().then(|| match tell[0] {
            Some(_) => now + patience,
            None => now + again.saturating_sub(since).max(patience),
        });
        let timers = [
            unanswered,
            waiting.then_some(now + patience),
            claim.idle_since.map(|since| since + LINGER),
            claim.promised_until,
            claim.eager_until,
            short.then_some(now + ASK_AGAIN),
        ];
        if let Some(at) = timers.into_iter().flatten().min()
            && claim.timer.is_none_or(|set| at < set)
        {
            claim.timer = Some(at);
            self.timers.push(Reverse((at, key)));
        }
        tell
    }

    /// `owner` lends; `None` when this node claims nothing of `key` (any more) in that life, or does
    /// not know `owner` for its owner.
    pub fn take(
        &mut self,
        now: Instant,
        key: CapKey,
        owner: Actor,
        loan: &Loan,
        standing: &Standing,
    ) -> Option<Brought> {
        let claim = self.claims.get_mut(&key)?;
        let i = claim.owners.iter().position(|known| *known == Some(owner))?;
        // The owner knows of a life, or a report, that never was: datagrams can be forged. What it
        // hears from us it would take for old, so a later life begins.
        let told = (claim.life, claim.last.seq);
        if (loan.life, loan.seq) > told && loan.life.max(loan.seq) < FORGED {
            self.seq = self.seq.max(loan.life).max(loan.seq) + 1;
            (claim.life, claim.taken, claim.acked) = (self.seq, [0; 2], [0; 2]);
            (claim.told_taken, claim.urged) = ([0; 2], true);
            self.mark(key);
            return Some(Brought::default());
        }
        if loan.life != claim.life || loan.seq > claim.last.seq {
            return Some(Brought::default());
        }
        let mut brought = Brought { cap: claim.cap, ..Brought::default() };
        if loan.seq == claim.last.seq && claim.acked[i] < loan.seq && claim.tries == 0 {
            brought.round_trip = claim.told_at.map(|at| now.saturating_duration_since(at));
        }
        claim.acked[i] = claim.acked[i].max(loan.seq);
        let more = loan.given.wrapping_sub(claim.taken[i]);
        if more as i32 > 0 {
            claim.taken[i] = loan.given;
            brought.permits = more;
        }
        if loan.tight {
            claim.eager_until = Some(now + TIGHT);
        }
        claim.urged |= loan.recall;
        claim.see(now, standing.used);
        let free = standing.held.saturating_add(brought.permits) - standing.used;
        let free = free.saturating_sub(claim.promised);
        for _ in 0..free {
            let Some(ticket) = claim.waiting.pop_front() else { break };
            claim.promised += 1;
            claim.promised_until = Some(now + PROMISED);
            brought.granted.push(ticket);
        }
        // What was asked after the owner said so may still find something.
        if loan.full && loan.seq == claim.last.seq {
            brought.refused.extend(claim.waiting.drain(..));
        }
        self.mark(key);
        Some(brought)
    }

    /// Whether others wait for `key`, when the room was last told otherwise.
    pub fn eagerness(&mut self, key: CapKey) -> Option<bool> {
        let claim = self.claims.get_mut(&key)?;
        let eager = claim.eager_until.is_some();
        (std::mem::replace(&mut claim.room_eager, eager) != eager).then_some(eager)
    }

    /// The cap of a key that is claimed.
    pub fn cap(&self, key: CapKey) -> Option<u32> {
        self.claims.get(&key).map(|claim| claim.cap)
    }

    /// What to say to an owner that lends what this node knows nothing of.
    pub fn nothing(&mut self) -> Told {
        self.seq += 1;
        Told { life: self.seq, seq: self.seq, ..Claim::new(0, 0).last }
    }

    /// Whether anything of `key` is claimed.
    pub fn has(&self, key: CapKey) -> bool {
        self.claims.contains_key(&key)
    }

    /// Keys that are claimed.
    pub fn len(&self) -> usize {
        self.claims.len()
    }

    /// None is.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BootId, KeyHash, LimitId, NodeId, time};

    const OWNER: Actor = Actor { node: NodeId(1), boot: BootId::new(1) };

    fn key(n: u64) -> CapKey {
        CapKey { limit: LimitId(1), key: KeyHash(n) }
    }

    fn standing(used: u32, held: u32) -> Standing {
        Standing { used, held, cap: 9 }
    }

    /// What is told to the only owner.
    fn tell(claims: &mut Claims, now: Instant, key: CapKey, at: Standing) -> Option<Told> {
        let owners = [Some(OWNER), None];
        let told = claims.tell(now, key, &at, owners, Duration::ZERO, |_| false);
        told[0].map(|(_, told)| told)
    }

    fn loan(told: &Told, given: u32) -> Loan {
        Loan { life: told.life, seq: told.seq, given, ..Loan::default() }
    }

    #[test]
    fn a_permit_goes_to_who_waits_and_a_loan_that_comes_twice_brings_nothing_more() {
        let (mut claims, now) = (Claims::default(), time::now());
        assert!(claims.wait(key(1), 9, Ticket(1)) && claims.wait(key(1), 9, Ticket(2)));
        let told = tell(&mut claims, now, key(1), standing(0, 0)).unwrap();
        assert_eq!((told.needed, told.held), (2, 0));
        let brought = claims.take(now, key(1), OWNER, &loan(&told, 1), &standing(0, 0)).unwrap();
        assert_eq!((brought.permits, brought.granted), (1, vec![Ticket(1)]));
        let brought = claims.take(now, key(1), OWNER, &loan(&told, 1), &standing(0, 1)).unwrap();
        assert_eq!((brought.permits, brought.granted), (0, vec![]));
        let full = Loan { full: true, ..loan(&told, 1) };
        let brought = claims.take(now, key(1), OWNER, &full, &standing(1, 1)).unwrap();
        assert_eq!(brought.refused, [Ticket(2)]);
    }

    #[test]
    fn another_owner_begins_a_new_life_and_what_was_under_way_is_void() {
        let (mut claims, now) = (Claims::default(), time::now());
        claims.wait(key(1), 9, Ticket(1));
        let old = tell(&mut claims, now, key(1), standing(0, 0)).unwrap();
        let heir = Actor { node: NodeId(2), boot: BootId::new(1) };
        let owners = [Some(heir), Some(OWNER)];
        let at = standing(0, 0);
        let told = claims.tell(now, key(1), &at, owners, Duration::ZERO, |_| false);
        assert!(told[0].unwrap().1.life > old.life);
        let brought = claims.take(now, key(1), OWNER, &loan(&old, 5), &at).unwrap();
        assert_eq!(brought.permits, 0);
        let stranger = Actor { node: NodeId(3), boot: BootId::new(1) };
        assert_eq!(claims.take(now, key(1), stranger, &loan(&old, 5), &at), None);
    }

    #[test]
    fn an_owner_that_was_told_what_never_was_is_told_anew_in_a_later_life() {
        let (mut claims, now) = (Claims::default(), time::now());
        claims.wait(key(1), 9, Ticket(1));
        let told = tell(&mut claims, now, key(1), standing(0, 0)).unwrap();
        for (life, seq) in [(told.life, told.seq + 1000), (told.life + 5000, 1)] {
            let forged = Loan { life, seq, ..loan(&told, 7) };
            let brought = claims.take(now, key(1), OWNER, &forged, &standing(0, 0)).unwrap();
            assert_eq!(brought.permits, 0);
            let anew = tell(&mut claims, now, key(1), standing(0, 0)).unwrap();
            assert!(anew.life > life && anew.seq > seq, "{anew:?}");
        }
        let wild = Loan { life: u64::MAX, seq: u64::MAX, ..loan(&told, 7) };
        claims.take(now, key(1), OWNER, &wild, &standing(0, 0)).unwrap();
        assert!(claims.seq < FORGED);
    }

    #[test]
    fn what_lies_about_is_given_back_after_a_moment_and_at_once_when_others_wait() {
        let (mut claims, now) = (Claims::default(), time::now());
        claims.touch(key(1), Some(standing(1, 9)));
        let told = tell(&mut claims, now, key(1), standing(1, 9)).unwrap();
        let settle =
            |claims: &mut Claims, now| claims.settle(now, key(1), &standing(1, 9), |_| true);
        assert_eq!(settle(&mut claims, now), None);
        assert_eq!(settle(&mut claims, now + LINGER), Some(2));
        let tight = Loan { tight: true, ..loan(&told, 0) };
        claims.take(now, key(1), OWNER, &tight, &standing(1, 9)).unwrap();
        assert_eq!(settle(&mut claims, now), Some(1));
    }

    #[test]
    fn a_key_is_done_with_when_the_owner_has_heard_of_it_and_leaves_nothing_behind() {
        let (mut claims, now) = (Claims::default(), time::now());
        for n in 0..1000 {
            claims.wait(key(n), 9, Ticket(n));
            let told = tell(&mut claims, now, key(n), standing(0, 0)).unwrap();
            let brought = claims.take(now, key(n), OWNER, &loan(&told, 1), &standing(0, 0));
            assert_eq!(brought.unwrap().granted.len(), 1);
            let later = now + PROMISED;
            claims.settle(later, key(n), &standing(0, 0), |_| true);
            // What was taken is told, though nothing is held any more.
            let told = tell(&mut claims, later, key(n), standing(0, 0)).unwrap();
            assert_eq!((told.held, told.taken), (0, 1));
            assert!(claims.has(key(n)), "the owner has not heard");
            claims.take(later, key(n), OWNER, &loan(&told, 1), &standing(0, 0)).unwrap();
            assert_eq!(tell(&mut claims, later, key(n), standing(0, 0)), None);
        }
        assert!(claims.is_empty(), "{}", claims.len());
        for _ in 0..2000 {
            claims.refresh(REFRESH / 100);
        }
        assert!(claims.rounds.is_empty(), "{}", claims.rounds.len());
    }
}
