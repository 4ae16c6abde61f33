//! Accepting survives a process without descriptors. Needs a process of its own, whose limit can be
//! lowered: the test starts itself again in a shell that has lowered it.

use std::fs::File;
use std::process::Command;
use std::time::Duration;

use tidegate::proxy::RulePlan;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::SOON;
use crate::support::backend::Backend;
use crate::support::proxy::{Proxy, plan};

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
    // The backend starves as well: a session that it could not accept ends by the idle timeout.
    let idle_timeout = Duration::from_millis(500);
    let proxy = Proxy::of(RulePlan { idle_timeout, ..plan(&[backend.address]) }).await;
    // Clients and backend live in this process too: when no client can be made, perhaps exactly
    // all descriptors serve somebody and nobody waits. Then one that was kept back makes one more
    // client, for whom accepting has none.
    let mut kept_back: Vec<File> = (0..16).map(|_| File::open("/dev/null").unwrap()).collect();
    let mut clients = Vec::new();
    let starve = async {
        while proxy.workers.accept_pauses().contains(&("emfile", 0)) {
            match TcpStream::connect(proxy.address).await {
                Ok(client) => clients.push(client),
                Err(_) => {
                    kept_back.pop();
                    // Poll: dials and accepts that failed give descriptors back meanwhile.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    };
    timeout(SOON, starve).await.expect("accepting never paused for want of descriptors");
    drop((clients, kept_back));
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
    timeout(SOON, served).await.expect("nobody is accepted any more");
}
