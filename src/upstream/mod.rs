//! Upstream: pools of backends, leases, connecting, checking, resolving.

pub mod plan;

pub use plan::{BackendPlan, PoolPlan, QueuePlan};
