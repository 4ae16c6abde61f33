//! TLS, authorization and PROXY headers: what the keys come to, and each fault at its key.

use std::fs;
use std::sync::Arc;

use rcgen::ExtendedKeyUsagePurpose;

use super::certs::{self, Made, OTHER_KIND};
use super::*;
use crate::base::Endpoint;
use crate::net::HeaderVersion;
use crate::net::tls::{TerminatePlan, TlsMode, TlsVersion, Trust};
use crate::proxy::RulePlan;
use crate::traffic::Permission;

/// A directory with certificates: `a`, `b`, `client`, `ca.crt`, `ca.crl`, `a.der`.
struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Dir {
        let dir = tempfile::tempdir().unwrap();
        for stem in ["a", "b", "ca", "client"] {
            certs::write(&dir.path().join(stem), &["localhost", "*.example.com"]);
        }
        certs::write_crl(&dir.path().join("ca.crl"));
        certs::write_ocsp(&dir.path().join("a.der"));
        Dir(dir)
    }

    fn parse(&self, text: &str) -> Result<Loaded, Faults> {
        parse(text, "lb.yaml", self.0.path())
    }

    #[track_caller]
    fn loaded(&self, more: &str) -> Loaded {
        self.parse(&rule(more)).unwrap_or_else(|faults| panic!("{more}\n{faults}"))
    }

    #[track_caller]
    fn rule(&self, more: &str) -> RulePlan {
        self.loaded(more).plan.rules.remove(0)
    }

    #[track_caller]
    fn terminate(&self, more: &str) -> TerminatePlan {
        match self.rule(more).tls.unwrap().mode {
            TlsMode::Terminate(plan) => plan,
            TlsMode::Passthrough => panic!("passes through"),
        }
    }

    /// Each fault as `field: what; remedy`.
    #[track_caller]
    fn told(&self, more: &str) -> Vec<String> {
        match self.parse(&rule(more)) {
            Ok(_) => panic!("accepted:\n{more}"),
            Err(faults) => {
                faults.iter().map(|f| format!("{}: {}; {}", f.field, f.what, f.remedy)).collect()
            }
        }
    }

    #[track_caller]
    fn warned(&self, more: &str) -> Vec<String> {
        let warnings = self.loaded(more).warnings;
        warnings.iter().map(|f| format!("{}: {}", f.field, f.what)).collect()
    }
}

const TLS: &str = "cert: a.crt, key: ./a.key";

#[test]
fn termination_reads_as_it_is_written() {
    let dir = Dir::new();
    let plan = dir.terminate(&format!("tls: {{ {TLS} }}"));
    assert_eq!((plan.certificates.len(), plan.min_version), (1, TlsVersion::Tls12));
    assert_eq!((plan.clients, plan.alpn), (None, Vec::<Vec<u8>>::new()));
    assert_eq!(plan.certificates[0].server_name, None);
    let files = &plan.certificates[0].certificate.files;
    assert_eq!(files.cert, dir.0.path().join("a.crt"));
    assert_eq!(files.key, dir.0.path().join("a.key"), "relative to the file");

    let more = format!(
        "tls:
  {TLS_LINES}
  ocsp: a.der
  certificates:
    - {{ server_name: \"*.EXAMPLE.com\", cert: b.crt, key: b.key, ocsp: a.der }}
    - {{ cert: b.crt, key: b.key, ocsp: a.der }}
  client_ca: ca.crt
  client_auth: optional
  client_crl: ca.crl
  min_version: 1.3
  alpn: [acme, http/1.1]
  handshake_timeout: 7s",
        TLS_LINES = "cert: a.crt\n  key: a.key",
    );
    assert_eq!(dir.rule(&more).tls.unwrap().handshake_timeout, Duration::from_secs(7));
    let plan = dir.terminate(&more);
    let names: Vec<_> = plan.certificates.iter().map(|c| c.server_name.as_deref()).collect();
    assert_eq!(names, [None, Some("*.example.com"), None]);
    assert!(Arc::ptr_eq(&plan.certificates[1].certificate, &plan.certificates[2].certificate));
    let clients = plan.clients.unwrap();
    assert!(!clients.required && clients.crl.is_some());
    assert_eq!(clients.ca.file, dir.0.path().join("ca.crt"));
    assert_eq!(plan.min_version, TlsVersion::Tls13);
    assert_eq!(plan.alpn, [b"acme".to_vec(), b"http/1.1".to_vec()]);
    let required = dir.terminate(&format!("tls: {{ {TLS}, client_ca: ca.crt }}"));
    assert!(required.clients.unwrap().required, "the default where an authority is named");
    let quoted = dir.terminate(&format!("tls: {{ {TLS}, min_version: \"1.2\" }}"));
    assert_eq!(quoted.min_version, TlsVersion::Tls12);
}

#[test]
fn what_is_switched_off_is_not_read() {
    let dir = Dir::new();
    let plan = dir.rule(
        "tls: { enabled: false, cert: none.crt, mode: passthrough }
backend_tls: { enabled: false, ca: none.crt, pinned_cert: none.crt }",
    );
    assert_eq!((plan.tls, plan.pool.tls, plan.pool.backends[0].tls.clone()), (None, None, None));
    assert_eq!(
        dir.loaded("tls: { enabled: false, cert: a }").plan.digest,
        dir.loaded("").plan.digest
    );
}

#[test]
fn each_fault_of_tls_is_told_at_its_key() {
    let dir = Dir::new();
    fs::write(dir.0.path().join("empty"), "nothing").unwrap();
    certs::write(&dir.0.path().join("other"), &["localhost"]);
    Made { serial: &[7], ..Made::default() }.write(&dir.0.path().join("another"));
    certs::write_response(&dir.0.path().join("bad.der"), certs::ocsp::REVOKED, None);
    for (field, words, tls) in [
        ("", "no certificate", "{}"),
        ("", "tidegate certs", "{ certificates: [] }"),
        ("", "no certificate", "{ cert: , key: }"),
        ("", "`cert` has no `key`; add `key:`", "{ cert: a.crt }"),
        ("", "`cert` has no `key`", "{ cert: a.crt, key: }"),
        ("", "`key` has no `cert`; add `cert:`", "{ key: a.key }"),
        (
            ".ocsp",
            "about no certificate",
            "{ ocsp: a.der, certificates: [{ cert: b.crt, key: b.key }] }",
        ),
        (".cert", "cannot be read", "{ cert: none.crt, key: a.key }"),
        (".key", "cannot be read", "{ cert: a.crt, key: none.key }"),
        (".key", "is not the key of", "{ cert: a.crt, key: other.key }"),
        (".cert", "holds no certificate", "{ cert: empty, key: a.key }"),
        (".ocsp", "is no OCSP response in DER", "{ cert: a.crt, key: a.key, ocsp: empty }"),
        (
            ".ocsp",
            "says that the certificate is revoked",
            "{ cert: a.crt, key: a.key, ocsp: bad.der }",
        ),
        (".ocsp", "another certificate", "{ cert: another.crt, key: another.key, ocsp: a.der }"),
        (
            ".certificates[0].ocsp",
            "OCSP",
            "{ certificates: [{ cert: a.crt, key: a.key, ocsp: empty }] }",
        ),
        (".certificates[0].key", "is missing", "{ certificates: [{ cert: a.crt }] }"),
        (
            ".certificates[0].key",
            "is not the key",
            "{ certificates: [{ cert: a.crt, key: b.key }] }",
        ),
        (".client_ca", "holds no certificate", "{ cert: a.crt, key: a.key, client_ca: empty }"),
        (
            ".client_crl",
            "holds no revocation list",
            "{ cert: a.crt, key: a.key, client_ca: ca.crt, client_crl: ca.crt }",
        ),
        (
            ".client_auth",
            "without `client_ca`",
            "{ cert: a.crt, key: a.key, client_auth: optional }",
        ),
        (".client_crl", "without `client_ca`", "{ cert: a.crt, key: a.key, client_crl: ca.crl }"),
        (".min_version", "broken", "{ cert: a.crt, key: a.key, min_version: 1.1 }"),
        (".min_version", "broken", "{ cert: a.crt, key: a.key, min_version: \"1.0\" }"),
        (".min_version", "not a version of TLS", "{ cert: a.crt, key: a.key, min_version: 2 }"),
        (".alpn[1]", "1 to 255 bytes", "{ cert: a.crt, key: a.key, alpn: [h3, \"\"] }"),
        (".handshake_timeout", "too short", "{ cert: a.crt, key: a.key, handshake_timeout: 0 }"),
        (".mode", "not known", "{ cert: a.crt, key: a.key, mode: through }"),
    ] {
        let told = dir.told(&format!("tls: {tls}"));
        assert_eq!(told.len(), 1, "{tls}: {told:?}");
        assert!(told[0].starts_with(&format!("rules[0].tls{field}: ")), "{tls}: {told:?}");
        assert!(told[0].contains(words), "{tls}: {told:?}");
    }
    let long = format!("tls: {{ {TLS}, alpn: [{}] }}", "x".repeat(256));
    assert!(dir.told(&long)[0].contains("255"));
}

#[test]
fn passthrough_says_of_each_key_that_it_decrypts_nothing() {
    let dir = Dir::new();
    let plan = dir.rule("tls: { mode: passthrough }");
    assert_eq!(plan.tls.unwrap().mode, TlsMode::Passthrough);
    for key in [
        "cert: a.crt",
        "key: a.key",
        "ocsp: a.der",
        "certificates: [{ cert: a.crt, key: a.key }]",
        "client_ca: ca.crt",
        "client_auth: required",
        "client_crl: ca.crl",
        "min_version: 1.2",
        "alpn: [h2]",
    ] {
        let told = dir.told(&format!("tls: {{ mode: passthrough, {key} }}"));
        let name = key.split(':').next().unwrap();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(&format!("rules[0].tls.{name}: ")), "{told:?}");
        assert!(told[0].contains("decrypts nothing"), "{told:?}");
    }
    let twice = dir.warned("tls: { mode: passthrough }\nbackend_tls: { ca: ca.crt }");
    assert!(twice[0].contains("TLS within TLS"), "{twice:?}");
}

#[test]
fn a_server_name_is_a_name_and_stands_once() {
    let dir = Dir::new();
    for bad in
        ["10.0.0.1", "[::1]", "::1", "*", "a.*.com", "w*.example.com", "*.*.com", "a b", "a."]
    {
        for tls in [
            format!("{{ certificates: [{{ server_name: \"{bad}\", cert: a.crt, key: a.key }}] }}"),
            format!(
                "{{ mode: passthrough, routes: [{{ server_name: \"{bad}\", backends: [\"a:1\"] }}] }}"
            ),
        ] {
            let told = dir.told(&format!("tls: {tls}"));
            assert!(told[0].contains("is not a server name"), "{bad}: {told:?}");
        }
    }
    let both = |stem: &str| {
        format!(
            "tls: {{ certificates: [{{ server_name: a.example.com, cert: a.crt, key: a.key }}, \
             {{ server_name: A.example.com, cert: {stem}.crt, key: {stem}.key }}] }}"
        )
    };
    let told = dir.told(&both("b"));
    assert!(told[0].starts_with("rules[0].tls.certificates[1].server_name: "), "{told:?}");
    assert!(told[0].contains("ECDSA key already, certificates[0]"), "{told:?}");
    let names = &["a.example.com"];
    Made { names, algorithm: OTHER_KIND, ..Made::default() }.write(&dir.0.path().join("ed"));
    assert_eq!(dir.terminate(&both("ed")).certificates.len(), 2, "one of each kind of key");
    let route = |name: &str| format!("{{ server_name: {name}, backends: [\"b:1\"] }}");
    let told = dir.told(&format!(
        "tls: {{ mode: passthrough, routes: [{}, {}] }}",
        route("db.internal"),
        route("DB.internal")
    ));
    assert!(told[0].contains("`db.internal` has a route already, routes[0]"), "{told:?}");
    let empty = "tls: { mode: passthrough, routes: [{ server_name: a.b, backends: [] }] }";
    assert!(dir.told(empty)[0].contains("routes[0].backends: the list is empty"));
}

#[test]
fn a_route_is_for_a_name_or_a_protocol_and_each_pair_has_one() {
    let dir = Dir::new();
    let passing = |routes: &str| {
        format!(
            "tls: {{ mode: passthrough, routes: [{}] }}",
            routes.replace("TO", "backends: [\"b:1\"]")
        )
    };
    let plan = dir.rule(&passing(
        "{ server_name: A.b, alpn: [h2, http/1.1], TO }, { server_name: a.b, alpn: [h3], TO }, \
         { server_name: a.b, TO }, { alpn: [h2], TO }",
    ));
    let routes = plan.tls.unwrap().routes;
    assert_eq!(routes[0].alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert_eq!((routes[3].server_name.as_ref(), &routes[3].alpn), (None, &vec![b"h2".to_vec()]));
    for (written, at, what) in [
        ("{ TO }", "routes[0]: ", "leads everybody there"),
        ("{ alpn: [], TO }", "routes[0]: ", "leads everybody there"),
        (
            "{ alpn: [h2], TO }, { alpn: [h3, h2], TO }",
            "routes[1]: ",
            "`h2` has a route already, routes[0]",
        ),
        (
            "{ server_name: a.b, alpn: [h2], TO }, { server_name: A.b, alpn: [h2], TO }",
            "routes[1]: ",
            "`a.b` with `h2` has a route already, routes[0]",
        ),
        ("{ alpn: [h2, h3, h2], TO }", "routes[0].alpn: ", "`h2` is written twice"),
        ("{ alpn: [\"\"], TO }", "routes[0].alpn[0]: ", "is not a protocol's name"),
    ] {
        let told = dir.told(&passing(written));
        assert!(told[0].starts_with(&format!("rules[0].tls.{at}")), "{written}: {told:?}");
        assert!(told[0].contains(what), "{written}: {told:?}");
    }
}

#[test]
fn a_protocol_that_is_never_agreed_on_is_warned_of_where_tls_ends_here() {
    let dir = Dir::new();
    let ending = |alpn: &str| {
        dir.warned(&format!(
            "tls: {{ cert: a.crt, key: a.key, alpn: {alpn}, \
             routes: [{{ alpn: [postgresql], backends: [\"b:1\"] }}] }}"
        ))
    };
    assert_eq!(ending("[postgresql]"), [""; 0]);
    let warned = ending("[http/1.1]");
    assert!(
        warned[0].starts_with("rules[0].tls.routes[0].alpn: `postgresql` is never"),
        "{warned:?}"
    );
}

#[test]
fn backends_of_routes_are_of_the_pool_and_not_the_rules_own() {
    let dir = Dir::new();
    let plan = dir.rule(
        "tls:
  mode: passthrough
  routes:
    - { server_name: DB.example.com, backends: [\"10.0.0.7:5432\", \"127.0.0.1:8081\"] }
    - { server_name: \"*.example.com\", backends: [\"10.0.0.7:5432\", \"App:1\"] }
backend_tls: { ca: ca.crt }",
    );
    let all: Vec<_> =
        plan.pool.backends.iter().map(|b| (b.address.to_string(), b.routed)).collect();
    let want = [("127.0.0.1:8081", false), ("10.0.0.7:5432", true), ("app:1", true)];
    assert_eq!(all, want.map(|(address, routed)| (address.to_owned(), routed)));
    assert!(plan.pool.backends.iter().all(|backend| backend.tls == plan.pool.tls));
    let routes = plan.tls.unwrap().routes;
    assert_eq!(routes[0].server_name.as_deref(), Some("db.example.com"));
    let want: Vec<Endpoint> = vec!["10.0.0.7:5432".parse().unwrap(), "app:1".parse().unwrap()];
    assert_eq!(routes[1].backends, want);

    let only = |tls: &str| {
        let text = format!("rules: [{{ listen: \"127.0.0.1:80\", backends: [], tls: {tls} }}]");
        dir.parse(&text).map_err(|faults| faults.to_string())
    };
    let routed = "{ mode: passthrough, routes: [{ server_name: a.b, backends: [\"c:1\"] }] }";
    let loaded = only(routed).unwrap();
    assert!(loaded.plan.rules[0].pool.backends[0].routed);
    assert_eq!(loaded.warnings, []);
    assert!(only("{ mode: passthrough }").unwrap_err().contains("backends: the list is empty"));
    let own = only(&routed.replace("c:1", "127.0.0.1:80")).unwrap_err();
    assert!(
        own.contains("rules[0].tls.routes[0].backends[0]: ") && own.contains("a loop"),
        "{own}"
    );
}

#[test]
fn tls_towards_backends_has_one_trust_and_a_backend_may_have_its_own() {
    let dir = Dir::new();
    let trust =
        |tls: &str| dir.rule(&format!("backend_tls: {tls}")).pool.tls.unwrap().trust.clone();
    assert!(matches!(trust("{ ca: ca.crt }"), Trust::Roots(_)));
    assert!(matches!(trust("{ pinned_cert: a.crt }"), Trust::Pinned(_)));
    assert_eq!(trust("{ insecure_skip_verify: true }"), Trust::Anybody);
    assert_eq!(trust("{}"), Trust::System);
    for (field, words, tls) in [
        ("pinned_cert", "keep one of", "{ ca: ca.crt, pinned_cert: a.crt }"),
        ("insecure_skip_verify", "keep one of", "{ ca: ca.crt, insecure_skip_verify: true }"),
        ("ca", "cannot be read", "{ ca: none.crt }"),
        ("pinned_cert", "cannot be read", "{ pinned_cert: none.crt }"),
        ("server_name", "neither a DNS name", "{ ca: ca.crt, server_name: \"a b\" }"),
        ("server_name", "neither a DNS name", "{ ca: ca.crt, server_name: \"*.a.b\" }"),
        ("key", "cannot be read", "{ ca: ca.crt, cert: a.crt, key: none }"),
    ] {
        let told = dir.told(&format!("backend_tls: {tls}"));
        assert_eq!(told.len(), 1, "{tls}: {told:?}");
        let field = format!("rules[0].backend_tls.{field}: ");
        assert!(told[0].starts_with(&field) && told[0].contains(words), "{tls}: {told:?}");
    }
    assert!(dir.told("backend_tls: { ca: ca.crt, cert: a.crt }")[0].contains("has no `key`"));

    let text = "rules:
  - listen: \"127.0.0.1:80\"
    backend_tls: { ca: ca.crt, server_name: App, cert: client.crt, key: client.key }
    backends:
      - \"a:1\"
      - { address: \"b:1\", tls: { enabled: false, ca: none.crt } }
      - { address: \"c:1\", tls: { pinned_cert: a.crt } }
      - { address: \"d:1\", server_name: D.internal }
      - { address: \"e:1\", server_name: \"::1\" }
";
    let loaded = dir.parse(text).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.warnings, []);
    let pool = &loaded.plan.rules[0].pool;
    let [a, b, c, d, e] = &*pool.backends else { panic!() };
    let tls = pool.tls.as_ref().unwrap();
    assert_eq!((tls.server_name.as_deref(), tls.certificate.is_some()), (Some("app"), true));
    assert!(Arc::ptr_eq(a.tls.as_ref().unwrap(), tls));
    assert_eq!(b.tls, None);
    let c = c.tls.as_ref().unwrap();
    assert!(matches!(c.trust, Trust::Pinned(_)), "the whole section is its own");
    assert_eq!((&c.server_name, &c.certificate), (&None, &None));
    let d = d.tls.as_ref().unwrap();
    assert_eq!((d.server_name.as_deref(), &d.trust), (Some("d.internal"), &tls.trust));
    assert_eq!(e.tls.as_ref().unwrap().server_name.as_deref(), Some("::1"));

    let one = |backend: &str| {
        dir.parse(&format!("rules: [{{ listen: \"127.0.0.1:80\", backends: [{backend}] }}]"))
    };
    let idle = one("{ address: \"a:1\", server_name: a }").unwrap().warnings;
    assert_eq!(idle[0].field, "rules[0].backends[0].server_name");
    let twice = one("{ address: \"a:1\", server_name: a, tls: { ca: ca.crt, server_name: b } }");
    assert!(twice.unwrap_err().to_string().contains("says it already"));
    let off = one("{ address: \"a:1\", tls: { enabled: false } }").unwrap().plan.digest;
    assert_eq!(off, one("\"a:1\"").unwrap().plan.digest);
}

#[test]
fn who_may_use_what_reads_in_both_forms() {
    let dir = Dir::new();
    let tls = format!("tls: {{ {TLS}, client_ca: ca.crt }}\n");
    let plan = dir.rule(&format!(
        "{tls}authorization:
  default: deny
  rules:
    - \"client.a-deny-127.0.0.1:8081\"
    - {{ identity: \"spiffe://prod/*\", action: allow, backend: \"127.0.0.1:8081\" }}
    - {{ identity: ops, action: allow }}
    - my-deny-list-allow-[::1]:1"
    ));
    let authorization = plan.authorization.unwrap();
    assert_eq!(authorization.default, Permission::Deny);
    let rules: Vec<_> = authorization
        .rules
        .iter()
        .map(|rule| {
            let backend = rule.backend.as_ref().map(ToString::to_string).unwrap_or_default();
            (rule.text.as_str(), rule.identity.as_str(), rule.action, backend)
        })
        .collect();
    let at = "127.0.0.1:8081".to_owned();
    assert_eq!(
        rules,
        [
            ("client.a-deny-127.0.0.1:8081", "client.a", Permission::Deny, at.clone()),
            ("spiffe://prod/*-allow-127.0.0.1:8081", "spiffe://prod/*", Permission::Allow, at),
            ("ops-allow-*", "ops", Permission::Allow, String::new()),
            ("my-deny-list-allow-[::1]:1", "my-deny-list", Permission::Allow, "[::1]:1".to_owned()),
        ]
    );
    let default = dir.rule(&format!("{tls}authorization: {{}}")).authorization.unwrap();
    assert_eq!((default.default, default.rules.len()), (Permission::Allow, 0));
    for bad in [
        "client.a",
        "\"-deny-127.0.0.1:8081\"",
        "client.a-deny-127.0.0.1",
        "client.a-deny-127.0.0.1:0",
        "client.a-refuse-127.0.0.1:1",
        "client.a-deny-",
        "\"\"",
        "5",
    ] {
        let told = dir.told(&format!("{tls}authorization: {{ rules: [{bad}] }}"));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("rules[0].authorization.rules[0]: "), "{told:?}");
        let remedies = ["write IDENTITY-allow-BACKEND or", "write the backend as it stands"];
        assert!(remedies.iter().any(|remedy| told[0].contains(remedy)), "{told:?}");
    }
    let told = dir.told(&format!("{tls}authorization: {{ rules: [{{ backend: \"a:1\" }}] }}"));
    assert_eq!(told.len(), 2, "{told:?}");
    let told = dir.told(&format!(
        "{tls}authorization: {{ rules: [{{ identity: a, action: deny, route: nowhere.test }}] }}"
    ));
    assert_eq!(told.len(), 1, "{told:?}");
    let place = "rules[0].authorization.rules[0].route: the rule has no route for nowhere.test";
    assert!(told[0].starts_with(place), "{told:?}");

    let digest = |rules: &str| {
        dir.loaded(&format!("{tls}authorization: {{ rules: [{rules}] }}")).plan.digest
    };
    let short = digest("a-deny-127.0.0.1:8081");
    let long = "{ identity: a, action: deny, backend: \"127.0.0.1:8081\" }";
    assert_eq!(short, digest(long), "two ways to write the same");
    assert_ne!(short, digest("a-allow-127.0.0.1:8081"));
}

#[test]
fn what_needs_an_identity_needs_an_authority_for_clients() {
    let dir = Dir::new();
    let tls = format!("tls: {{ {TLS} }}\n");
    let limit = "rate_limit: { requests_per_second: 5, key: identity }\n";
    let rights = "authorization: { default: deny }\n";
    for (field, more, words) in [
        ("authorization", rights.to_owned(), "not asked for certificates"),
        ("authorization", format!("{tls}{rights}"), "not asked for certificates"),
        ("authorization", format!("tls: {{ {TLS}, client_ca: }}\n{rights}"), "not asked"),
        ("authorization", format!("tls: {{ enabled: false, client_ca: ca.crt }}\n{rights}"), "not"),
        ("authorization", format!("tls: {{ mode: passthrough }}\n{rights}"), "passthrough"),
        ("rate_limit.key", limit.to_owned(), "not asked"),
        ("rate_limit.key", format!("{tls}{limit}"), "add `client_ca:`"),
        (
            "rate_limit.key",
            format!("tls: {{ mode: passthrough }}\n{limit}"),
            "write `mode: terminate` with",
        ),
    ] {
        let told = dir.told(&more);
        assert_eq!(told.len(), 1, "{more}: {told:?}");
        assert!(told[0].starts_with(&format!("rules[0].{field}: ")), "{more}: {told:?}");
        assert!(told[0].contains(words), "{more}: {told:?}");
    }
    let plan = dir.rule(&format!("tls: {{ {TLS}, client_ca: ca.crt }}\n{limit}"));
    assert_eq!(plan.rate_limit.unwrap().key, LimitKey::Identity);
}

#[test]
fn proxy_headers_are_read_from_trusted_proxies_alone() {
    let dir = Dir::new();
    let whole = |proxies: &str, more: &str| dir.parse(&format!("{}{proxies}", rule(more)));
    let trusted = "trusted_proxies: [\"10.0.0.0/8\", \"127.0.0.1\"]\n";
    let loaded = whole(trusted, "proxy_protocol: { accept: true, send: v1 }").unwrap();
    assert_eq!(loaded.warnings, []);
    let plan = &loaded.plan.rules[0];
    let from: Vec<_> = plan.proxy_from.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(from, ["10.0.0.0/8", "127.0.0.1/32"]);
    assert_eq!(plan.pool.send_proxy, Some(HeaderVersion::V1));
    let send = dir.rule("proxy_protocol: { send: v2 }");
    assert_eq!((send.proxy_from, send.pool.send_proxy), (None, Some(HeaderVersion::V2)));
    let told = whole("", "proxy_protocol: { accept: true }").unwrap_err().to_string();
    assert!(told.contains("rules[0].proxy_protocol.accept: "), "{told}");
    assert!(told.contains("`trusted_proxies:`"), "{told}");
    let broken = whole("trusted_proxies: [\"10.0.0.0/99\"]\n", "proxy_protocol: { accept: true }");
    assert_eq!(broken.unwrap_err().len(), 1, "one mistake is one fault");
    let idle = whole(trusted, "").unwrap().warnings;
    assert_eq!(idle[0].field, "trusted_proxies");
}

#[test]
fn what_will_disappoint_is_a_warning_and_said_once() {
    let dir = Dir::new();
    let at = |stem: &str| dir.0.path().join(stem);
    Made { from_day: -40, until_day: -10, ..Made::default() }.write(&at("old"));
    Made { until_day: 5, ..Made::default() }.write(&at("ending"));
    Made { from_day: 3, ..Made::default() }.write(&at("early"));
    for (stem, purpose) in [
        ("for-clients", ExtendedKeyUsagePurpose::ClientAuth),
        ("for-servers", ExtendedKeyUsagePurpose::ServerAuth),
        ("for-all", ExtendedKeyUsagePurpose::Any),
    ] {
        let names = &["localhost"];
        Made { names, purposes: &[purpose], ..Made::default() }.write(&at(stem));
    }
    certs::write(&at("nameless"), &[]);
    certs::write(&at("open"), &["localhost"]);
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    fs::set_permissions(at("open.key"), readable).unwrap();
    certs::write_list(&at("stale.crl"), "test", 2021);
    certs::write_list(&at("strange.crl"), "somebody", 2120);
    certs::write_response(&at("over.der"), certs::ocsp::GOOD, Some("20240601000000Z"));
    let shown = |stem: &str| format!("tls: {{ cert: {stem}.crt, key: {stem}.key }}");
    let begun =
        |stem: &str| format!("backend_tls: {{ ca: ca.crt, cert: {stem}.crt, key: {stem}.key }}");
    let crl = |file: &str| format!("tls: {{ {TLS}, client_ca: ca.crt, client_crl: {file} }}");
    let rights = "authorization: { rules: [\"a-deny-127.0.0.1:8081\"] }";
    for (field, words, more) in [
        ("tls.cert", "has expired on 20", shown("old")),
        ("tls.cert", "expires on 20", shown("ending")),
        ("tls.cert", "not good before 20", shown("early")),
        ("tls.cert", "is for no server", shown("for-clients")),
        ("backend_tls.cert", "is for no client", begun("for-servers")),
        ("tls.key", "others than its owner may read", shown("open")),
        ("tls.alpn", "a TCP backend must speak h2 itself", format!("tls: {{ {TLS}, alpn: [h2] }}")),
        (
            "tls.client_ca",
            "is believed all the same",
            format!("tls: {{ {TLS}, client_ca: old.crt }}"),
        ),
        ("backend_tls.ca", "has expired", "backend_tls: { ca: old.crt }".to_owned()),
        ("tls.client_crl", "the revocation list of `test` in ", crl("stale.crl")),
        ("tls.client_crl", "has expired on 2021-01-01, and holds on", crl("stale.crl")),
        (
            "tls.client_crl",
            "has no list of `test`: whom it has signed is refused",
            crl("strange.crl"),
        ),
        ("tls.ocsp", "is shown no more", format!("tls: {{ {TLS}, ocsp: over.der }}")),
        (
            "tls.certificates[0].server_name",
            "`www.example.org` is not among the certificate's names: localhost, *.example.com",
            "tls: { certificates: [{ server_name: www.example.org, cert: a.crt, key: a.key }] }"
                .to_owned(),
        ),
        (
            "tls.certificates[0].server_name",
            "`a.b.example.com` is not among",
            "tls: { certificates: [{ server_name: a.b.example.com, cert: a.crt, key: a.key }] }"
                .to_owned(),
        ),
        (
            "tls.certificates[0].cert",
            "holds no DNS name",
            "tls: { certificates: [{ cert: nameless.crt, key: nameless.key }] }".to_owned(),
        ),
        (
            "backend_tls.insecure_skip_verify",
            "whoever stands between reads and changes everything",
            "backend_tls: { insecure_skip_verify: true }".to_owned(),
        ),
        (
            "authorization",
            "judged by `default` alone",
            format!("tls: {{ {TLS}, client_ca: ca.crt, client_auth: optional }}\n{rights}"),
        ),
        (
            "authorization.rules[0]",
            "the rule has no backend 127.0.0.1:8000",
            format!(
                "tls: {{ {TLS}, client_ca: ca.crt }}\n\
                 authorization: {{ rules: [\"client.a-deny-127.0.0.1:8000\"] }}"
            ),
        ),
    ] {
        let warned = dir.warned(&more);
        assert_eq!(warned.len(), 1, "{more}: {warned:?}");
        assert!(warned[0].starts_with(&format!("rules[0].{field}: ")), "{more}: {warned:?}");
        assert!(warned[0].contains(words), "{more}: {warned:?}");
    }
    let twice =
        "tls: { cert: old.crt, key: open.key, certificates: [{ cert: old.crt, key: open.key }] }";
    fs::copy(at("old.key"), at("open.key")).unwrap();
    assert_eq!(dir.warned(twice).len(), 2, "once for each file");
    for none in [
        shown("for-servers"),
        shown("for-all"),
        begun("for-clients"),
        begun("for-all"),
        format!("tls: {{ {TLS}, alpn: [http/1.1], client_ca: ca.crt, client_auth: optional }}"),
        format!("tls: {{ {TLS}, client_ca: ca.crt }}\n{rights}"),
        "backend_tls: { pinned_cert: old.crt }".to_owned(),
        crl("ca.crl"),
        format!("tls: {{ {TLS}, ocsp: a.der }}"),
        "tls: { certificates: [{ server_name: \"*.example.com\", cert: a.crt, key: a.key }] }"
            .into(),
    ] {
        assert_eq!(dir.warned(&none), Vec::<String>::new(), "{none}");
    }
    // An address may be what a name of the rule resolves to.
    let named = format!(
        "rules: [{{ listen: \"127.0.0.1:80\", backends: [\"app:1\"], tls: {{ {TLS}, client_ca: ca.crt }}, \
         authorization: {{ rules: [\"a-deny-10.0.0.1:1\"] }} }}]"
    );
    assert_eq!(dir.parse(&named).unwrap().warnings, []);
}

#[test]
fn the_digest_forgets_where_files_lie_and_nothing_else() {
    let dir = Dir::new();
    let digest = |tls: &str, more: &str| {
        let backend = "{ address: \"a:1\", tls: { ca: CA } }";
        let ca = if tls.contains("b.crt") { "client.crt" } else { "ca.crt" };
        let text = format!(
            "rules: [{{ listen: \"127.0.0.1:80\", backends: [{}], tls: {tls} {more} }}]",
            backend.replace("CA", ca)
        );
        dir.parse(&text).unwrap_or_else(|faults| panic!("{faults}")).plan.digest
    };
    let one = digest(
        "{ cert: a.crt, key: a.key, ocsp: a.der, client_ca: ca.crt, client_crl: ca.crl, \
         certificates: [{ server_name: localhost, cert: a.crt, key: a.key }] }",
        ", backend_tls: { ca: ca.crt, cert: a.crt, key: a.key }",
    );
    fs::copy(dir.0.path().join("ca.crl"), dir.0.path().join("other.crl")).unwrap();
    let elsewhere = digest(
        "{ cert: ./b.crt, key: b.key, ocsp: ./a.der, client_ca: client.crt, client_crl: other.crl, \
         client_auth: required, min_version: 1.2, mode: terminate, \
         certificates: [{ server_name: LOCALHOST, cert: b.crt, key: b.key }] }",
        ", backend_tls: { ca: client.crt, cert: client.crt, key: client.key }",
    );
    assert_eq!(one, elsewhere, "paths, defaults and spelling");

    let plain = digest("{ cert: a.crt, key: a.key }", "");
    for (tls, more) in [
        ("{ cert: a.crt, key: a.key, client_ca: ca.crt }", ""),
        ("{ cert: a.crt, key: a.key, ocsp: a.der }", ""),
        ("{ cert: a.crt, key: a.key, min_version: 1.3 }", ""),
        ("{ cert: a.crt, key: a.key, alpn: [x] }", ""),
        ("{ cert: a.crt, key: a.key, handshake_timeout: 6s }", ""),
        ("{ certificates: [{ server_name: localhost, cert: a.crt, key: a.key }] }", ""),
        ("{ cert: a.crt, key: a.key }", ", backend_tls: { ca: ca.crt }"),
        ("{ cert: a.crt, key: a.key }", ", backend_tls: { pinned_cert: ca.crt }"),
        ("{ cert: a.crt, key: a.key }", ", proxy_protocol: { send: v2 }"),
    ] {
        assert_ne!(plain, digest(tls, more), "{tls} {more}");
    }
}

#[test]
fn a_summary_says_what_becomes_of_tls() {
    let dir = Dir::new();
    let says = |more: &str| {
        let text = summary(&dir.loaded(more), "lb.yaml");
        let line = text.lines().find(|line| line.starts_with("rule web")).unwrap().to_owned();
        line.replace("rule web: 127.0.0.1:8080 → 1 backend", "")
    };
    assert_eq!(says(""), "");
    assert_eq!(says(&format!("tls: {{ {TLS} }}")), "; TLS ends here (1 certificate)");
    assert_eq!(
        says(&format!(
            "tls: {{ {TLS}, client_ca: ca.crt, certificates: [{{ cert: b.crt, key: b.key }}] }}\n\
             authorization: {{ default: deny, rules: [\"a-allow-127.0.0.1:8081\"] }}\n\
             backend_tls: {{ insecure_skip_verify: true }}\nproxy_protocol: {{ send: v2 }}"
        )),
        "; TLS ends here (2 certificates, clients must show theirs); 1 rule of authorization, the rest \
         is denied; TLS to the backends, NOT CHECKED; PROXY headers are sent (v2)"
    );
    assert_eq!(
        says(
            "tls: { mode: passthrough, routes: [{ server_name: a.b, backends: [\"127.0.0.1:8081\"] }] }"
        ),
        "; TLS passes through (1 route)"
    );
    assert_eq!(says("tls: { mode: passthrough }"), "; TLS passes through");
}

#[test]
fn files_are_read_again_each_once_and_all_faults_are_told() {
    let dir = Dir::new();
    let plan = dir
        .loaded(&format!(
            "tls: {{ {TLS}, ocsp: a.der, client_ca: ca.crt, client_crl: ca.crl, \
             certificates: [{{ cert: b.crt, key: b.key }}, {{ cert: b.crt, key: b.key }}] }}\n\
             backend_tls: {{ pinned_cert: b.crt, cert: client.crt, key: client.key }}"
        ))
        .plan;
    let files: Vec<_> = plan
        .material_files()
        .iter()
        .map(|file| file.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let all = [
        "a.crt",
        "a.der",
        "a.key",
        "b.crt",
        "b.key",
        "ca.crl",
        "ca.crt",
        "client.crt",
        "client.key",
    ];
    assert_eq!(files, all);
    assert_eq!(plan.read_material_again().unwrap(), plan, "nothing has changed");

    for stem in ["b", "client"] {
        certs::write(&dir.0.path().join(stem), &["new.example.com"]);
    }
    let new = plan.read_material_again().unwrap();
    assert_ne!(new, plan);
    assert_eq!(new.digest, plan.digest);
    let rule = &new.rules[0];
    let Some(TlsMode::Terminate(tls)) = rule.tls.as_ref().map(|tls| &tls.mode) else { panic!() };
    let [a, b, same] = &*tls.certificates else { panic!() };
    assert_eq!(b.certificate.facts.identity.dns, ["new.example.com"]);
    assert!(Arc::ptr_eq(&b.certificate, &same.certificate));
    let Some(TlsMode::Terminate(old)) = plan.rules[0].tls.as_ref().map(|tls| &tls.mode) else {
        panic!()
    };
    assert_eq!(*a, old.certificates[0]);
    let (own, pool) = (&rule.pool.backends[0].tls, &rule.pool.tls);
    assert!(Arc::ptr_eq(own.as_ref().unwrap(), pool.as_ref().unwrap()), "shared as before");
    assert_ne!(*pool, plan.rules[0].pool.tls);

    fs::write(dir.0.path().join("b.key"), "no key").unwrap();
    fs::remove_file(dir.0.path().join("ca.crl")).unwrap();
    let faults = plan.read_material_again().unwrap_err();
    let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("ca.crl cannot be read") || told[1].contains("ca.crl"), "{told:?}");
    assert!(told.iter().any(|fault| fault.contains("b.key holds no key")), "{told:?}");
}
