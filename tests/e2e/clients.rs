//! Programs that others wrote, through a node.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::harness::backend::Backend;
use crate::harness::host::Host;
use crate::harness::node::{Node, SOON};
use crate::harness::server::{Server, loopback};
use crate::harness::{Need, report, run, try_run, turn, until};

/// A node with one rule, and where it listens.
fn in_front_of(backend: SocketAddr) -> (Node, SocketAddr) {
    let web = loopback();
    let body = format!("rules: [{{ name: web, listen: \"{web}\", backends: [\"{backend}\"] }}]\n");
    (Node::start(Host::here(), "n", &body), web)
}

#[test]
#[ignore = "needs redis-server and redis-benchmark: run with cargo test --test e2e -- --ignored"]
fn redis_benchmark_runs_through_a_node_without_an_error() {
    let needs =
        [Need::Tool("redis-server", "redis-server"), Need::Tool("redis-benchmark", "redis-tools")];
    let Some(_turn) = turn(&needs) else { return };
    let list = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let redis = Server::start("redis-server", |port| {
        list(&format!("--bind 127.0.0.1 --port {port} --save  --appendonly no"))
    });
    let (node, web) = in_front_of(redis.address);
    for pipeline in ["1", "16"] {
        let port = web.port().to_string();
        let options =
            format!("-h 127.0.0.1 -p {port} -t set,get -n 20000 -c 50 -P {pipeline} --csv");
        let told =
            run(Command::new("redis-benchmark").args(list(&options)), Duration::from_secs(60));
        let rows: Vec<&str> = told.lines().filter(|line| line.contains("ET\"")).collect();
        assert_eq!(rows.len(), 2, "{told}");
        report(&format!("redis-benchmark -P {pipeline}: {}", rows.join(" ")));
    }
    let rules = node.view("rules");
    // Fifty clients, twice two tests.
    assert!(rules["rules"][0]["connections"].as_u64() >= Some(200), "{rules}");
    until("every connection has ended", SOON, || {
        (node.view("status")["connections"] == 0).then_some(())
    });
}

#[test]
#[ignore = "needs curl: run with cargo test --test e2e -- --ignored"]
fn curl_gets_and_sends_whole_bodies() {
    let Some(_turn) = turn(&[Need::Tool("curl", "curl")]) else { return };
    let backend = Backend::http("b");
    let (node, web) = in_front_of(backend.address());
    let curl = |arguments: &[&str]| {
        let fixed = ["--silent", "--show-error", "--fail", "--max-time", "20"];
        run(Command::new("curl").args(fixed).args(arguments), Duration::from_secs(30))
    };
    assert_eq!(curl(&[&format!("http://{web}/")]), "Reply from upstream b\n");
    // Large enough to be spliced; and two requests on one connection.
    let large = format!("http://{web}/bytes/50000000");
    let format = "%{http_code} %{size_download} %{num_connects}\n";
    let discard = ["--output", "/dev/null", "--write-out", format];
    let told = curl(&[&discard[..], &[&large], &["--next"], &discard[..], &[&large]].concat());
    assert_eq!(told, "200 50000000 1\n200 50000000 0\n");
    let mut upload = tempfile::NamedTempFile::new().unwrap();
    upload.write_all(&vec![b'x'; 10_000_000]).unwrap();
    let file = format!("@{}", upload.path().display());
    let sent = curl(&[
        "--data-binary",
        &file,
        "-w",
        "%{size_upload}",
        "-o",
        "/dev/null",
        &format!("http://{web}/"),
    ]);
    assert_eq!(sent, "10000000");
    until("all bytes are counted", SOON, || {
        let rules = node.view("rules");
        let counted = |field: &str| rules["rules"][0][field].as_u64().unwrap_or(0);
        (counted("bytes_down") > 100_000_000 && counted("bytes_up") > 10_000_000).then_some(())
    });
}

#[test]
#[ignore = "needs iperf3: run with cargo test --test e2e -- --ignored"]
fn iperf3_moves_bulk_both_ways() {
    let Some(_turn) = turn(&[Need::Tool("iperf3", "iperf3")]) else { return };
    let list = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    // It logs every probe of its port as a fault; its own affair.
    let server = Server::start("iperf3", |port| {
        list(&format!("-s -B 127.0.0.1 -p {port} --logfile /dev/null"))
    });
    let web = loopback();
    // iperf3 takes one client at a time, and a health check is a client.
    let body = format!(
        "rules: [{{ name: web, listen: \"{web}\", backends: [\"{}\"], health_check: {{ type: none }} }}]\n",
        server.address
    );
    let _node = Node::start(Host::here(), "n", &body);
    for direction in ["", " -R", " -P 4"] {
        let options = format!("-c 127.0.0.1 -p {} -t 2 -J{direction}", web.port());
        // Its server takes one client at a time and is busy for a moment after the one before.
        let mut client = Command::new("iperf3");
        client.args(list(&options));
        let (output, _) = until("iperf3 is served", Duration::from_secs(40), || {
            try_run(&mut client, Duration::from_secs(20)).filter(|done| done.status.success())
        });
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let value: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        let rate = value["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or(0.0);
        report(&format!("iperf3{direction}: {:.1} Gbit/s", rate / 1e9));
        assert!(rate > 1e8, "{told}");
    }
}

#[test]
#[ignore = "needs promtool: run with cargo test --test e2e -- --ignored"]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let Some(_turn) = turn(&[Need::Tool("promtool", "prometheus")]) else { return };
    let backend = Backend::http("b");
    let (node, web) = in_front_of(backend.address());
    crate::harness::load::ask(web, "/").unwrap();
    let (_, metrics) = node.get("/metrics").expect("metrics");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(metrics.as_bytes()).unwrap();
    // It reads standard input only; its findings are on either output and in its exit code.
    let check = format!("promtool check metrics < {} 2>&1", file.path().display());
    let told = run(Command::new("sh").args(["-c", &check]), Duration::from_secs(30));
    assert_eq!(told.trim(), "", "promtool:\n{told}");
}
