//! The cluster section: names, keys, and where plaintext gossip may go.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use super::{Findings, beside};
use crate::base::{Host, NodeName, time};
use crate::cluster::keyring::file as keys_file;
use crate::cluster::{ClusterPlan, Keys, Profile, is_public};
use crate::config::file::{self, values};

pub(super) fn plan(cluster: &file::Cluster, dir: &Path, found: &mut Findings<'_>) -> ClusterPlan {
    let bind = cluster.bind_addr.0;
    let sync = cluster.sync_addr.as_ref().map_or(bind, |addr| addr.0);
    let advertise = cluster.advertise_addr.as_ref().map(|addr| addr.0);
    let keys = keys(cluster, dir, found);
    if cluster.keys_file.is_some() {
        if cluster.insecure {
            let what = "gossip is sealed, so this asks for nothing";
            found.warn("cluster.insecure", what, "take it out");
        }
    } else if cluster.insecure {
        let what = "gossip is plaintext, and this asks for it wherever it goes";
        let remedy = format!("{SEAL_IT}, or take this out where all addresses are private");
        found.warn("cluster.insecure", what, remedy);
    } else {
        keep_private("cluster.bind_addr", bind.ip(), found);
        if cluster.sync_addr.is_some() {
            keep_private("cluster.sync_addr", sync.ip(), found);
        }
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
        sync,
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
        plaintext_until: plaintext_until(cluster, found),
        keys,
        ..ClusterPlan::new(bind, NodeName::from(name.as_str()))
    }
}

/// How gossip is sealed.
const SEAL_IT: &str = "seal gossip (`tidegate keys generate` makes a file for `keys_file`)";

fn keys(cluster: &file::Cluster, dir: &Path, found: &mut Findings<'_>) -> Option<Keys> {
    let path = beside(dir, cluster.keys_file.as_deref()?);
    found.shelf.seen.note(&path);
    let ring = match keys_file::read(&path) {
        Ok(ring) => Arc::new(ring),
        Err(error) => {
            found.fault("cluster.keys_file", error.to_string(), error.remedy());
            return None;
        }
    };
    if keys_file::open_to_others(&path) {
        let what = format!("others than its owner may read {}", path.display());
        found.warn("cluster.keys_file", what, format!("chmod 600 {}", path.display()));
    }
    Some(Keys { file: path, ring })
}

fn plaintext_until(cluster: &file::Cluster, found: &mut Findings<'_>) -> Option<u64> {
    const FIELD: &str = "cluster.accept_plaintext_until";
    let until = cluster.accept_plaintext_until.as_ref()?.0.0;
    if cluster.keys_file.is_none() {
        let what = "without `keys_file` nothing but plaintext is heard";
        found.fault(FIELD, what, "add `keys_file`, or take it out");
    } else if until <= time::unix_ms() {
        found.warn(FIELD, "that time is over: plaintext is not heard any more", "take it out");
    } else {
        let what = "until then anyone who reaches the gossip port can join";
        found.warn(FIELD, what, "take it out when all nodes have keys");
    }
    Some(until)
}

/// Plaintext must not cross a public network unasked.
fn keep_private(field: &str, ip: IpAddr, found: &mut Findings<'_>) {
    if is_public(ip) {
        let what = format!("{ip} is a public address, and gossip without `keys_file` is plaintext");
        let remedy =
            format!("{SEAL_IT}, write a private address, or `insecure: true` if you accept that");
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
