//! Admin: what is shown. Shapes, metrics, the listener.
//!
//! A request's way: [`server`] takes the connection and bounds it, [`guard`] says who may ask,
//! [`routes`] finds the answer in the [`Sources`] that the node gave us.

pub mod families;
pub mod guard;
pub mod metrics;
pub mod page;
pub mod process;
pub mod routes;
pub mod server;
pub mod shapes;
pub mod sources;
pub mod words;

#[cfg(test)]
mod fake;

pub use guard::Guard;
pub use server::{ServerPlan, serve};
pub use sources::{Metrics, Sources};
