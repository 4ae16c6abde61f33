//! The room as a whole: the contract's examples, all faults at once, and no panic on any input.

mod certs;
mod faults;
mod robust;
mod tls;

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::balance::Policy;
use crate::health::{CheckKind, CheckPlan, OutlierPlan};
use crate::net::TcpOptions;
use crate::traffic::{Action, Algorithm, LimitKey, LimitScope, Quota};

fn read_text(text: &str) -> Result<Loaded, Faults> {
    parse(text, "lb.yaml", Path::new("/nowhere"))
}

#[track_caller]
fn good(text: &str) -> Loaded {
    read_text(text).unwrap_or_else(|faults| panic!("refused:\n{faults}"))
}

#[track_caller]
fn bad(text: &str) -> Faults {
    match read_text(text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(faults) => {
            assert!(!faults.is_empty());
            faults
        }
    }
}

/// A rule with `more` as its further lines, cluster and all left to defaults.
fn rule(more: &str) -> String {
    let more: String = more.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "rules:\n  - name: web\n    listen: \"127.0.0.1:8080\"\n    backends: [\"127.0.0.1:8081\"]\n{more}"
    )
}

/// Every fault of `text` as `line field what`.
#[track_caller]
fn told(text: &str) -> Vec<String> {
    let line = |fault: &Fault| fault.line.map_or("-".to_owned(), |line| line.to_string());
    bad(text).iter().map(|f| format!("{} {}: {}", line(f), f.field, f.what)).collect()
}

#[track_caller]
fn limit(more: &str) -> crate::traffic::LimitPlan {
    let loaded = good(&rule(&format!("rate_limit: {more}")));
    loaded.plan.rules[0].rate_limit.clone().expect("a limit")
}

const USERS: &str = r#"
rules:
  - name: "MyWebService"
    listen: "0.0.0.0:8080"
    backends: ["127.0.0.1:8081", "127.0.0.1:8082"]
    backend_connection_limit: 100
    rate_limit:      { enabled: true, requests_per_second: 1000, burst: 2000 }      # per client address
    bandwidth_limit: { enabled: true, client: { upload_per_sec: 10485760, download_per_sec: 10485760 } }
    tls:             { enabled: true, cert: "./certs/server.crt", key: "./certs/server.key" }
cluster:
  enabled: true
  bind_addr: "0.0.0.0:9090"
  peers: ["10.0.0.2:9090"]
"#;

#[test]
fn the_users_example_loads_verbatim() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("certs")).unwrap();
    certs::write(&dir.path().join("certs/server"), &["localhost"]);
    let Loaded { plan, warnings, .. } = parse(USERS, "lb.yaml", dir.path()).unwrap();
    assert_eq!(warnings, []);
    let rule = &plan.rules[0];
    assert_eq!(&*rule.name.0, "MyWebService");
    assert_eq!(rule.listen, ["0.0.0.0:8080".parse().unwrap()]);
    assert_eq!(rule.pool.backends.len(), 2);
    assert_eq!(rule.pool.connection_limit.unwrap().get(), 100);
    let limit = rule.rate_limit.as_ref().unwrap();
    assert_eq!(limit.algorithm, Algorithm::TokenBucket(Quota { rate: 1000.0, burst: 2000.0 }));
    assert_eq!(limit.scope, LimitScope::Cluster);
    assert_eq!(rule.bandwidth.client.upload.unwrap().get(), 10 << 20);
    assert_eq!(rule.bandwidth.backend, crate::traffic::Rates::default());
    let tls = rule.tls.as_ref().unwrap();
    assert!(matches!(&tls.mode, crate::net::tls::TlsMode::Terminate(plan)
        if plan.certificates[0].certificate.files.cert == dir.path().join("certs/server.crt")));
    let cluster = plan.cluster.unwrap();
    assert_eq!(cluster.peers, ["10.0.0.2:9090".parse().unwrap()]);
    assert!(cluster.node_name.0.ends_with(":9090"), "{}", cluster.node_name);
}

#[test]
fn what_is_left_out_has_the_contracts_default() {
    let Loaded { plan, warnings, .. } = good(&rule(""));
    assert_eq!(warnings, []);
    assert_eq!(plan.workers, std::thread::available_parallelism().unwrap().get());
    assert_eq!(plan.shutdown_timeout, Duration::from_secs(30));
    assert_eq!(plan.drain_delay, Duration::ZERO);
    assert_eq!(plan.log, LogPlan { level: "info".into(), format: LogFormat::Text });
    assert_eq!(plan.access_log, None);
    assert_eq!(plan.admin.listen.to_string(), "127.0.0.1:9900");
    assert_eq!(plan.tcp, TcpOptions::default());
    assert_eq!(plan.cluster, None);
    let rule = &plan.rules[0];
    assert_eq!(rule.idle_timeout, Duration::from_secs(600));
    assert_eq!(rule.rate_limit, None);
    assert_eq!(rule.caps, crate::traffic::CapsPlan::default());
    let pool = &rule.pool;
    assert_eq!(pool.policy, Policy::WeightedRoundRobin);
    assert_eq!(pool.check, CheckPlan::default());
    assert_eq!(pool.outlier, OutlierPlan::default());
    assert_eq!(pool.panic_threshold.fraction(), 0.5);
    assert_eq!(pool.slow_start, Duration::ZERO);
    assert_eq!(pool.connect_timeout, Duration::from_secs(2));
    assert_eq!(pool.connect_attempts, 3);
    assert_eq!(pool.connection_limit, None);
    assert_eq!((pool.queue.size, pool.queue.timeout), (0, Duration::from_secs(1)));
    assert_eq!((pool.backends[0].weight, pool.backends[0].backup), (1, false));
}

#[test]
fn a_limit_reads_in_each_of_its_forms() {
    let bucket = |rate, burst| Algorithm::TokenBucket(Quota { rate, burst });
    assert_eq!(limit("{ requests_per_second: 5 }").algorithm, bucket(5.0, 5.0));
    assert_eq!(limit("{ requests_per_second: 0.5 }").algorithm, bucket(0.5, 1.0));
    assert_eq!(limit("{ requests_per_second: 5, burst: 1 }").algorithm, bucket(5.0, 1.0));
    let per_minute = limit("{ type: token_bucket, limit: 120, window: \"1m\" }");
    assert_eq!(per_minute.algorithm, bucket(2.0, 120.0));
    let fixed = limit("{ type: fixed_window, limit: 100, window: 1m }").algorithm;
    let window = Duration::from_secs(60);
    assert_eq!(fixed, Algorithm::FixedWindow { limit: 100.try_into().unwrap(), window });
    for off in
        ["{ type: none }", "{ enabled: false, requests_per_second: 5 }", "{ type: none, limit: 5 }"]
    {
        assert_eq!(good(&rule(&format!("rate_limit: {off}"))).plan.rules[0].rate_limit, None);
    }
    for (wrong, field) in [
        ("{}", ""),
        ("{ limit: 5 }", ".limit"),
        ("{ window: 5s }", ".window"),
        ("{ requests_per_second: 5, limit: 5, window: 1s }", ".requests_per_second"),
        ("{ type: fixed_window, requests_per_second: 5 }", ".requests_per_second"),
        ("{ type: fixed_window, limit: 5, window: 1s, burst: 9 }", ".burst"),
        ("{ requests_per_second: 0 }", ".requests_per_second"),
        ("{ requests_per_second: -1 }", ".requests_per_second"),
        ("{ requests_per_second: .inf }", ".requests_per_second"),
        ("{ requests_per_second: 5, burst: 0 }", ".burst"),
    ] {
        let faults = bad(&rule(&format!("rate_limit: {wrong}")));
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, [format!("rules[0].rate_limit{field}")], "{wrong}");
    }
}

#[test]
fn a_limit_keeps_all_that_is_written_about_it() {
    let plan = limit(
        "{ requests_per_second: 5, scope: cluster, key: rule, action: delay, delay_queue: 7, delay_max: 2s, \
         ipv6_prefix: 56, exempt: [\"10.0.0.0/8\"], shadow: true, max_keys: 99, consistency: auto }",
    );
    assert_eq!(plan.id, crate::base::LimitId::of_rule(&"web".into()));
    // Without a cluster there is nobody to count with.
    assert_eq!((plan.scope, plan.key), (LimitScope::Node, LimitKey::Rule));
    assert_eq!(plan.action, Action::Delay { queue: 7, max: Duration::from_secs(2) });
    assert_eq!((plan.ipv6_prefix, plan.shadow, plan.max_keys), (56, true, 99));
    assert_eq!(plan.exempt, ["10.0.0.0/8".parse().unwrap()]);

    let default = limit("{ requests_per_second: 5 }");
    assert_eq!((default.key, default.action), (LimitKey::Client, Action::Reject));
    assert_eq!((default.ipv6_prefix, default.shadow, default.max_keys), (64, false, 131_072));
    let delay = limit("{ requests_per_second: 5, action: delay }").action;
    assert_eq!(delay, Action::Delay { queue: 1024, max: Duration::from_secs(1) });
}

#[test]
fn an_http_check_has_its_defaults_and_a_tcp_check_says_what_it_does_not_look_at() {
    let check =
        |text: &str| good(&rule(&format!("health_check: {text}"))).plan.rules[0].pool.check.clone();
    let Some(CheckKind::Http { path, host, expect_status, expect_body }) =
        check("{ type: http }").kind
    else {
        panic!("not an HTTP check")
    };
    assert_eq!((path.as_str(), host, expect_body), ("/", None, None));
    assert_eq!(expect_status, [(200, 399)]);
    assert_eq!(check("{ type: none }").kind, None);
    let listed = check("{ type: http, expect_status: [200, \"301-302\"] }").kind;
    assert!(matches!(listed, Some(CheckKind::Http { expect_status, .. })
        if expect_status == [(200, 200), (301, 302)]));
    let warned = good(&rule("health_check: { path: /healthz }")).warnings;
    assert_eq!(warned[0].field, "rules[0].health_check.path");
}

#[test]
fn every_key_of_the_schema_stands_in_the_reference_and_reaches_the_file() {
    let reference = robust::reference();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), "secret").unwrap();
    let keys = format!("salt {}\nkey 1 {}\n", "7".repeat(32), "5".repeat(64));
    std::fs::write(dir.path().join("cluster.keys"), keys).unwrap();
    certs::write_all_of(&reference, dir.path());
    let loaded = parse(&reference, "lb.yaml", dir.path()).unwrap_or_else(|f| panic!("{f}"));
    assert_eq!(loaded.plan.rules.len(), 4);
    for key in robust::keys(schema::FILE, &mut Vec::new()) {
        assert!(reference.contains(&format!("{key}:")), "the reference does not show `{key}`");
    }
}

#[test]
fn the_digest_sees_meaning_and_no_nodes_own_matters() {
    let digest = |text: &str| good(text).plan.digest;
    let whole = |listen: &str, idle: &str, tail: &str| {
        format!(
            "rules:\n  - name: web\n    listen: \"{listen}\"\n    backends: [\"b:1\"]\n    idle_timeout: {idle}\n{tail}"
        )
    };
    let one = digest(&whole(
        "10.0.0.1:80",
        "10m",
        "cluster: { node_name: n1, bind_addr: \"10.0.0.1:9090\", peers: [\"10.0.0.2:9090\"] }",
    ));
    assert_eq!(one.len(), 64);
    let other = whole(
        "10.0.0.2:80",
        "600s",
        "workers: 1\nlog: { level: debug }\nadmin: { listen: \"127.0.0.2:1\" }\naccess_log: { output: stdout }\n\
         cluster: { node_name: n2, bind_addr: \"10.0.0.2:9090\", peers: [\"10.0.0.1:9090\"], label: default, state_dir: ./state }",
    );
    assert_eq!(one, digest(&other), "defaults, spelling and the node's own matters");
    for differs in [
        whole("10.0.0.1:81", "10m", "cluster: {}"),
        whole("10.0.0.1:80", "11m", "cluster: {}"),
        whole("10.0.0.1:80", "10m", "cluster: { label: other }"),
        whole("10.0.0.1:80", "10m", "cluster: { profile: wan }"),
        whole("10.0.0.1:80", "10m", ""),
        whole("10.0.0.1:80", "10m", "cluster: {}\ndrain_delay: 1s"),
    ] {
        assert_ne!(one, digest(&differs), "{differs}");
    }
    assert_eq!(one, digest(&whole("10.0.0.1:80", "10m", "cluster: {}")));
}

#[test]
fn the_profile_is_the_lans_unless_told_otherwise() {
    use crate::cluster::Profile;
    for (cluster, profile) in [("{}", Profile::Lan), ("{ profile: wan }", Profile::Wan)] {
        let plan = good(&format!("{}cluster: {cluster}\n", rule(""))).plan;
        assert_eq!(plan.cluster.unwrap().profile, profile);
    }
}

#[test]
fn caps_and_bandwidth_are_each_nodes_own_unless_the_cluster_is_written() {
    let whole = |scope: &str| {
        let text = format!(
            "rules: [{{ name: web, listen: \"0.0.0.0:80\", backends: [\"10.0.0.1:80\"], \
             connection_limit: {{ per_client: 3, total: 9{scope} }}, \
             backend_connection_limit: {{ limit: 4{scope} }}, \
             bandwidth_limit: {{ client: {{ upload_per_sec: 1MiB }}{scope} }} }}]\ncluster: {{}}"
        );
        let rule = good(&text).plan.rules[0].clone();
        let bandwidth = rule.bandwidth.shared;
        assert_eq!(bandwidth, rule.pool.shared_bandwidth);
        (rule.caps.shared, rule.pool.shared_caps, bandwidth)
    };
    let id = Some(crate::base::LimitId::of_rule(&"web".into()));
    assert_eq!(whole(""), (None, None, None));
    assert_eq!(whole(", scope: node"), (None, None, None));
    assert_eq!(whole(", scope: cluster"), (id, id, id));
    let short = "rules: [{ listen: \"0.0.0.0:80\", backends: [\"10.0.0.1:80\"], backend_connection_limit: 100 }]\ncluster: {}";
    assert_eq!(good(short).plan.rules[0].pool.shared_caps, None);
    let nameless = "rules: [{ listen: \"10.0.0.1:80\", backends: [\"a:1\"], connection_limit: { total: 5, scope: cluster } }]\ncluster: {}";
    assert_eq!(good(nameless).warnings[0].field, "rules[0]");
}

#[test]
fn what_is_accepted_and_hardly_meant_is_a_warning() {
    for (field, text) in [
        ("rules[0].rate_limit.scope", "rate_limit: { requests_per_second: 5, scope: cluster }"),
        ("rules[0].rate_limit.delay_max", "rate_limit: { requests_per_second: 5, delay_max: 5s }"),
        ("rules[0].backend_queue", "backend_queue: { size: 5 }"),
        ("rules[0].bandwidth_limit.scope", "bandwidth_limit: { scope: cluster }"),
        ("rules[0].connection_limit.scope", "connection_limit: { total: 5, scope: cluster }"),
        (
            "rules[0].backend_connection_limit.scope",
            "backend_connection_limit: { limit: 5, scope: cluster }",
        ),
    ] {
        let warnings = good(&rule(text)).warnings;
        assert_eq!(warnings.len(), 1, "{text}: {warnings:?}");
        assert_eq!((warnings[0].field.as_str(), warnings[0].line), (field, Some(5)), "{text}");
    }
    let idle = "rules: [{ listen: \"0.0.0.0:80\", backends: [{ address: \"a:1\", weight: 0 }] }]";
    assert_eq!(good(idle).warnings[0].field, "rules[0].backends");
    let nameless = "rules: [{ listen: \"10.0.0.1:80\", backends: [\"a:1\"], rate_limit: { requests_per_second: 5 } }]\ncluster: {}";
    assert_eq!(good(nameless).warnings[0].field, "rules[0]");
    assert_eq!(&*good(nameless).plan.rules[0].name.0, "10.0.0.1:80");
}

#[test]
fn a_summary_counts_and_shows_its_warnings() {
    let loaded = good(&rule("backend_queue: { size: 5 }"));
    let text = summary(&loaded, "lb.yaml");
    assert!(text.starts_with("warning: lb.yaml:5:5: rules[0].backend_queue: "), "{text}");
    assert!(text.contains("rule web: 127.0.0.1:8080 → 1 backend\n"), "{text}");
    assert!(
        text.contains("lb.yaml is good: 1 rule, 1 listener, no cluster, 1 warning ("),
        "{text}"
    );
}
