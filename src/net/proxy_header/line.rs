//! Version 1: `PROXY TCP4 192.0.2.1 198.51.100.1 5000 443`, and the end of a line.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Header, HeaderFault, begins};

pub(super) const BEGINNING: &[u8] = b"PROXY ";
/// The longest that the protocol knows, its end included.
const LONGEST: usize = 107;

/// What stands behind [`BEGINNING`].
#[derive(Clone, Copy)]
enum Family {
    Tcp4,
    Tcp6,
    Unknown,
}

const FAMILIES: [(&[u8], Family); 3] =
    [(b"TCP4 ", Family::Tcp4), (b"TCP6 ", Family::Tcp6), (b"UNKNOWN", Family::Unknown)];

/// Reads a line, which begins with as much of [`BEGINNING`] as is there.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(Header, usize)>, HeaderFault> {
    let within = &bytes[..bytes.len().min(LONGEST)];
    let end = within.windows(2).position(|pair| pair == b"\r\n");
    let line = match end {
        Some(end) => &within[..end],
        // The carriage return may be the first half of the end.
        None => within.strip_suffix(b"\r").unwrap_or(within),
    };
    let header = judge(line, end.is_some())?;
    match (header, end) {
        (Some(header), Some(end)) => Ok(Some((header, end + 2))),
        _ if within.len() == LONGEST => Err(HeaderFault::TooLarge),
        _ => Ok(None),
    }
}

/// What a line says, when it is `whole`; faults as soon as there is one.
fn judge(line: &[u8], whole: bool) -> Result<Option<Header>, HeaderFault> {
    let rest = line.get(BEGINNING.len()..).unwrap_or_default();
    let strange = HeaderFault::Malformed("neither TCP4 nor TCP6 nor UNKNOWN");
    let known = FAMILIES.iter().find(|(word, _)| begins(rest, word)).ok_or(strange)?;
    let Some(rest) = rest.strip_prefix(known.0) else {
        return if whole { Err(strange) } else { Ok(None) };
    };
    if let Family::Unknown = known.1 {
        // Whatever follows is to be skipped.
        let apart = rest.first().is_none_or(|byte| *byte == b' ');
        return if apart { Ok(whole.then(Header::default)) } else { Err(strange) };
    }
    if !rest.iter().all(|byte| byte.is_ascii_hexdigit() || b".: ".contains(byte)) {
        return Err(HeaderFault::Malformed("a byte that no address has"));
    }
    if !whole {
        return Ok(None);
    }
    let four = HeaderFault::Malformed("not two addresses and two ports, each behind one space");
    let text = str::from_utf8(rest).map_err(|_| four)?;
    let words: Vec<_> = text.split(' ').collect();
    let [source, destination, from, to] = words[..] else { return Err(four) };
    let address = |text| match known.1 {
        Family::Tcp4 => ip::<Ipv4Addr>(text),
        Family::Tcp6 | Family::Unknown => ip::<Ipv6Addr>(text),
    };
    Ok(Some(Header {
        source: Some(SocketAddr::new(address(source)?, port(from)?)),
        destination: Some(SocketAddr::new(address(destination)?, port(to)?)),
    }))
}

/// The standard library takes no leading zeros, which some read as octal.
fn ip<T: FromStr + Into<IpAddr>>(text: &str) -> Result<IpAddr, HeaderFault> {
    text.parse::<T>()
        .map(Into::into)
        .map_err(|_| HeaderFault::Malformed("an address that is none of its family"))
}

fn port(text: &str) -> Result<u16, HeaderFault> {
    let plain = text == "0" || !text.starts_with('0');
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|_| plain && digits);
    port.ok_or(HeaderFault::Malformed("a port that is no number from 0 to 65535"))
}
