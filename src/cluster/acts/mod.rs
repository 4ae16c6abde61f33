//! What operators do to the whole cluster: bans, drains, backends added, removed or weighed anew.
//!
//! An act is a register: of two writes about one subject the later wins, by version and then by
//! writer, so that contradictory acts on two nodes come to one result everywhere, whatever order
//! they arrive in. Undoing is a write as well (*lifted*), which is remembered longer than any node is
//! likely to be away, so that a node that comes back with the old act does not bring it back to life.
//!
//! ```text
//!   operator ─▶ Acts::issue ─┬─▶ machine: to all peers at once, repeated, then compared by digest
//!   peers    ─▶ Acts::merge ─┤
//!   disk     ─▶ Acts::merge ─┴─▶ node: bans published, drains and overlay handed to the pools
//! ```
//!
//! [`Store`] is pure; [`Acts`] shares one between the admin listener, the gossip agent and the
//! keeper of the state. No worker ever touches either: they read what the node publishes.

mod act;
mod row;
mod shared;
mod store;

pub use act::{Act, Order, Place, Subject};
pub use row::{ActsBeat, AskActs, BackendRow, BanRow, Change, DrainRow, Row, Stamp};
pub use shared::Acts;
pub use store::{Digest, Full, MEMORY, MOST_BANS, MOST_PLACES, Store};
