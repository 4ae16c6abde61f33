//! The node: what joins the two wings. Boot, build the next snapshot, reload by one publish, drain.
//!
//! ```text
//! plan ─┬─ pools, limiters (carried over when unchanged) ─┐
//!       ├─ listeners (carried over by address)            ├─ Snapshot ── published ── workers
//!       └─ cluster: ledger ⇄ levels, verdicts ⇄ votes ────┘
//! ```
//!
//! Nothing here is process-wide but what `run` does for the command line (signals, the log): the
//! demo and the tests run several nodes in one process.

mod acts;
pub mod backend_server;
mod boot;
mod build;
pub mod certs;
mod check;
pub mod client;
mod demo;
mod drain;
mod expiry;
mod journal;
pub mod keys;
mod listeners;
mod logging;
mod orders;
mod overlay;
mod reload;
mod report;
mod run;
mod tickets;

pub use boot::{BootError, Node};
pub use check::check;
pub use demo::demo;
pub use reload::Reload;
pub use run::run;
