//! `tidegate backend-server`: a small named backend, for trying things out, for the demo and for
//! the compose cluster. Says who answered, so that balancing can be seen with `curl` or `nc`.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::base::{Drain, Draining};

/// Longest `/delay/MS`.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// Rest after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What `/bytes/N` is made of.
static ZEROS: [u8; 64 * 1024] = [b'0'; 64 * 1024];

/// What a backend answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every byte comes back, after the line `Reply from upstream NAME` if `greet`.
    Echo {
        /// Says its name first.
        greet: bool,
    },
    /// HTTP/1.1 with keep-alive: `/`, `/healthz`, `/fail` (toggles what `/healthz` says),
    /// `/bytes/N`, `/delay/MS`, `/status/CODE`.
    Http,
}

/// Serves as `name` until `drain` reaches [`Draining::Over`] or its owner is gone; connections
/// that are open then are cut. A failed accept does not end it.
pub async fn serve(listener: TcpListener, name: impl Into<String>, mode: Mode, mut drain: Drain) {
    let backend = Arc::new(Backend::new(&name.into()));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.reached(Draining::Over) => return,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Small answers must not wait for the client's acknowledgement.
        let _ = stream.set_nodelay(true);
        let backend = Arc::clone(&backend);
        // How a client ends its connection is its own affair.
        connections.spawn(async move {
            match mode {
                Mode::Echo { greet } => drop(backend.echo(stream, greet).await),
                Mode::Http => backend.http(stream).await,
            }
        });
    }
}

struct Backend {
    greeting: Bytes,
    name: HeaderValue,
    failing: AtomicBool,
}

impl Backend {
    fn new(name: &str) -> Self {
        Backend {
            greeting: format!("Reply from upstream {name}\n").into(),
            // A name that no header can carry is still shown in the body.
            name: HeaderValue::from_str(name).unwrap_or(HeaderValue::from_static("?")),
            failing: AtomicBool::new(false),
        }
    }

    async fn echo(&self, mut stream: TcpStream, greet: bool) -> io::Result<()> {
        let (mut from, mut to) = stream.split();
        if greet {
            to.write_all(&self.greeting).await?;
        }
        tokio::io::copy(&mut from, &mut to).await?;
        to.shutdown().await
    }

    async fn http(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(|request| {
            let backend = Arc::clone(&self);
            async move { Ok::<_, Infallible>(backend.answer(request).await) }
        });
        let mut builder = http1::Builder::new();
        // Idle connections are kept: the proxy in front decides how long.
        builder.timer(TokioTimer::new()).header_read_timeout(None).half_close(true);
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Response<Reply> {
        // An unread body would end the keep-alive.
        while let Some(Ok(_)) = request.body_mut().frame().await {}
        let path = request.uri().path();
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let (first, second) = (parts.next().unwrap_or_default(), parts.next());
        let number = second.and_then(|text| text.parse::<u64>().ok());
        let (status, body) = match (first, second, number) {
            ("", None, _) => (StatusCode::OK, Reply::text(self.greeting.clone())),
            ("healthz", None, _) if self.failing.load(Ordering::Relaxed) => {
                (StatusCode::SERVICE_UNAVAILABLE, Reply::text("failing\n"))
            }
            ("healthz", None, _) => (StatusCode::OK, Reply::text("ok\n")),
            ("fail", None, _) => {
                let failed = self.failing.fetch_xor(true, Ordering::Relaxed);
                let now = if failed { "healthy again\n" } else { "failing from now on\n" };
                (StatusCode::OK, Reply::text(now))
            }
            ("bytes", _, Some(length)) => (StatusCode::OK, Reply::zeros(length)),
            ("delay", _, Some(ms)) => {
                tokio::time::sleep(Duration::from_millis(ms).min(MAX_DELAY)).await;
                (StatusCode::OK, Reply::text(self.greeting.clone()))
            }
            // Below 200 an answer is not final, and a client would wait for ever.
            ("status", _, Some(code @ 200..=599)) => {
                let status = StatusCode::from_u16(code as u16).unwrap_or_default();
                (status, Reply::text(self.greeting.clone()))
            }
            _ => {
                let what = "try /, /healthz, /fail, /bytes/N, /delay/MS, /status/200..599\n";
                (StatusCode::NOT_FOUND, Reply::text(what))
            }
        };
        let mut answer = Response::new(body);
        *answer.status_mut() = status;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        answer.headers_mut().insert(CONTENT_TYPE, plain);
        answer.headers_mut().insert(HeaderName::from_static("x-backend"), self.name.clone());
        answer
    }
}

/// A body: a text, then a number of bytes that are never all in memory.
struct Reply {
    text: Bytes,
    zeros: u64,
}

impl Reply {
    fn text(text: impl Into<Bytes>) -> Self {
        Reply { text: text.into(), zeros: 0 }
    }

    fn zeros(length: u64) -> Self {
        Reply { text: Bytes::new(), zeros: length }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.text.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.text)))));
        }
        if self.zeros == 0 {
            return Poll::Ready(None);
        }
        let length = self.zeros.min(ZEROS.len() as u64);
        self.zeros -= length;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&ZEROS[..length as usize])))))
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_empty() && self.zeros == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.zeros.saturating_add(self.text.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::AsyncReadExt;
    use tokio::time::timeout;

    use super::*;
    use crate::base::drain::{DrainSignal, drain_signal};

    const DEADLINE: Duration = Duration::from_secs(20);

    async fn start(mode: Mode) -> (SocketAddr, DrainSignal) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (signal, drain) = drain_signal();
        tokio::spawn(serve(listener, "b1", mode, drain));
        (address, signal)
    }

    async fn say(address: SocketAddr, words: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut all = String::new();
        timeout(DEADLINE, stream.read_to_string(&mut all)).await.unwrap().unwrap();
        all
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        say(address, &format!("GET {path} HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n")).await
    }

    #[tokio::test]
    async fn an_echo_gives_back_every_byte_and_its_end() {
        let (address, _signal) = start(Mode::Echo { greet: false }).await;
        let long = "0123456789".repeat(50_000);
        assert_eq!(say(address, "ping\n").await, "ping\n");
        assert_eq!(say(address, "").await, "");
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (mut from, mut to) = stream.split();
        let sent = async {
            to.write_all(long.as_bytes()).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let mut all = String::new();
        let read = from.read_to_string(&mut all);
        let (_, read) = timeout(DEADLINE, async { tokio::join!(sent, read) }).await.unwrap();
        read.unwrap();
        assert!(all == long);
    }

    #[tokio::test]
    async fn a_greeting_names_the_backend_first() {
        let (address, _signal) = start(Mode::Echo { greet: true }).await;
        assert_eq!(say(address, "ping\n").await, "Reply from upstream b1\nping\n");
    }

    #[tokio::test]
    async fn http_names_the_backend_and_keeps_the_connection() {
        let (address, _signal) = start(Mode::Http).await;
        let post = "POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\nabc";
        let head = "HEAD / HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n";
        let answers = say(address, &format!("{post}{head}")).await;
        assert_eq!(answers.matches("x-backend: b1\r\n").count(), 2, "{answers}");
        assert_eq!(answers.matches("\r\n\r\nReply from upstream b1\n").count(), 1, "{answers}");
        assert_eq!(answers.matches("content-length: 23\r\n").count(), 2, "{answers}");
    }

    #[tokio::test]
    async fn health_can_be_made_to_fail_and_to_heal() {
        let (address, _signal) = start(Mode::Http).await;
        for want in ["200 OK", "503 Service Unavailable", "200 OK"] {
            let answer = get(address, "/healthz").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {want}")), "{answer}");
            get(address, "/fail").await;
        }
    }

    #[tokio::test]
    async fn sizes_statuses_and_delays_are_as_asked() {
        let (address, _signal) = start(Mode::Http).await;
        for length in [0, 1, 65_536, 200_000] {
            let answer = get(address, &format!("/bytes/{length}")).await;
            assert_eq!(answer.split_once("\r\n\r\n").unwrap().1.len(), length);
        }
        assert!(get(address, "/status/418").await.starts_with("HTTP/1.1 418 "));
        assert!(get(address, "/status/204").await.starts_with("HTTP/1.1 204 "));
        assert!(get(address, "/delay/1").await.starts_with("HTTP/1.1 200 "));
        for path in
            ["/status/100", "/status/999", "/bytes/x", "/bytes/-1", "/bytes", "/x", "/healthz/x"]
        {
            assert!(get(address, path).await.starts_with("HTTP/1.1 404 "), "{path}");
        }
    }

    #[tokio::test]
    async fn a_drained_backend_cuts_what_is_open() {
        let (address, signal) = start(Mode::Echo { greet: false }).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        let mut byte = [0];
        timeout(DEADLINE, stream.read_exact(&mut byte)).await.unwrap().unwrap();
        signal.say(Draining::Over);
        let ended = timeout(DEADLINE, stream.read(&mut byte)).await.expect("must be cut");
        assert!(matches!(ended, Ok(0) | Err(_)));
    }
}
