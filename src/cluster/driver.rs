//! foca and what it leaves to its driver: timers in order, suspicions that were refuted, the number
//! of transmissions, leaving, and the doubt of a node that may be deaf.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foca::{Config, Foca, Header, Member, Message, Notification, State, Timer};
use parking_lot::Mutex;
use rand::rngs::StdRng;

use super::MOST_MEMBERS;
use super::codec::{Observed, SwimCodec};
use super::identity::{FURTHEST_AHEAD, Identity};
use super::profile::{Profile, transmissions};
use super::score::Score;
use super::sieve::{Inbox, Sieve};
use super::timers::Timers;
use super::wire::Reason;
use crate::base::Actor;

/// Between two looks at a suspect when we are in doubt of our own senses.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// A timer that is this late shows that the process stood still.
const STALL: Duration = Duration::from_millis(250);

/// foca, driven.
pub struct Driver {
    foca: Foca<Identity, SwimCodec, StdRng, Sieve>,
    config: Config,
    profile: Profile,
    turn: Turn,
    observed: Arc<Mutex<Observed>>,
    incarnation: foca::Incarnation,
    /// Of what foca spreads: read by the machine.
    pub inbox: Inbox,
    /// How far we may trust ourselves.
    pub score: Score,
}

/// What foca wants done, collected for the machine.
#[derive(Default)]
struct Turn {
    now: Option<Instant>,
    timers: Timers<Timer<Identity>>,
    /// When suspects are told so while they still have time to refute.
    warnings: Timers<(Identity, foca::Incarnation)>,
    send: Vec<(Identity, Vec<u8>)>,
    failed_probes: Vec<Identity>,
    doubted: Vec<Member<Identity>>,
    /// Whose timers foca still listens to: another one since it last changed its identity.
    token: foca::TimerToken,
    rejoined: bool,
    changed: bool,
}

impl foca::Runtime<Identity> for &mut Turn {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        self.changed = true;
        if let Notification::Rejoin(_) = notification {
            self.rejoined = true;
        }
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        self.send.push((to, data.to_vec()));
    }

    fn submit_after(&mut self, timer: Timer<Identity>, after: Duration) {
        let Some(now) = self.now else { return };
        match &timer {
            Timer::ChangeSuspectToDown { member_id, incarnation, .. } => {
                self.failed_probes.push(*member_id);
                // Gossip of it may be lost, or be over before a link works again; then nobody
                // would tell the suspect, and a healthy node would be declared dead.
                for part in [2, 3] {
                    self.warnings.push(now, now + after * part / 4, (*member_id, *incarnation));
                }
            }
            Timer::ProbeRandomMember(token) => self.token = *token,
            _ => {}
        }
        self.timers.push(now, now + after, timer);
    }
}

/// The highest generation that may be honest.
fn ceiling(unix_ms: u64) -> u64 {
    unix_ms.saturating_add(FURTHEST_AHEAD.as_millis() as u64)
}

impl Driver {
    /// foca of the node `identity`, as yet alone.
    pub fn new(identity: Identity, profile: Profile, rng: StdRng) -> Self {
        let codec = SwimCodec::new(identity);
        let observed = Arc::clone(&codec.0);
        let (sieve, inbox) = Sieve::new();
        let config = profile.config(1);
        let foca = Foca::with_custom_broadcast(identity, config.clone(), rng, codec, sieve);
        Driver {
            foca,
            config,
            profile,
            turn: Turn::default(),
            observed,
            incarnation: 0,
            inbox,
            score: Score::new(profile.memory()),
        }
    }

    /// Who we are now; the generation grows with every rejoin.
    pub fn identity(&self) -> Identity {
        *self.foca.identity()
    }

    /// Everybody foca knows, down members included, this node not.
    pub fn membership(&self) -> impl ExactSizeIterator<Item = &Member<Identity>> {
        self.foca.iter_membership_state()
    }

    /// Members that are not down, this node not counted.
    pub fn active(&self) -> usize {
        self.foca.num_members()
    }

    /// Updates and items that foca still spreads.
    pub fn backlog(&self) -> usize {
        self.foca.updates_backlog() + self.foca.custom_broadcast_backlog()
    }

    /// Timers waiting.
    pub fn timers(&self) -> usize {
        self.turn.timers.len()
    }

    /// A message of foca's came in from `sender`.
    pub fn hear(
        &mut self,
        now: Instant,
        unix_ms: u64,
        sender: Actor,
        payload: &[u8],
    ) -> Result<(), Reason> {
        {
            let mut observed = self.observed.lock();
            observed.ceiling = ceiling(unix_ms);
            observed.above_ceiling = false;
            observed.sender = Some(sender);
        }
        self.turn.now = Some(now);
        let heard = self.foca.handle_data(payload, &mut self.turn);
        // Who still speaks to a former generation of ours would soon declare it dead: show them
        // the present one.
        let outdated = std::mem::take(&mut self.observed.lock().outdated);
        for sender in outdated {
            if let Err(error) = self.foca.announce(sender, &mut self.turn) {
                tracing::debug!(%error, "cannot announce");
            }
        }
        self.after(now);
        heard.map_err(|error| match error {
            foca::Error::DataFromOurselves => Reason::Own,
            foca::Error::DataTooBig => Reason::TooLong,
            _ if self.observed.lock().above_ceiling => Reason::FutureGeneration,
            _ => Reason::Undecodable,
        })
    }

    /// Whether a message names anybody whom foca does not know.
    pub fn names_strangers(&self, payload: &[u8]) -> bool {
        let mut codec = SwimCodec(Arc::clone(&self.observed));
        let mut rest = payload;
        let Ok(header) = foca::Codec::decode_header(&mut codec, &mut rest) else { return true };
        let mut named = vec![header.src.address];
        if let Some((number, mut updates)) = rest.split_at_checked(2) {
            for _ in 0..u16::from_be_bytes([number[0], number[1]]) {
                let member: Result<Member<Identity>, _> =
                    foca::Codec::decode_member(&mut codec, &mut updates);
                let Ok(member) = member else { return true };
                named.push(member.id().address);
            }
        }
        let own = self.identity().address;
        let known = |address| address == own || self.knows(address);
        !named.into_iter().all(known)
    }

    /// Whether somebody at `address` is or was a member.
    pub fn knows(&self, address: SocketAddr) -> bool {
        self.foca.iter_membership_state().any(|member| member.id().address == address)
    }

    /// Lets a node in that proved its address: as if it had announced itself to foca.
    pub fn let_in(&mut self, now: Instant, unix_ms: u64, joiner: Identity) -> Result<(), Reason> {
        // The message is never sent: what the codec notes while writing it is not ours.
        let before = {
            let observed = self.observed.lock();
            (observed.incarnation, observed.generation)
        };
        let header = Header {
            src: joiner,
            src_incarnation: 0,
            dst: self.identity(),
            message: Message::Announce,
        };
        let mut announce = Vec::new();
        let mut codec = SwimCodec(Arc::clone(&self.observed));
        let encoded = foca::Codec::encode_header(&mut codec, &header, &mut announce);
        {
            let mut observed = self.observed.lock();
            (observed.incarnation, observed.generation) = before;
        }
        encoded.map_err(|_| Reason::Undecodable)?;
        self.hear(now, unix_ms, joiner.actor, &announce)
    }

    /// Takes over members as a peer sees them. Nothing of it is spread further: everybody compares
    /// views.
    pub fn take_over(&mut self, now: Instant, unix_ms: u64, members: Vec<Member<Identity>>) {
        self.observed.lock().ceiling = ceiling(unix_ms);
        let codec = SwimCodec(Arc::clone(&self.observed));
        let room = MOST_MEMBERS.saturating_sub(self.membership().len());
        let known: HashSet<SocketAddr> = self.membership().map(|m| m.id().address).collect();
        let mut news = 0;
        let mut wanted = members;
        wanted.retain(|member| {
            let stranger = !known.contains(&member.id().address);
            news += usize::from(stranger);
            let fits = !stranger || news <= room;
            fits && member.state() != State::Down && codec.check(member.id()).is_ok()
        });
        self.turn.now = Some(now);
        if let Err(error) = self.foca.apply_many(wanted.into_iter(), false, &mut self.turn) {
            tracing::debug!(%error, "cannot take over a view");
        }
        self.turn.changed = true;
        self.after(now);
    }

    /// Active members as this node sees them, itself included.
    pub fn view(&self) -> Vec<Member<Identity>> {
        let own = Member::new(self.identity(), self.observed.lock().incarnation, State::Alive);
        self.foca.iter_members().cloned().chain([own]).collect()
    }

    /// When the next timer is due.
    pub fn due(&self) -> Option<Instant> {
        self.turn.timers.next().into_iter().chain(self.turn.warnings.next()).min()
    }

    /// Whether `suspected` is still just that.
    fn suspects(&self, suspected: &Member<Identity>) -> bool {
        self.foca.iter_membership_state().any(|member| member == suspected)
    }

    /// Runs every timer that is due. When the first is very late we stood still, and the others
    /// could not have reached us: then that time does not count.
    pub fn run(&mut self, now: Instant) {
        if let Some(late) = self.due().map(|due| now.saturating_duration_since(due))
            && late > STALL
        {
            self.turn.timers.put_off(late);
            self.turn.warnings.put_off(late);
            self.score.stalled(late);
        }
        self.turn.now = Some(now);
        while let Some(due) = self.turn.warnings.pop(now) {
            let (member_id, incarnation) = due.timer;
            let suspected = Member::new(member_id, incarnation, State::Suspect);
            if self.suspects(&suspected) {
                self.turn.doubted.push(suspected);
            }
        }
        while let Some(due) = self.turn.timers.pop(now) {
            if let Timer::ChangeSuspectToDown { member_id, incarnation, token } = &due.timer {
                // foca asks only for the incarnation, and would tell a healthy node that it is
                // down: drop the timer when the suspicion is over.
                let suspected = Member::new(*member_id, *incarnation, State::Suspect);
                if !self.suspects(&suspected) {
                    continue;
                }
                // A node in doubt of its own senses waits longer, and tells the suspect, which may
                // never have heard that it has to refute.
                if self.score.points() > 0 && now < due.since + self.profile.patience() {
                    self.turn.doubted.push(suspected);
                    self.turn.timers.push(due.since, now + ASK_AGAIN, due.timer);
                    continue;
                }
                // Declared dead ourselves meanwhile, we took a new generation, and foca listens to
                // no timer of before: a suspect that never hears of it would stay one for ever. It
                // is told, and its time begins anew.
                if *token != self.turn.token {
                    let (member_id, incarnation) = (*member_id, *incarnation);
                    let token = self.turn.token;
                    let again = Timer::ChangeSuspectToDown { member_id, incarnation, token };
                    self.turn.doubted.push(suspected);
                    self.turn.timers.push(now, now + self.profile.suspect(), again);
                    continue;
                }
            }
            if let Err(error) = self.foca.handle_timer(due.timer, &mut self.turn) {
                tracing::debug!(%error, "a membership timer failed");
            }
            self.after(now);
        }
    }

    /// Has `item` spread to all members.
    pub fn spread(&mut self, item: &[u8]) {
        if let Err(error) = self.foca.add_broadcast(item) {
            tracing::debug!(%error, "an item cannot be spread");
        }
    }

    /// Tells some members what is to be spread without waiting for the next round.
    pub fn gossip(&mut self, now: Instant) {
        self.turn.now = Some(now);
        if let Err(error) = self.foca.gossip(&mut self.turn) {
            tracing::debug!(%error, "cannot gossip");
        }
    }

    /// Declares ourselves gone.
    pub fn leave(&mut self, now: Instant) {
        self.turn.now = Some(now);
        if let Err(error) = self.foca.leave_cluster(&mut self.turn) {
            tracing::debug!(%error, "cannot leave");
        }
        self.turn.changed = true;
    }

    /// Takes another address or a higher generation.
    pub fn become_known_as(&mut self, now: Instant, identity: Identity) {
        self.turn.now = Some(now);
        self.observed.lock().own = (identity.actor, identity.address);
        if let Err(error) = self.foca.change_identity(identity, &mut self.turn) {
            tracing::debug!(%error, "cannot change the identity");
        }
    }

    /// What foca wants to send, and to whom.
    pub fn take_sends(&mut self) -> Vec<(Identity, Vec<u8>)> {
        std::mem::take(&mut self.turn.send)
    }

    /// Suspects that are to be told so.
    pub fn take_doubted(&mut self) -> Vec<Member<Identity>> {
        std::mem::take(&mut self.turn.doubted)
    }

    /// Whether members came or went since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.turn.changed)
    }

    /// Whether the cluster had declared us down and we took a new generation.
    pub fn take_rejoined(&mut self) -> bool {
        std::mem::take(&mut self.turn.rejoined)
    }

    /// The highest claim of another actor on our address.
    pub fn take_claim(&mut self) -> Option<(u64, Actor)> {
        self.observed.lock().claim.take()
    }

    /// Draws the conclusions from what foca just did.
    fn after(&mut self, now: Instant) {
        for failed in std::mem::take(&mut self.turn.failed_probes) {
            self.score.probe_failed(now, failed.actor);
        }
        let (acks, incarnation) = {
            let mut observed = self.observed.lock();
            (std::mem::take(&mut observed.acks), observed.incarnation)
        };
        self.score.probes_answered(acks);
        if incarnation > self.incarnation {
            self.score.suspected();
        }
        self.incarnation = incarnation;
        let transmissions = transmissions(self.foca.num_members() + 1);
        if transmissions != self.config.max_transmissions {
            // Never touch `max_packet_size` here: foca asserts that its buffer keeps its size.
            self.config.max_transmissions = transmissions;
            if let Err(error) = self.foca.set_config(self.config.clone()) {
                tracing::debug!(%error, "cannot change the number of transmissions");
            }
        }
    }
}

#[cfg(test)]
mod tests;
