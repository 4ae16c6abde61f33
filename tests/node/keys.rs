//! Sealed gossip on real nodes: keys are changed while they run, and a bad file changes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use tidegate::admin::shapes::{Limits, Members, Status};
use tidegate::cluster::keyring::KeyId;
use tidegate::node::keys;

use crate::support::backend::Backend;
use crate::world::{World, host, served, until};

struct Sealed {
    nodes: Vec<World>,
    files: Vec<PathBuf>,
    _dir: tempfile::TempDir,
}

impl Sealed {
    /// Three nodes that share a limit of 30 an hour; each has a key file of its own.
    async fn three(backend: &Backend) -> Sealed {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = (0..3).map(|at| dir.path().join(format!("k{at}"))).collect();
        keys::generate(&files[0]).unwrap();
        for other in &files[1..] {
            fs::copy(&files[0], other).unwrap();
        }
        let hosts = [host(), host(), host()];
        let peers = hosts.map(|host| format!("\"{host}:9090\"")).join(", ");
        let mut nodes = Vec::new();
        for (at, host) in hosts.into_iter().enumerate() {
            let text = format!(
                "rules:\n  - {{ name: web, listen: \"{host}:8001\", backends: [\"{}\"], \
                 rate_limit: {{ type: fixed_window, limit: 30, window: \"1h\" }} }}\n\
                 cluster: {{ node_name: n{at}, bind_addr: \"{host}:9090\", peers: [{peers}], keys_file: \"{}\" }}\n",
                backend.address,
                files[at].display()
            );
            nodes.push(World::start(host, &text).await);
        }
        let sealed = Sealed { nodes, files, _dir: dir };
        sealed.all_show(&[1]).await;
        sealed
    }

    /// Every node sees every node alive with these keys, and the same configuration.
    async fn all_show(&self, ids: &[u8]) {
        for node in &self.nodes {
            until(&format!("all have {ids:?}"), || async {
                let seen: Members = node.view("/api/v1/members").await;
                let digest = &seen.members[0].config_digest;
                seen.members.len() == 3
                    && seen.members.iter().all(|member| {
                        member.state == "alive"
                            && member.keys == ids
                            && member.config_digest == *digest
                    })
            })
            .await;
        }
    }

    /// One step of a rotation: made on the first machine, copied to the others.
    async fn step(&self, ids: &[u8], change: impl Fn(&Path) -> String) {
        change(&self.files[0]);
        let _ = self.nodes[0].node.reload_keys();
        for (node, file) in self.nodes.iter().zip(&self.files).skip(1) {
            let new = file.with_extension("new");
            fs::copy(&self.files[0], &new).unwrap();
            fs::rename(&new, file).unwrap();
            let _ = node.node.reload_keys();
        }
        self.all_show(ids).await;
    }

    /// Datagrams that some node dropped because of their seal.
    async fn dropped(&self) -> Vec<String> {
        let mut dropped = Vec::new();
        for node in &self.nodes {
            let metrics = node.metrics().await;
            dropped.extend(metrics.lines().filter_map(|line| {
                let rest = line.strip_prefix("tidegate_gossip_dropped_total{reason=\"")?;
                let (reason, count) = rest.split_once("\"} ")?;
                let of_seals = ["unknown_key", "bad_seal", "replay", "plaintext"].contains(&reason);
                (of_seals && count != "0").then(|| line.to_owned())
            }));
        }
        dropped
    }
}

fn id(id: u8) -> KeyId {
    KeyId::new(id).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_on_running_nodes_and_no_datagram_is_lost() {
    let backend = Backend::echo().await;
    let sealed = Sealed::three(&backend).await;
    sealed.step(&[1, 2], |file| keys::install(file, None).unwrap()).await;
    sealed.step(&[2, 1], |file| keys::put_first(file, id(2)).unwrap()).await;
    sealed.step(&[2], |file| keys::remove(file, id(1)).unwrap()).await;
    assert_eq!(sealed.dropped().await, Vec::<String>::new());
    for node in &sealed.nodes {
        until("session tickets are sealed by a shared secret", || async {
            let status: Status = node.view("/api/v1/status").await;
            status.tickets.shared && status.tickets.sealing_s.is_some()
        })
        .await;
    }

    // Clients' keys are still hashed alike, by the salt that stayed.
    for _ in 0..30 {
        assert!(served(sealed.nodes[0].at(8001)).await);
    }
    for node in &sealed.nodes[1..] {
        until("the others heard of what was spent", || async {
            let limits: Limits = node.view("/api/v1/limits").await;
            limits.limits[0].spent_elsewhere == 30
        })
        .await;
        assert!(!served(node.at(8001)).await);
    }
    until("the status is as fresh", || async {
        let status: Status = sealed.nodes[0].view("/api/v1/status").await;
        let gossip = status.gossip.unwrap();
        gossip.authenticated && gossip.keys == [2] && gossip.cloned.is_none()
    })
    .await;
    let metrics = sealed.nodes[0].metrics().await;
    assert!(metrics.contains("\ntidegate_gossip_authenticated 1\n"));
    assert!(metrics.contains("\ntidegate_gossip_sealing_key 2\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_key_file_changes_nothing_and_is_told() {
    let backend = Backend::echo().await;
    let sealed = Sealed::three(&backend).await;
    let (node, file) = (&sealed.nodes[0], &sealed.files[0]);
    let good = fs::read(file).unwrap();
    let foreign = file.with_extension("foreign");
    keys::generate(&foreign).unwrap();
    for (bad, words) in [
        (b"key 1 00\n".to_vec(), "line 1: this is not a key"),
        (fs::read(&foreign).unwrap(), "another cluster"),
        (Vec::new(), "no key"),
    ] {
        fs::write(file, bad).unwrap();
        let _ = node.node.reload_keys();
        let gossip = node.view::<Status>("/api/v1/status").await.gossip.unwrap();
        assert!(gossip.keys_fault.unwrap().contains(words), "{words}");
        assert_eq!(gossip.keys, [1]);
        // The whole reload says it as well, as it reads the file again.
        let text = fs::read_to_string(&node.file).unwrap();
        assert_eq!(node.node.reload(&node.file).await, tidegate::node::Reload::Refused, "{text}");
    }
    sealed.all_show(&[1]).await;
    fs::write(file, good).unwrap();
    let _ = node.node.reload_keys();
    let status: Status = node.view("/api/v1/status").await;
    assert_eq!(status.gossip.unwrap().keys_fault, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_says_how_to_mend_it() {
    let backend = Backend::echo().await;
    let host = host();
    let text = format!(
        "rules:\n  - {{ name: web, listen: \"{host}:8001\", backends: [\"{}\"] }}\n\
         cluster: {{ bind_addr: \"{host}:9090\" }}\n",
        backend.address
    );
    let world = World::start(host, &text).await;
    let gossip = world.view::<Status>("/api/v1/status").await.gossip.unwrap();
    assert!(!gossip.authenticated && gossip.keys.is_empty());
    assert!(gossip.advice.contains("`tidegate keys generate --file cluster.keys`"));
    assert!(world.metrics().await.contains("\ntidegate_gossip_authenticated 0\n"));
}
