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

pub mod base;

pub mod balance;
pub mod crdt;
pub mod health;
pub mod traffic;

pub mod net;

pub mod cluster;
pub mod upstream;

pub mod proxy;

pub mod admin;
pub mod config;

pub mod node;
