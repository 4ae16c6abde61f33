//! The cluster section: names, and where plaintext gossip may go.

use std::net::IpAddr;
use std::path::Path;

use super::{Findings, beside};
use crate::base::{Host, NodeName};
use crate::cluster::{ClusterPlan, Profile, is_public};
use crate::config::file::{self, values};

pub(super) fn plan(cluster: &file::Cluster, dir: &Path, found: &mut Findings<'_>) -> ClusterPlan {
    let bind = cluster.bind_addr.0;
    let advertise = cluster.advertise_addr.as_ref().map(|addr| addr.0);
    if cluster.insecure {
        let what = "gossip is plaintext, and this asks for it wherever it goes";
        found.warn("cluster.insecure", what, "take it out where all addresses are private");
    } else {
        keep_private("cluster.bind_addr", bind.ip(), found);
        if let Some(advertise) = advertise {
            keep_private("cluster.advertise_addr", advertise.ip(), found);
        }
        for (i, peer) in cluster.peers.iter().enumerate() {
            if let Some(Host::Ip(ip)) = peer.as_ref().map(|peer| &peer.0.host) {
                keep_private(&format!("cluster.peers[{i}]"), *ip, found);
            }
        }
    }
    if let Some(advertise) = advertise
        && advertise.is_ipv6()
        && bind.is_ipv4()
    {
        let what = format!("{advertise} cannot be heard on bind_addr {bind}, which is IPv4");
        found.fault("cluster.advertise_addr", what, "write an IPv4 address, or bind to `[::]`");
    }
    let name = cluster.node_name.clone();
    let name = name.unwrap_or_else(|| format!("{}:{}", host_name(), bind.port()));
    ClusterPlan {
        advertise,
        peers: values(&cluster.peers),
        label: cluster.label.clone(),
        profile: match cluster.profile {
            file::Profile::Lan => Profile::Lan,
            file::Profile::Wan => Profile::Wan,
        },
        traffic_cap: cluster.traffic_cap.0.0,
        insecure: cluster.insecure,
        state_dir: cluster.state_dir.as_ref().map(|path| beside(dir, path)),
        probe_all_below: cluster.probe_all_below as usize,
        ..ClusterPlan::new(bind, NodeName::from(name.as_str()))
    }
}

/// Gossip is not sealed in this version: it must not cross a public network unasked.
fn keep_private(field: &str, ip: IpAddr, found: &mut Findings<'_>) {
    if is_public(ip) {
        let what = format!("{ip} is a public address, and gossip is plaintext in this version");
        let remedy = "write a private address, or `insecure: true` if you accept that";
        found.fault(field, what, remedy);
    }
}

fn host_name() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let read = read.or_else(|_| std::fs::read_to_string("/etc/hostname")).unwrap_or_default();
    match read.trim() {
        "" => "localhost".to_owned(),
        name => name.chars().filter(|c| c.is_ascii_graphic()).take(100).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_cross_the_internet_are_public() {
        let private = "127.0.0.1 10.1.2.3 172.16.0.1 192.168.0.1 169.254.1.1 100.64.0.1 0.0.0.0 \
                       ::1 fd00::1 fe80::1 :: ::ffff:10.0.0.1";
        for ip in private.split_whitespace() {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in "1.1.1.1 172.32.0.1 100.128.0.1 203.0.113.7 2001:db8::1 ::ffff:8.8.8.8".split(' ')
        {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }
}
