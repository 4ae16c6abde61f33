//! Child processes: started on a CPU, as a user, read from `/proc`, and never left behind.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Fault;

/// Which CPUs a process may use, as `taskset -c` takes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cpus {
    /// CPU 0: the proxy alone.
    Proxy,
    /// CPU 1: client, server and harness.
    Others,
    /// Both.
    Both,
}

impl Cpus {
    fn list(self) -> &'static str {
        match self {
            Cpus::Proxy => "0",
            Cpus::Others => "1",
            Cpus::Both => "0,1",
        }
    }
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t")))
}

/// A running server or proxy; killed with all its children on drop.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Starts `program` on `cpus`; its output goes to `log`. With `unprivileged`, a root harness starts it as `nobody`.
    pub(crate) fn start(
        program: &Path,
        args: &[&str],
        cpus: Cpus,
        unprivileged: bool,
        log: &Path,
    ) -> Result<Running, Fault> {
        let log_file = fs::File::create(log)?;
        let mut command = Command::new("taskset");
        command.args(["-c", cpus.list()]);
        if unprivileged && is_root() {
            command.args([
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--inh-caps=-all",
                "--",
            ]);
        }
        command
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log_file.try_clone()?)
            .stderr(log_file);
        let child = command
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        Ok(Running { child })
    }

    /// The process and all its descendants.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
            .filter_map(|pid| Some((pid, parent(pid)?)))
            .collect();
        let mut tree = vec![self.child.id()];
        let mut next = 0;
        while let Some(&parent) = tree.get(next) {
            tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        tree
    }

    /// CPU time used so far by the process and its descendants, all threads, user and system.
    pub(crate) fn cpu(&self) -> Duration {
        self.pids().into_iter().filter_map(cpu).sum()
    }

    /// Memory that belongs to these processes alone, in bytes (private pages; what a library's text shares is not counted).
    pub(crate) fn private_memory(&self) -> u64 {
        self.pids().into_iter().map(private_memory).sum()
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        self.pids()
            .into_iter()
            .filter_map(|pid| Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count()))
            .sum()
    }

    /// Why it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pids: Vec<String> = self.pids().iter().map(u32::to_string).collect();
        let _ = Command::new("kill").arg("-KILL").args(&pids).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

/// The CPU time of all threads of `pid`: the very sum that `utime + stime` of `/proc/PID/stat` is made of, but in nanoseconds where
/// that counts ticks of 10 ms. A kernel without `schedstat` gives the ticks.
fn cpu(pid: u32) -> Option<Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let exact: Option<u64> = threads
        .map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        })
        .sum();
    exact.map(Duration::from_nanos).filter(|time| !time.is_zero()).or_else(|| {
        let fields = stat(pid)?;
        Some(Duration::from_millis(10 * (fields.get(11)? + fields.get(12)?)))
    })
}

/// What follows the name in `/proc/PID/stat`: state (a letter, read as 0), parent, …; user and system time are the 11th and 12th after.
fn stat(pid: u32) -> Option<Vec<u64>> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold anything, blanks and brackets too.
    let fields = line.rsplit_once(')')?.1.split_whitespace();
    Some(fields.map(|field| field.parse().unwrap_or(0)).collect())
}

fn parent(pid: u32) -> Option<u32> {
    u32::try_from(*stat(pid)?.get(1)?).ok()
}

fn private_memory(pid: u32) -> u64 {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { return 0 };
    let kib: u64 = text
        .lines()
        .filter(|line| line.starts_with("Private_Clean:") || line.starts_with("Private_Dirty:"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum();
    kib * 1024
}

/// Runs a client to its end on `cpus` and gives its standard output.
pub(crate) fn run_client(program: &str, args: &[&str], cpus: Cpus) -> Result<String, Fault> {
    let mut child = Command::new("taskset")
        .args(["-c", cpus.list(), program])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut output = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut output)?;
    }
    let status = child.wait()?;
    if status.success() {
        Ok(output)
    } else {
        Err(format!("{program} {} ended with {status}: {output}", args.join(" ")).into())
    }
}
