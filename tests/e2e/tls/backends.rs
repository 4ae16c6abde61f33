//! nginx and HAProxy as backends: TLS towards them, and TLS that passes through to them.

use std::net::SocketAddr;

use super::{CURL, OPENSSL, curl, curl_fails, ended, node, terminate, wait_ended};
use crate::harness::certs::Certs;
use crate::harness::node::SOON;
use crate::harness::server::{HAPROXY, NGINX, Server, loopback};
use crate::harness::{Need, turn, until};

const NEEDS: [Need; 5] = [CURL, OPENSSL, NGINX[0], NGINX[1], HAPROXY];

/// A backend that checks would find out is tried all the same.
const UNCHECKED: &str = "health_check: { type: none }";

/// nginx with TLS; it says the name that was asked for, who the client is and whether a session was
/// resumed (`r` or `.`).
pub(super) fn nginx(certs: &Certs, stem: &str, more: &str) -> Server {
    // Its own default is TLS 1.2 and older.
    let versions = match more.contains("ssl_protocols") {
        true => "",
        false => "ssl_protocols TLSv1.2 TLSv1.3;",
    };
    let address = loopback();
    let (cert, key) = (certs.path(&format!("{stem}.crt")), certs.path(&format!("{stem}.key")));
    let blocks = format!(
        "http {{\nserver {{ listen {address} ssl; ssl_certificate {cert}; ssl_certificate_key {key}; {versions} {more}\n\
         location / {{ return 200 \"nginx $ssl_server_name $ssl_client_s_dn $ssl_session_reused\"; }} }}\n}}"
    );
    Server::nginx(address, &blocks)
}

/// HAProxy with TLS; it says the name that was asked for, who the client is and whether a session was
/// resumed (`1` or `0`).
pub(super) fn haproxy(certs: &Certs, more: &str) -> Server {
    let address = loopback();
    let bundle = certs.bundle("server");
    let sections = format!(
        "frontend f\n  mode http\n  bind {address} ssl crt {bundle} {more}\n  \
         http-request return status 200 content-type text/plain \
         lf-string \"haproxy %[ssl_fc_sni] %[ssl_c_s_dn] %[ssl_fc_is_resumed]\"\n"
    );
    Server::haproxy(address, &sections)
}

fn url(web: SocketAddr) -> String {
    format!("http://{web}/")
}

#[test]
#[ignore = "needs nginx and haproxy: run with cargo test --test e2e -- --ignored"]
fn backends_are_reached_by_tls_that_is_verified_and_resumed() {
    let Some(_turn) = turn(&NEEDS) else { return };
    let certs = Certs::make();
    certs.issue("pinned", &["rsa:2048"], &["other.example.com"]);
    let ca = certs.path("ca.crt");
    let by_authority = format!("backend_tls: {{ ca: \"{ca}\", server_name: app.example.com }}");
    let by_address = format!("backend_tls: {{ ca: \"{ca}\" }}");
    let pinned = format!(
        "backend_tls: {{ pinned_cert: \"{}\", server_name: app.example.com }}",
        certs.path("pinned.crt")
    );
    let servers: [(Server, &str, &str); 5] = [
        (nginx(&certs, "server", ""), &by_authority, "nginx app.example.com  "),
        (
            nginx(&certs, "server", "ssl_protocols TLSv1.2;"),
            &by_authority,
            "nginx app.example.com  ",
        ),
        // No name is asked for where there is none, and the address is in the certificate.
        (nginx(&certs, "server", ""), &by_address, "nginx   "),
        (nginx(&certs, "pinned", ""), &pinned, "nginx app.example.com  "),
        (haproxy(&certs, ""), &by_authority, "haproxy app.example.com  "),
    ];
    for (server, keys, answer) in &servers {
        let (node, web) = node(&[server.address], &[keys]);
        let first = curl(&[&url(web)]);
        assert!(first.starts_with(answer), "{keys}: {first}");
        let resumed = || curl(&[&url(web)]).ends_with(['r', '1']).then_some(());
        until("a session with the backend is resumed", SOON, resumed);
        assert_eq!(ended(&node, "backend_tls_failed"), 0);
    }
}

#[test]
#[ignore = "needs nginx and haproxy: run with cargo test --test e2e -- --ignored"]
fn a_backend_that_demands_a_certificate_gets_it() {
    let Some(_turn) = turn(&NEEDS) else { return };
    let certs = Certs::make();
    let ca = certs.path("ca.crt");
    let trust = format!("backend_tls: {{ ca: \"{ca}\", server_name: localhost");
    let with = |stem: &str| format!("{trust}, {} }}", certs.pair(stem));
    let demand = format!("ssl_client_certificate {ca}; ssl_verify_client on;");
    for version in ["TLSv1.2", "TLSv1.3"] {
        let server = nginx(&certs, "server", &format!("{demand} ssl_protocols {version};"));
        let (_good, web) = node(&[server.address], &[&with("client.a")]);
        assert!(curl(&[&url(web)]).starts_with("nginx localhost CN=client.a"), "{version}");
        // nginx ends the handshake in either case, and then says 400 and why.
        let (_expired, web) = node(&[server.address], &[&with("expired"), UNCHECKED]);
        assert!(curl_fails(&[&url(web)]).contains("400"), "{version}");
        let (_none, web) = node(&[server.address], &[&format!("{trust} }}"), UNCHECKED]);
        assert!(curl_fails(&[&url(web)]).contains("400"), "{version}");
    }
    for version in ["TLSv1.2", "TLSv1.3"] {
        let demand =
            format!("ca-file {ca} verify required ssl-min-ver {version} ssl-max-ver {version}");
        let server = haproxy(&certs, &demand);
        let (_good, web) = node(&[server.address], &[&with("client.b")]);
        assert!(curl(&[&url(web)]).starts_with("haproxy localhost /CN=client.b"), "{version}");
        // HAProxy breaks the handshake off. By TLS 1.3 it was done by then, as the client sees it.
        let (none, web) = node(&[server.address], &[&format!("{trust} }}"), UNCHECKED]);
        curl_fails(&[&url(web)]);
        let reason = match version {
            "TLSv1.2" => "backend_tls_failed",
            _ => "upstream_tls_broken",
        };
        wait_ended(&none, reason, 1);
    }
}

#[test]
#[ignore = "needs nginx and haproxy: run with cargo test --test e2e -- --ignored"]
fn a_backend_that_cannot_be_verified_gets_nothing() {
    let Some(_turn) = turn(&NEEDS) else { return };
    let certs = Certs::make();
    certs.issue("pinned", &["rsa:2048"], &["localhost"]);
    let file = |name: &str| certs.path(name);
    let servers = [nginx(&certs, "server", ""), haproxy(&certs, "")];
    let distrust = [
        ("another authority", format!("ca: \"{}\"", file("wrong/ca.crt"))),
        ("another name", format!("ca: \"{}\", server_name: example.org", file("ca.crt"))),
        ("another certificate", format!("pinned_cert: \"{}\"", file("pinned.crt"))),
        ("the machine's authorities", "server_name: localhost".to_owned()),
    ];
    for server in &servers {
        for (what, keys) in &distrust {
            let keys = format!("backend_tls: {{ {keys} }}");
            let (node, web) = node(&[server.address], &[&keys, "connect_attempts: 1", UNCHECKED]);
            curl_fails(&[&url(web)]);
            wait_ended(&node, "backend_tls_failed", 1);
            assert_eq!(ended(&node, "ok"), 0, "{what}");
            let failures = node.metric("tidegate_backend_connect_failures_total", &[]);
            assert_eq!(failures, Some(1.0), "{what}: it counts against the backend");
        }
        let (node, web) = node(&[server.address], &["backend_tls: { insecure_skip_verify: true }"]);
        curl(&[&url(web)]);
        assert!(node.log().contains("insecure_skip_verify"), "{}", node.log());
    }
    // Plain text towards TLS, and TLS towards plain text.
    let plain = crate::harness::backend::Backend::http("plain");
    let keys = format!("backend_tls: {{ ca: \"{}\" }}", file("ca.crt"));
    let (node, web) = node(&[plain.address()], &[&keys, "connect_attempts: 1", UNCHECKED]);
    curl_fails(&[&url(web)]);
    wait_ended(&node, "backend_tls_failed", 1);
}

#[test]
#[ignore = "needs nginx and haproxy: run with cargo test --test e2e -- --ignored"]
fn checks_go_the_way_of_connections() {
    let Some(_turn) = turn(&NEEDS) else { return };
    let certs = Certs::make();
    let servers = [nginx(&certs, "server", ""), haproxy(&certs, "")];
    let check =
        "health_check: { type: http, path: /, interval: 100ms, rise: 1, fall: 1, host: localhost }";
    for server in &servers {
        for (authority, up) in [("ca.crt", 1.0), ("wrong/ca.crt", 0.0)] {
            let keys = format!(
                "backend_tls: {{ ca: \"{}\", server_name: localhost }}",
                certs.path(authority)
            );
            let (node, _) = node(&[server.address], &[&keys, check]);
            let state = || node.metric("tidegate_backend_up", &[]);
            until("the check has its answer", SOON, || (state() == Some(up)).then_some(()));
        }
    }
}

#[test]
#[ignore = "needs nginx and haproxy: run with cargo test --test e2e -- --ignored"]
fn the_next_backend_is_tried_when_one_fails_in_its_handshake() {
    let Some(_turn) = turn(&NEEDS) else { return };
    let certs = Certs::make();
    certs.issue("www", &["rsa:2048"], &["www.example.com"]);
    let (good, bad) = (nginx(&certs, "server", ""), nginx(&certs, "www", ""));
    let trust =
        format!("backend_tls: {{ ca: \"{}\", server_name: localhost }}", certs.path("ca.crt"));
    let tls = terminate(&certs, "");
    let (node, web) = node(&[bad.address, good.address], &[&trust, &tls, UNCHECKED]);
    let url = format!("https://localhost:{}/", web.port());
    for _ in 0..10 {
        let said = curl(&["--cacert", &certs.path("ca.crt"), "--ipv4", &url]);
        assert!(said.starts_with("nginx localhost"), "{said}");
    }
    assert_eq!(ended(&node, "backend_tls_failed"), 0);
    let failures = node.metric("tidegate_backend_connect_failures_total", &[]);
    assert!(failures > Some(0.0), "the bad one was tried");
}

#[test]
#[ignore = "needs nginx and haproxy: run with cargo test --test e2e -- --ignored"]
fn tls_passes_through_to_the_backend_of_the_name() {
    let Some(_turn) = turn(&NEEDS) else { return };
    let certs = Certs::make();
    let (one, other) = (nginx(&certs, "server", ""), haproxy(&certs, ""));
    let ca = certs.path("ca.crt");
    let demanding =
        nginx(&certs, "server", &format!("ssl_client_certificate {ca}; ssl_verify_client on;"));
    let routes = [
        ("nginx.example.com", &one),
        ("haproxy.example.com", &other),
        ("mutual.example.com", &demanding),
    ]
    .map(|(name, server)| format!("{{ server_name: {name}, backends: [\"{}\"] }}", server.address));
    let tls = format!("tls: {{ mode: passthrough, routes: [{}] }}", routes.join(", "));
    let (node, web) = node(&[], &[&tls]);
    let port = web.port();
    let ask = |name: &str, more: &[&str]| {
        let (url, resolve) =
            (format!("https://{name}:{port}/"), format!("{name}:{port}:127.0.0.1"));
        let fixed = ["--cacert", &ca, "--resolve", &resolve, &url];
        [&fixed[..], more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let borrowed = |list: &[String]| list.iter().map(String::clone).collect::<Vec<_>>();
    let get =
        |list: Vec<String>| curl(&borrowed(&list).iter().map(String::as_str).collect::<Vec<_>>());
    for version in ["1.2", "1.3"] {
        let only: &[&str] = match version {
            "1.2" => &["--tls-max", "1.2"],
            _ => &["--tlsv1.3"],
        };
        assert!(get(ask("nginx.example.com", only)).starts_with("nginx nginx.example.com"));
        assert!(get(ask("haproxy.example.com", only)).starts_with("haproxy haproxy.example.com"));
        let [_, cert, _, key] = certs.shown("client.a");
        let mutual = [only, &["--cert", &cert, "--key", &key]].concat();
        let said = get(ask("mutual.example.com", &mutual));
        assert!(said.starts_with("nginx mutual.example.com CN=client.a"), "{said}");
    }
    let nowhere = ask("else.example.com", &[]);
    let said = curl_fails(&nowhere.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(said.contains("unrecognized name"), "{said}");
    wait_ended(&node, "no_route", 1);
    curl_fails(&["--insecure", &format!("https://{web}/")]);
    wait_ended(&node, "no_route", 2);
}
