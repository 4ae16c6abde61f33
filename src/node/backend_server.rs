//! `tidegate backend-server`: a small named backend, for trying things out, for the demo and for
//! the compose cluster. Says who answered, so that balancing can be seen, and what came, so that
//! it can be seen from the backend's side as well.

mod http;
mod lines;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::http::Site;
use self::lines::Peer;
use crate::base::{Drain, Draining};
use crate::net::proxy_header::{HeaderFault, read_header};
use crate::net::tls::{
    Certificate, CertificateFiles, ClientsPlan, HandshakeFault, MaterialError, Roots, ServedPlan,
    SetupError, TerminatePlan, Terminator, TlsVersion,
};

/// Rest after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A PROXY header and a handshake must be done within this.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);

/// What a backend answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every line is told, and answered by `Reply from upstream NAME: ` and the line.
    Lines,
    /// Every byte comes back, after the line `Reply from upstream NAME` if `greet`.
    Echo {
        /// Says its name first.
        greet: bool,
    },
    /// HTTP/1.1 with keep-alive: `/`, `/healthz`, `/fail` (toggles what `/healthz` says),
    /// `/bytes/N`, `/delay/MS`, `/status/CODE`.
    Http,
}

/// Where a backend tells, a line at a time, what comes.
pub type Tell = Box<dyn Fn(&str) + Send + Sync>;

/// A backend that is not served yet.
pub struct Backend {
    /// How it calls itself.
    pub name: String,
    /// What it answers.
    pub mode: Mode,
    /// TLS ends here; `None`: it speaks in the clear.
    pub tls: Option<Terminator>,
    /// Connections begin with a PROXY header.
    pub proxy_protocol: bool,
    /// What comes is told there: in [`Mode::Lines`] all of it, else who was turned away. Who leaves
    /// without a word is never told.
    pub tell: Tell,
}

/// Why a backend cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error(transparent)]
    File(#[from] MaterialError),
    /// What is in them.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

/// TLS with this certificate; with `client_ca` clients must show certificates of it.
///
/// # Errors
/// A file cannot be read, or holds something else.
pub fn terminator(
    files: CertificateFiles,
    client_ca: Option<PathBuf>,
) -> Result<Terminator, TlsError> {
    let certificate = Arc::new(Certificate::read(files)?);
    let clients = client_ca.map(Roots::read).transpose()?.map(|roots| ClientsPlan {
        ca: Arc::new(roots),
        required: true,
        crl: None,
    });
    let plan = TerminatePlan {
        certificates: vec![ServedPlan { server_name: None, certificate }],
        clients,
        min_version: TlsVersion::Tls12,
        alpn: Vec::new(),
    };
    let tickets = aws_lc_rs::Ticketer::new().map_err(SetupError::Tls)?;
    Ok(Terminator::new(&plan, tickets)?)
}

impl Backend {
    /// One that speaks in the clear and tells nothing.
    pub fn quiet(name: impl Into<String>, mode: Mode) -> Backend {
        Backend {
            name: name.into(),
            mode,
            tls: None,
            proxy_protocol: false,
            tell: Box::new(|_| {}),
        }
    }

    /// Serves until `drain` reaches [`Draining::Over`] or its owner is gone; connections that are
    /// open then are cut. A failed accept does not end it.
    pub async fn serve(self, listener: TcpListener, mut drain: Drain) {
        let site = Arc::new(Site::new(&self.name));
        let backend = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.reached(Draining::Over) => return,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, address)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            // Small answers must not wait for the client's acknowledgement.
            let _ = stream.set_nodelay(true);
            let (backend, site) = (Arc::clone(&backend), Arc::clone(&site));
            connections.spawn(async move { backend.attend(stream, address, site).await });
        }
    }

    /// One connection to its end.
    async fn attend(&self, mut stream: TcpStream, address: SocketAddr, site: Arc<Site>) {
        let mut peer = Peer::new(address);
        if self.proxy_protocol {
            match greeted(header(&mut stream)).await {
                Ok(named) => peer.named = named,
                Err(why) => return self.turned_away(&peer, why.as_deref()),
            }
        }
        let Some(tls) = &self.tls else { return self.talk(stream, &peer, site).await };
        match greeted(tls.accept_plainly(stream)).await {
            Ok((stream, identity)) => {
                peer.identity = identity.map(|identity| identity.name().to_owned());
                self.talk(stream, &peer, site).await;
            }
            Err(why) => self.turned_away(&peer, why.as_deref()),
        }
    }

    /// `why`: `None` of who left by itself, as health checks do.
    fn turned_away(&self, peer: &Peer, why: Option<&str>) {
        if let Some(why) = why {
            (self.tell)(&peer.not_served(why));
        }
    }

    /// How a client ends its connection is its own affair.
    async fn talk(&self, stream: impl Stream, peer: &Peer, site: Arc<Site>) {
        match self.mode {
            Mode::Lines => lines::answer(stream, &self.name, peer, &self.tell).await,
            Mode::Echo { greet } => drop(self.echo(stream, greet).await),
            Mode::Http => site.serve(stream).await,
        }
    }

    async fn echo(&self, stream: impl Stream, greet: bool) -> io::Result<()> {
        let (mut from, mut to) = tokio::io::split(stream);
        if greet {
            to.write_all(greeting(&self.name).as_bytes()).await?;
        }
        tokio::io::copy(&mut from, &mut to).await?;
        to.shutdown().await
    }
}

/// With TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

fn greeting(name: &str) -> String {
    format!("Reply from upstream {name}\n")
}

/// What `greeting` comes to within its time, or why it came to nothing; `None`: the peer left.
async fn greeted<T, E: Into<Turned>>(
    greeting: impl Future<Output = Result<T, E>>,
) -> Result<T, Option<String>> {
    match timeout(GREETING_TIMEOUT, greeting).await {
        Ok(done) => done.map_err(|error| error.into().0),
        Err(_) => Err(Some(format!("said too little within {} s", GREETING_TIMEOUT.as_secs()))),
    }
}

/// Why somebody was turned away; `None`: who left by himself.
struct Turned(Option<String>);

impl From<HandshakeFault> for Turned {
    fn from(fault: HandshakeFault) -> Self {
        Turned(match fault {
            HandshakeFault::Gone(_) => None,
            fault => Some(fault.to_string()),
        })
    }
}

impl From<HeaderFault> for Turned {
    fn from(fault: HeaderFault) -> Self {
        Turned(Some(fault.to_string()))
    }
}

impl From<io::Error> for Turned {
    fn from(_: io::Error) -> Self {
        Turned(None)
    }
}

/// Whom the PROXY header names. Reads byte by byte, so that nothing of what follows is taken.
async fn header(stream: &mut TcpStream) -> Result<Option<SocketAddr>, Turned> {
    let mut bytes = Vec::new();
    loop {
        bytes.push(stream.read_u8().await?);
        if let Some((header, _)) = read_header(&bytes)? {
            return Ok(header.source);
        }
    }
}
