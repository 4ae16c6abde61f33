//! Scripted backends: what each connection meets is a closure.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A backend that lives as long as this value.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Backend {
    /// Each connection meets `script`.
    pub(crate) async fn start<F>(script: impl Fn(TcpStream) -> F + Send + 'static) -> Backend
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move {
                loop {
                    // A test may take all descriptors away: a backend survives that as well.
                    let Ok((stream, _)) = listener.accept().await else {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        continue;
                    };
                    connections.fetch_add(1, Relaxed);
                    tokio::spawn(script(stream));
                }
            }
        });
        Backend { address, connections, task }
    }

    /// Sends back what comes, until the end.
    pub(crate) async fn echo() -> Backend {
        Backend::start(|mut stream| async move {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        })
        .await
    }

    /// Says `greeting` and then echoes.
    pub(crate) async fn greeting(greeting: &'static str) -> Backend {
        Backend::start(move |mut stream| async move {
            let _ = stream.write_all(greeting.as_bytes()).await;
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        })
        .await
    }

    /// Takes everything and says nothing.
    pub(crate) async fn sink() -> Backend {
        Backend::start(|mut stream| async move {
            let mut buf = vec![0; 256 * 1024];
            while let Ok(1..) = stream.read(&mut buf).await {}
        })
        .await
    }

    /// Connections that came so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An address where nobody listens: connecting is refused.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}
