//! The way of a connection: accepted → admitted → dialled → relayed → told.
//!
//! ```text
//!   Workers ── one thread per core ──┐   Snapshot ── published whole by the node
//!     accept loop (per listener)     │      │ by_listener
//!       └─ live: one connection ─────┴──────▶ Rule ─ access, caps, limiter, pool
//!            └─ Tale ──▶ RuleStats, AccessLog
//! ```
//!
//! `life` tells a connection's way in one short function. `balancer` is the same way for programs
//! that accept their connections themselves.

mod accept;
pub mod access_log;
pub mod balancer;
mod cut;
mod door;
mod farewell;
mod greeting;
mod life;
mod limits;
mod outcome;
pub mod plan;
mod rule;
mod stats;
mod tale;
mod worker;
mod workers;

pub use access_log::AccessLog;
pub use balancer::{BalanceError, Balancer, BalancerBuilder, Served, StartError};
pub use outcome::{Level, Outcome, Reason, Side};
pub use plan::{AccessLogFormat, AccessLogOutput, AccessLogPlan, RulePlan};
pub use rule::{Rule, RuleTls, Snapshot};
pub use stats::{Phase, PhaseFigures, RuleFigures, RuleStats};
pub use workers::Workers;
