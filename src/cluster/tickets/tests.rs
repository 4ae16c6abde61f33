use super::*;

const SPAN: u64 = TICKET_LIFETIME.as_millis() as u64;
const SECOND: u64 = 1000;
/// Which epoch the tests begin in.
const FIRST: u64 = 80_000;
const AT: u64 = FIRST * SPAN;

fn secret(epoch: u64, number: u8) -> TicketSecret {
    TicketSecret::new(epoch, [number; 32])
}

/// Two of one epoch, the smaller name first.
fn pair(epoch: u64) -> [TicketSecret; 2] {
    let mut pair = [secret(epoch, 1), secret(epoch, 2)];
    pair.sort_by_key(|secret| secret.id);
    pair
}

fn empty() -> Rotation {
    Rotation::new(AT, TICKET_LIFETIME, &TicketSet::default())
}

fn first(_: u64) -> Standing {
    Standing::Behind(0)
}

#[test]
fn alone_there_is_a_secret_at_once_and_never_a_moment_without() {
    let count = std::sync::atomic::AtomicU8::new(0);
    let draw: Draw = Arc::new(move |bytes| {
        bytes.fill(count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1);
        true
    });
    let mut local = Local::new(AT, &TicketSet::default(), draw);
    let mut ids = Vec::new();
    for minute in 0..3 * 360 {
        let set = local.turn(AT + minute * 60 * SECOND);
        let id = set.sealing.expect("one seals");
        let sealing = set.secrets.iter().find(|secret| secret.id == id).expect("it is known");
        assert_eq!(sealing.epoch, FIRST + minute / 360, "minute {minute}");
        assert!(set.secrets.len() <= 3 && !set.shared);
        if ids.last() != Some(&id) {
            // Its predecessor, if any, opens as long as it seals.
            ids.push(id);
            assert_eq!(set.since_ms, AT + minute * 60 * SECOND);
        }
        for before in ids.iter().rev().take(2) {
            assert!(set.secrets.iter().any(|secret| secret.id == *before));
        }
    }
    assert_eq!(ids.len(), 3, "one per epoch");
}

#[test]
fn without_randomness_there_is_no_secret() {
    let mut local = Local::new(AT, &TicketSet::default(), Arc::new(|_| false));
    assert_eq!(local.turn(AT), TicketSet::default());
}

#[test]
fn who_has_none_waits_for_the_clusters_and_in_turn() {
    for rank in 0..4u32 {
        let mut rotation = empty();
        let behind = |_| Standing::Behind(rank);
        let due = 3 * SECOND + u64::from(rank) * 2 * SECOND;
        assert_eq!(rotation.turn(AT, behind), None);
        assert_eq!(rotation.turn(AT + due - 1, behind), None);
        assert_eq!(rotation.turn(AT + due, behind), Some(FIRST));
        // It hears the cluster's in the last moment.
        assert_eq!(rotation.hear(AT + due, secret(FIRST, 1)), Heard::New);
        assert_eq!(rotation.turn(AT + due, behind), None);
        assert!(rotation.set(true).sealing.is_some(), "it seals by it at once");
    }
}

#[test]
fn the_next_secret_is_made_half_an_epoch_ahead_in_turn() {
    for (rank, late) in [(0, 0), (1, SPAN / 72), (2, SPAN / 36), (1000, SPAN / 72 * 20)] {
        let mut rotation = empty();
        rotation.hear(AT, secret(FIRST, 1));
        let behind = |_| Standing::Behind(rank);
        let due = AT + SPAN / 2 + late;
        assert!(due < AT + SPAN, "in time, whoever it is");
        assert_eq!(rotation.turn(AT, behind), None);
        assert_eq!(rotation.turn(due - 1, behind), None);
        assert_eq!(rotation.turn(due, behind), Some(FIRST + 1), "rank {rank}");
        rotation.hear(due, secret(FIRST + 1, 1));
        assert_eq!(rotation.turn(due, behind), None);
    }
}

#[test]
fn who_has_just_come_makes_no_second_next_secret() {
    let late = AT + SPAN * 3 / 4;
    let mut rotation = empty();
    rotation.hear(late, secret(FIRST, 1));
    assert_eq!(rotation.turn(late, first), None);
    assert_eq!(rotation.turn(late + 10 * SECOND - 1, first), None);
    assert_eq!(rotation.turn(late + 10 * SECOND, first), Some(FIRST + 1));
    // Nor do all of a cluster that has just come make one each.
    let second = |_| Standing::Behind(1);
    assert_eq!(rotation.turn(late + 10 * SECOND, second), None);
    assert_eq!(rotation.turn(late + 10 * SECOND + SPAN / 72, second), Some(FIRST + 1));
}

#[test]
fn a_smaller_name_seals_only_when_all_had_the_time_to_hear_of_it() {
    let [small, large] = pair(FIRST);
    let mut rotation = empty();
    rotation.hear(AT, large.clone());
    rotation.turn(AT, first);
    assert_eq!(rotation.set(true).sealing, Some(large.id));
    let heard = AT + 60 * SECOND;
    rotation.hear(heard, small.clone());
    for (at, seals) in [(0, &large), (9, &large), (10, &small), (1000, &small)] {
        rotation.turn(heard + at * SECOND, first);
        assert_eq!(rotation.set(true).sealing, Some(seals.id), "after {at} s");
    }
    // The other order: there is nothing to change.
    let mut rotation = empty();
    rotation.hear(AT, small.clone());
    rotation.turn(AT, first);
    rotation.hear(heard, large);
    rotation.turn(heard + SPAN / 4, first);
    let set = rotation.set(true);
    assert_eq!((set.sealing, set.since_ms, set.secrets.len()), (Some(small.id), AT, 2));
}

#[test]
fn what_is_known_ahead_seals_from_the_first_moment_of_its_epoch() {
    let mut rotation = empty();
    rotation.hear(AT, secret(FIRST, 1));
    let [small, large] = pair(FIRST + 1);
    rotation.hear(AT + SPAN / 2, large);
    rotation.hear(AT + SPAN / 2, small.clone());
    rotation.turn(AT + SPAN - 1, first);
    assert_eq!(rotation.set(true).sealing, Some(secret(FIRST, 1).id));
    rotation.turn(AT + SPAN, first);
    assert_eq!(rotation.set(true).sealing, Some(small.id));
    // The one before opens for an epoch, and is then forgotten.
    assert_eq!(rotation.of(FIRST).count(), 1);
    rotation.turn(AT + 2 * SPAN, first);
    assert_eq!(rotation.of(FIRST).count(), 0);
}

#[test]
fn without_a_next_one_the_last_one_goes_on_until_there_is() {
    let mut rotation = empty();
    rotation.hear(AT, secret(FIRST, 1));
    rotation.turn(AT, first);
    let over = AT + SPAN;
    assert_eq!(rotation.turn(over, first), None);
    assert_eq!(rotation.set(true).sealing, Some(secret(FIRST, 1).id));
    assert_eq!(rotation.turn(over + 3 * SECOND, first), Some(FIRST + 1));
}

#[test]
fn only_secrets_of_three_epochs_are_taken_and_the_smallest_names_of_each() {
    let mut rotation = empty();
    assert_eq!(rotation.hear(AT, secret(FIRST + 2, 1)), Heard::TooEarly);
    assert_eq!(rotation.hear(AT, secret(u64::MAX, 1)), Heard::TooEarly);
    assert_eq!(rotation.hear(AT, secret(FIRST - 2, 1)), Heard::Nothing);
    assert_eq!(rotation.hear(AT, secret(FIRST - 1, 1)), Heard::New);
    assert_eq!(rotation.hear(AT, secret(FIRST - 1, 1)), Heard::Nothing, "twice");
    let mut other = empty();
    (0..100).for_each(|n| assert_ne!(rotation.hear(AT, secret(FIRST, n)), Heard::TooEarly));
    (0..100).rev().for_each(|n| assert_ne!(other.hear(AT, secret(FIRST, n)), Heard::TooEarly));
    assert_eq!(rotation.of(FIRST).count(), MOST_PER_EPOCH);
    // Whatever the order, all nodes keep the same.
    assert_eq!(rotation.sum(FIRST), other.sum(FIRST));
    assert!(rotation.of(FIRST).eq(other.of(FIRST)));
}

#[test]
fn a_clock_that_jumps_forgets_and_begins_anew() {
    let mut rotation = empty();
    rotation.hear(AT, secret(FIRST, 1));
    rotation.turn(AT, first);
    for there in [AT + 10 * SPAN, AT] {
        assert_eq!(rotation.turn(there, |_| Standing::Alone), Some(there / SPAN));
        assert_eq!(rotation.set(true).sealing, None);
        rotation.hear(there, secret(there / SPAN, 1));
        assert_eq!(rotation.turn(there, first), None);
    }
    assert_eq!(empty().turn(0, |_| Standing::Alone), Some(0));
    empty().turn(u64::MAX, |_| Standing::Alone);
}

#[test]
fn a_new_life_of_the_agent_goes_on_with_what_was_in_use() {
    let [small, large] = pair(FIRST);
    let mut rotation = empty();
    rotation.hear(AT, large.clone());
    rotation.turn(AT, first);
    rotation.hear(AT, small);
    let mut next = Rotation::new(AT + SECOND, TICKET_LIFETIME, &rotation.set(true));
    assert_eq!(next.turn(AT + SECOND, first), None);
    let set = next.set(true);
    assert_eq!((set.sealing, set.since_ms, set.secrets.len()), (Some(large.id), AT, 2));
}

#[test]
fn every_node_is_first_in_its_turn_and_all_agree() {
    let nodes: Vec<NodeId> = (1..=5).map(NodeId).collect();
    let mut firsts = [0; 5];
    for epoch in 0..1000 {
        let ranks = nodes.iter().map(|own| rank(epoch, *own, nodes.iter().copied()));
        let mut ranks: Vec<u32> = ranks.collect();
        firsts[ranks.iter().position(|rank| *rank == 0).unwrap()] += 1;
        ranks.sort_unstable();
        assert_eq!(ranks, [0, 1, 2, 3, 4]);
    }
    assert!(firsts.iter().all(|count| (150..250).contains(count)), "{firsts:?}");
}
