//! Health: from results of checks and connects to a verdict, and from verdicts to who is used.
//! Pure: takes `now`, knows no socket.
//!
//! ```text
//!                    ┌─────────────── Watch ───────────────┐
//! checks ────────────┼→ Streak ─→ own verdict ──┐          │
//! peers' votes ──────┼──────────────────────────┴→ join ───┼→ Opinion ─┐
//! who shares ────────┼→ Rota ─→ whether to check at all    │           │
//! connect failures ──┴→ check at once ─────────────────────┘           │
//! connect failures ──→ Ejection ───────────────────────────────────────┼→ Condition ─→ choose → Choice
//! slow start, doubt ──→ percent of the weight ─────────────────────────┘
//! ```

mod choice;
mod ejection;
mod peers;
mod plan;
mod rota;
mod slow_start;
mod streak;
mod verdicts;
mod watch;

pub use choice::{Choice, Condition, Standing, choose};
pub use ejection::{Ejection, may_eject};
pub use peers::{NoPeers, Opinion, Peers, Vote, join, majority};
pub use plan::{CheckKind, CheckPlan, OutlierPlan};
pub use rota::{ALL_BELOW, CHECKERS, Duty, Rota};
pub use slow_start::SlowStart;
pub use streak::Streak;
pub use verdicts::{OwnVerdict, Report, Sighting, Verdict, Verdicts};
pub use watch::{Checked, Heard, Turn, Watch};
