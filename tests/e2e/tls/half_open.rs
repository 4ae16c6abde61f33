//! Handshakes that are begun and not gone on with.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use super::{ended, node, terminate, wait_ended};
use crate::harness::backend::Backend;
use crate::harness::certs::Certs;
use crate::harness::node::SOON;
use crate::harness::tls_client::TlsClient;
use crate::harness::{report, turn, until};

/// The head of a hello of 512 bytes, and a little of it.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03half a hello";

#[test]
#[ignore = "starts processes: run with cargo test --test e2e -- --ignored"]
fn a_thousand_half_open_handshakes_do_not_stand_in_a_good_clients_way() {
    let Some(_turn) = turn(&[]) else { return };
    let (certs, backend) = (Certs::make(), Backend::http("b"));
    let tls = terminate(&certs, ", handshake_timeout: 60s");
    let (node, web) = node(&[backend.address()], &[&tls]);
    let client = TlsClient::new(&certs);
    // The tenth part that was the quickest: whatever else the machine does makes the others slower.
    let quick = || {
        let mut times: Vec<Duration> =
            (0..300).map(|_| client.open(web).expect("a good client is served").1).collect();
        times.sort();
        times[times.len() / 10]
    };
    quick();
    let before = quick();
    let half_open: Vec<TcpStream> = (0..1000)
        .map(|index| {
            let mut stream = TcpStream::connect(web).unwrap();
            if index % 2 == 0 {
                stream.write_all(HALF_A_HELLO).unwrap();
            }
            stream
        })
        .collect();
    until("all of them are in", SOON, || {
        (node.metric("tidegate_connections_active", &[]) >= Some(1000.0)).then_some(())
    });
    let during = quick();
    drop(half_open);
    wait_ended(&node, "client_gone", 1000);
    let after = quick();
    report(&format!(
        "handshake and answer: {:.2} ms; with 1000 half-open handshakes {:.2} times as long, after them {:.2} times",
        before.as_secs_f64() * 1e3,
        during.as_secs_f64() / before.as_secs_f64(),
        after.as_secs_f64() / before.as_secs_f64()
    ));
    assert_eq!(ended(&node, "tls_failed"), 0);
}

#[test]
#[ignore = "starts processes: run with cargo test --test e2e -- --ignored"]
fn a_handshake_that_takes_too_long_is_ended_however_it_goes_on() {
    let Some(_turn) = turn(&[]) else { return };
    let (certs, backend) = (Certs::make(), Backend::http("b"));
    let (node, web) = node(&[backend.address()], &[&terminate(&certs, ", handshake_timeout: 2s")]);
    let client = TlsClient::new(&certs);
    // One says nothing, one half of its hello, and one a byte of it each second.
    let mut streams = [0, HALF_A_HELLO.len(), 1].map(|said| {
        let mut stream = TcpStream::connect(web).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(&HALF_A_HELLO[..said]).unwrap();
        stream
    });
    let start = Instant::now();
    thread::scope(|scope| {
        let slow = &streams[2];
        let dripping = scope.spawn(move || {
            for byte in HALF_A_HELLO[1..].chunks(1) {
                thread::sleep(Duration::from_secs(1));
                let mut slow = slow;
                if slow.write_all(byte).is_err() {
                    return true;
                }
            }
            false
        });
        wait_ended(&node, "tls_timeout", 3);
        assert!(start.elapsed() >= Duration::from_secs(2), "not before its time");
        client.open(web).expect("a good client is served");
        assert!(dripping.join().unwrap(), "the slow one was cut off");
    });
    for stream in &mut streams[..2] {
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard);
        assert_eq!(heard, b"");
    }
}
