//! How a node is let in.
//!
//! ```text
//!   B ── join ──▶ C              to a seed's address; C may be anybody
//!   C ── challenge ──▶ address that B claims
//!   B ── join, nonce ──▶ C       so B is where it claims to be
//!   C ── feed, meta ──▶ B        C tells foca, which tells everybody
//! ```
//!
//! Were the claimed address another node's, the challenge would reach that one: it then says so
//! loudly, and tells B that it is refused. Two nodes at one address would otherwise declare each
//! other dead for ever.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Machine, Output};
use crate::base::Actor;
use crate::base::id::stable_hash;
use crate::cluster::MOST_MEMBERS;
use crate::cluster::budget::Priority;
use crate::cluster::identity::{FURTHEST_AHEAD, Identity, generation};
use crate::cluster::private::is_public;
use crate::cluster::roster::MemberState;
use crate::cluster::wire::encoding::encode;
use crate::cluster::wire::records::{Challenge, Join, Record, Refused};
use crate::cluster::wire::{Kind, Reason};

/// A challenge can be answered for one to two of these.
const NONCE_WINDOW: Duration = Duration::from_secs(10);
/// Repeated complaints are logged this often.
const COMPLAIN: Duration = Duration::from_secs(10);

impl Machine {
    /// Asks whoever is at `addresses` to be let in; own addresses and members are skipped.
    pub(super) fn ask(&mut self, now: Instant, addresses: &[SocketAddr]) {
        if self.left {
            return;
        }
        let own = self.driver.identity().address;
        for &address in addresses {
            let known = self
                .roster
                .rows()
                .any(|row| row.state == MemberState::Alive && row.identity.address == address);
            if address == own || known || address.port() == 0 {
                continue;
            }
            if self.boots.is_none() && !self.setup.public && is_public(address.ip()) {
                if self.may_say(now, "public seed", COMPLAIN) {
                    tracing::error!(%address, "a peer has a public address and gossip is plaintext: not asked; seal it by `cluster.keys_file`, or write `cluster.insecure: true`");
                }
                continue;
            }
            self.joining = Some(now);
            self.send_join(now, None, address, 0);
        }
    }

    pub(super) fn send_join(
        &mut self,
        now: Instant,
        to: Option<Actor>,
        address: SocketAddr,
        nonce: u64,
    ) {
        let join = Join { identity: self.driver.identity(), nonce, meta: self.meta() };
        let payload = Record::Join(join).bytes();
        self.send_to(now, Kind::Join, to, address, &payload, Priority::Membership);
    }

    /// Somebody wants to be let in.
    pub(super) fn hear_join(
        &mut self,
        now: Instant,
        from: SocketAddr,
        sender: Actor,
        join: Join,
    ) -> Result<(), Reason> {
        let joiner = join.identity;
        if joiner.actor != sender || !joiner.plausible() {
            return Err(Reason::Undecodable);
        }
        if self.left {
            return Ok(());
        }
        if self.boots.is_none() && !self.setup.public && is_public(joiner.address.ip()) {
            return Err(Reason::PublicAddress);
        }
        let unix_ms = self.unix_ms(now);
        if joiner.generation > unix_ms.saturating_add(FURTHEST_AHEAD.as_millis() as u64) {
            return Err(Reason::FutureGeneration);
        }
        if joiner.address == self.driver.identity().address {
            self.hear_rival(now, joiner.actor, &join.meta.name, from);
            return Err(Reason::Duplicate);
        }
        let full = self.driver.membership().len() >= MOST_MEMBERS;
        if full && !self.driver.knows(joiner.address) {
            return Err(Reason::MembersFull);
        }
        if join.nonce == 0 {
            self.challenge(now, from, joiner, join.meta.name);
            return Ok(());
        }
        if !self.nonces(now, joiner).contains(&join.nonce) {
            return Err(Reason::BadNonce);
        }
        self.driver.let_in(now, unix_ms, joiner)?;
        self.look_again = true;
        self.answered = true;
        // The others learn of the joiner by gossip; so they learn its name as well.
        self.driver.spread(&Record::Meta(join.meta).bytes());
        let own = Record::Meta(self.meta()).bytes();
        self.send(now, Kind::Meta, joiner, &own, Priority::Membership);
        Ok(())
    }

    fn challenge(&mut self, now: Instant, from: SocketAddr, joiner: Identity, name: String) {
        // Whatever is known there and would win over the joiner, or was declared dead as it is now.
        let wins = |member: &&foca::Member<Identity>| {
            let known = member.id();
            let dead = member.state() == foca::State::Down && known.actor == joiner.actor;
            known.address == joiner.address
                && (known.actor != joiner.actor || known.generation > joiner.generation || dead)
        };
        let rivals = self.driver.membership().filter(wins);
        let highest = rivals.map(|rival| rival.id().generation).max().unwrap_or(0);
        let nonce = self.nonces(now, joiner)[0];
        let to = joiner.actor;
        let claimed = joiner.address;
        let challenge = Challenge { to, claimed, asked_from: from, name, nonce, highest };
        let payload = Record::Challenge(challenge).bytes();
        self.send_to(now, Kind::Join, None, joiner.address, &payload, Priority::Membership);
    }

    /// This window's nonce and the one before: nothing need be kept of who asked.
    fn nonces(&self, now: Instant, joiner: Identity) -> [u64; 2] {
        let window = now.saturating_duration_since(self.began).as_secs() / NONCE_WINDOW.as_secs();
        let mut claim = Vec::with_capacity(40);
        encode(&(joiner.actor, joiner.address), &mut claim);
        [window, window.wrapping_sub(1)].map(|window| {
            // 0 means that there is none.
            stable_hash(self.secret ^ window, &claim).max(1)
        })
    }

    /// We are asked to prove our address; or somebody else who claims it is.
    pub(super) fn hear_challenge(
        &mut self,
        now: Instant,
        from: SocketAddr,
        sender: Actor,
        challenge: Challenge,
    ) {
        if self.left {
            return;
        }
        let own = self.driver.identity();
        if challenge.to != own.actor {
            // From our own address it was a former boot of ours, which is gone.
            if challenge.asked_from != own.address && challenge.claimed == own.address {
                self.hear_rival(now, challenge.to, &challenge.name, challenge.asked_from);
            }
            return;
        }
        let unix_ms = self.unix_ms(now);
        let ceiling = unix_ms.saturating_add(FURTHEST_AHEAD.as_millis() as u64);
        if challenge.highest >= own.generation && challenge.highest < ceiling {
            let generation = generation(unix_ms, challenge.highest);
            self.driver.become_known_as(now, Identity { generation, ..own });
        }
        self.send_join(now, Some(sender), from, challenge.nonce);
    }

    /// Somebody claims our address.
    fn hear_rival(&mut self, now: Instant, rival: Actor, name: &str, from: SocketAddr) {
        if self.may_say(now, "rival", COMPLAIN) {
            tracing::error!(
                node = name, boot = %rival, %from, address = %self.setup.address,
                "another node claims our address: give it a `cluster.advertise_addr` of its own"
            );
        }
        if self.boots.is_none() && !self.setup.public && is_public(from.ip()) {
            return;
        }
        let holder = self.setup.name.0.to_string();
        let refused = Record::Refused(Refused { to: rival, holder }).bytes();
        self.send_to(now, Kind::Join, Some(rival), from, &refused, Priority::Views);
    }

    /// We are refused.
    pub(super) fn hear_refused(&mut self, now: Instant, refused: Refused) {
        if refused.to != self.setup.actor {
            return;
        }
        let fault = format!(
            "the address {} is held by the node `{}`: give this node a `cluster.advertise_addr` of its own",
            self.setup.address, refused.holder
        );
        if self.may_say(now, "refused", COMPLAIN) {
            tracing::error!("not let into the cluster: {fault}");
        }
        self.fault = Some((now, fault));
    }

    /// Gossip names another actor at our address with a higher generation: it wins over us
    /// everywhere, unless we take a higher one. A former boot of a clock that was ahead does so
    /// once; a living rival again and again.
    pub(super) fn answer_claims(&mut self, now: Instant) {
        let Some((claimed, rival)) = self.driver.take_claim() else { return };
        let own = self.driver.identity();
        if claimed < own.generation || self.left {
            return;
        }
        self.claims += 1;
        if self.may_say(now, "claim", COMPLAIN) {
            tracing::error!(boot = %rival, address = %own.address, "another boot held our address with a later generation: if this repeats, two nodes advertise it");
        }
        self.driver.become_known_as(now, Identity { generation: claimed + 1, ..own });
        self.herald.hurry(now);
        self.outputs.push_back(Output::Members);
    }
}
