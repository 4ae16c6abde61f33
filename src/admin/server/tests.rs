//! A real listener on port 0 and clients that write bytes by hand.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::fake::Fake;
use super::*;
use crate::base::drain::{DrainSignal, drain_signal};

/// Far more than anything here takes.
const DEADLINE: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    fake: Arc<Fake>,
    signal: DrainSignal,
    task: JoinHandle<()>,
}

async fn start(plan: ServerPlan) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let fake = Arc::new(Fake::busy());
    let (signal, drain) = drain_signal();
    let task = tokio::spawn(serve(plan, listener, Arc::clone(&fake) as _, drain));
    Running { address, fake, signal, task }
}

fn usual() -> ServerPlan {
    ServerPlan::new(None)
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `request` and reads until the server closes.
    async fn say(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The server may have refused and closed before all was written.
        let _ = stream.write_all(request).await;
        rest(&mut stream).await
    }

    async fn get(&self, path: &str) -> String {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        self.say(head.as_bytes()).await
    }
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A reset after the answer (unread garbage of ours) still leaves the answer.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut all)).await.expect("the server must close");
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn a_plain_request_is_answered() {
    let node = start(usual()).await;
    let answer = node.get("/api/v1/members").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
    assert!(answer.contains("\r\n\r\n{\"self\":\"n1\","), "{answer}");
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let node = start(usual()).await;
    for path in ["/livez", "/metrics", "/api/v1/status", "/"] {
        let got = node.get(path).await;
        let head = format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = node.say(head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{path} has a body: {answer}");
        if path != "/metrics" {
            let length = got.split_once("\r\n\r\n").unwrap().1.len();
            assert!(answer.contains(&format!("content-length: {length}\r\n")), "{answer}");
        }
    }
}

#[tokio::test]
async fn two_requests_share_a_connection() {
    let node = start(usual()).await;
    let one = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let two = "GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = node.say(format!("{one}{two}").as_bytes()).await;
    assert!(answer.contains("HTTP/1.1 200 OK") && answer.contains("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn garbage_is_turned_away_and_the_next_is_served() {
    let node = start(usual()).await;
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(64 * 1024));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: a\r\n".repeat(1_000));
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\xff\xfe";
    for request in [
        &b"\r\n\r\n\0\0\0\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        tls,
        long.as_bytes(),
        many.as_bytes(),
    ] {
        let mut stream = node.connect().await;
        let _ = stream.write_all(request).await;
        let _ = stream.shutdown().await;
        let answer = rest(&mut stream).await;
        let told = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(told, "{:?} got {answer}", String::from_utf8_lossy(request));
        assert!(node.get("/livez").await.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn a_slow_head_is_cut_at_its_timeout() {
    let node = start(ServerPlan { header_timeout: Duration::from_millis(200), ..usual() }).await;
    let mut slow = node.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nHost: loc").await.unwrap();
    let mut silent = node.connect().await;
    rest(&mut slow).await;
    rest(&mut silent).await;
}

#[tokio::test]
async fn a_trickle_does_not_push_the_timeout_away() {
    let node = start(ServerPlan { header_timeout: Duration::from_millis(300), ..usual() }).await;
    let mut stream = node.connect().await;
    let trickle = async {
        while stream.write_all(b"X: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, trickle).await.expect("the trickle must be cut");
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_at_its_age() {
    let node = start(ServerPlan { max_age: Duration::from_millis(300), ..usual() }).await;
    let mut stream = node.connect().await;
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(200);
    let flood = async { while stream.write_all(&request).await.is_ok() {} };
    timeout(DEADLINE, flood).await.expect("the client must be cut");
}

#[tokio::test]
async fn at_the_cap_the_oldest_gives_way_and_a_probe_gets_in() {
    let node = start(ServerPlan { max_connections: 4, ..usual() }).await;
    let mut idle = Vec::new();
    for _ in 0..4 {
        idle.push(node.connect().await);
    }
    assert!(node.get("/livez").await.starts_with("HTTP/1.1 200"));
    assert_eq!(rest(&mut idle[0]).await, "");
    let last = &mut idle[3];
    last.write_all(b"GET /livez HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(rest(last).await.starts_with("HTTP/1.0 200"));
}

#[tokio::test]
async fn a_token_opens_what_is_closed_without_it() {
    let node = start(ServerPlan::new(Some("t0ken".into()))).await;
    let answer = node.get("/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.contains("www-authenticate: Bearer "), "{answer}");
    assert!(node.get("/readyz").await.starts_with("HTTP/1.1 200"));
    let with = b"GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t0ken\r\n\
                 Connection: close\r\n\r\n";
    assert!(node.say(with).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn leave_is_heard_from_this_machine_and_not_from_its_browser() {
    let node = start(usual()).await;
    let post = |headers: &str| {
        format!(
            "POST /api/v1/leave HTTP/1.1\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
    };
    for foreign in [
        "Host: evil.example\r\n",
        "",
        "Host: localhost\r\nOrigin: http://evil.example\r\n",
        "Host: localhost\r\nHost: evil.example\r\n",
    ] {
        let answer = node.say(post(foreign).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{foreign}: {answer}");
    }
    assert_eq!(node.fake.left.load(Ordering::Relaxed), 0);
    let answer = node.say(post("Host: localhost\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    assert_eq!(node.fake.left.load(Ordering::Relaxed), 1);
}

fn ban(headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /api/v1/bans HTTP/1.1\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn a_page_that_a_browser_has_open_bans_nobody() {
    let node = start(usual()).await;
    let body = r#"{"client": "10.0.0.1"}"#;
    for foreign in [
        "Host: evil.example\r\n",
        "Host: localhost\r\nOrigin: http://evil.example\r\n",
        "Host: localhost\r\nOrigin: null\r\nContent-Type: text/plain\r\n",
    ] {
        let answer = node.say(ban(foreign, body).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{foreign}: {answer}");
    }
    let get = node.get("/api/v1/bans?client=10.0.0.1").await;
    assert!(get.starts_with("HTTP/1.1 200 "), "{get}");
    assert!(node.fake.ordered.lock().is_empty());
    let answer = node.say(ban("Host: localhost\r\n", body).as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("{\"done\":\"done\"}\n"),
        "{answer}"
    );
    assert_eq!(node.fake.ordered.lock().len(), 1);
}

#[tokio::test]
async fn a_body_is_bounded_in_size_and_in_time() {
    let plan = ServerPlan { header_timeout: Duration::from_millis(300), ..usual() };
    let node = start(plan).await;
    let large = format!("{{\"client\": \"{}\"}}", "1".repeat(5000));
    let answer = node.say(ban("Host: localhost\r\n", &large).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let chunked =
        "POST /api/v1/bans HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let endless = format!("{chunked}{}", format!("fff\r\n{}\r\n", "a".repeat(0xfff)).repeat(4));
    let answer = node.say(endless.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");

    let mut slow = node.connect().await;
    let half = ban("Host: localhost\r\n", r#"{"client": "10.0.0.1"}"#);
    slow.write_all(&half.as_bytes()[..half.len() - 5]).await.unwrap();
    let answer = rest(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(node.fake.ordered.lock().is_empty());
}

#[tokio::test]
async fn a_draining_node_still_answers_and_ends_when_it_is_over() {
    let node = start(usual()).await;
    node.signal.say(Draining::Started);
    assert!(node.get("/readyz").await.starts_with("HTTP/1.1 200"));
    let mut idle = node.connect().await;
    let address = node.address;
    node.signal.say(Draining::Over);
    timeout(DEADLINE, node.task).await.expect("serve must return").unwrap();
    assert_eq!(rest(&mut idle).await, "");
    assert!(TcpStream::connect(address).await.is_err());
}

#[test]
fn a_reserve_gives_what_it_has_and_fills_up_again() {
    let mut reserve = Reserve::default();
    assert!(!reserve.spend());
    reserve.fill();
    assert!((0..RESERVE).all(|_| reserve.spend()) && !reserve.spend());
    reserve.fill();
    assert!(reserve.spend());
}
