//! What is still to be told: the newest value per key, first come first told, cut to the room that
//! a datagram has. Values are told a few times over, so that a lost datagram is made good without
//! anybody asking for it.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Values waiting to be told, at most so many keys.
#[derive(Debug)]
pub struct Outbox<K, V> {
    /// Each key of `waiting` once.
    order: VecDeque<K>,
    waiting: HashMap<K, Waiting<V>>,
    most: usize,
    times: u8,
    refused: u64,
}

#[derive(Debug)]
struct Waiting<V> {
    value: V,
    /// How often it is still to be told, at least 1.
    left: u8,
}

impl<K: Clone + Eq + Hash, V> Outbox<K, V> {
    /// Empty; holds `most` keys and tells each value `times` times (at least once).
    pub fn new(most: usize, times: u8) -> Self {
        Outbox {
            order: VecDeque::new(),
            waiting: HashMap::new(),
            most,
            times: times.max(1),
            refused: 0,
        }
    }

    /// Puts in the newest value of `key`; an older one that still waits is replaced, and keeps its
    /// place in the row. False (and counted) when there is no room.
    pub fn put(&mut self, key: K, value: V) -> bool {
        let left = self.times;
        if let Some(waiting) = self.waiting.get_mut(&key) {
            *waiting = Waiting { value, left };
            return true;
        }
        if self.waiting.len() >= self.most {
            self.refused += 1;
            return false;
        }
        self.order.push_back(key.clone());
        self.waiting.insert(key, Waiting { value, left });
        true
    }

    /// Gives `tell` as many values as fit into `room`, by what `size` says each takes, and returns
    /// how much they took together. What is to be told again goes to the end of the row. A value
    /// that would not fit into the whole `room` is thrown away and counted, as it would stop the
    /// row for ever.
    pub fn cut(
        &mut self,
        room: usize,
        mut size: impl FnMut(&K, &V) -> usize,
        mut tell: impl FnMut(&K, &V),
    ) -> usize {
        let mut taken = 0;
        // One datagram never tells a key twice.
        for _ in 0..self.order.len() {
            let Some(key) = self.order.front() else { break };
            let Some(waiting) = self.waiting.get_mut(key) else {
                self.order.pop_front();
                continue;
            };
            let bytes = size(key, &waiting.value);
            if bytes <= room && bytes > room - taken {
                break;
            }
            if bytes <= room {
                taken += bytes;
                tell(key, &waiting.value);
                waiting.left -= 1;
            } else {
                self.refused += 1;
                waiting.left = 0;
            }
            let again = waiting.left > 0;
            if let Some(key) = self.order.pop_front() {
                if again {
                    self.order.push_back(key);
                } else {
                    self.waiting.remove(&key);
                }
            }
        }
        taken
    }

    /// Keys waiting.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Values that found no room or were larger than a datagram, cumulative.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn cut(outbox: &mut Outbox<u32, usize>, room: usize) -> Vec<(u32, usize)> {
        let mut told = Vec::new();
        outbox.cut(room, |_, bytes| *bytes, |key, bytes| told.push((*key, *bytes)));
        told
    }

    #[test]
    fn a_newer_value_replaces_the_one_that_waits() {
        let mut outbox = Outbox::new(10, 1);
        outbox.put(1, 4);
        outbox.put(2, 4);
        outbox.put(1, 5);
        assert_eq!(cut(&mut outbox, 100), [(1, 5), (2, 4)]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn each_value_is_told_its_number_of_times_once_per_datagram() {
        let mut outbox = Outbox::new(10, 2);
        outbox.put(1, 4);
        outbox.put(2, 4);
        assert_eq!(cut(&mut outbox, 100), [(1, 4), (2, 4)]);
        assert_eq!(cut(&mut outbox, 4), [(1, 4)]);
        assert_eq!(cut(&mut outbox, 100), [(2, 4)]);
        assert_eq!(cut(&mut outbox, 100), []);
    }

    #[test]
    fn a_value_larger_than_any_datagram_does_not_stop_the_row() {
        let mut outbox = Outbox::new(10, 1);
        outbox.put(1, 1000);
        outbox.put(2, 4);
        assert_eq!(cut(&mut outbox, 100), [(2, 4)]);
        assert_eq!(outbox.refused(), 1);
    }

    #[test]
    fn a_full_outbox_refuses_new_keys_and_counts_them() {
        let mut outbox = Outbox::new(1, 1);
        assert!(outbox.put(1, 4));
        assert!(!outbox.put(2, 4));
        assert!(outbox.put(1, 6));
        assert_eq!((outbox.len(), outbox.refused()), (1, 1));
    }

    proptest! {
        #[test]
        fn cuts_fit_their_room_and_together_tell_everything(
            sizes in vec(1..40usize, 0..60), room in 40..200usize
        ) {
            let mut outbox = Outbox::new(100, 1);
            for (key, size) in sizes.iter().enumerate() {
                outbox.put(key as u32, *size);
            }
            let mut told = Vec::new();
            while !outbox.is_empty() {
                let part = cut(&mut outbox, room);
                prop_assert!(!part.is_empty());
                prop_assert!(part.iter().map(|(_, size)| size).sum::<usize>() <= room);
                told.extend(part.into_iter().map(|(_, size)| size));
            }
            prop_assert_eq!(told, sizes);
        }
    }
}
