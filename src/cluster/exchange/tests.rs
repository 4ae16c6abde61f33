use parking_lot::Mutex;

use super::*;
use crate::base::{BootId, NodeId, time};
use crate::cluster::wire::limits::TokenAnswer;
use crate::cluster::wire::records::records;
use crate::traffic::{Algorithm, Company, Counting, Quota};

const LIMIT: LimitId = LimitId(9);
const MS: Duration = Duration::from_millis(1);
const ALGORITHM: Algorithm = Algorithm::TokenBucket(Quota { rate: 0.001, burst: 200.0 });

/// A node's limiter: what it has to report, and what it was told.
#[derive(Default)]
struct Room {
    reports: Mutex<Vec<Report>>,
    told: Mutex<Vec<(KeyHash, Level)>>,
    hot: Mutex<Vec<KeyHash>>,
    assumed: Mutex<Vec<(KeyHash, Duration)>>,
    foreign: bool,
}

impl Room {
    fn spends(&self, key: u64, total: u64) {
        let recent = total as u32;
        let (key, level) = (KeyHash(key), None);
        let report = Report { limit: LIMIT, key, total, tenure: recent, recent, level };
        self.reports.lock().push(report);
    }
}

impl Ledger for Room {
    fn drain(&self, _: Instant, _: bool, most: usize, out: &mut Vec<Report>) {
        let mut reports = self.reports.lock();
        let most = most.min(reports.len());
        out.extend(reports.drain(..most));
    }

    fn report(&self, _: Instant, limit: LimitId, key: KeyHash) -> Option<Report> {
        Some(Report { limit, key, total: 70, tenure: 70, recent: 70, level: None })
    }
}

impl Levels for Room {
    fn told(&self, _: Instant, _: LimitId, key: KeyHash, told: Level) {
        self.told.lock().push((key, told));
    }

    fn hot(&self, _: Instant, _: LimitId, key: KeyHash, _: f32) {
        self.hot.lock().push(key);
    }

    fn silent(&self, _: Instant, _: LimitId, key: KeyHash, during: Duration) {
        self.assumed.lock().push((key, during));
    }

    fn company(&self, _: Company) {}

    fn counting(&self, limit: LimitId, _: Instant) -> Option<Counting> {
        let meter = Meter::new(ALGORITHM, 0);
        let known = limit == LIMIT && !self.foreign;
        known.then_some(Counting { algorithm: ALGORITHM, meter, keys: 1024 })
    }
}

fn actor(node: u64) -> Actor {
    Actor { node: NodeId(node), boot: BootId::new(1) }
}

struct Node {
    exchange: Exchange,
    room: Room,
}

impl Node {
    fn new(node: u64, now: Instant) -> Node {
        let mut exchange = Exchange::new(actor(node), now, 0, node, INTERVAL);
        exchange.shared_by([actor(1), actor(2), actor(3)]);
        Node { exchange, room: Room::default() }
    }

    fn look(&mut self, now: Instant) -> Vec<(Actor, Vec<u8>)> {
        self.exchange.look(now, &self.room, &self.room, 100_000);
        self.exchange.payloads(now)
    }

    fn hear(&mut self, now: Instant, from: u64, payload: &[u8]) {
        for record in records(payload).unwrap() {
            match record {
                Record::Reports(reports) => {
                    self.exchange.hear_reports(now, actor(from), &reports, &self.room);
                }
                Record::Levels(told) => {
                    self.exchange.hear_levels(now, actor(from), &told, &self.room);
                }
                Record::Hot(hot) => {
                    self.exchange.hear_hot(now, actor(from), &hot, &self.room);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A key whose books node `primary` keeps, with `backup`.
fn key(primary: u64, backup: u64) -> u64 {
    let owners = Owners::new([actor(1), actor(2), actor(3)]);
    let wanted = Pair { primary: actor(primary), backup: Some(actor(backup)) };
    (1..).find(|key| owners.of(LIMIT, KeyHash(*key)) == Some(wanted)).unwrap()
}

fn to(sent: &[(Actor, Vec<u8>)], node: u64) -> Option<&[u8]> {
    sent.iter().find(|(to, _)| *to == actor(node)).map(|(_, payload)| payload.as_slice())
}

#[test]
fn a_report_goes_to_owner_and_backup_and_only_the_owner_answers() {
    let now = time::now();
    let [mut one, mut two, mut three] = [1, 2, 3].map(|node| Node::new(node, now));
    let key = key(2, 3);
    one.room.spends(key, 50);
    let sent = one.look(now);
    two.hear(now, 1, to(&sent, 2).unwrap());
    three.hear(now, 1, to(&sent, 3).unwrap());
    assert!(three.exchange.payloads(now).is_empty());
    // Nor does the backup take it off its own bucket: it admitted nothing.
    assert!(three.room.told.lock().is_empty() && three.room.hot.lock().is_empty());
    let answers = two.exchange.payloads(now);
    one.hear(now + MS, 2, to(&answers, 1).unwrap());
    let told = one.room.told.lock()[0];
    assert_eq!((told.0, told.1.level.round(), told.1.acked), (KeyHash(key), 150.0, 50));
    assert_eq!(one.exchange.rtt(), MS);
    // Both have the same books.
    for node in [&two, &three] {
        assert_eq!(node.exchange.rows(), (1, 1));
    }
}

#[test]
fn a_node_is_told_by_its_own_books_without_a_datagram() {
    let now = time::now();
    let mut one = Node::new(1, now);
    one.room.spends(key(1, 2), 60);
    let sent = one.look(now);
    assert_eq!(sent.len(), 1, "to the backup alone");
    assert!(to(&sent, 2).is_some());
    assert_eq!(one.room.told.lock()[0].1.level.round(), 140.0);
}

#[test]
fn others_hear_of_a_level_that_fell_and_the_quiet_ones_that_it_is_low() {
    let now = time::now();
    let [mut one, mut two, mut three] = [1, 2, 3].map(|node| Node::new(node, now));
    let key = key(2, 1);
    one.room.spends(key, 10);
    let sent = one.look(now);
    two.hear(now, 1, to(&sent, 2).unwrap());
    two.exchange.payloads(now);
    two.room.spends(key, 120);
    let sent = two.look(now + 10 * MS);
    one.hear(now + 11 * MS, 2, to(&sent, 1).unwrap());
    assert_eq!(one.room.told.lock().last().unwrap().1.level.round(), 70.0);
    three.hear(now + 11 * MS, 2, to(&sent, 3).unwrap());
    assert_eq!(*three.room.hot.lock(), [KeyHash(key)]);
}

#[test]
fn levels_of_who_is_not_asked_are_not_believed() {
    let now = time::now();
    let mut one = Node::new(1, now);
    let key = key(2, 3);
    let row = LevelRow { key: key.to_be_bytes(), level: -1e9, acked: 0, remote: 0.0 };
    let levels = LevelRows { seq: 0, limit: LIMIT.0, rows: vec![row] };
    let hot = Hot { limit: LIMIT.0, rows: vec![HotRow { key: key.to_be_bytes(), level: -1e9 }] };
    for from in [3, 1, 77] {
        one.exchange.hear_levels(now, actor(from), &levels, &one.room);
        one.exchange.hear_hot(now, actor(from), &hot, &one.room);
    }
    assert!(one.room.told.lock().is_empty() && one.room.hot.lock().is_empty());
    one.exchange.hear_levels(now, actor(2), &levels, &one.room);
    assert_eq!(one.room.told.lock().len(), 1);
}

#[test]
fn a_silent_owner_is_asked_again_and_then_its_backup_instead() {
    let start = time::now();
    let [mut one, mut three] = [1, 3].map(|node| Node::new(node, start));
    let key = key(2, 3);
    one.room.spends(key, 50);
    let mut now = start;
    let sent = one.look(now);
    // The backup heard as much.
    three.hear(now, 1, to(&sent, 3).unwrap());
    let mut asked = Vec::new();
    while asked.is_empty() {
        now += 5 * MS;
        assert!(now < start + 200 * MS, "the backup was never asked");
        let sent = one.look(now);
        if let Some(payload) = to(&sent, 3) {
            three.hear(now, 1, payload);
            asked = three.exchange.payloads(now);
        }
    }
    let took = now - start;
    assert!((100 * MS..=110 * MS).contains(&took), "{took:?}");
    assert!(one.room.assumed.lock().iter().all(|(assumed, _)| *assumed == KeyHash(key)));
    let assumed: Duration = one.room.assumed.lock().iter().map(|(_, during)| *during).sum();
    assert!(assumed >= 90 * MS, "{assumed:?}");
    one.hear(now, 3, to(&asked, 1).unwrap());
    assert_eq!(one.room.told.lock()[0].1.level.round(), 130.0);
    assert_eq!(one.exchange.counted.failovers, 1);
    // For three seconds; then the owner is asked again.
    assert_eq!(one.exchange.authority(now, LIMIT, KeyHash(key)), Some(actor(3)));
    let later = now + Duration::from_secs(3);
    assert_eq!(one.exchange.authority(later, LIMIT, KeyHash(key)), Some(actor(2)));
}

#[test]
fn an_owner_that_was_given_up_while_it_stood_still_misses_nothing() {
    let start = time::now();
    let [mut one, mut two, mut three] = [1, 2, 3].map(|node| Node::new(node, start));
    let key = key(2, 3);
    one.room.spends(key, 50);
    let mut now = start;
    while one.exchange.authority(now, LIMIT, KeyHash(key)) == Some(actor(2)) {
        assert!(now < start + 200 * MS, "the owner was never given up");
        one.look(now);
        now += 5 * MS;
    }
    one.room.spends(key, 120);
    let kept = one.look(now + 5 * MS);
    // It goes on, and hears what has come in meanwhile; who asks it is told the whole.
    now += 10 * MS;
    two.hear(now, 1, to(&kept, 2).unwrap());
    let told = two.exchange.payloads(now);
    assert!(to(&told, 1).is_none(), "it was not asked");
    // Who does not use the key hears all the same that it runs low.
    three.hear(now, 2, to(&told, 3).unwrap());
    assert_eq!(*three.room.hot.lock(), [KeyHash(key)]);
    two.room.spends(key, 30);
    two.look(now);
    assert_eq!(two.room.told.lock()[0].1.level.round(), 50.0);
}

#[test]
fn books_are_kept_of_a_limit_that_this_node_does_not_have() {
    let now = time::now();
    let [mut one, mut two] = [1, 2].map(|node| Node::new(node, now));
    two.room.foreign = true;
    one.room.spends(key(2, 3), 50);
    let sent = one.look(now);
    two.hear(now, 1, to(&sent, 2).unwrap());
    let answers = two.exchange.payloads(now);
    one.hear(now, 2, to(&answers, 1).unwrap());
    assert_eq!(one.room.told.lock()[0].1.level.round(), 150.0);
    // And thrown away when nobody reports any more.
    let mut later = now;
    while later < now + FOREIGN_KEPT + Duration::from_secs(1) {
        later += INTERVAL;
        two.look(later);
    }
    assert_eq!(two.exchange.bytes(), 0);
}

#[test]
fn limits_that_nobody_has_are_bounded() {
    let now = time::now();
    let mut two = Node::new(2, now);
    let counts = Counts::Bucket { rate: 1.0, burst: 10.0 };
    let row = ReportRow { key: [1; 8], total: 1, tenure: 1, recent: 1, level: None };
    for limit in 100..10_000 {
        let reports = Reports { seq: 1, limit, counts, rows: vec![row] };
        two.exchange.hear_reports(now, actor(1), &reports, &two.room);
    }
    assert_eq!(two.exchange.books.len(), MOST_FOREIGN);
    // What can be no limit is none.
    for counts in [
        Counts::Bucket { rate: f64::NAN, burst: 10.0 },
        Counts::Bucket { rate: 1.0, burst: -1.0 },
        Counts::Window { limit: 0, length: 1 },
    ] {
        let reports = Reports { seq: 1, limit: 5, counts, rows: vec![row] };
        two.exchange.hear_reports(now, actor(1), &reports, &two.room);
    }
    assert_eq!(two.exchange.books.len(), MOST_FOREIGN);
}

#[test]
fn what_is_urgent_is_told_at_once_but_not_more_often_than_looks_may_come() {
    let began = time::now();
    let mut one = Node::new(1, began);
    let quiet = began + 2 * QUIET_AFTER;
    one.look(quiet);
    assert_eq!(one.exchange.due(), quiet + INTERVAL);
    let later = quiet + 50 * MS;
    one.room.spends(key(1, 2), 5);
    one.exchange.hurry(later);
    assert!(!one.look(later).is_empty());
    one.exchange.hurry(later + MS);
    assert_eq!(one.exchange.due(), later + BUSY);
}

#[test]
fn what_the_cap_cuts_off_is_told_as_soon_as_it_may() {
    let now = time::now();
    let mut one = Node::new(1, now);
    (0..100).for_each(|key| one.room.spends(key + 1, 10));
    assert!(one.exchange.look(now, &one.room, &one.room, 10 * REPORTED));
    assert_eq!(one.room.reports.lock().len(), 90);
    let now = now + BUSY;
    assert!(!one.exchange.look(now, &one.room, &one.room, 1000 * REPORTED));
    assert!(one.room.reports.lock().is_empty());
    // And nothing at all while nothing may be sent.
    one.room.spends(1, 20);
    one.exchange.look(now + BUSY, &one.room, &one.room, 0);
    assert_eq!(one.room.reports.lock().len(), 1);
}

#[test]
fn questions_go_at_once_and_when_many_come_together() {
    let now = time::now();
    let mut one = Node::new(1, now);
    one.look(now);
    let mut sent = 0;
    for n in 0..1000u32 {
        let now = now + n * Duration::from_micros(100);
        let answer = TokenAnswer { ticket: n.into(), granted: true, level: 1.0 };
        one.exchange.post(now, actor(2), Record::TokenAnswer(answer));
        let payloads = one.exchange.payloads(now);
        assert!(n > 0 || payloads.len() == 1, "the first waits for nobody");
        sent += payloads.len();
    }
    assert!((49..=52).contains(&sent), "{sent} datagrams in a tenth of a second");
    assert!(one.exchange.due() <= now + 102 * MS);
}
