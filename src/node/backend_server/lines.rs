//! Lines, each told and answered: what goes on is seen from the backend's side.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};
use tokio::time::timeout;

use super::{Stream, Tell};

/// A longer line is answered in pieces.
const LONGEST_LINE: u64 = 64 * 1024;
/// Who has been silent for so long is no check, and is told of.
const CHECKS_LAST: Duration = Duration::from_millis(100);
/// Of a line, so much is told.
const TOLD: usize = 200;

/// Who is at the other end.
pub(super) struct Peer {
    address: SocketAddr,
    /// Whom a PROXY header named.
    pub(super) named: Option<SocketAddr>,
    /// By its certificate.
    pub(super) identity: Option<String>,
}

impl Peer {
    pub(super) fn new(address: SocketAddr) -> Self {
        Peer { address, named: None, identity: None }
    }

    pub(super) fn not_served(&self, why: &str) -> String {
        format!("{self} not served: {why}")
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.fmt(f)?;
        if let Some(named) = self.named {
            write!(f, " for {named}")?;
        }
        if let Some(identity) = &self.identity {
            write!(f, " ({})", printable(identity))?;
        }
        Ok(())
    }
}

/// Answers every line by `Reply from upstream NAME: ` and the line.
pub(super) async fn answer(stream: impl Stream, name: &str, peer: &Peer, tell: &Tell) {
    let (from, to) = tokio::io::split(stream);
    let mut from = BufReader::new(from);
    // Health checks come and go without a word: nobody wants to read of each.
    match timeout(CHECKS_LAST, from.fill_buf()).await {
        Ok(Ok([]) | Err(_)) => return,
        Ok(Ok(_)) | Err(_) => tell(&format!("{peer} opened")),
    }
    let mut count: u64 = 0;
    let says = |line: &[u8]| tell(&format!("{peer} says: {}", shown(line)));
    let ended = answer_each(from, to, name, &mut count, &says).await;
    let lines = if count == 1 { "1 line".to_owned() } else { format!("{count} lines") };
    match ended {
        Ok(()) => tell(&format!("{peer} closed after {lines}")),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            tell(&format!("{peer} broke off after {lines}, without TLS's own end"));
        }
        Err(error) => tell(&format!("{peer} broke off after {lines}: {error}")),
    }
}

async fn answer_each(
    mut from: impl AsyncBufRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    name: &str,
    count: &mut u64,
    tell: &(dyn Fn(&[u8]) + Sync),
) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut from).take(LONGEST_LINE).read_until(b'\n', &mut line).await? == 0 {
            return to.shutdown().await;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        *count += 1;
        tell(text);
        let reply = [format!("Reply from upstream {name}: ").as_bytes(), text, b"\n"].concat();
        to.write_all(&reply).await?;
        to.flush().await?;
    }
}

fn shown(line: &[u8]) -> String {
    let more = if line.len() > TOLD { " …" } else { "" };
    printable(&String::from_utf8_lossy(&line[..line.len().min(TOLD)])) + more
}

/// What others send must not steer a terminal.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}
