//! Greeting: what a client says of itself before its first byte for a backend is passed on, by a PROXY
//! header, by a TLS hello, by a certificate.
//!
//! The header, and the handshake behind it, each have a deadline and a bound in size. What was read
//! beyond stays with the connection and is the first that a backend gets.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::base::Identity;
use crate::net::hello::{Hello, HelloFault, read_hello};
use crate::net::proxy_header::{self, Header, HeaderFault};
use crate::net::tls::{HandshakeFault, Session, Terminator};

use super::access_log::Secured;
use super::door::Crowded;
use super::outcome::{Outcome, Reason, Side};
use super::rule::RuleTls;

/// Rules without TLS wait this long for a PROXY header.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Read at once: a hello and what may come behind it.
const READ: usize = 4096;

/// What TLS says in plain, before anything is agreed: a fatal alert.
const ALERT: [u8; 6] = [21, 3, 1, 0, 2, 2];
const DECODE_ERROR: u8 = 50;
const UNRECOGNIZED_NAME: u8 = 112;
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// Reads a PROXY header into `peeked`, and takes it off again.
pub(super) async fn read_header(
    stream: &mut TcpStream,
    peeked: &mut Vec<u8>,
    longest: Duration,
    mut crowded: Crowded,
) -> Result<Header, (Outcome, Option<HeaderFault>)> {
    let reading = async {
        loop {
            match proxy_header::read_header(peeked) {
                Ok(Some((header, length))) => {
                    peeked.drain(..length);
                    return Ok(header);
                }
                Ok(None) => {
                    more(stream, peeked, &mut crowded).await.map_err(|outcome| (outcome, None))?;
                }
                Err(fault) => {
                    return Err((Outcome::new(Reason::ProxyHeader, Side::Client), Some(fault)));
                }
            }
        }
    };
    match timeout(longest, reading).await {
        Ok(read) => read,
        Err(_) => Err((Outcome::new(Reason::ProxyTimeout, Side::Client), None)),
    }
}

/// What TLS has shown of a client.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) server_name: Option<String>,
    /// The protocols that it offers, the dearest first, or where TLS ends here the one agreed on.
    pub(super) alpn: Vec<Vec<u8>>,
    pub(super) identity: Option<Identity>,
    /// Where TLS ends here.
    pub(super) session: Option<Box<Session>>,
}

/// What is known of a client whose greeting comes to nothing: for the log.
#[derive(Default)]
pub(super) struct SoFar {
    pub(super) server_name: Option<String>,
    /// What was wrong.
    pub(super) fault: Option<String>,
}

impl SoFar {
    pub(super) fn into_secured(self) -> Option<Box<Secured>> {
        let SoFar { server_name, fault } = self;
        let known = server_name.is_some() || fault.is_some();
        let (server_name, fault) = (server_name.map(Into::into), fault.map(Into::into));
        known.then(|| Box::new(Secured { server_name, fault, ..Secured::default() }))
    }
}

/// Reads a client's hello and, where TLS ends here, goes through the handshake. `peeked` is what has
/// come already, and then what is for the backend. `so_far` is for whom this fails.
pub(super) async fn shake_hands(
    tls: &RuleTls,
    stream: &mut TcpStream,
    peeked: &mut Vec<u8>,
    crowded: Crowded,
    so_far: &mut SoFar,
) -> Result<Shown, Outcome> {
    let shaking = async {
        let hello = hello(stream, peeked, crowded).await?;
        match &hello {
            Ok(hello) => so_far.server_name.clone_from(&hello.server_name),
            Err(fault) => so_far.fault = Some(fault.to_string()),
        }
        match &tls.terminator {
            None => passed_through(hello, stream),
            Some(terminator) => terminated(terminator, hello, stream, peeked, so_far).await,
        }
    };
    match timeout(tls.handshake_timeout, shaking).await {
        Ok(shaken) => shaken,
        Err(_) => Err(Outcome::new(Reason::TlsTimeout, Side::Client)),
    }
}

/// The hello, or what is wrong with it.
async fn hello(
    stream: &mut TcpStream,
    peeked: &mut Vec<u8>,
    mut crowded: Crowded,
) -> Result<Result<Hello, HelloFault>, Outcome> {
    loop {
        match read_hello(peeked) {
            Ok(Some(hello)) => return Ok(Ok(hello)),
            Ok(None) => more(stream, peeked, &mut crowded).await?,
            Err(fault) => return Ok(Err(fault)),
        }
    }
}

fn passed_through(hello: Result<Hello, HelloFault>, stream: &TcpStream) -> Result<Shown, Outcome> {
    match hello {
        Ok(Hello { server_name, alpn }) => Ok(Shown { server_name, alpn, ..Shown::default() }),
        Err(fault) => Err(no_hello(&fault, stream)),
    }
}

/// Of what is no hello; who speaks TLS is told.
fn no_hello(fault: &HelloFault, stream: &TcpStream) -> Outcome {
    let reason = match fault {
        HelloFault::NotTls => Reason::NotTls,
        _ => {
            say_alert(stream, DECODE_ERROR);
            Reason::TlsFailed
        }
    };
    Outcome::new(reason, Side::Client)
}

async fn terminated(
    terminator: &Terminator,
    hello: Result<Hello, HelloFault>,
    stream: &mut TcpStream,
    peeked: &mut Vec<u8>,
    so_far: &mut SoFar,
) -> Result<Shown, Outcome> {
    let server_name = match hello {
        Ok(hello) => hello.server_name,
        // rustls would end one that is too large without a word.
        Err(fault @ (HelloFault::NotTls | HelloFault::TooLarge)) => {
            return Err(no_hello(&fault, stream));
        }
        // What else is wrong there is rustls's to judge, and to say to the client.
        Err(_) => None,
    };
    let accepted = terminator.accept(stream, std::mem::take(peeked)).await;
    let (session, identity) = accepted.map_err(|fault| {
        so_far.fault = Some(fault.to_string());
        of_client(&fault)
    })?;
    let alpn = session.agreed().alpn_protocol().map(<[u8]>::to_vec).into_iter().collect();
    Ok(Shown { server_name, alpn, identity, session: Some(session) })
}

/// Tells a client whose TLS is not ended here that its name leads nowhere, or, where the name is
/// `known`, that none of its protocols does.
pub(super) fn say_no_route(stream: &TcpStream, known: bool) {
    say_alert(stream, if known { NO_APPLICATION_PROTOCOL } else { UNRECOGNIZED_NAME });
}

fn say_alert(stream: &TcpStream, description: u8) {
    let [a, b, c, d, e, f] = ALERT;
    // A client that cannot be told is gone already.
    let _ = stream.try_write(&[a, b, c, d, e, f, description]);
}

/// Reads on; a client that goes meanwhile has not said enough.
async fn more(
    stream: &mut TcpStream,
    peeked: &mut Vec<u8>,
    crowded: &mut Crowded,
) -> Result<(), Outcome> {
    peeked.reserve(READ);
    tokio::select! {
        // What has come meanwhile counts.
        biased;
        read = stream.read_buf(peeked) => match read {
            Ok(0) | Err(_) => Err(Outcome::new(Reason::ClientGone, Side::Client)),
            Ok(_) => Ok(()),
        },
        () = crowded.told() => Err(Outcome::new(Reason::CrowdedOut, Side::Client)),
    }
}

fn of_client(fault: &HandshakeFault) -> Outcome {
    let reason = match fault {
        HandshakeFault::Gone(_) => Reason::ClientGone,
        HandshakeFault::Incompatible(_) => Reason::TlsIncompatible,
        HandshakeFault::NoCertificate => Reason::TlsNoCertificate,
        HandshakeFault::Expired => Reason::TlsExpired,
        HandshakeFault::Revoked => Reason::TlsRevoked,
        HandshakeFault::Untrusted(_) => Reason::TlsUntrusted,
        HandshakeFault::Refused(_) => Reason::TlsRefused,
        HandshakeFault::Protocol(_) => Reason::TlsFailed,
    };
    Outcome::new(reason, Side::Client)
}
