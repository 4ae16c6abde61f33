//! Traffic: who may come in, how often, how many at once and how fast. Pure: takes `now`, knows no
//! socket and no task.
//!
//! ```text
//!   client ─ Bans ─ Access ─ Caps ─ Limiter ────────── relay, paced by Pacer and ClientPacers
//!            networks  permits  │ meter: token bucket or fixed window
//!                               │ table: one slot per key, fixed memory
//!                               └ Limits: reports out, levels in ─ the cluster wing
//! ```

pub mod plan;
pub mod window;

mod access;
mod ask;
mod authorization;
mod bans;
mod bell;
mod caps;
mod client_key;
mod client_pacers;
mod counts;
mod glob;
mod holdings;
mod limiter;
mod limits;
mod marks;
pub mod meter;
mod networks;
mod pacer;
mod queue;
mod shared_pace;
mod subject;
mod table;

pub use access::Access;
pub use ask::{Answer, Answering, Ask, Asking};
pub use authorization::{
    Authorization, AuthorizationPlan, AuthorizationRule, Judgement, Permission, ShortFault, Way,
    parse_short,
};
pub use bans::Bans;
pub use caps::{CapReached, Caps, Denied, Permit};
pub use client_pacers::{ClientPace, ClientPacers};
pub use counts::LimitCounts;
pub(crate) use holdings::spare;
pub use holdings::{CapKey, Holder, Holding, Holdings, Standing};
pub use limiter::{Decision, Limiter, Origin};
pub use limits::Limits;
pub use pacer::Pacer;
pub use plan::{
    AccessPlan, Action, Algorithm, BandwidthPlan, CapsPlan, Consistency, IPV6_PREFIX, LimitKey,
    LimitPlan, LimitScope, MAX_KEYS, OnIsolated, OnPartition, Quota, Rates, Sharing,
};
pub use queue::QueuePlace;
pub use shared_pace::{Demand, Paced, SharedPace};
pub use subject::Subject;
pub use table::Fetch;
pub use window::{Alone, Company, Counting, Ledger, Level, Levels, Report};
