//! Certificates are changed while a node runs, and bad files change nothing.

use std::fs;
use std::path::Path;

use tidegate::admin::shapes::Status;
use tidegate::net::tls::TlsMode;
use tidegate::node::{Node, Reload};

use crate::support::backend::Backend;
use crate::world::{World, host};

/// A certificate for `name`, and its key, both PEM.
fn made(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// A node with a rule that shows a certificate for `one`, in a directory of its own.
async fn start(dir: &Path, backend: &Backend) -> World {
    let (cert, key) = made("one");
    fs::write(dir.join("a.crt"), cert).unwrap();
    fs::write(dir.join("a.key"), key).unwrap();
    let host = host();
    World::start(host, &rules(&host.to_string(), dir, backend, "")).await
}

fn rules(host: &str, dir: &Path, backend: &Backend, more: &str) -> String {
    let (cert, key) = (dir.join("a.crt"), dir.join("a.key"));
    format!(
        "rules:\n  - {{ name: web, listen: \"{host}:8443\", backends: [\"{}\"], \
         tls: {{ cert: \"{}\", key: \"{}\" }} }}\n{more}",
        backend.address,
        cert.display(),
        key.display()
    )
}

/// The name in the certificate that is shown.
fn shown(node: &Node) -> String {
    let plan = node.plan();
    let Some(TlsMode::Terminate(tls)) = plan.rules[0].tls.as_ref().map(|tls| &tls.mode) else {
        panic!("TLS does not end here")
    };
    tls.certificates[0].certificate.facts.identity.dns.join(" ")
}

async fn fault(world: &World) -> Option<String> {
    world.view::<Status>("/api/v1/status").await.certificates_fault
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_and_then_its_key_are_changed_and_the_old_ones_serve_until_both_fit() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::echo().await;
    let world = start(dir.path(), &backend).await;
    let node = &world.node;
    assert_eq!(node.reload_certificates().await, Reload::Unchanged);
    let (cert, key) = made("two");
    fs::write(dir.path().join("a.crt"), cert).unwrap();
    assert_eq!(node.reload_certificates().await, Reload::Refused);
    assert!(fault(&world).await.unwrap().contains("is not the key of"));
    assert_eq!(shown(node), "one");
    fs::write(dir.path().join("a.key"), key).unwrap();
    assert_eq!(node.reload_certificates().await, Reload::Taken);
    assert_eq!((shown(node), fault(&world).await), ("two".to_owned(), None));
    assert_eq!(node.reload_certificates().await, Reload::Unchanged);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_files_change_nothing_and_are_told_until_they_are_mended() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::echo().await;
    let world = start(dir.path(), &backend).await;
    let good = fs::read(dir.path().join("a.key")).unwrap();
    for (bad, words) in
        [("", "holds no key"), ("-----BEGIN ENCRYPTED PRIVATE KEY-----", "encrypted")]
    {
        fs::write(dir.path().join("a.key"), bad).unwrap();
        assert_eq!(world.node.reload_certificates().await, Reload::Refused);
        assert!(fault(&world).await.unwrap().contains(words), "{words}");
        assert_eq!(shown(&world.node), "one");
    }
    fs::write(dir.path().join("a.key"), good).unwrap();
    assert_eq!(world.node.reload_certificates().await, Reload::Unchanged);
    assert_eq!(fault(&world).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_elsewhere_stops_no_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::echo().await;
    let world = start(dir.path(), &backend).await;
    let renew = |name: &str| {
        let (cert, key) = made(name);
        fs::write(dir.path().join("a.crt"), cert).unwrap();
        fs::write(dir.path().join("a.key"), key).unwrap();
    };
    renew("two");
    let text = |more: &str| rules(&world.host.to_string(), dir.path(), &backend, more);
    assert_eq!(world.reload(&text("workres: 2\n")).await, Reload::Refused);
    assert_eq!(shown(&world.node), "two", "certificates are files of their own");
    renew("three");
    assert_eq!(world.node.reload_certificates().await, Reload::Taken);
    assert_eq!(shown(&world.node), "three");

    // A good file is taken with the files it names, and what was wrong with them is over.
    fs::write(dir.path().join("a.key"), "").unwrap();
    assert_eq!(world.reload(&text("")).await, Reload::Refused);
    assert!(fault(&world).await.is_some());
    renew("four");
    assert_eq!(world.reload(&text("")).await, Reload::Taken);
    assert_eq!((shown(&world.node), fault(&world).await), ("four".to_owned(), None));
}
