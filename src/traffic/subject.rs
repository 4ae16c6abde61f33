//! Whom a limit asks about.

use std::net::IpAddr;

/// A client as a limit may know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// Where it is.
    pub address: IpAddr,
    /// The name that its certificate has shown; `None`: it has shown none.
    pub identity: Option<&'a str>,
}

impl From<IpAddr> for Subject<'_> {
    /// Nothing but the address is known.
    fn from(address: IpAddr) -> Self {
        Subject { address, identity: None }
    }
}
