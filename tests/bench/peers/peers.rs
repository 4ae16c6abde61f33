//! The proxies that are compared: how each is configured and started, with one worker unless it says otherwise.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Fault;
use crate::args::Args;
use crate::machine;
use crate::process::{Cpus, Running};
use crate::servers::{Folder, Kind, free_address, until_listening, until_pong, until_sealed_pong};
use crate::tls::Certificates;

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    /// No proxy: what client and server can do on their one CPU.
    Nobody,
    /// Ours, one worker, a plain rule (counting for `/metrics` is always on).
    Tidegate,
    /// Ours with a rate limit and connection caps far away, health checks, gossip with a second node, and `/metrics` read every second.
    TidegateFull,
    /// Ours with a bandwidth limit far away: paced, so never spliced.
    TidegatePaced,
    /// Ours with passthrough: it reads the client's hello.
    TidegatePassthrough,
    /// Ours with two workers.
    TidegateTwo,
    /// HAProxy with `option splice-auto`: it splices when it believes that it pays, which with a fast client is never.
    Haproxy,
    /// HAProxy with `option splice-request` and `splice-response`: it splices always.
    HaproxySplice,
    /// HAProxy without splicing.
    HaproxyPlain,
    /// nginx's stream module.
    Nginx,
}

impl Peer {
    /// Its column.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Nobody => "none",
            Peer::Tidegate => "tidegate",
            Peer::TidegateFull => "tidegate-full",
            Peer::TidegatePaced => "tidegate-paced",
            Peer::TidegatePassthrough => "tidegate-passthrough",
            Peer::TidegateTwo => "tidegate-2",
            Peer::Haproxy => "haproxy",
            Peer::HaproxySplice => "haproxy-splice",
            Peer::HaproxyPlain => "haproxy-plain",
            Peer::Nginx => "nginx",
        }
    }

    /// Programs it needs, with their packages. Ours is built by cargo.
    pub(crate) fn needs(self) -> Option<(&'static str, &'static str)> {
        match self {
            Peer::Haproxy | Peer::HaproxySplice | Peer::HaproxyPlain => {
                Some(("haproxy", "haproxy"))
            }
            Peer::Nginx => Some(("nginx", "nginx-light libnginx-mod-stream")),
            _ => None,
        }
    }
}

/// A proxy that runs (or none).
pub(crate) struct Proxy {
    /// Where the client connects.
    pub address: SocketAddr,
    /// Its processes; nothing for "no proxy".
    pub running: Option<Running>,
    _company: Option<Company>,
}

impl Proxy {
    /// Starts `peer` before `server` on `cpus` and waits until it serves.
    pub(crate) fn start(
        peer: Peer,
        server: SocketAddr,
        kind: Kind,
        cpus: Cpus,
        folder: &Folder,
        args: &Args,
    ) -> Result<Proxy, Fault> {
        if peer == Peer::Nobody {
            return Ok(Proxy { address: server, running: None, _company: None });
        }
        let listen = free_address()?;
        let mut company = None;
        let ends = (kind == Kind::Ended).then(|| Certificates::of(folder));
        let ends = ends.as_ref();
        let (program, arguments, config): (PathBuf, Vec<&str>, String) = match peer {
            Peer::Haproxy | Peer::HaproxySplice | Peer::HaproxyPlain => {
                (args.haproxy.clone(), vec!["-db", "-f"], haproxy(peer, listen, server, ends))
            }
            Peer::Nginx => {
                ("nginx".into(), vec!["-e", "stderr", "-c"], nginx(listen, server, folder, ends))
            }
            _ => {
                let admin = free_address()?;
                let config = match peer {
                    Peer::TidegateFull => {
                        let own = free_address()?;
                        let other = Company::start(own, admin, server, folder, args)?;
                        let config = tidegate_full(listen, server, admin, own, other.gossip);
                        company = Some(other);
                        config
                    }
                    Peer::TidegatePaced => tidegate(1, listen, server, admin, PACED),
                    Peer::TidegateTwo => tidegate(2, listen, server, admin, ""),
                    Peer::TidegatePassthrough => tidegate(1, listen, server, admin, PASSED),
                    _ => {
                        let tls = ends.map(tidegate_ends).unwrap_or_default();
                        tidegate(1, listen, server, admin, &tls)
                    }
                };
                (args.tidegate.clone(), vec!["run", "--config"], config)
            }
        };
        let name = format!("{}-{}", peer.name(), listen.port());
        let config = folder.write(&format!("{name}.conf"), &config)?;
        let mut arguments = arguments;
        arguments.push(config.to_str().ok_or("a path that is not text")?);
        let log = folder.path(&format!("{name}.log"));
        let mut running = Running::start(&program, &arguments, cpus, true, &log)?;
        match kind {
            Kind::Redis => until_pong(listen, &mut running, &log),
            Kind::Iperf => until_listening(listen, &mut running, &log),
            Kind::Ended | Kind::Passed => until_sealed_pong(listen, folder, &mut running, &log),
        }
        .map_err(|error| format!("{}: {error}", peer.name()))?;
        Ok(Proxy { address: listen, running: Some(running), _company: company })
    }
}

fn haproxy(
    peer: Peer,
    listen: SocketAddr,
    server: SocketAddr,
    ends: Option<&Certificates>,
) -> String {
    let tls = ends.map(|ends| format!(" ssl crt {}", ends.both())).unwrap_or_default();
    // Two descriptors per connection must fit under the limit, or HAProxy does not start.
    let maxconn = machine::descriptors().saturating_sub(300).clamp(1000, 20_000) / 2;
    let splice = match peer {
        Peer::Haproxy => "option splice-auto",
        Peer::HaproxySplice => "option splice-request\n  option splice-response",
        _ => "",
    };
    format!(
        "global\n  nbthread 1\n  maxconn {maxconn}\n  maxpipes 64\n\
         defaults\n  mode tcp\n  timeout connect 2s\n  timeout client 10m\n  timeout server 10m\n  {splice}\n\
         listen bench\n  bind {listen} backlog 4096{tls}\n  server backend {server}\n"
    )
}

fn nginx(
    listen: SocketAddr,
    server: SocketAddr,
    folder: &Folder,
    ends: Option<&Certificates>,
) -> String {
    let (ssl, files) = match ends {
        None => ("", String::new()),
        Some(ends) => (" ssl", nginx_ends(ends)),
    };
    let connections = machine::descriptors().saturating_sub(50);
    let pid = folder.path(&format!("nginx-{}.pid", listen.port()));
    format!(
        "load_module modules/ngx_stream_module.so;\ndaemon off;\nworker_processes 1;\npid {};\nerror_log stderr error;\n\
         events {{ worker_connections {connections}; }}\n\
         stream {{ server {{ listen {listen} backlog=4096{ssl}; {files}proxy_pass {server}; proxy_timeout 10m; }} }}\n",
        pid.display()
    )
}

/// Its default has no TLS 1.3 yet.
fn nginx_ends(ends: &Certificates) -> String {
    format!(
        "ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {}; ssl_certificate_key {}; ",
        ends.certificate(),
        ends.key()
    )
}

fn tidegate_ends(ends: &Certificates) -> String {
    format!("\n    tls: {{ cert: \"{}\", key: \"{}\" }}", ends.certificate(), ends.key())
}

/// TLS that is none of our business, but for its hello.
const PASSED: &str = "\n    tls: { mode: passthrough }";

/// Far above what this machine moves, so that only the cost of asking is measured.
const PACED: &str = "
    bandwidth_limit:
      enabled: true
      client: { upload_per_sec: 100000000000, download_per_sec: 100000000000 }
";

fn tidegate(
    workers: usize,
    listen: SocketAddr,
    server: SocketAddr,
    admin: SocketAddr,
    more: &str,
) -> String {
    format!(
        "workers: {workers}\nshutdown_timeout: 1s\nlog: {{ level: warn }}\nadmin: {{ listen: \"{admin}\" }}\nrules:\n  - name: bench\n    \
         listen: \"{listen}\"\n    backends: [\"{server}\"]\n    health_check: {{ type: none }}{more}\n"
    )
}

fn tidegate_full(
    listen: SocketAddr,
    server: SocketAddr,
    admin: SocketAddr,
    gossip: SocketAddr,
    other: SocketAddr,
) -> String {
    format!(
        "workers: 1\nshutdown_timeout: 1s\nlog: {{ level: warn }}\nadmin: {{ listen: \"{admin}\" }}\nrules:\n  - name: bench\n    \
         listen: \"{listen}\"\n    backends: [\"{server}\"]\n    \
         rate_limit: {{ enabled: true, requests_per_second: 1000000, burst: 2000000 }}\n    \
         connection_limit: {{ per_client: 15000, total: 15000 }}\n\
         cluster:\n  enabled: true\n  bind_addr: \"{gossip}\"\n  peers: [\"{other}\"]\n  node_name: measured\n"
    )
}

/// What a node is not alone with: a second node to gossip with, and someone who reads its metrics every second.
struct Company {
    gossip: SocketAddr,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
    _node: Running,
}

impl Company {
    fn start(
        measured: SocketAddr,
        metrics: SocketAddr,
        server: SocketAddr,
        folder: &Folder,
        args: &Args,
    ) -> Result<Company, Fault> {
        let (listen, admin, gossip) = (free_address()?, free_address()?, free_address()?);
        let config =
            tidegate_full(listen, server, admin, gossip, measured).replace("measured", "company");
        let config = folder.write(&format!("company-{}.conf", listen.port()), &config)?;
        let log = folder.path(&format!("company-{}.log", listen.port()));
        let arguments = ["run", "--config", config.to_str().ok_or("a path that is not text")?];
        let mut node =
            Running::start(Path::new(&args.tidegate), &arguments, Cpus::Others, true, &log)?;
        until_listening(listen, &mut node, &log)?;
        let stop = Arc::new(AtomicBool::new(false));
        let reader = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let _ = read_metrics(metrics);
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        });
        Ok(Company { gossip, stop, reader: Some(reader), _node: node })
    }
}

impl Drop for Company {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn read_metrics(at: SocketAddr) -> std::io::Result<usize> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
    stream.read_to_end(&mut Vec::new())
}
