//! Backends: the program's own `backend-server` in processes of their own.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::host::Host;
use super::{binary, free_port, load, until};

/// A running backend, killed on drop.
pub(crate) struct Backend {
    child: Child,
    host: Host,
    listen: SocketAddr,
    name: String,
    options: Vec<&'static str>,
}

impl Backend {
    /// An HTTP backend on this machine.
    pub(crate) fn http(name: &str) -> Backend {
        let ip = [127, 0, 0, 1].into();
        Backend::start(Host::here(), SocketAddr::new(ip, free_port(ip)), name, &["--http"])
    }

    /// A TCP backend on this machine that says its name in a line and then echoes.
    pub(crate) fn echo(name: &str) -> Backend {
        let ip = [127, 0, 0, 1].into();
        Backend::start(Host::here(), SocketAddr::new(ip, free_port(ip)), name, &["--greet"])
    }

    /// Anything anywhere.
    pub(crate) fn start(
        host: Host,
        listen: SocketAddr,
        name: &str,
        options: &[&'static str],
    ) -> Backend {
        let child = spawn(&host, listen, name, options);
        let backend = Backend { child, host, listen, name: name.into(), options: options.into() };
        backend.wait();
        backend
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listen
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again where it was.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.host, self.listen, &self.name, &self.options);
        self.wait();
    }

    /// Waits until it accepts.
    fn wait(&self) {
        let what = format!("backend {} accepts on {}", self.name, self.listen);
        self.host.inside(|| {
            until(&what, Duration::from_secs(10), || {
                std::net::TcpStream::connect_timeout(&self.listen, Duration::from_secs(1)).ok()
            })
        });
    }

    /// Asks it itself, without a node in between.
    pub(crate) fn ask(&self, path: &str) -> Result<String, String> {
        self.host.inside(|| load::ask(self.listen, path))
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(host: &Host, listen: SocketAddr, name: &str, options: &[&'static str]) -> Child {
    host.inside(|| {
        Command::new(binary())
            .args(["backend-server", "--listen", &listen.to_string(), "--name", name])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", binary().display()))
    })
}
