//! One check of one backend. Its cost is bounded by the caller's timeout and by the sizes here.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use crate::health::{CheckKind, CheckPlan};
use crate::net::tls::Originator;
use crate::net::{self, HeaderVersion, TcpOptions, write_local};

/// Most bytes of a head that are read.
const MAX_HEAD: usize = 16 * 1024;
/// Most bytes of a body that are searched.
const MAX_BODY: usize = 64 * 1024;

/// What a check found, in words.
#[derive(Debug)]
pub(super) enum Finding {
    /// The backend is well.
    Good(String),
    /// It is not.
    Bad(String),
    /// Nothing was learnt of it: this node could not even ask.
    Nothing(String),
}

impl From<Result<String, String>> for Finding {
    fn from(found: Result<String, String>) -> Self {
        match found {
            Ok(said) => Finding::Good(said),
            Err(said) => Finding::Bad(said),
        }
    }
}

impl From<io::Error> for Finding {
    fn from(error: io::Error) -> Self {
        let said = format!("connect: {error}");
        if net::is_own_lack(&error) { Finding::Nothing(said) } else { Finding::Bad(said) }
    }
}

/// Whom a check goes to, and how its connections begin.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) address: SocketAddr,
    /// As configured.
    pub(super) name: &'a str,
    pub(super) tcp: &'a TcpOptions,
    /// As for clients' connections; a check's own port gets neither.
    pub(super) send_proxy: Option<HeaderVersion>,
    pub(super) tls: Option<&'a Originator>,
}

/// Checks once.
pub(super) async fn check(plan: &CheckPlan, target: Target<'_>) -> Finding {
    let Some(kind) = &plan.kind else { return Finding::Good("checks are off".to_owned()) };
    let target = match plan.port {
        None => target,
        Some(port) => {
            let address = SocketAddr::new(target.address.ip(), port);
            Target { address, send_proxy: None, tls: None, ..target }
        }
    };
    let work = async {
        let mut stream = match net::connect(target.address, target.tcp).await {
            Ok(stream) => stream,
            Err(error) => return error.into(),
        };
        if let Some(version) = target.send_proxy
            && let Err(error) = stream.write_all(&write_local(version)).await
        {
            return error.into();
        }
        let Some(tls) = target.tls else { return ask(kind, target.name, stream).await };
        match tls.connect_plainly(stream).await {
            Ok(stream) => ask(kind, target.name, stream).await,
            Err(fault) => Finding::Bad(format!("tls: {fault}")),
        }
    };
    match tokio::time::timeout(plan.timeout, work).await {
        Ok(found) => found,
        Err(_) => Finding::Bad(format!("no answer in {}", Millis(plan.timeout))),
    }
}

async fn ask<S: Stream>(kind: &CheckKind, name: &str, stream: S) -> Finding {
    match kind {
        CheckKind::Tcp => Finding::Good("connected".to_owned()),
        CheckKind::Http { path, host, expect_status, expect_body } => {
            let host = host.as_deref().unwrap_or(name);
            let asked = Asked { path, host, expect_status, expect_body: expect_body.as_deref() };
            asked.of(stream).await.into()
        }
    }
}

/// A connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// What is asked of an HTTP backend.
struct Asked<'a> {
    path: &'a str,
    host: &'a str,
    expect_status: &'a [(u16, u16)],
    expect_body: Option<&'a str>,
}

impl Asked<'_> {
    async fn of<S: Stream>(&self, stream: S) -> Result<String, String> {
        let request = Request::get(self.path)
            .header(header::HOST, self.host)
            .header(header::USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION"), " check"))
            .header(header::ACCEPT, "*/*")
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| format!("cannot ask for `{}`: {error}", self.path))?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| format!("http: {error}"))?;
        let exchange = async {
            let response =
                sender.send_request(request).await.map_err(|error| format!("http: {error}"))?;
            self.judge(response).await
        };
        tokio::pin!(exchange, connection);
        // The connection is driven from here and ends with us: a check leaves no task behind.
        tokio::select! {
            biased;
            found = &mut exchange => found,
            _ = &mut connection => exchange.await,
        }
    }

    async fn judge(&self, response: Response<Incoming>) -> Result<String, String> {
        let status = response.status().as_u16();
        if !self.expect_status.iter().any(|&(low, high)| (low..=high).contains(&status)) {
            return Err(format!("status {status}"));
        }
        let Some(wanted) = self.expect_body else { return Ok(format!("status {status}")) };
        let mut body = response.into_body();
        let mut read = Vec::new();
        while read.len() < MAX_BODY {
            match body.frame().await {
                None => break,
                Some(Err(error)) => return Err(format!("status {status}, body: {error}")),
                Some(Ok(frame)) => {
                    let piece = frame.into_data().unwrap_or_default();
                    let room = MAX_BODY - read.len();
                    // Only what is new is searched, and what may have begun before it: a body in
                    // crumbs must not cost its length squared.
                    let from = read.len().saturating_sub(wanted.len());
                    read.extend_from_slice(&piece[..piece.len().min(room)]);
                    if contains(&read[from..], wanted.as_bytes()) {
                        return Ok(format!("status {status}, body as expected"));
                    }
                }
            }
        }
        match contains(&read, wanted.as_bytes()) {
            true => Ok(format!("status {status}, body as expected")),
            false => Err(format!("status {status}, body without the expected text")),
        }
    }
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || text.windows(wanted.len()).any(|window| window == wanted)
}

/// A duration as the configuration writes it.
struct Millis(Duration);

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ms", self.0.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_descriptors_finds_nothing_out() {
        let of = |code| Finding::from(io::Error::from_raw_os_error(code));
        assert!(matches!(of(libc::EMFILE), Finding::Nothing(_)));
        assert!(matches!(of(libc::ECONNREFUSED), Finding::Bad(_)));
        // An IPv6 backend on a host without IPv6: it cannot be used, and that should be seen.
        assert!(matches!(of(libc::EADDRNOTAVAIL), Finding::Bad(_)));
    }
}
