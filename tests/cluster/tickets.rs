//! Secrets of session tickets on the simulated fabric: one seals everywhere, none is used before the
//! others have it, and none goes anywhere in plaintext.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate::base::{Actor, BootId, Endpoint, NodeId};
use tidegate::cluster::Keys;
use tidegate::cluster::machine::{Input, StreamEvent};
use tidegate::cluster::wire::records::{Record, TicketRow, TicketsBeat};
use tidegate::cluster::wire::stream::{Greeting, lanes};
use tidegate::cluster::wire::{Cover, Envelope, Kind, Seal};
use tidegate::net::tls::{TICKET_LIFETIME, TicketSecret, TicketSet};

use crate::fabric::{BAD, EPOCH_MS, Fabric, LAN, Links};
use crate::loopback::{Node, eventually, no_dns, plan, start};
use crate::malformed;
use crate::support::ring;

const SECOND: Duration = Duration::from_secs(1);
/// Shorter than it really is, so that whole epochs fit a test.
const SPAN: Duration = Duration::from_secs(600);

fn set(fabric: &Fabric, node: usize) -> std::sync::Arc<TicketSet> {
    fabric.hosts[node].tickets.current()
}

fn sealing(fabric: &Fabric, node: usize) -> Option<[u8; 16]> {
    set(fabric, node).sealing
}

fn knows(fabric: &Fabric, node: usize, id: [u8; 16]) -> bool {
    set(fabric, node).secrets.iter().any(|secret| secret.id == id)
}

fn one_seals(fabric: &Fabric) -> bool {
    let living = fabric.living();
    let first = sealing(fabric, living[0]);
    first.is_some() && living.iter().all(|node| sealing(fabric, *node) == first)
}

fn all_know_the_same(fabric: &Fabric) -> bool {
    let living = fabric.living();
    let first = set(fabric, living[0]);
    living.iter().all(|node| set(fabric, *node).secrets == first.secrets)
}

fn minted(fabric: &Fabric) -> u64 {
    fabric.hosts.iter().map(|host| host.minted.load(Ordering::Relaxed)).sum()
}

fn dropped(fabric: &Fabric, host: usize, reason: &str) -> u64 {
    malformed::dropped(&fabric.machine(host).figures(), reason)
}

fn sent(fabric: &Fabric) -> u64 {
    let of = |node: &usize| fabric.machine(*node).traffic().sent_of(Kind::Tickets).1;
    fabric.living().iter().map(of).sum()
}

/// A cluster whose epochs are short; gossip is sealed, whatever the rest of the suite does.
fn cluster(seed: u64, links: Links, nodes: usize) -> Fabric {
    let mut fabric = Fabric::new(seed, links);
    fabric.keys = Some(ring(&[1]));
    fabric.ticket_span = SPAN;
    fabric.grown(nodes)
}

/// Lets time go by; at every moment, what anybody seals by was known to all for `ahead`.
fn run_known_ahead(fabric: &mut Fabric, time: Duration, ahead: Duration) {
    let until = fabric.now + time;
    let mut known_since = std::collections::HashMap::new();
    for node in fabric.living() {
        for secret in &set(fabric, node).secrets {
            known_since.insert((node, secret.id), fabric.now - ahead);
        }
    }
    while fabric.now < until {
        fabric.run(Duration::from_millis(500));
        let living = fabric.living();
        for &node in &living {
            for secret in &set(fabric, node).secrets {
                known_since.entry((node, secret.id)).or_insert(fabric.now);
            }
        }
        for &node in &living {
            let id = sealing(fabric, node).expect("one seals");
            for &other in &living {
                assert!(knows(fabric, other, id), "{node} seals by what {other} does not know");
                let since = known_since[&(other, id)];
                assert!(
                    fabric.now - since >= ahead,
                    "{other} knows it for {:?}",
                    fabric.now - since
                );
            }
        }
    }
}

#[test]
fn a_cluster_comes_to_one_secret_soon() {
    for (links, name) in [(LAN, "no loss"), (BAD, "5 % loss")] {
        for nodes in [1, 3, 10, 30] {
            let mut fabric = cluster(170, links, nodes);
            let took = fabric.until("one secret seals", 15 * SECOND, one_seals);
            println!("{nodes} nodes, {name}: one secret seals {took:?} after they met");
            fabric.run(30 * SECOND);
            assert!(one_seals(&fabric) && all_know_the_same(&fabric));
            assert_eq!(minted(&fabric), 1, "{nodes} nodes");
            assert!(set(&fabric, 0).shared);
        }
    }
}

#[test]
fn one_secret_an_epoch_and_all_know_it_long_before_it_seals() {
    for (links, nodes) in [(LAN, 3), (BAD, 3), (BAD, 5)] {
        let mut fabric = cluster(171, links, nodes);
        fabric.until("one secret seals", 15 * SECOND, one_seals);
        fabric.run(20 * SECOND);
        let (first, before) = (sealing(&fabric, 0), minted(&fabric));
        assert_eq!(before, 1);
        run_known_ahead(&mut fabric, 3 * SPAN, 10 * SECOND);
        // The present one's and three more, and half of the time one ahead.
        let more = minted(&fabric) - before;
        assert!((3..=4).contains(&more), "{more}");
        assert!(sealing(&fabric, 0) != first && !knows(&fabric, 1, first.unwrap()));
        assert!(set(&fabric, 0).secrets.len() <= 3);
    }
}

#[test]
fn a_secret_outlives_who_made_it() {
    let mut fabric = cluster(172, BAD, 3);
    fabric.until("one secret seals", 15 * SECOND, one_seals);
    let minter = (0..3).find(|node| fabric.hosts[*node].minted.load(Ordering::Relaxed) > 0);
    let minter = minter.unwrap();
    let id = sealing(&fabric, minter).unwrap();
    fabric.kill(minter);
    fabric.run(60 * SECOND);
    for node in fabric.living() {
        assert_eq!(sealing(&fabric, node), Some(id));
    }
    // It comes back with nothing, and learns it.
    fabric.start(minter);
    fabric.until("it seals as the others do", 4 * SECOND, one_seals);
    assert_eq!((sealing(&fabric, minter), minted(&fabric)), (Some(id), 1));
}

#[test]
fn who_would_be_next_dies_and_the_next_one_is_made_all_the_same() {
    let mut fabric = cluster(173, LAN, 3);
    fabric.until("one secret seals", 15 * SECOND, one_seals);
    // Whoever makes the next one is dead before anybody hears of it.
    let before = minted(&fabric);
    fabric.mute = vec![Kind::Tickets, Kind::Sync];
    fabric.until("a next one is made", SPAN, |fabric| minted(fabric) > before);
    let secrets = |node: &usize| set(&fabric, *node).secrets.len();
    let maker = fabric.living().into_iter().max_by_key(secrets).unwrap();
    fabric.kill(maker);
    fabric.mute.clear();
    fabric.until("another one is made", 60 * SECOND, |fabric| minted(fabric) > before + 1);
    run_known_ahead(&mut fabric, SPAN, 10 * SECOND);
}

#[test]
fn a_newcomer_learns_all_secrets_before_it_would_make_its_own() {
    for mute in [vec![], vec![Kind::Sync], vec![Kind::Tickets]] {
        let mut fabric = cluster(174, LAN, 3);
        fabric.until("one secret seals", 15 * SECOND, one_seals);
        fabric.until("three are known", 3 * SPAN, |f| set(f, 0).secrets.len() == 3);
        fabric.run(SECOND);
        assert!(all_know_the_same(&fabric));
        let before = minted(&fabric);
        fabric.mute = mute.clone();
        let newcomer = fabric.host();
        fabric.start(newcomer);
        let took = fabric.until("it knows all", 3 * SECOND, all_know_the_same);
        println!("without {mute:?}: it knows all after {took:?}");
        fabric.until("it seals as the others do", SECOND, one_seals);
        fabric.run(30 * SECOND);
        assert_eq!(minted(&fabric), before);
    }
}

#[test]
fn a_cut_cluster_goes_on_and_comes_to_one_secret_again() {
    for nodes in [3, 10] {
        let mut fabric = cluster(175, BAD, nodes);
        fabric.until("one secret seals", 15 * SECOND, one_seals);
        let all: Vec<usize> = (0..nodes).collect();
        let (one, other) = all.split_at(nodes / 3);
        fabric.split(one, other);
        // Both sides go on into an epoch that they have no common secret of.
        fabric.run(2 * SPAN);
        let [here, there] = [one[0], other[0]].map(|node| sealing(&fabric, node).unwrap());
        assert_ne!(here, there);
        fabric.heal();
        fabric.until("they see each other", 30 * SECOND, Fabric::one_view);
        let took = fabric.until("all know the same", 45 * SECOND, all_know_the_same);
        println!("{nodes} nodes: all know the same {took:?} after the heal was seen");
        assert!(all.iter().all(|node| knows(&fabric, *node, here) && knows(&fabric, *node, there)));
        fabric.until("one secret seals", 15 * SECOND, one_seals);
        run_known_ahead(&mut fabric, SPAN, 10 * SECOND);
    }
}

#[test]
fn clocks_two_minutes_apart_do_no_harm() {
    // Half an epoch, and its end, each a hundred seconds after the start, by a good clock.
    let span = TICKET_LIFETIME.as_millis() as u64;
    for (to, expected) in [(span / 2, 2), (span, 2)] {
        let mut fabric = Fabric::new(176, BAD);
        fabric.keys = Some(ring(&[1]));
        let ahead = (to + span - EPOCH_MS % span) % span;
        for (node, off) in [0, 120_000, -120_000].into_iter().enumerate() {
            fabric.host();
            fabric.hosts[node].clock_off_ms = ahead as i64 - 400_000 + off;
        }
        (0..3).for_each(|node| fabric.start(node));
        fabric.until("one secret seals", 15 * SECOND, one_seals);
        fabric.run(30 * SECOND);
        run_known_ahead(&mut fabric, 900 * SECOND, 10 * SECOND);
        assert!(one_seals(&fabric) && all_know_the_same(&fabric));
        assert_eq!(minted(&fabric), expected, "{to}");
        let bytes = sent(&fabric);
        assert!(bytes < 3 * 900 * 10, "{bytes} bytes: they argue about epochs");
    }
}

#[test]
fn in_plaintext_each_has_its_own_and_none_is_sent() {
    let mut fabric = Fabric::new(177, LAN);
    fabric.keys = None;
    fabric.ticket_span = SPAN;
    let mut fabric = fabric.grown(3);
    fabric.written = Some(Vec::new());
    fabric.recorded = Some(Vec::new());
    fabric.run(2 * SPAN);
    let ids: std::collections::HashSet<_> = (0..3).map(|node| sealing(&fabric, node)).collect();
    assert!(ids.len() == 3 && !ids.contains(&None), "each seals by its own");
    assert_eq!(sent(&fabric), 0);
    let said: Vec<Vec<u8>> = fabric.recorded.take().unwrap().into_iter().map(|r| r.bytes).collect();
    let written = fabric.written.take().unwrap().into_iter().map(|(_, bytes)| bytes);
    let said: Vec<Vec<u8>> = said.into_iter().chain(written).collect();
    for node in 0..3 {
        assert!(!set(&fabric, node).shared);
        for TicketSecret { secret, .. } in &set(&fabric, node).secrets {
            let told = said.iter().any(|bytes| bytes.windows(32).any(|part| part == secret));
            assert!(!told, "a secret in plaintext");
        }
    }
}

fn row(epoch: u64, number: u8) -> Vec<u8> {
    Record::Ticket(TicketRow { epoch, secret: [number; 32] }).bytes()
}

fn epoch(fabric: &Fabric) -> u64 {
    let gone = (fabric.now - fabric.began).as_millis() as u64;
    (EPOCH_MS + gone) / fabric.ticket_span.as_millis() as u64
}

#[test]
fn a_secret_in_plaintext_is_dropped_and_counted() {
    // One hears nothing but plaintext, the other plaintext as well.
    for keys in [None, Some(ring(&[1]))] {
        let mut fabric = Fabric::new(178, LAN);
        fabric.keys = keys;
        fabric.plaintext_until = u64::MAX;
        let mut fabric = fabric.grown(1);
        // A member that speaks plaintext.
        fabric.keys = None;
        let peer = fabric.host();
        fabric.start(peer);
        fabric.until("they see each other", 10 * SECOND, Fabric::one_view);
        fabric.run(10 * SECOND);
        let before = set(&fabric, 0);
        let sender = fabric.machine(peer).identity().actor;
        let to = fabric.machine(0).identity().actor.node;
        let epoch = EPOCH_MS / TICKET_LIFETIME.as_millis() as u64;
        let from = fabric.hosts[peer].source;
        let forged = row(epoch, 9);
        for (kind, reason) in [(Kind::Tickets, "plaintext"), (Kind::Acts, "undecodable")] {
            let count = dropped(&fabric, 0, reason);
            let bytes = Envelope::new("sim", sender).seal(kind, Some(to), &forged);
            fabric.input(0, Input::Datagram { from, bytes: &bytes });
            assert_eq!(dropped(&fabric, 0, reason), count + 1);
        }
        // Nor over a stream.
        let own = Greeting { key: 0, actor: sender, nonce: [9; 16] };
        fabric.written = Some(Vec::new());
        let stream = fabric.call(0, &own.bytes());
        let (_, answer) = fabric.written.take().unwrap().remove(0);
        let theirs = Greeting::read(&answer).unwrap().unwrap();
        let [mut lane, _] = lanes(None, "sim", &own, &theirs);
        let mut bytes = Vec::new();
        lane.put(false, &forged, &mut bytes);
        let count = dropped(&fabric, 0, "plaintext");
        fabric.input(0, Input::Stream { stream, event: StreamEvent::Bytes(&bytes) });
        assert_eq!(dropped(&fabric, 0, "plaintext"), count + 1);
        fabric.run(SECOND);
        assert_eq!(*set(&fabric, 0), *before);
        assert_eq!(sent(&fabric), 0, "nothing for who has not shown a key");
    }
}

/// Says `payload` to host 0 as its member `as_host`, under the cluster's key.
fn say(fabric: &mut Fabric, as_host: usize, counter: u64, payload: &[u8]) {
    let sender = fabric.machine(as_host).identity().actor;
    say_as(fabric, sender, as_host, counter, payload);
}

fn say_as(fabric: &mut Fabric, sender: Actor, from: usize, counter: u64, payload: &[u8]) {
    let ring = ring(&[1]);
    let seal = Seal::new(ring.first(), &ring.first().root(), "sim", sender);
    let to = Some(fabric.machine(0).identity().actor.node);
    let cover = Cover { kind: Kind::Tickets, to, counter, answer: None };
    let bytes = seal.datagram(cover, payload).unwrap();
    let from = fabric.hosts[from].source;
    fabric.input(0, Input::Datagram { from, bytes: &bytes });
}

#[test]
fn secrets_of_other_epochs_too_many_and_of_strangers_are_not_taken() {
    let mut fabric = cluster(179, LAN, 2);
    fabric.until("one secret seals", 15 * SECOND, one_seals);
    fabric.run(15 * SECOND);
    let (now, before) = (epoch(&fabric), set(&fabric, 0));
    let far = 1 << 30;
    say(&mut fabric, 1, far, &row(now + 2, 9));
    say(&mut fabric, 1, far + 1, &row(u64::MAX, 9));
    assert_eq!(dropped(&fabric, 0, "future_generation"), 2);
    say(&mut fabric, 1, far + 2, &row(now - 2, 9));
    let mut cut = row(now, 9);
    cut.pop();
    say(&mut fabric, 1, far + 3, &cut);
    let short = [71, 0, 10, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    say(&mut fabric, 1, far + 4, &short);
    assert_eq!(dropped(&fabric, 0, "undecodable"), 2);
    // A ban is nothing that this kind carries.
    say(&mut fabric, 1, far + 5, &Record::AskMeta.bytes());
    assert_eq!(dropped(&fabric, 0, "undecodable"), 3);
    let beat = TicketsBeat { epoch: u64::MAX, sums: [1; 3], answer: false };
    say(&mut fabric, 1, far + 6, &Record::TicketsBeat(beat).bytes());
    let two = [Record::TicketsBeat(beat).bytes(), Record::TicketsBeat(beat).bytes()].concat();
    say(&mut fabric, 1, far + 7, &two);
    assert_eq!(dropped(&fabric, 0, "undecodable"), 4);
    // Whoever holds the key, but is no member or has not answered a challenge.
    let stranger = Actor { node: NodeId(77), boot: BootId::new(77) };
    say_as(&mut fabric, stranger, 1, 1, &row(now, 9));
    assert_eq!(*set(&fabric, 0), *before);

    // A member may tell many; they are bounded.
    for number in 0..200u8 {
        say(&mut fabric, 1, far + 100 + u64::from(number), &row(now, number));
    }
    fabric.run(SECOND);
    assert_eq!(set(&fabric, 0).secrets.iter().filter(|secret| secret.epoch == now).count(), 32);
    // Whoever hears all of them keeps the same.
    fabric.kill(1);
    fabric.start(1);
    fabric.until("all know the same", 60 * SECOND, all_know_the_same);
    fabric.until("one secret seals", 15 * SECOND, one_seals);
}

/// Real nodes: what one sealed, another opens, even when the first is dead; and no disk has a secret.
#[test]
fn a_ticket_of_one_real_node_opens_on_another_and_no_secret_is_on_disk() {
    let home = tempfile::tempdir().unwrap();
    let mut nodes: Vec<Node> = Vec::new();
    for name in ["n1", "n2", "n3"] {
        let seed = nodes.first().map(|first| Endpoint::from(first.cluster.address().0));
        let mut plan = plan(name, "127.0.0.1:0", seed.as_slice());
        plan.keys = Some(Keys { file: home.path().join("keys"), ring: ring(&[1]) });
        plan.state_dir = Some(home.path().join(name));
        nodes.push(start(plan, no_dns()));
    }
    let took = eventually("one secret seals everywhere", Duration::from_secs(20), || {
        let seals: Vec<_> = nodes.iter().map(|node| node.tickets.current().sealing).collect();
        seals[0].is_some() && seals.iter().all(|id| *id == seals[0])
    });
    println!("one secret seals after {took:?}");
    eventually("states are written", Duration::from_secs(10), || {
        nodes.iter().all(|node| node.cluster.figures().state_writes.0 > 0)
    });
    let ticket = nodes[0].tickets.ticketer(b"web").encrypt(b"a session").unwrap();
    let secrets = nodes[0].tickets.current().secrets.clone();
    drop(nodes.remove(0));
    for node in &nodes {
        let opened = node.tickets.ticketer(b"web").decrypt(&ticket);
        assert_eq!(opened.as_deref(), Some(&b"a session"[..]));
        assert_eq!(node.tickets.ticketer(b"other").decrypt(&ticket), None);
    }
    drop(nodes);
    let mut files = 0;
    for name in ["n1", "n2", "n3"] {
        for file in std::fs::read_dir(home.path().join(name)).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            files += usize::from(!bytes.is_empty());
            let text = String::from_utf8_lossy(&bytes).replace([' ', '\n'], "");
            for secret in &secrets {
                let hex = tidegate::base::hex(&secret.secret);
                let list = format!("{:?}", secret.secret).replace(' ', "");
                let list = list.trim_matches(['[', ']']);
                let raw = bytes.windows(32).any(|part| part == secret.secret);
                assert!(!raw && !text.contains(&hex) && !text.contains(list), "{name}: a secret");
            }
        }
    }
    assert!(files >= 3, "where are the states?");
}

#[test]
fn at_rest_secrets_cost_little() {
    for nodes in [3, 10] {
        let mut fabric = cluster(180, LAN, nodes);
        fabric.ticket_span = TICKET_LIFETIME;
        fabric.run(60 * SECOND);
        let before = sent(&fabric);
        fabric.run(200 * SECOND);
        let rate = (sent(&fabric) - before) as f64 / 200.0 / nodes as f64;
        println!("{nodes} nodes: {rate:.1} bytes about secrets a second and node");
        assert!(rate > 0.5 && rate < 5.0, "{rate}");
    }
}
