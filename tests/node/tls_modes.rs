//! `cluster-configs/tls-modes.yaml`, each of its ports driven by a client, with its backends behind.

use std::future::pending;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tidegate::base::drain::{DrainSignal, drain_signal};
use tidegate::config;
use tidegate::net::tls::{CertificateFiles, Originator};
use tidegate::node::Node;
use tidegate::node::backend_server::{Backend, Mode, terminator};
use tidegate::node::certs;
use tidegate::node::client::{self, Credentials, Summary};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::SOON;
use crate::world::host;

/// The node, its backends and what the one behind PROXY headers was told.
struct Ground {
    host: Ipv4Addr,
    dir: tempfile::TempDir,
    told: Arc<Mutex<Vec<String>>>,
    _node: Arc<Node>,
    _backends: DrainSignal,
}

impl Ground {
    async fn start() -> Ground {
        let dir = tempfile::tempdir().unwrap();
        let host = host();
        make_certs(&dir.path().join("certs"), &["localhost", "*.example.com"], true);
        make_certs(&dir.path().join("certs/other"), &["other.example.org"], false);
        let (signal, drain) = drain_signal();
        let told = Arc::new(Mutex::new(Vec::new()));
        let server = dir.path().join("certs/server");
        for port in 8000..=8003 {
            let listener = TcpListener::bind((host, port)).await.unwrap();
            let mut backend = Backend::quiet(format!("{host}:{port}"), Mode::Lines);
            if port == 8002 {
                let (cert, key) = (server.with_extension("crt"), server.with_extension("key"));
                let files = CertificateFiles { cert, key, ocsp: None };
                backend.tls = Some(terminator(files, None).unwrap());
            }
            if port == 8003 {
                let told = Arc::clone(&told);
                backend.proxy_protocol = true;
                backend.tell = Box::new(move |line| told.lock().unwrap().push(line.to_owned()));
            }
            tokio::spawn(backend.serve(listener, drain.clone()));
        }
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster-configs/tls-modes.yaml");
        let text = std::fs::read_to_string(example).unwrap();
        assert!(text.contains("\"client.a-deny-127.0.0.1:8000\""));
        let file = dir.path().join("cluster-configs/lb.yaml");
        std::fs::create_dir(file.parent().unwrap()).unwrap();
        // The same ports, on an address that no other test has.
        std::fs::write(&file, text.replace("127.0.0.1:", &format!("{host}:"))).unwrap();
        let plan = config::load(&file).unwrap_or_else(|faults| panic!("{faults}")).plan;
        let node = Node::start(plan).await.unwrap();
        Ground { host, dir, told, _node: node, _backends: signal }
    }

    fn credentials(&self, id: Option<&str>, server_name: &str) -> Credentials {
        Credentials {
            dir: self.dir.path().join("certs"),
            id: id.map(str::to_owned),
            ca: None,
            pair: None,
            server_name: Some(server_name.to_owned()),
        }
    }

    /// Says four lines, each over a connection of its own unless it is kept.
    async fn say(&self, port: u16, count: u64, credentials: Credentials) -> Summary {
        let wanted = client::Wanted {
            connect: format!("{}:{port}", self.host).parse().unwrap(),
            name: "test".to_owned(),
            tls: Some(credentials.read().unwrap()),
            count: Some(count),
            interval: 0..=1,
        };
        timeout(SOON, client::run(&wanted, pending(), &|_| {})).await.unwrap().unwrap()
    }

    /// Who answers a client `id` at `port`.
    async fn answers(&self, port: u16, id: Option<&str>) -> String {
        let said = self.say(port, 1, self.credentials(id, "localhost")).await;
        let mut who: Vec<_> = said.upstreams().keys().map(String::as_str).collect();
        who.extend(said.refusals().keys().map(String::as_str));
        who.join(" ")
    }
}

fn make_certs(dir: &Path, names: &[&str], wrong_ca: bool) {
    let wanted = certs::Wanted {
        dir: dir.to_owned(),
        clients: 3,
        server_names: names.iter().map(|name| (*name).to_owned()).collect(),
        days: 365,
        wrong_ca,
        force: false,
    };
    certs::make(&wanted).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mode_of_the_example_serves_whom_it_should_and_refuses_the_others() {
    let ground = Ground::start().await;
    let at = |port: u16| format!("{}:{port}", ground.host);

    // Termination, by the first certificate and by one that another name asks for.
    assert!([at(8000), at(8001)].contains(&ground.answers(8443, None).await));
    assert!([at(8000), at(8001)].contains(&ground.answers(8444, None).await));
    let other = Credentials {
        ca: Some(ground.dir.path().join("certs/other/ca.crt")),
        ..ground.credentials(None, "other.example.org")
    };
    assert_eq!(ground.say(8444, 1, other.clone()).await.replies(), 1);
    assert_eq!(ground.say(8443, 1, other).await.replies(), 0, "only 8444 has that name");

    // Re-encryption, by an authority and pinned.
    assert_eq!(ground.answers(8445, None).await, at(8002));
    assert_eq!(ground.answers(8450, None).await, at(8002));

    // Who may go where.
    for _ in 0..4 {
        assert_eq!(ground.answers(8446, Some("client.a")).await, at(8001));
    }
    assert!([at(8000), at(8001)].contains(&ground.answers(8446, Some("client.b")).await));
    for (id, words) in [
        (Some("client.c"), "turned away without an answer"),
        (Some("revoked"), "our certificate: revoked"),
        (Some("expired"), "our certificate: expired"),
        (None, "wants a certificate of ours"),
    ] {
        let refused = ground.answers(8446, id).await;
        assert!(refused.contains(words), "{id:?}: {refused}");
    }
    let certs = ground.dir.path().join("certs");
    let wrong = Credentials {
        dir: certs.join("wrong"),
        ca: Some(certs.join("ca.crt")),
        ..ground.credentials(Some("client.a"), "localhost")
    };
    assert_eq!(ground.say(8446, 1, wrong).await.replies(), 0);

    // A limit for each name, and none for other names.
    for _ in 0..3 {
        assert!(ground.answers(8447, Some("client.a")).await.starts_with(&ground.host.to_string()));
    }
    let refused = ground.answers(8447, Some("client.a")).await;
    assert!(refused.contains("turned away"), "{refused}");
    assert!(ground.answers(8447, Some("client.b")).await.starts_with(&ground.host.to_string()));
    assert!(ground.answers(8447, None).await.starts_with(&ground.host.to_string()));

    // Passthrough, by name.
    assert_eq!(ground.answers(8448, None).await, at(8002));
    let named = ground.say(8448, 1, ground.credentials(None, "db.example.com")).await;
    assert_eq!(named.upstreams().get(&at(8002)), Some(&1));
    let nowhere = ground.say(8448, 1, ground.credentials(None, "example.net")).await;
    assert!(nowhere.refusals().keys().next().unwrap().contains("nothing under the name"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_before_tls_reaches_the_backend_and_without_one_nothing_does() {
    let ground = Ground::start().await;
    let plan = ground.credentials(None, "localhost").read().unwrap();
    let to: tidegate::base::Endpoint = format!("{}:8449", ground.host).parse().unwrap();
    let mut stream = TcpStream::connect((ground.host, 8449)).await.unwrap();
    stream.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.8 4000 443\r\n").await.unwrap();
    let mut stream = Originator::new(&plan, &to).connect_plainly(stream).await.unwrap();
    stream.write_all(b"hello\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = String::new();
    timeout(SOON, stream.read_to_string(&mut all)).await.unwrap().unwrap();
    assert_eq!(all, format!("Reply from upstream {}:8003: hello\n", ground.host));
    let told = ground.told.lock().unwrap().clone();
    assert!(told.iter().any(|line| line.ends_with(" for 192.0.2.7:4000 says: hello")), "{told:?}");
    assert_eq!(ground.say(8449, 1, ground.credentials(None, "localhost")).await.replies(), 0);
}
