use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::base::{Actor, BootId, NodeId};
use crate::cluster::keyring::{Key, KeyId};

fn actor(node: u64) -> Actor {
    Actor { node: NodeId(node), boot: BootId::new(0x0a0b_0c0d_0e0f) }
}

fn pair() -> (Envelope, Envelope) {
    (Envelope::new("default", actor(1)), Envelope::new("default", actor(2)))
}

/// Change this only together with the wire version.
#[test]
fn a_datagram_keeps_its_bytes() {
    let mut envelope = Envelope::new("default", actor(0x0102_0304_0506_0708));
    let bytes = envelope.seal(Kind::Meta, Some(NodeId(2)), b"payload");
    let hex = crate::base::hex(&bytes);
    assert_eq!(
        hex,
        "0100030001020304050607080a0b0c0d0e0f0000000000017061796c6f6164c4667947be8a476668d0f45607c099c1"
    );
    assert_eq!(bytes.len(), OVERHEAD + 7);
}

/// Change this only together with the wire version.
#[test]
fn a_sealed_datagram_keeps_its_bytes() {
    let key = Key::new(KeyId::new(3).unwrap(), [0x11; 32]);
    let seal = Seal::new(&key, &key.root(), "default", actor(0x0102_0304_0506_0708));
    let cover = Cover { kind: Kind::Meta, to: Some(NodeId(2)), counter: 5, answer: Some(9) };
    let bytes = seal.datagram(cover, b"payload").unwrap();
    assert_eq!(bytes.len(), OVERHEAD + 8 + 7);
    let hex = crate::base::hex(&bytes);
    // The same bytes come from another implementation, of HKDF and AES-GCM as the module says.
    assert_eq!(
        hex,
        "0103030201020304050607080a0b0c0d0e0f00000000000561c49cef173673b0fc8b7cb9cda30e66d37aadd21cd5398e302c80a62bf26c"
    );
    let head = Head::read(&bytes).unwrap();
    let content = seal.open(&head, NodeId(2), &bytes).unwrap();
    assert_eq!(content, b"\0\0\0\0\0\0\0\x09payload");
    let spent = Cover { counter: 1 << 48, ..cover };
    assert_eq!(seal.datagram(spent, b"payload"), None, "a number that does not fit");
}

#[test]
fn what_was_sealed_for_us_opens() {
    let (mut sender, receiver) = pair();
    for to in [Some(NodeId(2)), None] {
        let bytes = sender.seal(Kind::Swim, to, b"hello");
        let opened = receiver.open(&bytes).unwrap();
        assert_eq!((opened.kind, opened.sender), (Kind::Swim, actor(1)));
        assert_eq!(opened.payload, b"hello");
    }
    assert_eq!(receiver.open(&sender.seal(Kind::Swim, None, b"")).unwrap().counter, 3);
}

#[test]
fn every_fault_has_its_reason() {
    let (mut sender, receiver) = pair();
    let good = sender.seal(Kind::Swim, Some(NodeId(2)), b"hello");
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        receiver.open(&bytes).unwrap_err()
    };
    assert_eq!(receiver.open(&good[..39]), Err(Reason::TooShort));
    assert_eq!(receiver.open(&[1; MAX_DATAGRAM + 1]), Err(Reason::TooLong));
    assert_eq!(with(0, 2), Reason::BadVersion);
    assert_eq!(with(1, 1), Reason::UnknownKey);
    assert_eq!(with(24, b'j'), Reason::BadChecksum);
    assert_eq!(with(5, 9), Reason::BadChecksum);
    let elsewhere = Envelope::new("other", actor(1)).seal(Kind::Swim, None, b"hello");
    assert_eq!(receiver.open(&elsewhere), Err(Reason::BadLabel));
    let for_another = sender.seal(Kind::Swim, Some(NodeId(3)), b"hello");
    assert_eq!(receiver.open(&for_another), Err(Reason::BadChecksum));
    let own = sender.seal(Kind::Swim, None, b"");
    assert_eq!(sender.open(&own), Err(Reason::Own));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..1400)) {
        let _ = pair().1.open(&bytes);
        let _ = records::records(&bytes);
    }

    #[test]
    fn a_flipped_bit_is_always_noticed(
        payload in vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), bit in 0..8u8
    ) {
        let (mut sender, receiver) = pair();
        let mut bytes = sender.seal(Kind::Meta, Some(NodeId(2)), &payload);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(receiver.open(&bytes).is_err());
    }
}
