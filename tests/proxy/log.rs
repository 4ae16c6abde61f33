//! The access log says of every session what happened to it.

use tidegate::net::TcpOptions;
use tidegate::proxy::{AccessLog, AccessLogFormat, AccessLogOutput, AccessLogPlan};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::backend::{Backend, nobody};
use crate::support::proxy::{Proxy, plan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_session_leaves_one_line_that_says_how_it_went() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = AccessLog::open(&AccessLogPlan {
        output: AccessLogOutput::File(path.clone()),
        format: AccessLogFormat::Json,
    })
    .unwrap();
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
    // Everything is written when the last hand lets go of the log.
    drop(proxy);

    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{text}");
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
}
