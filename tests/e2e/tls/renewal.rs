//! Certificates that change on disk while connections are made and live.

use std::fs;

use super::{OPENSSL, node};
use crate::harness::backend::Backend;
use crate::harness::certs::Certs;
use crate::harness::node::SOON;
use crate::harness::openssl::shake;
use crate::harness::tls_client::TlsClient;
use crate::harness::{report, turn, until};

const P256: [&str; 3] = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

#[test]
#[ignore = "needs openssl: run with cargo test --test e2e -- --ignored"]
fn a_certificate_that_changes_on_disk_is_shown_and_no_connection_is_dropped() {
    let Some(_turn) = turn(&[OPENSSL]) else { return };
    let (certs, backend) = (Certs::make(), Backend::http("b"));
    certs.issue("site", &P256, &["localhost"]);
    let (node, web) = node(&[backend.address()], &[&format!("tls: {{ {} }}", certs.pair("site"))]);
    let client = TlsClient::new(&certs);
    let mut lines: Vec<_> = (0..20).map(|_| client.open(web).unwrap().0).collect();
    let shown = || shake(&certs, web, &[]).certificate();
    let on_disk = || certs.certificate("site");
    let first = on_disk();
    assert_eq!(shown(), first);
    let (waits, count, faults) = client.load(web, 4, || {
        let kinds: [&[&str]; 3] = [&P256, &["rsa:2048"], &["ed25519"]];
        let mut waits = Vec::new();
        for kind in kinds {
            certs.issue("site", kind, &["localhost"]);
            let new = on_disk();
            let what = format!("the certificate with {kind:?} is shown");
            waits.push(until(&what, SOON, || (shown() == new).then_some(())).1);
        }
        waits
    });
    report(&format!(
        "certificates renewed under load, shown after: {waits:?}; {count} connections meanwhile"
    ));
    assert_eq!(faults, Vec::<String>::new(), "of {count} connections");
    assert!(count > 50, "{count} connections show nothing");
    for line in &mut lines {
        assert_eq!(line.lives(), Ok(()));
    }

    // Half a renewal is none: the old one stays until both files belong together.
    let (key, cert) = (certs.path("site.key"), certs.path("site.crt"));
    let good = [&key, &cert].map(|file| fs::read(file).unwrap());
    let last = on_disk();
    fs::write(&cert, "-----BEGIN CERTIFICATE-----\n").unwrap();
    let fault = || node.view("status")["certificates_fault"].clone();
    until("the fault is told", SOON, || fault().is_string().then_some(()));
    assert_eq!(node.metric("tidegate_certificates_ok", &[]), Some(0.0));
    assert_eq!(shown(), last);
    fs::write(&cert, &good[1]).unwrap();
    until("the fault is gone", SOON, || fault().is_null().then_some(()));
    assert_eq!(node.metric("tidegate_certificates_ok", &[]), Some(1.0));
    assert_eq!(shown(), last);
    for line in &mut lines {
        assert_eq!(line.lives(), Ok(()));
    }
}
