//! Every fault at once, each at its line, with its remedy; and what is refused by name.

use super::*;

#[test]
fn all_faults_show_at_once_in_the_order_of_the_file() {
    let text = r#"
workers: 0
shutdown_timout: 30s
log: { level: loud }
tcp:
  nodelay: "yes"
  backlog: 4k
rules:
  - name: web
    listen: ":8080"
    backends:
      - "127.0.0.1"
      - { address: "127.0.0.1:8082", weigth: 3 }
      - 7: x
    balance: round_robin
    connect_timeout: 5
    idle_timeout: 10m
    idle_timeout: 20m
    panic_threshold: 0.5
    ratelimit: {}
    rate_limit:
      scope: node
    access: { allow: ["10.0.0.0/33"] }
    bandwidth_limit: { client: { upload_per_sec: 10MB, download_per_sec: 0 } }
  - listen: []
    backends: 5
  - "web"
  - name: web
    listen: ["0.0.0.0:9900", "10.0.0.1:80"]
    backends: []
cluster: { bind_addr: "9.9.9.9:9090", peers: ["n2"], advertise_addr: "0.0.0.0:9090" }
"#;
    let expected = "\
2 workers: `0` is out of range
3 shutdown_timout: unknown key `shutdown_timout`
4 log.level: `loud` is not a log level
6 tcp.nodelay: found `yes`
7 tcp.backlog: `4k` is not a whole number
10 rules[0].listen: `:8080` is not an address to listen on
12 rules[0].backends[0]: `127.0.0.1` has no port
13 rules[0].backends[1].weigth: unknown key `weigth`
14 rules[0].backends[2].address: is missing
14 rules[0].backends[2].7: unknown key `7`
15 rules[0].balance: `round_robin` is not known here
16 rules[0].connect_timeout: `5` has no unit
18 rules[0].idle_timeout: `idle_timeout` is written twice, first in line 17
19 rules[0].panic_threshold: `0.5` has no `%`
20 rules[0].ratelimit: unknown key `ratelimit`
21 rules[0].rate_limit: has no rate
23 rules[0].access.allow[0]: `10.0.0.0/33` is not a network
24 rules[0].bandwidth_limit.client.upload_per_sec: `10MB` is not a size
24 rules[0].bandwidth_limit.client.download_per_sec: 0 lets nothing pass
25 rules[1].listen: the list is empty
26 rules[1].backends: found `5`
27 rules[2]: found `web`
28 rules[3].name: `web` is already the name of rules[0]
29 rules[3].listen[0]: 0.0.0.0:9900 of rule `web` is also where `admin.listen` (127.0.0.1:9900) listens
30 rules[3].backends: the list is empty
31 cluster.bind_addr: 9.9.9.9 is a public address, and gossip without `keys_file` is plaintext
31 cluster.peers[0]: `n2` has no port
31 cluster.advertise_addr: `0.0.0.0:9090` is not an address that peers can reach";
    let mut told = told(text);
    let mut expected: Vec<_> = expected.lines().map(str::to_owned).collect();
    // Within a line the order is by column; which fault of one column comes first is all the same.
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
    for fault in &bad(text) {
        assert!(!fault.remedy.is_empty(), "{fault:?}");
        assert!(fault.line.is_some() && fault.column.is_some(), "{fault:?}");
    }
}

#[test]
fn the_nearest_known_key_or_word_is_named() {
    for (text, near) in [
        ("ratelimit: {}", "rate_limit"),
        ("backend_conection_limit: 5", "backend_connection_limit"),
        ("healthcheck: {}", "health_check"),
        ("Idle_Timeout: 5s", "idle_timeout"),
        ("balance: round_robin", "weighted_round_robin"),
        ("balance: leastconn", "least_connections"),
    ] {
        let faults = bad(&rule(text));
        let remedy = &faults.iter().next().unwrap().remedy;
        assert!(remedy.contains(&format!("did you mean `{near}`")), "{text}: {remedy}");
    }
    let faults = bad(&rule("zzz: 1"));
    assert!(faults.iter().next().unwrap().remedy.contains("known here: name, listen"));
}

#[test]
fn what_comes_later_is_refused_by_name() {
    for (field, text) in [
        ("protocol", "protocol: http"),
        ("balance", "balance: peak_ewma"),
        ("routes", "routes: []"),
        ("http", "http: { path: normalize }"),
        ("retries", "retries: { attempts: 2 }"),
        ("circuit_breaker", "circuit_breaker: { failures: 5 }"),
        ("sticky", "sticky: { by: client }"),
        ("cache", "cache: { enabled: true }"),
        ("compression", "compression: { algorithms: [gzip] }"),
        ("rate_limit.key", "rate_limit: { requests_per_second: 5, key: \"header:X-User\" }"),
    ] {
        let told = told(&rule(text));
        assert_eq!(told.len(), 1, "{text}: {told:?}");
        assert!(told[0].contains(&format!("rules[0].{field}: ")), "{text}: {told:?}");
        assert!(told[0].contains("not in this version"), "{text}: {told:?}");
    }
    let zone = "rules: [{ listen: \"0.0.0.0:80\", backends: [{ address: \"a:1\", zone: a }] }]";
    assert!(told(zone)[0].contains("not in this version"), "{:?}", told(zone));
    assert!(told(&format!("{}tracing: {{ sample: 1% }}\n", rule("")))[0].contains("not in this"));
}

#[test]
fn what_asks_for_nothing_is_accepted() {
    for text in [
        "tls: { enabled: false, cert: a.crt }",
        "backend_tls: { enabled: false }",
        "cache: { enabled: false }",
        "proxy_protocol: { accept: false, send: none }",
        "tls:",
        "connection_limit: { total: 5, scope: node }",
        "backend_connection_limit: { limit: 100, scope: node }",
        "rate_limit:",
        "rate_limit: { requests_per_second: 5, consistency: auto, on_partition: full, on_isolated: local_full }",
    ] {
        good(&rule(text));
    }
}

#[test]
fn an_address_has_one_owner_and_both_are_named() {
    let two = |a: &str, b: &str| {
        format!(
            "rules:\n  - name: one\n    listen: {a}\n    backends: [\"b:1\"]\n  - name: two\n    listen: {b}\n    backends: [\"b:1\"]\n"
        )
    };
    for (a, b) in [
        ("\"10.0.0.1:80\"", "\"10.0.0.1:80\""),
        ("\"0.0.0.0:80\"", "[\"10.0.0.2:81\", \"10.0.0.1:80\"]"),
        ("\"10.0.0.1:80\"", "\"0.0.0.0:80\""),
        ("\"[::]:80\"", "\"10.0.0.1:80\""),
    ] {
        let told = told(&two(a, b));
        assert_eq!(told.len(), 1, "{a} {b}: {told:?}");
        assert!(told[0].starts_with("6 rules[1].listen"), "{told:?}");
        assert!(told[0].contains("`one`") && told[0].contains("`two`"), "{told:?}");
    }
    good(&two("\"10.0.0.1:80\"", "\"10.0.0.2:80\""));
    good(&two("\"127.0.0.1:0\"", "\"127.0.0.2:0\""));
    let both = good(&two("[\"[::]:80\", \"0.0.0.0:80\"]", "\"10.0.0.1:81\"")).plan;
    assert!(both.rules[0].listen[0].is_ipv4(), "beside [::], IPv4 must be bound first");
    // A listener is known by what was written.
    assert!(told(&two("\"127.0.0.1:0\"", "\"127.0.0.1:0\""))[0].contains("already"));
    assert!(
        told(&two("[\"10.0.0.1:80\", \"10.0.0.1:80\"]", "\"10.0.0.1:81\""))[0].contains("twice")
    );
}

#[test]
fn a_rule_that_would_feed_itself_is_refused() {
    for (listen, backend) in [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("0.0.0.0:8080", "127.0.0.1:8080"),
        ("[::]:8080", "127.0.0.1:8080"),
    ] {
        let text = format!("rules: [{{ listen: \"{listen}\", backends: [\"{backend}\"] }}]");
        assert!(told(&text)[0].contains("a loop"), "{listen} {backend}");
    }
    good("rules: [{ listen: \"127.0.0.1:8080\", backends: [\"127.0.0.2:8080\"] }]");
}

#[test]
fn what_meets_the_listener_of_push_pull_is_named_with_it() {
    let cluster = |more: &str| {
        format!(
            "rules: [{{ name: web, listen: \"127.0.0.1:9911\", backends: [\"a:1\"] }}]\ncluster: {{ {more} }}\n"
        )
    };
    // UDP alone would not be in a rule's way.
    let told_of = told(&cluster("bind_addr: \"0.0.0.0:9911\""));
    assert_eq!(told_of.len(), 1, "{told_of:?}");
    let both = "9911 of rule `web` is also where `cluster.sync_addr` (0.0.0.0:9911) listens";
    assert!(told_of[0].contains("rules[0].listen: ") && told_of[0].contains(both), "{told_of:?}");
    let told_of = told(&cluster("sync_addr: \"0.0.0.0:9911\""));
    assert!(told_of.len() == 1 && told_of[0].contains(both), "{told_of:?}");
    let loaded = good(&cluster("bind_addr: \"0.0.0.0:9911\", sync_addr: \"0.0.0.0:9912\""));
    let plan = loaded.plan.cluster.unwrap();
    assert_eq!((plan.bind.port(), plan.sync.port()), (9911, 9912));
    let admin = format!("{}admin: {{ listen: \"127.0.0.1:9090\" }}\n", cluster("node_name: n"));
    let told_of = told(&admin);
    assert!(
        told_of[0].contains("cluster.sync_addr") && told_of[0].contains("admin.listen"),
        "{told_of:?}"
    );
}

#[test]
fn plaintext_gossip_stays_private_unless_asked() {
    let cluster = |more: &str| format!("{}cluster: {{ {more} }}\n", rule(""));
    good(&cluster("bind_addr: \"127.0.0.1:0\""));
    good(&cluster("peers: [\"10.0.0.2:9090\", \"seed.internal:9090\", \"[fd00::1]:9090\"]"));
    for (field, text) in [
        ("bind_addr", "bind_addr: \"198.51.100.1:9090\""),
        ("sync_addr", "sync_addr: \"198.51.100.1:9090\""),
        ("advertise_addr", "advertise_addr: \"8.8.8.8:9090\""),
        ("peers[1]", "peers: [\"10.0.0.2:9090\", \"8.8.8.8:9090\"]"),
    ] {
        let told = told(&cluster(text));
        assert!(told[0].contains(&format!("cluster.{field}: ")), "{told:?}");
        let loaded = good(&cluster(&format!("{text}, insecure: true")));
        assert!(loaded.plan.cluster.unwrap().insecure);
        assert_eq!(loaded.warnings[0].field, "cluster.insecure");
    }
}

#[test]
fn an_admin_that_others_can_reach_needs_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let admin = |text: &str| {
        let text = format!("{}admin: {text}\n", rule(""));
        parse(&text, "lb.yaml", dir.path()).map(|loaded| loaded.plan.admin.token)
    };
    let told = admin("{ listen: \"0.0.0.0:9900\" }").unwrap_err().to_string();
    assert!(told.contains("lb.yaml:5:") && told.contains("token_file"), "{told}");
    let with = "{ listen: \"0.0.0.0:9900\", token_file: ./token }";
    assert!(admin(with).unwrap_err().to_string().contains("cannot be read"));
    for (content, word) in [("\n", "empty"), ("two words", "token"), (&*"x".repeat(5000), "token")]
    {
        std::fs::write(dir.path().join("token"), content).unwrap();
        let told = admin(with).unwrap_err().to_string();
        assert!(told.contains("admin.token_file") && told.contains(word), "{told}");
    }
    std::fs::write(dir.path().join("token"), "secret\n").unwrap();
    assert_eq!(admin(with).unwrap().as_deref(), Some("secret"));
}

#[test]
fn keys_open_public_addresses_and_are_judged_where_they_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = |text: &str| {
        let text = format!("{}cluster: {{ {text} }}\n", rule(""));
        parse(&text, "lb.yaml", dir.path())
    };
    let told = |text: &str| cluster(text).unwrap_err().to_string();
    let with = "keys_file: ./k, bind_addr: \"9.9.9.9:9090\", peers: [\"8.8.8.8:1\"]";
    assert!(told(with).contains("cluster.keys_file") && told(with).contains("cannot be read"));
    let path = dir.path().join("k");
    std::fs::write(&path, "key 1 00").unwrap();
    assert!(told(with).contains("line 1: this is not a key"), "{}", told(with));

    let good = format!("salt {}\nkey 1 {}\n", "7".repeat(32), "5".repeat(64));
    std::fs::write(&path, good).unwrap();
    let only_owner = std::os::unix::fs::PermissionsExt::from_mode;
    std::fs::set_permissions(&path, only_owner(0o644)).unwrap();
    let loaded = cluster(with).unwrap();
    assert!(loaded.warnings[0].remedy.contains("chmod 600"), "{:?}", loaded.warnings[0]);
    std::fs::set_permissions(&path, only_owner(0o600)).unwrap();
    let loaded = cluster(with).unwrap();
    assert!(loaded.warnings.is_empty());
    let keys = loaded.plan.cluster.unwrap().keys.unwrap();
    assert_eq!((keys.ring.ids(), keys.file), (vec![1], path));

    let warned = |text: &str| cluster(text).unwrap().warnings.remove(0).what;
    let past = "keys_file: k, accept_plaintext_until: 2020-01-01T00:00:00Z";
    assert!(warned(past).contains("over"), "{}", warned(past));
    let future = "keys_file: k, accept_plaintext_until: 2126-01-01T00:00:00Z";
    assert!(warned(future).contains("anyone"), "{}", warned(future));
    assert!(warned("keys_file: k, insecure: true").contains("sealed"));
    let until = cluster(future).unwrap().plan.cluster.unwrap().plaintext_until;
    assert_eq!(until, Some(4_922_899_200_000));
    assert!(told("accept_plaintext_until: 2126-01-01T00:00:00Z").contains("keys_file"));
    assert!(told("keys_file: k, accept_plaintext_until: tomorrow").contains("is not a time"));
}

#[test]
fn a_file_that_cannot_be_read_is_one_clear_fault() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lb.yaml");
    let told = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        load(&file).unwrap_err().to_string()
    };
    assert!(load(&file).unwrap_err().to_string().contains("cannot be read"));
    assert!(told(b"a: 1\nb: \xff\n").contains(":2: is not UTF-8"), "{}", told(b"a: 1\nb: \xff\n"));
    assert!(told(&vec![b' '; (1 << 20) + 1]).contains("larger than 1 MiB"));
    assert!(told(b"").contains("empty"));
    assert!(told(b"- a\n").contains("found a list"));
    assert!(load(dir.path()).unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn an_empty_file_of_keys_says_what_is_missing() {
    assert_eq!(told("workers: 1\n"), ["1 rules: is missing"]);
    assert_eq!(told("workers: 1\nrules:\n"), ["2 rules: is missing"]);
    assert_eq!(told("rules: []\n"), ["1 rules: the list is empty"]);
    let one = told("rules:\n  - name: a\n");
    assert_eq!(one, ["2 rules[0].listen: is missing", "2 rules[0].backends: is missing"]);
}

#[test]
fn a_key_with_nothing_behind_it_is_as_if_it_were_not_there() {
    let told = told(&rule("rate_limit: { requests_per_second: }"));
    assert_eq!(told, ["5 rules[0].rate_limit: has no rate"]);
}

#[test]
fn a_syntax_fault_tells_its_likely_cause() {
    for (text, line, remedy) in [
        ("rules:\n\t- name: x\n", 2, "spaces instead of the tab"),
        ("rules:\n  - listen: *:8080\n", 2, "into quotes"),
        ("rules:\n  - name: @web\n", 2, "into quotes"),
        ("rules:\n- a\n b: 3\n", 3, "indentation"),
    ] {
        let faults = bad(text);
        let fault = faults.iter().next().unwrap();
        assert_eq!((faults.len(), fault.line), (1, Some(line)), "{text}: {faults}");
        assert!(fault.remedy.contains(remedy), "{text}: {faults}");
    }
}

#[test]
fn a_rule_that_is_named_by_its_address_is_not_called_as_another_one() {
    let text = "rules:
  - { name: \"10.0.0.1:81\", listen: \"10.0.0.1:80\", backends: [\"b:1\"] }
  - { listen: \"10.0.0.1:81\", backends: [\"b:1\"] }
";
    assert!(told(text)[0].contains("already the name of rules[0]"), "{:?}", told(text));
}
