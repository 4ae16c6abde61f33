//! Identities: nodes, boots, rules, limits, keys, backends.

use std::fmt;
use std::hash::Hasher;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

/// A node, for as long as it keeps its state; random when it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub u64);

/// One start of a process: 48 random bits, fresh every time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BootId(u64);

impl BootId {
    /// Keeps the low 48 bits.
    pub const fn new(bits: u64) -> Self {
        BootId(bits & 0xffff_ffff_ffff)
    }

    /// The 48 bits.
    pub fn bits(self) -> u64 {
        self.0
    }
}

/// Who wrote a CRDT row: constant for the life of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Actor {
    /// The node.
    pub node: NodeId,
    /// Its boot.
    pub boot: BootId,
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0)
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.boot)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub Arc<str>);

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                $name(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// A rule's name: unique in a configuration, the same on every node.
    RuleName
);
name!(
    /// A node's name, as people know it.
    NodeName
);

/// A limit, known by its rule's name on every node, never by an index or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LimitId(pub u64);

impl LimitId {
    /// The id of the rate limit of rule `rule`.
    pub fn of_rule(rule: &RuleName) -> Self {
        LimitId(stable_hash(0, rule.0.as_bytes()))
    }

    /// The id of something else of the same rule that is limited, by its name.
    pub fn part(self, name: &str) -> Self {
        LimitId(stable_hash(self.0, name.as_bytes()))
    }
}

/// A limited key (a client, say), hashed under the cluster's salt: the same on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyHash(pub u64);

/// SipHash-1-3 of `bytes` under `salt`: the same on every node and in every version, unlike the
/// standard library's.
pub fn stable_hash(salt: u64, bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(salt, 0x7469_6465_6761_7465);
    hasher.write(bytes);
    hasher.finish()
}

/// A backend as the whole cluster knows it: its rule and its resolved address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BackendKey {
    /// The rule that uses it.
    pub rule: RuleName,
    /// Where it is.
    pub address: SocketAddr,
}

impl BackendKey {
    /// A number that stands for it, the same on every node.
    pub fn id(&self) -> u64 {
        let address = self.address.to_string();
        stable_hash(stable_hash(0, self.rule.0.as_bytes()), address.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stable_hash_never_changes() {
        assert_eq!(stable_hash(0, b"web"), stable_hash(0, b"web"));
        assert_ne!(stable_hash(0, b"web"), stable_hash(1, b"web"));
    }
}
