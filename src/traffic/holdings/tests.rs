use super::*;

const CAP: u32 = 9;

fn key(n: u64) -> CapKey {
    CapKey { limit: LimitId(1), key: KeyHash(n.rotate_right(6)) }
}

fn drained(holdings: &Holdings) -> Vec<CapKey> {
    let mut out = Vec::new();
    holdings.drain(1000, &mut out);
    out
}

#[test]
fn a_client_is_let_in_on_permits_that_are_held_and_only_on_them() {
    let holdings = Holdings::default();
    assert!(!holdings.take(key(1), CAP));
    assert_eq!(holdings.clients(), 0, "who was not let in leaves nothing behind");
    holdings.add(key(1), CAP, 2);
    assert!(holdings.take(key(1), CAP) && holdings.take(key(1), CAP));
    assert!(!holdings.take(key(1), CAP) && !holdings.take(key(2), CAP));
    assert_eq!(holdings.look(key(1)), Some(Standing { used: 2, held: 2, cap: CAP }));
}

#[test]
fn permits_in_use_are_never_taken_back_and_who_has_none_is_forgotten() {
    let holdings = Holdings::default();
    holdings.add(key(1), CAP, 3);
    assert!(holdings.take(key(1), CAP));
    holdings.keep(key(1), 0);
    assert_eq!(holdings.look(key(1)), Some(Standing { used: 1, held: 1, cap: CAP }));
    holdings.give(key(1));
    holdings.keep(key(1), 0);
    assert_eq!((holdings.look(key(1)), holdings.clients()), (None, 0));
}

#[test]
fn the_agent_is_called_once_until_it_has_looked() {
    let holdings = Holdings::default();
    let holding = holdings.holding(key(1), CAP);
    holdings.add(key(1), CAP, 3);
    holdings.add(key(2), CAP, 3);
    for _ in 0..3 {
        assert!(holding.take() && holdings.take(key(2), CAP));
    }
    // Both are marked by the take that left too few.
    let mut marked = drained(&holdings);
    marked.sort();
    assert_eq!(marked, [key(1), key(2)]);
    assert!(drained(&holdings).is_empty());
    for _ in 0..3 {
        holding.give();
    }
    assert_eq!(drained(&holdings), [key(1)], "nothing is in use");
}

#[test]
fn each_permit_that_comes_free_is_told_while_somebody_waits_for_it() {
    let holdings = Holdings::default();
    let holding = holdings.holding(key(1), 100);
    holdings.add(key(1), 100, 10);
    for _ in 0..10 {
        assert!(holding.take());
    }
    drained(&holdings);
    holding.give();
    drained(&holdings);
    holding.give();
    assert_eq!(drained(&holdings), [], "two of ten may lie about");
    holdings.eager(key(1), true);
    holding.give();
    assert_eq!(drained(&holdings), [key(1)]);
}

#[test]
fn on_its_own_word_a_node_lets_in_its_even_share() {
    let holdings = Holdings::default();
    holdings.nodes(4);
    let let_in = (0..20).filter(|_| holdings.take_unasked(key(1), CAP)).count();
    assert_eq!(let_in, 3);
    let holding = holdings.holding(key(2), CAP);
    let let_in = (0..20).filter(|_| holdings.take_holding_unasked(&holding)).count();
    assert_eq!((let_in, holdings.unasked()), (3, 6));
    assert_eq!(holdings.sums(), (6, 6), "they are held like others, and are told");
}

#[test]
fn a_holding_counts_on_for_whoever_asks_for_it_again_and_ends_with_the_last() {
    let holdings = Holdings::default();
    let before = holdings.holding(key(1), 5);
    holdings.add(key(1), 5, 2);
    assert!(before.take());
    let after = holdings.holding(key(1), 7);
    drop(before);
    assert_eq!(holdings.look(key(1)), Some(Standing { used: 1, held: 2, cap: 7 }));
    drained(&holdings);
    drop(after);
    assert_eq!((drained(&holdings), holdings.look(key(1))), (vec![key(1)], None));
}

#[test]
fn permits_that_come_are_told_to_who_waits() {
    let holdings = Holdings::default();
    let holding = holdings.holding(key(1), 5);
    let told = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&told);
    holding.on_more(Box::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    }));
    holdings.add(key(1), 5, 2);
    assert_eq!(told.load(Ordering::Relaxed), 1);
}

#[test]
fn purses_stay_whole_while_threads_and_the_agent_come_and_go() {
    let holdings = Holdings::default();
    let holding = holdings.holding(key(1), 8);
    let inside = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    if holding.take() {
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < 8);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        holding.give();
                    }
                }
            });
        }
        scope.spawn(|| {
            for n in 0..5_000u32 {
                let held = holdings.look(key(1)).unwrap().held;
                if held < 8 {
                    holdings.add(key(1), 8, 8 - held);
                }
                holdings.keep(key(1), n % 3);
            }
        });
    });
    assert_eq!(holding.used(), 0);
}
