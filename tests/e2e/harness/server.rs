//! Servers that others wrote, in processes of their own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::{fs, thread};

use tempfile::TempDir;

use super::node::SOON;
use super::{Need, free_port, until};

/// nginx with what it needs for `stream` blocks.
pub(crate) const NGINX: [Need; 2] =
    [Need::Tool("nginx", "nginx-light"), Need::Tool(STREAM_MODULE, "libnginx-mod-stream")];
/// HAProxy.
pub(crate) const HAPROXY: Need = Need::Tool("haproxy", "haproxy");

const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// A foreign server, killed on drop; when a test fails, what it wrote is shown.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    directory: TempDir,
}

impl Server {
    /// Starts a program that is to listen on loopback; `arguments` take the port.
    pub(crate) fn start(program: &str, arguments: impl FnOnce(&str) -> Vec<String>) -> Server {
        let address = loopback();
        let arguments = arguments(&address.port().to_string());
        Server::spawn(program, address, directory(), &arguments)
    }

    /// nginx with these blocks, `http` or `stream`, one of whose servers listens on `address`.
    pub(crate) fn nginx(address: SocketAddr, blocks: &str) -> Server {
        let directory = directory();
        let at = |name: &str| in_directory(&directory, name);
        let (pid, log, temporary) = (at("pid"), at("log"), at("temporary"));
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {temporary};\n"))
            .concat();
        let blocks = blocks.replace("http {", &format!("http {{\naccess_log off;\n{paths}"));
        // One process: a killed master would leave its workers behind.
        let text = format!(
            "load_module {STREAM_MODULE};\ndaemon off;\nmaster_process off;\npid {pid};\n\
             error_log {log};\nevents {{}}\n{blocks}\n"
        );
        let config = at("nginx.conf");
        fs::write(&config, text).unwrap();
        let arguments = ["-e", &log, "-c", &config].map(str::to_owned);
        Server::spawn("nginx", address, directory, &arguments)
    }

    /// HAProxy with these sections, one of which listens on `address`.
    pub(crate) fn haproxy(address: SocketAddr, sections: &str) -> Server {
        let directory = directory();
        let text = format!(
            "global\n  maxconn 200\n  nbthread 1\ndefaults\n  timeout connect 5s\n  \
             timeout client 20s\n  timeout server 20s\n{sections}\n"
        );
        let config = in_directory(&directory, "haproxy.cfg");
        fs::write(&config, text).unwrap();
        let arguments = ["-db", "-f", &config].map(str::to_owned);
        Server::spawn("haproxy", address, directory, &arguments)
    }

    fn spawn(
        program: &str,
        address: SocketAddr,
        directory: TempDir,
        arguments: &[String],
    ) -> Server {
        let said = fs::File::create(directory.path().join("said")).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let mut server = Server { child, address, directory };
        until(program, SOON, || {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "{program} ended: {}", server.said());
            TcpStream::connect(address).ok()
        });
        server
    }

    fn said(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.directory.path().join(name));
        ["said", "log"].map(|name| read(name).unwrap_or_default()).concat()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            println!("--- the server on {} said:\n{}", self.address, self.said());
        }
    }
}

fn directory() -> TempDir {
    tempfile::Builder::new().prefix("tidegate-e2e-").tempdir().unwrap()
}

fn in_directory(directory: &TempDir, name: &str) -> String {
    text(&directory.path().join(name))
}

/// A path as arguments and configurations have it.
pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("a path of ASCII").to_owned()
}

/// A free address on this machine.
pub(crate) fn loopback() -> SocketAddr {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    SocketAddr::new(ip, free_port(ip))
}
