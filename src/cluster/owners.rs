//! Who keeps the books of a key: rendezvous hashing (Thaler, Ravishankar 1998) among the members
//! that share limits. No node is special: each keeps the books of its share of the keys, and when
//! a member comes or goes only that member's share moves.

use crate::base::id::stable_hash;
use crate::base::{Actor, KeyHash, LimitId};

/// The members that share, this node included, as every node that sees them agrees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners(Vec<Actor>);

/// Who keeps a key's books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Answers.
    pub primary: Actor,
    /// Keeps the same books, and answers when the primary does not; none in a cluster of one.
    pub backup: Option<Actor>,
}

impl Owners {
    /// Of these members.
    pub fn new(members: impl IntoIterator<Item = Actor>) -> Self {
        Owners(members.into_iter().collect())
    }

    /// Who keeps the books of `key`; `None` without members. Linear in the number of members.
    pub fn of(&self, limit: LimitId, key: KeyHash) -> Option<Pair> {
        let key = stable_hash(limit.0, &key.0.to_le_bytes());
        let mut best: Option<(u64, Actor)> = None;
        let mut second: Option<(u64, Actor)> = None;
        for &member in &self.0 {
            // By node, not by boot: a node that restarts with its id gets its own keys back.
            let scored = Some((mix(key ^ mix(member.node.0)), member));
            if scored > best {
                (best, second) = (scored, best);
            } else if scored > second {
                second = scored;
            }
        }
        best.map(|(_, primary)| Pair { primary, backup: second.map(|(_, backup)| backup) })
    }

    /// The members.
    pub fn members(&self) -> &[Actor] {
        &self.0
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input turns half of the
/// output's.
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BootId, NodeId};

    const LIMIT: LimitId = LimitId(7);

    fn members(ids: impl IntoIterator<Item = u64>) -> Owners {
        Owners::new(ids.into_iter().map(|id| Actor { node: NodeId(id), boot: BootId::new(1) }))
    }

    #[test]
    fn keys_are_shared_evenly_and_primary_and_backup_differ() {
        let owners = members(1..=10);
        let mut primaries = [0; 11];
        let mut backups = [0; 11];
        for key in 0..20_000 {
            let Pair { primary, backup } = owners.of(LIMIT, KeyHash(key)).unwrap();
            let backup = backup.unwrap();
            assert_ne!(primary, backup);
            primaries[primary.node.0 as usize] += 1;
            backups[backup.node.0 as usize] += 1;
        }
        for count in primaries[1..].iter().chain(&backups[1..]) {
            assert!((1700..2300).contains(count), "{primaries:?} {backups:?}");
        }
    }

    #[test]
    fn a_primary_that_goes_is_followed_by_its_backup_and_nobody_else_moves() {
        let (before, after) = (members(1..=10), members((1..=10).filter(|id| *id != 4)));
        for key in (0..5_000).map(KeyHash) {
            let (old, new) = (before.of(LIMIT, key).unwrap(), after.of(LIMIT, key).unwrap());
            let heir = if old.primary.node == NodeId(4) { old.backup } else { Some(old.primary) };
            assert_eq!(Some(new.primary), heir);
        }
    }

    #[test]
    fn the_order_of_members_does_not_matter() {
        let (one, other) = (members(1..=9), members((1..=9).rev()));
        assert!((0..1000).map(KeyHash).all(|key| one.of(LIMIT, key) == other.of(LIMIT, key)));
    }

    #[test]
    fn alone_a_node_owns_everything_and_nobody_owns_nothing() {
        let alone = members([3]).of(LIMIT, KeyHash(1)).unwrap();
        assert_eq!((alone.primary.node, alone.backup), (NodeId(3), None));
        assert_eq!(Owners::default().of(LIMIT, KeyHash(1)), None);
    }
}
