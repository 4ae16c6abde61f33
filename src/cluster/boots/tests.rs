use proptest::collection::vec;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::base::time::now;
use crate::base::{BootId, NodeId};
use crate::cluster::keyring::Key;

fn id(id: u8) -> KeyId {
    KeyId::new(id).unwrap()
}

fn ring(keys: &[u8]) -> Arc<Keyring> {
    let mut ring = Keyring::new([7; 16], Key::new(id(keys[0]), [keys[0]; 32]));
    keys[1..].iter().for_each(|key| ring.install(Key::new(id(*key), [*key; 32])).unwrap());
    Arc::new(ring)
}

fn actor(node: u64, boot: u64) -> Actor {
    Actor { node: NodeId(node), boot: BootId::new(boot) }
}

fn at() -> SocketAddr {
    ([10, 0, 0, 1], 9090).into()
}

struct Pair {
    now: Instant,
    rng: StdRng,
    a: Boots,
    b: Boots,
}

impl Pair {
    fn new() -> Pair {
        let boots = |node| Boots::new(actor(node, 1), "default", ring(&[1]));
        Pair { now: now(), rng: StdRng::seed_from_u64(1), a: boots(1), b: boots(2) }
    }

    /// `b` knows `a`.
    fn met() -> Pair {
        let mut pair = Pair::new();
        let nonce = pair.b.challenge(pair.now, actor(1, 1), &mut pair.rng);
        let answer = pair.a.seal_answering(Kind::Hello, Some(actor(2, 1)), Some(nonce), b"");
        assert_eq!(pair.hear(&answer.unwrap()).map(|o| o.standing), Ok(Standing::Learnt));
        pair
    }

    fn say(&mut self, content: &[u8]) -> Vec<u8> {
        self.a.seal(Kind::Meta, Some(actor(2, 1)), content).unwrap()
    }

    /// `b` hears.
    fn hear(&mut self, bytes: &[u8]) -> Result<Opening, Reason> {
        hear(&mut self.b, self.now, bytes)
    }
}

fn hear(boots: &mut Boots, now: Instant, bytes: &[u8]) -> Result<Opening, Reason> {
    boots.open(now, at(), &Head::read(bytes)?, bytes)
}

#[test]
fn a_known_boot_is_heard_once_per_datagram() {
    let mut pair = Pair::met();
    let said = pair.say(b"hello");
    let opening = pair.hear(&said).unwrap();
    assert_eq!((opening.kind, opening.sender), (Kind::Meta, actor(1, 1)));
    assert_eq!((opening.standing, &*opening.payload), (Standing::Known, &b"hello"[..]));
    assert_eq!(pair.hear(&said), Err(Reason::Replay));
}

#[test]
fn a_boot_that_is_not_known_stays_a_stranger_until_it_sends_the_nonce_back() {
    let mut pair = Pair::new();
    let said = pair.say(b"hello");
    assert_eq!(pair.hear(&said).unwrap().standing, Standing::Stranger);
    let wrong = pair.a.seal_answering(Kind::Hello, Some(actor(2, 1)), Some(7), b"").unwrap();
    assert_eq!(pair.hear(&wrong).unwrap().standing, Standing::Failed);
    let nonce = pair.b.challenge(pair.now, actor(1, 1), &mut pair.rng);
    assert_eq!(pair.hear(&wrong).unwrap().standing, Standing::Failed);
    let right = pair.a.seal_answering(Kind::Hello, Some(actor(2, 1)), Some(nonce), b"").unwrap();
    assert_eq!(pair.hear(&right).unwrap().standing, Standing::Learnt);
    assert_eq!(pair.hear(&said), Err(Reason::Replay), "it was recorded before the challenge");
    assert_eq!(pair.hear(&right), Err(Reason::Replay));
}

#[test]
fn an_answer_counts_once_and_for_ten_seconds() {
    let mut pair = Pair::met();
    let nonce = pair.b.challenge(pair.now, actor(1, 1), &mut pair.rng);
    let to = Some(actor(2, 1));
    let first = pair.a.seal_answering(Kind::Hello, to, Some(nonce), b"").unwrap();
    let again = pair.a.seal_answering(Kind::Hello, to, Some(nonce), b"").unwrap();
    assert_eq!(pair.hear(&first).unwrap().standing, Standing::Proved);
    assert_eq!(pair.hear(&again).unwrap().standing, Standing::Known);

    let mut pair = Pair::new();
    let nonce = pair.b.challenge(pair.now, actor(1, 1), &mut pair.rng);
    let late = pair.a.seal_answering(Kind::Hello, to, Some(nonce), b"").unwrap();
    pair.now += ANSWERABLE;
    assert_eq!(pair.hear(&late).unwrap().standing, Standing::Failed);
}

#[test]
fn what_was_sealed_after_the_challenge_counts_in_any_order_and_what_was_before_never() {
    let mut pair = Pair::new();
    let recorded = pair.say(b"before");
    let nonce = pair.b.challenge(pair.now, actor(1, 1), &mut pair.rng);
    let to = Some(actor(2, 1));
    let [one, two, three] = [b"1", b"2", b"3"]
        .map(|said| pair.a.seal_answering(Kind::Meta, to, Some(nonce), said).unwrap());
    assert_eq!(pair.hear(&two).unwrap().standing, Standing::Learnt);
    assert_eq!(pair.hear(&one).unwrap().payload, b"1");
    assert_eq!(pair.hear(&three).unwrap().payload, b"3");
    for old in [recorded, one, two, three] {
        assert_eq!(pair.hear(&old), Err(Reason::Replay));
    }
}

#[test]
fn a_restarted_receiver_knows_nobody_and_nothing_recorded_before_counts() {
    let mut pair = Pair::met();
    let heard = pair.say(b"heard");
    pair.hear(&heard).unwrap();
    let missed = pair.say(b"missed");
    // The same node, with its id kept on disk.
    pair.b = Boots::new(actor(2, 2), "default", ring(&[1]));
    for recorded in [heard, missed] {
        assert_eq!(pair.hear(&recorded).unwrap().standing, Standing::Stranger);
    }
    assert!(!pair.b.knows(actor(1, 1)));
}

#[test]
fn only_the_recipient_with_the_same_key_and_label_opens() {
    let mut pair = Pair::met();
    let said = pair.say(b"hello");
    let elsewhere = |own, label: &str, keys: &[u8]| {
        hear(&mut Boots::new(own, label, ring(keys)), now(), &said).map(|o| o.standing)
    };
    let b = actor(2, 1);
    assert_eq!(elsewhere(b, "default", &[1]), Ok(Standing::Stranger));
    assert_eq!(elsewhere(actor(3, 1), "default", &[1]), Err(Reason::BadSeal), "one for B at C");
    assert_eq!(elsewhere(b, "other", &[1]), Err(Reason::BadSeal));
    assert_eq!(elsewhere(b, "default", &[2]), Err(Reason::UnknownKey));
    let same_name = Arc::new(Keyring::new([7; 16], Key::new(id(1), [9; 32])));
    let mut wrong_key = Boots::new(b, "default", same_name);
    assert_eq!(hear(&mut wrong_key, pair.now, &said), Err(Reason::BadSeal));
}

#[test]
fn a_forged_sender_changes_nothing_for_the_true_one() {
    let mut pair = Pair::met();
    let mut forged = pair.say(b"hello");
    // A number far ahead would close the window, were it believed.
    forged[18] = 0xff;
    assert_eq!(pair.hear(&forged), Err(Reason::BadSeal));
    let said = pair.say(b"hello");
    assert_eq!(pair.hear(&said).unwrap().standing, Standing::Known);
}

#[test]
fn keys_rotate_and_who_is_known_stays_known() {
    let mut pair = Pair::met();
    let say = |pair: &mut Pair| {
        let said = pair.say(b"hello");
        pair.hear(&said).map(|opening| opening.standing)
    };
    pair.a.rekey(ring(&[1, 2]));
    assert_eq!(say(&mut pair), Ok(Standing::Known));
    pair.b.rekey(ring(&[1, 2]));
    pair.a.rekey(ring(&[2, 1]));
    assert_eq!(say(&mut pair), Ok(Standing::Known));
    pair.b.rekey(ring(&[2, 1]));
    pair.b.rekey(ring(&[2]));
    assert_eq!(say(&mut pair), Ok(Standing::Known));
    pair.a.rekey(ring(&[1, 2]));
    assert_eq!(say(&mut pair), Err(Reason::UnknownKey));
}

#[test]
fn a_challenge_is_owed_until_its_maker_speaks() {
    let mut pair = Pair::met();
    let nonce = pair.a.challenge(pair.now, actor(2, 1), &mut pair.rng);
    let to = Some(actor(1, 1));
    let answer = pair.b.seal_answering(Kind::Hello, to, Some(nonce), b"").unwrap();
    hear(&mut pair.a, pair.now, &answer).unwrap();
    pair.a.owe(actor(2, 1), 99);
    let answers = |bytes: &[u8]| Head::read(bytes).unwrap().answers();
    assert!(answers(&pair.say(b"")) && answers(&pair.say(b"")));
    let said = pair.b.seal(Kind::Meta, to, b"").unwrap();
    hear(&mut pair.a, pair.now, &said).unwrap();
    assert!(!answers(&pair.say(b"")));
}

#[test]
fn a_key_is_kept_only_after_a_datagram_was_authentic() {
    let mut pair = Pair::met();
    let said = pair.say(b"hello");
    let head = Head::read(&said).unwrap();
    assert!(!pair.b.is_dear(&head));
    let mut stranger = Boots::new(actor(9, 9), "default", ring(&[1]));
    let said = stranger.seal(Kind::Meta, Some(actor(2, 1)), b"hello").unwrap();
    for _ in 0..3 {
        let head = Head::read(&said).unwrap();
        assert!(pair.b.is_dear(&head));
        pair.hear(&said).unwrap();
    }
    assert_eq!(pair.b.len(), 1);
}

#[test]
fn boots_and_challenges_are_bounded() {
    let mut pair = Pair::new();
    for node in 0..MOST_KNOWN as u64 + 100 {
        let from = actor(node + 10, 1);
        let mut peer = Boots::new(from, "default", ring(&[1]));
        let nonce = pair.b.challenge(pair.now, from, &mut pair.rng);
        let answer = peer.seal_answering(Kind::Hello, Some(actor(2, 1)), Some(nonce), b"");
        pair.hear(&answer.unwrap()).unwrap();
    }
    assert_eq!(pair.b.len(), MOST_KNOWN);
    for node in 0..2 * MOST_ASKED as u64 {
        pair.b.challenge(pair.now, actor(node + 100_000, 1), &mut pair.rng);
    }
    assert_eq!(pair.b.asked.len(), MOST_ASKED);
    pair.b.tidy(pair.now + FORGOTTEN);
    assert!(pair.b.is_empty() && pair.b.asked.is_empty());
}

proptest! {
    #[test]
    fn no_bytes_panic_and_none_are_believed(bytes in vec(any::<u8>(), 0..1300)) {
        let mut pair = Pair::met();
        let _ = pair.hear(&bytes);
        // The same behind a head that is ours.
        let mut behind = pair.say(b"")[..24].to_vec();
        behind.extend_from_slice(&bytes);
        prop_assert!(pair.hear(&behind).is_err());
    }

    #[test]
    fn a_flipped_bit_is_always_noticed(
        content in vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), bit in 0..8u8
    ) {
        let mut pair = Pair::met();
        let mut said = pair.say(&content);
        let at = at.index(said.len());
        said[at] ^= 1 << bit;
        prop_assert!(pair.hear(&said).is_err());
    }
}
