//! The backend's HTTP/1.1 with keep-alive: who answered, and answers of any size, status and delay.

use std::convert::Infallible;
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

use super::{Stream, greeting};

/// Longest `/delay/MS`.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// What `/bytes/N` is made of.
static ZEROS: [u8; 64 * 1024] = [b'0'; 64 * 1024];

/// Answers requests.
pub(super) struct Site {
    greeting: Bytes,
    name: HeaderValue,
    failing: AtomicBool,
}

impl Site {
    pub(super) fn new(name: &str) -> Self {
        Site {
            greeting: greeting(name).into(),
            // A name that no header can carry is still shown in the body.
            name: HeaderValue::from_str(name).unwrap_or(HeaderValue::from_static("?")),
            failing: AtomicBool::new(false),
        }
    }

    pub(super) async fn serve(self: Arc<Self>, stream: impl Stream) {
        let service = service_fn(|request| {
            let site = Arc::clone(&self);
            async move { Ok::<_, Infallible>(site.answer(request).await) }
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
