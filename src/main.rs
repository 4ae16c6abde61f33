//! The command line of tidegate.

mod cli;

use std::process::ExitCode;

/// Short-lived allocations of many connections, spread over the worker threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
