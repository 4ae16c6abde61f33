//! `tidegate check`: every fault of a file at once, or what it would do.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::config;

/// Reads the file at `path` and says on stdout what it found: 0 when it is good, 1 when not.
pub fn check(path: &Path) -> ExitCode {
    let file = path.display().to_string();
    let mut out = std::io::stdout().lock();
    // Nobody to tell when stdout is gone; the exit code says it all the same.
    match config::load(path) {
        Ok(loaded) => {
            let _ = writeln!(out, "{}", config::summary(&loaded, &file));
            ExitCode::SUCCESS
        }
        Err(faults) => {
            let _ = writeln!(out, "{faults}");
            ExitCode::FAILURE
        }
    }
}
