//! PROXY headers between tidegate, HAProxy and nginx, in both directions.

use std::net::SocketAddr;

use super::{CURL, OPENSSL, curl, curl_fails, ended, mutual, node, terminate, wait_ended};
use crate::harness::certs::Certs;
use crate::harness::host::Host;
use crate::harness::node::{Node, SOON};
use crate::harness::server::{HAPROXY, NGINX, Server, loopback};
use crate::harness::{Need, turn, until};

const NEEDS: [Need; 5] = [CURL, OPENSSL, NGINX[0], NGINX[1], HAPROXY];
/// Where clients come from, so that they can be told from the servers on 127.0.0.1.
pub(super) const CLIENT: &str = "127.0.0.9";

/// nginx that reads headers of both versions and says whom they name.
pub(super) fn nginx(certs: &Certs, tls: bool) -> Server {
    let address = loopback();
    let (cert, key) = (certs.path("server.crt"), certs.path("server.key"));
    let sealed = if tls {
        format!("ssl; ssl_certificate {cert}; ssl_certificate_key {key}")
    } else {
        String::new()
    };
    Server::nginx(
        address,
        &format!(
            "http {{\nserver {{ listen {address} proxy_protocol {sealed};\nlocation / {{ return 200 \
             \"nginx $proxy_protocol_addr to $proxy_protocol_server_addr:$proxy_protocol_server_port\"; }} }}\n}}"
        ),
    )
}

/// HAProxy that reads headers of both versions and says whom they name.
fn haproxy(certs: &Certs, tls: bool) -> Server {
    let address = loopback();
    let sealed = if tls { format!("ssl crt {}", certs.bundle("server")) } else { String::new() };
    Server::haproxy(
        address,
        &format!(
            "frontend f\n  mode http\n  bind {address} accept-proxy {sealed}\n  \
             http-request return status 200 content-type text/plain \
             lf-string \"haproxy %[src] to %[dst]:%[dst_port] %[fc_pp_authority]\"\n"
        ),
    )
}

/// HAProxy that passes connections on, each with a header.
pub(super) fn haproxy_in_front(web: SocketAddr, bind: &str, manner: &str) -> Server {
    let address = loopback();
    Server::haproxy(
        address,
        &format!("listen l\n  mode tcp\n  bind {address} {bind}\n  server s {web} {manner}\n"),
    )
}

/// nginx that does.
fn nginx_in_front(web: SocketAddr) -> Server {
    let address = loopback();
    let server = format!("server {{ listen {address}; proxy_pass {web}; proxy_protocol on; }}");
    Server::nginx(address, &format!("stream {{\n{server}\n}}"))
}

/// A node with one rule behind balancers on 127.0.0.1.
fn behind(backend: SocketAddr, keys: &[&str]) -> (Node, SocketAddr) {
    let web = loopback();
    let rule = super::rule("web", web, &[backend], keys);
    let body = format!("trusted_proxies: [\"127.0.0.1/32\"]\nrules:\n{rule}");
    (Node::start(Host::here(), "n", &body), web)
}

#[test]
#[ignore = "needs nginx and haproxy: run with cargo test --test e2e -- --ignored"]
fn backends_learn_of_the_client_by_headers_of_both_versions() {
    let Some(_turn) = turn(&NEEDS) else { return };
    let certs = Certs::make();
    let backend_tls = format!("backend_tls: {{ ca: \"{}\" }}", certs.path("ca.crt"));
    let ca = certs.path("ca.crt");
    for version in ["v1", "v2"] {
        let send = format!("proxy_protocol: {{ send: {version} }}");
        for tls in [false, true] {
            // The header goes ahead of TLS.
            let keys: &[&str] = if tls { &[&send, &backend_tls] } else { &[&send] };
            for (server, name) in [(nginx(&certs, tls), "nginx"), (haproxy(&certs, tls), "haproxy")]
            {
                let (_node, web) = node(&[server.address], keys);
                let said = curl(&["--interface", CLIENT, &format!("http://{web}/")]);
                assert_eq!(said.trim(), format!("{name} {CLIENT} to {web}"), "{version} {tls}");
            }
        }
        // Ahead of TLS that passes through.
        for (server, name) in [(nginx(&certs, true), "nginx"), (haproxy(&certs, true), "haproxy")] {
            let (_node, web) = node(&[server.address], &[&send, "tls: { mode: passthrough }"]);
            let url = format!("https://localhost:{}/", web.port());
            let said = curl(&["--interface", CLIENT, "--cacert", &ca, "--ipv4", &url]);
            let told = format!("{name} {CLIENT} to {web}");
            assert!(said.starts_with(&told), "{version}: {said}");
        }
    }
}

#[test]
#[ignore = "needs nginx and haproxy: run with cargo test --test e2e -- --ignored"]
fn checks_begin_with_a_header_as_connections_do() {
    let Some(_turn) = turn(&NEEDS) else { return };
    let certs = Certs::make();
    let check =
        "health_check: { type: http, path: /, interval: 100ms, rise: 1, fall: 1, host: localhost }";
    let backend_tls = format!("backend_tls: {{ ca: \"{}\" }}", certs.path("ca.crt"));
    for tls in [false, true] {
        for server in [nginx(&certs, tls), haproxy(&certs, tls)] {
            for (version, up) in [("v1", 1.0), ("v2", 1.0), ("none", 0.0)] {
                let send = format!("proxy_protocol: {{ send: {version} }}");
                let keys: &[&str] =
                    if tls { &[&send, check, &backend_tls] } else { &[&send, check] };
                let (node, _) = node(&[server.address], keys);
                let state = || node.metric("tidegate_backend_up", &[]);
                let what = format!("{version}: the check has its answer");
                until(&what, SOON, || (state() == Some(up)).then_some(()));
            }
        }
    }
}

#[test]
#[ignore = "needs haproxy: run with cargo test --test e2e -- --ignored"]
fn a_backend_learns_of_the_name_that_the_client_asked_for() {
    let Some(_turn) = turn(&NEEDS) else { return };
    let certs = Certs::make();
    let server = haproxy(&certs, false);
    let [_, cert, _, key] = certs.shown("client.a");
    let keys = [&mutual(&certs)[..], "proxy_protocol: { send: v2 }"];
    let (_node, web) = node(&[server.address], &keys);
    let (name, ca, port) = ("app.example.com", certs.path("ca.crt"), web.port());
    let said = curl(&[
        "--cacert",
        &ca,
        "--cert",
        &cert,
        "--key",
        &key,
        "--resolve",
        &format!("{name}:{port}:127.0.0.1"),
        "--interface",
        CLIENT,
        &format!("https://{name}:{port}/"),
    ]);
    assert_eq!(said, format!("haproxy {CLIENT} to {web} {name}"));
}

#[test]
#[ignore = "needs nginx and haproxy: run with cargo test --test e2e -- --ignored"]
fn the_client_that_a_balancer_in_front_names_is_the_client() {
    let Some(_turn) = turn(&NEEDS) else { return };
    let certs = Certs::make();
    let server = nginx(&certs, false);
    // Two connections each, and no more for an hour.
    let keys = [
        "proxy_protocol: { accept: true, send: v2 }",
        "rate_limit: { type: fixed_window, limit: 2, window: 1h }",
    ];
    let fronts: [(&str, &dyn Fn(SocketAddr) -> Server); 4] = [
        ("haproxy, version 1", &|web| haproxy_in_front(web, "", "send-proxy")),
        ("haproxy, version 2", &|web| haproxy_in_front(web, "", "send-proxy-v2")),
        ("haproxy, version 2 with a checksum", &|web| {
            haproxy_in_front(web, "", "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority")
        }),
        ("nginx", &nginx_in_front),
    ];
    for (what, in_front) in fronts {
        let (node, web) = behind(server.address, &keys);
        let front = in_front(web);
        let url = format!("http://{}/", front.address);
        for client in [CLIENT, "127.0.0.10"] {
            for _ in 0..2 {
                let said = curl(&["--interface", client, &url]);
                let told = format!("nginx {client} to {}", front.address);
                assert_eq!(said, told, "{what}");
            }
            curl_fails(&["--interface", client, &url]);
        }
        wait_ended(&node, "rate_limited", 2);
        // Who comes by itself is none of those that may name others, and who may has to.
        let direct = format!("http://{web}/");
        let before = [ended(&node, "proxy_untrusted"), ended(&node, "proxy_header")];
        curl_fails(&["--interface", CLIENT, &direct]);
        wait_ended(&node, "proxy_untrusted", before[0] + 1);
        curl_fails(&[&direct]);
        wait_ended(&node, "proxy_header", before[1] + 1);
    }
}

#[test]
#[ignore = "needs haproxy: run with cargo test --test e2e -- --ignored"]
fn a_header_with_what_haproxy_knows_of_a_clients_tls_is_read() {
    let Some(_turn) = turn(&NEEDS) else { return };
    let certs = Certs::make();
    let server = nginx(&certs, false);
    let (bundle, ca) = (certs.bundle("server"), certs.path("ca.crt"));
    let bind = format!("ssl crt {bundle} ca-file {ca} verify required alpn http/1.1");
    let [_, cert, _, key] = certs.shown("client.a");
    for manner in [
        "send-proxy-v2-ssl",
        "send-proxy-v2-ssl-cn",
        "send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c",
    ] {
        let (_node, web) = behind(server.address, &["proxy_protocol: { accept: true, send: v1 }"]);
        let front = haproxy_in_front(web, &bind, manner);
        let url = format!("https://localhost:{}/", front.address.port());
        let shown = ["--cacert", &ca, "--cert", &cert, "--key", &key];
        let said = curl(&[&shown[..], &["--interface", CLIENT, "--ipv4", &url]].concat());
        assert_eq!(said, format!("nginx {CLIENT} to {}", front.address), "{manner}");
    }
}

#[test]
#[ignore = "needs nginx and haproxy: run with cargo test --test e2e -- --ignored"]
fn tls_ends_here_behind_a_header() {
    let Some(_turn) = turn(&NEEDS) else { return };
    let certs = Certs::make();
    let (server, ca) = (nginx(&certs, false), certs.path("ca.crt"));
    let keys = ["proxy_protocol: { accept: true, send: v2 }", &terminate(&certs, "")];
    let (_node, web) = behind(server.address, &keys);
    let fronts = [haproxy_in_front(web, "", "send-proxy-v2"), nginx_in_front(web)];
    for front in fronts {
        let url = format!("https://localhost:{}/", front.address.port());
        let said = curl(&["--interface", CLIENT, "--cacert", &ca, "--ipv4", &url]);
        assert_eq!(said, format!("nginx {CLIENT} to {}", front.address));
    }
}
