//! What a node is told about its cluster.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::keyring::Keyring;
use super::profile::Profile;
use crate::base::{Endpoint, NodeName};
use crate::health::ALL_BELOW;

/// The `cluster:` section as meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPlan {
    /// Where gossip is heard (UDP).
    pub bind: SocketAddr,
    /// Where peers find us, when it is not `bind`.
    pub advertise: Option<SocketAddr>,
    /// Where push/pull is answered (TCP).
    pub sync: SocketAddr,
    /// Seeds, resolved anew each time.
    pub peers: Vec<Endpoint>,
    /// Default: host name and gossip port.
    pub node_name: NodeName,
    /// Clusters with other labels are not heard.
    pub label: String,
    /// What lies between the nodes.
    pub profile: Profile,
    /// Gossip and counters, bytes per second sent by this node.
    pub traffic_cap: u64,
    /// Plaintext gossip was asked for in words.
    pub insecure: bool,
    /// Where the node keeps what should outlive it.
    pub state_dir: Option<PathBuf>,
    /// Up to so many nodes all of them check all backends; more share the checks out.
    pub probe_all_below: usize,
    /// What seals gossip; without, it is plaintext.
    pub keys: Option<Keys>,
    /// With keys: nodes without are heard until then, milliseconds since 1970.
    pub plaintext_until: Option<u64>,
}

/// The file of the keys, and what was read from it.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Read again when it changes.
    pub file: PathBuf,
    /// As last read.
    pub ring: Arc<Keyring>,
}

/// Keys may change while a node runs, so they are no other plan.
impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file
    }
}

impl Eq for Keys {}

/// Where peers call for push/pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncAt {
    /// Where gossip goes.
    Gossip,
    /// There, but at another port.
    Port(u16),
    /// Elsewhere.
    At(SocketAddr),
}

impl SyncAt {
    /// `bound` is what push/pull is heard on, `gossip` what gossip is.
    pub fn new(bound: SocketAddr, gossip: SocketAddr) -> SyncAt {
        if bound == gossip {
            SyncAt::Gossip
        } else if bound.ip() == gossip.ip() || bound.ip().is_unspecified() {
            SyncAt::Port(bound.port())
        } else {
            SyncAt::At(bound)
        }
    }

    /// The address, for a node whose gossip goes to `advertised`.
    pub fn beside(self, advertised: SocketAddr) -> SocketAddr {
        match self {
            SyncAt::Gossip => advertised,
            SyncAt::Port(port) => SocketAddr::new(advertised.ip(), port),
            SyncAt::At(address) => address,
        }
    }
}

impl ClusterPlan {
    /// A node of the default cluster at `bind`, without seeds.
    pub fn new(bind: SocketAddr, node_name: NodeName) -> Self {
        ClusterPlan {
            bind,
            sync: bind,
            advertise: None,
            peers: Vec::new(),
            node_name,
            label: "default".to_owned(),
            profile: Profile::Lan,
            traffic_cap: 3 << 20,
            insecure: false,
            state_dir: None,
            probe_all_below: ALL_BELOW,
            keys: None,
            plaintext_until: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_call_where_this_node_is_found() {
        let at = |bound: &str, gossip: &str, advertised: &str| {
            let [bound, gossip, advertised] =
                [bound, gossip, advertised].map(|address| address.parse().unwrap());
            SyncAt::new(bound, gossip).beside(advertised).to_string()
        };
        // Behind a translation of addresses and ports, gossip's way is push/pull's as well.
        assert_eq!(at("0.0.0.0:9090", "0.0.0.0:9090", "1.2.3.4:7000"), "1.2.3.4:7000");
        assert_eq!(at("0.0.0.0:9091", "10.0.0.1:9090", "10.0.0.1:9090"), "10.0.0.1:9091");
        assert_eq!(at("10.0.0.1:9091", "10.0.0.1:9090", "1.2.3.4:7000"), "1.2.3.4:9091");
        assert_eq!(at("10.9.0.1:9090", "10.0.0.1:9090", "10.0.0.1:9090"), "10.9.0.1:9090");
    }
}
