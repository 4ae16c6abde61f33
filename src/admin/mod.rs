//! Admin: what is shown. Shapes, metrics, the listener; and the client that the commands use.
//!
//! A request's way: [`server`] takes the connection and bounds it, [`guard`] says who may ask,
//! [`routes`] finds the answer in the [`Sources`] that the node gave us. The commands go the other
//! way: [`client`] asks a running node, [`tables`] shows its answer to people.

pub mod client;
pub mod families;
pub mod guard;
pub mod metrics;
pub mod orders;
pub mod page;
pub mod process;
pub mod routes;
pub mod server;
pub mod shapes;
pub mod sources;
pub mod tables;
pub mod words;

#[cfg(test)]
mod fake;

pub use client::{Client, ClientError, Target, TargetError};
pub use guard::Guard;
pub use server::{ServerPlan, serve};
pub use sources::{Metrics, Sources};
