//! Sessions that go on: they do, and what has changed meanwhile holds for them as well.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::{ClientConfig, HandshakeKind};
use tidegate::net::tls::TerminatePlan;
use tidegate::traffic::{AuthorizationPlan, Permission};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{NAME, ending};
use crate::support::backend::Backend;
use crate::support::proxy::Proxy;
use crate::support::tls::{Authority, Pair, TLS12, TLS13, connect, terminate};

/// One visit: how its handshake went, and whether the backend answered.
async fn visit(config: &Arc<ClientConfig>, proxy: &Proxy) -> (Option<HandshakeKind>, bool) {
    let mut client = connect(config, proxy.address, NAME).await.unwrap();
    let said = client.write_all(b"x").await;
    // Who is refused after its handshake is told by an orderly end.
    let answered = said.is_ok() && client.read(&mut [0]).await.unwrap() == 1;
    let kind = client.get_ref().1.handshake_kind();
    let _ = client.shutdown().await;
    (kind, answered)
}

fn mutual(authority: &Authority, server: &Pair) -> TerminatePlan {
    let clients = Some(authority.clients(true));
    TerminatePlan { clients, ..terminate(&[server]) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_both_versions_are_resumed_on_any_worker() {
    let (authority, backend) = (Authority::new(), Backend::echo().await);
    let server = authority.pair(&[NAME]);
    let pair = authority.pair(&["client.a"]);
    for (tls, shown) in [(terminate(&[&server]), None), (mutual(&authority, &server), Some(&pair))]
    {
        let proxy = Proxy::of(ending(tls, &[&backend])).await;
        for versions in [TLS12, TLS13] {
            let config = Arc::new(authority.client(versions, shown));
            let (kind, answered) = visit(&config, &proxy).await;
            assert!(kind != Some(HandshakeKind::Resumed) && answered);
            for _ in 0..8 {
                assert_eq!(visit(&config, &proxy).await, (Some(HandshakeKind::Resumed), true));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resumed_session_is_refused_when_its_certificate_was_revoked_or_denied_meanwhile() {
    let (authority, backend) = (Authority::new(), Backend::echo().await);
    let server = authority.pair(&[NAME]);
    let pair = authority.pair(&["client.a"]);
    let mut revoking = mutual(&authority, &server);
    revoking.clients.as_mut().unwrap().crl = Some(authority.revoking(&[&pair]));
    let revoking = ending(revoking, &[&backend]);
    let denying = AuthorizationPlan { default: Permission::Deny, rules: Vec::new() };
    let mut denied = ending(mutual(&authority, &server), &[&backend]);
    denied.authorization = Some(denying);
    for (later, reason) in [(revoking, "tls_revoked_certificate"), (denied, "not_authorized")] {
        for versions in [TLS12, TLS13] {
            let proxy = Proxy::of(ending(mutual(&authority, &server), &[&backend])).await;
            let config = Arc::new(authority.client(versions, Some(&pair)));
            assert!(visit(&config, &proxy).await.1);
            assert_eq!(visit(&config, &proxy).await, (Some(HandshakeKind::Resumed), true));
            proxy.reload(later.clone()).await;
            assert_eq!(visit(&config, &proxy).await, (Some(HandshakeKind::Resumed), false));
            proxy.has_ended(reason, 1).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resumed_session_is_refused_when_its_certificate_has_expired_meanwhile() {
    let (authority, backend) = (Authority::new(), Backend::echo().await);
    let server = authority.pair(&[NAME]);
    let end = SystemTime::now() + Duration::from_secs(3);
    let pair = authority.pair_of(&["client.a"], |params| params.not_after = end.into());
    let proxy = Proxy::of(ending(mutual(&authority, &server), &[&backend])).await;
    let configs = [TLS12, TLS13].map(|versions| Arc::new(authority.client(versions, Some(&pair))));
    for config in &configs {
        assert!(visit(config, &proxy).await.1);
        assert_eq!(visit(config, &proxy).await, (Some(HandshakeKind::Resumed), true));
    }
    // Its end is a moment and no state; it is good until that second is over.
    while SystemTime::now() < end + Duration::from_secs(1) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (config, times) in configs.iter().zip(1..) {
        assert_eq!(visit(config, &proxy).await, (Some(HandshakeKind::Resumed), false));
        proxy.has_ended("tls_expired_certificate", times).await;
    }
}
