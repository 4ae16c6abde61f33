//! What is to be sent to boots that have not passed their challenge: it waits here, unsealed, while
//! they are challenged. So the first probe of a peer is a moment late, and not lost.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::wire::Kind;
use crate::base::Actor;

/// Between two challenges of one boot.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// A boot that has not answered after this will not; foca finds out as well.
const PATIENCE: Duration = Duration::from_secs(2);
/// Payloads that wait for one boot; further ones push out the oldest.
const MOST_EACH: usize = 8;
/// Boots waited for; more than this many that were never spoken to is an upheaval in which
/// everything is said again.
const MOST_BOOTS: usize = 512;

/// What a datagram will carry.
pub type Payload = (Kind, Vec<u8>);

#[derive(Debug)]
struct Line {
    address: SocketAddr,
    began: Instant,
    asked: Instant,
    payloads: Vec<Payload>,
}

/// Payloads by boot.
#[derive(Debug, Default)]
pub struct Waiting(BTreeMap<Actor, Line>);

/// What became of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The first for its boot, which has to be challenged now.
    First,
    /// It waits with others.
    Behind,
    /// There is no room; it is lost, as any datagram may be.
    Lost,
}

impl Waiting {
    /// Keeps a payload until `to`, at `address`, is known.
    pub fn hold(
        &mut self,
        now: Instant,
        to: Actor,
        address: SocketAddr,
        kind: Kind,
        payload: &[u8],
    ) -> Held {
        if let Some(line) = self.0.get_mut(&to) {
            if line.payloads.len() >= MOST_EACH {
                line.payloads.remove(0);
            }
            line.address = address;
            line.payloads.push((kind, payload.to_vec()));
            return Held::Behind;
        }
        if self.0.len() >= MOST_BOOTS {
            return Held::Lost;
        }
        let payloads = vec![(kind, payload.to_vec())];
        self.0.insert(to, Line { address, began: now, asked: now, payloads });
        Held::First
    }

    /// What waited for `to`, which is known now.
    pub fn release(&mut self, to: Actor) -> Option<(SocketAddr, Vec<Payload>)> {
        self.0.remove(&to).map(|line| (line.address, line.payloads))
    }

    /// Whom to challenge again; who never answered is given up.
    pub fn due(&mut self, now: Instant) -> Vec<(Actor, SocketAddr)> {
        let since = |then: Instant| now.saturating_duration_since(then);
        self.0.retain(|_, line| since(line.began) < PATIENCE);
        let mut due = Vec::new();
        for (actor, line) in &mut self.0 {
            if since(line.asked) >= ASK_AGAIN {
                line.asked = now;
                due.push((*actor, line.address));
            }
        }
        due
    }

    /// Payloads that wait.
    pub fn len(&self) -> usize {
        self.0.values().map(|line| line.payloads.len()).sum()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::now;
    use crate::base::{BootId, NodeId};

    fn actor(node: u64) -> Actor {
        Actor { node: NodeId(node), boot: BootId::new(1) }
    }

    fn address() -> SocketAddr {
        ([10, 0, 0, 1], 9).into()
    }

    #[test]
    fn what_waits_is_released_in_order_once() {
        let (mut waiting, now) = (Waiting::default(), now());
        assert_eq!(waiting.hold(now, actor(1), address(), Kind::Swim, b"a"), Held::First);
        assert_eq!(waiting.hold(now, actor(1), address(), Kind::Meta, b"b"), Held::Behind);
        let held = vec![(Kind::Swim, b"a".to_vec()), (Kind::Meta, b"b".to_vec())];
        assert_eq!(waiting.release(actor(1)), Some((address(), held)));
        assert_eq!(waiting.release(actor(1)), None);
    }

    #[test]
    fn a_boot_is_challenged_again_and_then_given_up() {
        let (mut waiting, start) = (Waiting::default(), now());
        waiting.hold(start, actor(1), address(), Kind::Swim, b"a");
        let asks = (1..40).filter(|i| !waiting.due(start + *i * ASK_AGAIN / 2).is_empty());
        assert_eq!(asks.count(), 9);
        assert!(waiting.is_empty());
    }

    #[test]
    fn it_is_bounded() {
        let (mut waiting, now) = (Waiting::default(), now());
        for node in 0..2 * MOST_BOOTS as u64 {
            for _ in 0..2 * MOST_EACH {
                waiting.hold(now, actor(node), address(), Kind::Swim, b"a");
            }
        }
        assert_eq!(waiting.len(), MOST_BOOTS * MOST_EACH);
    }
}
