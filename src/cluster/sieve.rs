//! foca's broadcast handler: lets through what is new, and puts it in an inbox. foca swallows its
//! handler and never gives it back, so all state that matters lives beside foca.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use foca::Invalidates;
use parking_lot::Mutex;

use super::identity::Identity;
use super::wire::records::{Record, records};
use crate::base::Actor;

/// Writers remembered. When there are more (years of restarts, or a forger), all are forgotten: what
/// is still on its way is then spread once more, which is harmless.
const MOST: usize = 2 * super::MOST_MEMBERS;

/// What the sieve let through and nobody has read yet.
#[derive(Clone, Debug, Default)]
pub struct Inbox(Arc<Mutex<Vec<Record>>>);

impl Inbox {
    /// Everything since it was last asked.
    pub fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.0.lock())
    }
}

/// Which item replaces which: the newer of the same kind by the same writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ItemKey {
    kind: u8,
    writer: Actor,
}

impl Invalidates for ItemKey {
    fn invalidates(&self, other: &Self) -> bool {
        self == other
    }
}

/// The handler.
#[derive(Debug, Default)]
pub struct Sieve {
    newest: HashMap<ItemKey, u64>,
    inbox: Inbox,
}

impl Sieve {
    /// An empty sieve and its inbox.
    pub fn new() -> (Sieve, Inbox) {
        let sieve = Sieve::default();
        let inbox = sieve.inbox.clone();
        (sieve, inbox)
    }

    fn is_new(&mut self, key: ItemKey, seq: u64) -> bool {
        if self.newest.len() >= MOST && !self.newest.contains_key(&key) {
            self.newest.clear();
        }
        match self.newest.get_mut(&key) {
            Some(known) if *known >= seq => false,
            Some(known) => {
                *known = seq;
                true
            }
            None => {
                self.newest.insert(key, seq);
                true
            }
        }
    }
}

impl foca::BroadcastHandler<Identity> for Sieve {
    type Key = ItemKey;
    type Error = Infallible;

    fn receive_item(
        &mut self,
        data: &[u8],
        _: Option<&Identity>,
    ) -> Result<Option<ItemKey>, Infallible> {
        // An item is one record. What we cannot read we do not spread; the rest of the message
        // stays good.
        let Ok(Some(record)) = records(data).map(|all| all.into_iter().next()) else {
            return Ok(None);
        };
        let (key, seq) = match &record {
            Record::Meta(meta) => (ItemKey { kind: 1, writer: meta.actor }, meta.seq),
            Record::Leaving(leaving) => (ItemKey { kind: 2, writer: leaving.actor }, 1),
            _ => return Ok(None),
        };
        if !self.is_new(key, seq) {
            return Ok(None);
        }
        self.inbox.0.lock().push(record);
        Ok(Some(key))
    }
}

#[cfg(test)]
mod tests {
    use foca::BroadcastHandler as _;

    use super::*;
    use crate::base::{BootId, NodeId};
    use crate::cluster::wire::records::{Leaving, Meta};

    fn actor(node: u64) -> Actor {
        Actor { node: NodeId(node), boot: BootId::new(1) }
    }

    fn meta(seq: u64) -> Vec<u8> {
        let text = || "x".to_owned();
        let (name, digest, version) = (text(), text(), text());
        Record::Meta(Meta { actor: actor(1), seq, name, digest, version, keys: vec![], sync: None })
            .bytes()
    }

    #[test]
    fn only_news_passes_and_is_found_in_the_inbox() {
        let (mut sieve, inbox) = Sieve::new();
        let mut passes = |item: &[u8]| sieve.receive_item(item, None).unwrap().is_some();
        assert!(passes(&meta(2)));
        assert!(!passes(&meta(2)) && !passes(&meta(1)));
        assert!(passes(&Record::Leaving(Leaving { actor: actor(1) }).bytes()));
        assert!(passes(&meta(3)));
        assert_eq!(inbox.take().len(), 3);
        assert!(inbox.take().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_not_spread() {
        let (mut sieve, inbox) = Sieve::new();
        for item in [&b"\x63\0\x01x"[..], b"\x04\0\x02xx", b"x", &Record::AskMeta.bytes()] {
            assert_eq!(sieve.receive_item(item, None), Ok(None));
        }
        assert!(inbox.take().is_empty());
    }

    #[test]
    fn a_flood_of_forged_writers_is_bounded() {
        let (mut sieve, _inbox) = Sieve::new();
        for node in 0..2 * MOST as u64 {
            let item = Record::Leaving(Leaving { actor: actor(node) }).bytes();
            sieve.receive_item(&item, None).unwrap();
        }
        assert!(sieve.newest.len() <= MOST);
    }
}
