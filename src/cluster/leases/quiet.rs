//! Who does not answer. A node that was asked several times and has not been heard of at all since
//! is taken for dead long before the members agree that it is; whatever is heard of it ends that.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::base::Actor;

/// Silent for so long,
const LONG: Duration = Duration::from_millis(400);
/// and asked so often: what 5 % of loss does once in a million times is not silence.
const OFTEN: u32 = 6;

/// Since when, and how often asked in vain.
#[derive(Debug, Default)]
pub struct Quiet(HashMap<Actor, (Instant, u32)>);

impl Quiet {
    /// `peer` was sent something that it answers.
    pub fn asked(&mut self, now: Instant, peer: Actor) {
        self.0.entry(peer).or_insert((now, 0)).1 += 1;
    }

    /// Something was heard of `peer`.
    pub fn heard(&mut self, peer: Actor) {
        self.0.remove(&peer);
    }

    /// Whether `peer` is taken for dead.
    pub fn is(&self, now: Instant, peer: Actor) -> bool {
        self.0.get(&peer).is_some_and(|(since, times)| {
            *times >= OFTEN && now.saturating_duration_since(*since) >= LONG
        })
    }

    /// Forgets all but those that `stay`.
    pub fn retain(&mut self, stay: impl Fn(Actor) -> bool) {
        self.0.retain(|peer, _| stay(*peer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BootId, NodeId, time};

    #[test]
    fn who_is_asked_often_and_long_in_vain_is_quiet_until_it_is_heard() {
        let peer = Actor { node: NodeId(1), boot: BootId::new(1) };
        let (mut quiet, now) = (Quiet::default(), time::now());
        quiet.asked(now, peer);
        assert!(!quiet.is(now + LONG, peer), "one datagram may be lost");
        (0..OFTEN).for_each(|_| quiet.asked(now, peer));
        assert!(!quiet.is(now + LONG / 2, peer) && quiet.is(now + LONG, peer));
        quiet.heard(peer);
        assert!(!quiet.is(now + LONG, peer));
    }
}
