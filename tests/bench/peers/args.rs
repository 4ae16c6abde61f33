//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// What is printed at the end.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs: every round's values too.
    Json,
}

/// Measures tidegate against HAProxy and nginx, side by side.
#[derive(Parser)]
#[command(name = "peers")]
pub(crate) struct Args {
    /// Measure only this case; may be given several times
    #[arg(long = "case", value_name = "NAME")]
    pub cases: Vec<String>,
    /// Measure only these peers, separated by commas (none, tidegate, haproxy, haproxy-plain, nginx, …)
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub peers: Vec<String>,
    /// Rounds that count; one more is run first and thrown away [default: 5, with --quick 2]
    #[arg(long)]
    rounds: Option<usize>,
    /// A fifth of the work and fewer rounds: to try the harness, not to cite
    #[arg(long)]
    pub quick: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
    /// Idle connections that are opened where memory is measured [default: 9000, with --quick 2000]
    #[arg(long)]
    connections: Option<usize>,
    /// Another tidegate binary than the one that cargo built for this bench
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_tidegate"))]
    pub tidegate: PathBuf,
    /// Another haproxy binary than the one on the path
    #[arg(long, value_name = "PATH", default_value = "haproxy")]
    pub haproxy: PathBuf,
    /// Given by cargo; means nothing
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    /// Rounds that count.
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 2 } else { 5 }).max(1)
    }

    /// `full` units of work, or a fifth of them.
    pub(crate) fn work(&self, full: u64) -> u64 {
        if self.quick { full / 5 } else { full }
    }

    /// Idle connections to open.
    pub(crate) fn connections(&self) -> usize {
        self.connections.unwrap_or(if self.quick { 2000 } else { 9000 })
    }
}
