//! What a session keeps while it works, and that it keeps nothing at rest.

use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::base::Endpoint;
use crate::net::tls::{
    Certificate, CertificateFiles, OriginatePlan, Originator, ServedPlan, TerminatePlan,
    Terminator, TicketKeys, TlsVersion, Trust,
};

const NAME: &str = "web.example";

/// Two ends of a connection.
async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

/// A client and a server through their handshake, and the sockets of each.
struct Talk {
    client: Box<Session>,
    server: Box<Session>,
    near: TcpStream,
    far: TcpStream,
}

impl Talk {
    async fn begin() -> Talk {
        let dir = tempfile::tempdir().unwrap();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let file = |end: &str| dir.path().join(end);
        std::fs::write(file("crt"), cert.pem()).unwrap();
        std::fs::write(file("key"), signing_key.serialize_pem()).unwrap();
        let files = CertificateFiles { cert: file("crt"), key: file("key"), ocsp: None };
        let certificate = Arc::new(Certificate::read(files).unwrap());
        let plan = TerminatePlan {
            certificates: vec![ServedPlan { server_name: None, certificate }],
            clients: None,
            min_version: TlsVersion::Tls12,
            alpn: Vec::new(),
        };
        // No tickets, so that nothing but what a test sends is on its way.
        let terminator = Terminator::new(&plan, TicketKeys::new().ticketer(b"")).unwrap();
        let server_name = Some(NAME.to_owned());
        let plan = OriginatePlan { trust: Trust::Anybody, server_name, certificate: None };
        let (mut near, mut far) = sockets().await;
        let endpoint = Endpoint::from(near.peer_addr().unwrap());
        let originator = Originator::new(&plan, &endpoint);
        let (client, server) =
            tokio::join!(originator.connect(&mut near), terminator.accept(&mut far, Vec::new()));
        Talk { client: client.unwrap(), server: server.unwrap().0, near, far }
    }

    /// What the client makes of `plain`: records that have not reached the server.
    async fn sealed(&mut self, plain: &[u8]) -> Vec<u8> {
        let (mut near, mut far) = sockets().await;
        let mut records = Vec::new();
        let sealing = async {
            self.client.write_all(&mut near, plain).await.unwrap();
            near.shutdown().await.unwrap();
        };
        tokio::join!(sealing, async { far.read_to_end(&mut records).await.unwrap() });
        records
    }

    /// Reads as the relay does.
    async fn read(&mut self, buf: &mut [u8], most: usize) -> io::Result<usize> {
        poll_fn(|cx| self.server.poll_read(cx, &mut self.far, buf, most)).await
    }

    /// Reads what there is; `None`: nothing yet.
    async fn try_read(&mut self, buf: &mut [u8]) -> Option<io::Result<usize>> {
        poll_fn(|cx| match self.server.poll_read(cx, &mut self.far, buf, usize::MAX) {
            Poll::Ready(read) => Poll::Ready(Some(read)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }
}

fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|place| (place * 7 + place / 251) as u8).collect()
}

fn holds_nothing(session: &Session) -> bool {
    let Session { partial, unsent, early, .. } = session;
    (partial.capacity(), unsent.capacity(), early.capacity()) == (0, 0, 0)
}

#[tokio::test]
async fn a_session_at_rest_holds_no_buffers() {
    let mut talk = Talk::begin().await;
    assert!(holds_nothing(&talk.client) && holds_nothing(&talk.server));
    let mut buf = vec![0; 64 * 1024];
    for length in [1, RECORD, 3 * RECORD] {
        let plain = bytes(length);
        talk.client.write_all(&mut talk.near, &plain).await.unwrap();
        let mut got = Vec::new();
        while got.len() < length {
            let n = talk.read(&mut buf, usize::MAX).await.unwrap();
            got.extend_from_slice(&buf[..n]);
        }
        assert!(got == plain);
        assert!(holds_nothing(&talk.client) && holds_nothing(&talk.server), "after {length}");
    }
}

#[tokio::test]
async fn half_a_record_is_kept_until_the_rest_is_there_and_no_longer() {
    let mut talk = Talk::begin().await;
    let plain = bytes(10_000);
    let records = talk.sealed(&plain).await;
    let mut buf = vec![0; 64 * 1024];
    let (last, most) = records.split_last().unwrap();
    let mut sent = 0;
    for piece in most.chunks(997) {
        talk.near.write_all(piece).await.unwrap();
        sent += piece.len();
        while talk.server.partial.len() < sent {
            assert!(talk.try_read(&mut buf).await.is_none(), "plaintext of half a record");
            tokio::task::yield_now().await;
        }
        assert!(talk.server.partial == records[..sent]);
    }
    talk.near.write_all(&[*last]).await.unwrap();
    let n = talk.read(&mut buf, usize::MAX).await.unwrap();
    assert!(buf[..n] == plain && holds_nothing(&talk.server));
}

#[tokio::test]
async fn what_came_with_the_handshake_is_read_first_however_small_the_buffer() {
    let mut talk = Talk::begin().await;
    talk.server.early = b"abcdef".to_vec();
    talk.client.write_all(&mut talk.near, b"gh").await.unwrap();
    let mut small = [0; 4];
    assert_eq!(talk.read(&mut small, 1).await.unwrap(), 4);
    assert_eq!(&small, b"abcd");
    assert_eq!(talk.read(&mut small, usize::MAX).await.unwrap(), 2);
    assert_eq!(&small[..2], b"ef");
    assert!(holds_nothing(&talk.server));
    let mut buf = vec![0; WHOLE_RECORD];
    assert_eq!(talk.read(&mut buf, usize::MAX).await.unwrap(), 2);
    assert_eq!(&buf[..2], b"gh");
}

#[tokio::test]
async fn a_read_brings_a_record_at_least_and_little_more_than_was_asked_for() {
    let mut talk = Talk::begin().await;
    let plain = bytes(7 * RECORD);
    let records = talk.sealed(&plain).await;
    talk.near.write_all(&records).await.unwrap();
    let mut buf = vec![0; 64 * 1024];
    let (mut got, mut largest) = (Vec::new(), 0);
    while got.len() < 2 * RECORD {
        let n = talk.read(&mut buf, 1).await.unwrap();
        assert!((1..=WHOLE_RECORD).contains(&n), "{n}");
        got.extend_from_slice(&buf[..n]);
    }
    // A buffer that holds one record whatever its padding is enough for all of them.
    let mut small = vec![0; WHOLE_RECORD];
    while got.len() < 4 * RECORD {
        let n = talk.read(&mut small, usize::MAX).await.unwrap();
        got.extend_from_slice(&small[..n]);
    }
    while got.len() < plain.len() {
        let n = talk.read(&mut buf, usize::MAX).await.unwrap();
        largest = largest.max(n);
        got.extend_from_slice(&buf[..n]);
    }
    assert!(got == plain && holds_nothing(&talk.server));
    assert!(largest > RECORD, "several records at once when nothing else is asked for");
}

#[tokio::test]
async fn what_the_socket_does_not_take_is_bounded_and_sent_later() {
    let mut talk = Talk::begin().await;
    let plain = bytes(MOST_SEALED);
    let mut taken = 0;
    loop {
        let Talk { client, near, .. } = &mut talk;
        let write = poll_fn(|cx| match client.poll_write(cx, near, &plain) {
            Poll::Ready(n) => Poll::Ready(Some(n.unwrap())),
            Poll::Pending => Poll::Ready(None),
        });
        let Some(n) = write.await else { break };
        taken += n;
    }
    assert!(!talk.client.unsent.is_empty());
    assert!(talk.client.unsent.len() <= OTHER_SIZE, "{}", talk.client.unsent.len());
    let mut buf = vec![0; 64 * 1024];
    let mut got = Vec::new();
    while got.len() < taken {
        let Talk { client, server, near, far } = &mut talk;
        let n = poll_fn(|cx| {
            let _ = client.poll_flush(cx, near)?;
            server.poll_read(cx, far, &mut buf, usize::MAX)
        });
        let n = n.await.unwrap();
        got.extend_from_slice(&buf[..n]);
    }
    assert!(got.chunks(MOST_SEALED).all(|chunk| chunk == plain));
    assert!(holds_nothing(&talk.client) && holds_nothing(&talk.server));
}

#[tokio::test]
async fn nothing_is_kept_of_what_comes_behind_the_end() {
    let mut talk = Talk::begin().await;
    let Talk { client, near, .. } = &mut talk;
    poll_fn(|cx| client.poll_end(cx, near)).await.unwrap();
    assert!(client.has_said_end());
    near.write_all(&[23; 1000]).await.unwrap();
    let mut buf = vec![0; 64 * 1024];
    assert_eq!(talk.read(&mut buf, usize::MAX).await.unwrap(), 0);
    assert!(talk.server.peer_ended() && holds_nothing(&talk.server));
    assert_eq!(talk.read(&mut buf, usize::MAX).await.unwrap(), 0);
    // The other half goes on.
    let Talk { client, server, near, far } = &mut talk;
    server.write_all(far, b"still").await.unwrap();
    let n = poll_fn(|cx| client.poll_read(cx, near, &mut buf, usize::MAX)).await.unwrap();
    assert_eq!(&buf[..n], b"still");
}

#[tokio::test]
async fn a_forged_record_is_an_error_whose_alert_is_sent() {
    let mut talk = Talk::begin().await;
    talk.near.write_all(&[&[23, 3, 3, 0, 32][..], &[9; 32]].concat()).await.unwrap();
    let mut buf = vec![0; 64 * 1024];
    let error = talk.read(&mut buf, usize::MAX).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let Talk { client, near, .. } = &mut talk;
    let told = poll_fn(|cx| client.poll_read(cx, near, &mut buf, usize::MAX)).await.unwrap_err();
    let told = told.downcast::<Error>().unwrap();
    assert_eq!(told, Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
}

#[tokio::test]
async fn what_came_is_read_although_nothing_can_be_sent_any_more() {
    let mut talk = Talk::begin().await;
    let mut buf = vec![0; 64 * 1024];
    talk.client.write_all(&mut talk.near, b"answer").await.unwrap();
    // As when the peer was sent much, has answered early and closed: what is kept never goes out.
    talk.far.shutdown().await.unwrap();
    talk.server.unsent = bytes(1000);
    let n = talk.read(&mut buf, usize::MAX).await.unwrap();
    assert_eq!(&buf[..n], b"answer");
    let sent = poll_fn(|cx| talk.server.poll_flush(cx, &mut talk.far)).await;
    assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::BrokenPipe, "the writer hears of it");
}

#[tokio::test]
async fn records_before_a_bad_one_are_read_before_its_fault() {
    let mut talk = Talk::begin().await;
    let mut buf = vec![0; 64 * 1024];
    let mut records = talk.sealed(b"good").await;
    records.extend([23, 3, 3, 0, 32]);
    records.extend([7; 32]);
    talk.near.write_all(&records).await.unwrap();
    // All of it at once: that is what it is about.
    while talk.far.peek(&mut buf).await.unwrap() < records.len() {
        tokio::task::yield_now().await;
    }
    let n = talk.read(&mut buf, usize::MAX).await.unwrap();
    assert_eq!(&buf[..n], b"good");
    let fault = talk.read(&mut buf, usize::MAX).await.unwrap_err();
    assert_eq!(fault.kind(), io::ErrorKind::InvalidData);
}
