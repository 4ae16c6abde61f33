//! The digest by which nodes see whether they run the same configuration.

use aws_lc_rs::digest::{SHA256, digest as sha256};
use serde_json::Value;

use super::file::File;

/// SHA-256, hex, of the file with all defaults filled in and every value in one spelling, as JSON
/// with sorted keys. Left out is what differs from node to node by its nature: workers, logs,
/// admin, and of the cluster its addresses, the node's name, its state directory, where its keys lie
/// (which they are is shown beside) and the peers (each node lists the others). Of a rule's listeners
/// the ports count and the addresses do not.
pub(super) fn digest(file: &File) -> String {
    let canonical = canonical(file).to_string();
    let hash = sha256(&SHA256, canonical.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn canonical(file: &File) -> Value {
    // Shapes of texts and numbers: nothing that JSON could refuse.
    let mut whole = serde_json::to_value(file).unwrap_or(Value::Null);
    leave_out(&mut whole, &["workers", "log", "access_log", "admin"]);
    if let Some(cluster) = whole.get_mut("cluster") {
        let addresses = ["bind_addr", "sync_addr", "advertise_addr", "peers"];
        leave_out(cluster, &addresses);
        leave_out(cluster, &["node_name", "state_dir", "keys_file"]);
    }
    let written = whole.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten();
    for (rule, written) in file.rules.iter().zip(written) {
        if let (Some(rule), Some(listen)) = (rule, written.get_mut("listen")) {
            *listen = rule.listen.iter().flatten().map(|listen| listen.0.port()).collect();
        }
    }
    sorted(whole)
}

fn leave_out(section: &mut Value, keys: &[&str]) {
    if let Some(map) = section.as_object_mut() {
        for key in keys {
            map.remove(*key);
        }
    }
}

/// Whatever order the map of the JSON crate keeps.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(pairs.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}
