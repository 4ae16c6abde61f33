//! The sockets of push/pull: a task for each stream, which knows nothing of what goes over it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{
    Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel,
};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::sync::{DEADLINE, StreamId};

/// Read at once.
const PIECE: usize = 16 << 10;
/// Pieces that wait for the machine; then streams are read no further.
const WAITING: usize = 16;
/// What the last bytes and their receipt may take.
const CLOSING: Duration = Duration::from_secs(5);
/// After an accept that failed for want of descriptors.
const PAUSE: Duration = Duration::from_millis(200);
/// Streams of callers; of more, those whose last bytes are on their way count as well.
const MOST: usize = 320;
/// Between two calls taken: a flood of them must not keep gossip from its work, and has to wait so
/// long that who has something to say can say who it is before it is pushed out.
const BETWEEN: Duration = Duration::from_millis(2);

/// What happened to a stream.
#[derive(Debug)]
pub(super) enum News {
    Accepted(SocketAddr),
    TurnedAway,
    Connected,
    Bytes(Vec<u8>),
    Closed(String),
}

/// All streams.
pub(super) struct Streams {
    /// Where our calls come from, when that is not for the system to choose.
    own: Option<IpAddr>,
    /// What each is to send; dropped, a stream ends when all is sent.
    open: HashMap<StreamId, (UnboundedSender<Vec<u8>>, AbortHandle)>,
    room: Arc<Semaphore>,
    news: Sender<(StreamId, News)>,
    told: Receiver<(StreamId, News)>,
    /// Taken, and carried once the machine is told.
    calls: Receiver<(TcpStream, SocketAddr)>,
    called: u64,
}

impl Streams {
    /// Takes calls on `listener` from now on.
    pub(super) fn open(listener: StdListener) -> io::Result<Streams> {
        // Firewalls may know nodes by their addresses.
        let own = Some(listener.local_addr()?.ip()).filter(|ip| !ip.is_unspecified());
        let (news, told) = channel(WAITING);
        let (taken, calls) = channel(1);
        tokio::spawn(accept(TcpListener::from_std(listener)?, taken));
        let room = Arc::new(Semaphore::new(MOST));
        Ok(Streams { own, open: HashMap::new(), room, news, told, calls, called: 0 })
    }

    /// What happened next.
    pub(super) async fn next(&mut self) -> (StreamId, News) {
        tokio::select! {
            Some(news) = self.told.recv() => news,
            Some((socket, from)) = self.calls.recv() => match self.take(socket) {
                Some(stream) => (stream, News::Accepted(from)),
                None => (StreamId::In(0), News::TurnedAway),
            },
        }
    }

    /// Calls `to`.
    pub(super) fn connect(&mut self, stream: StreamId, to: SocketAddr) {
        let (out, sending) = unbounded_channel();
        let news = self.news.clone();
        let own = self.own.filter(|own| own.is_ipv4() == to.is_ipv4());
        let task = tokio::spawn(async move {
            match timeout(DEADLINE, call(own, to)).await {
                Ok(Ok(socket)) => {
                    if news.send((stream, News::Connected)).await.is_ok() {
                        carry(stream, socket, sending, news).await;
                    }
                }
                Ok(Err(error)) => {
                    let _ = news.send((stream, News::Closed(error.to_string()))).await;
                }
                Err(_) => {}
            }
        });
        self.open.insert(stream, (out, task.abort_handle()));
    }

    /// Carries a stream that was accepted, if there is room for it.
    fn take(&mut self, socket: TcpStream) -> Option<StreamId> {
        let room = Arc::clone(&self.room).try_acquire_owned().ok()?;
        self.called += 1;
        let stream = StreamId::In(self.called);
        let (out, sending) = unbounded_channel();
        let carried = carry(stream, socket, sending, self.news.clone());
        let task = tokio::spawn(async move {
            carried.await;
            drop(room);
        });
        self.open.insert(stream, (out, task.abort_handle()));
        Some(stream)
    }

    /// Sends `bytes`, unless the stream is over.
    pub(super) fn write(&mut self, stream: StreamId, bytes: Vec<u8>) {
        if let Some((out, _)) = self.open.get(&stream) {
            let _ = out.send(bytes);
        }
    }

    /// Ends a stream, gently when all is sent. Otherwise it makes room at once.
    pub(super) fn close(&mut self, stream: StreamId, gently: bool) {
        if let Some((_, task)) = self.open.remove(&stream)
            && !gently
        {
            task.abort();
        }
    }
}

async fn call(own: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(own) = own {
        socket.bind(SocketAddr::new(own, 0))?;
    }
    socket.connect(to).await
}

async fn accept(listener: TcpListener, taken: Sender<(TcpStream, SocketAddr)>) {
    loop {
        match listener.accept().await {
            Ok((socket, from)) => {
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                if taken.send((socket, from)).await.is_err() {
                    return;
                }
                sleep(BETWEEN).await;
            }
            Err(error) => {
                tracing::debug!(%error, "a call for push/pull was not accepted");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Until the other end closes, or nobody has anything to send any more.
async fn carry(
    stream: StreamId,
    mut socket: TcpStream,
    mut sending: UnboundedReceiver<Vec<u8>>,
    news: Sender<(StreamId, News)>,
) {
    let mut buffer = vec![0; PIECE];
    let closed = loop {
        tokio::select! {
            read = socket.read(&mut buffer) => match read {
                Ok(0) => break "the other end closed it".to_owned(),
                Ok(length) => {
                    let piece = News::Bytes(buffer[..length].to_vec());
                    if news.send((stream, piece)).await.is_err() {
                        return;
                    }
                }
                Err(error) => break error.to_string(),
            },
            bytes = sending.recv() => match bytes {
                Some(bytes) => match timeout(DEADLINE, socket.write_all(&bytes)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => break error.to_string(),
                    Err(_) => break "the other end does not read".to_owned(),
                },
                None => {
                    // Closing with unread bytes would reset what was just sent.
                    let end = async {
                        socket.shutdown().await?;
                        while socket.read(&mut buffer).await? > 0 {}
                        io::Result::Ok(())
                    };
                    let _ = timeout(CLOSING, end).await;
                    return;
                }
            },
        }
    };
    let _ = news.send((stream, News::Closed(closed))).await;
}
