//! A PROXY header: what was said of it never changes by what follows, and who it speaks of is written
//! as a header that speaks of the same.

use std::net::SocketAddr;

use tidegate::net::{Header, HeaderVersion, Told, read_header, write_header};

use super::settled;

/// Takes what a connection begins with.
pub fn take(bytes: &[u8]) {
    let Ok(Some((header, taken))) = settled(bytes, read_header) else { return };
    assert_eq!(read_header(&bytes[..taken]), Ok(Some((header, taken))), "it ends where it says");
    assert!((0..taken).rev().take(3).all(|cut| read_header(&bytes[..cut]) == Ok(None)));
    let Header { source: Some(source), destination: Some(destination) } = header else {
        assert_eq!(header, Header::default());
        return;
    };
    let told = Told { source, destination, server_name: Some("a.b"), alpn: None, tls: None };
    let plain = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    for version in [HeaderVersion::V1, HeaderVersion::V2] {
        let written = write_header(version, &told);
        let Ok(Some((again, length))) = read_header(&written) else {
            panic!("what was written cannot be read: {written:?}");
        };
        assert_eq!(length, written.len());
        assert_eq!(again.source.map(plain), Some(plain(source)));
        assert_eq!(again.destination.map(plain), Some(plain(destination)));
    }
}
