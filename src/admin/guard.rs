//! Who may ask: the bearer token, and for calls that change something on loopback, the guard
//! against pages that a browser of this machine has open.
//!
//! A page on the Internet can make a browser send requests to `127.0.0.1` (with its own `Origin`),
//! and by DNS rebinding even have them look like its own (with its own name in `Host`). Neither
//! header can be set by a script, so a call whose `Host` is not this machine's, or whose `Origin`
//! is not this very listener, is refused.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{self, Digest, SHA256};
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};

/// What must be known to be let in.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Digest of the token: comparing digests takes the same time for every guess, whatever its
    /// length, and the token itself is not kept.
    token: Option<Digest>,
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A token is demanded and none came.
    NoToken,
    /// A token came, and it is another.
    WrongToken,
    /// A changing call with a `Host` that is not this machine's.
    ForeignHost,
    /// A changing call from a page of another origin.
    ForeignOrigin,
    /// A changing call from another machine to a node that has no token.
    TokenNeeded,
}

impl Refusal {
    /// What was wrong and how to mend it.
    pub fn text(self) -> &'static str {
        match self {
            Refusal::NoToken => {
                "this listener wants a token: send `Authorization: Bearer …` with the content of \
                 admin.token_file"
            }
            Refusal::WrongToken => "the token is not the one in admin.token_file",
            Refusal::ForeignHost => {
                "the Host header does not name this machine; call 127.0.0.1 or localhost"
            }
            Refusal::ForeignOrigin => "calls from pages of another origin are refused",
            Refusal::TokenNeeded => {
                "changing calls from other machines need a token: set admin.token_file"
            }
        }
    }
}

impl Guard {
    /// Demands `token` when there is one.
    pub fn new(token: Option<&str>) -> Self {
        Guard { token: token.map(|token| digest::digest(&SHA256, token.as_bytes())) }
    }

    /// For everything but the probes.
    ///
    /// # Errors
    /// The reason why this request is refused.
    pub fn may_ask(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = only(headers, AUTHORIZATION).ok_or(Refusal::NoToken)?;
        let (scheme, given) = given.split_once(' ').ok_or(Refusal::NoToken)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refusal::NoToken);
        }
        let given = digest::digest(&SHA256, given.trim().as_bytes());
        verify_slices_are_equal(token.as_ref(), given.as_ref()).map_err(|_| Refusal::WrongToken)
    }

    /// For calls that change something, asked after [`Guard::may_ask`]; `local` is our end of the
    /// connection.
    ///
    /// # Errors
    /// The reason why this call is refused.
    pub fn may_change(&self, local: SocketAddr, headers: &HeaderMap) -> Result<(), Refusal> {
        if !local.ip().to_canonical().is_loopback() {
            return if self.token.is_some() { Ok(()) } else { Err(Refusal::TokenNeeded) };
        }
        let host = only(headers, HOST).ok_or(Refusal::ForeignHost)?;
        if !names_loopback(host) {
            return Err(Refusal::ForeignHost);
        }
        if !headers.contains_key(ORIGIN) {
            return Ok(());
        }
        let origin = only(headers, ORIGIN).and_then(|origin| origin.strip_prefix("http://"));
        if origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host)) {
            Ok(())
        } else {
            Err(Refusal::ForeignOrigin)
        }
    }
}

/// The header's value, when there is exactly one and it is plain ASCII.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok() }
}

/// Whether `host[:port]` is this machine seen from itself. Any port: it may be forwarded.
fn names_loopback(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().to_canonical().is_loopback();
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    const LOOPBACK: &str = "127.0.0.1:9900";

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn change(host: &str, origin: Option<&str>) -> Result<(), Refusal> {
        let mut pairs = vec![(HOST, host)];
        pairs.extend(origin.map(|origin| (ORIGIN, origin)));
        Guard::new(None).may_change(LOOPBACK.parse().unwrap(), &headers(&pairs))
    }

    #[test]
    fn only_the_very_token_is_let_in() {
        let guard = Guard::new(Some("s3cret"));
        let ask = |value: &str| guard.may_ask(&headers(&[(AUTHORIZATION, value)]));
        assert_eq!(ask("Bearer s3cret"), Ok(()));
        assert_eq!(ask("bearer s3cret"), Ok(()));
        for wrong in ["Bearer s3cre", "Bearer s3cret1", "Bearer S3cret", "Bearer  "] {
            assert_eq!(ask(wrong), Err(Refusal::WrongToken), "{wrong}");
        }
        for none in ["s3cret", "Basic s3cret", "Bearer", ""] {
            assert_eq!(ask(none), Err(Refusal::NoToken), "{none}");
        }
        assert_eq!(guard.may_ask(&HeaderMap::new()), Err(Refusal::NoToken));
        let two = headers(&[(AUTHORIZATION, "Bearer s3cret"), (AUTHORIZATION, "Bearer x")]);
        assert_eq!(guard.may_ask(&two), Err(Refusal::NoToken));
        assert_eq!(Guard::new(None).may_ask(&HeaderMap::new()), Ok(()));
    }

    #[test]
    fn a_name_rebound_to_loopback_changes_nothing() {
        for own in
            ["127.0.0.1:9900", "localhost", "LOCALHOST:1", "[::1]:9900", "[::1]", "127.9.9.9"]
        {
            assert_eq!(change(own, None), Ok(()), "{own}");
        }
        for foreign in
            ["evil.example:9900", "localhost.evil.example", "10.0.0.1", "", "127.0.0.1.nip.io"]
        {
            assert_eq!(change(foreign, None), Err(Refusal::ForeignHost), "{foreign}");
        }
        let none = Guard::new(None).may_change(LOOPBACK.parse().unwrap(), &HeaderMap::new());
        assert_eq!(none, Err(Refusal::ForeignHost));
    }

    #[test]
    fn a_page_of_another_origin_changes_nothing() {
        assert_eq!(change("localhost:9900", Some("http://localhost:9900")), Ok(()));
        for foreign in
            ["http://evil.example", "http://localhost:3000", "null", "https://localhost:9900"]
        {
            let refused = change("localhost:9900", Some(foreign));
            assert_eq!(refused, Err(Refusal::ForeignOrigin), "{foreign}");
        }
    }

    #[test]
    fn from_another_machine_nothing_changes_without_a_token() {
        let outside = "10.0.0.1:9900".parse().unwrap();
        let change = |guard: Guard| guard.may_change(outside, &HeaderMap::new());
        assert_eq!(change(Guard::new(None)), Err(Refusal::TokenNeeded));
        assert_eq!(change(Guard::new(Some("t"))), Ok(()));
    }
}
