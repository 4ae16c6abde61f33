//! `openssl s_client`: one handshake, one HTTP request, and what was said about it.

use std::io::{Seek, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::certs::Certs;
use super::try_run_on;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// All that openssl said.
#[derive(Debug)]
pub(crate) struct Shaken(pub(crate) String);

/// Connects with more arguments of `openssl s_client`, asks for `/` and hears the answer out. The
/// server's certificate must come from the authority of `certs`.
#[track_caller]
pub(crate) fn shake(certs: &Certs, address: SocketAddr, arguments: &[&str]) -> Shaken {
    let mut request = tempfile::tempfile().unwrap();
    request.write_all(REQUEST).unwrap();
    request.rewind().unwrap();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-ign_eof", "-verify_return_error", "-connect"]);
    command.arg(address.to_string()).args(["-CAfile", &certs.path("ca.crt")]).args(arguments);
    let output = try_run_on(&mut command, Stdio::from(request), Duration::from_secs(20))
        .unwrap_or_else(|| panic!("openssl does not end: {command:?}"));
    let both = [output.stdout, output.stderr].concat();
    Shaken(String::from_utf8_lossy(&both).into_owned())
}

impl Shaken {
    /// The backend that answered.
    pub(crate) fn backend(&self) -> Option<&str> {
        self.field("Reply from upstream ")
    }

    /// What follows `name` on a line.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim)
    }

    /// The number of the alert that ended it.
    pub(crate) fn alert(&self) -> Option<u8> {
        let (_, number) = self.0.split_once("SSL alert number ")?;
        number.lines().next()?.trim().parse().ok()
    }

    /// Whether a session went on that had begun before.
    pub(crate) fn resumed(&self) -> bool {
        self.0.lines().any(|line| line.starts_with("Reused, "))
    }

    /// The certificate that was shown, PEM.
    pub(crate) fn certificate(&self) -> Option<String> {
        pem(&self.0)
    }

    /// Asserts that the handshake was done and that `backend` answered.
    #[track_caller]
    pub(crate) fn assert_answered(&self, backend: &str) {
        assert!(self.0.contains("Verify return code: 0 (ok)"), "{}", self.0);
        assert_eq!(self.backend(), Some(backend), "{}", self.0);
    }
}

/// The first certificate in a text.
pub(crate) fn pem(text: &str) -> Option<String> {
    let end = "-----END CERTIFICATE-----";
    let from = text.find("-----BEGIN CERTIFICATE-----")?;
    let to = from + text[from..].find(end)? + end.len();
    Some(text[from..to].to_owned())
}
