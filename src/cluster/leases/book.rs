//! The owner's book: who holds how many permits of a key, and who gets the next.
//!
//! Who needs permits gets them as long as the sum of what is lent stays within the cap; what is to
//! spare is given in small parts. When there is nothing left, those who may hold more than they use
//! are called upon to give it back; who needs is told *full* when nobody has anything.

use std::collections::HashMap;
use std::time::Instant;

use super::{Loan, TIGHT, Told};
use crate::base::Actor;
use crate::traffic::CapKey;

/// Keys in a book; beyond, nobody is told anything.
pub const MOST_KEYS: usize = 1 << 19;
/// A permit that came free is told within this time: until then nobody is told *full*, and asks
/// again.
const LATE: u64 = 4;
/// A need that was not repeated is forgotten.
const FRESH: u64 = 300;
/// A recall is repeated after so long,
const RECALL_AGAIN: u64 = 6;
/// and given up; then not tried again for a while.
const RECALL_FOR: u64 = 50;
const RECALL_PAUSE: u64 = 500;
/// A holder's promise to give back at once is relied on for so long.
const RELIED_ON: u64 = 1500;
/// Rows without permits stay for so long, so that what is late finds them and is seen to be late.
const GRAVE: u64 = 5_000;
/// Rows that were not heard of for so long leave, whatever they hold: holders tell all they have
/// every [`super::claims::REFRESH`].
const LOST: u64 = 120_000;

/// All keys.
#[derive(Debug)]
pub struct Book {
    began: Instant,
    keys: HashMap<CapKey, Page>,
    /// Rows by holder.
    holders: HashMap<Actor, usize>,
    /// What happened.
    pub counts: BookCounts,
}

/// Since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BookCounts {
    /// Permits lent.
    pub lent: u64,
    /// Holders called upon to give back.
    pub recalled: u64,
    /// Times that a holder was told that a key is full.
    pub full: u64,
    /// Keys for which there was no room.
    pub crowded: u64,
}

#[derive(Debug, Default)]
struct Page {
    rows: Vec<Row>,
    /// The book is known to be complete.
    mine: bool,
    /// When somebody last found nothing.
    tight: Option<u64>,
}

/// One holder. Times are milliseconds since the book began.
#[derive(Debug)]
struct Row {
    holder: Actor,
    life: u64,
    seq: u64,
    used: u32,
    held: u32,
    needed: u32,
    wanted: u32,
    cap: u32,
    given: u32,
    taken: u32,
    heard: u64,
    /// Since when it needs more than it has.
    needy: Option<u64>,
    /// When it was last called upon to give back; 0: never.
    called: u64,
    /// Since when these calls have not been answered.
    calling: Option<u64>,
    /// When it was last told that the key is tight; 0: never.
    told_tight: u64,
    eager: bool,
}

impl Row {
    fn new(holder: Actor) -> Self {
        Row {
            holder,
            life: 0,
            seq: 0,
            used: 0,
            held: 0,
            needed: 0,
            wanted: 0,
            cap: 0,
            given: 0,
            taken: 0,
            heard: 0,
            needy: None,
            called: 0,
            calling: None,
            told_tight: 0,
            eager: false,
        }
    }

    /// Permits that it holds or may come to hold.
    fn lent(&self) -> u32 {
        self.held.saturating_add(self.given.wrapping_sub(self.taken))
    }

    fn loan(&self, tight: bool) -> Loan {
        Loan { life: self.life, seq: self.seq, given: self.given, tight, ..Loan::default() }
    }

    fn give(&mut self, permits: u32) {
        self.given = self.given.wrapping_add(permits);
    }
}

impl Page {
    fn lent(&self) -> u64 {
        self.rows.iter().map(|row| u64::from(row.lent())).sum()
    }

    fn row(&mut self, holder: Actor) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.holder == holder)
    }
}

impl Book {
    /// An empty one.
    pub fn new(now: Instant) -> Self {
        Book {
            began: now,
            keys: HashMap::new(),
            holders: HashMap::new(),
            counts: BookCounts::default(),
        }
    }

    /// Milliseconds since it began, never 0.
    fn ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_millis() as u64 + 1
    }

    /// `holder` tells how it stands; `None` when there is no room for the key, or it speaks of a
    /// life before the one that is known.
    pub fn hear(&mut self, now: Instant, key: CapKey, holder: Actor, told: &Told) -> Option<()> {
        let ms = self.ms(now);
        let full = self.keys.len() >= MOST_KEYS;
        let page = match self.keys.get_mut(&key) {
            Some(page) => page,
            None if full => {
                self.counts.crowded += 1;
                return None;
            }
            None => self.keys.entry(key).or_default(),
        };
        if page.row(holder).is_none() {
            page.rows.push(Row::new(holder));
            *self.holders.entry(holder).or_default() += 1;
        }
        let row = page.row(holder)?;
        if told.life < row.life {
            return None;
        }
        if (told.life, told.seq) <= (row.life, row.seq) {
            return Some(());
        }
        if told.life > row.life {
            (row.life, row.given, row.taken) = (told.life, told.taken, told.taken);
        }
        // Below what was taken we cannot have given: we forgot.
        if (told.taken.wrapping_sub(row.given) as i32) > 0 {
            row.given = told.taken;
        }
        row.seq = told.seq;
        row.taken = told.taken;
        (row.used, row.held) = (told.used.min(told.held), told.held);
        (row.needed, row.wanted, row.cap) = (told.needed, told.wanted.max(told.needed), told.cap);
        (row.eager, row.heard, row.calling) = (told.eager, ms, None);
        row.needy = (row.needed > row.lent()).then(|| row.needy.unwrap_or(ms));
        Some(())
    }

    /// Lends what may be lent of `key`, first come, first served; `from`, who told just now, is
    /// answered in any case. `nodes` share the caps. Only whoever answers for the key may do this.
    pub fn serve(
        &mut self,
        now: Instant,
        key: CapKey,
        nodes: usize,
        from: Option<Actor>,
    ) -> Vec<(Actor, Loan)> {
        let ms = self.ms(now);
        let Some(page) = self.keys.get_mut(&key) else { return Vec::new() };
        let mut total = page.lent();
        let mut told = Vec::new();
        let mut needy: Vec<usize> = (0..page.rows.len())
            .filter(|i| page.rows[*i].needy.is_some() && page.rows[*i].heard + FRESH >= ms)
            .collect();
        needy.sort_by_key(|i| page.rows[*i].needy);
        let mut unmet = Vec::new();
        for i in needy {
            let row = &mut page.rows[i];
            let free = u64::from(row.cap).saturating_sub(total);
            let permits = u64::from(row.needed - row.lent().min(row.needed)).min(free) as u32;
            if permits > 0 {
                row.give(permits);
                total += u64::from(permits);
                self.counts.lent += u64::from(permits);
                told.push(i);
            }
            if row.needed > row.lent() {
                unmet.push(i);
            } else {
                row.needy = None;
            }
        }
        if !unmet.is_empty() {
            page.tight = Some(ms);
        }
        let tight = page.tight.is_some_and(|at| at + TIGHT.as_millis() as u64 > ms);
        let from = from.and_then(|from| page.rows.iter().position(|row| row.holder == from));
        if let Some(i) = from {
            let row = &mut page.rows[i];
            let free = u64::from(row.cap).saturating_sub(total) / (2 * nodes.max(1) as u64);
            let permits = u64::from(row.wanted.saturating_sub(row.lent())).min(free) as u32;
            if permits > 0 && !tight {
                row.give(permits);
                self.counts.lent += u64::from(permits);
            }
            if !told.contains(&i) {
                told.push(i);
            }
        }
        let mut out: Vec<(Actor, Loan)> = Vec::with_capacity(told.len());
        for i in told {
            let row = &mut page.rows[i];
            if tight {
                row.told_tight = ms;
            }
            out.push((row.holder, row.loan(tight)));
        }
        if unmet.is_empty() {
            return out;
        }
        let mut pending = false;
        for i in 0..page.rows.len() {
            let row = &mut page.rows[i];
            if unmet.contains(&i) || row.lent() == 0 {
                continue;
            }
            let relied_on = row.eager && row.told_tight > 0 && row.told_tight + RELIED_ON > ms;
            if relied_on && row.lent() <= row.used {
                continue;
            }
            match row.calling {
                // It does not answer: others are not held up by it.
                Some(since) if since + RECALL_FOR <= ms => {
                    if since + RECALL_FOR + RECALL_PAUSE <= ms {
                        row.calling = None;
                    }
                    continue;
                }
                _ => pending = true,
            }
            if row.called == 0 || row.called + RECALL_AGAIN <= ms {
                self.counts.recalled += u64::from(row.calling.is_none());
                row.calling.get_or_insert(ms);
                (row.called, row.told_tight) = (ms, ms);
                out.push((row.holder, Loan { recall: true, ..row.loan(true) }));
            }
        }
        if !pending {
            for i in unmet {
                let row = &mut page.rows[i];
                // What came free just now may be on its way.
                if row.needy.is_some_and(|since| since + LATE > ms) {
                    continue;
                }
                (row.needy, row.told_tight) = (None, ms);
                self.counts.full += 1;
                out.push((row.holder, Loan { full: true, ..row.loan(true) }));
            }
        }
        out
    }

    /// An answer to `holder` that gives nothing: the row as it stands.
    pub fn acknowledge(&mut self, key: CapKey, holder: Actor) -> Option<Loan> {
        Some(self.keys.get_mut(&key)?.row(holder)?.loan(false))
    }

    /// Whether the book is known to be complete for `key`.
    pub fn is_mine(&self, key: CapKey) -> bool {
        self.keys.get(&key).is_some_and(|page| page.mine)
    }

    /// From now on it is.
    pub fn make_mine(&mut self, key: CapKey) {
        if let Some(page) = self.keys.get_mut(&key) {
            page.mine = true;
        }
    }

    /// Other members may keep the books from now on: keeps completeness of those keys only that are
    /// `still` ours.
    pub fn owners_changed(&mut self, still: impl Fn(CapKey) -> bool) {
        for (key, page) in &mut self.keys {
            page.mine = page.mine && still(*key);
        }
    }

    /// What is lent of `key`, to whom.
    pub fn lent(&self, key: CapKey) -> Vec<(Actor, u32)> {
        let rows = self.keys.get(&key).map_or(&[][..], |page| &page.rows);
        rows.iter().map(|row| (row.holder, row.lent())).filter(|(_, lent)| *lent > 0).collect()
    }

    /// Somebody who kept the books of `key` before says what was lent. Who told us himself is
    /// believed himself.
    pub fn learn(&mut self, now: Instant, key: CapKey, lent: &[(Actor, u32)]) {
        let ms = self.ms(now);
        let Some(page) = self.keys.get_mut(&key) else { return };
        for &(holder, lent) in lent {
            let row = match page.row(holder) {
                Some(row) if row.life > 0 => continue,
                Some(row) => row,
                None => {
                    page.rows.push(Row::new(holder));
                    *self.holders.entry(holder).or_default() += 1;
                    let Some(row) = page.rows.last_mut() else { return };
                    row
                }
            };
            row.held = row.held.max(lent);
            row.heard = ms;
        }
    }

    /// Everybody who may hold something.
    pub fn holders(&self) -> Vec<Actor> {
        self.holders.keys().copied().collect()
    }

    /// `holder` is gone, and what was lent to it comes back; keys for which others wait.
    pub fn forget(&mut self, holder: Actor) -> Vec<CapKey> {
        if self.holders.remove(&holder).is_none() {
            return Vec::new();
        }
        let mut wanted = Vec::new();
        self.keys.retain(|key, page| {
            let rows = page.rows.len();
            page.rows.retain(|row| row.holder != holder);
            if page.rows.len() < rows && page.rows.iter().any(|row| row.needy.is_some()) {
                wanted.push(*key);
            }
            !page.rows.is_empty()
        });
        wanted
    }

    /// Lets go of rows that hold nothing and of those that nobody speaks of any more.
    pub fn expire(&mut self, now: Instant) {
        let ms = self.ms(now);
        let holders = &mut self.holders;
        self.keys.retain(|_, page| {
            page.rows.retain(|row| {
                let empty = row.lent() == 0 && row.needed == 0;
                let stays = row.heard + if empty { GRAVE } else { LOST } > ms;
                if !stays && let Some(rows) = holders.get_mut(&row.holder) {
                    *rows -= 1;
                    if *rows == 0 {
                        holders.remove(&row.holder);
                    }
                }
                stays
            });
            !page.rows.is_empty()
        });
        // Room for a flood is given back after it.
        if self.keys.capacity() > 4 * self.keys.len().max(1024) {
            self.keys.shrink_to(2 * self.keys.len());
        }
    }

    /// Keys with a row.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Permits that are lent, of all keys together.
    pub fn lent_in_all(&self) -> u64 {
        self.keys.values().map(Page::lent).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::{BootId, KeyHash, LimitId, NodeId, time};

    const KEY: CapKey = CapKey { limit: LimitId(1), key: KeyHash(2) };

    fn node(id: u64) -> Actor {
        Actor { node: NodeId(id), boot: BootId::new(1) }
    }

    fn told(seq: u64, used: u32, held: u32, needed: u32, cap: u32) -> Told {
        let (life, wanted, taken) = (1, needed, held);
        Told { life, seq, used, held, needed, wanted, cap, taken, eager: true, instead: false }
    }

    /// `id` tells, and is served; what everybody is told.
    fn tells(book: &mut Book, now: Instant, id: u64, told: Told) -> Vec<(u64, Loan)> {
        book.hear(now, KEY, node(id), &told).unwrap();
        let loans = book.serve(now, KEY, 3, Some(node(id)));
        loans.into_iter().map(|(to, loan)| (to.node.0, loan)).collect()
    }

    #[test]
    fn what_is_lent_is_never_more_than_the_cap_and_each_need_is_met_once() {
        let (mut book, now) = (Book::new(time::now()), time::now());
        for id in 1..=3 {
            let loans = tells(&mut book, now, id, told(1, 0, 0, 2, 5));
            let (_, loan) = loans.iter().find(|(to, _)| *to == id).unwrap();
            assert_eq!(loan.given, if id == 3 { 1 } else { 2 });
        }
        // The same report again gives nothing more.
        tells(&mut book, now, 1, told(1, 0, 0, 2, 5));
        tells(&mut book, now, 1, told(2, 0, 0, 2, 5));
        assert_eq!(book.lent_in_all(), 5);
    }

    #[test]
    fn what_is_spare_is_given_in_small_parts() {
        let (mut book, now) = (Book::new(time::now()), time::now());
        let wants = Told { wanted: 50, ..told(1, 0, 0, 1, 61) };
        let loans = tells(&mut book, now, 1, wants);
        assert_eq!(loans, [(1, Loan { life: 1, seq: 1, given: 11, ..Loan::default() })]);
    }

    #[test]
    fn who_may_hold_more_than_it_uses_is_called_before_anybody_is_told_full() {
        let (mut book, began) = (Book::new(time::now()), time::now());
        tells(&mut book, began, 1, told(1, 0, 0, 1, 1));
        tells(&mut book, began, 1, told(2, 1, 1, 1, 1));
        let now = began + Duration::from_millis(10);
        let loans = tells(&mut book, now, 2, told(1, 0, 0, 1, 1));
        let recalled: Vec<u64> =
            loans.iter().filter(|(_, loan)| loan.recall).map(|(to, _)| *to).collect();
        assert_eq!(recalled, [1]);
        assert!(loans.iter().all(|(_, loan)| !loan.full));
        // It uses it; what may still be on its way is waited for, and then it is full.
        let now = now + Duration::from_millis(1);
        let loans = tells(&mut book, now, 1, told(3, 1, 1, 1, 1));
        assert!(loans.iter().all(|(_, loan)| !loan.full));
        let loans = tells(&mut book, now + Duration::from_millis(5), 2, told(2, 0, 0, 1, 1));
        assert!(loans.iter().any(|(to, loan)| *to == 2 && loan.full), "{loans:?}");
        // It gives it back: the next who asks gets it.
        let now = now + Duration::from_millis(6);
        tells(&mut book, now, 1, Told { taken: 1, ..told(4, 0, 0, 0, 1) });
        let loans = tells(&mut book, now, 2, told(3, 0, 0, 1, 1));
        assert_eq!(loans[0].1.given, 1);
    }

    #[test]
    fn who_does_not_answer_a_call_holds_up_nobody_for_long() {
        let (mut book, began) = (Book::new(time::now()), time::now());
        tells(&mut book, began, 1, told(1, 0, 0, 1, 1));
        let at = |ms| began + Duration::from_millis(ms);
        let full = |loans: &[(u64, Loan)]| loans.iter().any(|(to, loan)| *to == 2 && loan.full);
        for ms in (10..60).step_by(5) {
            assert!(!full(&tells(&mut book, at(ms), 2, told(ms, 0, 0, 1, 1))), "{ms}");
        }
        assert!(full(&tells(&mut book, at(65), 2, told(65, 0, 0, 1, 1))));
    }

    #[test]
    fn late_reports_change_nothing_and_a_new_life_begins_anew() {
        let (mut book, now) = (Book::new(time::now()), time::now());
        tells(&mut book, now, 1, told(5, 0, 0, 3, 9));
        tells(&mut book, now, 1, told(6, 3, 3, 3, 9));
        tells(&mut book, now, 1, told(4, 0, 9, 9, 9));
        assert_eq!(book.lent(KEY), [(node(1), 3)]);
        let life = Told { life: 7, seq: 7, taken: 0, ..told(7, 2, 2, 2, 9) };
        tells(&mut book, now, 1, life);
        assert_eq!(book.lent(KEY), [(node(1), 2)]);
        assert_eq!(book.hear(now, KEY, node(1), &told(99, 9, 9, 9, 9)), None, "of a life before");
    }

    #[test]
    fn who_is_gone_gives_back_and_what_was_heard_of_it_is_corrected_by_itself() {
        let (mut book, now) = (Book::new(time::now()), time::now());
        tells(&mut book, now, 1, told(1, 0, 0, 1, 5));
        book.learn(now, KEY, &[(node(2), 3), (node(1), 5)]);
        assert_eq!(book.lent(KEY), [(node(1), 1), (node(2), 3)]);
        tells(&mut book, now, 2, told(1, 1, 1, 1, 5));
        assert_eq!(book.lent(KEY), [(node(1), 1), (node(2), 1)]);
        tells(&mut book, now, 2, told(2, 1, 1, 9, 5));
        assert_eq!(book.forget(node(1)), [KEY], "somebody waits for it");
        assert_eq!(book.holders(), [node(2)]);
    }

    #[test]
    fn a_key_without_permits_leaves_and_so_does_one_that_nobody_speaks_of() {
        let (mut book, began) = (Book::new(time::now()), time::now());
        tells(&mut book, began, 1, told(1, 0, 0, 0, 5));
        let ms = |ms| began + Duration::from_millis(ms);
        book.expire(ms(GRAVE / 2));
        assert_eq!(book.keys(), 1);
        book.expire(ms(GRAVE + 10));
        assert_eq!((book.keys(), book.holders().len()), (0, 0));
        tells(&mut book, ms(GRAVE), 1, told(2, 1, 1, 1, 5));
        book.expire(ms(GRAVE + LOST / 2));
        assert_eq!(book.keys(), 1);
        book.expire(ms(GRAVE + LOST + 10));
        assert_eq!(book.keys(), 0);
    }
}
