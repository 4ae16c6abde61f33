//! tidegate: a load balancer that comes as a cluster.
//!
//! Every node runs the whole proxy data plane and a SWIM gossip agent. The rooms below are stacked
//! in floors; a module imports only from floors beneath its own (`tests/architecture.rs` holds
//! this, `docs/architecture.md` tells the story):
//!
//! ```text
//! 6  node                       boot, build, reload, drain
//! 5  config      admin          what is meant          what is shown
//! 4  proxy                      the way of a connection
//! 3  upstream  |  cluster       pools and connecting   |  membership and gossip
//! 2  net                        sockets, listener, relay, splice, names
//! 1  balance  health  traffic  crdt                    pure decisions
//! 0  base                       words that all rooms share
//! ```
//!
//! # Use from Rust
//!
//! The program is a thin shell around this library. What others may want of it without a node:
//!
//! - [`Balancer`]: connections that you have accepted, spread over backends with health checks,
//!   limits per client and retries;
//! - [`traffic::Limiter`]: a rate limit per client in bounded memory, without runtime or clock;
//! - [`net::relay()`] and [`net::relay_legs`]: bytes both ways between two sockets, with TLS or
//!   without, in bulk by `splice(2)`;
//! - [`net::tls::Terminator`]: TLS with clients, and who they are by their certificates.
//!
//! `docs/library.md` walks through them, and `examples/balancer.rs` is a whole small program.
//! Linux only.

pub mod base;

pub mod balance;
pub mod crdt;
pub mod health;
pub mod traffic;

pub mod net;

pub mod cluster;
pub mod upstream;

pub mod proxy;

pub use proxy::{BalanceError, Balancer, BalancerBuilder, Served, StartError};

pub mod admin;
pub mod config;

pub mod node;

/// So that its code is compiled.
#[cfg(doctest)]
#[doc = include_str!("../docs/library.md")]
struct LibraryPage;
