//! What a relay reads from and writes to: a socket as it is, or one with TLS on it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::net::tls::Session;

/// One side of a relay.
pub(super) trait Wire {
    /// The socket below.
    fn socket(&self) -> &TcpStream;

    /// The socket, if bytes go over it as they are: then the kernel may move them.
    fn bare(&mut self) -> Option<&mut TcpStream>;

    /// Reads at most about `most` bytes. Zero: the other end has ended.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
        most: usize,
    ) -> Poll<io::Result<usize>>;

    /// Takes bytes to write.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Ready when the socket has everything that was taken.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Says that nothing more is written; `whole`: and that nothing was cut off before.
    fn poll_end(&mut self, cx: &mut Context<'_>, whole: bool) -> Poll<io::Result<()>>;

    /// Whether closing the socket says as much as [`Wire::poll_end`].
    fn close_says_end(&self) -> bool;

    /// Whether what was read to its end is known to be whole.
    fn was_whole(&self) -> bool;
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }

    fn bare(&mut self) -> Option<&mut TcpStream> {
        Some(self)
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
        most: usize,
    ) -> Poll<io::Result<usize>> {
        let most = most.min(buf.len());
        let mut buf = ReadBuf::new(&mut buf[..most]);
        // poll_read, not try_read: from a short read tokio knows that the socket is empty, and
        // spares the call that would find out.
        let read = Pin::new(self).poll_read(cx, &mut buf);
        read.map_ok(|()| buf.filled().len())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, bytes)
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_end(&mut self, cx: &mut Context<'_>, _: bool) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(cx)
    }

    fn close_says_end(&self) -> bool {
        true
    }

    fn was_whole(&self) -> bool {
        true
    }
}

/// A connection, with or without TLS.
#[derive(Debug)]
pub enum Leg {
    /// Bytes go as they are.
    Bare(TcpStream),
    /// They go sealed.
    Sealed(Box<Sealed>),
}

/// A socket and the session on it.
pub struct Sealed {
    stream: TcpStream,
    session: Box<Session>,
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Leg {
    /// `session` over `stream`.
    pub fn sealed(stream: TcpStream, session: Box<Session>) -> Leg {
        Leg::Sealed(Box::new(Sealed { stream, session }))
    }

    /// `stream`, with the session on it if there is one.
    pub(crate) fn over(stream: TcpStream, session: Option<Box<Session>>) -> Leg {
        match session {
            None => Leg::Bare(stream),
            Some(session) => Leg::sealed(stream, session),
        }
    }

    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Leg::Bare(stream) => stream,
            Leg::Sealed(sealed) => &sealed.stream,
        }
    }

    /// Says that nothing more is written, and ends the writing half.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn end(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_end(cx, true)).await
    }

    /// The socket below, whatever becomes of the session.
    pub fn into_socket(self) -> TcpStream {
        match self {
            Leg::Bare(stream) => stream,
            Leg::Sealed(sealed) => sealed.stream,
        }
    }
}

impl From<TcpStream> for Leg {
    fn from(stream: TcpStream) -> Self {
        Leg::Bare(stream)
    }
}

impl Wire for Leg {
    fn socket(&self) -> &TcpStream {
        Leg::socket(self)
    }

    fn bare(&mut self) -> Option<&mut TcpStream> {
        match self {
            Leg::Bare(stream) => Some(stream),
            Leg::Sealed(_) => None,
        }
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
        most: usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            Leg::Bare(stream) => Wire::poll_read(stream, cx, buf, most),
            Leg::Sealed(sealed) => sealed.session.poll_read(cx, &mut sealed.stream, buf, most),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Leg::Bare(stream) => Wire::poll_write(stream, cx, bytes),
            Leg::Sealed(sealed) => sealed.session.poll_write(cx, &mut sealed.stream, bytes),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Leg::Bare(_) => Poll::Ready(Ok(())),
            Leg::Sealed(sealed) => sealed.session.poll_flush(cx, &mut sealed.stream),
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>, whole: bool) -> Poll<io::Result<()>> {
        match self {
            Leg::Bare(stream) => Wire::poll_end(stream, cx, whole),
            Leg::Sealed(sealed) => {
                if whole {
                    std::task::ready!(sealed.session.poll_end(cx, &mut sealed.stream))?;
                }
                Pin::new(&mut sealed.stream).poll_shutdown(cx)
            }
        }
    }

    fn close_says_end(&self) -> bool {
        match self {
            Leg::Bare(_) => true,
            Leg::Sealed(sealed) => sealed.session.has_said_end(),
        }
    }

    fn was_whole(&self) -> bool {
        match self {
            Leg::Bare(_) => true,
            Leg::Sealed(sealed) => sealed.session.peer_ended(),
        }
    }
}
