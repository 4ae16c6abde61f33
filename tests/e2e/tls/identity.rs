//! `curl` with client certificates: who may go where.

use std::collections::BTreeMap;

use super::{CURL, OPENSSL, curl, curl_fails, mutual, node, wait_ended};
use crate::harness::backend::Backend;
use crate::harness::certs::Certs;
use crate::harness::turn;

#[test]
#[ignore = "needs curl: run with cargo test --test e2e -- --ignored"]
fn a_client_reaches_the_backends_that_its_name_may_use_and_no_other() {
    let Some(_turn) = turn(&[CURL, OPENSSL]) else { return };
    let certs = Certs::make();
    let backends = ["first", "second"].map(Backend::http);
    let [first, second] = [0, 1].map(|index| backends[index].address());
    let authorization = format!(
        "authorization: {{ rules: [\"client.a-deny-{first}\", {{ identity: client.c, action: deny }}, \
         \"spiffe://tidegate/client.b-allow-{second}\"] }}"
    );
    for balance in ["least_connections", "weighted_round_robin", "random", "consistent_hash"] {
        let balance = format!("balance: {balance}");
        let keys = [&balance[..], &mutual(&certs), &authorization];
        let (node, web) = node(&[first, second], &keys);
        let url = format!("https://localhost:{}/", web.port());
        let with = |client: &str| {
            let [_, cert, _, key] = certs.shown(client);
            ["--cacert", &certs.path("ca.crt"), "--cert", &cert, "--key", &key, "--ipv4", &url]
                .map(str::to_owned)
        };
        let served = |client: &str| {
            let mut served = BTreeMap::new();
            for _ in 0..20 {
                let arguments = with(client);
                let said = curl(&arguments.each_ref().map(|text| &text[..]));
                *served.entry(said).or_insert(0) += 1;
            }
            served
        };
        let (only, both) = (served("client.a"), served("client.b"));
        let name = |backend: &str| format!("Reply from upstream {backend}");
        assert_eq!(only, BTreeMap::from([(name("second"), 20)]), "{balance}");
        if !balance.contains("hash") {
            assert!(both.contains_key(&name("first")), "{balance}: {both:?}");
            assert!(both.contains_key(&name("second")), "{balance}: {both:?}");
        }
        let arguments = with("client.c");
        curl_fails(&arguments.each_ref().map(|text| &text[..]));
        wait_ended(&node, "not_authorized", 1);
        assert!(node.log().contains("client.c"), "who is denied is logged");
        curl_fails(&["--cacert", &certs.path("ca.crt"), "--ipv4", &url]);
        wait_ended(&node, "tls_no_certificate", 1);
    }
}
