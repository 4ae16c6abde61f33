//! The client on real sockets.

use std::future::pending;
use std::path::Path;

use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::*;
use crate::base::drain::{DrainSignal, drain_signal};
use crate::net::tls::CertificateFiles;
use crate::node::backend_server::{Backend, Mode, terminator};
use crate::node::certs;

const DEADLINE: Duration = Duration::from_secs(20);

async fn serve(backend: Backend) -> (Endpoint, DrainSignal) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (signal, drain) = drain_signal();
    tokio::spawn(backend.serve(listener, drain));
    (address.into(), signal)
}

fn wanted(connect: Endpoint, count: u64) -> Wanted {
    Wanted { connect, name: "client.a".to_owned(), tls: None, count: Some(count), interval: 0..=1 }
}

/// Runs to the end: what was told, and the summary.
async fn run_all(wanted: &Wanted) -> (Vec<String>, Summary) {
    let told = Mutex::new(Vec::new());
    let tell = |line: &str| told.lock().push(line.to_owned());
    let summary = timeout(DEADLINE, run(wanted, pending(), &tell)).await.unwrap().unwrap();
    (told.into_inner(), summary)
}

fn make_certs(dir: &Path) {
    let wanted = certs::Wanted {
        dir: dir.to_owned(),
        clients: 2,
        server_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        days: 1,
        wrong_ca: true,
        force: false,
    };
    certs::make(&wanted).unwrap();
}

fn credentials(dir: &Path, id: Option<&str>) -> Credentials {
    Credentials {
        dir: dir.to_owned(),
        id: id.map(str::to_owned),
        ca: None,
        pair: None,
        server_name: None,
    }
}

#[tokio::test]
async fn lines_are_answered_and_counted_by_who_answers() {
    let (connect, _signal) = serve(Backend::quiet("b1", Mode::Lines)).await;
    let (told, summary) = run_all(&wanted(connect.clone(), 3)).await;
    assert_eq!(told[0], format!("client.a  connected to {connect}, in the clear"));
    assert!(told[1].starts_with("client.a  #1  "), "{told:?}");
    assert!(told[3].ends_with("ms  Reply from upstream b1: hello 3 from client.a"), "{told:?}");
    assert_eq!((summary.sent, summary.replies(), summary.reconnects), (3, 3, 0));
    assert_eq!(summary.upstreams()["b1"], 3);
    let said = summary.to_string();
    assert!(said.contains("\n    3 from b1\n") && said.contains("  latency     min "), "{said}");
}

#[tokio::test]
async fn an_echo_answers_as_well_and_what_it_says_first_is_no_second_answer() {
    let (connect, _signal) = serve(Backend::quiet("b1", Mode::Echo { greet: true })).await;
    let (_, summary) = run_all(&wanted(connect, 3)).await;
    assert_eq!((summary.sent, summary.replies()), (3, 3));
    assert_eq!(summary.upstreams()["b1"], 1);
}

#[tokio::test]
async fn a_connection_that_ends_is_told_and_made_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connect = listener.local_addr().unwrap().into();
    tokio::spawn(async move {
        // One line for each connection.
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            stream.write_all(line.as_bytes()).await.unwrap();
        }
    });
    let wanted = Wanted { interval: 60_000..=60_000, ..wanted(connect, 2) };
    let (told, summary) = run_all(&wanted).await;
    let ended = "client.a  the server ended the connection; connecting again in 500 ms";
    assert!(told.iter().any(|line| line == ended), "{told:?}");
    assert_eq!((summary.sent, summary.replies(), summary.reconnects), (2, 2, 1));
    assert!(summary.refusals().is_empty(), "it had answered");
}

#[tokio::test]
async fn a_closed_port_counts_as_a_try() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (told, summary) = run_all(&wanted(free.into(), 1)).await;
    let want = format!("client.a  nobody listens on {free}; is the node running, is it this port?");
    assert_eq!(told, [want]);
    assert_eq!((summary.sent, summary.replies(), summary.refusals().len()), (0, 0, 1));
}

#[tokio::test]
async fn a_stop_ends_it_with_what_there_is() {
    let (connect, _signal) = serve(Backend::quiet("b1", Mode::Lines)).await;
    let wanted = Wanted { count: None, ..wanted(connect, 0) };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stop = Mutex::new(Some(stop));
    let tell = |line: &str| {
        if line.contains("#5") {
            drop(stop.lock().take());
        }
    };
    let stopped = async { drop(stopped.await) };
    let summary = timeout(DEADLINE, run(&wanted, stopped, &tell)).await.unwrap().unwrap();
    assert!(summary.replies() >= 5);
}

#[tokio::test]
async fn refusals_of_tls_are_told_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path();
    make_certs(certs);
    let wrong = certs.join("wrong");
    let files = CertificateFiles {
        cert: certs.join("server.crt"),
        key: certs.join("server.key"),
        ocsp: None,
    };
    let tls = terminator(files, Some(certs.join("ca.crt"))).unwrap();
    let (connect, _signal) =
        serve(Backend { tls: Some(tls), ..Backend::quiet("b1", Mode::Lines) }).await;
    let ask = async |credentials: Credentials| {
        let tls = Some(credentials.read().unwrap());
        run_all(&Wanted { tls, ..wanted(connect.clone(), 1) }).await
    };
    let (told, summary) = ask(credentials(certs, Some("client.b"))).await;
    assert_eq!(summary.replies(), 1, "{told:?}");
    assert!(told[0].ends_with("TLS 1.3, new session"), "{told:?}");

    let ca = Some(certs.join("ca.crt"));
    let named = |name: &str| Some(name.to_owned());
    let good = credentials(certs, Some("client.a"));
    for (credentials, words) in [
        (credentials(certs, None), "got none; name one by `--id`"),
        (credentials(certs, Some("expired")), "our certificate: expired"),
        (credentials(certs, Some("server")), "it is not one for clients"),
        (credentials(&wrong, Some("client.a")), "has not signed it; name its authority by `--ca`"),
        (
            Credentials { ca, ..credentials(&wrong, Some("client.a")) },
            "it comes from an authority that the server does not trust",
        ),
        (
            Credentials { server_name: named("example.org"), ..good.clone() },
            "it is not for `example.org`; choose one of its names",
        ),
    ] {
        let (told, summary) = ask(credentials).await;
        assert_eq!(summary.replies(), 0);
        assert!(told[0].contains(words), "{words}: {told:?}");
    }
    let (plain, _signal) = serve(Backend::quiet("b1", Mode::Echo { greet: true })).await;
    let tls = Some(good.clone().read().unwrap());
    let (told, _) = run_all(&Wanted { tls, ..wanted(plain, 1) }).await;
    assert!(told[0].contains("does not speak TLS there; try `--plain`"), "{told:?}");
    let (told, _) = run_all(&wanted(connect.clone(), 1)).await;
    // What comes first is the alert, which is no line.
    assert!(told.last().unwrap().contains("(leave out `--plain`)"), "{told:?}");
}

#[test]
fn missing_files_are_told_with_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().join("certs");
    let none = credentials(&certs, Some("client.a")).read().unwrap_err().to_string();
    assert!(none.contains("`tidegate certs --dir ") && none.contains("ca.crt;"), "{none}");
    make_certs(&certs);
    let nobody = credentials(&certs, Some("client.z")).read().unwrap_err().to_string();
    assert!(nobody.contains("no certificate of `client.z`"), "{nobody}");
    assert!(nobody.ends_with("there are: client.a, client.b, expired, revoked"), "{nobody}");
    let named = Credentials { server_name: Some("a b".to_owned()), ..credentials(&certs, None) };
    let tls = Some(named.read().unwrap());
    let wanted = Wanted { tls, ..wanted("127.0.0.1:1".parse().unwrap(), 1) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(run(&wanted, pending(), &|_| {})).unwrap_err().to_string();
    assert!(error.contains("another `--server-name`"), "{error}");
}
