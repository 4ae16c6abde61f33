//! What the commands print for people: aligned columns that fit 100 characters.

use super::shapes::{Backend, Backends, Bans, Limits, Members, OverlayAct, Rules, Status};
use super::words;

/// Widest line; where names are long, the widest column is cut with `…`.
const WIDTH: usize = 100;
/// Two blanks between columns.
const GAP: usize = 2;
/// No column is cut below this.
const NARROW: usize = 8;

/// A header and rows of the same number of cells; `>` before a header's name aligns its column
/// right.
struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(header: &[&'static str]) -> Self {
        Table { header: header.to_vec(), rows: Vec::new() }
    }

    fn render(&self) -> String {
        let names: Vec<&str> =
            self.header.iter().map(|name| name.trim_start_matches('>')).collect();
        let mut widths: Vec<usize> = names.iter().map(|name| name.len()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let gaps = GAP * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > WIDTH {
            match widths.iter_mut().max() {
                Some(widest) if *widest > NARROW => *widest -= 1,
                _ => break,
            }
        }
        let mut out = String::new();
        self.line(&mut out, &widths, names.into_iter());
        for row in &self.rows {
            self.line(&mut out, &widths, row.iter().map(String::as_str));
        }
        out
    }

    fn line<'a>(&self, out: &mut String, widths: &[usize], cells: impl Iterator<Item = &'a str>) {
        let mut line = String::new();
        for ((cell, width), name) in cells.zip(widths).zip(&self.header) {
            let cell = cut(cell, *width);
            let pad = " ".repeat(width - cell.chars().count());
            let (before, after) =
                if name.starts_with('>') { (pad, "".into()) } else { ("".into(), pad) };
            line.push_str(&before);
            line.push_str(&cell);
            line.push_str(&after);
            line.push_str("  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// At most `width` characters. What came over the network (names) must not steer the terminal, so
/// control characters are shown as `?`.
fn cut(cell: &str, width: usize) -> String {
    let clean = |c: char| if c.is_control() { '?' } else { c };
    if cell.chars().count() <= width {
        return cell.chars().map(clean).collect();
    }
    let mut short: String = cell.chars().map(clean).take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

fn digest(full: &str) -> &str {
    full.get(..8).unwrap_or(full)
}

/// `tidegate members`.
pub fn members(view: &Members) -> String {
    if view.members.is_empty() {
        return "this node is alone: no cluster is configured\n".to_owned();
    }
    let own = view.members.iter().find(|member| member.own).map(|own| own.config_digest.as_str());
    let mut header = vec!["", "NAME", "ADDRESS", "STATE", ">FOR", "VERSION", "CONFIG"];
    // In a plaintext cluster nobody has any.
    let keys = view.members.iter().any(|member| !member.keys.is_empty());
    if keys {
        header.push("KEYS");
    }
    let mut table = Table::new(&header);
    for member in &view.members {
        let differs = !member.config_digest.is_empty() && own != Some(&member.config_digest);
        let config = digest(&member.config_digest);
        let mut row = vec![
            if member.own { "*" } else { "" }.into(),
            member.name.clone(),
            member.address.clone(),
            member.state.clone(),
            words::seconds(member.since_s),
            member.version.clone(),
            if differs { format!("{config} differs") } else { config.to_owned() },
        ];
        if keys {
            let ids: Vec<String> = member.keys.iter().map(u8::to_string).collect();
            row.push(if ids.is_empty() { "none".to_owned() } else { ids.join(" ") });
        }
        table.rows.push(row);
    }
    table.render()
}

/// `tidegate backends`.
pub fn backends(view: &Backends) -> String {
    if view.backends.is_empty() {
        return "no backends\n".to_owned();
    }
    let header = [
        "RULE",
        "ADDRESS",
        "STATE",
        ">FOR",
        ">WEIGHT",
        ">ACTIVE",
        ">CLUSTER",
        ">TOTAL",
        ">FAILED",
        "VOTES",
        "LAST CHECK",
    ];
    let mut table = Table::new(&header);
    for backend in &view.backends {
        let mut address = backend.address.clone();
        if backend.name != backend.address && !backend.name.is_empty() {
            address = format!("{address} ({})", backend.name);
        }
        let up = backend.votes.values().filter(|vote| *vote == "up").count();
        table.rows.push(vec![
            backend.rule.clone(),
            address,
            if backend.backup {
                format!("{}, backup", backend.state)
            } else {
                backend.state.clone()
            },
            since(backend).map_or("-".into(), words::seconds),
            backend.weight.to_string(),
            words::count(backend.active),
            words::count(backend.cluster_active),
            words::count(backend.connections),
            words::count(backend.connect_failures),
            if backend.votes.is_empty() {
                "-".into()
            } else {
                format!("{up}/{} up", backend.votes.len())
            },
            backend.last_check.clone(),
        ]);
    }
    table.render()
}

/// How long a backend has been what it is, by whoever has seen it longest.
fn since(backend: &Backend) -> Option<f64> {
    let agree = backend.opinions.values().filter(|opinion| opinion.verdict == backend.state);
    agree.map(|opinion| opinion.since_s).max_by(f64::total_cmp)
}

/// `tidegate rules`.
pub fn rules(view: &Rules) -> String {
    if view.rules.is_empty() {
        return "no rules\n".to_owned();
    }
    let header =
        ["RULE", "LISTEN", "BALANCE", ">ACTIVE", ">TOTAL", ">UPLOAD", ">DOWNLOAD", "BACKENDS"];
    let mut table = Table::new(&header);
    for rule in &view.rules {
        let usable = format!("{}/{}", rule.backends_up, rule.backends_total);
        table.rows.push(vec![
            rule.name.clone(),
            rule.listen.join(", "),
            rule.balance.clone(),
            words::count(rule.active),
            words::count(rule.connections),
            words::bytes(rule.bytes_up),
            words::bytes(rule.bytes_down),
            if rule.panic { format!("{usable}, panic") } else { usable },
        ]);
    }
    table.render()
}

/// `tidegate limits`.
pub fn limits(view: &Limits) -> String {
    if view.limits.is_empty() {
        return "no rate limits\n".to_owned();
    }
    let header = [
        "RULE",
        "SCOPE",
        "ALGORITHM",
        ">RATE/S",
        ">BURST",
        ">ADMITTED",
        ">REFUSED",
        ">ELSEWHERE",
        ">KEYS",
    ];
    let mut table = Table::new(&header);
    for limit in &view.limits {
        let scope = &limit.scope;
        table.rows.push(vec![
            limit.rule.clone(),
            if limit.shadow { format!("{scope}, shadow") } else { scope.clone() },
            limit.algorithm.clone(),
            words::figure(limit.rate),
            words::figure(limit.burst),
            words::count(limit.admitted),
            words::count(limit.refused),
            words::count(limit.spent_elsewhere),
            words::count(limit.keys),
        ]);
    }
    table.render()
}

/// `tidegate bans`.
pub fn bans(view: &Bans) -> String {
    if view.bans.is_empty() {
        return "nobody is banned\n".to_owned();
    }
    let mut table = Table::new(&["CLIENT", ">LEFT", "CUT", "BY", "SINCE"]);
    for ban in &view.bans {
        table.rows.push(vec![
            ban.client.clone(),
            ban.left_s.map_or_else(|| "for ever".to_owned(), words::seconds),
            if ban.cut { "yes" } else { "-" }.to_owned(),
            ban.by.clone(),
            ban.since.clone(),
        ]);
    }
    table.render()
}

/// An act on a backend, in a line.
pub(super) fn overlay(act: &OverlayAct) -> String {
    let weight = act.weight.map(|weight| format!(" {weight}")).unwrap_or_default();
    let idle = act.idle.as_ref().map(|idle| format!("; does not hold: {idle}"));
    format!(
        "{} {}: {}{weight} (by {}, {}){}",
        act.rule,
        act.backend,
        act.act,
        act.by,
        act.since,
        idle.unwrap_or_default()
    )
}

/// `tidegate status`: one figure a line.
pub fn status(view: &Status) -> String {
    let mut lines = Lines::default();
    lines.add("node", &view.node);
    lines.add("version", &view.version);
    lines.add("up", &words::seconds(view.uptime_s));
    let ready =
        if view.ready { "yes".to_owned() } else { format!("no: {}", view.not_ready.join("; ")) };
    lines.add("ready", &ready);
    lines.add("connections", &words::count(view.connections));
    lines.add("workers", &view.workers.to_string());
    lines.add("pid", &view.pid.to_string());
    let config = format!("{}, loaded {}", digest(&view.config.digest), view.config.loaded_at);
    lines.add("config", &config);
    if !view.config.ok {
        lines.add("config file", "has faults, so the configuration above runs on:");
        for fault in view.config.error.as_deref().unwrap_or_default().lines() {
            lines.add("", fault);
        }
    }
    if let Some(faults) = &view.certificates_fault {
        lines.add("certificates", "some files are of no use, so the ones in use stay:");
        for fault in faults.lines() {
            lines.add("", fault);
        }
    }
    for one in view.certificates.iter().filter(|one| one.trouble.is_some()) {
        let trouble = one.trouble.as_deref().unwrap_or_default();
        let text = format!("{} ({}) {trouble}", one.file, one.name);
        lines.add(&one.kind.replace('_', " "), &text);
    }
    if view.bans > 0 {
        lines.add("bans", &view.bans.to_string());
    }
    for (at, act) in view.overlay.iter().enumerate() {
        lines.add(if at == 0 { "overlay" } else { "" }, &overlay(act));
    }
    if let Some(sealing) = view.tickets.sealing_s {
        let shared =
            if view.tickets.shared { "shared by sealed gossip" } else { "this node's alone" };
        let (known, sealing) = (view.tickets.secrets, words::seconds(sealing));
        let noun = if known == 1 { "secret" } else { "secrets" };
        lines.add("tickets", &format!("{known} {noun}, {shared}; one seals for {sealing}"));
    }
    match &view.gossip {
        None => lines.add("gossip", "alone, no cluster is configured"),
        Some(gossip) => {
            lines.add("gossip", &format!("{}, {} alive", gossip.address, gossip.alive));
            let sealed = if gossip.authenticated { "yes" } else { "NO" };
            let advice = if gossip.advice.is_empty() { "" } else { ": " };
            lines.add("authenticated", &format!("{sealed}{advice}{}", gossip.advice));
            if let Some(fault) = &gossip.fault {
                lines.add("not let in", fault);
            }
            if let Some(state) = &gossip.state {
                let fault = state.error.as_ref().map(|error| format!(", NOT WRITTEN: {error}"));
                lines.add("state", &format!("{}{}", state.dir, fault.unwrap_or_default()));
            }
            if let Some(fault) = &gossip.keys_fault {
                lines.add("keys file", &format!("{fault}; the keys in use stay"));
            }
            if let Some(cloned) = &gossip.cloned {
                lines.add("CLONED", cloned);
            }
        }
    }
    lines.render()
}

/// `name  value` lines with the values below each other.
#[derive(Default)]
struct Lines(Vec<(String, String)>);

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), cut(value, usize::MAX)));
    }

    fn render(&self) -> String {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + GAP;
        let line = |(name, value): &(String, String)| format!("{name:width$}{value}\n");
        self.0.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::super::shapes::StateStatus;
    use super::*;

    #[test]
    fn members_stand_in_columns() {
        // A line that is continued with a backslash would lose its leading blanks.
        let want = [
            "   NAME  ADDRESS        STATE     FOR  VERSION  CONFIG",
            "*  n1    10.0.0.1:9090  alive    1h2m  0.1.0    ab12cd34",
            "   n2    10.0.0.2:9090  alive   1m35s  0.1.0    00998877 differs",
            "   n3    10.0.0.3:9090  failed     2s  0.1.0    ab12cd34",
            "",
        ]
        .join("\n");
        assert_eq!(members(&Fake::busy().members), want);
        assert!(members(&Members::default()).contains("alone"));
        let mut sealed = Fake::busy().members;
        (sealed.members[0].keys, sealed.members[1].keys) = (vec![2, 1], vec![1]);
        let ends: Vec<String> = members(&sealed)
            .lines()
            .map(|line| line.rsplit("  ").next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(ends, ["KEYS", "2 1", "1", "none"]);
    }

    #[test]
    fn backends_stand_in_columns() {
        let want = "\
RULE  ADDRESS        STATE   FOR  WEIGHT  ACTIVE  CLUSTER  TOTAL  FAILED  VOTES   LAST CHECK
web   10.0.0.7:8081  up     2m5s       1       7       21    600       0  2/2 up  connected
web   10.0.0.8:8081  down   2m5s       1       0        0    600       4  1/2 up  connection refused
";
        assert_eq!(backends(&Fake::busy().backends), want);
    }

    #[test]
    fn rules_and_limits_stand_in_columns() {
        let want = "\
RULE  LISTEN                   BALANCE               ACTIVE  TOTAL    UPLOAD  DOWNLOAD  BACKENDS
web   0.0.0.0:8080, [::]:8080  weighted_round_robin       7   1200  10.0 MiB   3.0 GiB  1/2
";
        assert_eq!(rules(&Fake::busy().rules), want);
        let want = "\
RULE  SCOPE    ALGORITHM     RATE/S  BURST  ADMITTED  REFUSED  ELSEWHERE  KEYS
web   cluster  token_bucket     300    600      1100      100       2200    12
";
        assert_eq!(limits(&Fake::busy().limits), want);
    }

    #[test]
    fn bans_stand_in_columns() {
        let want = "\
CLIENT             LEFT  CUT  BY  SINCE
203.0.113.7       9m50s  yes  n2  2026-01-02T03:04:05Z
2001:db8::/32  for ever  -    n1  2026-01-02T03:04:05Z
";
        assert_eq!(bans(&Fake::busy().bans), want);
        assert_eq!(bans(&Bans::default()), "nobody is banned\n");
    }

    #[test]
    fn an_act_that_does_not_hold_says_why() {
        let mut act = Fake::busy().status.overlay[0].clone();
        (act.act, act.weight) = ("weight".into(), Some(3));
        act.idle = Some("no rule of this name here".into());
        let want = "web 10.0.0.8:8081: weight 3 (by n2, 2026-01-02T03:04:05Z); does not hold: no rule of this name here";
        assert_eq!(overlay(&act), want);
    }

    #[test]
    fn a_status_tells_what_is_wrong() {
        let mut view = Fake::busy().status;
        view.ready = false;
        view.not_ready = vec!["draining".into()];
        view.config.ok = false;
        view.config.error = Some("lb.yaml:3: a\nlb.yaml:4: b".into());
        let gossip = view.gossip.as_mut().unwrap();
        gossip.fault = Some("n7 holds the address".into());
        let error = Some("no space left".into());
        gossip.state = Some(StateStatus { dir: "/var/lib/tidegate".into(), error });
        let want = "\
node           n1
version        0.1.0
up             1h2m
ready          no: draining
connections    7
workers        2
pid            4711
config         ab12cd34, loaded 2026-01-02T03:04:05Z
config file    has faults, so the configuration above runs on:
               lb.yaml:3: a
               lb.yaml:4: b
certificate    /etc/tidegate/server.crt (example.com) expires on 2027-01-01, in 9 days
bans           2
overlay        web 10.0.0.8:8081: drain (by n2, 2026-01-02T03:04:05Z)
tickets        2 secrets, shared by sealed gossip; one seals for 1h2m
gossip         10.0.0.1:9090, 2 alive
authenticated  NO: keep it on a private network
not let in     n7 holds the address
state          /var/lib/tidegate, NOT WRITTEN: no space left
";
        assert_eq!(status(&view), want);
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        let mut fake = Fake::busy();
        for backend in &mut fake.backends.backends {
            backend.rule = "a-rule-with-quite-a-long-name".into();
            backend.name = "backend-with-a-name.of.some.internal.zone:8081".into();
            backend.last_check = "connection refused ".repeat(8);
        }
        fake.members.members[0].name = "ü".repeat(200);
        for text in [backends(&fake.backends), members(&fake.members)] {
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH, "{line}");
            }
            assert!(text.contains('…'));
        }
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let mut fake = Fake::busy();
        fake.members.members[1].name = "n2\x1b[2J\r\n".into();
        assert!(!members(&fake.members).contains(['\x1b', '\r']));
    }
}
