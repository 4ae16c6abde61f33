use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::base::{BootId, NodeId, hex};
use crate::cluster::keyring::{Key, KeyId};

fn greeting(node: u64, key: u8) -> Greeting {
    let actor = Actor { node: NodeId(node), boot: BootId::new(0x0a0b_0c0d_0e0f) };
    Greeting { key, actor, nonce: [node as u8; 16] }
}

fn root(byte: u8) -> Prk {
    Key::new(KeyId::new(3).unwrap(), [byte; 32]).root()
}

fn sealed() -> [Lane; 2] {
    lanes(Some(&root(0x11)), "default", &greeting(1, 3), &greeting(2, 3))
}

fn plain() -> [Lane; 2] {
    lanes(None, "default", &greeting(1, 0), &greeting(2, 0))
}

fn frame(lane: &mut Lane, more: bool, records: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    lane.put(more, records, &mut bytes);
    bytes
}

/// Change these only together with the wire version.
#[test]
fn a_stream_keeps_its_bytes() {
    assert_eq!(
        hex(&greeting(0x0102_0304_0506_0708, 3).bytes()),
        "01030b0001020304050607080a0b0c0d0e0f00000000000008080808080808080808080808080808"
    );
    assert_eq!(
        hex(&frame(&mut plain()[0], true, b"records")),
        "0018017265636f726473c4667947be8a476691621426b3221756"
    );
    let mut lane = sealed();
    // The same bytes come from another implementation of HKDF and AES-GCM.
    assert_eq!(
        hex(&frame(&mut lane[0], true, b"records")),
        "00184fc9bf9282b71173a0a969e0d24c46894e2344c4c8333c91"
    );
}

#[test]
fn a_hello_is_read_when_it_is_whole() {
    let hello = greeting(7, 3);
    let bytes = hello.bytes();
    for cut in 0..HELLO {
        assert_eq!(Greeting::read(&bytes[..cut]), Ok(None));
    }
    assert_eq!(Greeting::read(&bytes), Ok(Some(hello)));
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        Greeting::read(&bytes)
    };
    assert_eq!(with(0, b'G'), Err(Reason::BadVersion));
    assert_eq!(with(2, Kind::Swim as u8), Err(Reason::UnknownType));
}

type Lanes = fn() -> [Lane; 2];
const BOTH: [Lanes; 2] = [sealed, plain];

#[test]
fn frames_arrive_in_order_and_in_pieces() {
    for lanes in BOTH {
        let ([mut out, _], [mut heard, _]) = (lanes(), lanes());
        let mut bytes = frame(&mut out, true, b"one");
        bytes.extend(frame(&mut out, false, b""));
        for cut in [0, 1, 5, 2 + 1 + 3 + 15] {
            assert_eq!(heard.take(&bytes[..cut]), Ok(None));
        }
        let (first, length) = heard.take(&bytes).unwrap().unwrap();
        assert_eq!(first, Frame { more: true, records: b"one".to_vec() });
        let last = heard.take(&bytes[length..]).unwrap().unwrap();
        assert_eq!(last, (Frame { more: false, records: Vec::new() }, bytes.len() - length));
    }
}

#[test]
fn what_belongs_elsewhere_does_not_open() {
    let bad = |lane: &mut Lane, bytes: &[u8]| lane.take(bytes).unwrap_err();
    for (lanes, reason) in BOTH.into_iter().zip([Reason::BadSeal, Reason::BadChecksum]) {
        let [mut out, _] = lanes();
        let (first, second) = (frame(&mut out, true, b"one"), frame(&mut out, true, b"two"));
        let [mut heard, mut back] = lanes();
        assert_eq!(bad(&mut heard, &second), reason, "out of order");
        assert_eq!(bad(&mut back, &first), reason, "sent back");
        heard.take(&first).unwrap().unwrap();
        assert_eq!(bad(&mut heard, &first), reason, "a second time");
        heard.take(&second).unwrap().unwrap();
    }
    let first = frame(&mut sealed()[0], true, b"one");
    let [mut other_key, _] = lanes(Some(&root(0x12)), "default", &greeting(1, 3), &greeting(2, 3));
    let [mut other_label, _] = lanes(Some(&root(0x11)), "other", &greeting(1, 3), &greeting(2, 3));
    let [mut other_node, _] = lanes(Some(&root(0x11)), "default", &greeting(1, 3), &greeting(4, 3));
    let later = Greeting { nonce: [9; 16], ..greeting(2, 3) };
    let [mut later, _] = lanes(Some(&root(0x11)), "default", &greeting(1, 3), &later);
    for lane in [&mut other_key, &mut other_label, &mut other_node, &mut later] {
        assert_eq!(bad(lane, &first), Reason::BadSeal);
    }
    let [mut other_label, _] = lanes(None, "other", &greeting(1, 0), &greeting(2, 0));
    assert_eq!(bad(&mut other_label, &frame(&mut plain()[0], true, b"")), Reason::BadLabel);
}

#[test]
fn a_length_that_cannot_be_is_refused_before_it_is_waited_for() {
    for lanes in BOTH {
        let [mut heard, _] = lanes();
        assert_eq!(heard.take(&[0, 16]), Err(Reason::TooShort));
        assert_eq!(heard.take(&(MOST_FRAME as u16 + 1).to_be_bytes()), Err(Reason::TooLong));
        let full = frame(&mut lanes()[0], true, &[7; MOST_RECORDS]);
        assert!(heard.take(&full).unwrap().is_some());
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Greeting::read(&bytes);
        for lanes in BOTH {
            let _ = lanes()[0].take(&bytes);
        }
    }

    #[test]
    fn a_flipped_bit_is_always_noticed(
        records in vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), bit in 0..8u8
    ) {
        for lanes in BOTH {
            let ([mut out, _], [mut heard, _]) = (lanes(), lanes());
            let mut bytes = frame(&mut out, true, &records);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            // A greater length is waited for, in vain.
            prop_assert!(!matches!(heard.take(&bytes), Ok(Some(_))));
        }
    }
}
