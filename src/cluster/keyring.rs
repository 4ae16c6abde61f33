//! The keys of a cluster: a list of which the first seals and all open, and a salt that stays when
//! keys come and go.
//!
//! ```text
//!   salt 00112233445566778899aabbccddeeff
//!   key 2 <64 hexadecimal digits>          ← seals
//!   key 1 <64 hexadecimal digits>          ← still opens
//! ```
//!
//! Rotation is three steps, each on every node before the next: install a new key behind the old
//! one, use it (move it to the front), remove the old one. No datagram is lost on the way, for at
//! every moment all nodes open what any node seals.

pub mod file;

use std::fmt;
use std::num::NonZeroU8;

use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};

use crate::base::hex;
use crate::base::id::stable_hash;

/// Names a key on the wire; 0 there means plaintext.
pub type KeyId = NonZeroU8;

/// Most keys of a ring: two are needed, and while keys are moved three.
pub const MOST_KEYS: usize = 16;

const SECRET: usize = 32;
const SALT: usize = 16;

/// One key of the cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub id: KeyId,
    secret: [u8; SECRET],
}

impl Key {
    /// A key of 32 bytes that nobody can guess.
    pub fn new(id: KeyId, secret: [u8; SECRET]) -> Self {
        Key { id, secret }
    }

    /// What everything else is derived from (HKDF-Extract, RFC 5869).
    pub fn root(&self) -> Prk {
        Salt::new(HKDF_SHA256, b"tidegate").extract(&self.secret)
    }

    /// Eight hexadecimal digits by which people see that two files hold the same key. They tell
    /// nothing of it.
    pub fn fingerprint(&self) -> String {
        let mut four = [0; 4];
        // Four bytes are far within what HKDF can give.
        let filled =
            self.root().expand(&[b"fingerprint"], Four).and_then(|okm| okm.fill(&mut four));
        debug_assert!(filled.is_ok());
        hex(&four)
    }
}

struct Four;

impl aws_lc_rs::hkdf::KeyType for Four {
    fn len(&self) -> usize {
        4
    }
}

/// Never shows the key itself.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, {})", self.id, self.fingerprint())
    }
}

/// The keys and the salt of a cluster. There is always a first key.
#[derive(Clone, PartialEq, Eq)]
pub struct Keyring {
    salt: [u8; SALT],
    first: Key,
    others: Vec<Key>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys()).finish()
    }
}

/// What is wrong with a ring, or with what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// A line of the file.
    #[error("line {line}: {what}; {LINES}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Nothing to seal with.
    #[error("there is no key; `tidegate keys generate` makes a file that has one")]
    NoKey,
    /// The file has no salt.
    #[error("there is no salt; `tidegate keys generate` makes a file that has one")]
    NoSalt,
    /// Two keys of one name.
    #[error("there are two keys {0}; remove one")]
    Twice(KeyId),
    /// As many keys as there may be.
    #[error("there are {MOST_KEYS} keys already; remove those that are no longer used")]
    Full,
    /// No key of that name.
    #[error("there is no key {0}; `tidegate keys list` shows those that are there")]
    Unknown(KeyId),
    /// The key that seals cannot go.
    #[error("key {0} is the one that seals; use another one first, on every node")]
    Seals(KeyId),
    /// Another cluster's ring.
    #[error("its salt differs: it is the key ring of another cluster")]
    OtherSalt,
}

const LINES: &str = "a line is `salt` and 32 hexadecimal digits, `key`, a number from 1 to 255 and 64 \
                     hexadecimal digits, or begins with `#`";

impl Keyring {
    /// A ring of one key.
    pub fn new(salt: [u8; SALT], first: Key) -> Self {
        Keyring { salt, first, others: Vec::new() }
    }

    /// The key that seals.
    pub fn first(&self) -> &Key {
        &self.first
    }

    /// All keys, the one that seals first.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The key called `id`.
    pub fn key(&self, id: KeyId) -> Option<&Key> {
        self.keys().find(|key| key.id == id)
    }

    /// The names of all keys, the one that seals first.
    pub fn ids(&self) -> Vec<u8> {
        self.keys().map(|key| key.id.get()).collect()
    }

    /// What clients' keys are hashed with, the same on every node and over every rotation.
    pub fn salt(&self) -> u64 {
        stable_hash(0, &self.salt)
    }

    /// Whether keys of `other` may replace ours: it is a ring of the same cluster.
    pub fn same_cluster(&self, other: &Keyring) -> bool {
        self.salt == other.salt
    }

    /// A name that no key has.
    pub fn free_id(&self) -> Option<KeyId> {
        let highest = self.keys().map(|key| key.id).max().unwrap_or(KeyId::MIN);
        let free = |id: &KeyId| self.key(*id).is_none();
        highest.checked_add(1).or_else(|| (1..=u8::MAX).filter_map(KeyId::new).find(free))
    }

    /// Step one: the key opens from now on, and does not seal.
    ///
    /// # Errors
    /// Its name is taken, or there are too many.
    pub fn install(&mut self, key: Key) -> Result<(), RingError> {
        if self.key(key.id).is_some() {
            return Err(RingError::Twice(key.id));
        }
        if 1 + self.others.len() >= MOST_KEYS {
            return Err(RingError::Full);
        }
        self.others.push(key);
        Ok(())
    }

    /// Step two: the key seals from now on, and the one that did still opens.
    ///
    /// # Errors
    /// There is no such key.
    pub fn put_first(&mut self, id: KeyId) -> Result<(), RingError> {
        if self.first.id == id {
            return Ok(());
        }
        let at = self.others.iter().position(|key| key.id == id);
        let key = self.others.remove(at.ok_or(RingError::Unknown(id))?);
        let former = std::mem::replace(&mut self.first, key);
        self.others.insert(0, former);
        Ok(())
    }

    /// Step three: the key is gone.
    ///
    /// # Errors
    /// There is no such key, or it is the one that seals.
    pub fn remove(&mut self, id: KeyId) -> Result<(), RingError> {
        if self.first.id == id {
            return Err(RingError::Seals(id));
        }
        let at = self.others.iter().position(|key| key.id == id);
        self.others.remove(at.ok_or(RingError::Unknown(id))?);
        Ok(())
    }

    /// Takes over the keys of `other` that this ring lacks, behind its own; their names.
    ///
    /// # Errors
    /// Another cluster's ring, one name for two keys, or too many.
    pub fn install_all(&mut self, other: &Keyring) -> Result<Vec<KeyId>, RingError> {
        if !self.same_cluster(other) {
            return Err(RingError::OtherSalt);
        }
        let mut news = Vec::new();
        for key in other.keys().filter(|key| !self.keys().any(|own| own == *key)) {
            news.push(key.clone());
        }
        for key in &news {
            self.install(key.clone())?;
        }
        Ok(news.into_iter().map(|key| key.id).collect())
    }

    /// Reads a ring as [`Keyring::text`] writes it.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(text: &str) -> Result<Keyring, RingError> {
        let mut salt = None;
        let mut ring: Vec<Key> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let wrong = |what| RingError::Line { line: i + 1, what };
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["salt", _] if salt.is_some() => return Err(wrong("a second salt")),
                ["salt", digits] => {
                    salt = Some(bytes(digits).ok_or(wrong("this is not a salt"))?);
                }
                ["key", id, digits] => {
                    let id = id.parse().map_err(|_| wrong("this is not the number of a key"))?;
                    let secret = bytes(digits).ok_or(wrong("this is not a key"))?;
                    if ring.iter().any(|key| key.id == id) {
                        return Err(RingError::Twice(id));
                    }
                    ring.push(Key { id, secret });
                }
                _ => return Err(wrong("this is neither a salt nor a key")),
            }
        }
        if ring.is_empty() {
            return Err(RingError::NoKey);
        }
        if ring.len() > MOST_KEYS {
            return Err(RingError::Full);
        }
        let first = ring.remove(0);
        Ok(Keyring { salt: salt.ok_or(RingError::NoSalt)?, first, others: ring })
    }

    /// As the file holds it, keys and all.
    pub fn text(&self) -> String {
        let mut text =
            "# Keys of a tidegate cluster: secret, and the same on every node. The first \
                        key seals, all open.\n# `tidegate keys` changes this file.\n"
                .to_owned();
        text += &format!("salt {}\n", hex(&self.salt));
        for key in self.keys() {
            text += &format!("key {} {}\n", key.id, hex(&key.secret));
        }
        text
    }
}

fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    if digits.len() != 2 * N || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: u8) -> KeyId {
        KeyId::new(id).unwrap()
    }

    fn ring(keys: &[u8]) -> Keyring {
        let mut ring = Keyring::new([7; 16], Key::new(id(keys[0]), [keys[0]; 32]));
        for key in &keys[1..] {
            ring.install(Key::new(id(*key), [*key; 32])).unwrap();
        }
        ring
    }

    #[test]
    fn a_ring_is_read_as_it_was_written() {
        let ring = ring(&[3, 1, 2]);
        assert_eq!(Keyring::parse(&ring.text()), Ok(ring.clone()));
        assert_eq!(ring.ids(), [3, 1, 2]);
    }

    #[test]
    fn a_rotation_is_install_use_remove_and_the_salt_stays() {
        let mut ring = ring(&[1]);
        let salt = ring.salt();
        assert_eq!(ring.free_id(), Some(id(2)));
        ring.install(Key::new(id(2), [2; 32])).unwrap();
        assert_eq!(ring.first().id, id(1));
        assert_eq!(ring.remove(id(1)), Err(RingError::Seals(id(1))));
        ring.put_first(id(2)).unwrap();
        assert_eq!(ring.ids(), [2, 1]);
        ring.remove(id(1)).unwrap();
        assert_eq!((ring.ids(), ring.salt()), (vec![2], salt));
        assert_eq!(ring.put_first(id(1)), Err(RingError::Unknown(id(1))));
        assert_eq!(ring.remove(id(9)), Err(RingError::Unknown(id(9))));
    }

    #[test]
    fn names_are_taken_once_and_reused_when_all_were_used() {
        let mut ring = ring(&[255, 1]);
        assert_eq!(ring.free_id(), Some(id(2)));
        assert_eq!(ring.install(Key::new(id(1), [9; 32])), Err(RingError::Twice(id(1))));
        for key in 2..16 {
            ring.install(Key::new(id(key), [key; 32])).unwrap();
        }
        assert_eq!(ring.install(Key::new(id(16), [0; 32])), Err(RingError::Full));
    }

    #[test]
    fn keys_of_another_file_are_taken_over_when_it_is_of_the_same_cluster() {
        let mut own = ring(&[1]);
        assert_eq!(own.install_all(&ring(&[1, 2])), Ok(vec![id(2)]));
        assert_eq!(own.ids(), [1, 2]);
        let other = Keyring::new([8; 16], Key::new(id(3), [3; 32]));
        assert_eq!(own.install_all(&other), Err(RingError::OtherSalt));
        let mut clash = ring(&[1]);
        clash.install(Key::new(id(2), [99; 32])).unwrap();
        assert_eq!(own.install_all(&clash), Err(RingError::Twice(id(2))));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let good = ring(&[1]).text();
        let error = |text: &str| Keyring::parse(text).unwrap_err().to_string();
        assert!(error("").contains("no key"));
        assert!(error(&good.replace("salt", "# salt")).contains("no salt"));
        assert!(error(&format!("{good}what is this")).starts_with("line 5: "));
        assert!(error(&format!("{good}key 0 00")).starts_with("line 5: this is not the number"));
        assert!(error(&format!("{good}key 2 00")).starts_with("line 5: this is not a key"));
        assert!(error(&format!("{good}key 2 é{}", "0".repeat(62))).contains("line 5"));
        assert!(error(&format!("{good}salt 00")).contains("second salt"));
        assert!(error(&good.replace("salt 07", "salt 7")).contains("not a salt"));
        let key = good.lines().last().unwrap();
        assert_eq!(error(&format!("{good}{key}")), RingError::Twice(id(1)).to_string());
    }

    #[test]
    fn no_key_is_ever_shown() {
        let ring = ring(&[171, 172]);
        let shown = format!("{ring:?} {:?} {}", ring.first(), ring.first().fingerprint());
        assert!(!shown.contains("abab") && !shown.contains("171, 171"), "{shown}");
        assert_eq!(ring.first().fingerprint().len(), 8);
        assert_ne!(ring.first().fingerprint(), ring.others[0].fingerprint());
    }
}
