//! Registers: the last write wins, by version and then by writer. With the writer as part of the
//! key (an observer's verdict on a backend) nobody else ever writes, and the version is the
//! writer's own sequence number.
//!
//! A writer never gives one version to two values; so equal (version, writer) means equal value,
//! and merging is commutative, associative and idempotent.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

use crate::base::Actor;

/// A value with what decides between two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register<V> {
    /// Rises with every write of the key.
    pub version: u64,
    /// Who wrote it; the greater wins between equal versions.
    pub writer: Actor,
    /// What was written.
    pub value: V,
}

/// The newest known register of each key, at most so many.
#[derive(Debug)]
pub struct Registers<K, V> {
    held: HashMap<K, Held<V>>,
    most: usize,
    refused: u64,
}

#[derive(Debug)]
struct Held<V> {
    register: Register<V>,
    heard: Instant,
}

impl<K: Eq + Hash, V> Registers<K, V> {
    /// Empty, for at most `most` keys.
    pub fn new(most: usize) -> Self {
        Registers { held: HashMap::new(), most, refused: 0 }
    }

    /// Keeps the newer of the known register and this one; true when this one is kept and was not
    /// known. An unknown key that finds no room is refused and counted.
    pub fn merge(&mut self, key: K, register: Register<V>, now: Instant) -> bool {
        if let Some(held) = self.held.get_mut(&key) {
            let known = (held.register.version, held.register.writer);
            let told = (register.version, register.writer);
            if told >= known {
                // Hearing the same again shows that it still holds.
                held.heard = held.heard.max(now);
            }
            let newer = told > known;
            if newer {
                held.register = register;
            }
            return newer;
        }
        if self.held.len() >= self.most {
            self.refused += 1;
            return false;
        }
        self.held.insert(key, Held { register, heard: now });
        true
    }

    /// The newest known value of `key`.
    pub fn value(&self, key: &K) -> Option<&V> {
        self.held.get(key).map(|held| &held.register.value)
    }

    /// The newest known register of `key`.
    pub fn register(&self, key: &K) -> Option<&Register<V>> {
        self.held.get(key).map(|held| &held.register)
    }

    /// Every key with its register and when it was last heard of, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &Register<V>, Instant)> {
        self.held.iter().map(|(key, held)| (key, &held.register, held.heard))
    }

    /// Keeps only what `keep` says; it sees key, register and when it was last heard of.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &Register<V>, Instant) -> bool) {
        self.held.retain(|key, held| keep(key, &held.register, held.heard));
    }

    /// Keys held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// No keys held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Keys that found no room, cumulative.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::base::time::now;
    use crate::base::{BootId, NodeId};

    fn write(version: u64, writer: u64) -> Register<(u64, u64)> {
        let actor = Actor { node: NodeId(writer), boot: BootId::new(1) };
        // The value is made from version and writer: one value per write, as writers promise.
        Register { version, writer: actor, value: (version, writer) }
    }

    fn state(writes: &[(u8, u64, u64)]) -> Vec<(u8, (u64, u64))> {
        let now = now();
        let mut registers = Registers::new(100);
        for &(key, version, writer) in writes {
            registers.merge(key, write(version, writer), now);
        }
        let mut all: Vec<_> = registers.iter().map(|(k, r, _)| (*k, r.value)).collect();
        all.sort();
        all
    }

    fn any_writes() -> impl Strategy<Value = Vec<(u8, u64, u64)>> {
        vec((0..3u8, 0..6u64, 0..3u64), 0..30)
    }

    proptest! {
        #[test]
        fn the_newest_write_wins_in_every_order(
            (writes, shuffled) in any_writes().prop_flat_map(|w| (Just(w.clone()), Just(w).prop_shuffle()))
        ) {
            prop_assert_eq!(state(&writes), state(&shuffled));
        }

        #[test]
        fn hearing_it_twice_changes_nothing(writes in any_writes()) {
            prop_assert_eq!(state(&writes), state(&[writes.clone(), writes.clone()].concat()));
        }

        #[test]
        fn merging_states_is_associative(a in any_writes(), b in any_writes(), c in any_writes()) {
            let handed_on = |writes: &[(u8, u64, u64)]| -> Vec<(u8, u64, u64)> {
                state(writes).into_iter().map(|(k, (v, w))| (k, v, w)).collect()
            };
            let left = [handed_on(&[a.clone(), b.clone()].concat()), c.clone()].concat();
            let right = [a, handed_on(&[b, c].concat())].concat();
            prop_assert_eq!(state(&left), state(&right));
        }
    }

    #[test]
    fn a_merge_tells_whether_it_was_news() {
        let now = now();
        let mut registers = Registers::new(10);
        assert!(registers.merge("a", write(2, 1), now));
        assert!(!registers.merge("a", write(2, 1), now));
        assert!(!registers.merge("a", write(1, 9), now));
        assert!(registers.merge("a", write(2, 2), now));
        assert_eq!(registers.value(&"a"), Some(&(2, 2)));
    }

    #[test]
    fn an_old_write_does_not_make_a_register_look_fresh() {
        let start = now();
        let later = start + std::time::Duration::from_secs(1);
        let mut registers = Registers::new(10);
        registers.merge("a", write(2, 1), start);
        registers.merge("a", write(1, 1), later);
        assert_eq!(registers.iter().next().unwrap().2, start);
        registers.merge("a", write(2, 1), later);
        assert_eq!(registers.iter().next().unwrap().2, later);
    }

    #[test]
    fn unknown_keys_are_refused_when_full_and_known_ones_still_change() {
        let now = now();
        let mut registers = Registers::new(1);
        registers.merge("a", write(1, 1), now);
        assert!(!registers.merge("b", write(1, 1), now));
        assert!(registers.merge("a", write(2, 1), now));
        assert_eq!((registers.len(), registers.refused()), (1, 1));
        registers.retain(|key, _, _| *key != "a");
        assert!(registers.merge("b", write(1, 1), now));
    }
}
