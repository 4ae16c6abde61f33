//! The access log says of every session what happened to it.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate::base::Endpoint;
use tidegate::net::TcpOptions;
use tidegate::proxy::{AccessLog, AccessLogFormat, AccessLogOutput, AccessLogPlan, RulePlan};
use tidegate::traffic::{Action, AuthorizationPlan, AuthorizationRule, Permission};
use tidegate::upstream::QueuePlan;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::limits::limited;
use crate::support::backend::{Backend, nobody};
use crate::support::proxy::{Proxy, plan};
use crate::support::tls::{Authority, TLS13, over, terminate, terminated};

fn log(dir: &Path) -> Arc<AccessLog> {
    let output = AccessLogOutput::File(dir.join("access.log"));
    AccessLog::open(&AccessLogPlan { output, format: AccessLogFormat::Json }).unwrap()
}

/// All that was told. Everything is written when the last hand lets go of the log.
fn lines(dir: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(dir.join("access.log")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_session_leaves_one_line_that_says_how_it_went() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path());
    let backend = Backend::echo().await;
    let dead = nobody().await;
    let rule = plan(&[dead, backend.address]);
    let proxy = Proxy::with(rule, TcpOptions::default(), Some(log)).await;
    let listener = proxy.address.to_string();

    let mut client = proxy.connect().await;
    let name = client.local_addr().unwrap().to_string();
    client.write_all(b"hello").await.unwrap();
    client.read_exact(&mut [0; 5]).await.unwrap();
    drop(client);
    proxy.has_ended("ok", 1).await;
    proxy.reload(plan(&[dead])).await;
    assert_eq!(proxy.connect().await.read(&mut [0; 8]).await.unwrap(), 0);
    proxy.has_ended("connect_failed", 1).await;
    drop(proxy);

    let lines = lines(dir.path());
    assert_eq!(lines.len(), 2, "{lines:?}");
    let (served, refused) = (&lines[0], &lines[1]);
    assert_eq!(served["rule"], "web");
    assert_eq!(served["client"], name);
    assert_eq!(served["listener"], listener);
    assert_eq!(served["backend"], backend.address.to_string());
    assert_eq!((&served["bytes_up"], &served["bytes_down"]), (&5.into(), &5.into()));
    assert_eq!(served["attempts"], 2, "the dead one was tried first");
    assert_eq!((&served["reason"], &served["side"]), (&"ok".into(), &"client".into()));
    let total = served["total_ms"].as_f64().unwrap();
    let connect = served["connect_ms"].as_f64().unwrap();
    assert!(0.0 < connect && connect <= total, "{served}");

    assert_eq!(refused["backend"], dead.to_string());
    assert_eq!(
        (&refused["reason"], &refused["side"]),
        (&"connect_failed".into(), &"upstream".into())
    );
    assert_eq!(refused["bytes_down"], 0);
    assert!(refused["fault"].as_str().unwrap().starts_with("Connection refused"), "{refused}");
    assert_eq!(served["handshake_ms"], 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_is_told_although_nothing_came_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::greeting("!").await;
    let dead = nobody().await;
    let cap = |to: &[SocketAddr]| {
        let mut plan = plan(to);
        plan.pool.connection_limit = NonZeroU32::new(1);
        plan.pool.queue = QueuePlan { size: 8, timeout: Duration::from_millis(100) };
        plan
    };
    let proxy =
        Proxy::with(cap(&[backend.address]), TcpOptions::default(), Some(log(dir.path()))).await;
    let mut first = proxy.connect().await;
    first.read_u8().await.unwrap();
    assert_eq!(proxy.connect().await.read(&mut [0; 8]).await.unwrap(), 0);
    proxy.has_ended("queue_timeout", 1).await;
    drop(first);
    proxy.has_ended("ok", 1).await;
    proxy.reload(cap(&[dead])).await;
    assert_eq!(proxy.connect().await.read(&mut [0; 8]).await.unwrap(), 0);
    proxy.has_ended("connect_failed", 1).await;
    drop(proxy);
    let lines = lines(dir.path());
    let of = |reason: &str| {
        let line = lines.iter().find(|line| line["reason"] == reason).unwrap();
        ["wait_ms", "connect_ms"].map(|field| line[field].as_f64().unwrap())
    };
    let ([queued, none], [at_once, connecting]) = (of("queue_timeout"), of("connect_failed"));
    assert!(queued >= 100.0 && none == 0.0, "{lines:?}");
    assert!(at_once < 100.0 && connecting > 0.0, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_for_a_token_is_told_although_none_came() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::greeting("!").await;
    let mut rule = plan(&[backend.address]);
    let delay = Action::Delay { queue: 8, max: Duration::from_millis(100) };
    limited(&mut rule, 0.01, 1.0, delay);
    let proxy = Proxy::with(rule, TcpOptions::default(), Some(log(dir.path()))).await;
    let mut first = proxy.connect().await;
    first.read_u8().await.unwrap();
    assert_eq!(proxy.connect().await.read(&mut [0; 8]).await.unwrap(), 0);
    proxy.has_ended("rate_limited", 1).await;
    drop((first, proxy));
    let lines = lines(dir.path());
    let refused = lines.iter().find(|line| line["reason"] == "rate_limited").unwrap();
    assert_eq!(refused["wait_ms"], refused["total_ms"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_is_a_time_of_its_own_and_no_waiting_for_a_backend() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, backend) = (Authority::new(), Backend::echo().await);
    let tls = terminated(terminate(&[&authority.pair(&["localhost"])]));
    let rule = RulePlan { tls: Some(tls), ..plan(&[backend.address]) };
    let proxy = Proxy::with(rule, TcpOptions::default(), Some(log(dir.path()))).await;
    let client = proxy.connect().await;
    // It takes its time to greet.
    tokio::time::sleep(Duration::from_millis(80)).await;
    let config = Arc::new(authority.client(TLS13, None));
    let mut client = over(&config, client, "localhost").await.unwrap();
    client.write_all(b"x").await.unwrap();
    client.read_u8().await.unwrap();
    drop(client);
    proxy.has_ended("ok", 1).await;
    drop(proxy);
    let line = &lines(dir.path())[0];
    let [handshake, wait, total] =
        ["handshake_ms", "wait_ms", "total_ms"].map(|field| line[field].as_f64().unwrap());
    assert!(wait < 80.0 && (80.0..=total - wait).contains(&handshake), "{line}");
}

/// Who calls at night because of a certificate asks what is wrong with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_in_greeting_leaves_its_name_and_what_was_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path());
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut tls = terminate(&[&authority.pair(&["localhost"])]);
    tls.clients = Some(authority.clients(true));
    let rule = RulePlan { tls: Some(terminated(tls)), ..plan(&[nobody().await]) };
    let proxy = Proxy::with(rule, TcpOptions::default(), Some(log)).await;

    let config = Arc::new(authority.client(TLS13, Some(&stranger.pair(&["client.a"]))));
    let mut client = over(&config, proxy.connect().await, "localhost").await.unwrap();
    assert!(client.read_u8().await.is_err());
    proxy.has_ended("tls_untrusted_certificate", 1).await;
    let mut client = proxy.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    proxy.has_ended("not_tls", 1).await;
    drop(proxy);

    let lines = lines(dir.path());
    let [untrusted, plain] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(untrusted["server_name"], "localhost");
    let fault = "the certificate is not trusted: nobody who is trusted has signed it";
    assert_eq!(untrusted["fault"], fault);
    assert_eq!((&plain["fault"], plain["server_name"].is_null()), (&"this is no TLS".into(), true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_use_no_backend_is_told_by_the_rule_that_denies_rather_than_by_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (one, two) = (nobody().await, nobody().await);
    let mut tls = terminate(&[&authority.pair(&["localhost"])]);
    tls.clients = Some(authority.clients(true));
    let mut rule = RulePlan { tls: Some(terminated(tls)), ..plan(&[one, two]) };
    let text = "client.*-deny-two".to_owned();
    rule.authorization = Some(AuthorizationPlan {
        default: Permission::Deny,
        rules: vec![AuthorizationRule {
            text: text.clone(),
            identity: "client.*".to_owned(),
            action: Permission::Deny,
            backend: Some(Endpoint::from(two)),
            route: None,
        }],
    });
    let proxy = Proxy::with(rule, TcpOptions::default(), Some(log(dir.path()))).await;
    let config = Arc::new(authority.client(TLS13, Some(&authority.pair(&["client.a"]))));
    let mut client = over(&config, proxy.connect().await, "localhost").await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    proxy.has_ended("not_authorized", 1).await;
    drop(proxy);
    let lines = lines(dir.path());
    assert_eq!((&lines[0]["identity"], &lines[0]["denied_by"]), (&"client.a".into(), &text.into()));
}
