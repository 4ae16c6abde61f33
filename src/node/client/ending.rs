//! Why a connection ended, in words that say what to do.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use super::{ANSWER_TIMEOUT, CONNECT_TIMEOUT, Wanted};
use crate::net::tls::Trust;

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// There was none.
    Connect(io::Error),
    /// There was none in time.
    NoConnection,
    /// The handshake failed.
    Tls(io::Error),
    /// Nothing came any more.
    NoAnswer,
    /// The server ended it.
    Closed,
    /// It broke: the server's alert may be in it.
    Broken(io::Error),
}

impl From<io::Error> for Ending {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // TLS without its own end, as it is when a node closes without ceremony.
            io::ErrorKind::UnexpectedEof => Ending::Closed,
            _ => Ending::Broken(error),
        }
    }
}

impl Ending {
    /// What to tell; `came_to_nothing`: the connection has brought no answer.
    pub(super) fn words(&self, wanted: &Wanted, came_to_nothing: bool) -> String {
        let to = &wanted.connect;
        match self {
            Ending::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                format!("nobody listens on {to}; is the node running, is it this port?")
            }
            Ending::Connect(error) => format!("cannot connect to {to}: {error}"),
            Ending::NoConnection => {
                format!("no connection to {to} within {} s", CONNECT_TIMEOUT.as_secs())
            }
            Ending::NoAnswer => format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
            Ending::Tls(error) | Ending::Broken(error) => {
                if error.kind() == io::ErrorKind::UnexpectedEof {
                    return unanswered(wanted, "closed");
                }
                let inner = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
                match inner {
                    Some(error) => of_tls(error, wanted),
                    None if came_to_nothing => unanswered(wanted, &error.to_string()),
                    None => format!("the connection broke: {error}"),
                }
            }
            Ending::Closed if came_to_nothing => unanswered(wanted, "closed"),
            Ending::Closed => "the server ended the connection".to_owned(),
        }
    }
}

fn unanswered(wanted: &Wanted, how: &str) -> String {
    let guess = match wanted.tls {
        Some(_) => "not authorized, over a limit, or no backend: the node's log says why",
        None => "over a limit, no backend, or TLS is wanted there (leave out `--plain`)",
    };
    format!("turned away without an answer ({how}): {guess}")
}

fn of_tls(error: &Error, wanted: &Wanted) -> String {
    match error {
        Error::AlertReceived(alert) => of_alert(*alert, wanted),
        Error::InvalidCertificate(error) => of_certificate(error, wanted),
        Error::InvalidMessage(_) => "the server does not speak TLS there; try `--plain`".to_owned(),
        error => format!("TLS failed: {error}"),
    }
}

fn of_alert(alert: AlertDescription, wanted: &Wanted) -> String {
    use AlertDescription as Alert;
    let ours = |why: &str| format!("the server refused our certificate: {why}");
    match alert {
        Alert::CertificateRevoked => ours("revoked"),
        Alert::CertificateExpired => ours("expired, or not good yet"),
        Alert::UnknownCA => ours("it comes from an authority that the server does not trust"),
        // What is signed by a namesake of the right authority.
        Alert::BadCertificate | Alert::DecryptError => ours("its authority has not signed it"),
        Alert::UnsupportedCertificate => ours("it is not one for clients"),
        Alert::CertificateUnknown => ours("for a reason that it does not say"),
        Alert::CertificateRequired => {
            "the server wants a certificate of ours and got none; name one by `--id`".to_owned()
        }
        Alert::UnrecognisedName => format!(
            "the server has nothing under the name `{}`; choose another by `--server-name`",
            server_name(wanted)
        ),
        Alert::HandshakeFailure
            if wanted.tls.as_ref().is_some_and(|tls| tls.certificate.is_none()) =>
        {
            "the server broke the handshake off; it may want a certificate: name one by `--id`"
                .to_owned()
        }
        alert => format!("the server broke TLS off: {}", Error::AlertReceived(alert)),
    }
}

fn of_certificate(error: &CertificateError, wanted: &Wanted) -> String {
    use CertificateError as Bad;
    let name = server_name(wanted);
    let theirs = |why: &str| format!("we refused the server's certificate: {why}");
    match error {
        Bad::UnknownIssuer | Bad::BadSignature => {
            let file = match wanted.tls.as_ref().map(|tls| &tls.trust) {
                Some(Trust::Roots(roots)) => roots.file.display().to_string(),
                _ => "our authorities".to_owned(),
            };
            theirs(&format!("{file} has not signed it; name its authority by `--ca`"))
        }
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
            theirs(&format!("it is not for `{name}`; choose one of its names by `--server-name`"))
        }
        Bad::Expired | Bad::ExpiredContext { .. } => theirs("expired"),
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => theirs("not good yet"),
        error => theirs(&error.to_string()),
    }
}

fn server_name(wanted: &Wanted) -> String {
    let named = wanted.tls.as_ref().and_then(|tls| tls.server_name.clone());
    named.unwrap_or_else(|| match &wanted.connect.host {
        crate::base::Host::Ip(ip) => ip.to_string(),
        crate::base::Host::Name(name) => name.to_string(),
    })
}
