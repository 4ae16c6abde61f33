//! Upstream: pools of backends, leases, connecting, checking, resolving.
//!
//! ```text
//! checker, name keeper, keeper (control runtime) ──→ Board ──→ Picture ─┐ published whole
//!                                                     ↑ ejects          ↓
//! client → Pool::dial (any worker) → offers, queue → connect → Dialed { stream, lease }
//! ```
//!
//! A dial reads the last picture and takes a place by one atomic; it meets a lock only when it
//! has to queue, or when a connect failed to a backend that others check, or so often that the
//! backend is ejected.

mod board;
mod check;
mod core;
mod dial;
mod narrow;
mod picture;
pub mod plan;
mod pool;
mod queue;
mod seat;
mod slot;
mod status;
mod tasks;

pub use dial::{DialError, Dialed, Opening};
pub use narrow::Filter;
pub use plan::{BackendPlan, PoolPlan, QueuePlan};
pub use pool::{Pool, PoolWindows};
pub use slot::Lease;
pub use status::{BackendState, BackendStatus, PoolStatus};

#[cfg(test)]
mod tests;
