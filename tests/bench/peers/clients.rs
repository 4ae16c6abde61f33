//! The real clients: redis-benchmark and iperf3.

use std::net::SocketAddr;
use std::time::Duration;

use crate::Fault;
use crate::process::{Cpus, run_client};

/// Runs redis-benchmark for `ops` operations and gives operations per second as it measured them.
pub(crate) fn redis_benchmark(
    at: SocketAddr,
    args: &[&str],
    ops: u64,
    cpus: Cpus,
) -> Result<f64, Fault> {
    let (ip, port, ops) = (at.ip().to_string(), at.port().to_string(), ops.to_string());
    let mut all = vec!["-h", &ip, "-p", &port, "-n", &ops, "--csv"];
    all.extend(args);
    let output = run_client("redis-benchmark", &all, cpus)?;
    // "test","rps","avg_latency_ms",…
    // "GET","52631.58","0.563",…
    let line = output.lines().find(|line| line.starts_with('"') && !line.starts_with("\"test\""));
    let rate = line.and_then(|line| line.split(',').nth(1)?.trim_matches('"').parse().ok());
    rate.ok_or_else(|| format!("redis-benchmark gave no rate: {output}").into())
}

/// What iperf3 moved.
pub(crate) struct Bulk {
    /// Received by the server.
    pub bytes: f64,
    /// Received by the server per second.
    pub bits_per_second: f64,
}

/// Sends through `at` as fast as it goes for `seconds`.
pub(crate) fn iperf(at: SocketAddr, seconds: u64, cpus: Cpus) -> Result<Bulk, Fault> {
    let (ip, port, seconds) = (at.ip().to_string(), at.port().to_string(), seconds.to_string());
    let args = ["-c", &ip, "-p", &port, "-t", &seconds, "-J"];
    let mut attempts = 0;
    loop {
        match run_client("iperf3", &args, cpus).and_then(|output| bulk(&output)) {
            // The server takes one test at a time and may still be busy with the end of the one before.
            Err(_) if attempts < 20 => attempts += 1,
            result => return result,
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn bulk(output: &str) -> Result<Bulk, Fault> {
    let result: serde_json::Value = serde_json::from_str(output)?;
    let received = &result["end"]["sum_received"];
    match (received["bytes"].as_f64(), received["bits_per_second"].as_f64()) {
        (Some(bytes), Some(bits_per_second)) if bytes > 0.0 => Ok(Bulk { bytes, bits_per_second }),
        _ => Err(format!("iperf3 moved nothing: {}", result["error"]).into()),
    }
}
