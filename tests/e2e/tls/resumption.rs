//! Sessions of `openssl` that begin on one node and go on at another.

use super::{OPENSSL, mutual, terminate};
use crate::harness::certs::Certs;
use crate::harness::node::{Node, SOON};
use crate::harness::openssl::shake;
use crate::harness::trio::Trio;
use crate::harness::{turn, until};

const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];

#[test]
#[ignore = "needs openssl: run with cargo test --test e2e -- --ignored"]
fn a_session_goes_on_at_every_node_also_when_its_first_one_is_dead() {
    let Some(_turn) = turn(&[OPENSSL]) else { return };
    let certs = Certs::make();
    let mut trio = Trio::start(&[&mutual(&certs)]);
    // Whose secret it is comes to light only when all have heard of each other.
    let sealing = |node: &Node| node.metric("tidegate_ticket_sealing_age_seconds", &[]) > Some(0.0);
    until("all nodes make tickets", SOON, || trio.nodes.iter().all(sealing).then_some(()));
    let session = |version: &str| certs.path(&format!("session{version}"));
    let shown = certs.shown("client.a");
    let shown = shown.each_ref().map(|text| &text[..]);
    for version in VERSIONS {
        let file = session(version);
        let begin = [&shown[..], &[version, "-sess_out", &file]].concat();
        let first = shake(&certs, trio.web[0], &begin);
        assert!(first.backend().is_some() && !first.resumed(), "{}", first.0);
    }
    // The certificate is in the ticket, and not shown again.
    let resumes = |node: usize, version: &str| {
        let again = shake(&certs, trio.web[node], &[version, "-sess_in", &session(version)]);
        let resumed = again.resumed();
        assert!(!resumed || again.backend().is_some(), "{}", again.0);
        resumed
    };
    for version in VERSIONS {
        let what = format!("{version}: a session of node 1 goes on at node 2");
        until(&what, SOON, || resumes(1, version).then_some(()));
    }
    let node = &trio.nodes[1];
    assert_eq!(node.metric("tidegate_tickets_shared", &[]), Some(1.0));
    trio.nodes[0].kill();
    for version in VERSIONS {
        assert!(resumes(2, version), "{version}: goes on at node 3 after node 1 is dead");
        assert!(resumes(1, version), "{version}: and at node 2");
    }
}

#[test]
#[ignore = "needs openssl: run with cargo test --test e2e -- --ignored"]
fn without_sealed_gossip_a_session_goes_on_where_it_began_alone() {
    let Some(_turn) = turn(&[OPENSSL]) else { return };
    let certs = Certs::make();
    let trio = Trio::plaintext(&[&terminate(&certs, "")]);
    let sealing = |node: &Node| node.metric("tidegate_ticket_sealing_age_seconds", &[]) > Some(0.0);
    until("all nodes make tickets", SOON, || trio.nodes.iter().all(sealing).then_some(()));
    for version in VERSIONS {
        let session = certs.path("session");
        shake(&certs, trio.web[0], &[version, "-sess_out", &session]).backend().expect("answered");
        let resumed = |node: usize| {
            let again = shake(&certs, trio.web[node], &[version, "-sess_in", &session]);
            assert!(again.backend().is_some(), "{}", again.0);
            again.resumed()
        };
        assert!(resumed(0), "{version}: on the node itself");
        assert!(!resumed(1) && !resumed(2), "{version}: nowhere else");
    }
    assert_eq!(trio.nodes[0].metric("tidegate_tickets_shared", &[]), Some(0.0));
}
