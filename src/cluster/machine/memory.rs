//! What the machine wants remembered over restarts, and what it begins with because it was.

use std::time::Instant;

use super::{Machine, Output};
use crate::base::Actor;
use crate::cluster::identity::{FURTHEST_AHEAD, generation};
use crate::cluster::roster::{Event, MemberState};
use crate::cluster::state::State;

/// What is remembered, and whether it changed since it was last said.
#[derive(Debug)]
pub(super) struct Memory {
    state: State,
    news: bool,
}

impl Memory {
    pub(super) fn new(state: State) -> Self {
        Memory { state, news: true }
    }
}

/// The generation to start with. One that was used before is passed, so that a clock set back mutes
/// nobody; but one from further ahead than peers believe is a clock's that was wrong, and would keep
/// us out until that day.
pub(super) fn first_generation(unix_ms: u64, state: &State) -> u64 {
    let ceiling = unix_ms.saturating_add(FURTHEST_AHEAD.as_millis() as u64);
    let believed = state.generation <= ceiling;
    generation(unix_ms, if believed { state.generation } else { 0 })
}

impl Machine {
    /// What to keep over restarts, as of now.
    pub fn state(&self, now: Instant) -> State {
        let unix_ms = self.unix_ms(now);
        let mut state = self.memory.state.clone();
        for row in self.roster.rows().filter(|row| row.shares()) {
            state.peers.insert(row.identity.address, unix_ms);
        }
        state.prune(unix_ms);
        state
    }

    /// Peers of the last life are asked besides the seeds.
    pub(super) fn recall_peers(&mut self, now: Instant) {
        for address in self.setup.state.peers.keys().filter(|peer| **peer != self.setup.address) {
            self.herald.lost(now, *address);
        }
    }

    pub(super) fn remember_peer(&mut self, now: Instant, event: &Event) {
        let (address, unix_ms) = (event.identity.address, self.unix_ms(now));
        let peers = &mut self.memory.state.peers;
        self.memory.news |= match event.state {
            MemberState::Alive => peers.insert(address, unix_ms).is_none(),
            // Who has gone for good is not looked for.
            MemberState::Left => peers.remove(&address).is_some(),
            MemberState::Suspect | MemberState::Failed => false,
        };
    }

    /// Peers that were there and have not said that they go.
    pub(super) fn remembered(&self) -> usize {
        self.memory.state.peers.len()
    }

    /// Who says that it goes is not looked for, unless it comes back.
    pub(super) fn forget_peer(&mut self, actor: Actor) {
        let Some(row) = self.roster.row(actor) else { return };
        self.memory.news |= self.memory.state.peers.remove(&row.identity.address).is_some();
    }

    pub(super) fn remember(&mut self) {
        let generation = self.driver.identity().generation;
        let memory = &mut self.memory;
        if memory.state.generation < generation {
            memory.state.generation = generation;
            memory.news = true;
        }
        if std::mem::take(&mut memory.news) {
            self.outputs.push_back(Output::Persist);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600 * 1000;

    #[test]
    fn a_generation_that_was_used_is_passed_unless_nobody_would_believe_it() {
        let begin = |unix_ms, generation| {
            first_generation(unix_ms, &State { generation, ..State::default() })
        };
        assert_eq!(begin(9 * DAY, 0), 9 * DAY);
        assert_eq!(begin(9 * DAY, 10 * DAY), 10 * DAY + 1);
        assert_eq!(begin(9 * DAY, 10 * DAY + 1), 9 * DAY);
    }
}
