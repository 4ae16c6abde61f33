//! Addresses by role, so that a client's can never be passed where a backend's is meant, and
//! [`Endpoint`], a `host:port` as people write it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

macro_rules! role {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub SocketAddr);

        impl $name {
            /// The address without its port, IPv4-mapped IPv6 folded to IPv4.
            pub fn ip(self) -> IpAddr {
                self.0.ip().to_canonical()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

role!(
    /// Who opened a connection to us.
    ClientAddr
);
role!(
    /// Where a rule listens.
    ListenAddr
);
role!(
    /// A resolved backend.
    BackendAddr
);
role!(
    /// Where a node's gossip is heard (UDP).
    GossipAddr
);

impl ListenAddr {
    /// Whether a listener here hears connections to `ip`: `0.0.0.0` hears all IPv4, `[::]` hears
    /// both families.
    pub fn hears(self, ip: IpAddr) -> bool {
        let own = self.0.ip();
        own == ip || (own.is_unspecified() && (own.is_ipv6() || ip.is_ipv4()))
    }

    /// Whether some connection could come to either of the two. Port 0 is the system's choice and
    /// never meets another.
    pub fn overlaps(self, other: ListenAddr) -> bool {
        let (one, two) = (self.0, other.0);
        one.port() == two.port()
            && one.port() != 0
            && (self.hears(two.ip()) || other.hears(one.ip()))
    }
}

/// The host half of an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An address, nothing to resolve.
    Ip(IpAddr),
    /// A DNS name, resolved and re-resolved.
    Name(Arc<str>),
}

/// `host:port` as people write it: `10.0.0.1:80`, `[::1]:80`, `app.internal:8082`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Address or name.
    pub host: Host,
    /// Port, never 0 for a backend or a peer.
    pub port: u16,
}

/// Why a text is not an [`Endpoint`]; the message says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No `:port` at the end.
    #[error("`{0}` has no port; write `host:port`, for example `10.0.0.1:8080`")]
    NoPort(String),
    /// A port that is not 0..=65535.
    #[error("`{0}` has a port that is not a number from 0 to 65535")]
    BadPort(String),
    /// Neither an address nor a DNS name.
    #[error("`{0}` is neither an IP address nor a DNS name; IPv6 is written `[::1]:8080`")]
    BadHost(String),
}

impl Endpoint {
    /// The socket address, when the host is an address already.
    pub fn literal(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Name(_) => None,
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        Endpoint { host: Host::Ip(addr.ip()), port: addr.port() }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Ok(addr.into());
        }
        let (host, port) =
            text.rsplit_once(':').ok_or_else(|| EndpointError::NoPort(text.to_owned()))?;
        if port.is_empty() {
            return Err(EndpointError::NoPort(text.to_owned()));
        }
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(EndpointError::BadPort(text.to_owned()));
        }
        let port = port.parse().map_err(|_| EndpointError::BadPort(text.to_owned()))?;
        if !is_dns_name(host) {
            return Err(EndpointError::BadHost(text.to_owned()));
        }
        Ok(Endpoint { host: Host::Name(host.to_ascii_lowercase().into()), port })
    }
}

/// RFC 1123 host names, underscores allowed as compose and SRV names have them; a name of digits
/// and dots alone is a mistyped address, not a name.
fn is_dns_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    !host.is_empty()
        && host.len() <= 253
        && !host.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && host.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_prints_as_it_was_written() {
        for text in ["10.0.0.1:80", "[::1]:80", "app.internal:8082", "node_1:9090"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_mistyped_endpoint_is_refused_with_its_reason() {
        assert!(matches!("10.0.0.1".parse::<Endpoint>(), Err(EndpointError::NoPort(_))));
        assert!(matches!("a:".parse::<Endpoint>(), Err(EndpointError::NoPort(_))));
        assert!(matches!("a:70000".parse::<Endpoint>(), Err(EndpointError::BadPort(_))));
        assert!(matches!("a:+80".parse::<Endpoint>(), Err(EndpointError::BadPort(_))));
        for text in ["300.1.1.1:80", "::1:80", "-a:80", "a..b:80", ":80", "a b:80"] {
            assert!(matches!(text.parse::<Endpoint>(), Err(EndpointError::BadHost(_))), "{text}");
        }
    }

    #[test]
    fn a_wildcard_listener_overlaps_what_it_hears() {
        let overlap = |a: &str, b: &str| {
            let [a, b] = [a, b].map(|text| ListenAddr(text.parse().unwrap()));
            assert_eq!(a.overlaps(b), b.overlaps(a));
            a.overlaps(b)
        };
        assert!(overlap("0.0.0.0:80", "10.0.0.1:80") && overlap("[::]:80", "10.0.0.1:80"));
        assert!(overlap("10.0.0.1:80", "10.0.0.1:80") && overlap("[::]:80", "0.0.0.0:80"));
        assert!(!overlap("0.0.0.0:80", "10.0.0.1:81") && !overlap("0.0.0.0:80", "[::1]:80"));
        assert!(!overlap("0.0.0.0:0", "10.0.0.1:0"));
    }

    #[test]
    fn a_mapped_address_counts_as_ipv4() {
        let addr = ClientAddr("[::ffff:10.0.0.1]:5".parse().unwrap());
        assert_eq!(addr.ip(), "10.0.0.1".parse::<IpAddr>().unwrap());
    }
}
