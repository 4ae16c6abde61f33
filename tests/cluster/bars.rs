//! The bars of a limit over the cluster, in virtual time with the real limiter and the real gossip:
//! each test holds some of them with three and ten nodes, and fails when one breaks. The whole table,
//! with more nodes, other intervals and bad links, is written to `docs/limits.md` by
//! `cargo test --profile sim --test cluster -- --ignored the_table_of_bars`.

use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::time::Duration;

use tidegate::cluster::Profile;
use tidegate::cluster::exchange::INTERVAL;
use tidegate::traffic::{Algorithm, Sharing};

use crate::crowd;
use crate::fabric::{BAD, LAN, Links};
use crate::scenarios::{Pattern, Place};
use crate::world::{BURST, RATE};

/// 50 ms from node to node and back, and every fiftieth datagram is lost.
const FAR: Links = Links {
    loss: 0.02,
    twice: 0.001,
    latency: Duration::from_millis(24),
    jitter: Duration::from_millis(2),
};

fn lan(nodes: usize) -> Place {
    Place { nodes, links: LAN, interval: INTERVAL, profile: Profile::Lan, seed: 1 }
}

fn bad(nodes: usize) -> Place {
    Place { links: BAD, ..lan(nodes) }
}

#[track_caller]
fn at_most(what: &str, found: f64, most: f64) {
    println!("{what}: {:+.2} % (at most {:+.2} %)", found * 100.0, most * 100.0);
    assert!(found <= most, "{what}: {found} is above {most}");
}

#[test]
fn steady_overload_admits_the_limit() {
    for (place, most) in [(lan(3), 0.01), (lan(10), 0.01), (bad(3), 0.02), (bad(10), 0.02)] {
        let (share, tally) = place.steady();
        at_most(&format!("{} nodes steady", place.nodes), (share - 1.0).abs(), most);
        assert!(tally.jain() >= 0.95, "fairness {}", tally.jain());
    }
}

#[test]
fn no_pattern_of_demand_admits_much_more_than_the_limit() {
    for place in [lan(3), lan(10)] {
        for pattern in Pattern::ALL {
            let ((one, ten), tally) = place.overload(pattern);
            let what = format!("{} nodes, {}", place.nodes, pattern.name());
            let most = if pattern == Pattern::Skew { 0.15 } else { 0.08 };
            at_most(&format!("{what}, worst second"), one, most);
            at_most(&format!("{what}, worst ten"), ten, 0.02);
            if matches!(pattern, Pattern::Even | Pattern::Skew) {
                assert!(tally.jain() >= 0.95, "{what}: fairness {}", tally.jain());
            }
        }
    }
}

#[test]
fn a_flash_crowd_is_held() {
    for place in [lan(3), lan(10)] {
        for (times, most) in [(10.0, 0.10), (100.0, 0.20)] {
            let (one, ten) = place.flash(times);
            let what = format!("{} nodes, {times} times at once", place.nodes);
            at_most(&format!("{what}, worst second"), one, most);
            at_most(&format!("{what}, worst ten"), ten, 0.02);
        }
    }
}

#[test]
fn demand_below_the_limit_is_never_refused() {
    for place in [lan(3), lan(10)] {
        for pattern in Pattern::ALL {
            let tally = place.below(pattern);
            assert!(tally.asked > 4000);
            assert_eq!(tally.refused, 0, "{} nodes, {}", place.nodes, pattern.name());
        }
        let tally = place.bursts();
        assert_eq!((tally.asked, tally.refused), (2000, 0), "bursts over {} nodes", place.nodes);
    }
}

#[test]
fn the_bars_hold_for_any_interval_of_reports() {
    for interval in [100, 500, 1000].map(Duration::from_millis) {
        let place = Place { interval, ..lan(10) };
        let (share, _) = place.steady();
        at_most(&format!("{interval:?} steady"), (share - 1.0).abs(), 0.01);
        let ((one, ten), _) = place.overload(Pattern::Even);
        at_most(&format!("{interval:?} worst second"), one, 0.08);
        at_most(&format!("{interval:?} worst ten"), ten, 0.02);
        let (one, _) = place.flash(10.0);
        at_most(&format!("{interval:?} flash"), one, 0.10);
        assert_eq!(place.below(Pattern::Skew).refused, 0, "{interval:?}");
    }
}

#[test]
fn a_healed_partition_refuses_nobody_falsely_and_converges() {
    for place in [lan(3), lan(10)] {
        let (apart, healed, _) = place.partition(0.8, Sharing::default());
        at_most("refused while apart", apart.falsely_refused(), 0.0);
        at_most("refused after it healed", healed.falsely_refused(), 0.001);
        let took = place.converged();
        println!("{} nodes converged {took:?} after the heal", place.nodes);
        assert!(took <= Duration::from_millis(2500), "{took:?}");
    }
}

#[test]
fn each_side_of_a_partition_keeps_the_limit_or_its_share_of_it() {
    for place in [lan(4), lan(10)] {
        let (apart, healed, _) = place.partition(3.0, Sharing::default());
        // Both sides, ten seconds; a burst more or less at either end of them.
        at_most("each side", apart.admitted as f64 / (20.0 * RATE) - 1.0, 0.002);
        assert!(healed.jain() >= 0.95, "fairness after the heal {}", healed.jain());
        at_most("both sides in proportion", place.proportional(), 0.35);
    }
}

#[test]
fn the_death_of_a_keys_owner_neither_opens_nor_closes_the_limit() {
    for place in [lan(3), lan(10)] {
        let ((one, ten), _) = place.owner_killed(2.0);
        at_most(&format!("{} nodes, owner killed, worst second", place.nodes), one, 0.10);
        at_most(&format!("{} nodes, owner killed, worst ten", place.nodes), ten, 0.03);
        let (_, tally) = place.owner_killed(0.8);
        at_most("refused below the limit", tally.falsely_refused(), 0.01);
    }
    // Where each node takes so little that it hardly reports, nobody is refused for what was refilled
    // long before it was told.
    assert_eq!(lan(50).owner_killed(0.8).1.refused, 0);
}

#[test]
fn an_owner_that_leaves_neither_opens_nor_closes_the_limit() {
    for place in [lan(3), lan(10)] {
        let ((one, ten), _) = place.owner_left(2.0);
        at_most(&format!("{} nodes, owner left, worst second", place.nodes), one, 0.08);
        at_most(&format!("{} nodes, owner left, worst ten", place.nodes), ten, 0.02);
        let (_, tally) = place.owner_left(0.8);
        assert_eq!(tally.falsely_refused(), 0.0, "{} nodes", place.nodes);
    }
}

#[test]
fn a_node_that_joins_late_does_not_open_the_limit() {
    for place in [lan(3), lan(10)] {
        at_most(&format!("{} nodes and one more", place.nodes), place.late_join(), 0.10);
    }
}

#[test]
fn a_fixed_window_is_one_window_over_the_cluster() {
    let limit = NonZeroU32::new(1000).expect("not zero");
    let algorithm = Algorithm::FixedWindow { limit, window: Duration::from_secs(1) };
    for place in [lan(3), lan(10)] {
        let (most, below) = place.windows(algorithm, 1000.0);
        at_most(&format!("{} nodes, fullest window", place.nodes), most, 0.08);
        assert_eq!(below.refused, 0);
    }
}

#[test]
fn a_strict_limit_is_never_passed_and_waits_for_a_round_trip() {
    for place in [lan(3), lan(10), lan(30)] {
        for (rate, burst) in [(5.0, 5.0), (1.0, 1.0), (100.0, 10.0)] {
            let ((one, ten), tally, held) = place.small(rate, burst, 5.0);
            let what = format!("{} nodes, {rate}/s, burst {burst}", place.nodes);
            println!("{what}: {one:+}, {ten:+} tokens, held {held:?}, {tally:?}");
            assert!(one <= 0.0 && ten <= 0.0, "{what}");
            let apart = tally.refused.abs_diff(tally.central_refused);
            assert!(
                apart <= 2 + tally.asked / 200,
                "{what}: {apart} decisions differ from one bucket's"
            );
            assert!(held <= Duration::from_micros(1400 + 1000), "{what}: held {held:?}");
        }
        let (_, tally, _) = place.small(20.0, 10.0, 0.7);
        assert_eq!(tally.refused, tally.central_refused, "below the limit");
    }
}

#[test]
fn a_saturated_key_costs_few_rows() {
    let rows = lan(10).rows();
    println!("{rows:.0} rows per node and second");
    assert!(rows <= 150.0, "{rows}");
}

#[test]
fn a_thousand_keys_five_times_over_stay_under_the_traffic_cap() {
    let crowd = crowd::saturated(1000, 10, 3 << 20);
    println!("{crowd:?}");
    assert!(crowd.bytes_per_second < (3 << 20) as f64 * 1.05, "{crowd:?}");
    at_most("admitted over all keys", crowd.admitted / crowd.limit - 1.0, 0.05);
}

#[test]
fn a_flood_against_a_strict_limit_drowns_neither_membership_nor_newcomers() {
    let bytes = crowd::strict_flood(30_000, 3, 1 << 20);
    println!("{:.2} MB/s", bytes / 1e6);
    assert!(bytes <= (1 << 20) as f64 * 1.25, "{bytes:.0} B/s");
}

#[test]
fn keys_far_below_their_limit_cost_next_to_nothing() {
    let bytes = crowd::quiet(100_000, 10);
    println!("{bytes:.0} B/s per node");
    assert!(bytes <= 25_000.0, "{bytes:.0} B/s per node, of 100 000 keys asked once a second");
}

#[test]
#[ignore = "writes docs/limits.md in some minutes; run it by name"]
fn the_table_of_bars() {
    let (table, broken) = table();
    println!("{table}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/limits.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let (begin, end) = ("<!-- simulated: begin -->\n", "<!-- simulated: end -->");
    let (before, rest) = page.split_once(begin).expect("where the table begins");
    let (_, after) = rest.split_once(end).expect("where the table ends");
    std::fs::write(path, format!("{before}{begin}\n{table}\n{end}{after}")).expect("written");
    assert!(broken.is_empty(), "bars are broken: {broken:#?}");
}

/// What a cell says, and whether the bar holds.
type Cell = (String, bool);

/// The table, and which bars it breaks.
fn table() -> (String, Vec<String>) {
    let far = Place { links: FAR, profile: Profile::Wan, ..lan(10) };
    let places = [lan(3), lan(10), lan(50), lan(100), bad(10), far];
    let (mut table, mut broken) = (String::new(), Vec::new());
    let _ = writeln!(
        table,
        "| what | bar | 3 nodes | 10 | 50 | 100 | 10, 5 % loss | 10, `wan`: 50 ms and 2 % loss |"
    );
    let _ = writeln!(table, "| --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut row = |what: &str, bar: &str, measure: &dyn Fn(&Place) -> Cell| {
        let cells: Vec<Cell> = places.iter().map(measure).collect();
        println!("{what}: {cells:?}");
        // Across a wide area there are none.
        let near = cells.iter().zip(&places).take(5);
        broken.extend(near.filter(|((_, holds), _)| !holds).map(|((cell, _), place)| {
            format!("{what}: {cell}, {} nodes, {} lost", place.nodes, place.links.loss)
        }));
        let cells: Vec<String> = cells.into_iter().map(|(cell, _)| cell).collect();
        let _ = writeln!(table, "| {what} | {bar} | {} |", cells.join(" | "));
    };
    let percent = |share: f64, most: f64| (format!("{:+.1} %", share * 100.0), share <= most);
    let both = |(one, ten): (f64, f64), most: (f64, f64)| {
        let cell = format!("{:+.1}, {:+.1} %", one * 100.0, ten * 100.0);
        (cell, one <= most.0 && ten <= most.1)
    };
    let lossy = |place: &Place| place.links.loss > 0.0;

    row("3x demand for 10 s, against 10 R", "±1 %, ±2 % with loss", &|place| {
        let share = place.steady().0 - 1.0;
        let most = if lossy(place) { 0.02 } else { 0.01 };
        (percent(share, most).0, share.abs() <= most)
    });
    for pattern in Pattern::ALL {
        let skew = pattern == Pattern::Skew;
        let (bar, one) = if skew { ("≤ 15, ≤ 2 %", 0.15) } else { ("≤ 8, ≤ 2 %", 0.08) };
        let what = format!("3x, {}: worst 1 s, worst 10 s", pattern.name());
        row(&what, bar, &|place| both(place.overload(pattern).0, (one, 0.02)));
    }
    row("10x from idle: worst 1 s, worst 10 s", "≤ 10, ≤ 2 %", &|place| {
        both(place.flash(10.0), (0.10, 0.02))
    });
    let bar = "≤ 20, ≤ 2 % (from 50 nodes on, or with loss, ≤ 30, ≤ 5 %)";
    row("100x from idle: worst 1 s, worst 10 s", bar, &|place| {
        let hard = place.nodes >= 50 || lossy(place);
        both(place.flash(100.0), if hard { (0.30, 0.05) } else { (0.20, 0.02) })
    });
    for pattern in Pattern::ALL {
        let what = format!("0.9x, {}: falsely refused", pattern.name());
        row(&what, "0", &|place| refused(place.below(pattern).falsely_refused(), 0.0));
    }
    row("B at once over one node: falsely refused", "0", &|place| {
        refused(place.bursts().falsely_refused(), 0.0)
    });
    row("partition at 0.8x: falsely refused after it healed", "≤ 0.1 %", &|place| {
        refused(place.partition(0.8, Sharing::default()).1.falsely_refused(), 0.001)
    });
    row("partition at 3x: one limit again after", "≤ 2.5 s", &|place| {
        let took = place.converged().as_secs_f64();
        (format!("{took:.1} s"), took <= 2.5)
    });
    row("each side of a partition (`full`), against R", "≤ R", &|place| {
        let (apart, ..) = place.partition(3.0, Sharing::default());
        percent(apart.admitted as f64 / (20.0 * RATE) - 1.0, 0.002)
    });
    row("both sides (`proportional`), 10 s against 10 R + B", "≤ +35 %", &|place| {
        percent(place.proportional(), 0.35)
    });
    row("owner killed at 2x: worst 1 s, worst 10 s", "≤ 10, ≤ 3 %", &|place| {
        both(place.owner_killed(2.0).0, (0.10, 0.03))
    });
    row("owner killed at 0.8x: falsely refused", "≤ 1 %", &|place| {
        refused(place.owner_killed(0.8).1.falsely_refused(), 0.01)
    });
    row("owner leaves at 2x: worst 1 s, worst 10 s", "≤ 8, ≤ 2 %", &|place| {
        both(place.owner_left(2.0).0, (0.08, 0.02))
    });
    row("a node joins at 3x: its first second", "≤ 10 %", &|place| {
        percent(place.late_join(), 0.10)
    });
    row("fairness between nodes, even, 90/10 skew (Jain)", "≥ 0.95", &|place| {
        let [even, skew] =
            [Pattern::Even, Pattern::Skew].map(|pattern| place.overload(pattern).1.jain());
        (format!("{even:.3}, {skew:.3}"), even >= 0.95 && skew >= 0.95)
    });
    for interval in [100, 500, 1000] {
        let what = format!("T = {interval} ms: even 3x, 10x from idle, worst 1 s");
        row(&what, "≤ 8, ≤ 10 %", &|place| {
            let place = Place { interval: Duration::from_millis(interval), ..*place };
            both((place.overload(Pattern::Even).0.0, place.flash(10.0).0), (0.08, 0.10))
        });
    }
    row("fixed window of 1000/s at 3x: fullest window", "≤ 8 %", &|place| {
        let limit = NonZeroU32::new(1000).expect("not zero");
        let window = Algorithm::FixedWindow { limit, window: Duration::from_secs(1) };
        percent(place.windows(window, 1000.0).0, 0.08)
    });
    for (rate, burst) in [(5.0, 5.0), (1.0, 1.0), (20.0, 10.0)] {
        let what = format!("{rate}/s, burst {burst}, at 5x: worst 1 s, 10 s above, in tokens");
        row(&what, "≤ 0 when strict", &|place| {
            let ((one, ten), ..) = place.small(rate, burst, 5.0);
            (format!("{one:+.0}, {ten:+.0}"), one <= 0.0 && ten <= 0.0)
        });
    }
    row("rows per node and second of a saturated key", "≤ 150", &|place| {
        let rows = place.rows();
        (format!("{rows:.0}"), rows <= 150.0)
    });
    let _ = writeln!(table, "\nR = {RATE}/s, B = {BURST}, T = 200 ms unless stated.");
    let crowd = crowd::saturated(1000, 10, 3 << 20);
    let admitted = crowd.admitted / crowd.limit - 1.0;
    let sent = crowd.bytes_per_second / 1e6;
    let _ = writeln!(
        table,
        "1000 keys at five times their limit over 10 nodes: {sent:.2} MB/s per node (cap 3.15), \
         {:+.1} % admitted.",
        admitted * 100.0,
    );
    if sent > 3.15 * 1.05 || admitted.abs() > 0.05 {
        broken.push(format!("1000 keys: {crowd:?}"));
    }
    let quiet = crowd::quiet(1_000_000, 10) / 1e6;
    let _ = writeln!(
        table,
        "A million keys asked once a second each, limit 100/s, over 10 nodes: {quiet:.3} MB/s per \
         node (bar 0.25).",
    );
    if quiet > 0.25 {
        broken.push(format!("a million quiet keys: {quiet} MB/s"));
    }
    (table, broken)
}

fn refused(share: f64, most: f64) -> Cell {
    let cell = if share == 0.0 { "0".to_owned() } else { format!("{:.3} %", share * 100.0) };
    (cell, share <= most)
}
