//! TLS towards backends: whom they are believed to be, and what is shown to them.

use std::sync::Arc;

use super::Findings;
use crate::base::Endpoint;
use crate::config::file;
use crate::net::tls::{OriginatePlan, Originator, SetupError, Trust};

/// `None` when it was refused.
pub(super) fn plan(
    tls: &file::BackendTls,
    at: &str,
    found: &mut Findings<'_>,
) -> Option<Arc<OriginatePlan>> {
    let trust = trust(tls, at, found);
    let whole = found.both_or_none(at, tls.cert.is_some(), tls.key.is_some());
    let certificate = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => Some(found.client_certificate(at, cert, key)?),
        _ => None,
    };
    let server_name = tls.server_name.as_ref().map(|name| name.0.clone());
    let plan = OriginatePlan { trust: trust?, server_name, certificate };
    whole.then(|| Arc::new(plan))
}

/// Says now what would fail at every handshake; of a machine without authorities [`trust`] warns.
pub(super) fn try_out(
    plan: &OriginatePlan,
    backend: &Endpoint,
    at: &str,
    found: &mut Findings<'_>,
) {
    match Originator::new(plan, backend).fault() {
        None | Some(SetupError::NoSystemRoots) => {}
        Some(fault) => {
            let what = format!("TLS to {backend} cannot be set up: {fault}");
            found.fault(at, what, "write a `server_name` that its certificate holds");
        }
    }
}

fn trust(tls: &file::BackendTls, at: &str, found: &mut Findings<'_>) -> Option<Trust> {
    let written: Vec<&str> = [
        ("ca", tls.ca.is_some()),
        ("pinned_cert", tls.pinned_cert.is_some()),
        ("insecure_skip_verify", tls.insecure_skip_verify),
    ]
    .into_iter()
    .filter_map(|(key, written)| written.then_some(key))
    .collect();
    if let [first, others @ ..] = &*written
        && let Some(other) = others.last()
    {
        let what = format!("`{first}` says otherwise whom to believe");
        let remedy = "keep one of `ca`, `pinned_cert` and `insecure_skip_verify`";
        found.fault(&format!("{at}.{other}"), what, remedy);
        return None;
    }
    if let Some(file) = &tls.ca {
        return found.authorities(&format!("{at}.ca"), file).map(Trust::Roots);
    }
    if let Some(file) = &tls.pinned_cert {
        return found.roots(&format!("{at}.pinned_cert"), file).map(Trust::Pinned);
    }
    if tls.insecure_skip_verify {
        let what = "the backend's certificate is not checked: whoever stands between reads and \
                    changes everything";
        let remedy = "name the authority in `ca:`, or the certificate itself in `pinned_cert:`";
        found.warn(&format!("{at}.insecure_skip_verify"), what, remedy);
        return Some(Trust::Anybody);
    }
    if found.system_roots() == 0 {
        let what = "this machine has no certificate authorities, so no backend is believed";
        found.warn(at, what, "name one in `ca:`, or install ca-certificates");
    }
    Some(Trust::System)
}
