use std::cell::Cell;
use std::num::NonZeroU64;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Count(Cell<u64>, Cell<u64>);

impl Meter for Count {
    fn moved(&self, up: u64, down: u64) {
        self.0.set(self.0.get() + up);
        self.1.set(self.1.get() + down);
    }
}

/// Two ends of one loopback connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

/// Runs a relay between a client and a server that are played by `play`.
async fn relayed<T>(
    terms: Terms<'_>,
    play: impl AsyncFnOnce(TcpStream, TcpStream) -> T,
) -> (End, (u64, u64), T) {
    let (client, mut near) = pair().await;
    let (mut far, server) = pair().await;
    let count = Count::default();
    let relay = async {
        let end = relay(&mut near, &mut far, terms, &count).await;
        drop((near, far));
        end
    };
    let (end, told) =
        timeout(SOON, async { tokio::join!(relay, play(client, server)) }).await.unwrap();
    (end, (count.0.get(), count.1.get()), told)
}

/// Bytes that differ at every place, so that a lost, doubled or swapped piece shows.
fn bytes(n: usize, seed: u64) -> Vec<u8> {
    let mut x = seed | 1;
    (0..n)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
        .collect()
}

#[tokio::test]
async fn an_end_of_one_side_leaves_the_other_half_open() {
    for client_first in [true, false] {
        let (end, counted, answer) = relayed(Terms::default(), async |client, server| {
            let (mut first, mut second) =
                if client_first { (client, server) } else { (server, client) };
            first.write_all(b"question").await.unwrap();
            first.shutdown().await.unwrap();
            let mut asked = Vec::new();
            second.read_to_end(&mut asked).await.unwrap();
            assert_eq!(asked, b"question");
            second.write_all(b"late answer").await.unwrap();
            drop(second);
            let mut answer = Vec::new();
            first.read_to_end(&mut answer).await.unwrap();
            answer
        })
        .await;
        assert_eq!(answer, b"late answer");
        let (wanted, sum) =
            if client_first { (Side::Client, (8, 11)) } else { (Side::Upstream, (11, 8)) };
        assert!(matches!(end, End::Done { first } if first == wanted), "{end:?}");
        assert_eq!(counted, sum);
    }
}

#[tokio::test]
async fn bulk_both_ways_at_once_arrives_byte_for_byte() {
    const MUCH: usize = 24 * 1024 * 1024;
    let (up, down) = (bytes(MUCH, 3), bytes(MUCH, 5));
    let (end, counted, ()) = relayed(Terms::default(), async |client, server| {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
        let sent_up = async {
            to_client.write_all(&up).await.unwrap();
            to_client.shutdown().await.unwrap();
        };
        let sent_down = async {
            to_server.write_all(&down).await.unwrap();
            to_server.shutdown().await.unwrap();
        };
        let (_, _, a, b) = tokio::join!(
            sent_up,
            sent_down,
            from_server.read_to_end(&mut got_up),
            from_client.read_to_end(&mut got_down)
        );
        a.unwrap();
        b.unwrap();
        assert!(got_up == up && got_down == down, "bytes were changed on the way");
    })
    .await;
    assert!(matches!(end, End::Done { .. }), "{end:?}");
    assert_eq!(counted, (MUCH as u64, MUCH as u64));
    assert_ne!(splice::open_and_spare().0, 0, "all was copied");
    let (open, spare) = splice::open_and_spare();
    assert_eq!(open, spare, "pipes were not given back");
}

#[tokio::test]
async fn a_slow_reader_gets_everything_and_holds_its_writer_back() {
    const MUCH: usize = 16 * 1024 * 1024;
    let sent = bytes(MUCH, 9);
    let (end, _, written_early) = relayed(Terms::default(), async |mut client, mut server| {
        let written = Cell::new(0);
        let write = async {
            for piece in sent.chunks(64 * 1024) {
                server.write_all(piece).await.unwrap();
                written.set(written.get() + piece.len());
            }
            drop(server);
        };
        let read = async {
            // Nothing is read until the writer no longer moves.
            let mut before = usize::MAX;
            while before != written.get() {
                before = written.get();
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.unwrap();
            assert!(got == sent, "bytes were changed on the way");
            before
        };
        tokio::join!(write, read).1
    })
    .await;
    assert!(matches!(end, End::Done { first: Side::Upstream }), "{end:?}");
    assert!(written_early < MUCH, "the relay took everything though nobody read");
}

#[tokio::test]
async fn bursts_after_much_bulk_are_not_held_up() {
    const BURSTS: usize = 100;
    let begun = time::now();
    let (end, _, ()) = relayed(Terms::default(), async |mut client, mut server| {
        let much = bytes(40 * 1024 * 1024, 3);
        let burst = bytes(100 * 1024, 4);
        let serve = async {
            server.write_all(&much).await.unwrap();
            for _ in 0..BURSTS {
                server.write_all(&burst).await.unwrap();
                server.read_u8().await.unwrap();
            }
        };
        let read = async {
            let mut got = vec![0; much.len()];
            client.read_exact(&mut got).await.unwrap();
            assert!(got == much, "bytes were changed on the way");
            let mut got = vec![0; burst.len()];
            for _ in 0..BURSTS {
                client.read_exact(&mut got).await.unwrap();
                assert!(got == burst, "bytes were changed on the way");
                client.write_u8(0).await.unwrap();
            }
        };
        tokio::join!(serve, read);
        drop((client, server));
    })
    .await;
    assert!(matches!(end, End::Done { .. }), "{end:?}");
    println!("{:?}", begun.elapsed());
}

#[tokio::test]
async fn without_pipes_bulk_is_copied() {
    const MUCH: usize = 8 * 1024 * 1024;
    let hoard: Vec<_> = std::iter::from_fn(splice::take).collect();
    assert!(!hoard.is_empty() && splice::take().is_none(), "the number of pipes has no bound");
    let sent = bytes(MUCH, 7);
    let (end, counted, ()) = relayed(Terms::default(), async |mut client, mut server| {
        let mut got = Vec::new();
        let write = async {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let (_, read) = tokio::join!(write, server.read_to_end(&mut got));
        read.unwrap();
        assert!(got == sent, "bytes were changed on the way");
    })
    .await;
    assert!(matches!(end, End::Done { .. }), "{end:?}");
    assert_eq!(counted, (MUCH as u64, 0));
    hoard.into_iter().for_each(splice::give_back);
    assert!(splice::take().is_some(), "pipes given back can be had again");
}

#[tokio::test]
async fn silence_ends_a_relay_but_activity_in_either_direction_keeps_it() {
    let idle_timeout = Duration::from_millis(300);
    let begun = time::now();
    let (end, _, ()) =
        relayed(Terms { idle_timeout, ..Terms::default() }, async |mut client, mut server| {
            for _ in 0..6 {
                server.write_all(b"x").await.unwrap();
                client.read_u8().await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        })
        .await;
    assert!(matches!(end, End::Idle), "{end:?}");
    let lived = begun.elapsed();
    assert!(lived >= Duration::from_millis(500) + idle_timeout, "cut while active: {lived:?}");
}

#[tokio::test]
async fn an_answer_given_before_the_server_broke_is_delivered() {
    let (end, _, ()) = relayed(Terms::default(), async |mut client, mut server| {
        // Unread bytes make the kernel answer the close with a reset.
        client.write_all(&bytes(4096, 1)).await.unwrap();
        server.readable().await.unwrap();
        server.write_all(b"too large").await.unwrap();
        let mut answer = [0; 9];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"too large");
        drop(server);
        // Writing on sooner or later meets the reset; the relay must end, not hang.
        while client.write_all(&[0; 4096]).await.is_ok() {}
    })
    .await;
    assert!(matches!(end, End::Failed { side: Side::Upstream, .. }), "{end:?}");
}

#[tokio::test]
async fn a_reset_of_one_side_is_passed_on_to_the_other() {
    for client_resets in [true, false] {
        let (end, _, error) = relayed(Terms::default(), async |client, server| {
            let (gone, mut left) = if client_resets { (client, server) } else { (server, client) };
            SockRef::from(&gone).set_linger(Some(Duration::ZERO)).unwrap();
            drop(gone);
            left.read(&mut [0; 8]).await.unwrap_err()
        })
        .await;
        let wanted = if client_resets { Side::Client } else { Side::Upstream };
        assert!(
            matches!(end, End::Failed { side, after_its_end: false, .. } if side == wanted),
            "{end:?}"
        );
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn all_pacers_of_a_direction_hold_it_back_and_the_other_is_free() {
    let now = time::now();
    let slow = Pacer::new(NonZeroU64::new(512 * 1024).unwrap(), now);
    let fast = Pacer::new(NonZeroU64::new(64 * 1024 * 1024).unwrap(), now);
    let terms =
        Terms { download: [Some(&fast), Some(&slow)], upload: [None, None], ..Terms::default() };
    let (_, _, (up, down)) = relayed(terms, async |client, server| {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let (up, down) = (Cell::new(0), Cell::new(0));
        let count = async |from: &mut tokio::net::tcp::OwnedReadHalf, sum: &Cell<usize>| {
            let mut buf = vec![0; 64 * 1024];
            while let Ok(n @ 1..) = from.read(&mut buf).await {
                sum.set(sum.get() + n);
            }
        };
        let much = bytes(64 * 1024, 1);
        let all = async {
            tokio::join!(
                async { while to_client.write_all(&much).await.is_ok() {} },
                async { while to_server.write_all(&much).await.is_ok() {} },
                count(&mut from_server, &up),
                count(&mut from_client, &down),
            )
        };
        assert!(timeout(Duration::from_secs(1), all).await.is_err());
        (up.get(), down.get())
    })
    .await;
    assert!((300 * 1024..800 * 1024).contains(&down), "{down} bytes in a second at 512 KiB/s");
    assert!(up > 8 * 1024 * 1024, "the other direction was held back: {up} bytes");
}

#[tokio::test]
async fn a_relay_that_is_dropped_has_told_what_it_moved() {
    let (mut client, mut near) = pair().await;
    let (mut far, mut server) = pair().await;
    let count = Count::default();
    {
        let relay = relay(&mut near, &mut far, Terms::default(), &count);
        let play = async {
            client.write_all(b"12345").await.unwrap();
            server.read_exact(&mut [0; 5]).await.unwrap();
        };
        tokio::select! {
            _ = relay => panic!("ended by itself"),
            () = play => {}
        }
    }
    assert_eq!((count.0.get(), count.1.get()), (5, 0));
}

#[tokio::test]
async fn the_backend_s_socket_gets_keepalive_when_the_relay_lasts() {
    let (mut client, mut near) = pair().await;
    let (mut far, mut server) = pair().await;
    let keepalive =
        Keepalive { idle: Duration::from_millis(100), interval: Duration::from_secs(3), count: 2 };
    // The same socket by another descriptor, to look at while the relay has it.
    let seen = SockRef::from(&far).try_clone().unwrap();
    let count = Count::default();
    let terms = Terms { keepalive: Some(&keepalive), ..Terms::default() };
    let relay = relay(&mut near, &mut far, terms, &count);
    let play = async {
        client.write_all(b"x").await.unwrap();
        server.read_u8().await.unwrap();
        assert!(!seen.keepalive().unwrap(), "set before it was known to last");
        while !seen.keepalive().unwrap() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(seen.tcp_keepalive_interval().unwrap(), Duration::from_secs(3));
        assert_eq!(seen.tcp_keepalive_retries().unwrap(), 2);
    };
    tokio::select! {
        end = relay => panic!("ended by itself: {end:?}"),
        done = timeout(SOON, play) => done.unwrap(),
    }
}

/// What a library asks of a relay: awaited on a runtime whose tasks change threads.
#[tokio::test]
async fn a_relay_may_move_to_another_thread() {
    fn is_send<T: Send>(_: &T) {}
    let ((_client, near), (far, _server)) = (pair().await, pair().await);
    let (mut near, mut far) = (Leg::from(near), Leg::from(far));
    is_send(&relay_legs(&mut near, &mut far, Terms::default(), &()));
}

#[tokio::test]
async fn a_relay_that_goes_on_in_another_task_still_hears_its_timer() {
    let ((_client, mut near), (mut far, _server)) = (pair().await, pair().await);
    let terms = Terms { idle_timeout: Duration::from_millis(100), ..Terms::default() };
    let mut relay = Box::pin(async move { relay(&mut near, &mut far, terms, &()).await });
    let mut before = Context::from_waker(std::task::Waker::noop());
    assert!(relay.as_mut().poll(&mut before).is_pending());
    // In a task of its own: what waits here for it to end must not be what polls it.
    let end = timeout(SOON, tokio::spawn(relay)).await.expect("the timer woke the task before");
    let end = end.unwrap();
    assert!(matches!(end, End::Idle), "{end:?}");
}

#[test]
fn a_pipe_counts_for_the_thread_that_has_it() {
    let before = splice::open_and_spare().0;
    let pipe = splice::take().unwrap();
    let (lent, spare) = splice::open_and_spare();
    std::thread::spawn(move || {
        splice::give_back(pipe);
        assert_eq!(splice::open_and_spare(), (1, 1));
        let pipe = splice::take();
        assert_eq!(splice::open_and_spare(), (1, 0));
        drop(pipe);
        assert_eq!(splice::open_and_spare(), (0, 0));
    })
    .join()
    .unwrap();
    let left = (lent - 1, spare);
    assert_eq!(splice::open_and_spare(), left, "{before} before it was lent");
}

/// Memory per connection is a bar of ours; this is the relay's share of it.
#[tokio::test]
async fn a_relay_at_rest_is_small() {
    let (_client, mut near) = pair().await;
    let (mut far, _server) = pair().await;
    let count = Count::default();
    let size = size_of_val(&relay(&mut near, &mut far, Terms::default(), &count));
    println!("{size} bytes, of which {} are the timer", size_of::<Sleep>());
    assert!(size <= 384, "{size} bytes");
}
