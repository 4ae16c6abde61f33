//! Every example of TLS in `docs/configuration.md`, run as it stands there: clients that others wrote in
//! front, and servers that others wrote behind. Only addresses and the place of the files are put in.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::backends::{haproxy, nginx};
use super::proxy_headers::{self, CLIENT, haproxy_in_front};
use super::{CURL, OPENSSL, curl, curl_fails, wait_ended};
use crate::harness::backend::Backend;
use crate::harness::certs::Certs;
use crate::harness::host::Host;
use crate::harness::node::Node;
use crate::harness::openssl::shake;
use crate::harness::server::{HAPROXY, NGINX, Server, loopback};
use crate::harness::{Need, repository, turn};
use crate::pages::examples;

const NEEDS: [Need; 5] = [CURL, OPENSSL, NGINX[0], NGINX[1], HAPROXY];
const P256: [&str; 3] = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

#[test]
#[ignore = "needs nginx and haproxy: run with cargo test --test e2e -- --ignored"]
fn every_example_of_tls_does_what_its_page_says() {
    let Some(_turn) = turn(&NEEDS) else { return };
    let mut driven = Vec::new();
    for (line, text) in examples(&repository().join("docs/configuration.md")) {
        let sealed = ["tls:", "proxy_protocol:"].iter().any(|key| text.contains(key));
        // The one with every key has several rules; it is loaded by another test.
        if !sealed || text.matches("listen:").count() != 1 {
            continue;
        }
        let name = text.lines().find_map(|line| line.trim().strip_prefix("- name: ")).unwrap();
        println!("docs/configuration.md:{line}: {name}");
        match name {
            "example" => tls_ends_here(&text),
            "web" => names_have_certificates_of_their_own(&text),
            "through" => tls_passes_through_by_name(&text),
            "by-protocol" => tls_passes_through_by_protocol(&text),
            "sealed" => backends_are_reached_by_tls(&text),
            "api" => clients_show_certificates_and_go_where_they_may(&text),
            "partners" => clients_may_show_certificates(&text),
            "behind" => proxy_headers_come_and_go(&text),
            other => panic!("docs/configuration.md:{line}: nothing drives `{other}`"),
        }
        driven.push(name.to_owned());
    }
    assert_eq!(driven.len(), 8, "have examples gone? {driven:?}");
}

/// The example with these servers in the place of its backends, and where it listens.
#[track_caller]
fn start(certs: &Certs, text: &str, backends: &[(&str, SocketAddr)]) -> (Node, SocketAddr) {
    let web = loopback();
    let (_, listen) = text.split_once("listen: \"").unwrap();
    let listen = &listen[..listen.find('"').unwrap()];
    let mut text = text.replace(listen, &web.to_string()).replace("./certs/", &certs.path(""));
    for (written, address) in backends {
        assert!(text.contains(written), "{written} is not in the example");
        text = text.replace(written, &address.to_string());
    }
    // Whoever is in front of us is on this machine.
    text = text.replace("10.0.0.0/8", "127.0.0.0/8");
    assert!(!text.contains("10.0."), "an address is left:\n{text}");
    (Node::start(Host::here(), "n", &text), web)
}

/// What curl gets over TLS from `name` at `web`.
#[track_caller]
fn get(certs: &Certs, web: SocketAddr, name: &str, more: &[&str]) -> String {
    let (url, resolve, ca) = request(certs, web, name);
    curl(&[&["--cacert", &ca, "--resolve", &resolve, &url], more].concat())
}

/// That it gets nothing.
#[track_caller]
fn gets_nothing(certs: &Certs, web: SocketAddr, name: &str, more: &[&str]) -> String {
    let (url, resolve, ca) = request(certs, web, name);
    curl_fails(&[&["--cacert", &ca, "--resolve", &resolve, &url], more].concat())
}

fn request(certs: &Certs, web: SocketAddr, name: &str) -> (String, String, String) {
    let port = web.port();
    (format!("https://{name}:{port}/"), format!("{name}:{port}:{}", web.ip()), certs.path("ca.crt"))
}

/// nginx with a certificate of its own for `names`.
fn server(certs: &Certs, stem: &str, names: &[&str]) -> Server {
    certs.issue(stem, &P256, names);
    nginx(certs, stem, "")
}

fn tls_ends_here(text: &str) {
    let (certs, backend) = (Certs::make(), Backend::http("b"));
    let (_node, web) = start(&certs, text, &[("127.0.0.1:8081", backend.address())]);
    assert_eq!(get(&certs, web, "localhost", &[]), "Reply from upstream b");
    shake(&certs, web, &["-tls1_2"]).assert_answered("b");
}

fn names_have_certificates_of_their_own(text: &str) {
    let certs = Certs::make();
    certs.issue("www", &P256, &["www.example.com"]);
    certs.issue("wild", &P256, &["*.example.com"]);
    let backends = ["one", "other"].map(Backend::http);
    let [one, other] = backends.each_ref().map(Backend::address);
    let (_node, web) = start(&certs, text, &[("127.0.0.1:8081", one), ("127.0.0.1:8082", other)]);
    for (asked, shown) in
        [("www.example.com", "www"), ("a.example.com", "wild"), ("localhost", "tidegate")]
    {
        let shaken = shake(&certs, web, &["-servername", asked, "-verify_hostname", asked]);
        assert_eq!(shaken.field("subject=CN ="), Some(shown), "{}", shaken.0);
        assert!(get(&certs, web, asked, &[]).starts_with("Reply from upstream "));
    }
}

fn tls_passes_through_by_name(text: &str) {
    let certs = Certs::make();
    let (db, one, other) = (
        haproxy(&certs, ""),
        server(&certs, "one", &["*.example.com"]),
        server(&certs, "other", &["*.example.com"]),
    );
    let backends = [
        ("10.0.0.7:5432", db.address),
        ("10.0.0.8:443", one.address),
        ("10.0.0.9:443", other.address),
    ];
    let (node, web) = start(&certs, text, &backends);
    let subjects = |name: &str| -> BTreeSet<String> {
        let shaken = (0..6).map(|_| shake(&certs, web, &["-servername", name]));
        shaken.filter_map(|shaken| shaken.field("subject=CN =").map(str::to_owned)).collect()
    };
    assert_eq!(subjects("db.example.com"), BTreeSet::from(["tidegate".to_owned()]));
    assert_eq!(subjects("a.example.com"), BTreeSet::from(["one".to_owned(), "other".to_owned()]));
    assert!(get(&certs, web, "a.example.com", &[]).starts_with("nginx a.example.com"));
    let said = gets_nothing(&certs, web, "example.net", &[]);
    assert!(said.contains("unrecognized name"), "{said}");
    wait_ended(&node, "no_route", 1);
}

fn tls_passes_through_by_protocol(text: &str) {
    let certs = Certs::make();
    // nginx refuses protocols that it does not know.
    let acme = haproxy(&certs, "");
    let [api, rest] = ["api", "rest"].map(|stem| server(&certs, stem, &["*.example.com"]));
    let backends = [
        ("127.0.0.1:8402", acme.address),
        ("10.0.0.9:443", api.address),
        ("10.0.0.8:443", rest.address),
    ];
    let (_node, web) = start(&certs, text, &backends);
    for (name, offered, whose) in [
        ("www.example.com", "acme-tls/1", "tidegate"),
        ("api.example.com", "acme-tls/1", "tidegate"),
        ("api.example.com", "http/1.1,h2", "api"),
        ("api.example.com", "http/1.1", "rest"),
        ("www.example.com", "h2,http/1.1", "rest"),
    ] {
        let shaken = shake(&certs, web, &["-servername", name, "-alpn", offered]);
        assert_eq!(shaken.field("subject=CN ="), Some(whose), "{name} {offered}: {}", shaken.0);
    }
    assert_eq!(
        get(&certs, web, "api.example.com", &["--no-alpn"]).trim(),
        "nginx api.example.com  ."
    );
}

fn backends_are_reached_by_tls(text: &str) {
    let certs = Certs::make();
    // The last is pinned: whatever its name, and from no authority that is named.
    let [app, other, pinned] = [
        server(&certs, "of-app", &["app.internal"]),
        server(&certs, "of-other", &["other.internal"]),
        server(&certs, "app", &["nowhere.example"]),
    ];
    let plain = Backend::http("plain");
    let backends = [
        ("10.0.0.5:8443", app.address),
        ("10.0.0.6:8443", other.address),
        ("10.0.0.7:8443", pinned.address),
        ("127.0.0.1:8081", plain.address()),
    ];
    let (_node, web) = start(&certs, text, &backends);
    let said: BTreeSet<_> = (0..12)
        .map(|_| get(&certs, web, "localhost", &[]))
        .map(|said| said.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    // nginx says by which name it was asked for: an address is none.
    let told: Vec<_> = said.iter().map(String::as_str).collect();
    assert_eq!(told, ["Reply from", "nginx ", "nginx app.internal", "nginx other.internal"]);
}

fn clients_show_certificates_and_go_where_they_may(text: &str) {
    let certs = Certs::make();
    certs.issue("client.z", &P256, &["z.example"]);
    let backends = ["first", "second"].map(Backend::http);
    let [first, second] = backends.each_ref().map(Backend::address);
    let (node, web) = start(&certs, text, &[("127.0.0.1:8000", first), ("127.0.0.1:8001", second)]);
    let of = |client: &str| {
        let [_, cert, _, key] = certs.shown(client);
        ["--cert".to_owned(), cert, "--key".to_owned(), key]
    };
    let said = |client: &str| -> BTreeSet<String> {
        let shown = of(client);
        let shown = shown.each_ref().map(String::as_str);
        (0..8).map(|_| get(&certs, web, "localhost", &shown)).collect()
    };
    let reply = |backend: &str| format!("Reply from upstream {backend}");
    assert_eq!(said("client.a"), BTreeSet::from([reply("second")]));
    assert_eq!(said("client.b"), BTreeSet::from([reply("first"), reply("second")]));
    for (client, reason) in [
        ("client.z", "not_authorized"),
        ("revoked", "tls_revoked_certificate"),
        ("expired", "tls_expired_certificate"),
        ("wrong/client.a", "tls_untrusted_certificate"),
    ] {
        gets_nothing(&certs, web, "localhost", &of(client).each_ref().map(String::as_str));
        wait_ended(&node, reason, 1);
    }
    gets_nothing(&certs, web, "localhost", &[]);
    wait_ended(&node, "tls_no_certificate", 1);
}

fn clients_may_show_certificates(text: &str) {
    let (certs, backend) = (Certs::make(), Backend::http("b"));
    let (node, web) = start(&certs, text, &[("127.0.0.1:8000", backend.address())]);
    let [_, cert, _, key] = certs.shown("client.a");
    let shown = ["--cert", &cert, "--key", &key];
    let mut admitted = [0, 0];
    for (i, more) in [&shown[..], &[]].into_iter().enumerate() {
        // A bucket each: what one has used is not missing from the other's.
        let refused = (0..20).find(|_| {
            let (url, resolve, ca) = request(&certs, web, "localhost");
            let arguments = [&["--cacert", &ca, "--resolve", &resolve, &url], more].concat();
            super::try_curl(&arguments).is_none()
        });
        admitted[i] = refused.expect("the limit is reached");
    }
    assert!(admitted.iter().all(|admitted| (5..=7).contains(admitted)), "{admitted:?}");
    wait_ended(&node, "rate_limited", 2);
    let [_, cert, _, key] = certs.shown("revoked");
    gets_nothing(&certs, web, "localhost", &["--cert", &cert, "--key", &key]);
    wait_ended(&node, "tls_revoked_certificate", 1);
}

fn proxy_headers_come_and_go(text: &str) {
    let certs = Certs::make();
    let backend = proxy_headers::nginx(&certs, false);
    let (node, web) = start(&certs, text, &[("127.0.0.1:8081", backend.address)]);
    for manner in ["send-proxy", "send-proxy-v2"] {
        let front = haproxy_in_front(web, "", manner);
        let said = curl(&["--interface", CLIENT, &format!("http://{}/", front.address)]);
        assert_eq!(said.trim(), format!("nginx {CLIENT} to {}", front.address), "{manner}");
    }
    curl_fails(&[&format!("http://{web}/")]);
    wait_ended(&node, "proxy_header", 1);
}
