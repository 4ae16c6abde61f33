use rand::SeedableRng;

use super::*;
use crate::base::time::now;
use crate::base::{BootId, NodeId};

const UNIX_MS: u64 = 1_800_000_000_000;

fn identity(node: u64) -> Identity {
    let actor = Actor { node: NodeId(node), boot: BootId::new(node) };
    let address = ([10, 0, 0, node as u8], 9090).into();
    Identity { actor, address, generation: UNIX_MS }
}

fn driver(node: u64) -> Driver {
    Driver::new(identity(node), Profile::Lan, StdRng::seed_from_u64(node))
}

fn member(node: u64, incarnation: u16, state: State) -> Member<Identity> {
    Member::new(identity(node), incarnation, state)
}

fn state(driver: &Driver, node: u64) -> State {
    let found = driver.membership().find(|member| *member.id() == identity(node));
    found.expect("it is known").state()
}

/// A driver that knows 2 and 3, and whose probes of 2 fail. Every other peer's acks are missing as
/// well, so the clock only goes as far as the first suspicion.
fn suspecting(start: Instant) -> (Driver, Instant) {
    let mut driver = driver(1);
    driver.take_over(start, UNIX_MS, vec![member(2, 0, State::Alive)]);
    let mut at = start;
    while state(&driver, 2) == State::Alive {
        at = driver.due().expect("probes go on");
        driver.run(at);
        assert!(at < start + Duration::from_secs(5));
    }
    (driver, at)
}

/// Runs the timers until `until`, as they come due.
fn run(driver: &mut Driver, until: Instant) {
    while let Some(due) = driver.due().filter(|due| *due <= until) {
        driver.run(due);
    }
}

#[test]
fn a_suspect_that_stays_silent_is_declared_dead() {
    let (mut driver, suspected) = suspecting(now());
    run(&mut driver, suspected + Profile::Lan.suspect());
    assert_eq!(state(&driver, 2), State::Down);
}

#[test]
fn a_suspect_is_told_twice_before_its_time_is_up() {
    let (mut driver, suspected) = suspecting(now());
    let told = |driver: &mut Driver, at: Duration| {
        run(driver, suspected + at);
        driver.take_doubted().len()
    };
    let time = Profile::Lan.suspect();
    assert_eq!(told(&mut driver, time / 3), 0);
    assert_eq!(told(&mut driver, time * 2 / 3), 1);
    driver.take_over(suspected + time * 2 / 3, UNIX_MS, vec![member(2, 1, State::Alive)]);
    assert_eq!(told(&mut driver, time), 0, "who has refuted is left in peace");
}

/// foca compares only incarnations when the timer fires: one that was suspected, refuted, and then
/// spoke under the same incarnation is told that it is dead.
#[test]
fn a_suspicion_that_was_refuted_does_no_harm() {
    let (mut driver, suspected) = suspecting(now());
    let later = suspected + Duration::from_millis(100);
    driver.take_over(later, UNIX_MS, vec![member(2, 1, State::Alive)]);
    assert_eq!(state(&driver, 2), State::Alive);
    driver.take_sends();
    run(&mut driver, suspected + Profile::Lan.suspect());
    assert_ne!(state(&driver, 2), State::Down);
    let told_dead = driver.take_sends().into_iter().any(|(to, bytes)| {
        let mut codec = SwimCodec(Arc::clone(&driver.observed));
        let header = foca::Codec::decode_header(&mut codec, &bytes[..]).unwrap();
        to == identity(2) && matches!(header.message, Message::TurnUndead)
    });
    assert!(!told_dead, "a healthy node would take a new generation for nothing");
}

#[test]
fn updates_are_sent_often_enough_to_reach_everybody() {
    let sent = [1, 3, 10, 100, 1000, 4096].map(|nodes| transmissions(nodes).get());
    assert_eq!(sent, [10, 10, 10, 12, 16, 16]);
    let mut driver = driver(1);
    let many = (2..=150).map(|node| {
        let address = ([10, 0, 1, node as u8], 9090).into();
        Member::new(Identity { address, ..identity(node) }, 0, State::Alive)
    });
    driver.take_over(now(), UNIX_MS, many.collect());
    assert_eq!(driver.config.max_transmissions.get(), 12);
}

#[test]
fn in_doubt_of_itself_a_node_waits_and_tells_its_suspect() {
    let (mut driver, suspected) = suspecting(now());
    driver.score.stalled(Duration::from_secs(2));
    run(&mut driver, suspected + Profile::Lan.suspect() + Duration::from_secs(1));
    assert_eq!(state(&driver, 2), State::Suspect);
    assert!(driver.take_doubted().contains(&member(2, 0, State::Suspect)));
    run(&mut driver, suspected + Profile::Lan.patience() + ASK_AGAIN);
    assert_eq!(state(&driver, 2), State::Down);
}

#[test]
fn a_stall_of_our_own_accuses_nobody() {
    let start = now();
    let mut driver = driver(1);
    driver.take_over(start, UNIX_MS, vec![member(2, 0, State::Alive), member(3, 0, State::Alive)]);
    driver.run(start + Duration::from_secs(60));
    assert_eq!((state(&driver, 2), state(&driver, 3)), (State::Alive, State::Alive));
    assert!(driver.score.points() > 0);
    assert!(driver.due() >= Some(start + Duration::from_secs(60)));
}

#[test]
fn a_message_under_another_senders_name_is_refused() {
    let start = now();
    let (mut one, mut other) = (driver(1), driver(2));
    other.take_over(start, UNIX_MS, vec![member(1, 0, State::Alive)]);
    other.gossip(start);
    let sends = other.take_sends();
    let (_, bytes) = sends.first().expect("something to say");
    let actor = identity(2).actor;
    assert_eq!(one.hear(start, UNIX_MS, identity(3).actor, bytes), Err(Reason::Undecodable));
    assert_eq!(one.active(), 0);
    assert_eq!(one.hear(start, UNIX_MS, actor, bytes), Ok(()));
    assert_eq!(one.active(), 1);
}

#[test]
fn a_sender_that_knows_a_former_generation_is_shown_the_present_one() {
    let start = now();
    let (mut one, mut other) = (driver(1), driver(2));
    other.take_over(start, UNIX_MS, vec![member(1, 0, State::Alive)]);
    one.take_over(start, UNIX_MS, vec![member(2, 0, State::Alive)]);
    let renewed = Identity { generation: UNIX_MS + 5, ..identity(1) };
    one.become_known_as(start, renewed);
    one.take_sends();
    other.gossip(start);
    let (_, bytes) = other.take_sends().remove(0);
    one.hear(start, UNIX_MS, identity(2).actor, &bytes).unwrap();
    let (to, answer) = one.take_sends().remove(0);
    assert_eq!(to, identity(2));
    other.hear(start, UNIX_MS, identity(1).actor, &answer).unwrap();
    assert!(other.membership().any(|member| *member.id() == renewed));
}

#[test]
fn members_are_bounded() {
    let start = now();
    let mut driver = driver(1);
    let many = |from: u64| -> Vec<Member<Identity>> {
        let member = |node: u64| {
            let address = ([10, 1, (node >> 8) as u8, node as u8], 9090).into();
            Member::new(Identity { address, ..identity(node) }, 0, State::Alive)
        };
        (from..from + 2500).map(member).collect()
    };
    driver.take_over(start, UNIX_MS, many(10));
    driver.take_over(start, UNIX_MS, many(5000));
    assert_eq!(driver.membership().len(), MOST_MEMBERS);
}
