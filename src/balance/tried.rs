//! Which members were handed out already: bits, inline for the usual pool.

/// A set of member indexes. Up to 128 members it needs no allocation.
#[derive(Clone, Debug, Default)]
pub(super) struct Tried {
    first: u128,
    rest: Vec<u128>,
}

impl Tried {
    pub(super) fn insert(&mut self, index: usize) {
        match (index / 128).checked_sub(1) {
            None => self.first |= bit(index),
            Some(word) => {
                if self.rest.len() <= word {
                    self.rest.resize(word + 1, 0);
                }
                self.rest[word] |= bit(index);
            }
        }
    }

    pub(super) fn contains(&self, index: usize) -> bool {
        let word = match (index / 128).checked_sub(1) {
            None => self.first,
            Some(word) => self.rest.get(word).copied().unwrap_or(0),
        };
        word & bit(index) != 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first == 0 && self.rest.is_empty()
    }
}

fn bit(index: usize) -> u128 {
    1 << (index % 128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_inserted_and_nothing_else() {
        let mut tried = Tried::default();
        assert!(tried.is_empty());
        for index in [0, 127, 128, 1000] {
            tried.insert(index);
        }
        assert!(!tried.is_empty());
        let held: Vec<_> = (0..2000).filter(|&index| tried.contains(index)).collect();
        assert_eq!(held, [0, 127, 128, 1000]);
    }
}
