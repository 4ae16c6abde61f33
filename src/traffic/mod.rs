//! Traffic: who may come in, how often, how many at once and how fast. Pure: takes `now`, knows no
//! socket and no task.

pub mod plan;
pub mod window;

pub use plan::{
    AccessPlan, Action, Algorithm, BandwidthPlan, CapsPlan, LimitKey, LimitPlan, LimitScope, Quota,
    Rates,
};
pub use window::{Alone, Ledger, Levels, Question, Spent};
