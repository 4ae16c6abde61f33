//! All acts of one node: pure, bounded, mergeable in any order.

use std::time::{Duration, Instant};

use super::act::{Act, Order, Subject};
use super::row::{ActsBeat, Row, Stamp, by};
use crate::base::id::stable_hash;
use crate::base::{Actor, NodeName};
use crate::crdt::{Register, Registers};

/// Bans held, lifted and ended ones that are remembered included.
pub const MOST_BANS: usize = 65_536;
/// Acts on backends held.
pub const MOST_PLACES: usize = 8_192;
/// Into so many parts acts fall when two nodes compare theirs.
pub(super) const PARTS: usize = 256;
/// A lifted act is remembered for this long: a node that was away longer takes its peers' acts.
pub const MEMORY: Duration = Duration::from_secs(7 * 24 * 3600);
/// A ban that ended by itself is remembered for this long: whoever still has it has it end as well.
const AFTERGLOW: Duration = Duration::from_secs(600);
/// What has ended is looked for at most this often.
const SWEEP: Duration = Duration::from_millis(250);
/// When a table is full, one in so many of what need not be remembered makes room.
const AT_ONCE: usize = 16;

/// There is no room for one more act of the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} acts of this kind are the most there can be")]
pub struct Full(pub usize);

/// What all acts amount to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// How many.
    pub count: u32,
    /// Sum over all of them.
    pub hash: u64,
}

impl Digest {
    /// Whether `beat` says the same.
    pub fn is(self, beat: ActsBeat) -> bool {
        (self.count, self.hash) == (beat.count, beat.hash)
    }
}

/// The acts.
#[derive(Debug)]
pub struct Store {
    writer: Actor,
    name: NodeName,
    clients: Registers<Subject, Act>,
    places: Registers<Subject, Act>,
    hash: u64,
    sums: [u32; PARTS],
    refused: u64,
    /// When something ends or may be forgotten.
    due: Option<Instant>,
}

impl Store {
    /// Empty. `writer` must be no other store's, in no other start of it either; `name` is shown.
    pub fn new(writer: Actor, name: &NodeName) -> Self {
        Store {
            writer,
            name: by(name),
            clients: Registers::new(MOST_BANS),
            places: Registers::new(MOST_PLACES),
            hash: 0,
            sums: [0; PARTS],
            refused: 0,
            due: None,
        }
    }

    /// Orders `order` about `subject`, for `length` when it is a ban: later than all that is known
    /// about it, and than what others ordered before `unix_ms`.
    ///
    /// # Errors
    /// There is no room.
    pub fn issue(
        &mut self,
        now: Instant,
        unix_ms: u64,
        subject: &Subject,
        order: Order,
        length: Option<Duration>,
    ) -> Result<(), Full> {
        let known = self.table(subject).register(subject).map_or(0, |known| known.version + 1);
        let ends = length.map(|length| now + length);
        let forget = match order {
            Order::Lifted => Some(now + MEMORY),
            _ => ends.map(|ends| ends + AFTERGLOW),
        };
        let act = Act { order, by: self.name.clone(), ends, forget };
        let version = known.max(unix_ms);
        let register = Register { version, writer: self.writer, value: act };
        match self.take(now, subject.clone(), register) {
            Taken::NoRoom(most) => Err(Full(most)),
            Taken::News | Taken::Known => Ok(()),
        }
    }

    /// Takes what a peer or the disk holds; whether that was news.
    pub fn merge(&mut self, now: Instant, row: &Row) -> bool {
        let Some((subject, order)) = row.read() else { return false };
        let stamp = row.stamp();
        let after = |ms: Option<u64>| ms.map(|ms| now + Duration::from_millis(ms));
        let forget = match order {
            // A memory without an end would be one for ever.
            Order::Lifted => Some(after(stamp.keep_ms).unwrap_or(now + MEMORY).min(now + MEMORY)),
            _ => after(stamp.keep_ms),
        };
        let ends = after(stamp.left_ms);
        let forget = forget.or(ends.map(|ends| ends + AFTERGLOW));
        let act = Act { order, by: NodeName::from(stamp.by.as_str()), ends, forget };
        let register = Register { version: stamp.version, writer: stamp.writer, value: act };
        self.take(now, subject, register) == Taken::News
    }

    fn take(&mut self, now: Instant, subject: Subject, mut register: Register<Act>) -> Taken {
        let known = self.table(&subject).register(&subject);
        if let Some(known) = known {
            if (register.version, register.writer) <= (known.version, known.writer) {
                return Taken::Known;
            }
            // What this one outdid must not come back when this one is forgotten.
            if let Some(forget) = &mut register.value.forget {
                let before = known.value.forget.unwrap_or(now + MEMORY).min(now + MEMORY);
                *forget = before.max(*forget);
            }
            let (old, at) = weigh(&subject, known);
            self.count_out(old, at);
        } else if !self.make_room(now, &subject) {
            self.refused += 1;
            return Taken::NoRoom(match subject {
                Subject::Client(_) => MOST_BANS,
                Subject::Drain(_) | Subject::Backend(_) => MOST_PLACES,
            });
        }
        let (new, at) = weigh(&subject, &register);
        self.hash = self.hash.wrapping_add(new);
        self.sums[at] = self.sums[at].wrapping_add(new as u32);
        let act = &register.value;
        let due = act.ends.filter(|ends| *ends > now).or(act.forget);
        self.due = self.due.into_iter().chain(due).min();
        self.table_mut(&subject).merge(subject, register, now);
        Taken::News
    }

    /// Room for one more of the kind: what no longer holds and would be forgotten first gives way.
    fn make_room(&mut self, now: Instant, subject: &Subject) -> bool {
        let most = match subject {
            Subject::Client(_) => MOST_BANS,
            Subject::Drain(_) | Subject::Backend(_) => MOST_PLACES,
        };
        let table = self.table(subject);
        if table.len() < most {
            return true;
        }
        let mut over: Vec<Instant> = table
            .iter()
            .filter(|(_, known, _)| !known.value.holds(now))
            .filter_map(|(_, known, _)| known.value.forget)
            .collect();
        over.sort_unstable();
        let Some(last) = over.get((over.len() / AT_ONCE).min(over.len().saturating_sub(1))) else {
            return false;
        };
        let last = *last;
        self.forget(|act| !act.holds(now) && act.forget.is_some_and(|forget| forget <= last));
        self.table(subject).len() < most
    }

    /// Forgets what may be forgotten, and says when to come back. Whether something ended since the
    /// last time is for the caller to see: what [`Act::holds`] goes by is `now` alone.
    pub fn sweep(&mut self, now: Instant) -> Option<Instant> {
        if self.due.is_none_or(|due| due > now) {
            return self.due;
        }
        self.forget(|act| act.forget.is_some_and(|forget| forget <= now));
        let all = self.clients.iter().chain(self.places.iter());
        let next = |act: &Act| act.ends.filter(|ends| *ends > now).or(act.forget);
        let due = all.filter_map(|(_, known, _)| next(&known.value)).min();
        self.due = due.map(|due| due.max(now + SWEEP));
        self.due
    }

    fn forget(&mut self, over: impl Fn(&Act) -> bool) {
        let Store { clients, places, hash, sums, .. } = self;
        for table in [clients, places] {
            table.retain(|subject, known, _| {
                let over = over(&known.value);
                if over {
                    let (old, at) = weigh(subject, known);
                    *hash = hash.wrapping_sub(old);
                    sums[at] = sums[at].wrapping_sub(old as u32);
                }
                !over
            });
        }
    }

    fn count_out(&mut self, old: u64, at: usize) {
        self.hash = self.hash.wrapping_sub(old);
        self.sums[at] = self.sums[at].wrapping_sub(old as u32);
    }

    /// Everything held, with its version; lifted and ended acts as well.
    pub fn iter(&self) -> impl Iterator<Item = (&Subject, &Register<Act>)> {
        self.clients().chain(self.places())
    }

    /// What is held about clients.
    pub fn clients(&self) -> impl Iterator<Item = (&Subject, &Register<Act>)> {
        self.clients.iter().map(|(subject, known, _)| (subject, known))
    }

    /// What is held about backends.
    pub fn places(&self) -> impl Iterator<Item = (&Subject, &Register<Act>)> {
        self.places.iter().map(|(subject, known, _)| (subject, known))
    }

    /// What is held about `subject`, unless it no longer says anything.
    pub fn holding(&self, subject: &Subject, now: Instant) -> Option<&Act> {
        self.table(subject).value(subject).filter(|act| act.holds(now))
    }

    /// What is held about `subject`, as told to others.
    pub fn row(&self, now: Instant, subject: &Subject) -> Option<Row> {
        self.table(subject).register(subject).and_then(|known| told(now, subject, known))
    }

    /// Everything held, as told to others.
    pub fn rows(&self, now: Instant) -> Vec<Row> {
        self.iter().filter_map(|(subject, known)| told(now, subject, known)).collect()
    }

    /// At most `most` of what is in parts where `sums` differ from ours.
    pub fn rows_beyond(&self, now: Instant, sums: &[u8], most: usize) -> Vec<Row> {
        let theirs: Vec<u32> = sums
            .chunks_exact(4)
            .map(|sum| sum.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
            .collect();
        if theirs.len() != PARTS {
            return Vec::new();
        }
        let differs = |at: &usize| theirs[*at] != self.sums[*at];
        let numbered = self.iter().map(|row| (part(row.0), row));
        let mut rows: Vec<_> = numbered.filter(|(at, _)| differs(at)).collect();
        // Part by part, so that what is left over is another part next time.
        rows.sort_by_key(|(at, _)| *at);
        rows.truncate(most);
        rows.into_iter().filter_map(|(_, (subject, known))| told(now, subject, known)).collect()
    }

    /// Sums of the parts, as told to others.
    pub fn sums(&self) -> Vec<u8> {
        self.sums.iter().flat_map(|sum| sum.to_be_bytes()).collect()
    }

    /// Sums of who has no acts.
    pub fn no_sums() -> Vec<u8> {
        vec![0; 4 * PARTS]
    }

    /// What all acts amount to.
    pub fn digest(&self) -> Digest {
        let count = (self.clients.len() + self.places.len()) as u32;
        Digest { count, hash: self.hash }
    }

    /// Acts that found no room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn table(&self, subject: &Subject) -> &Registers<Subject, Act> {
        match subject {
            Subject::Client(_) => &self.clients,
            Subject::Drain(_) | Subject::Backend(_) => &self.places,
        }
    }

    fn table_mut(&mut self, subject: &Subject) -> &mut Registers<Subject, Act> {
        match subject {
            Subject::Client(_) => &mut self.clients,
            Subject::Drain(_) | Subject::Backend(_) => &mut self.places,
        }
    }
}

/// What became of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    News,
    Known,
    NoRoom(usize),
}

fn told(now: Instant, subject: &Subject, known: &Register<Act>) -> Option<Row> {
    let left =
        |at: Option<Instant>| at.map(|at| at.saturating_duration_since(now).as_millis() as u64);
    let act = &known.value;
    let stamp = Stamp {
        version: known.version,
        writer: known.writer,
        by: act.by.to_string(),
        left_ms: left(act.ends),
        keep_ms: left(act.forget),
    };
    Row::new(subject, act.order, stamp)
}

/// What a register adds to the sums, and to which part: the same on every node.
fn weigh(subject: &Subject, known: &Register<Act>) -> (u64, usize) {
    let key = name(subject);
    let writer = known.writer.node.0 ^ known.writer.boot.bits().rotate_left(32);
    let hash = stable_hash(key ^ writer, &known.version.to_be_bytes());
    (hash, (key % PARTS as u64) as usize)
}

fn part(subject: &Subject) -> usize {
    (name(subject) % PARTS as u64) as usize
}

fn name(subject: &Subject) -> u64 {
    match subject {
        // Bans may be many: without a detour over their text.
        Subject::Client(network) => match network {
            ipnet::IpNet::V4(net) => stable_hash(net.prefix_len().into(), &net.addr().octets()),
            ipnet::IpNet::V6(net) => stable_hash(net.prefix_len().into(), &net.addr().octets()),
        },
        place => stable_hash(1 << 32, place.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests;
