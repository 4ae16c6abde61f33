//! The digest by which nodes see whether they run the same configuration.

use aws_lc_rs::digest::{SHA256, digest as sha256};
use serde_json::Value;

use super::file::File;
use crate::base::hex;

/// SHA-256, hex, of the file with all defaults filled in and every value in one spelling, as JSON
/// with sorted keys. Left out is what differs from node to node by its nature: workers, logs,
/// admin, and of the cluster its addresses, the node's name, its state directory, where its keys lie
/// (which they are is shown beside) and the peers (each node lists the others). Of a rule's listeners
/// the ports count and the addresses do not. Of the files of TLS counts whether there is one, and not
/// where: each node may have a certificate of its own.
pub(super) fn digest(file: &File) -> String {
    let canonical = canonical(file).to_string();
    let hash = sha256(&SHA256, canonical.as_bytes());
    hex(hash.as_ref())
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
        leave_paths_out(written);
    }
    sorted(whole)
}

/// Also fills in what TLS is worth when it is left out and depends on what stands beside it.
fn leave_paths_out(rule: &mut Value) {
    if let Some(tls) = rule.get_mut("tls").filter(|tls| tls.is_object()) {
        if tls["mode"] == "terminate" && tls["min_version"].is_null() {
            tls["min_version"] = "1.2".into();
        }
        if !tls["client_ca"].is_null() && tls["client_auth"].is_null() {
            tls["client_auth"] = "required".into();
        }
        forget_where(tls, &["cert", "key", "ocsp", "client_ca", "client_crl"]);
        for certificate in tls["certificates"].as_array_mut().into_iter().flatten() {
            forget_where(certificate, &["cert", "key", "ocsp"]);
        }
    }
    if let Some(tls) = rule.get_mut("backend_tls") {
        forget_where(tls, TO_BACKENDS);
    }
    for backend in rule["backends"].as_array_mut().into_iter().flatten() {
        if let Some(tls) = backend.get_mut("tls") {
            forget_where(tls, TO_BACKENDS);
        }
    }
}

const TO_BACKENDS: &[&str] = &["ca", "pinned_cert", "cert", "key"];

fn forget_where(section: &mut Value, keys: &[&str]) {
    for key in keys {
        if let Some(path) = section.get_mut(*key) {
            *path = path.is_string().into();
        }
    }
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
