//! How many permits of one key this node holds, and how many of them are in use: two numbers that
//! only make sense together, so they change together.

/// `used` ≤ `held`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Purse {
    pub(super) used: u32,
    pub(super) held: u32,
    /// Somebody else waits for permits of this key: each that comes free is to be told at once.
    pub(super) eager: bool,
    /// The agent has been told to look, and has not yet.
    pub(super) marked: bool,
}

/// Permits of one key are counted to here; a cap above it is not reached by any node.
pub(super) const MOST: u32 = (1 << 30) - 1;
const EAGER: u64 = 1 << 62;
const MARKED: u64 = 1 << 63;

/// How many permits to keep beyond those in use, so that who comes next need not wait.
pub(crate) fn spare(used: u32) -> u32 {
    (used / 4 + 1).min(64)
}

impl Purse {
    pub(super) fn free(self) -> u32 {
        self.held - self.used
    }

    /// One more connection, on a permit that is held.
    pub(super) fn take(self) -> Option<Purse> {
        (self.used < self.held).then(|| Purse { used: self.used + 1, ..self })
    }

    /// One more connection on our own word, as long as `most` are not reached.
    pub(super) fn take_unasked(self, most: u32) -> Option<Purse> {
        self.take().or_else(|| {
            let used = self.used + 1;
            (used <= most.min(MOST)).then_some(Purse { used, held: used, ..self })
        })
    }

    /// A connection ended.
    pub(super) fn give(self) -> Purse {
        Purse { used: self.used.saturating_sub(1), ..self }
    }

    /// `more` permits came.
    pub(super) fn add(self, more: u32) -> Purse {
        Purse { held: self.held.saturating_add(more).min(MOST), ..self }
    }

    /// Only `keep` are held from now on, or as many as are used.
    pub(super) fn keep(self, keep: u32) -> Purse {
        Purse { held: self.held.min(keep.max(self.used)), ..self }
    }

    /// Whether the agent should look: permits run out, or lie about.
    pub(super) fn calls(self) -> bool {
        let spare = spare(self.used);
        let short = self.free() < spare.div_ceil(2);
        let many = self.free() > 2 * spare || self.used == 0;
        short || many || self.eager && self.free() > 0
    }

    /// Nothing is used and nothing is held.
    pub(super) fn empty(self) -> bool {
        self.held == 0
    }

    pub(super) fn bits(self) -> u64 {
        let flags = (u64::from(self.eager) * EAGER) | (u64::from(self.marked) * MARKED);
        (u64::from(self.used) << 30) | u64::from(self.held) | flags
    }

    pub(super) fn of(bits: u64) -> Purse {
        Purse {
            used: (bits >> 30) as u32 & MOST,
            held: bits as u32 & MOST,
            eager: bits & EAGER != 0,
            marked: bits & MARKED != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purse_survives_its_bits() {
        for used in [0, 1, 77, MOST] {
            for (eager, marked) in [(false, false), (true, false), (false, true), (true, true)] {
                let purse = Purse { used, held: MOST, eager, marked };
                assert_eq!(Purse::of(purse.bits()), purse);
            }
        }
    }

    #[test]
    fn never_more_is_used_than_held() {
        let mut purse = Purse::default().add(2);
        purse = purse.take().unwrap().take().unwrap();
        assert_eq!(purse.take(), None);
        assert_eq!(purse.keep(0).held, 2);
        assert_eq!(purse.give().keep(0).held, 1);
        assert_eq!(purse.take_unasked(2), None);
        let beyond = purse.take_unasked(3).unwrap();
        assert_eq!((beyond.used, beyond.held), (3, 3));
    }
}
