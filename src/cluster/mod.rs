//! The cluster wing: membership by SWIM (foca), counters and health views between nodes.
//!
//! ```text
//!            ┌──────────────────────── machine (pure: now, input → output) ───────────────────┐
//!  socket ──▶│ wire ─▶ budget ─┬─ swim ─▶ driver (foca, timers, sieve, score) ─▶ roster ──────│─▶ members
//!   (shell)  │                 ├─ join ─▶ challenge the claimed address, then let in          │
//!            │                 ├─ counters ─▶ exchange, books ─▶ levels                       │
//!            │                 ├─ load ─▶ loads ─▶ gauges                                     │
//!            │                 └─ health ─▶ verdicts ─▶ votes ────────────────────────────────│─▶ peers
//!  socket ◀──│ allowance ◀─ driver · herald (whom to ask to be let in) · exchange · verdicts  │
//!            └────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The [`machine`] knows neither socket nor clock; [`Cluster`] runs one on a thread of its own.

pub mod acts;
pub mod asks;
mod bf16;
pub mod books;
pub mod boots;
pub mod budget;
pub mod codec;
mod desk;
pub mod driver;
pub mod exchange;
pub mod figures;
pub mod handle;
pub mod herald;
pub mod identity;
pub mod keyring;
pub mod leases;
pub mod line;
pub mod loads;
pub mod machine;
pub mod owners;
pub mod plan;
pub mod private;
pub mod profile;
pub mod replay;
pub mod reporters;
pub mod roster;
pub mod score;
mod shell;
pub mod sieve;
pub mod state;
mod streams;
pub mod sync;
pub mod tickets;
pub mod timers;
pub mod verdicts;
pub mod waiting;
pub mod wire;

pub use figures::Figures;
pub use handle::{Cluster, ClusterError, Windows};
pub use plan::{ClusterPlan, Keys, SyncAt};
pub use private::is_public;
pub use profile::Profile;
pub use roster::{MemberState, MemberView};

/// Most members of a cluster; joins beyond are refused and counted.
pub const MOST_MEMBERS: usize = 4096;
