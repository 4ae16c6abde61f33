//! Accepting survives a process without descriptors. Needs a process of its own, whose limit can be
//! lowered: the test starts itself again in a shell that has lowered it.

use std::process::Command;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::backend::Backend;
use crate::support::proxy::Proxy;
use crate::support::until;

const INSIDE: &str = "TIDEGATE_TEST_STARVED";
const FILES: usize = 96;

#[test]
fn without_descriptors_accepting_pauses_and_goes_on_when_some_come_back() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        { runtime }.enable_all().worker_threads(2).build().unwrap().block_on(starved());
        return;
    }
    let own = std::env::current_exe().unwrap();
    let test = "starving::without_descriptors_accepting_pauses_and_goes_on_when_some_come_back";
    let done = Command::new("sh")
        .args(["-c", &format!("ulimit -n {FILES}; exec \"$0\" --exact {test} --nocapture")])
        .arg(own)
        .env(INSIDE, "1")
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

async fn starved() {
    let backend = Backend::greeting("!").await;
    let proxy = Proxy::before(&[backend.address]).await;
    // Each served connection takes four descriptors of this process, so these are too many.
    let mut clients = Vec::new();
    while clients.len() < FILES {
        match TcpStream::connect(proxy.address).await {
            Ok(client) => clients.push(client),
            Err(_) => break,
        }
    }
    until("accepting paused for want of descriptors", || {
        !proxy.workers.accept_pauses().contains(&("emfile", 0))
    })
    .await;
    drop(clients);
    // And it has not died: new clients are served.
    let served = async {
        loop {
            if let Ok(mut client) = TcpStream::connect(proxy.address).await
                && client.read_u8().await.is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(crate::support::SOON, served).await.expect("nobody is accepted any more");
}
