//! How boots get to know each other when gossip is sealed.
//!
//! ```text
//!   A ── hello, nonce a ─────────────▶ B     A is a stranger to B, and B to A
//!   A ◀── [a] hello, nonce b ───────── B     now B is known to A
//!   A ── [b] whatever A had to say ──▶ B     now A is known to B
//! ```
//!
//! `[a]` is a nonce sealed back. What A had to say waits, unsealed, until B is known; so a node
//! speaks only to boots that it knows to live, and what comes from others is answered by a challenge
//! and does not count. A known boot of a node of which another boot turns up is challenged again:
//! when both answer, they are clones.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Machine;
use crate::base::Actor;
use crate::cluster::boots::{Opening, Standing};
use crate::cluster::budget::Priority;
use crate::cluster::waiting::Held;
use crate::cluster::wire::records::{Hello, Record, records};
use crate::cluster::wire::{Head, Kind, Reason};

/// A stranger that goes on speaking is challenged this often.
const CHALLENGE: Duration = Duration::from_millis(100);
/// A boot that gets to be known this long after we asked to be let in is asked by name.
const JOINING: Duration = Duration::from_secs(3);
/// Members met at once, ten times a second.
const MET_AT_ONCE: usize = 20;
/// Whoever should begin has begun by then.
const OTHER_BEGINS: Duration = Duration::from_secs(1);
/// Between two looks at who was not heard for long.
const TIDY: Duration = Duration::from_secs(10);

impl Machine {
    /// A sealed datagram.
    pub(super) fn hear_sealed(
        &mut self,
        now: Instant,
        from: SocketAddr,
        head: &Head,
        bytes: &[u8],
    ) -> Result<Kind, Reason> {
        let boots = self.boots.as_mut().ok_or(Reason::UnknownKey)?;
        if head.sender == self.setup.actor {
            return Err(Reason::Own);
        }
        if boots.is_dear(head) && !self.intake.try_out(now) {
            return Err(Reason::RateLimited);
        }
        let opening = boots.open(now, from, head, bytes)?;
        let Opening { kind, sender, standing, anyone, payload } = opening;
        let stranger = matches!(standing, Standing::Stranger | Standing::Failed);
        // What was passed counts, however much else its sender says.
        if !self.intake.admit(now, sender, !stranger) && standing != Standing::Learnt {
            return Err(Reason::RateLimited);
        }
        if anyone && kind != Kind::Join {
            return Err(Reason::Unaddressed);
        }
        if stranger {
            return self.hear_stranger(now, from, sender, standing, kind, &payload).map(|()| kind);
        }
        if standing == Standing::Proved {
            self.proved(now, sender);
        }
        let asks = kind == Kind::Hello && self.hear_hello(now, sender, &payload)?;
        let said = standing == Standing::Learnt && self.learnt(now, sender, from);
        if asks && !said {
            self.say_hello(now, sender, from, None);
        }
        if kind != Kind::Hello {
            self.hear_content(now, from, sender, kind, anyone, &payload)?;
        }
        Ok(kind)
    }

    /// From a boot that is not known only a challenge is read, and everything is answered by one.
    fn hear_stranger(
        &mut self,
        now: Instant,
        from: SocketAddr,
        sender: Actor,
        standing: Standing,
        kind: Kind,
        payload: &[u8],
    ) -> Result<(), Reason> {
        let unknown =
            if standing == Standing::Failed { Reason::BadNonce } else { Reason::UnknownBoot };
        if kind == Kind::Hello {
            let challenges = records(payload).map_err(|_| Reason::Undecodable)?;
            let nonce = challenges.into_iter().find_map(|record| self.challenge_of_ours(&record));
            if let Some(nonce) = nonce {
                self.say_hello(now, sender, from, Some(nonce));
                return Ok(());
            }
        }
        let boots = self.boots.as_ref().ok_or(Reason::UnknownKey)?;
        let asked = boots.challenged(sender);
        if asked.is_none_or(|at| now.saturating_duration_since(at) >= CHALLENGE) {
            self.challenge_boot(now, sender, from);
        }
        // That is how a newcomer begins.
        if kind == Kind::Join && standing == Standing::Stranger { Ok(()) } else { Err(unknown) }
    }

    /// The content of a known boot's hello; whether it challenges us.
    fn hear_hello(&mut self, now: Instant, sender: Actor, payload: &[u8]) -> Result<bool, Reason> {
        let all = records(payload).map_err(|_| Reason::Undecodable)?;
        let nonce = all.iter().find_map(|record| self.challenge_of_ours(record));
        if let (Some(nonce), Some(boots)) = (nonce, &mut self.boots) {
            boots.owe(sender, nonce);
        }
        for record in all {
            if let Record::Cloned(cloned) = record {
                self.hear_cloned(now, cloned);
            }
        }
        Ok(nonce.is_some())
    }

    fn challenge_of_ours(&self, record: &Record) -> Option<u64> {
        match record {
            Record::Hello(hello) if hello.of == self.setup.actor.boot => Some(hello.nonce),
            _ => None,
        }
    }

    /// Challenges `actor` at `address`.
    pub(super) fn challenge_boot(&mut self, now: Instant, actor: Actor, address: SocketAddr) {
        let Some(boots) = &mut self.boots else { return };
        let nonce = boots.challenge(now, actor, &mut self.rng);
        let hello = Record::Hello(Hello { nonce, of: actor.boot }).bytes();
        let sealed = boots.seal(Kind::Hello, Some(actor), &hello);
        self.pass_on(now, Kind::Hello, address, sealed, Priority::Membership);
    }

    /// Answers a challenge, a stranger's with one of ours.
    fn say_hello(&mut self, now: Instant, to: Actor, address: SocketAddr, answer: Option<u64>) {
        let Some(boots) = &mut self.boots else { return };
        let sealed = match answer {
            None => boots.seal(Kind::Hello, Some(to), &[]),
            Some(answer) => {
                let nonce = boots.challenge(now, to, &mut self.rng);
                let hello = Record::Hello(Hello { nonce, of: to.boot }).bytes();
                boots.seal_answering(Kind::Hello, Some(to), Some(answer), &hello)
            }
        };
        self.pass_on(now, Kind::Hello, address, sealed, Priority::Membership);
    }

    /// A boot passed its first challenge; whether anything waited for it and is said now.
    fn learnt(&mut self, now: Instant, actor: Actor, from: SocketAddr) -> bool {
        self.look_for_clones(now, actor);
        let released = self.waiting.release(actor);
        let mut said = released.is_some();
        if let Some((address, payloads)) = released {
            for (kind, payload) in payloads {
                self.send_to(now, kind, Some(actor), address, &payload, Priority::Membership);
            }
        }
        // We asked a seed without knowing who it is; now we do.
        let member = self.roster.row(actor).is_some_and(|row| row.state.active());
        let joining = |at: Instant| now.saturating_duration_since(at) < JOINING;
        if !member && !self.left && self.joining.is_some_and(joining) {
            self.send_join(now, Some(actor), from, 0);
            said = true;
        }
        said
    }

    /// Keeps a payload for a boot that is not known, and challenges it.
    pub(super) fn send_when_known(
        &mut self,
        now: Instant,
        kind: Kind,
        to: Actor,
        address: SocketAddr,
        payload: &[u8],
    ) -> bool {
        match self.waiting.hold(now, to, address, kind, payload) {
            Held::First => self.challenge_boot(now, to, address),
            Held::Behind => {}
            Held::Lost => return false,
        }
        true
    }

    /// Challenges members that are not known yet, some at a time, so that what will have to be quick
    /// finds them known. Of two that do not know each other one begins.
    fn meet(&mut self, now: Instant) {
        let (Some(boots), false) = (&self.boots, self.left) else { return };
        let own = self.setup.actor;
        let since = |then: Instant| now.saturating_duration_since(then);
        let unknown = self.roster.rows().filter(|row| {
            let actor = row.identity.actor;
            let turn = own < actor || since(row.since) >= OTHER_BEGINS;
            let asked = boots.challenged(actor).is_some_and(|at| since(at) < OTHER_BEGINS);
            row.state.active() && turn && !asked && !boots.knows(actor)
        });
        let unknown: Vec<_> = unknown
            .map(|row| (row.identity.actor, row.identity.address))
            .take(MET_AT_ONCE)
            .collect();
        for (actor, address) in unknown {
            self.challenge_boot(now, actor, address);
        }
    }

    /// What is due of challenges because time went by.
    pub(super) fn keep_acquaintances(&mut self, now: Instant) {
        for (actor, address) in self.waiting.due(now) {
            self.challenge_boot(now, actor, address);
        }
        self.meet(now);
        self.watch_clones(now);
        if let Some(boots) = &mut self.boots
            && now.saturating_duration_since(self.tidied) >= TIDY
        {
            self.tidied = now;
            boots.tidy(now);
        }
    }
}
