use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn between(source: &str, destination: &str) -> Header {
    Header { source: Some(address(source)), destination: Some(address(destination)) }
}

fn told<'a>(source: &str, destination: &str) -> Told<'a> {
    let (source, destination) = (address(source), address(destination));
    Told { source, destination, server_name: None, alpn: None, tls: None }
}

/// A header of version 2 from behind its signature.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [binary::SIGNATURE, &[command, family], &length, rest].concat()
}

const ADDRESSES: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 1, 0x13, 0x88, 0x01, 0xbb];

fn with_tlvs(tlvs: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[ADDRESSES, tlvs].concat())
}

/// Read whole, asks for more at every cut, and stops where it ends.
#[track_caller]
fn reads(bytes: &[u8], expected: Header) {
    assert_eq!(read_header(bytes), Ok(Some((expected, bytes.len()))));
    let followed = [bytes, b"\r\nGET /"].concat();
    assert_eq!(read_header(&followed), Ok(Some((expected, bytes.len()))));
    for cut in 0..bytes.len() {
        assert_eq!(read_header(&bytes[..cut]), Ok(None), "cut at {cut}");
    }
}

#[track_caller]
fn malformed(bytes: &[u8]) {
    let read = read_header(bytes);
    assert!(matches!(read, Err(HeaderFault::Malformed(_))), "{read:?}");
}

#[test]
fn lines_are_read() {
    let four = between("192.0.2.1:5000", "198.51.100.1:443");
    reads(b"PROXY TCP4 192.0.2.1 198.51.100.1 5000 443\r\n", four);
    let six = between("[2001:db8::1]:0", "[::ffff:192.0.2.1]:65535");
    reads(b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 0 65535\r\n", six);
    reads(b"PROXY UNKNOWN\r\n", Header::default());
    reads(b"PROXY UNKNOWN what\tever \xff\r\n", Header::default());
}

#[test]
fn the_longest_line_of_all_fits_and_one_byte_more_does_not() {
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(107 - 16));
    assert_eq!(longest.len(), 107);
    reads(longest.as_bytes(), Header::default());
    let more = longest.replace("f\r", "ff\r");
    assert_eq!(read_header(more.as_bytes()), Err(HeaderFault::TooLarge));
    assert_eq!(read_header(&more.as_bytes()[..106]), Ok(None));
    assert_eq!(read_header(&more.as_bytes()[..107]), Err(HeaderFault::TooLarge));
}

#[test]
fn a_line_that_can_be_read_in_two_ways_is_refused() {
    for line in [
        "TCP4 192.0.2.1 198.51.100.1 5000 443 ",
        "TCP4  192.0.2.1 198.51.100.1 5000 443",
        "TCP4 192.0.2.1 198.51.100.1 5000",
        "TCP4 192.0.2.1 198.51.100.1 05000 443",
        "TCP4 192.0.2.1 198.51.100.1 5000 65536",
        "TCP4 192.0.2.1 198.51.100.1 5000 ",
        "TCP4 192.0.2.01 198.51.100.1 5000 443",
        "TCP4 192.0.2 198.51.100.1 5000 443",
        "TCP4 ::1 ::1 5000 443",
        "TCP6 192.0.2.1 198.51.100.1 5000 443",
        "TCP6 [::1] ::1 5000 443",
        "TCP4",
        "UNKNOWNS",
    ] {
        malformed(format!("PROXY {line}\r\n").as_bytes());
    }
}

#[test]
fn a_bad_line_is_known_before_its_end() {
    malformed(b"PROXY TCP5");
    malformed(b"PROXY tcp4");
    malformed(b"PROXY  ");
    malformed(b"PROXY TCP4 192.0.2.1 198.51.100.1 5000 443\n");
    malformed(b"PROXY TCP4 192.0.2.1\r ");
    malformed(b"PROXY TCP4 +");
    malformed(b"PROXY UNKNOWNx");
}

#[test]
fn what_is_no_header_is_known_at_its_first_other_byte() {
    for text in ["GET / HTTP/1.1", "\u{16}\u{3}\u{1}", "PROXX", "proxy ", "\r\n\r\nGET", "PROXY\t"]
    {
        let bytes = text.as_bytes();
        assert_eq!(read_header(bytes), Err(HeaderFault::Missing), "{text:?}");
    }
    assert_eq!(read_header(b"\r\n\r\r"), Err(HeaderFault::Missing));
}

#[test]
fn binary_headers_are_read() {
    let four = between("192.0.2.1:5000", "198.51.100.1:443");
    reads(&with_tlvs(&[]), four);
    reads(&with_tlvs(&[0x04, 0, 0, 0xe0, 0, 2, 1, 2]), four);
    let mut six = [0; 36];
    (six[15], six[31], six[33], six[35]) = (1, 2, 7, 8);
    reads(&v2(0x21, 0x21, &six), between("[::1]:7", "[::2]:8"));
}

#[test]
fn connections_without_addresses_are_read() {
    reads(&v2(0x20, 0, &[]), Header::default());
    // Whatever a local one says beside is skipped.
    reads(&v2(0x20, 0xff, &[1; 9]), Header::default());
    reads(&v2(0x21, 0, &[]), Header::default());
    reads(&v2(0x21, 0x31, &[b'/'; 216]), Header::default());
}

#[test]
fn what_is_not_relayed_is_refused_at_its_byte() {
    let head = |bytes: &[u8]| read_header(&[binary::SIGNATURE, bytes].concat());
    for command in [0x22, 0x2f] {
        assert!(matches!(head(&[command]), Err(HeaderFault::Unsupported(_))));
    }
    assert!(matches!(head(&[0x11]), Err(HeaderFault::Malformed(_))));
    for family in [0x01, 0x10, 0x12, 0x22, 0x32, 0x41] {
        assert!(matches!(head(&[0x21, family]), Err(HeaderFault::Unsupported(_))), "{family:x}");
    }
    // More than is kept, and less than its addresses need.
    assert_eq!(head(&[0x21, 0x11, 0x10, 0x01]), Err(HeaderFault::TooLarge));
    assert_eq!(head(&[0x21, 0x11, 0x10, 0x00]), Ok(None));
    for (family, short) in [(0x11, 11), (0x21, 35), (0x31, 215)] {
        assert!(matches!(head(&[0x21, family, 0, short]), Err(HeaderFault::Malformed(_))));
        assert_eq!(head(&[0x21, family, 0, short + 1]), Ok(None));
    }
}

#[test]
fn the_lengths_of_tlvs_add_up() {
    malformed(&with_tlvs(&[0x04]));
    malformed(&with_tlvs(&[0x04, 0]));
    malformed(&with_tlvs(&[0x04, 0, 1]));
    malformed(&with_tlvs(&[0x04, 0, 0, 0x04, 0, 2, 1]));
}

#[test]
fn a_checksum_is_verified() {
    let tlvs = [0x03, 0, 4, 0, 0, 0, 0, 0x04, 0, 1, 9];
    let mut bytes = with_tlvs(&tlvs);
    let at = bytes.len() - 8;
    let sum = binary::checksum(&bytes, at);
    assert_eq!(read_header(&bytes), Err(HeaderFault::Checksum));
    bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    reads(&bytes, between("192.0.2.1:5000", "198.51.100.1:443"));
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(read_header(&bytes), Err(HeaderFault::Checksum));
    malformed(&with_tlvs(&[0x03, 0, 3, 0, 0, 0]));
    malformed(&with_tlvs(&[[0x03, 0, 4, 0, 0, 0, 0]; 2].concat()));
}

#[test]
fn lines_keep_their_bytes() {
    let line = |told: &Told<'_>| String::from_utf8(write_header(HeaderVersion::V1, told)).unwrap();
    let four = line(&told("192.0.2.1:5000", "[::ffff:198.51.100.1]:443"));
    assert_eq!(four, "PROXY TCP4 192.0.2.1 198.51.100.1 5000 443\r\n");
    let mixed = line(&told("192.0.2.1:5000", "[2001:db8::1]:443"));
    assert_eq!(mixed, "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 5000 443\r\n");
    assert_eq!(write_local(HeaderVersion::V1), b"PROXY UNKNOWN\r\n");
}

#[test]
fn binary_headers_keep_their_bytes() {
    let plain = write_header(HeaderVersion::V2, &told("192.0.2.1:5000", "198.51.100.1:443"));
    let golden =
        *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x01\x13\x88\x01\xbb";
    assert_eq!(plain, golden);
    assert_eq!(write_local(HeaderVersion::V2), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
}

#[test]
fn a_verified_client_keeps_its_bytes() {
    let tls = TlsTold {
        version: "TLSv1.3",
        cipher: Some("TLS13_A"),
        common_name: Some("client.a"),
        verified: true,
        resumed: false,
    };
    let told = Told {
        server_name: Some("a.b"),
        alpn: Some(b"h2"),
        tls: Some(tls),
        ..told("192.0.2.1:5000", "198.51.100.1:443")
    };
    let tlvs = b"\x01\0\x02h2\x02\0\x03a.b\x20\0\x24\x07\0\0\0\0\
                 \x21\0\x07TLSv1.3\x22\0\x08client.a\x23\0\x07TLS13_A";
    assert_eq!(write_header(HeaderVersion::V2, &told), with_tlvs(tlvs));
    // Not on this connection, but in its session.
    let resumed = Told { tls: Some(TlsTold { resumed: true, ..tls }), ..told };
    let mut tlvs = tlvs.to_vec();
    tlvs[14] = 5;
    assert_eq!(write_header(HeaderVersion::V2, &resumed), with_tlvs(&tlvs));
}

#[test]
fn without_a_certificate_nothing_is_verified_and_nobody_is_named() {
    let tls = TlsTold {
        version: "TLSv1.2",
        cipher: None,
        common_name: Some("client.a"),
        verified: false,
        resumed: false,
    };
    let told = Told { tls: Some(tls), ..told("192.0.2.1:5000", "198.51.100.1:443") };
    let tlvs = b"\x20\0\x0f\x01\0\0\0\x01\x21\0\x07TLSv1.2";
    assert_eq!(write_header(HeaderVersion::V2, &told), with_tlvs(tlvs));
}

#[test]
fn a_value_without_measure_is_left_out_and_the_header_stays_readable() {
    let long = "a".repeat(513);
    let fits = "a".repeat(512);
    let tls = TlsTold {
        version: "TLSv1.3",
        cipher: Some(&fits),
        common_name: Some(&long),
        verified: true,
        resumed: false,
    };
    let told = Told {
        server_name: Some(&fits),
        alpn: Some(fits.as_bytes()),
        tls: Some(tls),
        ..told("[2001:db8::1]:5000", "198.51.100.1:443")
    };
    let bytes = write_header(HeaderVersion::V2, &told);
    assert!(!bytes.contains(&0x22), "no common name");
    assert!(bytes.len() > 3 * 512);
    reads(&bytes, between("[2001:db8::1]:5000", "[::ffff:198.51.100.1]:443"));
}

proptest! {
    #[test]
    fn what_was_written_is_read_as_it_was_meant(
        source in any::<(std::net::IpAddr, u16)>(),
        destination in any::<(std::net::IpAddr, u16)>(),
        name in proptest::option::of("[a-z.]{0,600}"),
    ) {
        let told = Told {
            source: source.into(),
            destination: destination.into(),
            server_name: name.as_deref(),
            alpn: None,
            tls: None,
        };
        let ip = |address: Option<SocketAddr>| address.map(|a| (a.ip().to_canonical(), a.port()));
        for version in [HeaderVersion::V1, HeaderVersion::V2] {
            let bytes = write_header(version, &told);
            let (header, taken) = read_header(&bytes).unwrap().unwrap();
            prop_assert_eq!(taken, bytes.len());
            prop_assert_eq!(ip(header.source), ip(Some(told.source)));
            prop_assert_eq!(ip(header.destination), ip(Some(told.destination)));
        }
    }

    #[test]
    fn an_answer_never_changes_by_what_comes_after(
        (kind, mut bytes) in (0..4, vec(any::<u8>(), 0..60)),
        (at, byte) in (any::<prop::sample::Index>(), any::<u8>()),
    ) {
        match kind {
            0 => {}
            1 => bytes = [binary::SIGNATURE, &bytes].concat(),
            2 => bytes = with_tlvs(&bytes),
            _ => bytes = b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 0 65535\r\n".to_vec(),
        }
        if kind > 1 {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut said = None;
        for end in 0..=bytes.len() {
            let now = read_header(&bytes[..end]);
            if let Some(said) = &said {
                prop_assert_eq!(said, &now);
            } else if now != Ok(None) {
                said = Some(now);
            }
        }
    }
}
