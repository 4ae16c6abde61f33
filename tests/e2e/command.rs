//! The program's own answers: exit codes, faults, views.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Output};
use std::time::Duration;

use crate::harness::backend::Backend;
use crate::harness::host::Host;
use crate::harness::node::Node;
use crate::harness::{binary, free_port, try_run, turn};

fn tidegate(arguments: &[&str]) -> Output {
    try_run(Command::new(binary()).args(arguments), Duration::from_secs(10))
        .unwrap_or_else(|| panic!("tidegate {arguments:?} did not end"))
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
#[ignore = "starts processes: run with cargo test --test e2e -- --ignored"]
fn a_bad_configuration_gives_exit_code_1_and_every_fault_with_its_line() {
    let Some(_turn) = turn(&[]) else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bad.yaml");
    let text = "rules:\n\
                \x20 - name: web\n\
                \x20   listen: \"0.0.0.0:99999\"\n\
                \x20   backends: []\n\
                \x20   balanse: random\n\
                \x20   connect_timeout: fast\n";
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    for command in ["check", "run"] {
        let output = tidegate(&[command, "--config", file]);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for told in
            ["bad.yaml:3", "bad.yaml:4", "bad.yaml:5", "bad.yaml:6", "balanse", "balance", "fast"]
        {
            assert!(said.contains(told), "{command}: no {told} in:\n{said}");
        }
    }
    let output = tidegate(&["check", "--config", "/nowhere/lb.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("/nowhere/lb.yaml"));
}

#[test]
#[ignore = "starts processes: run with cargo test --test e2e -- --ignored"]
fn no_bytes_in_place_of_a_configuration_make_it_panic() {
    let Some(_turn) = turn(&[]) else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lb.yaml");
    let texts: [&[u8]; 10] = [
        b"",
        b"\0\x01\x02",
        b"\xff\xfe\xff",
        b"rules",
        b"rules: {",
        b"rules: [[[[[[[[",
        b"rules: &a [*a]",
        b"- a\n- b\n",
        b"rules:\n\t- name: web\n",
        b"rules: [{ name: web, listen: \"0.0.0.0:80\", backends: [\"x:1\"], tls: { enabled: true } }]",
    ];
    for text in texts {
        fs::write(&file, text).unwrap();
        let output = tidegate(&["check", "--config", file.to_str().unwrap()]);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{}: {said}", String::from_utf8_lossy(text));
        assert!(said.contains("lb.yaml") && !said.contains("panicked"), "{said}");
    }
}

#[test]
#[ignore = "starts processes: run with cargo test --test e2e -- --ignored"]
fn a_good_configuration_gives_exit_code_0_and_wrong_usage_2() {
    let Some(_turn) = turn(&[]) else { return };
    for name in ["node1", "node2", "node3", "single"] {
        let file = crate::harness::repository().join(format!("cluster-configs/{name}.yaml"));
        let output = tidegate(&["check", "--config", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", said(&output));
    }
    let example = crate::harness::repository().join("deploy/vm/lb.yaml");
    let output = tidegate(&["check", "--config", example.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    for wrong in [&["fly"][..], &["run", "--no-such"], &["members", "--format", "poem"]] {
        assert_eq!(tidegate(wrong).status.code(), Some(2), "{wrong:?}");
    }
    assert!(said(&tidegate(&["--version"])).starts_with("tidegate "));
}

#[test]
#[ignore = "starts processes: run with cargo test --test e2e -- --ignored"]
fn the_commands_ask_a_running_node() {
    let Some(_turn) = turn(&[]) else { return };
    let backend = Backend::http("b");
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (web, gossip) = (SocketAddr::new(ip, free_port(ip)), SocketAddr::new(ip, free_port(ip)));
    let body = format!(
        "rules:\n  - name: web\n    listen: \"{web}\"\n    backends: [\"{}\"]\n    rate_limit: {{ requests_per_second: 50 }}\n\
         cluster: {{ enabled: true, bind_addr: \"{gossip}\", node_name: only }}\n",
        backend.address()
    );
    let mut node = Node::start(Host::here(), "only", &body);
    let admin = format!("http://{}", node.admin);
    for (view, shown) in
        [("members", "only"), ("backends", "web"), ("limits", "web"), ("status", "only")]
    {
        let table = tidegate(&[view, "--admin", &admin]);
        assert_eq!(table.status.code(), Some(0), "{view}: {}", said(&table));
        assert!(said(&table).contains(shown), "{view}:\n{}", said(&table));
        let json = tidegate(&[view, "--admin", &admin, "--format", "json"]);
        let value: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
        assert!(value.is_object(), "{view}: {value}");
    }
    assert_eq!(tidegate(&["health", "--admin", &admin]).status.code(), Some(0));
    node.kill();
    let output = tidegate(&["health", "--admin", &admin]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains(&node.admin.to_string()), "{}", said(&output));
}

#[test]
#[ignore = "starts processes: run with cargo test --test e2e -- --ignored"]
fn a_port_that_is_taken_is_a_start_up_fault_that_names_it() {
    let Some(_turn) = turn(&[]) else { return };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let web = taken.local_addr().unwrap();
    let body =
        format!("rules: [{{ name: web, listen: \"{web}\", backends: [\"127.0.0.1:1\"] }}]\n");
    let mut node = Node::launch(Host::here(), "n", &body);
    let (status, _) = node.wait_exit(Duration::from_secs(10));
    assert_eq!(status.code(), Some(1));
    assert!(node.log().contains(&web.to_string()), "{}", node.log());
}
