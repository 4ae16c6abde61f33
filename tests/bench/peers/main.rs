//! One worker of ours against one worker of HAProxy and of nginx, side by side on this machine.
//!
//! ```text
//! cargo bench --bench peers [-- --case NAME]… [-- --peers a,b] [-- --rounds N] [-- --quick] [-- --format json]
//! ```
//!
//! How it is measured, and why so:
//!
//! - The proxy is pinned to CPU 0; the client, the server and this harness to CPU 1.
//! - Peers run in turn, round after round (A B C A B C …), after one warm-up round that is thrown away. What disturbs the machine
//!   disturbs all peers of a round alike, so ratios are taken **round by round** and then the median is shown, never the ratio of medians.
//! - The steadiest figure on a small machine is the CPU time of the proxy's own processes (`utime + stime`, all threads,
//!   children too) per operation: client and server are usually the bottleneck of the rate.
//! - Clients and servers are real ones: redis-benchmark against redis-server, iperf3. Handshakes and downloads over TLS are made by a client of
//!   ours, so that all are asked for the same key exchange and end in the same order.
//! - Run by root, the proxies are started as `nobody`: the kernel is meaner to unprivileged users (pipe sizes), and production is unprivileged.
//!
//! It installs nothing; what is missing is named together with the package that has it. Bars (the project's own aims) are printed beside the
//! figures; nothing passes or fails here, for a shared machine has bad minutes.

#![allow(
    clippy::print_stderr,
    reason = "progress goes to stderr, so that stdout is only the table or the JSON"
)]

mod args;
mod cases;
mod clients;
mod crowd;
mod machine;
mod peers;
mod process;
mod report;
mod servers;
mod tls;

use std::process::ExitCode;

use clap::Parser;

/// What went wrong, as a sentence.
type Fault = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    // `cargo test --all-targets` and nextest start benches as well, without `--bench`: they shall neither measure nor fail.
    let bare = std::env::args().len() == 1
        || std::env::args().any(|arg| arg == "--list" || arg == "--test");
    if bare {
        eprintln!("peers: nothing done; measure with `cargo bench --bench peers`");
        return ExitCode::SUCCESS;
    }
    match run(&args::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("peers: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &args::Args) -> Result<(), Fault> {
    let cases = cases::chosen(args)?;
    let missing = machine::missing(&cases);
    if !missing.is_empty() {
        return Err(
            format!("cannot measure, something is missing:\n  {}", missing.join("\n  ")).into()
        );
    }
    machine::prepare()?;
    let mut measured = Vec::new();
    for case in &cases {
        measured.push(cases::measure(case, args)?);
    }
    let report = report::Report { machine: machine::describe(args), cases: measured };
    match args.format {
        args::Format::Table => print!("{}", report.table()),
        args::Format::Json => println!("{}", serde_json::to_string_pretty(&report.json())?),
    }
    Ok(())
}
