//! The backend on real sockets.

use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::base::drain::{DrainSignal, drain_signal};
use crate::net::tls::{OriginatePlan, Originator, Trust};
use crate::node::certs::{self, Wanted};

const DEADLINE: Duration = Duration::from_secs(20);

async fn start(mode: Mode) -> (SocketAddr, DrainSignal) {
    serve(Backend::quiet("b1", mode)).await
}

async fn serve(backend: Backend) -> (SocketAddr, DrainSignal) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (signal, drain) = drain_signal();
    tokio::spawn(backend.serve(listener, drain));
    (address, signal)
}

async fn say(address: SocketAddr, words: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(words.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut all)).await.unwrap().unwrap();
    all
}

async fn get(address: SocketAddr, path: &str) -> String {
    say(address, &format!("GET {path} HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn an_echo_gives_back_every_byte_and_its_end() {
    let (address, _signal) = start(Mode::Echo { greet: false }).await;
    let long = "0123456789".repeat(50_000);
    assert_eq!(say(address, "ping\n").await, "ping\n");
    assert_eq!(say(address, "").await, "");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut from, mut to) = stream.split();
    let sent = async {
        to.write_all(long.as_bytes()).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut all = String::new();
    let read = from.read_to_string(&mut all);
    let (_, read) = timeout(DEADLINE, async { tokio::join!(sent, read) }).await.unwrap();
    read.unwrap();
    assert!(all == long);
}

#[tokio::test]
async fn a_greeting_names_the_backend_first() {
    let (address, _signal) = start(Mode::Echo { greet: true }).await;
    assert_eq!(say(address, "ping\n").await, "Reply from upstream b1\nping\n");
}

#[tokio::test]
async fn http_names_the_backend_and_keeps_the_connection() {
    let (address, _signal) = start(Mode::Http).await;
    let post = "POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\nabc";
    let head = "HEAD / HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n";
    let answers = say(address, &format!("{post}{head}")).await;
    assert_eq!(answers.matches("x-backend: b1\r\n").count(), 2, "{answers}");
    assert_eq!(answers.matches("\r\n\r\nReply from upstream b1\n").count(), 1, "{answers}");
    assert_eq!(answers.matches("content-length: 23\r\n").count(), 2, "{answers}");
}

#[tokio::test]
async fn health_can_be_made_to_fail_and_to_heal() {
    let (address, _signal) = start(Mode::Http).await;
    for want in ["200 OK", "503 Service Unavailable", "200 OK"] {
        let answer = get(address, "/healthz").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {want}")), "{answer}");
        get(address, "/fail").await;
    }
}

#[tokio::test]
async fn sizes_statuses_and_delays_are_as_asked() {
    let (address, _signal) = start(Mode::Http).await;
    for length in [0, 1, 65_536, 200_000] {
        let answer = get(address, &format!("/bytes/{length}")).await;
        assert_eq!(answer.split_once("\r\n\r\n").unwrap().1.len(), length);
    }
    assert!(get(address, "/status/418").await.starts_with("HTTP/1.1 418 "));
    assert!(get(address, "/status/204").await.starts_with("HTTP/1.1 204 "));
    assert!(get(address, "/delay/1").await.starts_with("HTTP/1.1 200 "));
    for path in
        ["/status/100", "/status/999", "/bytes/x", "/bytes/-1", "/bytes", "/x", "/healthz/x"]
    {
        assert!(get(address, path).await.starts_with("HTTP/1.1 404 "), "{path}");
    }
}

#[tokio::test]
async fn a_drained_backend_cuts_what_is_open() {
    let (address, signal) = start(Mode::Echo { greet: false }).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    let mut byte = [0];
    timeout(DEADLINE, stream.read_exact(&mut byte)).await.unwrap().unwrap();
    signal.say(Draining::Over);
    let ended = timeout(DEADLINE, stream.read(&mut byte)).await.expect("must be cut");
    assert!(matches!(ended, Ok(0) | Err(_)));
}

/// A backend that says what it tells.
fn telling(tls: Option<Terminator>, proxy_protocol: bool) -> (Backend, Receiver<String>) {
    let (told, heard) = channel();
    let tell: Tell = Box::new(move |line| told.send(line.to_owned()).unwrap());
    (Backend { tls, proxy_protocol, tell, ..Backend::quiet("b1", Mode::Lines) }, heard)
}

/// The next line that is told, without the client's port.
async fn next(heard: &mut Receiver<String>) -> String {
    let waiting = async {
        loop {
            match heard.try_recv() {
                Ok(line) => return line,
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    };
    let line = timeout(DEADLINE, waiting).await.expect("nothing is told");
    let (address, rest) = line.split_once(' ').unwrap();
    format!("{} {rest}", address.parse::<SocketAddr>().unwrap().ip())
}

#[tokio::test]
async fn every_line_is_told_and_answered_by_name() {
    let (backend, mut heard) = telling(None, false);
    let (address, _signal) = serve(backend).await;
    let answers = say(address, "hello\r\nand \x1b[2J\n\nhalf").await;
    let want = [
        "Reply from upstream b1: hello\n",
        "Reply from upstream b1: and \x1b[2J\n",
        "Reply from upstream b1: \n",
        "Reply from upstream b1: half\n",
    ];
    assert_eq!(answers, want.concat());
    for told in [
        "127.0.0.1 opened",
        "127.0.0.1 says: hello",
        "127.0.0.1 says: and \\u{1b}[2J",
        "127.0.0.1 says: ",
        "127.0.0.1 says: half",
        "127.0.0.1 closed after 4 lines",
    ] {
        assert_eq!(next(&mut heard).await, told);
    }
}

#[tokio::test]
async fn a_line_without_an_end_is_answered_in_pieces() {
    let (backend, _heard) = telling(None, false);
    let (address, _signal) = serve(backend).await;
    let answers = say(address, &"x".repeat(100_000)).await;
    assert_eq!(answers.lines().count(), 2);
    assert_eq!(answers.matches('x').count(), 100_000);
}

#[tokio::test]
async fn a_proxy_header_is_taken_off_and_who_it_names_is_told() {
    let (backend, mut heard) = telling(None, true);
    let (address, _signal) = serve(backend).await;
    let words = "PROXY TCP4 192.0.2.7 192.0.2.8 4000 443\r\nhello\n";
    assert_eq!(say(address, words).await, "Reply from upstream b1: hello\n");
    assert_eq!(next(&mut heard).await, "127.0.0.1 for 192.0.2.7:4000 opened");
    assert_eq!(next(&mut heard).await, "127.0.0.1 for 192.0.2.7:4000 says: hello");
    assert_eq!(next(&mut heard).await, "127.0.0.1 for 192.0.2.7:4000 closed after 1 line");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"hello\n").await.unwrap();
    assert_eq!(next(&mut heard).await, "127.0.0.1 not served: no PROXY header");
}

#[tokio::test]
async fn over_mutual_tls_the_clients_name_is_told_and_who_shows_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let wanted = Wanted {
        dir: dir.path().to_owned(),
        clients: 1,
        server_names: vec!["localhost".to_owned()],
        days: 1,
        wrong_ca: false,
        force: false,
    };
    certs::make(&wanted).unwrap();
    let files = |stem: &str| CertificateFiles {
        cert: dir.path().join(format!("{stem}.crt")),
        key: dir.path().join(format!("{stem}.key")),
        ocsp: None,
    };
    let ca = dir.path().join("ca.crt");
    let (backend, mut heard) =
        telling(Some(terminator(files("server"), Some(ca.clone())).unwrap()), false);
    let (address, _signal) = serve(backend).await;
    let client = |certificate| {
        let trust = Trust::Roots(Arc::new(Roots::read(ca.clone()).unwrap()));
        let plan = OriginatePlan { trust, server_name: Some("localhost".into()), certificate };
        Originator::new(&plan, &address.into())
    };
    let named = client(Some(Arc::new(Certificate::read(files("client.a")).unwrap())));
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = named.connect_plainly(stream).await.unwrap();
    stream.write_all(b"hello\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut all)).await.unwrap().unwrap();
    assert_eq!(all, "Reply from upstream b1: hello\n");
    assert_eq!(next(&mut heard).await, "127.0.0.1 (client.a) opened");
    assert_eq!(next(&mut heard).await, "127.0.0.1 (client.a) says: hello");
    assert_eq!(next(&mut heard).await, "127.0.0.1 (client.a) closed after 1 line");
    let stream = TcpStream::connect(address).await.unwrap();
    // In TLS 1.3 a client learns only later that it is refused.
    let _stream = client(None).connect_plainly(stream).await;
    assert_eq!(next(&mut heard).await, "127.0.0.1 not served: no client certificate was shown");
}

#[tokio::test]
async fn who_leaves_without_a_word_is_not_told_and_who_stays_is() {
    let (backend, mut heard) = telling(None, false);
    let (address, _signal) = serve(backend).await;
    assert_eq!(say(address, "").await, "");
    let silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(next(&mut heard).await, "127.0.0.1 opened");
    drop(silent);
    assert_eq!(next(&mut heard).await, "127.0.0.1 closed after 0 lines");
}
