//! The table of `docs/limits.md` from real processes:
//!
//! ```text
//! cargo build --release
//! TIDEGATE_BIN=target/release/tidegate cargo test --test e2e -- --ignored --nocapture the_table_of_real_processes
//! ```
//!
//! Some twenty minutes. `LIMITS_ROWS=flash` measures only rows whose name has the word in it, and
//! writes nothing. The page is written after each column.

use std::fmt::Write as _;

use super::field::{Field, NEEDS, Rule};
use super::scenarios::{MIDDLE, Pattern, Refused, SMALL, TINY, WEB, all_rules};
use crate::harness::{report, repository, turn};

/// A column.
#[derive(Clone, Copy)]
struct Place {
    nodes: usize,
    loss: f64,
}

impl Place {
    fn name(self) -> String {
        match self.loss {
            0.0 => format!("{} nodes", self.nodes),
            loss => format!("{} nodes, {} % loss", self.nodes, loss * 100.0),
        }
    }

    fn field(self, rules: &[Rule]) -> Field {
        let field = Field::start(self.nodes, rules);
        if self.loss > 0.0 {
            field.lose(self.loss);
        }
        field
    }
}

const PLACES: [Place; 3] = [
    Place { nodes: 3, loss: 0.0 },
    Place { nodes: 10, loss: 0.0 },
    Place { nodes: 10, loss: 0.05 },
];

/// One row: its name, its bar, and how it is measured on a field.
struct Row {
    what: String,
    bar: &'static str,
    measure: Box<dyn Fn(&mut Field) -> String>,
}

fn row(
    what: impl Into<String>,
    bar: &'static str,
    measure: impl Fn(&mut Field) -> String + 'static,
) -> Row {
    Row { what: what.into(), bar, measure: Box::new(measure) }
}

/// What one field can be put through in turn.
fn rows() -> Vec<Row> {
    let mut rows = vec![row("3x demand for 10 s, against 10 R", "±2 %", |field| {
        percent(field.steady().0 - 1.0)
    })];
    for pattern in Pattern::ALL {
        let bar = "≤ 15, ≤ 2 %";
        rows.push(row(
            format!("3x, {}: worst 1 s, worst 10 s; fairness", pattern.name()),
            bar,
            move |field| {
                let (worst, fairness) = field.overload(pattern);
                format!("{}; {fairness:.3}", both(worst))
            },
        ));
    }
    for (rule, times, bar) in [(MIDDLE, 10.0, "≤ 10, ≤ 2 %"), (SMALL, 100.0, "≤ 20, ≤ 2 %")]
    {
        let what = format!("{times}x from idle (R = {}): worst 1 s, worst 10 s", rule.limit.rate);
        rows.push(row(what, bar, move |field| {
            let (worst, offered, late) = field.flash(rule, times);
            report(&format!(
                "flash {times}x: {:.0} % offered, late {late:.1?} (p99)",
                offered * 100.0
            ));
            both(worst)
        }));
    }
    for pattern in Pattern::ALL {
        let what = format!("0.9x, {}: falsely refused", pattern.name());
        rows.push(row(what, "0", move |field| refused(field.below(pattern, 0.9))));
    }
    rows.push(row("B at once over one node: falsely refused", "0", |field| {
        refused(field.bursts())
    }));
    rows.push(row("partition at 0.8x: falsely refused while apart; healed", "≤ 0.1 %", |field| {
        let (apart, healed) = field.partition_below();
        field.wait_whole();
        format!("{}; {}", refused(apart), refused(healed))
    }));
    rows.push(row(
        "partition at 3x: each side against R; one limit again after",
        "≤ 0; ≤ 2.5 s",
        |field| {
            let (apart, converged) = field.partition_above();
            field.wait_whole();
            format!("{}; {:.1} s", percent(apart), converged.as_secs_f64())
        },
    ));
    rows.push(row("both sides (`proportional`), 10 s against 10 R + B", "≤ +35 %", |field| {
        let apart = field.partition_shared();
        field.wait_whole();
        percent(apart)
    }));
    rows.push(row("fixed window of 1000/s at 3x: fullest window", "–", |field| {
        percent(field.window())
    }));
    for rule in TINY {
        let (rate, burst) = (rule.limit.rate, rule.limit.burst);
        let what = format!(
            "strict {rate}/s, burst {burst}, at 5x: tokens above in 1 s, 10 s; median answer"
        );
        rows.push(row(what, "≤ 0", move |field| {
            let ((one, ten), took) = field.tiny(rule);
            format!("{one:+.0}, {ten:+.0}; {:.1} ms", took.as_secs_f64() * 1000.0)
        }));
    }
    rows
}

/// What takes a field without other keys, so that their owner can be told.
fn kills() -> Vec<Row> {
    let killed = |share: f64| {
        move |field: &mut Field| {
            let (worst, falsely) = field.owner_killed(false, share);
            if share > 1.0 { both(worst) } else { refused(falsely) }
        }
    };
    let backup = |field: &mut Field| both(field.owner_killed(true, 2.0).0);
    vec![
        row(
            "first keeper of the key killed at 2x: worst 1 s, worst 10 s",
            "≤ 10, ≤ 5 %",
            killed(2.0),
        ),
        row("second keeper killed at 2x: worst 1 s, worst 10 s", "≤ 10, ≤ 5 %", backup),
        row("a keeper killed at 0.8x: falsely refused", "≤ 1 %", killed(0.8)),
    ]
}

fn percent(share: f64) -> String {
    format!("{:+.1} %", share * 100.0)
}

fn both((one, ten): (f64, f64)) -> String {
    format!("{:+.1}, {:+.1} %", one * 100.0, ten * 100.0)
}

fn refused(refused: Refused) -> String {
    if refused.falsely == 0 { "0".to_owned() } else { format!("{:.3} %", refused.share() * 100.0) }
}

#[test]
#[ignore = "writes docs/limits.md in some twenty minutes: run it by name"]
fn the_table_of_real_processes() {
    if std::env::var_os("LIMITS_TABLE").is_none() {
        report("SKIPPED the_table_of_real_processes: set LIMITS_TABLE=1 to write docs/limits.md");
        return;
    }
    let Some(_turn) = turn(&NEEDS) else { return };
    let wanted = std::env::var("LIMITS_ROWS").unwrap_or_default();
    let (mut rows, mut kills) = (rows(), kills());
    rows.retain(|row| row.what.contains(&wanted));
    kills.retain(|row| row.what.contains(&wanted));
    let mut cells = vec![Vec::new(); rows.len() + kills.len()];
    for place in PLACES {
        let mut measured = |at: usize, row: &Row, field: &mut Field| {
            let cell = (row.measure)(field);
            report(&format!(
                "{} nodes, {} % loss: {}: {cell}",
                place.nodes,
                place.loss * 100.0,
                row.what
            ));
            cells[at].push(cell);
        };
        if !rows.is_empty() {
            let mut field = place.field(&all_rules());
            for (at, row) in rows.iter().enumerate() {
                measured(at, row, &mut field);
                std::thread::sleep(std::time::Duration::from_millis(2500));
            }
        }
        for (at, row) in kills.iter().enumerate() {
            measured(rows.len() + at, row, &mut place.field(&[WEB]));
        }
        // A run that is ended early has measured something.
        let table = table(&rows, &kills, &cells);
        report(&format!("\n{table}"));
        if wanted.is_empty() {
            write(&table);
        }
    }
}

/// Of the places that were measured.
fn table(rows: &[Row], kills: &[Row], cells: &[Vec<String>]) -> String {
    let measured = cells.first().map_or(0, Vec::len);
    let names: Vec<String> = PLACES[..measured].iter().map(|place| place.name()).collect();
    let rule = " --- |".repeat(2 + measured);
    let mut table = format!("| what | bar | {} |\n|{rule}\n", names.join(" | "));
    for (row, cells) in rows.iter().chain(kills).zip(cells) {
        let _ = writeln!(table, "| {} | {} | {} |", row.what, row.bar, cells.join(" | "));
    }
    table
}

/// Between the markers of the page.
fn write(table: &str) {
    let path = repository().join("docs/limits.md");
    let page = std::fs::read_to_string(&path).expect("the page");
    let (begin, end) = ("<!-- real: begin -->\n", "<!-- real: end -->");
    let (before, rest) = page.split_once(begin).expect("where the table begins");
    let (_, after) = rest.split_once(end).expect("where the table ends");
    std::fs::write(path, format!("{before}{begin}\n{table}\n{end}{after}")).expect("written");
}
