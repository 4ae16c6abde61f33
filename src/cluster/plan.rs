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

impl ClusterPlan {
    /// A node of the default cluster at `bind`, without seeds.
    pub fn new(bind: SocketAddr, node_name: NodeName) -> Self {
        ClusterPlan {
            bind,
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
