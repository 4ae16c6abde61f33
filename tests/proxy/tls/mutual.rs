//! Clients with certificates: who gets in, what the others are told, and whom each may reach.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{SanType, date_time_ymd};
use rustls::AlertDescription as Alert;
use tidegate::base::{Endpoint, LimitId};
use tidegate::net::tls::TerminatePlan;
use tidegate::traffic::{
    Action, Algorithm, AuthorizationPlan, AuthorizationRule, LimitKey, LimitPlan, LimitScope,
    Permission, Quota, Sharing,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::{NAME, ending};
use crate::support::backend::{Backend, nobody};
use crate::support::proxy::{Proxy, plan};
use crate::support::tls::{
    Authority, Pair, TLS12, TLS13, alert, connect, over, terminate, terminated,
};

/// TLS that takes clients of `authority`.
fn mutual(authority: &Authority, required: bool) -> TerminatePlan {
    let clients = Some(authority.clients(required));
    TerminatePlan { clients, ..terminate(&[&authority.pair(&[NAME])]) }
}

/// What a client that shows `pair` reads first: a backend's word, or an alert.
async fn first_word(
    proxy: &Proxy,
    authority: &Authority,
    versions: &[&'static rustls::SupportedProtocolVersion],
    pair: Option<&Pair>,
) -> Result<u8, Option<Alert>> {
    let config = Arc::new(authority.client(versions, pair));
    // A client of TLS 1.3 hears only after its handshake what is thought of its certificate.
    let mut client = connect(&config, proxy.address, NAME).await.map_err(|error| alert(&error))?;
    client.read_u8().await.map_err(|error| alert(&error))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_certificates_are_refused_each_by_its_alert_and_counted_by_its_reason() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let backend = Backend::greeting("!").await;
    let good = authority.pair(&["client.a"]);
    let revoked = authority.pair(&["client.b"]);
    let expired = authority.pair_of(&["client.c"], |params| {
        params.not_after = date_time_ymd(2024, 1, 1);
    });
    let early = authority.pair_of(&["client.d"], |params| {
        params.not_before = date_time_ymd(4000, 1, 1);
    });
    let strange = stranger.pair(&["client.a"]);
    let nameless = authority.pair(&[]);
    let server_only = authority.pair_of(&["client.a"], |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    for required in [true, false] {
        let mut tls = mutual(&authority, required);
        tls.clients.as_mut().unwrap().crl = Some(authority.revoking(&[&revoked]));
        let proxy = Proxy::of(ending(tls, &[&backend])).await;
        let mut times = 0;
        for versions in [TLS12, TLS13] {
            times += 1;
            let word = |pair| first_word(&proxy, &authority, versions, pair);
            assert_eq!(word(Some(&good)).await, Ok(b'!'));
            for (pair, said, reason, each) in [
                (&revoked, Alert::CertificateRevoked, "tls_revoked_certificate", 1),
                (&expired, Alert::CertificateExpired, "tls_expired_certificate", 2),
                (&early, Alert::CertificateExpired, "tls_expired_certificate", 2),
                (&strange, Alert::UnknownCA, "tls_untrusted_certificate", 3),
                (&server_only, Alert::UnsupportedCertificate, "tls_untrusted_certificate", 3),
                (&nameless, Alert::CertificateUnknown, "tls_untrusted_certificate", 3),
            ] {
                let heard = word(Some(pair)).await;
                if !(std::ptr::eq(pair, &early)) {
                    assert_eq!(heard, Err(Some(said)), "{reason}");
                } else {
                    assert!(matches!(heard, Err(Some(_))), "{heard:?}");
                }
                crate::support::until(reason, || proxy.ended(reason) > (times - 1) * each).await;
            }
            match required {
                false => assert_eq!(word(None).await, Ok(b'!')),
                true => {
                    assert_eq!(word(None).await, Err(Some(Alert::CertificateRequired)));
                    proxy.has_ended("tls_no_certificate", times).await;
                }
            }
        }
        proxy.has_ended("tls_revoked_certificate", 2).await;
        proxy.has_ended("tls_expired_certificate", 4).await;
        proxy.has_ended("tls_untrusted_certificate", 6).await;
    }
}

/// As OpenSSL has it: once there are lists, each link of a chain must be on none, of its own issuer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocation_is_judged_along_the_whole_chain_and_who_has_no_list_is_refused() {
    let root = Authority::new();
    let (between, link) = root.under();
    let backend = Backend::greeting("!").await;
    let client = between.pair(&["client.a"]);
    let other = root.pair(&["other"]);
    for (lists, heard) in [
        (None, Ok(b'!')),
        (Some(vec![root.revoking(&[&other]), between.revoking(&[])]), Ok(b'!')),
        (
            Some(vec![root.revoking(&[&link]), between.revoking(&[])]),
            Err(Some(Alert::CertificateRevoked)),
        ),
        (
            Some(vec![root.revoking(&[]), between.revoking(&[&client])]),
            Err(Some(Alert::CertificateRevoked)),
        ),
        // Of several lists of one issuer the newest counts, wherever it stands.
        (
            Some(vec![
                root.revoking(&[]),
                between.revoked_in(2023, &[]),
                between.revoked_in(2025, &[&client]),
                between.revoked_in(2024, &[]),
            ]),
            Err(Some(Alert::CertificateRevoked)),
        ),
        (
            Some(vec![
                between.revoked_in(2023, &[&client]),
                between.revoked_in(2025, &[]),
                root.revoking(&[]),
            ]),
            Ok(b'!'),
        ),
        (Some(vec![root.revoking(&[])]), Err(Some(Alert::UnknownCA))),
        (Some(vec![between.revoking(&[])]), Err(Some(Alert::UnknownCA))),
    ] {
        let mut tls = mutual(&root, true);
        tls.clients.as_mut().unwrap().crl = lists.map(|lists| root.bundle(&lists));
        let proxy = Proxy::of(ending(tls, &[&backend])).await;
        for versions in [TLS12, TLS13] {
            assert_eq!(first_word(&proxy, &root, versions, Some(&client)).await, heard);
        }
    }
}

fn rule(identity: &str, action: Permission, backend: Option<&Backend>) -> AuthorizationRule {
    AuthorizationRule {
        text: String::new(),
        identity: identity.to_owned(),
        action,
        backend: backend.map(|backend| Endpoint::from(backend.address)),
        route: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_identity_reaches_the_backends_that_it_may_use_and_nobody_else_is_asked() {
    let authority = Authority::new();
    let (one, two) = (Backend::greeting("1").await, Backend::greeting("2").await);
    let spiffe = |params: &mut rcgen::CertificateParams| {
        params.subject_alt_names.push(SanType::URI("spiffe://here/c".try_into().unwrap()));
    };
    let (by_name, by_dns, by_uri, barred, other) = (
        authority.pair_of(&["client.a"], |params| params.subject_alt_names.clear()),
        authority.pair(&["ignored", "client.b"]),
        authority.pair_of(&["x.example"], spiffe),
        authority.pair(&["barred"]),
        authority.pair(&["other"]),
    );
    let mut plan = ending(mutual(&authority, false), &[&one, &two]);
    plan.authorization = Some(AuthorizationPlan {
        default: Permission::Deny,
        rules: vec![
            rule("client.a", Permission::Deny, Some(&one)),
            rule("client.b", Permission::Deny, Some(&two)),
            rule("spiffe://here/*", Permission::Allow, Some(&two)),
            rule("barred", Permission::Deny, None),
            rule("client.*", Permission::Allow, None),
            rule("other", Permission::Allow, None),
        ],
    });
    let proxy = Proxy::of(plan).await;
    for versions in [TLS12, TLS13] {
        for (pair, reached) in [(&by_name, b"22"), (&by_dns, b"11"), (&by_uri, b"22")] {
            for word in reached {
                let got = first_word(&proxy, &authority, versions, Some(pair)).await;
                assert_eq!(got, Ok(*word));
            }
        }
        let mut seen = Vec::new();
        for _ in 0..2 {
            seen.push(first_word(&proxy, &authority, versions, Some(&other)).await.unwrap());
        }
        seen.sort_unstable();
        assert_eq!(seen, b"12", "who may use both uses both");
        for pair in [Some(&barred), None] {
            // They are sent away in order: an end, no alert.
            assert_eq!(first_word(&proxy, &authority, versions, pair).await, Err(None));
        }
    }
    proxy.has_ended("not_authorized", 4).await;
    assert_eq!(one.connections() + two.connections(), 16);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_never_goes_to_a_backend_that_the_client_may_not_use() {
    let authority = Authority::new();
    let denied = Backend::greeting("!").await;
    let allowed = [nobody().await, nobody().await];
    let pair = authority.pair(&["client.a"]);
    let mut plan = plan(&[allowed[0], denied.address, allowed[1]]);
    plan.tls = Some(terminated(mutual(&authority, true)));
    plan.authorization = Some(AuthorizationPlan {
        default: Permission::Allow,
        rules: vec![rule("client.a", Permission::Deny, Some(&denied))],
    });
    let proxy = Proxy::of(plan).await;
    for _ in 0..6 {
        let got = first_word(&proxy, &authority, TLS13, Some(&pair)).await;
        assert_eq!(got, Err(None));
    }
    proxy.has_ended("connect_failed", 6).await;
    assert_eq!(denied.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_loaded_of_the_backends_that_are_allowed_is_chosen() {
    let authority = Authority::new();
    let (one, two, three) =
        (Backend::greeting("1").await, Backend::greeting("2").await, Backend::greeting("3").await);
    let (narrow, wide) = (authority.pair(&["narrow"]), authority.pair(&["wide"]));
    let mut plan = ending(mutual(&authority, true), &[&one, &two, &three]);
    plan.pool.policy = tidegate::balance::Policy::LeastConnections;
    plan.authorization = Some(AuthorizationPlan {
        default: Permission::Allow,
        rules: vec![
            rule("narrow", Permission::Deny, Some(&three)),
            rule("wide", Permission::Deny, Some(&one)),
            rule("wide", Permission::Deny, Some(&three)),
        ],
    });
    let proxy = Proxy::of(plan).await;
    let mut held = Vec::new();
    let mut open = async |pair: &Pair| {
        let config = Arc::new(authority.client(TLS13, Some(pair)));
        let mut client = connect(&config, proxy.address, NAME).await.unwrap();
        let word = client.read_u8().await.unwrap();
        held.push(client);
        word
    };
    for _ in 0..3 {
        assert_eq!(open(&wide).await, b'2');
    }
    // Two has three connections; three has none, and may not be used.
    for _ in 0..3 {
        assert_eq!(open(&narrow).await, b'1');
    }
    let mut last = [open(&narrow).await, open(&narrow).await];
    last.sort_unstable();
    assert_eq!(&last, b"12");
    assert_eq!(three.connections(), 0);
}

/// From an address of its own.
async fn from(ip: &str, proxy: &Proxy) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{ip}:0").parse().unwrap()).unwrap();
    socket.connect(proxy.address).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_by_identity_is_shared_by_its_addresses_and_by_nobody_else() {
    let authority = Authority::new();
    let backend = Backend::echo().await;
    let (a, b) = (authority.pair(&["client.a"]), authority.pair(&["client.b"]));
    for action in
        [Action::Reject, Action::Drop, Action::Delay { queue: 4, max: Duration::from_millis(50) }]
    {
        let mut plan = ending(mutual(&authority, true), &[&backend]);
        plan.rate_limit = Some(LimitPlan {
            id: LimitId::of_rule(&plan.name),
            algorithm: Algorithm::TokenBucket(Quota { rate: 0.001, burst: 2.0 }),
            scope: LimitScope::Node,
            key: LimitKey::Identity,
            action,
            ipv6_prefix: 64,
            exempt: Vec::new(),
            shadow: false,
            max_keys: 1024,
            sharing: Sharing::default(),
        });
        let proxy = Proxy::of(plan).await;
        let answered = async |pair: &Pair, ip: &str| {
            let config = Arc::new(authority.client(TLS13, Some(pair)));
            let mut client = over(&config, from(ip, &proxy).await, NAME).await?;
            client.write_all(b"x").await?;
            client.read_u8().await
        };
        answered(&a, "127.0.0.1").await.unwrap();
        answered(&a, "127.0.0.2").await.unwrap();
        answered(&a, "127.0.0.3").await.unwrap_err();
        answered(&b, "127.0.0.1").await.unwrap();
        answered(&b, "127.0.0.1").await.unwrap();
        answered(&b, "127.0.0.2").await.unwrap_err();
        proxy.has_ended("rate_limited", 2).await;
    }
}
