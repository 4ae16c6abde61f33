use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::traffic::{Algorithm, Quota};

const MS: Ticks = 64 * 1_000_000;
const INTERVAL: Duration = Duration::from_millis(200);
const A: Reporter = Reporter(1);
const B: Reporter = Reporter(2);
const KEY: KeyHash = KeyHash(7);

fn meter(rate: f64, burst: f64) -> Meter {
    Meter::new(Algorithm::TokenBucket(Quota { rate, burst }), 0)
}

fn at(ms: u64) -> Moment {
    // Not at the very beginning: nothing was heard "long ago" then.
    Moment::new((100_000 + ms) * MS)
}

fn books() -> Books {
    Books::new(64, 1, INTERVAL)
}

/// An actor that reports what it spends.
struct Actor {
    reporter: Reporter,
    total: u32,
}

impl Actor {
    fn told(&self, recent: u32) -> Told {
        Told { total: self.total, tenure: self.total, recent }
    }

    fn spends(&mut self, books: &mut Books, meter: &Meter, ms: u64, tokens: u32) -> Place {
        self.total += tokens;
        let told = self.told(tokens);
        books.fold(at(ms), meter, (KEY, self.reporter, true), told, None).unwrap()
    }
}

fn actors() -> (Actor, Actor) {
    (Actor { reporter: A, total: 0 }, Actor { reporter: B, total: 0 })
}

fn level(books: &Books, meter: &Meter, ms: u64) -> f64 {
    books.level_of(at(ms), meter, KEY).unwrap()
}

#[test]
fn rows_of_all_actors_fold_into_one_level() {
    let (mut books, meter) = (books(), meter(1000.0, 200.0));
    let (mut a, mut b) = actors();
    a.spends(&mut books, &meter, 0, 30);
    let place = b.spends(&mut books, &meter, 0, 50);
    assert_eq!(level(&books, &meter, 0), 120.0);
    a.spends(&mut books, &meter, 10, 20);
    assert_eq!(level(&books, &meter, 10), 110.0);
    let told = books.tell(at(10), &meter, place, A).unwrap();
    assert_eq!((told.key, told.level, told.acked), (KEY, 110.0, 50));
    // B took fifty lately; averaged over half a second that is a hundred a second.
    assert!((told.remote - 100.0).abs() < 4.0, "{told:?}");
}

#[test]
fn a_report_that_comes_twice_or_late_changes_nothing() {
    let (mut books, meter) = (books(), meter(0.001, 200.0));
    let (mut a, _) = actors();
    a.spends(&mut books, &meter, 0, 30);
    let old = a.told(30);
    a.spends(&mut books, &meter, 10, 20);
    for told in [old, a.told(50), old] {
        books.fold(at(20), &meter, (KEY, A, true), told, None).unwrap();
    }
    assert!((level(&books, &meter, 20) - 150.0).abs() < 0.01);
}

#[test]
fn the_first_report_of_a_row_and_one_after_a_silence_debit_what_is_recent_only() {
    let (mut books, meter) = (books(), meter(100.0, 200.0));
    let first = Told { total: 50_000, tenure: 50_000, recent: 12 };
    books.fold(at(0), &meter, (KEY, A, true), first, None).unwrap();
    assert_eq!(level(&books, &meter, 0), 188.0);
    // Ten seconds on its own side of a partition.
    let after = Told { total: 60_000, tenure: 60_000, recent: 25 };
    books.fold(at(10_000), &meter, (KEY, A, true), after, None).unwrap();
    assert_eq!(level(&books, &meter, 10_000), 175.0);
}

#[test]
fn what_was_refilled_while_nobody_reported_is_not_taken_off_afterwards() {
    // Two that take less than the rate between them, and say so after most of a second.
    let late = |recent: u32| {
        let (mut books, meter) = (books(), meter(1000.0, 200.0));
        for reporter in [A, B] {
            let first = Told { total: 1, tenure: 1, recent: 1 };
            books.fold(at(0), &meter, (KEY, reporter, true), first, None).unwrap();
        }
        for reporter in [A, B] {
            let told = Told { total: 401, tenure: 401, recent };
            books.fold(at(900), &meter, (KEY, reporter, true), told, None).unwrap();
        }
        level(&books, &meter, 900)
    };
    assert_eq!(late(2), 196.0);
    // All of it was taken just now.
    assert_eq!(late(400), -500.0);
    // A bucket that others emptied was not full meanwhile: every token counts.
    let (mut books, meter) = (books(), meter(1000.0, 200.0));
    let (mut a, mut b) = actors();
    a.spends(&mut books, &meter, 0, 1);
    b.spends(&mut books, &meter, 900, 150);
    let told = Told { total: 21, tenure: 21, recent: 1 };
    books.fold(at(900), &meter, (KEY, A, true), told, None).unwrap();
    assert_eq!(level(&books, &meter, 900), 30.0);
}

#[test]
fn a_debt_has_a_floor() {
    let (mut books, meter) = (books(), meter(100.0, 20.0));
    let (mut a, mut b) = actors();
    a.spends(&mut books, &meter, 0, 1);
    b.spends(&mut books, &meter, 0, 1);
    a.spends(&mut books, &meter, 1, 1_000_000);
    assert_eq!(level(&books, &meter, 1), -50.0);
}

#[test]
fn new_books_adopt_the_lowest_level_that_is_held_and_count_nothing_twice() {
    let (mut books, meter) = (books(), meter(0.001, 200.0));
    // The owner before had folded 30 of each into the level that both hold.
    let mut fold = |ms, actor, total, recent, held| {
        let told = Told { total, tenure: total, recent };
        books.fold(at(ms), &meter, (KEY, actor, true), told, held).unwrap();
        level(&books, &meter, ms).round()
    };
    assert_eq!(fold(0, A, 1000, 30, Some(90.0)), 90.0);
    assert_eq!(fold(5, B, 1000, 30, Some(90.0)), 90.0);
    assert_eq!(fold(10, A, 1010, 40, Some(80.0)), 80.0);
    // The time of adopting is over; a view that is too low does not count any more.
    assert_eq!(fold(500, B, 1005, 35, Some(5.0)), 75.0);
}

#[test]
fn new_books_of_a_key_that_nobody_held_sum_up_what_is_reported() {
    let (mut books, meter) = (books(), meter(0.001, 200.0));
    for node in 0..10 {
        let told = Told { total: 15, tenure: 15, recent: 15 };
        books.fold(at(node), &meter, (KEY, Reporter(node as u16), true), told, None).unwrap();
    }
    assert_eq!(level(&books, &meter, 10).round(), 50.0);
}

#[test]
fn whose_view_is_off_by_a_twentieth_is_misled_but_not_within_5_ms() {
    let (mut books, meter) = (books(), meter(1.0, 200.0));
    let (mut a, mut b) = actors();
    let place = a.spends(&mut books, &meter, 0, 1);
    books.tell(at(0), &meter, place, A);
    b.spends(&mut books, &meter, 1, 9);
    books.tell(at(1), &meter, place, B);
    assert_eq!(books.misled(at(1), &meter, place, false), (vec![], false));
    b.spends(&mut books, &meter, 2, 10);
    books.tell(at(2), &meter, place, B);
    assert_eq!(books.misled(at(2), &meter, place, false), (vec![], true));
    assert_eq!(books.misled(at(5), &meter, place, false), (vec![A], false));
    books.tell(at(5), &meter, place, A);
    assert_eq!(books.misled(at(20), &meter, place, false), (vec![], false));
    b.spends(&mut books, &meter, 20, 2);
    books.tell(at(20), &meter, place, B);
    assert_eq!(books.misled(at(30), &meter, place, false), (vec![], false));
    assert_eq!(books.misled(at(30), &meter, place, true), (vec![A], false));
    // Who fell silent is not told unasked.
    assert_eq!(books.misled(at(3000), &meter, place, true).0, []);
}

#[test]
fn who_wants_no_answer_is_told_nothing() {
    let (mut books, meter) = (books(), meter(1.0, 200.0));
    let (mut a, _) = actors();
    let place = a.spends(&mut books, &meter, 0, 100);
    let told = Told { total: 1, tenure: 1, recent: 1 };
    books.fold(at(0), &meter, (KEY, B, false), told, None).unwrap();
    assert!(!books.misled(at(100), &meter, place, true).0.contains(&B));
}

#[test]
fn what_is_granted_is_counted_once_however_it_is_told_of() {
    let (mut books, meter) = (books(), meter(0.001, 5.0));
    let told = |total| Told { total, tenure: total, recent: total };
    // Three asks at once, of one who has spent nothing yet, then what it spent.
    for left in [4.0, 3.0, 2.0] {
        let (granted, level) = books.grant(at(0), &meter, (KEY, A), told(0), None).unwrap();
        assert!(granted && (level - left).abs() < 0.01);
    }
    for total in [1, 2, 3] {
        books.fold(at(5), &meter, (KEY, A, true), told(total), None).unwrap();
    }
    assert_eq!(level(&books, &meter, 5).round(), 2.0);
    // It helped itself to one meanwhile.
    books.fold(at(6), &meter, (KEY, A, true), told(4), None).unwrap();
    assert!(books.grant(at(7), &meter, (KEY, B), told(0), None).unwrap().0);
    for reporter in [A, B, A] {
        let spent = told(if reporter == A { 4 } else { 0 });
        let (granted, level) = books.grant(at(8), &meter, (KEY, reporter), spent, None).unwrap();
        assert!(!granted && level.abs() < 0.01, "{level}");
    }
}

#[test]
fn a_key_that_runs_low_is_said_so_once_a_second() {
    let (mut books, meter) = (books(), meter(1.0, 200.0));
    let (mut a, _) = actors();
    let place = a.spends(&mut books, &meter, 0, 90);
    assert_eq!(books.runs_low(at(0), &meter, place), Low::No);
    a.spends(&mut books, &meter, 5, 20);
    let Low::Tell { key, level, reporting } = books.runs_low(at(5), &meter, place) else {
        panic!("it is low")
    };
    assert_eq!((key, level.round(), reporting), (KEY, 90.0, vec![A]));
    assert_eq!(books.runs_low(at(900), &meter, place), Low::Told);
    assert!(matches!(books.runs_low(at(1010), &meter, place), Low::Tell { .. }));
}

#[test]
fn what_is_silent_and_full_leaves_and_rows_are_used_again() {
    let (mut books, meter) = (books(), meter(1000.0, 10.0));
    let told = Told { total: 5, tenure: 5, recent: 5 };
    for round in 0..100u64 {
        for key in 1..=40 {
            books.fold(at(round * 20_000), &meter, (KeyHash(key), A, true), told, None);
        }
        assert!(books.held().0 <= 40);
        (0..ROUND).for_each(|_| books.sweep(at(round * 20_000 + 15_000), &meter));
        assert_eq!(books.held(), (0, 0));
    }
    assert_eq!(books.free_rows, books.rows.len());
}

#[test]
fn a_key_with_a_low_level_stays_when_its_reporters_are_silent() {
    let (mut books, meter) = (books(), meter(0.1, 100.0));
    let (mut a, _) = actors();
    a.spends(&mut books, &meter, 0, 80);
    (0..ROUND).for_each(|_| books.sweep(at(60_000), &meter));
    // Of a slow limit the reporter is remembered longer than of a quick one.
    assert_eq!(books.held(), (1, 1));
    (0..ROUND).for_each(|_| books.sweep(at(121_000), &meter));
    assert_eq!(books.held(), (1, 0));
    assert_eq!(level(&books, &meter, 121_000).round(), 32.0);
}

#[test]
fn a_flood_of_keys_displaces_only_itself_and_takes_no_memory() {
    let (mut books, meter) = (Books::new(1024, 1, INTERVAL), meter(1.0, 100.0));
    let bytes = books.bytes();
    let used_up = Told { total: 100, tenure: 100, recent: 100 };
    for key in 1..=100 {
        books.fold(at(0), &meter, (KeyHash(key), A, true), used_up, None).unwrap();
    }
    let once = Told { total: 1, tenure: 1, recent: 1 };
    for key in 1000..200_000 {
        books.fold(at(key / 1000), &meter, (KeyHash(key), B, true), once, None);
    }
    for key in 1..=100 {
        assert!(books.level_of(at(200), &meter, KeyHash(key)).unwrap() < 2.0);
    }
    assert_eq!(books.bytes(), bytes);
    assert!(books.held().0 <= 1024);
}

#[test]
fn a_key_with_one_reporter_takes_at_most_48_bytes() {
    let books = Books::new(1 << 16, 1, INTERVAL);
    let rows = books.rows.len() * size_of::<Row>();
    let heads = books.bytes() - rows;
    let each = heads as f64 / (1 << 16) as f64 + size_of::<Row>() as f64;
    assert!(each <= 48.0, "{each} B");
}

#[test]
fn without_a_free_row_a_report_counts_by_what_is_recent() {
    let (mut books, meter) = (Books::new(8, 1, INTERVAL), meter(0.001, 1000.0));
    for node in 0..40u16 {
        let told = Told { total: 10, tenure: 10, recent: 10 };
        books.fold(at(0), &meter, (KEY, Reporter(node), true), told, None).unwrap();
    }
    assert_eq!(books.held(), (1, 16));
    assert_eq!(books.untracked, 24);
    assert_eq!(level(&books, &meter, 0).round(), 600.0);
}

proptest! {
    #[test]
    fn whatever_is_reported_the_level_stays_within_its_bounds(
        reports in vec((0..5u16, any::<u32>(), any::<u32>(), any::<u32>(),
            proptest::option::of(any::<f32>()), 0..400u64), 1..100)
    ) {
        let (mut books, meter) = (books(), meter(1000.0, 200.0));
        let mut ms = 0;
        for (node, total, tenure, recent, held, later) in reports {
            ms += later;
            let told = Told { total, tenure, recent };
            let place =
                books.fold(at(ms), &meter, (KEY, Reporter(node), true), told, held).unwrap();
            let level = level(&books, &meter, ms);
            prop_assert!(level <= 200.0 && level.is_finite());
            let told = books.tell(at(ms), &meter, place, Reporter(node)).unwrap();
            prop_assert!(told.level.is_finite() && told.remote.is_finite());
            books.misled(at(ms), &meter, place, true);
            books.sweep(at(ms), &meter);
        }
    }
}
