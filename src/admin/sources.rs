//! Where the shown values come from: the node implements this, so that admin knows no wing.

use super::orders::{Denied, Order};
use super::shapes;

/// What admin asks of the node. Called on the control runtime, never on a worker.
pub trait Sources: Send + Sync {
    /// `/api/v1/status`.
    fn status(&self) -> shapes::Status;
    /// `/api/v1/members`.
    fn members(&self) -> shapes::Members;
    /// `/api/v1/rules`.
    fn rules(&self) -> shapes::Rules;
    /// `/api/v1/backends`.
    fn backends(&self) -> shapes::Backends;
    /// `/api/v1/limits`.
    fn limits(&self) -> shapes::Limits;
    /// `/api/v1/bans`.
    fn bans(&self) -> shapes::Bans;
    /// Orders something of the whole cluster; what that comes to, in words.
    ///
    /// # Errors
    /// Why it is not carried out.
    fn order(&self, order: Order) -> Result<String, Denied>;
    /// What `/metrics` adds to the shapes above.
    fn metrics(&self) -> Metrics;
    /// `Err` with the reasons when `/readyz` should fail.
    fn ready(&self) -> Result<(), Vec<String>>;
    /// Asks the node to leave the cluster and stop, as SIGTERM does.
    fn leave(&self);
}

/// Figures that no JSON shape shows. Counters are since start.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Per rule.
    pub rules: Vec<RuleMetrics>,
    /// Reloads that were taken, and that were refused.
    pub reloads: (u64, u64),
    /// Unix seconds of the running configuration.
    pub config_loaded_at: f64,
    /// Pauses of accept loops, by cause (`emfile`, …).
    pub accept_pauses: Vec<(&'static str, u64)>,
    /// Access log lines dropped because the writer could not keep up.
    pub access_log_dropped: u64,
    /// Acts that hold, by kind (`ban`, `drain`, `backend`).
    pub acts: Vec<(&'static str, u64)>,
    /// Acts that found no room.
    pub acts_refused: u64,
    /// Gossip, when in a cluster.
    pub gossip: Option<GossipMetrics>,
}

/// Figures of one rule.
#[derive(Clone, Debug, Default)]
pub struct RuleMetrics {
    /// Rule.
    pub rule: String,
    /// Seconds a session's phase took, as a histogram: (phase, upper bounds, counts per bucket
    /// not cumulative with one more for +Inf, sum).
    pub phases: Vec<PhaseMetrics>,
    /// Connections waiting for a full backend.
    pub queued: u64,
    /// Clients with a connection cap or bandwidth state.
    pub tracked_clients: u64,
}

/// One histogram.
#[derive(Clone, Debug, Default)]
pub struct PhaseMetrics {
    /// `wait`, `connect` or `total`.
    pub phase: &'static str,
    /// Upper bounds in seconds.
    pub bounds: &'static [f64],
    /// Counts per bucket (not cumulative); one more than `bounds`, for +Inf.
    pub counts: Vec<u64>,
    /// Sum in seconds.
    pub sum: f64,
}

/// Figures of caps over the cluster.
#[derive(Clone, Debug, Default)]
pub struct LeaseMetrics {
    /// Permits that this node holds.
    pub held: u64,
    /// Of them, in use.
    pub used: u64,
    /// Keys of which it holds permits, or wants some.
    pub claimed: u64,
    /// Keys whose books it keeps, as primary or backup.
    pub booked: u64,
    /// Keys whose bandwidth it splits.
    pub split: u64,
    /// What it did as an owner, by event.
    pub events: Vec<(&'static str, u64)>,
    /// Connections let in without a permit, because nobody answered.
    pub unasked: u64,
}

/// Figures of gossip.
#[derive(Clone, Debug, Default)]
pub struct GossipMetrics {
    /// Datagrams and bytes sent, by type.
    pub sent: Vec<(&'static str, u64, u64)>,
    /// Datagrams and bytes received, by type.
    pub received: Vec<(&'static str, u64, u64)>,
    /// Datagrams dropped, by reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// Whether datagrams are authenticated.
    pub authenticated: bool,
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
    pub owner_rtt_s: f64,
    /// Alive members whose configuration digest differs from ours.
    pub drifted: u64,
    /// Local health score, 0 is good.
    pub health_score: u64,
    /// Times that the traffic cap held something back.
    pub throttled: u64,
    /// Panics that the gossip agent survived by a new start.
    pub restarts: u64,
    /// Seconds since the gossip agent last ran; it runs several times a second.
    pub silent_s: f64,
    /// Alive nodes that share a name or claim our address.
    pub duplicates: u64,
    /// Asks of workers to other nodes, by how they ended.
    pub asks: Vec<(&'static str, u64)>,
    /// Caps over the cluster.
    pub leases: LeaseMetrics,
    /// Writes of the state directory that went well, and that failed.
    pub state_writes: (u64, u64),
    /// Push/pulls by role and result.
    pub syncs: Vec<([&'static str; 2], u64)>,
    /// The name of the key that seals; 0 in plaintext.
    pub sealing_key: u8,
    /// Boots of peers that passed their challenge.
    pub boots: u64,
    /// Nodes of which two boots live.
    pub clones: u64,
}
