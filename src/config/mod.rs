//! Configuration: the file as written → the plan as meant, with every fault at its line.

pub mod plan;

pub use plan::{
    AccessLogFormat, AccessLogOutput, AccessLogPlan, AdminPlan, LogFormat, LogPlan, Plan,
};
