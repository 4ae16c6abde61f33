//! Client certificates that are taken, and those that are refused: by which alert, and how it counts.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::{OPENSSL, ended, mutual, node, rule, wait_ended};
use crate::harness::backend::Backend;
use crate::harness::certs::Certs;
use crate::harness::host::Host;
use crate::harness::node::{Node, SOON};
use crate::harness::openssl::{Shaken, shake};
use crate::harness::server::loopback;
use crate::harness::{turn, until};

fn show(certs: &Certs, address: std::net::SocketAddr, client: &str, version: &str) -> Shaken {
    let shown = certs.shown(client);
    let mut arguments = vec![version];
    if client != "none" {
        arguments.extend(shown.iter().map(String::as_str));
    }
    shake(certs, address, &arguments)
}

#[test]
#[ignore = "needs openssl: run with cargo test --test e2e -- --ignored"]
fn a_client_certificate_is_taken_or_refused_by_the_alert_that_says_why() {
    let Some(_turn) = turn(&[OPENSSL]) else { return };
    let (certs, backend) = (Certs::make(), Backend::http("b"));
    let (node, web) = node(&[backend.address()], &[&mutual(&certs)]);
    let refused = [
        ("expired", 45, "tls_expired_certificate"),
        ("revoked", 44, "tls_revoked_certificate"),
        ("wrong/client.a", 48, "tls_untrusted_certificate"),
        // A server's certificate is none to come as a client with.
        ("server", 43, "tls_untrusted_certificate"),
        ("none", 116, "tls_no_certificate"),
    ];
    for version in ["-tls1_2", "-tls1_3"] {
        for client in ["client.a", "client.b"] {
            show(&certs, web, client, version).assert_answered("b");
        }
        for (client, alert, reason) in refused {
            let before = ended(&node, reason);
            let shaken = show(&certs, web, client, version);
            assert_eq!(shaken.alert(), Some(alert), "{client} {version}: {}", shaken.0);
            assert_eq!(shaken.backend(), None, "{client} {version}");
            wait_ended(&node, reason, before + 1);
        }
    }
    let shaken = show(&certs, web, "client.a", "-tls1_3");
    assert!(shaken.0.contains("Acceptable client certificate CA names"), "{}", shaken.0);
    until("the good ones are counted", SOON, || (ended(&node, "ok") == 5).then_some(()));
}

#[test]
#[ignore = "needs openssl: run with cargo test --test e2e -- --ignored"]
fn a_certificate_that_need_not_be_shown_is_still_checked() {
    let Some(_turn) = turn(&[OPENSSL]) else { return };
    let (certs, backend) = (Certs::make(), Backend::http("b"));
    let optional = mutual(&certs).replace(" }", ", client_auth: optional }");
    let (node, web) = node(&[backend.address()], &[&optional]);
    for version in ["-tls1_2", "-tls1_3"] {
        for client in ["none", "client.a"] {
            show(&certs, web, client, version).assert_answered("b");
        }
        for (client, alert) in [("expired", 45), ("revoked", 44), ("wrong/client.a", 48)] {
            let shaken = show(&certs, web, client, version);
            assert_eq!((shaken.alert(), shaken.backend()), (Some(alert), None), "{}", shaken.0);
        }
    }
    wait_ended(&node, "tls_expired_certificate", 2);
    wait_ended(&node, "tls_revoked_certificate", 2);
    wait_ended(&node, "tls_untrusted_certificate", 2);
}

#[test]
#[ignore = "needs openssl: run with cargo test --test e2e -- --ignored"]
fn a_session_of_an_open_rule_does_not_open_a_mutual_one() {
    let Some(_turn) = turn(&[OPENSSL]) else { return };
    let (certs, backend) = (Certs::make(), Backend::http("b"));
    let (open, closed) = (loopback(), loopback());
    let rules = rule("open", open, &[backend.address()], &[&super::terminate(&certs, "")])
        + &rule("closed", closed, &[backend.address()], &[&mutual(&certs)]);
    let node = Node::start(Host::here(), "n", &format!("rules:\n{rules}"));
    for version in ["-tls1_2", "-tls1_3"] {
        let session = certs.path("session");
        shake(&certs, open, &[version, "-sess_out", &session]).assert_answered("b");
        let again = shake(&certs, open, &[version, "-sess_in", &session]);
        again.assert_answered("b");
        assert!(again.resumed(), "{}", again.0);
        let attack = shake(&certs, closed, &[version, "-sess_in", &session]);
        assert!(!attack.resumed() && attack.backend().is_none(), "{}", attack.0);
        assert_eq!(attack.alert(), Some(116), "{}", attack.0);
    }
    wait_ended(&node, "tls_no_certificate", 2);
}

#[test]
#[ignore = "needs openssl: run with cargo test --test e2e -- --ignored"]
fn a_session_of_a_certificate_that_was_revoked_meanwhile_does_not_go_on() {
    let Some(_turn) = turn(&[OPENSSL]) else { return };
    let (certs, backend) = (Certs::make(), Backend::http("b"));
    let (node, web) = node(&[backend.address()], &[&mutual(&certs)]);
    let versions = ["-tls1_2", "-tls1_3"];
    let session = |version: &str| certs.path(&format!("session{version}"));
    for version in versions {
        let shown = certs.shown("client.a");
        let shown = shown.each_ref().map(|text| &text[..]);
        let file = session(version);
        shake(&certs, web, &[&shown[..], &[version, "-sess_out", &file]].concat())
            .assert_answered("b");
        let again = shake(&certs, web, &[version, "-sess_in", &file]);
        again.assert_answered("b");
        assert!(again.resumed(), "{}", again.0);
    }
    certs.revoke("client.a");
    until("the new list is read", SOON, || {
        (show(&certs, web, "client.a", "-tls1_3").alert() == Some(44)).then_some(())
    });
    show(&certs, web, "client.b", "-tls1_3").assert_answered("b");
    // The certificate that stands in the ticket does not help any more, and the one that is shown is revoked.
    for version in versions {
        let (file, shown) = (session(version), certs.shown("client.a"));
        let shown = shown.each_ref().map(|text| &text[..]);
        for (shown, alert) in [(&[][..], 116), (&shown[..], 44)] {
            let again = shake(&certs, web, &[shown, &[version, "-sess_in", &file]].concat());
            assert_eq!((again.alert(), again.backend()), (Some(alert), None), "{}", again.0);
        }
    }
    wait_ended(&node, "tls_no_certificate", 2);
}

#[test]
#[ignore = "needs openssl: run with cargo test --test e2e -- --ignored"]
fn what_is_no_tls_or_half_of_it_is_refused_and_counted() {
    let Some(_turn) = turn(&[OPENSSL]) else { return };
    let (certs, backend) = (Certs::make(), Backend::http("b"));
    let (node, web) = node(&[backend.address()], &[&mutual(&certs)]);
    let say = |bytes: &[u8], end: bool| {
        let mut stream = TcpStream::connect(web).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(bytes).unwrap();
        if end {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard);
        heard
    };
    assert_eq!(say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", false), b"");
    wait_ended(&node, "not_tls", 1);
    say(b"\x16\x03\x01\x01\x00\x01", true);
    wait_ended(&node, "client_gone", 1);
    // A hello of 16 MiB, announced.
    let heard = say(b"\x16\x03\x01\x00\x04\x01\xff\xff\xff", false);
    assert_eq!(heard.first(), Some(&21), "an alert: {heard:?}");
    wait_ended(&node, "tls_failed", 1);
    shake(&certs, web, &[]).alert().expect("still answers, by an alert");
}
