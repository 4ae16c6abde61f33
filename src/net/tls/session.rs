//! One TLS session at rest and at work, over rustls's unbuffered interface.
//!
//! ```text
//!   socket ── ciphertext ──▶ buffer of the thread ── opened ──▶ plaintext of the caller
//!   socket ◀─ sealed ─────── buffer of the thread ◀──────────── plaintext of the caller
//! ```
//!
//! The thread owns the buffers, as in the relay: a session at rest keeps its keys and nothing else. What
//! a buffer cannot be rid of at once (half a record that came, sealed bytes that the socket did not
//! take) is kept aside, which is rare.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::{CommonState, Error, HandshakeKind};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::machine::{self, Stage, What};

/// Plaintext that is sealed at once.
const MOST_SEALED: usize = 64 * 1024;
/// A record's plaintext at most, and what sealing adds to a record at most.
const RECORD: usize = 16 * 1024;
const OVERHEAD: usize = 64;
/// A record with everything around it, as RFC 5246 allows it.
const WHOLE_RECORD: usize = RECORD + 2048 + 5;
/// Read at once in a handshake.
const HANDSHAKE_READ: usize = 4096;

thread_local! {
    /// For what is sealed or opened: nothing stays in it between two polls.
    static OTHER: RefCell<Box<[u8]>> = RefCell::new(vec![0; OTHER_SIZE].into_boxed_slice());
}

const OTHER_SIZE: usize = MOST_SEALED + (MOST_SEALED / RECORD + 1) * OVERHEAD;

/// A TLS session of either side.
pub struct Session {
    conn: Conn,
    /// Ciphertext that came and could not be opened yet: the beginning of a record, or of a handshake
    /// message that spans several.
    partial: Vec<u8>,
    /// Sealed bytes that the socket has not taken.
    unsent: Vec<u8>,
    /// Plaintext that came with the end of the handshake.
    early: Vec<u8>,
    /// The peer has said that it ends.
    peer_ended: bool,
    /// We have.
    said_end: bool,
    /// What the next read ends with: it stood behind what the last one returned.
    fault: Option<io::Error>,
}

enum Conn {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl From<UnbufferedServerConnection> for Session {
    fn from(conn: UnbufferedServerConnection) -> Self {
        Session::new(Conn::Server(conn))
    }
}

impl From<UnbufferedClientConnection> for Session {
    fn from(conn: UnbufferedClientConnection) -> Self {
        Session::new(Conn::Client(conn))
    }
}

impl Session {
    fn new(conn: Conn) -> Self {
        Session {
            conn,
            partial: Vec::new(),
            unsent: Vec::new(),
            early: Vec::new(),
            peer_ended: false,
            said_end: false,
            fault: None,
        }
    }

    /// What was agreed.
    pub fn agreed(&self) -> &CommonState {
        match &self.conn {
            Conn::Server(conn) => conn,
            Conn::Client(conn) => conn,
        }
    }

    /// Whether it goes on from an earlier session, without another full handshake.
    pub fn resumed(&self) -> bool {
        self.agreed().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// `TLSv1.3`, as OpenSSL names it.
    pub fn version(&self) -> &'static str {
        match self.agreed().protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        }
    }

    /// The cipher suite's name.
    pub fn cipher(&self) -> Option<String> {
        let suite = self.agreed().negotiated_cipher_suite()?.suite();
        suite.as_str().map(|name| name.replace("TLS13_", "TLS_"))
    }

    /// Whether the peer has said that it ends, so that nothing of what it sent was cut off.
    pub(crate) fn peer_ended(&self) -> bool {
        self.peer_ended
    }

    /// Whether [`Session::poll_end`] has nothing left to say.
    pub(crate) fn has_said_end(&self) -> bool {
        self.said_end && self.unsent.is_empty()
    }

    /// Goes through the handshake; `first` is what the peer has sent already. Ends when the handshake
    /// is done and all of ours is sent. Cancel safe as far as it can only be given up.
    ///
    /// # Errors
    /// The peer is gone, or a [`rustls::Error`] within an `InvalidData`. The alert that belongs to it was
    /// sent.
    pub(crate) async fn shake_hands(
        &mut self,
        stream: &mut TcpStream,
        first: Vec<u8>,
    ) -> io::Result<()> {
        self.partial = first;
        let mut stage = self.advance_partial(stream)?;
        loop {
            poll_fn(|cx| self.poll_flush(cx, stream)).await?;
            if stage != Stage::Handshaking {
                return Ok(());
            }
            poll_fn(|cx| self.poll_more(cx, stream)).await?;
            stage = self.advance_partial(stream)?;
        }
    }

    /// Reads more of the handshake.
    fn poll_more(&mut self, cx: &mut Context<'_>, stream: &mut TcpStream) -> Poll<io::Result<()>> {
        let have = self.partial.len();
        self.partial.resize(have + HANDSHAKE_READ, 0);
        let mut buf = ReadBuf::new(&mut self.partial[have..]);
        let read = Pin::new(stream).poll_read(cx, &mut buf);
        let came = buf.filled().len();
        self.partial.truncate(have + came);
        match read {
            Poll::Ready(Ok(())) if came == 0 => {
                Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))
            }
            read => read,
        }
    }

    /// Hands over what was kept; plaintext that comes out of it is early.
    fn advance_partial(&mut self, stream: &TcpStream) -> io::Result<Stage> {
        let mut bytes = std::mem::take(&mut self.partial);
        let mut early = std::mem::take(&mut self.early);
        let advanced = self.advance(&mut bytes, stream, &mut |plain| early.extend(plain));
        self.early = early;
        let (used, stage) = advanced?;
        self.keep(&bytes[used..]);
        Ok(stage)
    }

    /// Keeps what is no whole record. A session at rest holds no room for what may come, and what comes
    /// behind the peer's end is nothing.
    fn keep(&mut self, rest: &[u8]) {
        self.partial = if self.peer_ended { Vec::new() } else { rest.to_vec() };
    }

    /// Opens whole records in `bytes` and does what they ask for; how many bytes are done with. After
    /// an error its alert is sent, if the socket takes it.
    fn advance(
        &mut self,
        bytes: &mut [u8],
        stream: &TcpStream,
        plain: &mut dyn FnMut(&[u8]),
    ) -> io::Result<(usize, Stage)> {
        let (unsent, peer_ended) = (&mut self.unsent, &mut self.peer_ended);
        let advanced = match &mut self.conn {
            Conn::Server(conn) => machine::advance(&mut **conn, bytes, unsent, peer_ended, plain),
            Conn::Client(conn) => machine::advance(&mut **conn, bytes, unsent, peer_ended, plain),
        };
        advanced.map_err(|error| {
            // Nobody is left to be told when this fails.
            let _ = stream.try_write(&std::mem::take(&mut self.unsent));
            io::Error::new(io::ErrorKind::InvalidData, error)
        })
    }

    /// Reads and opens into `buf`, at most about `most` bytes, but a record at least. Zero: the peer
    /// has ended ([`Session::peer_ended`]), or its connection was cut off.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
        buf: &mut [u8],
        most: usize,
    ) -> Poll<io::Result<usize>> {
        if !self.early.is_empty() {
            let n = self.early.len().min(buf.len());
            buf[..n].copy_from_slice(&self.early[..n]);
            self.early = self.early.split_off(n);
            return Poll::Ready(Ok(n));
        }
        let most = most
            .saturating_add(self.partial.len())
            .max(WHOLE_RECORD)
            .min(buf.len())
            .min(OTHER_SIZE);
        loop {
            if let Some(fault) = self.fault.take() {
                return Poll::Ready(Err(fault));
            }
            if self.peer_ended {
                return Poll::Ready(Ok(0));
            }
            let have = self.partial.len();
            if have >= most {
                let error = Error::General("a message longer than any may be".to_owned());
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
            let plain = OTHER.with_borrow_mut(|sealed| {
                let mut read = ReadBuf::new(&mut sealed[have..most]);
                ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
                match read.filled().len() {
                    0 => Poll::Ready(Ok(None)),
                    came => {
                        Poll::Ready(self.open(&mut sealed[..have + came], stream, buf).map(Some))
                    }
                }
            });
            let Some(plain) = ready!(plain)? else { return Poll::Ready(Ok(0)) };
            // What is to be said in answer. When the socket is full, the other direction sends it; when it
            // is broken, that is the other direction's fault, and what came before is still good.
            let _ = self.poll_flush(cx, stream);
            if plain > 0 {
                return Poll::Ready(Ok(plain));
            }
        }
    }

    /// Opens the records of `sealed`, their plaintext to the front of `opened`, which is no shorter; keeps
    /// what is no whole record. What was kept from before goes to the front of `sealed` first. A record
    /// that is at fault takes nothing from those before it.
    fn open(
        &mut self,
        sealed: &mut [u8],
        stream: &TcpStream,
        opened: &mut [u8],
    ) -> io::Result<usize> {
        sealed[..self.partial.len()].copy_from_slice(&self.partial);
        let mut plain = 0;
        let advanced = self.advance(sealed, stream, &mut |piece| {
            opened[plain..plain + piece.len()].copy_from_slice(piece);
            plain += piece.len();
        });
        match advanced {
            Ok((used, _)) => self.keep(&sealed[used..]),
            Err(fault) if plain == 0 => return Err(fault),
            Err(fault) => self.fault = Some(fault),
        }
        Ok(plain)
    }

    /// Seals and writes `bytes`; what was sealed counts as taken, what the socket did not take of it
    /// is kept. Pending while something is kept from before.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx, stream))?;
        let bytes = &bytes[..bytes.len().min(MOST_SEALED)];
        self.seal_and_send(cx, stream, What::Bytes(bytes))?;
        Poll::Ready(Ok(bytes.len()))
    }

    /// Seals and sends all of `bytes`. Cancel safe as far as it can only be given up.
    pub(crate) async fn write_all(
        &mut self,
        stream: &mut TcpStream,
        mut bytes: &[u8],
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = poll_fn(|cx| self.poll_write(cx, stream, bytes)).await?;
            bytes = &bytes[taken..];
        }
        poll_fn(|cx| self.poll_flush(cx, stream)).await
    }

    /// Says that nothing more comes from us; ready when that is sent.
    pub(crate) fn poll_end(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx, stream))?;
        if !std::mem::replace(&mut self.said_end, true) {
            self.seal_and_send(cx, stream, What::End)?;
        }
        self.poll_flush(cx, stream)
    }

    fn seal_and_send(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
        what: What<'_>,
    ) -> io::Result<()> {
        OTHER.with_borrow_mut(|sealed| {
            // rustls remembers where it stopped in what came: it has to see that again.
            let (partial, unsent) = (&mut self.partial, &mut self.unsent);
            let length = match &mut self.conn {
                Conn::Server(conn) => machine::seal(&mut **conn, partial, unsent, what, sealed),
                Conn::Client(conn) => machine::seal(&mut **conn, partial, unsent, what, sealed),
            }?;
            self.send(cx, stream, &sealed[..length])
        })
    }

    /// Writes what it can of `sealed` and keeps the rest.
    fn send(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
        sealed: &[u8],
    ) -> io::Result<()> {
        // A new key goes before what is sealed by it.
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(sealed);
            return Ok(());
        }
        let taken = match Pin::new(stream).poll_write(cx, sealed)? {
            Poll::Ready(taken) => taken,
            Poll::Pending => 0,
        };
        self.unsent.extend_from_slice(&sealed[taken..]);
        Ok(())
    }

    /// Sends what is kept; ready when nothing is.
    pub(crate) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
    ) -> Poll<io::Result<()>> {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match Pin::new(&mut *stream).poll_write(cx, &self.unsent[sent..])? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(n) => sent += n,
                Poll::Pending => {
                    self.unsent.drain(..sent);
                    return Poll::Pending;
                }
            }
        }
        if sent > 0 {
            self.unsent = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
