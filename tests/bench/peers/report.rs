//! Medians, ratios round by round, the table and the JSON.

use std::fmt::Write;

use serde_json::{Value, json};

/// One peer's rounds: a value per metric, nothing where it has none (no proxy uses no CPU).
pub(crate) struct Column {
    /// Who.
    pub peer: &'static str,
    /// Round by round.
    pub rounds: Vec<Vec<Option<f64>>>,
}

impl Column {
    /// No rounds yet.
    pub(crate) fn new(peer: &'static str) -> Column {
        Column { peer, rounds: Vec::new() }
    }

    fn median(&self, metric: usize) -> Option<f64> {
        median(self.rounds.iter().filter_map(|round| round[metric]).collect())
    }

    /// The median of the ratios of each round to the same round of `base`.
    fn ratio(&self, base: &Column, metric: usize) -> Option<f64> {
        let rounds = self.rounds.iter().zip(&base.rounds);
        median(
            rounds
                .filter_map(|(own, base)| {
                    Some(own[metric]? / base[metric].filter(|value| *value > 0.0)?)
                })
                .collect(),
        )
    }
}

/// A case with its figures.
pub(crate) struct Measured {
    /// For `--case`.
    pub name: &'static str,
    /// What the client did.
    pub title: &'static str,
    /// Ratios are to this peer.
    pub base: &'static str,
    /// Name, digits and bar of each metric.
    pub bars: Vec<(&'static str, usize, &'static str)>,
    /// The peers.
    pub columns: Vec<Column>,
}

impl Measured {
    fn base(&self) -> Option<&Column> {
        self.columns.iter().find(|column| column.peer == self.base)
    }
}

/// All of it.
pub(crate) struct Report {
    /// As `machine::describe` gives it.
    pub machine: Value,
    /// In the order they ran.
    pub cases: Vec<Measured>,
}

impl Report {
    /// Markdown, to be read in a terminal and to be put into a page as it is.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let machine = &self.machine;
        let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let _ = writeln!(
            text,
            "machine: {} × {}, {} MiB, Linux {}; {} rounds{}, medians; (×n) is the median of each round's ratio",
            word(&machine["cpus"]),
            word(&machine["cpu"]),
            word(&machine["memory_mib"]),
            word(&machine["kernel"]),
            word(&machine["rounds"]),
            if machine["quick"] == true { " (quick: not to be cited)" } else { "" },
        );
        if let Some(versions) = machine["versions"].as_object() {
            let versions: Vec<String> = versions.values().map(word).collect();
            let _ = writeln!(text, "versions: {}", versions.join(" · "));
        }
        for case in &self.cases {
            let _ = writeln!(text, "\n**{}** — {}\n", case.name, case.title);
            let peers: Vec<&str> = case.columns.iter().map(|column| column.peer).collect();
            let _ = writeln!(text, "| | {} | bar |", peers.join(" | "));
            let _ = writeln!(text, "| --- |{} --- |", " ---: |".repeat(peers.len()));
            for (at, (name, digits, bar)) in case.bars.iter().enumerate() {
                let cells: Vec<String> =
                    case.columns.iter().map(|column| cell(case, column, at, *digits)).collect();
                let _ = writeln!(text, "| {name} | {} | {bar} |", cells.join(" | "));
            }
        }
        text
    }

    /// The same and every round's values.
    pub(crate) fn json(&self) -> Value {
        let cases: Vec<Value> = self
            .cases
            .iter()
            .map(|case| {
                let metrics: Vec<Value> = case
                    .bars
                    .iter()
                    .enumerate()
                    .map(|(at, (name, _, bar))| {
                        let peers: serde_json::Map<String, Value> = case
                            .columns
                            .iter()
                            .map(|column| {
                                let rounds: Vec<Option<f64>> = column.rounds.iter().map(|round| round[at]).collect();
                                let ratio = case.base().and_then(|base| column.ratio(base, at));
                                let value = json!({ "median": column.median(at), "ratio": ratio, "rounds": rounds });
                                (column.peer.to_owned(), value)
                            })
                            .collect();
                        json!({ "metric": name, "bar": bar, "ratio_to": case.base, "peers": peers })
                    })
                    .collect();
                json!({ "case": case.name, "title": case.title, "metrics": metrics })
            })
            .collect();
        json!({ "machine": self.machine, "cases": cases })
    }
}

fn cell(case: &Measured, column: &Column, metric: usize, digits: usize) -> String {
    let Some(value) = column.median(metric) else { return "–".to_owned() };
    match case.base().and_then(|base| column.ratio(base, metric)) {
        Some(ratio) => format!("{value:.digits$} (×{ratio:.2})"),
        None => format!("{value:.digits$}"),
    }
}

/// The middle value; of an even number, the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (above, below) = (values.len() / 2, values.len().checked_sub(1)? / 2);
    Some(f64::midpoint(values[above], values[below]))
}
