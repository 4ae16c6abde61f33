use proptest::collection::vec;
use proptest::prelude::*;

use super::super::act::Place;
use super::*;
use crate::base::time::now;
use crate::base::{BootId, NodeId, RuleName};

const HOUR: Duration = Duration::from_secs(3600);
const NOON: u64 = 1_800_000_000_000;

fn store(writer: u64) -> Store {
    let actor = Actor { node: NodeId(writer), boot: BootId::new(0) };
    Store::new(actor, &NodeName::from(format!("n{writer}").as_str()))
}

fn client(text: &str) -> Subject {
    Subject::Client(text.parse().unwrap())
}

fn place(at: u8) -> Place {
    let backend = format!("10.0.0.{at}:80").parse().unwrap();
    Place { rule: RuleName::from("web"), backend }
}

const BAN: Order = Order::Ban { cut: false };

#[test]
fn a_ban_holds_until_its_time_is_over_or_it_is_lifted() {
    let start = now();
    let mut store = store(1);
    let (for_an_hour, lasting) = (client("10.0.0.1/32"), client("10.0.0.2/32"));
    store.issue(start, NOON, &for_an_hour, BAN, Some(HOUR)).unwrap();
    store.issue(start, NOON, &lasting, BAN, None).unwrap();
    assert!(store.holding(&for_an_hour, start).is_some());
    assert_eq!(store.sweep(start), Some(start + HOUR));
    assert!(store.holding(&for_an_hour, start + HOUR).is_none());
    assert!(store.holding(&lasting, start + 1000 * HOUR).is_some());
    store.issue(start, NOON, &lasting, Order::Lifted, None).unwrap();
    assert!(store.holding(&lasting, start).is_none());
}

#[test]
fn what_is_over_is_remembered_for_a_while_and_then_forgotten() {
    let start = now();
    let mut store = store(1);
    store.issue(start, NOON, &client("10.0.0.1/32"), BAN, Some(HOUR)).unwrap();
    store.issue(start, NOON, &client("10.0.0.2/32"), Order::Lifted, None).unwrap();
    store.sweep(start + HOUR);
    assert_eq!(store.digest().count, 2);
    store.sweep(start + HOUR + AFTERGLOW);
    assert_eq!(store.digest().count, 1);
    store.sweep(start + MEMORY);
    assert_eq!(store.digest(), Digest::default());
    assert_eq!(store.sums(), [0; 4 * PARTS]);
}

/// A node that was away while a ban was shortened and ran out must not bring the long one back.
#[test]
fn a_shorter_ban_is_remembered_as_long_as_what_it_outdid() {
    let start = now();
    let (mut here, mut away) = (store(1), store(2));
    here.issue(start, NOON, &client("10.0.0.1/32"), BAN, None).unwrap();
    for row in here.rows(start) {
        assert!(away.merge(start, &row));
    }
    here.issue(start, NOON, &client("10.0.0.1/32"), BAN, Some(HOUR)).unwrap();
    let later = start + HOUR + 2 * AFTERGLOW;
    here.sweep(later);
    for row in away.rows(later) {
        assert!(!here.merge(later, &row), "{row:?} came back");
    }
}

#[test]
fn a_ban_keeps_its_time_from_node_to_node_without_a_common_clock() {
    let start = now();
    let mut first = store(1);
    first.issue(start, NOON, &client("10.0.0.1/32"), BAN, Some(HOUR)).unwrap();
    let later = start + HOUR / 2;
    let row = first.row(later, &client("10.0.0.1/32")).unwrap();
    assert_eq!(row.stamp().left_ms, Some(1_800_000));
    // There, it may be any time.
    let elsewhere = start + 1000 * HOUR;
    let mut second = store(2);
    assert!(second.merge(elsewhere, &row));
    let act = second.holding(&client("10.0.0.1/32"), elsewhere).unwrap();
    assert_eq!(act.ends, Some(elsewhere + HOUR / 2));
    assert_eq!(&*act.by.0, "n1");
}

#[test]
fn an_act_outdoes_what_is_known_whatever_the_clocks_say() {
    let start = now();
    let (mut ahead, mut behind) = (store(9), store(1));
    let subject = client("10.0.0.1/32");
    ahead.issue(start, NOON + 5_000_000, &subject, BAN, None).unwrap();
    assert!(behind.merge(start, &ahead.row(start, &subject).unwrap()));
    behind.issue(start, NOON, &subject, Order::Lifted, None).unwrap();
    assert!(ahead.merge(start, &behind.row(start, &subject).unwrap()));
    assert!(ahead.holding(&subject, start).is_none());
}

#[test]
fn a_full_table_refuses_and_what_is_over_makes_room() {
    let start = now();
    let mut store = store(1);
    let nth = |n: usize| Subject::Client(std::net::IpAddr::from((n as u32).to_be_bytes()).into());
    // A hundredth of them lifted.
    for n in 0..MOST_BANS {
        let order = if n % 100 == 0 { Order::Lifted } else { BAN };
        store.issue(start, NOON, &nth(n), order, None).unwrap();
    }
    let mut more = MOST_BANS;
    while store.issue(start, NOON, &nth(more), BAN, None).is_ok() {
        more += 1;
    }
    assert_eq!(more - MOST_BANS, MOST_BANS.div_ceil(100));
    assert_eq!(store.refused(), 1);
    // What is held can still be changed, and a backend's acts have a table of their own.
    store.issue(start, NOON, &nth(1), Order::Lifted, None).unwrap();
    let drain = Subject::Drain(place(1));
    store.issue(start, NOON, &drain, Order::Drain { mark: 1 }, None).unwrap();
    // Its sums are what they would be had all been told in another order.
    let mut other = self::store(2);
    let mut rows = store.rows(start);
    rows.reverse();
    rows.iter().for_each(|row| assert!(other.merge(start, row)));
    assert_eq!((other.digest(), other.sums()), (store.digest(), store.sums()));
}

#[test]
fn two_nodes_come_to_one_mind_by_the_parts_that_differ() {
    let start = now();
    let (mut one, mut other) = (store(1), store(2));
    for n in 0..5000u32 {
        let subject = Subject::Client(std::net::IpAddr::from(n.to_be_bytes()).into());
        one.issue(start, NOON, &subject, BAN, None).unwrap();
        if n % 2 == 0 {
            other.merge(start, &one.row(start, &subject).unwrap());
        }
    }
    let mut asks = 0;
    while one.digest() != other.digest() {
        asks += 1;
        assert!(asks < 20, "{:?} {:?}", one.digest(), other.digest());
        let rows = one.rows_beyond(start, &other.sums(), 800);
        for row in &rows {
            other.merge(start, row);
        }
    }
    assert!(one.rows_beyond(start, &other.sums(), 800).is_empty());
    // Sums of another shape ask for nothing.
    assert!(one.rows_beyond(start, &[1, 2, 3], 800).is_empty());
    println!("{asks} asks");
}

#[test]
fn what_cannot_be_an_act_is_refused() {
    let start = now();
    let mut store = store(1);
    store.issue(start, NOON, &client("10.0.0.0/8"), BAN, Some(HOUR)).unwrap();
    store.issue(start, NOON, &Subject::Drain(place(1)), Order::Drain { mark: 1 }, None).unwrap();
    let rows = store.rows(start);
    let spoilt: [fn(&mut Row); 6] = [
        |row| row.stamp_mut().version = u64::MAX,
        |row| row.stamp_mut().left_ms = Some(u64::MAX),
        |row| row.stamp_mut().keep_ms = Some(u64::MAX),
        |row| row.stamp_mut().by = "\x1b[2J".to_owned(),
        |row| row.stamp_mut().by = "n".repeat(1000),
        |row| match row {
            Row::Ban(ban) => ban.client = "10.0.0.0/64".to_owned(),
            Row::Drain(drain) => drain.backend = "nowhere".to_owned(),
            Row::Backend(_) => {}
        },
    ];
    let mut other = self::store(2);
    for row in &rows {
        for spoil in spoilt {
            let mut row = row.clone();
            spoil(&mut row);
            assert!(!other.merge(start, &row), "{row:?}");
        }
        assert!(other.merge(start, row));
    }
}

/// What two nodes of one test do: who, about which subject, what, and when.
type Deed = (u8, u8, u8, u64);

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    vec((0..3u8, 0..4u8, 0..5u8, 0..3u64), 1..24)
}

fn subject(at: u8) -> Subject {
    match at {
        0 => client("10.0.0.1/32"),
        1 => client("2001:db8::/32"),
        2 => Subject::Drain(place(1)),
        _ => Subject::Backend(place(1)),
    }
}

fn order(subject: &Subject, at: u8) -> Order {
    let orders = [
        Order::Lifted,
        Order::Ban { cut: at.is_multiple_of(2) },
        Order::Drain { mark: 5 },
        Order::Add { weight: at.into() },
        Order::Weight { weight: at.into(), mark: 5 },
        Order::Remove { mark: 5 },
    ];
    let fit: Vec<Order> = orders.into_iter().filter(|order| subject.takes(*order)).collect();
    fit[usize::from(at) % fit.len()]
}

fn seen(store: &Store, now: Instant) -> Vec<(String, Order, bool)> {
    let mut all: Vec<_> = store
        .iter()
        .map(|(subject, known)| (subject.to_string(), known.value.order, known.value.holds(now)))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

proptest! {
    /// Whoever acts where and when, and in whatever order and how often the acts arrive: in the end
    /// all nodes hold the same.
    #[test]
    fn contradictory_acts_come_to_one_result_everywhere(
        deeds in deeds(),
        exchange in vec((0..3usize, 0..3usize), 0..12),
    ) {
        let start = now();
        let mut stores = [store(1), store(2), store(3)];
        let mut exchange = exchange.into_iter();
        for (who, at, what, ms) in deeds {
            let (who, subject) = (usize::from(who), subject(at));
            let order = order(&subject, what);
            stores[who].issue(start, NOON + ms, &subject, order, None).unwrap();
            if let Some((from, to)) = exchange.next() {
                let rows = stores[from].rows(start);
                for row in &rows {
                    stores[to].merge(start, row);
                }
            }
        }
        for _ in 0..2 {
            for (from, to) in [(0, 1), (2, 1), (1, 0), (1, 2), (0, 2)] {
                let rows = stores[from].rows(start);
                // The second time, and backwards, changes nothing.
                for row in rows.iter().chain(rows.iter().rev()) {
                    stores[to].merge(start, row);
                }
            }
        }
        let [one, two, three] = &stores;
        prop_assert_eq!(seen(one, start), seen(two, start));
        prop_assert_eq!(seen(one, start), seen(three, start));
        prop_assert_eq!((one.digest(), one.sums()), (two.digest(), two.sums()));
        prop_assert_eq!(one.digest(), three.digest());
    }
}
