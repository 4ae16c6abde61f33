//! The admin listener: HTTP/1.1 on the control runtime, bounded in every direction, so that
//! whoever plays with it cannot hurt the node or lock its operator out.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use super::guard::Guard;
use super::orders::MOST_BODY;
use super::routes;
use super::sources::Sources;
use crate::base::{Drain, Draining};
use crate::net;

/// Most bytes of a request's head; hyper answers 431 to more.
const MAX_HEAD: usize = 16 * 1024;
/// Most header lines of a request.
const MAX_HEADERS: usize = 64;
/// What an answer under way gets when the listener ends.
const PARTING: Duration = Duration::from_secs(1);
/// Rest after a failed accept (descriptors ran out, say): retrying at once would only burn CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Descriptors kept for admin: a node whose clients took all others must still answer its probes,
/// or it is restarted for being busy.
const RESERVE: usize = 8;

/// How the admin listener serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPlan {
    /// Demanded for everything but the probes.
    pub token: Option<String>,
    /// Connections at once. One more and the *oldest* is cut, so that idle or hostile ones can
    /// never keep a probe out.
    pub max_connections: usize,
    /// Time for one request's head, for its body, and so also for silence between two requests.
    pub header_timeout: Duration,
    /// Age at which a connection is closed after its current answer; bounds a client that does not
    /// read what it asked for.
    pub max_age: Duration,
}

impl ServerPlan {
    /// The usual bounds, with `token` demanded if there is one.
    pub fn new(token: Option<String>) -> Self {
        ServerPlan {
            token,
            max_connections: 256,
            header_timeout: Duration::from_secs(10),
            max_age: Duration::from_secs(120),
        }
    }
}

struct Shared {
    plan: ServerPlan,
    guard: Guard,
    sources: Arc<dyn Sources>,
}

/// Serves `sources` on `listener` until `drain` reaches [`Draining::Over`] (or its owner is gone):
/// a node that drains still answers, so that `/readyz` can say so. Returns within a second then;
/// dropping the future cuts everything at once. A failed accept does not end it.
pub async fn serve(
    plan: ServerPlan,
    listener: TcpListener,
    sources: Arc<dyn Sources>,
    mut drain: Drain,
) {
    let guard = Guard::new(plan.token.as_deref());
    let shared = Arc::new(Shared { plan, guard, sources });
    let mut connections = Connections::default();
    let mut reserve = Reserve::default();
    let mut failing = false;
    loop {
        reserve.fill();
        let accepted = tokio::select! {
            biased;
            () = drain.reached(Draining::Over) => break,
            () = connections.one_ended() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                failing = false;
                connections.make_room(shared.plan.max_connections);
                connections.add(attend(stream, Arc::clone(&shared), drain.clone()));
            }
            Err(error) if net::is_own_lack(&error) && reserve.spend() => {}
            Err(error) => {
                // Said once per row of failures: at ten per second it would drown the log.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "the admin listener cannot accept; it keeps trying");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.all_ended().await;
}

/// One connection, from its first byte to its last.
async fn attend(stream: TcpStream, shared: Arc<Shared>, mut drain: Drain) {
    let Ok(local) = stream.local_addr() else { return };
    // Answers are written whole; a refusal only costs delay.
    let _ = stream.set_nodelay(true);
    let max_age = shared.plan.max_age;
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(shared.plan.header_timeout)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .half_close(true);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, local, &shared).await) }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // Garbage, resets and timeouts are the client's affair.
        _ = connection.as_mut() => return,
        () = drain.reached(Draining::Over) => {}
        () = tokio::time::sleep(max_age) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(PARTING, connection).await;
}

async fn answer(
    request: hyper::Request<hyper::body::Incoming>,
    local: SocketAddr,
    shared: &Shared,
) -> routes::Answer {
    let (head, body) = request.into_parts();
    let let_in = match routes::let_in(&head, local, &shared.guard) {
        Ok(let_in) => let_in,
        Err(refused) => return *refused,
    };
    if !let_in.has_body() {
        return routes::answer(let_in, &[], &*shared.sources);
    }
    let read = Limited::new(body, MOST_BODY).collect();
    match tokio::time::timeout(shared.plan.header_timeout, read).await {
        Ok(Ok(body)) => routes::answer(let_in, &body.to_bytes(), &*shared.sources),
        Ok(Err(_)) => routes::too_large(),
        Err(_) => routes::too_slow(),
    }
}

/// Open descriptors of nothing, closed one by one when accepting finds none left.
#[derive(Default)]
struct Reserve(Vec<File>);

impl Reserve {
    /// Takes back what was spent, as far as there is any.
    fn fill(&mut self) {
        while self.0.len() < RESERVE {
            let Ok(nothing) = File::open("/dev/null") else { return };
            self.0.push(nothing);
        }
    }

    /// Frees a descriptor; `false` when all are spent.
    fn spend(&mut self) -> bool {
        self.0.pop().is_some()
    }
}

/// The live connections, oldest first.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    by_age: VecDeque<AbortHandle>,
}

impl Connections {
    fn add(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        self.by_age.push_back(self.tasks.spawn(connection));
    }

    /// Cuts the oldest until one more than now would still be at most `max`.
    fn make_room(&mut self, max: usize) {
        if self.by_age.len() < max {
            return;
        }
        self.by_age.retain(|connection| !connection.is_finished());
        while self.by_age.len() >= max.max(1) {
            if let Some(oldest) = self.by_age.pop_front() {
                oldest.abort();
            }
        }
    }

    /// Resolves when one has ended and is forgotten; never while there is none.
    async fn one_ended(&mut self) {
        match self.tasks.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                tracing::error!("an admin request panicked; its connection was closed");
            }
            Some(_) => {}
            None => std::future::pending().await,
        }
    }

    async fn all_ended(mut self) {
        // The tasks bound themselves by PARTING; this is for one that could not run.
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(PARTING * 2, ended).await;
    }
}

#[cfg(test)]
mod tests;
