//! What a good configuration comes to, in a few lines for people.

use std::fmt::Write as _;

use super::Loaded;

/// What `check` says about a configuration without faults: its warnings (`file` stands before
/// them), then a line per rule and one for the whole. Ends without a newline.
pub fn summary(loaded: &Loaded, file: &str) -> String {
    let Loaded { plan, warnings } = loaded;
    let mut out = String::new();
    for warning in warnings {
        let _ = writeln!(out, "warning: {}", warning.in_file(file));
    }
    for rule in &plan.rules {
        let listen: Vec<_> = rule.listen.iter().map(ToString::to_string).collect();
        let backends = rule.pool.backends.len();
        let name = &rule.name;
        let _ = writeln!(out, "rule {name}: {} → {}", listen.join(", "), many(backends, "backend"));
    }
    let listeners = plan.rules.iter().map(|rule| rule.listen.len()).sum();
    let cluster = match &plan.cluster {
        Some(cluster) => {
            format!("cluster `{}`, {}", cluster.label, many(cluster.peers.len(), "seed"))
        }
        None => "no cluster".to_owned(),
    };
    let _ = write!(
        out,
        "{file} is good: {}, {}, {cluster}, {} ({})",
        many(plan.rules.len(), "rule"),
        many(listeners, "listener"),
        many(warnings.len(), "warning"),
        &plan.digest[..plan.digest.len().min(12)],
    );
    out
}

fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
