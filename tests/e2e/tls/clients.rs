//! `openssl s_client` and `s_time` at a rule where TLS ends.

use std::process::Command;
use std::time::Duration;

use super::{OPENSSL, ended, node, rule, terminate, wait_ended};
use crate::harness::backend::Backend;
use crate::harness::certs::Certs;
use crate::harness::host::Host;
use crate::harness::node::{Node, SOON};
use crate::harness::openssl::shake;
use crate::harness::server::loopback;
use crate::harness::{report, run, turn, until};

const VERSIONS: [(&str, &str); 2] = [("-tls1_2", "New, TLSv1.2"), ("-tls1_3", "New, TLSv1.3")];
const P256: [&str; 3] = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

#[test]
#[ignore = "needs openssl: run with cargo test --test e2e -- --ignored"]
fn a_client_sees_the_certificate_of_the_name_it_asks_for() {
    let Some(_turn) = turn(&[OPENSSL]) else { return };
    let (certs, backend) = (Certs::make(), Backend::http("b"));
    certs.issue("www", &P256, &["www.example.com"]);
    certs.issue("wild", &P256, &["*.example.net"]);
    let more =
        format!(", certificates: [{{ {} }}, {{ {} }}]", certs.pair("wild"), certs.pair("www"));
    let (_node, web) = node(&[backend.address()], &[&terminate(&certs, &more)]);
    let asked: [(&[&str], &str); 6] = [
        (&["-servername", "www.example.com", "-verify_hostname", "www.example.com"], "www"),
        (&["-servername", "WWW.Example.Com"], "www"),
        (&["-servername", "a.example.net", "-verify_hostname", "a.example.net"], "wild"),
        (&["-servername", "a.b.example.net"], "tidegate"),
        (&["-servername", "localhost", "-verify_hostname", "localhost"], "tidegate"),
        (&["-noservername"], "tidegate"),
    ];
    for (arguments, name) in asked {
        for (version, spoken) in VERSIONS {
            let shaken = shake(&certs, web, &[arguments, &[version]].concat());
            shaken.assert_answered("b");
            assert_eq!(shaken.field("subject=CN ="), Some(name), "{arguments:?}");
            assert!(shaken.0.contains(spoken), "{version}: {}", shaken.0);
        }
    }
}

#[test]
#[ignore = "needs openssl: run with cargo test --test e2e -- --ignored"]
fn every_kind_of_key_signs_for_either_version() {
    let Some(_turn) = turn(&[OPENSSL]) else { return };
    let (certs, backend) = (Certs::make(), Backend::http("b"));
    let p384 = ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"];
    let kinds: [(&str, &[&str], &str); 6] = [
        ("rsa", &["rsa:2048"], "RSA-PSS"),
        ("pkcs1", &["rsa:3072"], "RSA-PSS"),
        ("p256", &P256, "ECDSA"),
        ("sec1", &P256, "ECDSA"),
        ("p384", &p384, "ECDSA"),
        ("ed25519", &["ed25519"], "Ed25519"),
    ];
    let mut rules = String::from("rules:\n");
    let listen = kinds.map(|(stem, key, _)| {
        certs.issue(stem, key, &["localhost"]);
        if ["pkcs1", "sec1"].contains(&stem) {
            certs.make_traditional(stem);
        }
        let listen = loopback();
        let tls = format!("tls: {{ {} }}", certs.pair(stem));
        rules += &rule(stem, listen, &[backend.address()], &[&tls]);
        listen
    });
    // Two kinds for the same name: each client gets what it can check.
    let both = loopback();
    let tls =
        format!("tls: {{ {}, certificates: [{{ {} }}] }}", certs.pair("p256"), certs.pair("rsa"));
    rules += &rule("both", both, &[backend.address()], &[&tls]);
    let _node = Node::start(Host::here(), "n", &rules);
    for ((stem, _, signature), listen) in kinds.into_iter().zip(listen) {
        for (version, _) in VERSIONS {
            let shaken = shake(&certs, listen, &[version, "-servername", "localhost"]);
            shaken.assert_answered("b");
            let signed = shaken.field("Peer signature type:").unwrap_or_default();
            assert!(signed.eq_ignore_ascii_case(signature), "{stem} {version}: {signed}");
        }
    }
    for (version, _) in VERSIONS {
        for (offered, subject) in [
            ("RSA-PSS+SHA256", "rsa"),
            ("ECDSA+SHA256", "p256"),
            ("ECDSA+SHA256:RSA-PSS+SHA256", "p256"),
        ] {
            let shaken = shake(&certs, both, &[version, "-sigalgs", offered]);
            // The authority has signed by ECDSA, which a client of RSA alone need not take.
            assert_eq!(shaken.field("subject=CN ="), Some(subject), "{version} {offered}");
        }
    }
}

#[test]
#[ignore = "needs openssl: run with cargo test --test e2e -- --ignored"]
fn a_protocol_is_agreed_on_by_the_rules_preference_or_refused_by_an_alert() {
    let Some(_turn) = turn(&[OPENSSL]) else { return };
    let (certs, backend) = (Certs::make(), Backend::http("b"));
    let tls = terminate(&certs, ", alpn: [http/1.1, other/1]");
    let (node, web) = node(&[backend.address()], &[&tls]);
    for (version, _) in VERSIONS {
        for (offered, agreed) in
            [("other/1,http/1.1", "http/1.1"), ("h2,other/1", "other/1"), ("http/1.1", "http/1.1")]
        {
            let shaken = shake(&certs, web, &[version, "-alpn", offered]);
            shaken.assert_answered("b");
            assert_eq!(shaken.field("ALPN protocol:"), Some(agreed), "{version} {offered}");
        }
        let shaken = shake(&certs, web, &[version]);
        shaken.assert_answered("b");
        assert!(shaken.0.contains("No ALPN negotiated"), "{}", shaken.0);
        let refused = shake(&certs, web, &[version, "-alpn", "h2"]);
        assert_eq!((refused.alert(), refused.backend()), (Some(120), None), "{}", refused.0);
    }
    wait_ended(&node, "tls_incompatible", 2);
}

#[test]
#[ignore = "needs openssl: run with cargo test --test e2e -- --ignored"]
fn old_versions_are_refused_by_an_alert() {
    let Some(_turn) = turn(&[OPENSSL]) else { return };
    let (certs, backend) = (Certs::make(), Backend::http("b"));
    let (old, new) = (loopback(), loopback());
    let rules = rule("web", old, &[backend.address()], &[&terminate(&certs, "")])
        + &rule("new", new, &[backend.address()], &[&terminate(&certs, ", min_version: \"1.3\"")]);
    let node = Node::start(Host::here(), "n", &format!("rules:\n{rules}"));
    let ancient = ["-cipher", "DEFAULT@SECLEVEL=0"];
    for (address, version) in
        [(old, "-tls1"), (old, "-tls1_1"), (new, "-tls1"), (new, "-tls1_1"), (new, "-tls1_2")]
    {
        let refused = shake(&certs, address, &[&ancient[..], &[version]].concat());
        // The version of the protocol, or of a hello that lacks what every newer one has.
        assert!(matches!(refused.alert(), Some(70 | 40)), "{}", refused.0);
        assert_eq!(refused.backend(), None, "{}", refused.0);
    }
    shake(&certs, old, &["-tls1_2"]).assert_answered("b");
    shake(&certs, new, &["-tls1_3"]).assert_answered("b");
    wait_ended(&node, "tls_incompatible", 5);
}

#[test]
#[ignore = "needs openssl: run with cargo test --test e2e -- --ignored"]
fn keys_are_exchanged_over_every_group_also_after_a_second_hello() {
    let Some(_turn) = turn(&[OPENSSL]) else { return };
    let (certs, backend) = (Certs::make(), Backend::http("b"));
    // Of RSA: by TLS 1.2 a client speaks of groups for signatures as well.
    certs.issue("rsa", &["rsa:2048"], &["localhost"]);
    let (_node, web) = node(&[backend.address()], &[&format!("tls: {{ {} }}", certs.pair("rsa"))]);
    // With the last one, the client guesses a group that is not spoken here and is asked again.
    for (groups, used) in [
        ("X25519", "X25519, 253 bits"),
        ("P-256", "ECDH, prime256v1, 256 bits"),
        ("P-384", "ECDH, secp384r1, 384 bits"),
        ("P-521:P-384", "ECDH, secp384r1, 384 bits"),
    ] {
        for (version, _) in VERSIONS {
            let shaken = shake(&certs, web, &[version, "-groups", groups]);
            shaken.assert_answered("b");
            assert_eq!(shaken.field("Server Temp Key:"), Some(used), "{version} {groups}");
        }
    }
    // OpenSSL knows it from 3.5 on.
    let hybrid = "X25519MLKEM768";
    let shaken = shake(&certs, web, &["-tls1_3", "-groups", hybrid]);
    if shaken.0.contains("CONNECTED") {
        shaken.assert_answered("b");
        assert!(shaken.0.contains(hybrid), "{}", shaken.0);
    } else {
        report(&format!("openssl here: knows no {hybrid}, not tried"));
    }
}

#[test]
#[ignore = "needs openssl: run with cargo test --test e2e -- --ignored"]
fn a_client_that_asks_for_it_gets_the_staple_of_the_certificate() {
    let Some(_turn) = turn(&[OPENSSL]) else { return };
    let (certs, backend) = (Certs::make(), Backend::http("b"));
    certs.issue("www", &P256, &["www.example.com"]);
    let staple = certs.staple("server");
    let more = format!(", ocsp: \"{staple}\", certificates: [{{ {} }}]", certs.pair("www"));
    let (_node, web) = node(&[backend.address()], &[&terminate(&certs, &more)]);
    for (version, _) in VERSIONS {
        let shaken = shake(&certs, web, &[version, "-status"]);
        shaken.assert_answered("b");
        for told in ["OCSP Response Status: successful", "Cert Status: good"] {
            assert!(shaken.0.contains(told), "{version}: {}", shaken.0);
        }
        // The other certificate has none, and who does not ask gets none.
        let other = ["-status", "-servername", "www.example.com"];
        for arguments in [&[version][..], &[&[version], &other[..]].concat()] {
            let shaken = shake(&certs, web, arguments);
            shaken.assert_answered("b");
            assert!(!shaken.0.contains("OCSP Response Status"), "{}", shaken.0);
        }
    }
}

#[test]
#[ignore = "needs openssl: run with cargo test --test e2e -- --ignored"]
fn s_time_opens_and_resumes_sessions_without_an_error() {
    let Some(_turn) = turn(&[OPENSSL]) else { return };
    let (certs, backend) = (Certs::make(), Backend::http("b"));
    let (node, web) = node(&[backend.address()], &[&terminate(&certs, "")]);
    let mut all = 0;
    for (version, _) in VERSIONS {
        for (manner, letter) in [("-new", '*'), ("-reuse", 'r')] {
            let mut command = Command::new("openssl");
            command.args(["s_time", "-connect", &web.to_string(), version, manner]);
            command.args(["-time", "1", "-www", "/", "-CAfile", &certs.path("ca.crt")]);
            let told = run(&mut command, Duration::from_secs(20));
            // A letter for each connection: `r` for a resumed one, `*` for a new one.
            let letters = |line: &&str| !line.is_empty() && line.chars().all(|c| "r*".contains(c));
            let each = told.lines().find(letters).unwrap_or_default();
            let count = each.matches(letter).count();
            report(&format!("s_time {version} {manner}: {count} connections in a second"));
            assert!(count > 10 && count == each.len(), "{told}");
            all += count as u64;
        }
    }
    // It goes as soon as it has its answer, without a word.
    until("all of them are counted", SOON, || {
        let good = ["ok", "client_reset", "client_closed"].map(|reason| ended(&node, reason));
        (good.iter().sum::<u64>() >= all).then_some(())
    });
    for reason in [
        "tls_failed",
        "tls_refused",
        "tls_incompatible",
        "client_tls_broken",
        "client_gone",
        "client_lost",
    ] {
        assert_eq!(ended(&node, reason), 0, "{reason}");
    }
}
