//! The PROXY protocol, versions 1 and 2: a header before the first byte that says who the client is.
//!
//! Reading is strict, for what stands in a header is believed: anything that could be read in two ways
//! is refused. Nobody tries whether there is a header or not; it is expected where a rule says so, from
//! whom the rule believes.

mod binary;
mod line;
mod told;

use std::net::SocketAddr;

pub use told::{TlsTold, Told, write_header, write_local};

/// Which version is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderVersion {
    /// One line of text.
    V1,
    /// Binary, with TLVs.
    V2,
}

/// What a header says. Without addresses (the sender's own connection, or one of a kind that we do not
/// relay) the connection's own hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Where the client is.
    pub source: Option<SocketAddr>,
    /// Where it connected to.
    pub destination: Option<SocketAddr>,
}

/// Why there is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// The sender begins with something else.
    #[error("no PROXY header")]
    Missing,
    /// It begins like one.
    #[error("the PROXY header is malformed: {0}")]
    Malformed(&'static str),
    /// Well-formed, and nothing that is relayed here.
    #[error("the PROXY header asks for what is not known here: {0}")]
    Unsupported(&'static str),
    /// A line without an end, or more bytes than we would keep.
    #[error("the PROXY header is too long")]
    TooLarge,
    /// The checksum that it carries is another than its bytes have.
    #[error("the PROXY header has a wrong checksum")]
    Checksum,
}

/// Reads the header, of either version, that `bytes` begin with: what it says, and how many of the
/// bytes it takes. `None`: more are needed.
///
/// # Errors
/// They are no header, and nothing that follows can make them one.
pub fn read_header(bytes: &[u8]) -> Result<Option<(Header, usize)>, HeaderFault> {
    if begins(bytes, binary::SIGNATURE) {
        binary::read(bytes)
    } else if begins(bytes, line::BEGINNING) {
        line::read(bytes)
    } else {
        Err(HeaderFault::Missing)
    }
}

/// Whether `bytes` begin with `beginning`, as far as they go.
fn begins(bytes: &[u8], beginning: &[u8]) -> bool {
    let both = bytes.len().min(beginning.len());
    bytes[..both] == beginning[..both]
}

#[cfg(test)]
mod tests;
