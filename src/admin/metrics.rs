//! `/metrics`: every figure of the node under its Prometheus name. The names are a contract:
//! dashboards and alerts are written against them. No client address is ever a label.

use std::collections::BTreeMap;

use super::families::Families;
use super::process::Process;
use super::shapes;
use super::sources::{GossipMetrics, LeaseMetrics, Metrics, Sources};

/// The content type of what [`render`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics as text.
///
/// # Errors
/// Only if the encoder refuses a family, which would be our own fault.
pub fn render(sources: &dyn Sources) -> Result<Vec<u8>, prometheus::Error> {
    let mut out = Families::default();
    let metrics = sources.metrics();
    node(&mut out, &sources.status(), &metrics);
    rules(&mut out, &sources.rules().rules, &metrics);
    backends(&mut out, &sources.backends().backends);
    limits(&mut out, &sources.limits().limits);
    members(&mut out, &sources.members().members);
    if let Some(figures) = &metrics.gossip {
        gossip(&mut out, figures);
    }
    process(&mut out, Process::read());
    out.render()
}

fn node(out: &mut Families, status: &shapes::Status, metrics: &Metrics) {
    let version = [(vec![status.version.clone()], 1.0)];
    out.gauges("tidegate_build_info", "Version of the program; always 1.", &["version"], version);
    out.gauge("tidegate_uptime_seconds", "Seconds since this node started.", status.uptime_s);
    let ready = "1 when /readyz answers 200.";
    out.gauge("tidegate_ready", ready, flag(status.ready));
    let live = "Live client connections of all rules.";
    out.gauge("tidegate_live_connections", live, status.connections as f64);
    out.gauge("tidegate_workers", "Worker threads.", status.workers as f64);

    let good = "1 when the last configuration read was good; 0 while an older one runs on.";
    out.gauge("tidegate_config_ok", good, flag(status.config.ok));
    out.gauge(
        "tidegate_config_loaded_timestamp_seconds",
        "Unix time at which the running configuration was loaded.",
        metrics.config_loaded_at,
    );
    out.gauge(
        "tidegate_config_drift",
        "Alive members whose configuration differs from this node's.",
        metrics.gossip.as_ref().map_or(0.0, |gossip| gossip.drifted as f64),
    );
    let (taken, refused) = metrics.reloads;
    out.counters(
        "tidegate_config_reloads_total",
        "Configurations read again, by result: taken or refused.",
        &["result"],
        [(vec!["taken".into()], taken as f64), (vec!["refused".into()], refused as f64)],
    );
    out.counters(
        "tidegate_accept_pauses_total",
        "Pauses of the accept loops because a resource ran out, by cause.",
        &["cause"],
        labelled(&metrics.accept_pauses),
    );
    out.counter(
        "tidegate_access_log_dropped_total",
        "Access log lines dropped because the writer could not keep up.",
        metrics.access_log_dropped as f64,
    );
    out.gauges(
        "tidegate_acts",
        "Acts of operators that hold: bans, drains, changed backends.",
        &["kind"],
        labelled(&metrics.acts),
    );
    out.counter(
        "tidegate_acts_refused_total",
        "Acts that found no room on this node.",
        metrics.acts_refused as f64,
    );
    certificates(out, status);
    tickets(out, &status.tickets);
}

fn certificates(out: &mut Families, status: &shapes::Status) {
    let good = "1 when the certificates in their files are in use; 0 while older ones stay.";
    out.gauge("tidegate_certificates_ok", good, flag(status.certificates_fault.is_none()));
    let each = status.certificates.iter().map(|one| {
        let labels = [&one.kind, &one.file, &one.name, &one.serial];
        (labels.map(String::clone).to_vec(), one.expires_s)
    });
    out.gauges(
        "tidegate_certificate_expiry_timestamp_seconds",
        "Unix time at which a certificate in use, an authority, a revocation list or an OCSP \
         response ends to be good.",
        &["kind", "file", "name", "serial"],
        each,
    );
}

fn tickets(out: &mut Families, tickets: &shapes::TicketStatus) {
    let known = "Secrets of session tickets that this node knows.";
    out.gauge("tidegate_ticket_secrets", known, tickets.secrets as f64);
    let age = "Seconds that the secret in use has sealed session tickets here.";
    out.gauge("tidegate_ticket_sealing_age_seconds", age, tickets.sealing_s.unwrap_or(0.0));
    let shared = "1 when sealed gossip brings the secrets of session tickets to all nodes.";
    out.gauge("tidegate_tickets_shared", shared, flag(tickets.shared));
}

fn rules(out: &mut Families, rules: &[shapes::Rule], metrics: &Metrics) {
    let each = |value: fn(&shapes::Rule) -> f64| {
        rules.iter().map(move |rule| (vec![rule.name.clone()], value(rule)))
    };
    out.counters(
        "tidegate_connections_total",
        "Client connections accepted.",
        &["rule"],
        each(|rule| rule.connections as f64),
    );
    out.gauges(
        "tidegate_connections_active",
        "Client connections that are live now.",
        &["rule"],
        each(|rule| rule.active as f64),
    );
    out.counters(
        "tidegate_sessions_total",
        "Sessions that ended, by the reason in the access log.",
        &["rule", "reason"],
        rules.iter().flat_map(|rule| {
            let name = &rule.name;
            rule.outcomes
                .iter()
                .map(move |(reason, count)| (vec![name.clone(), reason.clone()], *count as f64))
        }),
    );
    out.counters(
        "tidegate_bytes_total",
        "Bytes relayed: upload is from clients, download to clients.",
        &["rule", "direction"],
        rules.iter().flat_map(|rule| {
            [("upload", rule.bytes_up), ("download", rule.bytes_down)]
                .map(|(way, bytes)| (vec![rule.name.clone(), way.into()], bytes as f64))
        }),
    );
    out.gauges(
        "tidegate_rule_panic",
        "1 while too few backends are healthy, so that all are used.",
        &["rule"],
        each(|rule| flag(rule.panic)),
    );
    out.gauges(
        "tidegate_rule_backends_usable",
        "Backends that can be used for new connections.",
        &["rule"],
        each(|rule| rule.backends_up as f64),
    );
    out.histograms(
        "tidegate_session_phase_seconds",
        "Time that sessions spent in a phase: handshake, wait, connect or total.",
        &["rule", "phase"],
        metrics.rules.iter().flat_map(|rule| {
            rule.phases.iter().map(|phase| {
                let labels = vec![rule.rule.clone(), phase.phase.into()];
                (labels, phase.bounds, phase.counts.as_slice(), phase.sum)
            })
        }),
    );
    out.gauges(
        "tidegate_queued_connections",
        "Connections waiting for a full backend.",
        &["rule"],
        metrics.rules.iter().map(|rule| (vec![rule.rule.clone()], rule.queued as f64)),
    );
    out.gauges(
        "tidegate_tracked_clients",
        "Clients with a connection cap or bandwidth state.",
        &["rule"],
        metrics.rules.iter().map(|rule| (vec![rule.rule.clone()], rule.tracked_clients as f64)),
    );
}

fn backends(out: &mut Families, backends: &[shapes::Backend]) {
    let labels = &["rule", "backend"];
    let key = |backend: &shapes::Backend| vec![backend.rule.clone(), backend.address.clone()];
    // Two names may resolve to one address: it is up when it is up by either.
    let mut up: BTreeMap<Vec<String>, bool> = BTreeMap::new();
    for backend in backends {
        *up.entry(key(backend)).or_default() |= backend.state == "up";
    }
    out.gauges(
        "tidegate_backend_up",
        "1 when this node finds the backend up (neither down, ejected nor draining).",
        labels,
        up.into_iter().map(|(key, up)| (key, flag(up))),
    );
    out.gauges(
        "tidegate_backend_connections_active",
        "Live connections of this node to the backend.",
        labels,
        backends.iter().map(|backend| (key(backend), backend.active as f64)),
    );
    out.gauges(
        "tidegate_backend_cluster_connections_active",
        "Live connections of all nodes to the backend, the others' as they told last.",
        labels,
        backends.iter().map(|backend| (key(backend), backend.cluster_active as f64)),
    );
    out.gauges(
        "tidegate_backend_checked_here",
        "1 when this node checks the backend, 0 when it leaves that to others.",
        labels,
        backends.iter().map(|backend| (key(backend), flag(backend.checked_here))),
    );
    out.counters(
        "tidegate_backend_connections_total",
        "Connections of this node to the backend.",
        labels,
        backends.iter().map(|backend| (key(backend), backend.connections as f64)),
    );
    out.counters(
        "tidegate_backend_connect_failures_total",
        "Connects to the backend that failed.",
        labels,
        backends.iter().map(|backend| (key(backend), backend.connect_failures as f64)),
    );
    out.gauges(
        "tidegate_backend_states",
        "Backends of the rule by state.",
        &["rule", "state"],
        backends.iter().flat_map(|backend| {
            ["up", "down", "drain", "ejected"].map(|state| {
                (vec![backend.rule.clone(), state.into()], flag(backend.state == state))
            })
        }),
    );
}

fn limits(out: &mut Families, limits: &[shapes::Limit]) {
    let each = |value: fn(&shapes::Limit) -> f64| {
        limits.iter().map(move |limit| (vec![limit.rule.clone()], value(limit)))
    };
    let labels = &["rule"];
    let admitted = "Admitted by the rate limit on this node.";
    out.counters("tidegate_limit_admitted_total", admitted, labels, each(|l| l.admitted as f64));
    let refused = "Refused by the rate limit on this node (in shadow mode: would have been).";
    out.counters("tidegate_limit_refused_total", refused, labels, each(|l| l.refused as f64));
    let keys = "Clients that the rate limit tracks.";
    out.gauges("tidegate_limit_keys", keys, labels, each(|l| l.keys as f64));
    let max = "Most clients that the rate limit tracks.";
    out.gauges("tidegate_limit_max_keys", max, labels, each(|l| l.max_keys as f64));
    let untracked = "Served without being tracked because the table of clients was full.";
    out.counters("tidegate_limit_untracked_total", untracked, labels, each(|l| l.untracked as f64));
    let elsewhere =
        "Tokens by which owners' levels were below this node's view: what other nodes spent.";
    out.counters(
        "tidegate_limit_spent_elsewhere_total",
        elsewhere,
        labels,
        each(|l| l.spent_elsewhere as f64),
    );
    let told = "Levels that owners of keys told this node.";
    out.counters("tidegate_limit_levels_told_total", told, labels, each(|l| l.levels_told as f64));
    let error = "Tokens by which this node's view of a key differed from a told level, summed up.";
    out.counters(
        "tidegate_limit_level_error_tokens_total",
        error,
        labels,
        each(|l| l.level_error as f64),
    );
    let unsynced = "Tokens that a told level did not know of yet, summed up.";
    out.counters(
        "tidegate_limit_unsynced_tokens_total",
        unsynced,
        labels,
        each(|l| l.unsynced as f64),
    );
    let rate = "The rate limit as configured, admissions per second.";
    out.gauges("tidegate_limit_rate", rate, labels, each(|l| l.rate));
}

fn members(out: &mut Families, members: &[shapes::Member]) {
    let count = |state| members.iter().filter(|member| member.state == state).count() as f64;
    // All four, so that an alert on `failed` sees 0 and not silence.
    let states = ["alive", "suspect", "failed", "left"];
    out.gauges(
        "tidegate_members",
        "Cluster members that this node knows, itself included, by state.",
        &["state"],
        states.map(|state| (vec![state.into()], count(state))),
    );
}

fn gossip(out: &mut Families, figures: &GossipMetrics) {
    let both = [("sent", &figures.sent), ("received", &figures.received)];
    let labels = |direction: &str, kind: &str| vec![direction.to_owned(), kind.to_owned()];
    out.counters(
        "tidegate_gossip_datagrams_total",
        "Gossip datagrams by direction (sent, received) and type.",
        &["direction", "type"],
        both.iter().flat_map(|(direction, types)| {
            types.iter().map(|(kind, datagrams, _)| (labels(direction, kind), *datagrams as f64))
        }),
    );
    out.counters(
        "tidegate_gossip_bytes_total",
        "Bytes of gossip datagrams by direction (sent, received) and type.",
        &["direction", "type"],
        both.iter().flat_map(|(direction, types)| {
            types.iter().map(|(kind, _, bytes)| (labels(direction, kind), *bytes as f64))
        }),
    );
    out.counters(
        "tidegate_gossip_dropped_total",
        "Gossip datagrams received and dropped, by reason.",
        &["reason"],
        labelled(&figures.dropped),
    );
    let sealed = "1 when gossip datagrams are authenticated.";
    out.gauge("tidegate_gossip_authenticated", sealed, flag(figures.authenticated));
    let rows = "Reporters in the books of keys that this node owns or backs up.";
    out.gauge("tidegate_limit_books_rows", rows, figures.rows as f64);
    let keys = "Keys in the books that this node keeps as their owner or backup.";
    out.gauge("tidegate_limit_books_keys", keys, figures.owned_keys as f64);
    let full = "Reports that the books had no place for.";
    out.counter("tidegate_limit_books_untracked_total", full, figures.owner_untracked as f64);
    let failovers = "Times that an owner did not answer and its backup was asked instead.";
    out.counter("tidegate_limit_failovers_total", failovers, figures.owner_failovers as f64);
    let reports = "Reports of keys sent to their owners and backups.";
    out.counter("tidegate_limit_reports_total", reports, figures.reports as f64);
    let resent = "Reports sent again as nobody had answered.";
    out.counter("tidegate_limit_reports_resent_total", resent, figures.reports_resent as f64);
    let rtt = "Usual seconds from a report to the owner's answer, of the slowest owner.";
    out.gauge("tidegate_limit_owner_rtt_seconds", rtt, figures.owner_rtt_s);
    let score = "Local health score of the failure detector; 0 is good.";
    out.gauge("tidegate_gossip_health_score", score, figures.health_score as f64);
    let throttled = "Times that the traffic cap held gossip back.";
    out.counter("tidegate_gossip_throttled_total", throttled, figures.throttled as f64);
    let restarts = "Panics that the gossip agent survived by a new start.";
    out.counter("tidegate_gossip_restarts_total", restarts, figures.restarts as f64);
    let silent = "Seconds since the gossip agent last ran; it runs several times a second.";
    out.gauge("tidegate_gossip_silent_seconds", silent, figures.silent_s);
    let duplicates = "Alive nodes that share a name, and claims of others on this address.";
    out.gauge("tidegate_gossip_duplicates", duplicates, figures.duplicates as f64);
    let asks = "Asks of workers to other nodes, by how they ended.";
    out.counters("tidegate_asks_total", asks, &["result"], labelled(&figures.asks));
    leases(out, &figures.leases);
    let (written, failed) = figures.state_writes;
    out.counters(
        "tidegate_state_writes_total",
        "Writes of the node's state to `cluster.state_dir`, by result: written or failed.",
        &["result"],
        [(vec!["written".into()], written as f64), (vec!["failed".into()], failed as f64)],
    );
    out.counters(
        "tidegate_gossip_syncs_total",
        "Push/pulls over TCP that ended, by role (caller or called) and result (done or failed).",
        &["role", "result"],
        figures
            .syncs
            .iter()
            .map(|([role, result], count)| (vec![(*role).into(), (*result).into()], *count as f64)),
    );
    let key = "The name of the key that seals gossip; 0 in plaintext.";
    out.gauge("tidegate_gossip_sealing_key", key, figures.sealing_key.into());
    let boots = "Starts of peers that answered their challenge, so that what they seal is heard.";
    out.gauge("tidegate_gossip_known_boots", boots, figures.boots as f64);
    let clones = "Nodes of which two processes live: their state directory was copied.";
    out.gauge("tidegate_gossip_clones", clones, figures.clones as f64);
}

fn leases(out: &mut Families, figures: &LeaseMetrics) {
    out.gauges(
        "tidegate_permits",
        "Permits under caps over the cluster that this node holds, by state: used or free.",
        &["state"],
        [
            (vec!["used".into()], figures.used as f64),
            (vec!["free".into()], figures.held.saturating_sub(figures.used) as f64),
        ],
    );
    let unasked = "Connections let in on this node's even share, because nobody answered.";
    out.counter("tidegate_permits_unasked_total", unasked, figures.unasked as f64);
    out.gauges(
        "tidegate_lease_keys",
        "Keys of caps over the cluster: claimed by this node, or booked by it for all; and keys whose \
         bandwidth it splits.",
        &["role"],
        [
            (vec!["claimed".into()], figures.claimed as f64),
            (vec!["booked".into()], figures.booked as f64),
            (vec!["split".into()], figures.split as f64),
        ],
    );
    out.counters(
        "tidegate_leases_total",
        "What this node did as an owner of keys: permits lent, holders recalled or told full, \
         reports without room.",
        &["event"],
        labelled(&figures.events),
    );
}

fn process(out: &mut Families, process: Process) {
    if let Some(seconds) = process.cpu_seconds {
        let help = "User and system CPU time spent, in seconds.";
        out.counter("process_cpu_seconds_total", help, seconds);
    }
    let gauges = [
        ("process_start_time_seconds", "Unix time of the start.", process.start_time),
        ("process_resident_memory_bytes", "Resident memory.", process.resident_bytes.map(float)),
        ("process_virtual_memory_bytes", "Address space.", process.virtual_bytes.map(float)),
        ("process_threads", "Threads.", process.threads.map(float)),
        ("process_open_fds", "Open file descriptors.", process.open_fds.map(float)),
        ("process_max_fds", "Most file descriptors allowed.", process.max_fds.map(float)),
    ];
    for (name, help, value) in gauges {
        if let Some(value) = value {
            out.gauge(name, help, value);
        }
    }
}

fn labelled(counts: &[(&'static str, u64)]) -> impl Iterator<Item = (Vec<String>, f64)> {
    counts.iter().map(|(label, count)| (vec![(*label).to_owned()], *count as f64))
}

fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}

fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::super::fake::Fake;
    use super::*;

    fn text(fake: &Fake) -> String {
        String::from_utf8(render(fake).unwrap()).unwrap()
    }

    #[test]
    fn every_promised_name_is_there_with_its_labels() {
        let text = text(&Fake::busy());
        for line in [
            r#"tidegate_connections_total{rule="web"} 1200"#,
            r#"tidegate_connections_active{rule="web"} 7"#,
            r#"tidegate_sessions_total{rule="web",reason="done"} 1180"#,
            r#"tidegate_bytes_total{rule="web",direction="upload"} 10485760"#,
            r#"tidegate_session_phase_seconds_bucket{rule="web",phase="connect",le="0.001"} 3"#,
            r#"tidegate_session_phase_seconds_count{rule="web",phase="connect"} 6"#,
            r#"tidegate_backend_up{rule="web",backend="10.0.0.7:8081"} 1"#,
            r#"tidegate_backend_up{rule="web",backend="10.0.0.8:8081"} 0"#,
            r#"tidegate_backend_connect_failures_total{rule="web",backend="10.0.0.8:8081"} 4"#,
            r#"tidegate_limit_admitted_total{rule="web"} 1100"#,
            r#"tidegate_limit_refused_total{rule="web"} 100"#,
            r#"tidegate_limit_keys{rule="web"} 12"#,
            r#"tidegate_limit_untracked_total{rule="web"} 0"#,
            r#"tidegate_members{state="alive"} 2"#,
            r#"tidegate_members{state="failed"} 1"#,
            "tidegate_config_drift 1",
            "tidegate_config_ok 1",
            r#"tidegate_config_reloads_total{result="refused"} 1"#,
            r#"tidegate_gossip_datagrams_total{direction="sent",type="swim"} 40"#,
            r#"tidegate_gossip_bytes_total{direction="received",type="swim"} 3900"#,
            r#"tidegate_gossip_dropped_total{reason="version"} 2"#,
            "tidegate_gossip_authenticated 0",
            r#"tidegate_asks_total{result="refused"} 2"#,
            r#"tidegate_permits{state="used"} 7"#,
            r#"tidegate_permits{state="free"} 2"#,
            r#"tidegate_lease_keys{role="booked"} 5"#,
            r#"tidegate_leases_total{event="lent"} 11"#,
            "tidegate_permits_unasked_total 1",
            r#"tidegate_state_writes_total{result="failed"} 1"#,
            r#"tidegate_gossip_syncs_total{role="caller",result="done"} 2"#,
            r#"tidegate_accept_pauses_total{cause="emfile"} 3"#,
            "tidegate_access_log_dropped_total 5",
            r#"tidegate_acts{kind="ban"} 2"#,
            "tidegate_acts_refused_total 0",
            r#"tidegate_build_info{version="0.1.0"} 1"#,
        ] {
            assert!(text.lines().any(|have| have == line), "missing `{line}` in\n{text}");
        }
        assert!(text.contains("process_open_fds "));
    }

    #[test]
    fn a_node_alone_and_idle_still_shows_what_alerts_need() {
        let text = text(&Fake::default());
        assert!(text.contains("tidegate_members{state=\"failed\"} 0\n"));
        assert!(text.contains("tidegate_config_drift 0\n"));
        assert!(!text.contains("tidegate_gossip_"));
    }

    #[test]
    fn one_address_under_two_names_is_shown_once() {
        let mut fake = Fake::busy();
        let twin = fake.backends.backends[1].clone();
        fake.backends.backends.push(shapes::Backend { state: "up".into(), ..twin });
        let text = text(&fake);
        let series: Vec<_> =
            text.lines().filter(|line| line.starts_with("tidegate_backend_up{")).collect();
        assert_eq!(series.len(), 2, "{series:?}");
        assert!(text.contains("tidegate_backend_up{rule=\"web\",backend=\"10.0.0.8:8081\"} 1"));
    }

    #[test]
    fn promtool_finds_nothing_to_say() {
        let child = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            println!("skipped: promtool is not installed (Debian: prometheus)");
            return;
        };
        child.stdin.take().unwrap().write_all(text(&Fake::busy()).as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}
