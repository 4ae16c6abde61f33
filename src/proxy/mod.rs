//! The way of a connection: accepted → admitted → dialled → relayed → told.

pub mod plan;

pub use plan::{AccessLogFormat, AccessLogOutput, AccessLogPlan, RulePlan};
