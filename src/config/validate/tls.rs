//! TLS with clients: where it ends, what is shown, whose certificates are asked for, and where a
//! server name leads.

use std::collections::HashMap;
use std::sync::Arc;

use super::Findings;
use crate::config::fault::quote;
use crate::config::file::{self, ClientAuth, MinVersion, Mode, values};
use crate::net::tls::{
    Certificate, ClientsPlan, ServedPlan, TerminatePlan, Terminator, TicketKeys, TlsMode, TlsPlan,
    TlsRoute, TlsVersion,
};

pub(super) fn plan(tls: &file::Tls, at: &str, found: &mut Findings<'_>) -> TlsPlan {
    TlsPlan {
        mode: match tls.mode {
            Mode::Terminate => TlsMode::Terminate(terminate(tls, at, found)),
            Mode::Passthrough => {
                pass_through(tls, at, found);
                TlsMode::Passthrough
            }
        },
        handshake_timeout: tls.handshake_timeout.0,
        routes: routes(tls, at, found),
    }
}

/// What would need the session's keys.
fn pass_through(tls: &file::Tls, at: &str, found: &mut Findings<'_>) {
    for (key, written) in [
        ("cert", tls.cert.is_some()),
        ("key", tls.key.is_some()),
        ("ocsp", tls.ocsp.is_some()),
        ("certificates", !tls.certificates.is_empty()),
        ("client_ca", tls.client_ca.is_some()),
        ("client_auth", tls.client_auth.is_some()),
        ("client_crl", tls.client_crl.is_some()),
        ("min_version", tls.min_version.is_some()),
        ("alpn", !tls.alpn.is_empty()),
    ] {
        if written {
            let what = "`mode: passthrough` decrypts nothing, so this is the backend's own affair";
            found.fault(&format!("{at}.{key}"), what, "take it out, or write `mode: terminate`");
        }
    }
}

fn terminate(tls: &file::Tls, at: &str, found: &mut Findings<'_>) -> TerminatePlan {
    let alpn: Vec<_> = tls.alpn.iter().flatten().map(|name| name.clone().into_bytes()).collect();
    if alpn.iter().any(|name| name == b"h2") {
        let what = "clients are promised `h2`: a TCP backend must speak h2 itself";
        found.warn(&format!("{at}.alpn"), what, "take `h2` out where backends do not");
    }
    let plan = TerminatePlan {
        certificates: certificates(tls, at, found),
        clients: clients(tls, at, found),
        min_version: match tls.min_version {
            Some(MinVersion::Tls13) => TlsVersion::Tls13,
            Some(MinVersion::Tls12) | None => TlsVersion::Tls12,
        },
        alpn,
    };
    // Tried here, where it can still be said: each file may be good and all of them together not.
    let tickets = Arc::new(TicketKeys::default()).ticketer(b"tried");
    if let Err(error) = Terminator::new(&plan, tickets) {
        found.fault(at, error.to_string(), "mend the files that it names");
    }
    plan
}

fn certificates(tls: &file::Tls, at: &str, found: &mut Findings<'_>) -> Vec<ServedPlan> {
    let mut served = Vec::with_capacity(1 + tls.certificates.len());
    if found.both_or_none(at, tls.cert.is_some(), tls.key.is_some())
        && let (Some(cert), Some(key)) = (&tls.cert, &tls.key)
    {
        let certificate = found.server_certificate(at, cert, key, tls.ocsp.as_deref());
        served.extend(certificate.map(|certificate| ServedPlan { server_name: None, certificate }));
    }
    if tls.ocsp.is_some() && tls.cert.is_none() {
        let what = "is about no certificate: `cert` is not written";
        found.fault(&format!("{at}.ocsp"), what, "add `cert:` and `key:`, or take it out");
    }
    let mut named: HashMap<(String, &'static str), usize> = HashMap::new();
    for (i, written) in tls.certificates.iter().enumerate() {
        let Some(file::Certificate { server_name, cert: Some(cert), key: Some(key), ocsp }) =
            written
        else {
            continue;
        };
        let here = format!("{at}.certificates[{i}]");
        let Some(certificate) = found.server_certificate(&here, cert, key, ocsp.as_deref()) else {
            continue;
        };
        let server_name = server_name.as_ref().map(|name| name.0.clone());
        match &server_name {
            Some(name) => {
                let kind = certificate.key_kind();
                if let Some(first) = named.insert((name.clone(), kind), i) {
                    let what = format!(
                        "{} has a certificate with an {kind} key already, certificates[{first}]",
                        quote(name)
                    );
                    found.fault(&format!("{here}.server_name"), what, "keep one of them");
                }
                must_hold(&certificate, name, &here, found);
            }
            None if certificate.facts.identity.dns.is_empty() => {
                let what = "the certificate holds no DNS name, so nobody can ask for it";
                found.warn(&format!("{here}.cert"), what, "add `server_name:`");
            }
            None => {}
        }
        served.push(ServedPlan { server_name, certificate });
    }
    if tls.cert.is_none() && tls.key.is_none() && tls.certificates.is_empty() {
        let remedy =
            "add `cert:` and `key:` (`tidegate certs` makes some to try), or `certificates:`";
        found.fault(at, "has no certificate to show", remedy);
    }
    served
}

/// Clients that ask for `name` would refuse the certificate.
fn must_hold(certificate: &Certificate, name: &str, here: &str, found: &mut Findings<'_>) {
    let names = &certificate.facts.identity.dns;
    let wild = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
    let holds = |own: &String| {
        own.eq_ignore_ascii_case(name)
            || wild.as_ref().is_some_and(|wild| own.eq_ignore_ascii_case(wild))
    };
    if !names.iter().any(holds) {
        let what = if names.is_empty() {
            format!("{} is not in the certificate, which holds no DNS name", quote(name))
        } else {
            format!("{} is not among the certificate's names: {}", quote(name), names.join(", "))
        };
        found.warn(&format!("{here}.server_name"), what, "clients will refuse it");
    }
}

fn clients(tls: &file::Tls, at: &str, found: &mut Findings<'_>) -> Option<ClientsPlan> {
    for (key, written) in
        [("client_auth", tls.client_auth.is_some()), ("client_crl", tls.client_crl.is_some())]
    {
        if written && tls.client_ca.is_none() {
            let what = "without `client_ca` no client's certificate can be judged";
            found.fault(&format!("{at}.{key}"), what, "add `client_ca:`, or take it out");
        }
    }
    let ca = found.authorities(&format!("{at}.client_ca"), tls.client_ca.as_deref()?);
    let field = format!("{at}.client_crl");
    let crl = tls.client_crl.as_deref();
    let crl = crl.and_then(|file| found.revoked(&field, file));
    let ca = ca?;
    for name in crl.iter().flat_map(|crl| ca.without_list(crl)) {
        let what = format!("has no list of {}: whom it has signed is refused", quote(name));
        found.warn(&field, what, "append its revocation list, which may be empty");
    }
    Some(ClientsPlan { ca, required: tls.client_auth != Some(ClientAuth::Optional), crl })
}

fn routes(tls: &file::Tls, at: &str, found: &mut Findings<'_>) -> Vec<TlsRoute> {
    let mut first: HashMap<(Option<&str>, Option<&str>), usize> = HashMap::new();
    let mut routes = Vec::with_capacity(tls.routes.len());
    for (i, route) in tls.routes.iter().enumerate() {
        let Some(file::TlsRoute { server_name, alpn, backends }) = route else { continue };
        let field = format!("{at}.routes[{i}]");
        let name = server_name.as_ref().map(|name| &*name.0);
        let protocols: Vec<_> = alpn.iter().flatten().map(String::as_str).collect();
        if name.is_none() && protocols.is_empty() {
            let what = "leads everybody there, as the rule's own backends do";
            let remedy = "add `server_name:` or `alpn:`, or list its backends in `backends`";
            found.fault_if_whole(&field, &["server_name", "alpn[0]"], what, remedy);
        }
        let every = [None].into_iter().filter(|_| protocols.is_empty());
        for protocol in protocols.iter().copied().map(Some).chain(every) {
            let Some(first) = first.insert((name, protocol), i) else { continue };
            if let Some(protocol) = protocol.filter(|_| first == i) {
                let what = format!("{} is written twice", quote(protocol));
                found.fault(&format!("{field}.alpn"), what, "take one of them out");
            } else {
                let whom: Vec<_> = name.into_iter().chain(protocol).map(quote).collect();
                let what = format!("{} has a route already, routes[{first}]", whom.join(" with "));
                found.fault(&field, what, "keep one, with all its backends");
            }
        }
        for protocol in protocols.iter().filter(|_| tls.mode == Mode::Terminate) {
            if !tls.alpn.iter().flatten().any(|offered| offered == protocol) {
                let what =
                    format!("{} is never agreed on: it is not in `tls.alpn`", quote(protocol));
                found.warn(&format!("{field}.alpn"), what, "add it there, or take it out here");
            }
        }
        routes.push(TlsRoute {
            server_name: name.map(str::to_owned),
            alpn: protocols.iter().map(|name| name.as_bytes().to_vec()).collect(),
            backends: values(backends),
        });
    }
    routes
}
