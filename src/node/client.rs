//! `tidegate client`: sends a line now and then and tells what becomes of it, so that clients with
//! different rights can be watched side by side.

mod credentials;
mod ending;
mod summary;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use rustls::{HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub use credentials::{Credentials, CredentialsError};
pub use summary::Summary;

use self::ending::Ending;
use crate::base::{Endpoint, Host, time};
use crate::net::tls::{OriginatePlan, Originator};

/// A connection, TLS included, must be there within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer must be.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Rest before the next connection.
const PAUSE: Duration = Duration::from_millis(500);
/// Of a line that comes, so much is read.
const LONGEST_LINE: u64 = 64 * 1024;
/// How backends begin their answers.
const REPLY: &str = "Reply from upstream ";

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Whom to talk to.
    pub connect: Endpoint,
    /// How we call ourselves in what we say and tell.
    pub name: String,
    /// `None`: in the clear.
    pub tls: Option<OriginatePlan>,
    /// How many lines; a connection that comes to nothing counts as one. `None`: until stopped.
    pub count: Option<u64>,
    /// Rest between an answer and the next line, in milliseconds.
    pub interval: RangeInclusive<u64>,
}

/// Talks until `stopped`, or until all is said; `tell` is told of everything, a line at a time.
///
/// # Errors
/// TLS cannot be set up as it is wanted.
pub async fn run(
    wanted: &Wanted,
    stopped: impl Future<Output = ()>,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<Summary, CredentialsError> {
    let originator = wanted.tls.as_ref().map(|plan| Originator::new(plan, &wanted.connect));
    if let Some(fault) = originator.as_ref().and_then(Originator::fault) {
        return Err(CredentialsError::Setup(fault.to_string()));
    }
    let mut client = Client {
        wanted,
        originator,
        tell,
        used: 0,
        summary: Summary::begin(&wanted.name, time::now()),
    };
    tokio::select! {
        biased;
        () = stopped => {}
        () = client.go() => {}
    }
    client.summary.end(time::now());
    Ok(client.summary)
}

struct Client<'a> {
    wanted: &'a Wanted,
    originator: Option<Originator>,
    tell: &'a (dyn Fn(&str) + Sync),
    /// Of `wanted.count`.
    used: u64,
    summary: Summary,
}

/// A connection, and what is to be said about it.
struct Line {
    stream: BufReader<Box<dyn Stream>>,
    state: String,
}

/// With TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Client<'_> {
    async fn go(&mut self) {
        loop {
            let before = self.used;
            let replies = self.summary.replies();
            let Err(ending) = self.talk().await else { return };
            if self.used == before {
                self.used += 1;
            }
            let came_to_nothing = self.summary.replies() == replies;
            let why = ending.words(self.wanted, came_to_nothing);
            self.summary.ended(&why, came_to_nothing);
            if self.is_done() {
                self.tell(&why);
                return;
            }
            self.tell(&format!("{why}; connecting again in {} ms", PAUSE.as_millis()));
            tokio::time::sleep(PAUSE).await;
            self.summary.reconnects += 1;
        }
    }

    fn is_done(&self) -> bool {
        self.wanted.count.is_some_and(|count| self.used >= count)
    }

    fn tell(&self, what: &str) {
        (self.tell)(&format!("{}  {what}", self.wanted.name));
    }

    /// One connection to its end. `Ok`: all is said.
    async fn talk(&mut self) -> Result<(), Ending> {
        let connecting = timeout(CONNECT_TIMEOUT, self.connect()).await;
        let Line { mut stream, state } = connecting.map_err(|_| Ending::NoConnection)??;
        // In TLS 1.3 a server may still refuse us: only an answer shows that it has taken us.
        let mut untold = Some(state);
        loop {
            self.used += 1;
            self.summary.sent += 1;
            let number = self.summary.sent;
            let text = format!("hello {number} from {}", self.wanted.name);
            let began = time::now();
            let answer = async {
                stream.write_all(format!("{text}\n").as_bytes()).await?;
                stream.flush().await?;
                answer(&mut stream, &text, &|other| self.tell(&format!("      {other}"))).await
            };
            let answer = match timeout(ANSWER_TIMEOUT, answer).await {
                Ok(answer) => answer?,
                Err(_) => return Err(Ending::NoAnswer),
            };
            let took = time::now() - began;
            if let Some(state) = untold.take() {
                self.tell(&state);
            }
            self.tell(&format!("#{number}  {}  {}", summary::ms(took), printable(&answer)));
            self.summary.replied(upstream(&answer, &text), took);
            if self.is_done() {
                // Whether the end is heard makes no difference any more.
                let _ = timeout(PAUSE, stream.shutdown()).await;
                return Ok(());
            }
            self.rest(&mut stream).await?;
        }
    }

    /// Waits for the next line's time, and notices when the connection ends meanwhile.
    async fn rest(&self, stream: &mut BufReader<Box<dyn Stream>>) -> Result<(), Ending> {
        let length = Duration::from_millis(rand::random_range(self.wanted.interval.clone()));
        let over = tokio::time::sleep(length);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return Ok(()),
                more = stream.fill_buf() => if more?.is_empty() { return Err(Ending::Closed) },
            }
            let line = timeout(ANSWER_TIMEOUT, read_line(stream)).await;
            let line = line.map_err(|_| Ending::NoAnswer)??;
            self.tell(&format!("      {}", printable(&line)));
        }
    }

    async fn connect(&self) -> Result<Line, Ending> {
        let to = &self.wanted.connect;
        let stream = match &to.host {
            Host::Ip(ip) => TcpStream::connect(SocketAddr::new(*ip, to.port)).await,
            Host::Name(name) => TcpStream::connect((&**name, to.port)).await,
        };
        let stream = stream.map_err(Ending::Connect)?;
        // A line is not to wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let Some(originator) = &self.originator else {
            let state = format!("connected to {to}, in the clear");
            return Ok(Line { stream: BufReader::new(Box::new(stream)), state });
        };
        let begun = originator.begin(stream);
        let shaking = begun.map_err(|fault| Ending::Tls(io::Error::other(fault)))?;
        let stream = shaking.await.map_err(Ending::Tls)?;
        let agreed = stream.get_ref().1;
        let version = match agreed.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
            _ => "TLS 1.2",
        };
        let kind = match agreed.handshake_kind() {
            Some(HandshakeKind::Resumed) => "session resumed",
            _ => "new session",
        };
        let state = format!("connected to {to}, {version}, {kind}");
        Ok(Line { stream: BufReader::new(Box::new(stream)), state })
    }
}

/// Reads until the line that answers `text`: one that names an upstream, or gives it back. Others
/// are told.
async fn answer(
    stream: &mut BufReader<Box<dyn Stream>>,
    text: &str,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<String, Ending> {
    loop {
        let line = read_line(stream).await?;
        if line.starts_with(REPLY) || line.ends_with(text) {
            return Ok(line);
        }
        tell(&printable(&line));
    }
}

async fn read_line(stream: &mut BufReader<Box<dyn Stream>>) -> Result<String, Ending> {
    let mut line = Vec::new();
    if stream.take(LONGEST_LINE).read_until(b'\n', &mut line).await? == 0 {
        return Err(Ending::Closed);
    }
    Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
}

/// Who answered.
fn upstream<'a>(answer: &'a str, text: &str) -> Option<&'a str> {
    let name = answer.strip_prefix(REPLY)?;
    Some(name.strip_suffix(text).map_or(name, |name| name.trim_end_matches([':', ' '])))
}

/// What others send must not steer a terminal.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "?")
}
