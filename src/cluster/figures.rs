//! What the cluster wing counts.

use super::asks::AskCounts;
use std::time::Duration;

use super::wire::reason::Drops;
use super::wire::{Kind, Reason};

/// Of caps over the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseFigures {
    /// Keys of which this node holds or wants permits, now.
    pub claimed: u64,
    /// Keys in this node's book, now.
    pub booked: u64,
    /// Keys whose bandwidth this node splits, now.
    pub split: u64,
    /// Permits lent as an owner.
    pub lent: u64,
    /// Holders called upon to give back.
    pub recalled: u64,
    /// Times that a holder was told that a key is full.
    pub full: u64,
    /// Reports that found no room in the book.
    pub crowded: u64,
}

/// Push/pulls since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncFigures {
    /// Calls of ours that were done.
    pub called: u64,
    /// Calls of ours that failed.
    pub failed: u64,
    /// Peers' calls that were done.
    pub answered: u64,
    /// Calls of peers, or of whoever called, that failed.
    pub unanswered: u64,
}

impl SyncFigures {
    /// With their role and result, as metrics call them.
    pub fn labelled(&self) -> Vec<([&'static str; 2], u64)> {
        vec![
            (["caller", "done"], self.called),
            (["caller", "failed"], self.failed),
            (["called", "done"], self.answered),
            (["called", "failed"], self.unanswered),
        ]
    }
}

/// Counters since start and gauges of now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Datagrams and bytes sent, by type.
    pub sent: Vec<(&'static str, u64, u64)>,
    /// Datagrams and bytes received and taken for good, by type.
    pub received: Vec<(&'static str, u64, u64)>,
    /// Datagrams dropped, by reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// Whether datagrams are authenticated.
    pub authenticated: bool,
    /// The names of our keys, the one that seals first; none in plaintext.
    pub keys: Vec<u8>,
    /// Boots of peers that passed their challenge.
    pub boots: u64,
    /// Nodes of which two boots live.
    pub clones: u64,
    /// Rows in the books of keys that this node owns or backs up.
    pub rows: u64,
    /// Those keys.
    pub owned_keys: u64,
    /// Reports that the books had no place for.
    pub owner_untracked: u64,
    /// Times that an owner did not answer and its backup was asked instead.
    pub owner_failovers: u64,
    /// Reports of keys sent to owners and backups.
    pub reports: u64,
    /// Of them, sent again as nobody answered.
    pub reports_resent: u64,
    /// The usual time from a report to the owner's answer, of the slowest owner.
    pub owner_rtt: Duration,
    /// Alive members whose configuration digest is known and differs from ours.
    pub drifted: u64,
    /// Local health score, 0 is good, 8 worst.
    pub health_score: u64,
    /// Times that the traffic cap held something back.
    pub throttled: u64,
    /// Updates that are still being spread.
    pub backlog: u64,
    /// Active members, this node included.
    pub alive: u64,
    /// Pairs of alive nodes with one name, and claims of others on our address that stand.
    pub duplicates: u64,
    /// Panics that the agent survived by a new start.
    pub restarts: u64,
    /// Milliseconds since the agent last ran; it runs several times a second.
    pub silent_ms: u64,
    /// Caps over the cluster.
    pub leases: LeaseFigures,
    /// Asks of workers.
    pub asks: AskCounts,
    /// Asks that were not taken, because too many were waiting for the agent.
    pub asks_crowded: u64,
    /// Asks that ended because the agent stood still.
    pub asks_stuck: u64,
    /// Acts held, those that are over included.
    pub acts: u64,
    /// Acts that found no room.
    pub acts_refused: u64,
    /// Writes of the state directory that went well, and that failed.
    pub state_writes: (u64, u64),
    /// Push/pulls.
    pub syncs: SyncFigures,
}

/// One more than the highest number of a kind.
const KINDS: usize = 16;

/// Datagrams by type, in both directions, and what was dropped.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// By the kind's number, some of which nobody has.
    sent: [(u64, u64); KINDS],
    received: [(u64, u64); KINDS],
    /// Dropped, by reason.
    pub dropped: Drops,
}

impl Traffic {
    /// One datagram out.
    pub fn sent(&mut self, kind: Kind, bytes: usize) {
        add(&mut self.sent[kind as usize], bytes);
    }

    /// Frames of a stream out, of so many bytes together.
    pub fn sent_frames(&mut self, frames: usize, bytes: usize) {
        let (count, all) = &mut self.sent[Kind::Sync as usize];
        *count += frames as u64;
        *all += bytes as u64;
    }

    /// One datagram in.
    pub fn received(&mut self, kind: Kind, bytes: usize) {
        add(&mut self.received[kind as usize], bytes);
    }

    /// One datagram that is not heard.
    pub fn drop(&mut self, reason: Reason) {
        self.dropped.count(reason);
    }

    /// Bytes sent of `kind`, and of how many datagrams: (datagrams, bytes).
    pub fn sent_of(&self, kind: Kind) -> (u64, u64) {
        self.sent[kind as usize]
    }

    /// Bytes sent since start.
    pub fn bytes_sent(&self) -> u64 {
        self.sent.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Labelled: sent and received.
    pub fn labelled(&self) -> [Vec<(&'static str, u64, u64)>; 2] {
        [&self.sent, &self.received].map(|side| {
            let labelled = |kind: &Kind| {
                let (count, bytes) = side[*kind as usize];
                (kind.label(), count, bytes)
            };
            Kind::ALL.iter().map(labelled).collect()
        })
    }
}

fn add((count, bytes): &mut (u64, u64), more: usize) {
    *count += 1;
    *bytes += more as u64;
}
