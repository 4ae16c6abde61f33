//! Records of leases: permits told and lent, and whose books were kept by whom.

use serde::{Deserialize, Serialize};

use crate::base::{Actor, KeyHash, LimitId};
use crate::cluster::leases::{Loan, Told};
use crate::traffic::CapKey;

/// What a holder tells of some keys of one cap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTold {
    /// The cap.
    pub limit: u64,
    /// By key.
    pub rows: Vec<ToldRow>,
}

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldRow {
    /// The key's hash.
    pub key: u64,
    /// See [`Told`], as all below.
    pub life: u64,
    /// Running number.
    pub seq: u64,
    /// Connections.
    pub used: u32,
    /// Permits.
    pub held: u32,
    /// Permits for who is there or waits.
    pub needed: u32,
    /// And some to spare.
    pub wanted: u32,
    /// The cap.
    pub cap: u32,
    /// Taken of what was given.
    pub taken: u32,
    /// 1: eager, 2: instead of the primary.
    pub flags: u8,
}

/// What an owner lends of some keys of one cap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseLoans {
    /// The cap.
    pub limit: u64,
    /// By key.
    pub rows: Vec<LoanRow>,
}

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoanRow {
    /// The key's hash.
    pub key: u64,
    /// See [`Loan`], as all below.
    pub life: u64,
    /// Which report it answers.
    pub seq: u64,
    /// Permits given.
    pub given: u32,
    /// 1: full, 2: tight, 4: recall.
    pub flags: u8,
}

/// Whoever begins to keep a key's books asks who may have kept them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseAsk {
    /// The cap.
    pub limit: u64,
    /// The key's hash.
    pub key: u64,
}

/// The answer, in as many parts as it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseBook {
    /// The cap.
    pub limit: u64,
    /// The key's hash.
    pub key: u64,
    /// Which part, from 0.
    pub part: u16,
    /// Of how many.
    pub parts: u16,
    /// Who was lent how much.
    pub rows: Vec<(Actor, u32)>,
}

/// Are you there?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeasePing {
    /// Yes, I am.
    pub answer: bool,
}

/// What a node moves of some keys of one bandwidth limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaceTold {
    /// The limit.
    pub limit: u64,
    /// The key's hash, the rate of all nodes, bytes per second moved, and whether it would be more.
    pub rows: Vec<(u64, u64, u64, bool)>,
}

/// A node's parts of some keys of one bandwidth limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaceShares {
    /// The limit.
    pub limit: u64,
    /// The key's hash, and bytes per second.
    pub rows: Vec<(u64, u64)>,
}

/// Holders in one part of a book.
pub const ROWS_IN_PART: usize = 40;

impl ToldRow {
    /// For the wire.
    pub fn new(key: KeyHash, told: &Told) -> Self {
        let Told { life, seq, used, held, needed, wanted, cap, taken, eager, instead } = *told;
        let flags = u8::from(eager) | u8::from(instead) << 1;
        ToldRow { key: key.0, life, seq, used, held, needed, wanted, cap, taken, flags }
    }

    /// As it was told.
    pub fn told(&self) -> Told {
        let ToldRow { key: _, life, seq, used, held, needed, wanted, cap, taken, flags } = *self;
        let (eager, instead) = (flags & 1 != 0, flags & 2 != 0);
        Told { life, seq, used, held, needed, wanted, cap, taken, eager, instead }
    }
}

impl LoanRow {
    /// For the wire.
    pub fn new(key: KeyHash, loan: &Loan) -> Self {
        let Loan { life, seq, given, full, tight, recall } = *loan;
        let flags = u8::from(full) | u8::from(tight) << 1 | u8::from(recall) << 2;
        LoanRow { key: key.0, life, seq, given, flags }
    }

    /// As it was lent.
    pub fn loan(&self) -> Loan {
        let LoanRow { key: _, life, seq, given, flags } = *self;
        let (full, tight, recall) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
        Loan { life, seq, given, full, tight, recall }
    }
}

/// A key of a cap, off the wire.
pub fn cap_key(limit: u64, key: u64) -> CapKey {
    CapKey { limit: LimitId(limit), key: KeyHash(key) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BootId, NodeId, hex};
    use crate::cluster::wire::MAX_PAYLOAD;
    use crate::cluster::wire::records::{Record, records};

    fn all() -> Vec<Record> {
        let told = Told {
            life: 3,
            seq: 300,
            used: 1,
            held: 2,
            needed: 2,
            wanted: 4,
            cap: 100,
            taken: 5,
            eager: true,
            instead: false,
        };
        let loan = Loan { life: 3, seq: 300, given: 6, full: false, tight: true, recall: true };
        let actor = Actor { node: NodeId(7), boot: BootId::new(8) };
        vec![
            Record::LeaseTold(LeaseTold { limit: 1, rows: vec![ToldRow::new(KeyHash(9), &told)] }),
            Record::LeaseLoans(LeaseLoans {
                limit: 1,
                rows: vec![LoanRow::new(KeyHash(9), &loan)],
            }),
            Record::LeaseAsk(LeaseAsk { limit: 1, key: 9 }),
            Record::LeaseBook(LeaseBook {
                limit: 1,
                key: 9,
                part: 0,
                parts: 1,
                rows: vec![(actor, 2)],
            }),
            Record::LeasePing(LeasePing { answer: true }),
            Record::PaceTold(PaceTold { limit: 1, rows: vec![(9, 1000, 300, true)] }),
            Record::PaceShares(PaceShares { limit: 1, rows: vec![(9, 500)] }),
        ]
    }

    /// Change these only together with the wire version.
    #[test]
    fn records_of_leases_keep_their_bytes() {
        let bytes: Vec<String> = all().iter().map(|record| hex(&record.bytes())).collect();
        let golden = [
            "3c000e01010903fb2c01010202046405 01",
            "3d000901010903fb2c010606",
            "3e00020109",
            "3f00080109000101070802",
            "40000101",
            "41000a010109fbe803fb2c0101",
            "420006010109fbf401",
        ];
        assert_eq!(bytes, golden.map(|line| line.replace(' ', "")));
        let whole: Vec<u8> = all().iter().flat_map(Record::bytes).collect();
        assert_eq!(records(&whole), Ok(all()));
    }

    #[test]
    fn rows_are_read_as_they_were_put() {
        for flags in 0..4 {
            let (eager, instead) = (flags & 1 != 0, flags & 2 != 0);
            let told = Told { eager, instead, ..ToldRow::new(KeyHash(1), &BLANK).told() };
            assert_eq!(ToldRow::new(KeyHash(1), &told).told(), told);
        }
        for flags in 0..8 {
            let (full, tight, recall) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
            let loan = Loan { full, tight, recall, ..Loan::default() };
            assert_eq!(LoanRow::new(KeyHash(1), &loan).loan(), loan);
        }
    }

    const BLANK: Told = Told {
        life: 1,
        seq: 1,
        used: 0,
        held: 0,
        needed: 0,
        wanted: 0,
        cap: 0,
        taken: 0,
        eager: false,
        instead: false,
    };

    #[test]
    fn full_datagrams_of_the_shortest_rows_are_within_the_decode_limit() {
        let told = ToldRow::new(KeyHash(1), &BLANK);
        let told = LeaseTold { limit: 1, rows: vec![told; MAX_PAYLOAD / 10] };
        let loan = LoanRow::new(KeyHash(1), &Loan::default());
        let loans = LeaseLoans { limit: 1, rows: vec![loan; MAX_PAYLOAD / 5] };
        for record in [Record::LeaseTold(told), Record::LeaseLoans(loans)] {
            assert_eq!(records(&record.bytes()), Ok(vec![record]));
        }
    }
}
