//! Health: from results of checks and connects to a verdict, and from verdicts to who is used.
//! Pure: takes `now`, knows no socket.
//!
//! ```text
//! checks ──→ Streak ──→ own verdict ──┐
//! peers' votes ───────────────────────┴→ join → Opinion ─┐
//! connect failures ──→ Ejection ─────────────────────────┼→ Condition ─→ choose → Choice
//! slow start, doubt ──→ percent of the weight ───────────┘
//! ```

mod choice;
mod ejection;
mod peers;
mod plan;
mod slow_start;
mod streak;
mod verdicts;

pub use choice::{Choice, Condition, Standing, choose};
pub use ejection::{Ejection, may_eject};
pub use peers::{NoPeers, Opinion, Peers, Vote, join};
pub use plan::{CheckKind, CheckPlan, OutlierPlan};
pub use slow_start::SlowStart;
pub use streak::Streak;
pub use verdicts::{OwnVerdict, Verdict, Verdicts};
