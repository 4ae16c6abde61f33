//! The machine: what it lacks for a measurement, what it is, and what is set before one.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::Fault;
use crate::args::Args;
use crate::cases::Case;

const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Everything that is missing for `cases`, each with the way to get it.
pub(crate) fn missing(cases: &[Case]) -> Vec<String> {
    let mut missing = Vec::new();
    let mut need = |program: &str, package: &str| {
        if !on_path(program) {
            missing.push(format!("{program}: `apt-get install {package}`"));
        }
    };
    for (program, package) in [
        ("taskset", "util-linux"),
        ("prlimit", "util-linux"),
        ("setpriv", "util-linux"),
        ("kill", "procps"),
    ] {
        need(program, package);
    }
    for case in cases {
        for (program, package) in case.needs() {
            need(program, package);
        }
    }
    if cases.iter().any(|case| case.peers.iter().any(|peer| peer.name() == "nginx"))
        && !Path::new(NGINX_STREAM).exists()
    {
        missing.push(format!("{NGINX_STREAM}: `apt-get install libnginx-mod-stream`"));
    }
    if cpus() < 2 {
        missing.push("a second CPU: the proxy has one for itself".to_owned());
    }
    missing.dedup();
    missing
}

fn on_path(program: &str) -> bool {
    // Debian keeps servers in sbin, which is not on every user's path.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').any(|folder| Path::new(folder).join(program).exists())
}

/// Pins the harness to CPU 1 (whatever it starts inherits that) and raises its descriptor limit to the hard one.
pub(crate) fn prepare() -> Result<(), Fault> {
    let own = std::process::id().to_string();
    Command::new("taskset").args(["-cp", "1", &own]).output()?;
    let hard = limit_of_descriptors(1);
    Command::new("prlimit").args(["--pid", &own, &format!("--nofile={hard}:{hard}")]).output()?;
    Ok(())
}

/// How many files one process may open: the soft limit now.
pub(crate) fn descriptors() -> usize {
    limit_of_descriptors(0)
}

/// Column 0 is the soft limit, column 1 the hard one.
fn limit_of_descriptors(column: usize) -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
    line.split_whitespace().nth(3 + column).and_then(|word| word.parse().ok()).unwrap_or(1024)
}

fn cpus() -> usize {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.lines().filter(|line| line.starts_with("processor")).count()
}

/// The machine and the versions, for the head of the report.
pub(crate) fn describe(args: &Args) -> Value {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let mib = memory
        .lines()
        .next()
        .and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0)
        / 1024;
    json!({
        "cpu": field("model name").unwrap_or_default(),
        "cpus": cpus(),
        "mhz": field("cpu MHz").unwrap_or_default(),
        "memory_mib": mib,
        "kernel": kernel.trim(),
        "rounds": args.rounds(),
        "quick": args.quick,
        "versions": {
            "tidegate": version(&args.tidegate, "--version"),
            "haproxy": version(&args.haproxy, "-v"),
            "nginx": version(Path::new("nginx"), "-v"),
            "openssl": version(Path::new("openssl"), "version"),
            "redis": version(Path::new("redis-server"), "--version"),
            "iperf3": version(Path::new("iperf3"), "--version"),
        },
    })
}

/// The first line that a program says about its version (nginx says it on stderr).
fn version(program: &Path, flag: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output() else {
        return "not there".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned()
}

/// Kernel memory in slabs and in socket buffers now, in bytes. Of the whole machine: only differences on a quiet one mean something.
pub(crate) fn kernel_memory() -> u64 {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let slab = memory
        .lines()
        .find(|line| line.starts_with("Slab:"))
        .and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    let sockets = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let pages = sockets
        .lines()
        .find(|line| line.starts_with("TCP:"))
        .and_then(|line| line.split_whitespace().last()?.parse::<u64>().ok())
        .unwrap_or(0);
    slab * 1024 + pages * 4096
}
