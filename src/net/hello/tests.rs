use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// OpenSSL 3.0 towards `www.example.org`, offering h2 and http/1.1, TLS 1.2 at most.
const REAL: &str = "16030100c7010000c30303c5393b2ec208619aaf402de8fb6f67c861bde8fff82ff020302c3440\
    a43d8bfd00001ec02cc030c02bc02fcca9cca8c024c028c023c027009f009e006b006700ff0100007c000000140012\
    00000f7777772e6578616d706c652e6f7267000b000403000102000a000c000a001d0017001e001900180023000000\
    10000e000c02683208687474702f312e310016000000170000000d002a0028040305030603080708080809080a080b\
    080408050806040105010601030303010302040205020602";

fn real() -> Vec<u8> {
    (0..REAL.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&REAL[at..at + 2], 16).unwrap())
        .collect()
}

fn hello(server_name: Option<&str>, alpn: &[&str]) -> Hello {
    Hello {
        server_name: server_name.map(str::to_owned),
        alpn: alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect(),
    }
}

fn expected() -> Hello {
    hello(Some("www.example.org"), &["h2", "http/1.1"])
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &sized(body)].concat()
}

fn sni(name: &[u8]) -> Vec<u8> {
    extension(SERVER_NAME, &sized(&[&[HOST_NAME], &sized(name)[..]].concat()))
}

/// A message around everything behind the compressions.
fn message_of(rest: &[u8]) -> Vec<u8> {
    let fixed = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0]].concat();
    let body = [&fixed[..], rest].concat();
    [&[CLIENT_HELLO][..], &(body.len() as u32).to_be_bytes()[1..], &body].concat()
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|part| [&[HANDSHAKE, 3, 1][..], &sized(part)].concat()).collect()
}

/// A whole hello with these extensions.
fn with(extensions: &[Vec<u8>]) -> Vec<u8> {
    records(&message_of(&sized(&extensions.concat())), LARGEST_RECORD)
}

fn name_of(name: &[u8]) -> Result<Option<String>, HelloFault> {
    read_hello(&with(&[sni(name)])).map(|hello| hello.unwrap().server_name)
}

#[track_caller]
fn malformed(bytes: &[u8]) {
    let read = read_hello(bytes);
    assert!(matches!(read, Err(HelloFault::Malformed(_))), "{read:?}");
}

#[test]
fn a_real_hello_is_read_and_every_cut_asks_for_more() {
    let bytes = real();
    assert_eq!(read_hello(&bytes), Ok(Some(expected())));
    for cut in 0..bytes.len() {
        assert_eq!(read_hello(&bytes[..cut]), Ok(None), "cut at {cut}");
    }
}

#[test]
fn what_follows_the_hello_is_not_looked_at() {
    let bytes = [&real()[..], b"\x17whatever"].concat();
    assert_eq!(read_hello(&bytes), Ok(Some(expected())));
}

#[test]
fn a_hello_in_two_records_is_joined_wherever_it_was_cut() {
    let message = &real()[RECORD_HEADER..];
    for cut in 1..message.len() {
        let (one, two) = message.split_at(cut);
        let bytes = [records(one, LARGEST_RECORD), records(two, LARGEST_RECORD)].concat();
        assert_eq!(read_hello(&bytes), Ok(Some(expected())), "cut at {cut}");
        for end in 0..bytes.len() {
            assert_eq!(read_hello(&bytes[..end]), Ok(None), "cut at {cut}, {end} bytes");
        }
    }
}

#[test]
fn a_hello_in_records_of_one_byte_is_joined() {
    assert_eq!(read_hello(&records(&real()[RECORD_HEADER..], 1)), Ok(Some(expected())));
}

#[test]
fn any_version_of_the_record_will_do() {
    for minor in 0..=4 {
        let mut bytes = real();
        bytes[2] = minor;
        assert_eq!(read_hello(&bytes), Ok(Some(expected())));
    }
}

#[test]
fn a_hello_of_rustls_is_read_with_its_key_shares() {
    let roots = rustls::RootCertStore::empty();
    let provider = std::sync::Arc::clone(crate::net::tls::provider());
    let config = rustls::ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = "App.Example.".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    assert!(bytes.len() > 1000, "the hybrid key share is there");
    assert_eq!(read_hello(&bytes), Ok(Some(hello(Some("app.example"), &["h2"]))));
}

#[test]
fn hellos_without_extensions_or_a_name_are_hellos() {
    let bare = records(&message_of(&[]), LARGEST_RECORD);
    assert_eq!(read_hello(&bare), Ok(Some(Hello::default())));
    assert_eq!(read_hello(&with(&[])), Ok(Some(Hello::default())));
    let grease = [extension(0x0a0a, &[]), sni(b"a.b"), extension(0xfafa, &[0])];
    assert_eq!(read_hello(&with(&grease)), Ok(Some(hello(Some("a.b"), &[]))));
}

#[test]
fn what_is_no_tls_is_known_by_its_first_byte() {
    for text in ["GET / HTTP/1.1\r\n", "SSH-2.0-", "\u{15}", "PROXY TCP4 "] {
        for end in 1..=text.len() {
            assert_eq!(read_hello(&text.as_bytes()[..end]), Err(HelloFault::NotTls));
        }
    }
    // An SSLv2 hello, and one that only begins like TLS.
    assert_eq!(read_hello(&[0x80]), Err(HelloFault::NotTls));
    assert_eq!(read_hello(&[HANDSHAKE, 2]), Err(HelloFault::NotTls));
}

#[test]
fn names_are_lower_case_and_without_the_last_dot() {
    assert_eq!(name_of(b"WWW.Example_1.org."), Ok(Some("www.example_1.org".to_owned())));
    assert_eq!(name_of(b"xn--bcher-kva.example"), Ok(Some("xn--bcher-kva.example".to_owned())));
    let longest = [&[b'a'; 63][..]; 4].join(&b'.');
    assert!(name_of(&longest[..253]).unwrap().is_some());
    assert!(name_of(&longest[..254]).is_err());
}

#[test]
fn an_address_is_no_name() {
    for address in ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"] {
        assert_eq!(name_of(address.as_bytes()), Ok(None));
    }
}

#[test]
fn names_that_are_none_are_malformed() {
    let long = [b'a'; 64];
    let names: [&[u8]; 9] =
        [b"", b".", b"a..b", b".a", b"a b", b"a/b", b"a\0", "b\u{fc}cher".as_bytes(), &long];
    for name in names {
        assert!(matches!(name_of(name), Err(HelloFault::Malformed(_))), "{name:?}");
    }
}

#[test]
fn one_name_and_no_more() {
    let entry = |kind: u8, name: &[u8]| [&[kind], &sized(name)[..]].concat();
    let two = [entry(HOST_NAME, b"a"), entry(HOST_NAME, b"b")].concat();
    malformed(&with(&[extension(SERVER_NAME, &sized(&two))]));
    malformed(&with(&[sni(b"a"), sni(b"a")]));
    let other = [entry(9, b"\xff"), entry(HOST_NAME, b"b")].concat();
    let read = read_hello(&with(&[extension(SERVER_NAME, &sized(&other))]));
    assert_eq!(read, Ok(Some(hello(Some("b"), &[]))));
    malformed(&with(&[extension(SERVER_NAME, &[])]));
    malformed(&with(&[extension(SERVER_NAME, &[0, 0])]));
}

#[test]
fn lengths_must_add_up() {
    let good = with(&[sni(b"a.b"), extension(ALPN, &sized(b"\x02h2"))]);
    assert_eq!(read_hello(&good), Ok(Some(hello(Some("a.b"), &["h2"]))));
    malformed(&with(&[extension(ALPN, &sized(b"\x03h2"))]));
    malformed(&with(&[extension(ALPN, &sized(b"\x00"))]));
    malformed(&with(&[extension(ALPN, &[0, 0])]));
    malformed(&with(&[vec![0, 16, 0]]));
    malformed(&records(&message_of(&[0, 0, 7]), LARGEST_RECORD));
    malformed(&records(&[CLIENT_HELLO, 0, 0, 1, 3], LARGEST_RECORD));
    malformed(&[HANDSHAKE, 3, 1, 0, 0]);
    malformed(&[HANDSHAKE, 3, 1, 0x40, 1]);
    // A ServerHello, and an alert in the middle.
    malformed(&[HANDSHAKE, 3, 1, 0, 9, 2]);
    malformed(&[&records(&[CLIENT_HELLO, 0], 2)[..], &[0x15]].concat());
}

#[test]
fn a_hello_has_an_end() {
    let room = LARGEST_HELLO - RECORD_HEADER - message_of(&[0, 0, 0, 9, 0, 0]).len();
    let largest = with(&[extension(9, &vec![0; room])]);
    assert_eq!(largest.len(), LARGEST_HELLO);
    assert_eq!(read_hello(&largest), Ok(Some(Hello::default())));
    // One more is known by the length that it announces.
    let more = with(&[extension(9, &vec![0; room + 1])]);
    assert_eq!(read_hello(&more[..9]), Err(HelloFault::TooLarge));
    // Small enough itself, but not with the headers of all its records.
    let message = message_of(&sized(&extension(9, &[0; 4000])));
    let cut = records(&message, 1);
    assert_eq!(read_hello(&cut[..LARGEST_HELLO - 1]), Ok(None));
    assert_eq!(read_hello(&cut), Err(HelloFault::TooLarge));
}

proptest! {
    #[test]
    fn an_answer_never_changes_by_what_comes_after(
        (mut bytes, size) in (vec(any::<u8>(), 0..80), 1..40_usize),
        (at, byte) in (any::<prop::sample::Index>(), any::<u8>()),
        hello in any::<bool>(),
    ) {
        // Something random, or a hello with a byte that is not what it was.
        if hello {
            bytes = records(&real()[RECORD_HEADER..], size);
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = read_hello(&bytes);
        let mut said = None;
        for end in 0..=bytes.len() {
            let now = read_hello(&bytes[..end]);
            if let Some(said) = &said {
                prop_assert_eq!(said, &now);
            } else if now != Ok(None) {
                said = Some(now);
            }
        }
        prop_assert_eq!(said.unwrap_or(Ok(None)), whole);
    }

    #[test]
    fn extensions_of_any_bytes_have_an_answer(extensions in vec(any::<u8>(), 0..60)) {
        let message = message_of(&sized(&extensions));
        prop_assert_ne!(read_hello(&records(&message, 20)), Ok(None));
    }
}
