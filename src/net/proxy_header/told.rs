//! What a backend is told of a client, written.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::HeaderVersion;
use super::binary::{FIXED, LOCAL, PROXY, SIGNATURE, TCP4, TCP6, UNSPECIFIED};

const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const TLS: u8 = 0x20;
const TLS_VERSION: u8 = 0x21;
const TLS_COMMON_NAME: u8 = 0x22;
const TLS_CIPHER: u8 = 0x23;

const CLIENT_TLS: u8 = 0x01;
const CLIENT_CERTIFICATE: u8 = 0x02;
const SESSION_CERTIFICATE: u8 = 0x04;

/// Longer values are left out: names and protocols are shorter, and readers take a header only up to
/// some size. Never cut: half a name is somebody else's.
const LONGEST_VALUE: usize = 512;

/// What a backend is told of a client. Version 1 has words for the addresses alone.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Where the client is.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
    /// The server name that it asked for.
    pub server_name: Option<&'a str>,
    /// The protocol that was agreed on.
    pub alpn: Option<&'a [u8]>,
    /// Its TLS, when that ended here.
    pub tls: Option<TlsTold<'a>>,
}

/// What a backend is told of a client's TLS.
#[derive(Clone, Copy, Debug)]
pub struct TlsTold<'a> {
    /// `TLSv1.3`.
    pub version: &'a str,
    /// The cipher suite's name.
    pub cipher: Option<&'a str>,
    /// The common name of a verified client certificate.
    pub common_name: Option<&'a str>,
    /// A client certificate was shown, and verified.
    pub verified: bool,
    /// It was shown on an earlier connection, whose session this one resumes.
    pub resumed: bool,
}

/// The header that tells `told`.
pub fn write_header(version: HeaderVersion, told: &Told<'_>) -> Vec<u8> {
    let (source, destination) = of_one_family(told.source, told.destination);
    match version {
        HeaderVersion::V1 => line(source, destination),
        HeaderVersion::V2 => binary(source, destination, told),
    }
}

/// The header of a connection of our own, a health check: no client stands behind it.
pub fn write_local(version: HeaderVersion) -> Vec<u8> {
    match version {
        HeaderVersion::V1 => b"PROXY UNKNOWN\r\n".to_vec(),
        HeaderVersion::V2 => framed(LOCAL, UNSPECIFIED, &[]),
    }
}

/// A header has one family for both: an IPv4 address beside an IPv6 one is mapped.
fn of_one_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (source, destination) = (plain(source), plain(destination));
    if source.is_ipv4() == destination.is_ipv4() {
        return (source, destination);
    }
    let mapped = |address: SocketAddr| SocketAddr::new(six(address.ip()).into(), address.port());
    (mapped(source), mapped(destination))
}

fn six(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn line(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    let (port, to_port) = (source.port(), destination.port());
    format!("PROXY {family} {from} {to} {port} {to_port}\r\n").into_bytes()
}

fn binary(source: SocketAddr, destination: SocketAddr, told: &Told<'_>) -> Vec<u8> {
    let mut rest = Vec::with_capacity(128);
    for address in [source, destination] {
        match address.ip() {
            IpAddr::V4(ip) => rest.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => rest.extend_from_slice(&ip.octets()),
        }
    }
    rest.extend_from_slice(&source.port().to_be_bytes());
    rest.extend_from_slice(&destination.port().to_be_bytes());
    put(&mut rest, ALPN, told.alpn);
    put(&mut rest, AUTHORITY, told.server_name.map(str::as_bytes));
    if let Some(tls) = &told.tls {
        let tls = about_tls(tls);
        put_whole(&mut rest, TLS, &tls);
    }
    framed(PROXY, if source.is_ipv4() { TCP4 } else { TCP6 }, &rest)
}

fn about_tls(tls: &TlsTold<'_>) -> Vec<u8> {
    let shown = match (tls.verified, tls.resumed) {
        (true, false) => CLIENT_CERTIFICATE | SESSION_CERTIFICATE,
        (true, true) => SESSION_CERTIFICATE,
        (false, _) => 0,
    };
    // Zero says that a certificate was shown and is good, so that it is not said without one.
    let verify = u32::from(!tls.verified);
    let mut value = vec![CLIENT_TLS | shown];
    value.extend_from_slice(&verify.to_be_bytes());
    put(&mut value, TLS_VERSION, Some(tls.version.as_bytes()));
    put(&mut value, TLS_COMMON_NAME, tls.common_name.filter(|_| tls.verified).map(str::as_bytes));
    put(&mut value, TLS_CIPHER, tls.cipher.map(str::as_bytes));
    value
}

fn put(bytes: &mut Vec<u8>, kind: u8, value: Option<&[u8]>) {
    if let Some(value) = value.filter(|value| value.len() <= LONGEST_VALUE) {
        put_whole(bytes, kind, value);
    }
}

fn put_whole(bytes: &mut Vec<u8>, kind: u8, value: &[u8]) {
    bytes.push(kind);
    bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
    bytes.extend_from_slice(value);
}

fn framed(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FIXED + rest.len());
    bytes.extend_from_slice(SIGNATURE);
    bytes.extend_from_slice(&[command, family]);
    bytes.extend_from_slice(&(rest.len() as u16).to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes
}
