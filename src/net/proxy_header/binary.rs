//! Version 2: a signature, a command, addresses, and what else the sender knows as TLVs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Header, HeaderFault};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family and length.
pub(super) const FIXED: usize = 16;
/// Most bytes behind the fixed part, as far as we keep them.
const LONGEST: usize = 4096;

pub(super) const LOCAL: u8 = 0x20;
pub(super) const PROXY: u8 = 0x21;
pub(super) const UNSPECIFIED: u8 = 0x00;
pub(super) const TCP4: u8 = 0x11;
pub(super) const TCP6: u8 = 0x21;
const UNIX: u8 = 0x31;
const CRC32C: u8 = 0x03;

/// Reads a header, which begins with as much of [`SIGNATURE`] as is there.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(Header, usize)>, HeaderFault> {
    let Some(&command) = bytes.get(12) else { return Ok(None) };
    match command {
        LOCAL | PROXY => {}
        _ if command >> 4 == 2 => return Err(HeaderFault::Unsupported("the command")),
        _ => return Err(HeaderFault::Malformed("the version")),
    }
    let Some(&family) = bytes.get(13) else { return Ok(None) };
    let addresses = if command == LOCAL { 0 } else { size(family)? };
    let Some(length) = bytes.get(14..FIXED) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length > LONGEST {
        return Err(HeaderFault::TooLarge);
    }
    if length < addresses {
        return Err(HeaderFault::Malformed("too short for its addresses"));
    }
    let Some(whole) = bytes.get(..FIXED + length) else { return Ok(None) };
    // The sender's own connection, a health check: all that follows is to be skipped.
    if command == LOCAL {
        return Ok(Some((Header::default(), whole.len())));
    }
    let (addresses, more) = whole[FIXED..].split_at(addresses);
    verify(whole, more)?;
    Ok(Some((header(family, addresses), whole.len())))
}

/// Bytes of the addresses of `family`.
fn size(family: u8) -> Result<usize, HeaderFault> {
    match family {
        UNSPECIFIED => Ok(0),
        TCP4 => Ok(12),
        TCP6 => Ok(36),
        UNIX => Ok(216),
        _ => Err(HeaderFault::Unsupported("the family or the transport")),
    }
}

fn header(family: u8, addresses: &[u8]) -> Header {
    let pair = match family {
        TCP4 => pair::<4>(addresses, |ip| Ipv4Addr::from(ip).into()),
        TCP6 => pair::<16>(addresses, |ip| Ipv6Addr::from(ip).into()),
        _ => None,
    };
    let (source, destination) = pair.unzip();
    Header { source, destination }
}

/// Two addresses of `N` bytes each, then their ports.
fn pair<const N: usize>(
    bytes: &[u8],
    ip: impl Fn([u8; N]) -> IpAddr,
) -> Option<(SocketAddr, SocketAddr)> {
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (from, rest) = rest.split_first_chunk::<2>()?;
    let to = rest.first_chunk::<2>()?;
    let address =
        |bytes: &[u8; N], port: &[u8; 2]| SocketAddr::new(ip(*bytes), u16::from_be_bytes(*port));
    Some((address(source, from), address(destination, to)))
}

/// Goes through the TLVs at the end of the header, whose lengths must add up, and verifies the
/// checksum when there is one. Nothing else in them is used.
fn verify(whole: &[u8], tlvs: &[u8]) -> Result<(), HeaderFault> {
    let (mut rest, mut sum) = (tlvs, None);
    while let [kind, more @ ..] = rest {
        let cut = HeaderFault::Malformed("the lengths of its TLVs do not add up");
        let (length, more) = more.split_first_chunk::<2>().ok_or(cut)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (value, more) = more.split_at_checked(length).ok_or(cut)?;
        if *kind == CRC32C {
            let value = <[u8; 4]>::try_from(value);
            let value = value.map_err(|_| HeaderFault::Malformed("the length of its checksum"))?;
            let at = whole.len() - more.len() - 4;
            if sum.replace((at, u32::from_be_bytes(value))).is_some() {
                return Err(HeaderFault::Malformed("two checksums"));
            }
        }
        rest = more;
    }
    match sum {
        Some((at, sum)) if sum != checksum(whole, at) => Err(HeaderFault::Checksum),
        _ => Ok(()),
    }
}

/// The checksum of a header whose own four bytes, at `at`, count as zero.
pub(super) fn checksum(whole: &[u8], at: usize) -> u32 {
    let sum = crc32c(u32::MAX, &whole[..at]);
    let sum = crc32c(sum, &[0; 4]);
    !crc32c(sum, &whole[at + 4..])
}

/// Bit by bit: a header is short, and few senders have a checksum in it.
fn crc32c(sum: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(sum, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 * (sum & 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_castagnoli_polynomial() {
        assert_eq!(!crc32c(u32::MAX, b"123456789"), 0xe306_9283);
    }
}
