//! Which of a sender's numbers were heard: a sliding window, as IPsec's (RFC 4303, section 3.4.3).

/// Numbers that may come in any order. A sender's numbers run over all its recipients: at 10 000
/// datagrams a second this is a tenth of a second.
pub const WINDOW: u64 = 1024;

const WORDS: usize = (WINDOW / 64) as usize;

/// The numbers of one boot of one sender.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    highest: u64,
    /// Bit `n % WINDOW`: whether `n` was heard, for the last [`WINDOW`] numbers.
    seen: [u64; WORDS],
}

impl Replay {
    /// Whether `number` can be new: inside the window and not heard, or above it.
    pub fn may_be_new(&self, number: u64) -> bool {
        if number > self.highest {
            return true;
        }
        self.highest - number < WINDOW && self.seen[word(number)] & bit(number) == 0
    }

    /// Notes that `number` was heard; only after its datagram was authenticated.
    pub fn note(&mut self, number: u64) {
        if number > self.highest {
            if number - self.highest >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                for passed in self.highest + 1..=number {
                    self.seen[word(passed)] &= !bit(passed);
                }
            }
            self.highest = number;
        }
        self.seen[word(number)] |= bit(number);
    }
}

fn word(number: u64) -> usize {
    (number % WINDOW / 64) as usize
}

fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn hear(replay: &mut Replay, number: u64) -> bool {
        let new = replay.may_be_new(number);
        if new {
            replay.note(number);
        }
        new
    }

    #[test]
    fn each_number_is_heard_once_in_any_order() {
        let mut replay = Replay::default();
        assert!(hear(&mut replay, 5) && !hear(&mut replay, 5));
        assert!(hear(&mut replay, 3) && !hear(&mut replay, 3));
        assert!(hear(&mut replay, 1028) && hear(&mut replay, 6));
        // 5 + 1024 is not above the window yet; 5 falls out with it.
        assert!(hear(&mut replay, 1029) && !hear(&mut replay, 5));
        assert!(hear(&mut replay, 1_000_000) && !hear(&mut replay, 1_000_000 - WINDOW));
        assert!(hear(&mut replay, 1_000_001 - WINDOW));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set_of_everything_heard(
            steps in vec((0..3000u64, any::<bool>()), 1..400)
        ) {
            let (mut replay, mut heard) = (Replay::default(), BTreeSet::new());
            let mut base = 0;
            for (step, ahead) in steps {
                let number = if ahead { base + step } else { base.saturating_sub(step) };
                base = base.max(number);
                let highest = heard.last().copied().unwrap_or(0);
                let old = number <= highest && highest - number >= WINDOW;
                let new = !old && !heard.contains(&number);
                prop_assert_eq!(hear(&mut replay, number), new, "{}", number);
                if new {
                    heard.insert(number);
                }
            }
        }
    }
}
