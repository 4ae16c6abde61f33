//! What scanners find at a rule where TLS ends: nothing weak.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{OPENSSL, node};
use crate::harness::backend::Backend;
use crate::harness::certs::Certs;
use crate::harness::server::{HAPROXY, Server, loopback};
use crate::harness::{Need, report, run, try_run, turn};

const TESTSSL: Need = Need::Tool("testssl", "testssl.sh");
const SSLSCAN: Need = Need::Tool("sslscan", "sslscan");

/// Findings of testssl.sh that are no flaw of ours.
const EXCEPTIONS: [(&str, &str); 4] = [
    // All suites are strong, so that the client's order holds: who has no AES in hardware asks for
    // ChaCha20 first.
    ("cipher_order", "NOT a cipher order configured"),
    // The certificate is of an authority for tests, which has no place to ask.
    ("cert_revocation", "Neither CRL nor OCSP URI provided"),
    // It may go before it has read the ticket, which follows a handshake of TLS 1.3; resumption has tests
    // of its own.
    ("sessionresumption_ticket", "check failed because of connect problem"),
    // Of the machine that runs it.
    ("engine_problem", "No engine or GOST support"),
];

/// Checks that must have been made, or a clean result says nothing.
const MADE: [&str; 22] = [
    "SSLv2",
    "SSLv3",
    "TLS1",
    "TLS1_1",
    "TLS1_2",
    "TLS1_3",
    "cipherlist_NULL",
    "cipherlist_3DES_IDEA",
    "heartbleed",
    "CCS",
    "ticketbleed",
    "ROBOT",
    "secure_renego",
    "CRIME_TLS",
    "POODLE_SSL",
    "SWEET32",
    "FREAK",
    "DROWN",
    "LOGJAM",
    "BEAST",
    "LUCKY13",
    "RC4",
];

/// A rule with an ECDSA and an RSA certificate.
fn both_kinds(certs: &Certs) -> String {
    certs.issue("rsa", &["rsa:2048"], &["localhost"]);
    certs.issue("ecdsa", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], &["localhost"]);
    format!("tls: {{ {}, certificates: [{{ {} }}] }}", certs.pair("ecdsa"), certs.pair("rsa"))
}

#[test]
#[ignore = "needs testssl.sh: run with cargo test --test e2e -- --ignored"]
fn testssl_finds_no_weak_protocol_no_weak_cipher_and_no_known_flaw() {
    let Some(_turn) = turn(&[TESTSSL, OPENSSL]) else { return };
    let (certs, backend) = (Certs::make(), Backend::http("b"));
    let (_node, web) = node(&[backend.address()], &[&both_kinds(&certs)]);
    let json = certs.path("testssl.json");
    let mut command = Command::new("testssl");
    command.args([
        "--quiet",
        "--color",
        "0",
        "--warnings",
        "batch",
        "--nodns",
        "none",
        "--ip",
        "127.0.0.1",
    ]);
    // Protocols, ciphers by strength, what the server prefers, forward secrecy, and every known flaw.
    command.args(["-p", "-s", "-P", "-f", "-S", "-U", "--add-ca", &certs.path("ca.crt")]);
    command.args(["--jsonfile", &json, &format!("https://localhost:{}", web.port())]);
    // Its exit code counts findings of any kind.
    let output = try_run(&mut command, Duration::from_secs(240)).expect("testssl ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let findings = fs::read_to_string(&json).unwrap_or_default();
    let findings: Vec<Value> = serde_json::from_str(&findings).unwrap_or_else(|_| panic!("{said}"));
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap_or("").to_owned();
    let bad: Vec<String> = findings
        .iter()
        .filter(|finding| !["OK", "INFO", "LOW"].contains(&&text(finding, "severity")[..]))
        .filter(|finding| {
            let (id, found) = (text(finding, "id"), text(finding, "finding"));
            // With two certificates, what is found of one has its number in the name.
            let same = |(name, what): &(&str, &str)| {
                id.split(' ').next() == Some(*name) && found.starts_with(what)
            };
            !EXCEPTIONS.iter().any(same)
        })
        .map(Value::to_string)
        .collect();
    assert!(bad.is_empty(), "{}\n{said}", bad.join("\n"));
    for id in MADE {
        assert!(
            findings.iter().any(|found| text(found, "id") == id),
            "{id} was not checked:\n{said}"
        );
    }
    let grave = findings.iter().filter(|found| text(found, "severity") == "LOW").count();
    report(&format!("testssl.sh: {} findings, {grave} of them low, none above", findings.len()));
}

#[test]
#[ignore = "needs sslscan: run with cargo test --test e2e -- --ignored"]
fn sslscan_finds_two_versions_and_strong_ciphers() {
    let Some(_turn) = turn(&[SSLSCAN, OPENSSL, HAPROXY]) else { return };
    let (certs, backend) = (Certs::make(), Backend::http("b"));
    let (_node, web) = node(&[backend.address()], &[&both_kinds(&certs)]);
    let scan = |port: u16| {
        let mut command = Command::new("sslscan");
        command.args(["--no-colour", "--xml=-", "--sni-name=localhost"]);
        run(command.arg(format!("127.0.0.1:{port}")), Duration::from_secs(60))
    };
    let found = scan(web.port());
    let enabled: Vec<&str> = found
        .lines()
        .filter(|line| line.contains("<protocol ") && line.contains("enabled=\"1\""))
        .map(|line| line.split('"').nth(3).unwrap_or(""))
        .collect();
    assert_eq!(enabled, ["1.2", "1.3"], "{found}");
    let ciphers: Vec<&str> = found.lines().filter(|line| line.contains("<cipher ")).collect();
    let weak = |line: &&&str| {
        !["strong", "acceptable"]
            .iter()
            .any(|strength| line.contains(&format!("strength=\"{strength}\"")))
    };
    assert_eq!(ciphers.iter().find(weak), None);
    // Three of TLS 1.3, and three of TLS 1.2 for each kind of key.
    assert_eq!(ciphers.len(), 9, "{found}");
    for flaw in
        ["vulnerable=\"1\"", "<compression supported=\"1\"", "<renegotiation supported=\"1\""]
    {
        assert!(!found.contains(flaw), "{flaw}: {found}");
    }

    // That it would say so, for a server that is weak.
    let address = loopback();
    let old = "ssl-min-ver TLSv1.0 ciphers ALL:@SECLEVEL=0";
    let bundle = certs.bundle("rsa");
    let _weak = Server::haproxy(
        address,
        &format!(
            "listen l\n  mode tcp\n  bind {address} ssl crt {bundle} {old}\n  server s {}\n",
            backend.address()
        ),
    );
    let found = scan(address.port());
    assert!(found.contains("version=\"1.0\" enabled=\"1\""), "{found}");
    assert!(found.contains("strength=\"anonymous\""), "{found}");
}
