//! Words that all rooms share: addresses and ids by role, the clock, published values, the drain
//! signal. Knows no other room.

pub mod addr;
pub mod cell;
pub mod drain;
pub mod file;
pub mod hex;
pub mod id;
pub mod identity;
pub mod share;
pub mod tasks;
pub mod time;

pub use self::hex::hex;
pub use addr::{BackendAddr, ClientAddr, Endpoint, EndpointError, GossipAddr, Host, ListenAddr};
pub use cell::{Publisher, View, publish_and_view};
pub use drain::{Drain, Draining, drain_signal};
pub use id::{
    Actor, BackendKey, BootId, KeyHash, LimitId, NodeId, NodeName, RuleName, stable_hash,
};
pub use identity::Identity;
pub use share::Share;
pub use tasks::spawn_supervised;
