//! Records that no library would send, sealed as if one had: what a client may do that has the keys.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{NAME, before};
use crate::support::SOON;
use crate::support::backend::Backend;
use crate::support::proxy::Proxy;
use crate::support::tls::{Authority, TLS13, connect};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// What a record holds: its kind, its content, and how much padding.
type Held<'a> = (u8, &'a [u8], usize);

/// A client of TLS 1.3 that seals whatever it likes.
struct Forger {
    stream: TcpStream,
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Forger {
    async fn connect(proxy: &Proxy, authority: &Authority) -> Forger {
        let mut config = authority.client(TLS13, None);
        config.enable_secret_extraction = true;
        let client = connect(&Arc::new(config), proxy.address, NAME).await.unwrap();
        let (stream, conn) = client.into_inner();
        let (sequence, secrets) = conn.dangerous_extract_secrets().unwrap().tx;
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            _ => panic!("another cipher is preferred now"),
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).unwrap());
        Forger { stream, key, iv: iv.as_ref().try_into().unwrap(), sequence }
    }

    fn record(&mut self, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
        let mut inner = [content, &[kind], &vec![0; padding]].concat();
        let length = (inner.len() + 16) as u16;
        let [high, low] = length.to_be_bytes();
        let header = [DATA, 3, 3, high, low];
        let mut nonce = self.iv;
        for (place, byte) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *place ^= byte;
        }
        self.sequence += 1;
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut inner).unwrap();
        [&header[..], &inner].concat()
    }

    /// Waits for a record with four bytes of plaintext.
    async fn word(&mut self) {
        let reading = async {
            loop {
                let mut header = [0; 5];
                self.stream.read_exact(&mut header).await.unwrap();
                let mut rest = vec![0; u16::from_be_bytes([header[3], header[4]]).into()];
                self.stream.read_exact(&mut rest).await.unwrap();
                // Beside them their kind and the tag; tickets are longer.
                if rest.len() == 4 + 1 + 16 {
                    return;
                }
            }
        };
        timeout(SOON, reading).await.expect("no word came");
    }

    /// Waits for the connection's end, of whatever kind.
    async fn is_ended(&mut self) {
        let ended = async { while let Ok(1..) = self.stream.read(&mut [0; 4096]).await {} };
        timeout(SOON, ended).await.expect("the connection was not ended");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_lead_nowhere_end_the_connection() {
    let (authority, backend) = (Authority::new(), Backend::greeting("word").await);
    let (proxy, _) = before(&backend, &authority).await;
    let mut times = 0;
    let too_long = vec![1; (1 << 14) + 1];
    // The beginning of a message of 16 MiB, and of one that would be taken.
    let (huge, long) = ([24, 0xff, 0xff, 0xff].as_slice(), [24, 0, 0xff, 0xff].as_slice());
    let cases: [(&[Held<'_>], usize); 7] = [
        (&[(DATA, b"", 0)], 10_000),
        (&[(DATA, b"", 1000)], 10_000),
        (&[(DATA, &too_long[..], 0)], 1),
        (&[(HANDSHAKE, huge, 0), (HANDSHAKE, &[0; 1000], 0)], 200),
        (&[(HANDSHAKE, long, 0), (HANDSHAKE, &[0; 1000], 0)], 200),
        // Not even in TLS 1.3: a hello.
        (&[(HANDSHAKE, &[1, 0, 0, 1, 0], 0)], 1),
        (&[(ALERT, &[2, 80], 0)], 1),
    ];
    for (records, most) in cases {
        let mut forger = Forger::connect(&proxy, &authority).await;
        // The handshake is over for the other side as well.
        forger.word().await;
        for count in 0..most {
            let (kind, content, padding) = records[count.min(records.len() - 1)];
            let record = forger.record(kind, content, padding);
            if forger.stream.write_all(&record).await.is_err() {
                break;
            }
        }
        forger.is_ended().await;
        times += 1;
        proxy.has_ended("client_tls_broken", times).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn padding_is_no_data() {
    let (authority, backend) = (Authority::new(), Backend::echo().await);
    let (proxy, _) = before(&backend, &authority).await;
    let mut forger = Forger::connect(&proxy, &authority).await;
    for _ in 0..100 {
        let record = [forger.record(DATA, b"", 500), forger.record(DATA, b"x", 16_000)].concat();
        forger.stream.write_all(&record).await.unwrap();
    }
    let end = forger.record(ALERT, &[1, 0], 0);
    forger.stream.write_all(&end).await.unwrap();
    forger.is_ended().await;
    proxy.has_ended("ok", 1).await;
    assert_eq!((proxy.figures().bytes_up, proxy.figures().bytes_down), (100, 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_backend_says_goes_through_while_half_a_message_of_the_client_is_there() {
    let authority = Authority::new();
    let (tell, say) = mpsc::channel::<()>(1);
    let say = Arc::new(tokio::sync::Mutex::new(say));
    let backend = Backend::start(move |mut stream| {
        let say = Arc::clone(&say);
        async move {
            while say.lock().await.recv().await.is_some() {
                stream.write_all(b"word").await.unwrap();
            }
        }
    })
    .await;
    let (proxy, _) = before(&backend, &authority).await;
    let mut forger = Forger::connect(&proxy, &authority).await;
    tell.send(()).await.unwrap();
    forger.word().await;
    // An update of the client's keys, in records that cut it anywhere, and half a record behind.
    for piece in [&[24, 0][..], &[0], &[1, 0]] {
        let record = forger.record(HANDSHAKE, piece, 0);
        let (first, second) = record.split_at(9);
        forger.stream.write_all(first).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        tell.send(()).await.unwrap();
        forger.word().await;
        forger.stream.write_all(second).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        tell.send(()).await.unwrap();
        forger.word().await;
    }
    assert_eq!(proxy.workers.live(), 1);
    drop(tell);
    forger.is_ended().await;
    drop(forger);
    proxy.has_ended("ok", 1).await;
    assert_eq!(proxy.figures().bytes_down, 28);
}
