//! The balancer as a library: what a rule does with a connection, for programs that accept theirs
//! themselves and know who a client is.
//!
//! ```text
//!   stream, client id, allowed backends
//!     └─ limiter (by id) ─ pool (among the allowed) ─ relay ──▶ Served
//! ```

mod builder;
mod fault;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use socket2::SockRef;

pub use builder::{BalancerBuilder, StartError};
pub use fault::BalanceError;

use crate::base::{ClientAddr, Endpoint, time};
use crate::net::{self, Leg, Meter, Terms};
use crate::traffic::{ClientPacers, Decision, Limiter, Subject};
use crate::upstream::{BackendPlan, BackendStatus, Dialed, Pool};

use super::farewell::Refusal;
use super::limits::decide;
use super::outcome::Outcome;

/// Spreads connections over backends, for use from Rust: without configuration, listener or cluster.
///
/// It checks its backends, limits clients by the id that the caller knows them by, chooses among the
/// backends that a client may use, connects with retries, and relays. What it does is what a rule of
/// a node does, by the same code.
///
/// Awaited on any tokio runtime with I/O and time, the multi-threaded one included; [`net::relay()`]
/// says why that is sound. Checks and name resolution are tasks of the runtime on which the balancer
/// was started, and end when it is dropped.
///
/// ```
/// use std::sync::Arc;
///
/// use tidegate::Balancer;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tokio::net::{TcpListener, TcpStream};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A backend that echoes.
/// let backend = TcpListener::bind("127.0.0.1:0").await?;
/// let allowed = [backend.local_addr()?];
/// tokio::spawn(async move {
///     while let Ok((mut stream, _)) = backend.accept().await {
///         tokio::spawn(async move {
///             let (mut read, mut write) = stream.split();
///             tokio::io::copy(&mut read, &mut write).await
///         });
///     }
/// });
///
/// let balancer = Arc::new(Balancer::new(allowed)?);
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let mut client = TcpStream::connect(listener.local_addr()?).await?;
///
/// let (stream, _) = listener.accept().await?;
/// let serving = tokio::spawn(async move {
///     balancer.balance(stream, "client.a", &allowed).await
/// });
/// client.write_all(b"hello").await?;
/// client.shutdown().await?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer).await?;
/// assert_eq!(answer, "hello");
///
/// let served = serving.await??;
/// assert_eq!(served.backend, allowed[0]);
/// assert_eq!((served.bytes_up, served.bytes_down), (5, 5));
/// assert_eq!(served.outcome.reason.label(), "ok");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Balancer {
    pool: Arc<Pool>,
    limiter: Option<Arc<Limiter>>,
    pacers: Option<Arc<ClientPacers>>,
    idle_timeout: Duration,
    /// Refused clients that are being seen out.
    lingering: AtomicU32,
}

/// A connection that was served to its end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Served {
    /// By whom.
    pub backend: SocketAddr,
    /// Backends tried, that one included.
    pub attempts: u32,
    /// Spent waiting for a full backend.
    pub queued: Duration,
    /// Spent connecting, failed attempts included.
    pub connect: Duration,
    /// Bytes that reached the backend.
    pub bytes_up: u64,
    /// Bytes that reached the client.
    pub bytes_down: u64,
    /// How it ended, and by whom.
    pub outcome: Outcome,
}

impl Balancer {
    /// Before `backends` (addresses, [`Endpoint`]s or [`BackendPlan`]s), otherwise as
    /// [`Balancer::builder`] begins: least connections, TCP checks, no limits.
    ///
    /// # Errors
    /// [`StartError`]: no backend, or one twice; no runtime.
    pub fn new<B>(backends: impl IntoIterator<Item = B>) -> Result<Balancer, StartError>
    where
        B: Into<BackendPlan>,
    {
        Balancer::builder().backends(backends).start()
    }

    /// A balancer to be described before it is started.
    pub fn builder() -> BalancerBuilder {
        BalancerBuilder::default()
    }

    /// Serves `client` to its end by one of the backends in `allowed`: as they were given to the
    /// balancer, or the addresses of names. Others are as good as not there; whoever may use nothing
    /// gets an empty slice. The limits are those of `client_id`.
    ///
    /// `client` is a [`TcpStream`](tokio::net::TcpStream), or a [`Leg`] with TLS on it, as
    /// [`Terminator::accept`](net::tls::Terminator::accept) makes it. Half-closed connections stay
    /// so until the other half ends. TCP_NODELAY is set; keepalive is the caller's to set.
    ///
    /// Dropping the future cuts the connection, and gives back its place at the backend.
    ///
    /// # Errors
    /// [`BalanceError`]: nothing was relayed. The client reads an end of file; seeing it out may
    /// take half a second.
    pub fn balance<'a, C, A>(
        &'a self,
        client: C,
        client_id: &'a str,
        allowed: &[A],
    ) -> impl Future<Output = Result<Served, BalanceError>> + Send + use<'a, C, A>
    where
        C: Into<Leg>,
        A: Clone + Into<Endpoint>,
    {
        let allowed = allowed.iter().cloned().map(Into::into).collect();
        self.serve(client.into(), client_id, Some(allowed))
    }

    /// As [`Balancer::balance`], by any backend.
    ///
    /// # Errors
    /// As there.
    pub fn balance_to_any<'a, C>(
        &'a self,
        client: C,
        client_id: &'a str,
    ) -> impl Future<Output = Result<Served, BalanceError>> + Send + use<'a, C>
    where
        C: Into<Leg>,
    {
        self.serve(client.into(), client_id, None)
    }

    /// Waits until every backend was checked once, or has had its time to answer. Until then all are
    /// used.
    pub async fn first_checks(&self) {
        self.pool.first_checks().await;
    }

    /// How each backend stands now, in the order in which they were given.
    pub fn backends(&self) -> Vec<BackendStatus> {
        self.pool.snapshot().backends
    }

    async fn serve(
        &self,
        client: Leg,
        client_id: &str,
        allowed: Option<Vec<Endpoint>>,
    ) -> Result<Served, BalanceError> {
        let address = match client.socket().peer_addr() {
            Ok(address) => ClientAddr(address),
            Err(error) => return Err(BalanceError::ClientGone(error)),
        };
        // Boxed: ends long before the relay does, whose memory it would else take.
        let dialed = Box::pin(self.dial(address, client_id, allowed)).await;
        match dialed {
            Ok(dialed) => Ok(self.relay(client, client_id, dialed).await),
            Err(error) => {
                let refusal = Refusal::close(client, Outcome::from(&error));
                refusal.say(&self.lingering).await;
                Err(error)
            }
        }
    }

    async fn dial(
        &self,
        client: ClientAddr,
        client_id: &str,
        allowed: Option<Vec<Endpoint>>,
    ) -> Result<Dialed, BalanceError> {
        if let Some(limiter) = &self.limiter {
            let subject = Subject { address: client.ip(), identity: Some(client_id) };
            if let Decision::Refuse { retry_after } = decide(limiter, subject).await {
                return Err(BalanceError::RateLimited { retry_after });
            }
        }
        let dialed = match allowed {
            None => self.pool.dial(client, None).await,
            Some(allowed) => {
                let only = |name: &Endpoint, address: SocketAddr| {
                    allowed.iter().any(|one| one == name || one.literal() == Some(address))
                };
                self.pool.dial(client, Some(&only)).await
            }
        };
        dialed.map_err(BalanceError::from)
    }

    async fn relay(&self, mut client: Leg, client_id: &str, dialed: Dialed) -> Served {
        let Dialed { stream, session, lease, attempts, queued, connect } = dialed;
        let mut upstream = Leg::over(stream, session);
        let tcp = &self.pool.plan().tcp;
        // A socket that cannot be told is gone already.
        let _ = tcp.apply_nodelay(&SockRef::from(client.socket()));
        let pace = self.pacers.as_ref().map(|pacers| pacers.of_name(client_id, time::now()));
        let upload = pace.as_ref().and_then(|pace| pace.upload()).map(Arc::as_ref);
        let download = pace.as_ref().and_then(|pace| pace.download()).map(Arc::as_ref);
        let terms = Terms {
            idle_timeout: self.idle_timeout,
            keepalive: Some(&tcp.keepalive),
            upload: [upload, lease.upload()],
            download: [download, lease.download()],
            one_task: false,
        };
        let moved = Moved::default();
        let end = net::relay_legs(&mut client, &mut upstream, terms, &moved).await;
        Served {
            backend: lease.address().0,
            attempts,
            queued,
            connect,
            bytes_up: moved.up.load(Relaxed),
            bytes_down: moved.down.load(Relaxed),
            outcome: Outcome::from(&end),
        }
    }
}

/// What one relay has moved.
#[derive(Debug, Default)]
struct Moved {
    up: AtomicU64,
    down: AtomicU64,
}

impl Meter for Moved {
    fn moved(&self, up: u64, down: u64) {
        self.up.fetch_add(up, Relaxed);
        self.down.fetch_add(down, Relaxed);
    }
}
