//! The commands' side: asks a running node over its admin listener.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::orders::Kind;
use crate::base::{Endpoint, Host};
use crate::net::Resolver;

/// Where a node's admin listener is unless told otherwise.
pub const DEFAULT_URL: &str = "http://127.0.0.1:9900";
/// The port of an URL that names none.
const DEFAULT_PORT: &str = "9900";
/// A command waits this long for a whole answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest answer taken.
const MAX_BODY: usize = 64 << 20;

/// An admin listener, as `--admin` names it: `http://host:port`; the port may be left away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(Endpoint);

/// Why a text is not a [`Target`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an admin listener; write `http://host:port`, for example {DEFAULT_URL}")]
pub struct TargetError(String);

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = || TargetError(text.to_owned());
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(fault()),
            None => text,
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        authority
            .parse()
            .or_else(|_| format!("{authority}:{DEFAULT_PORT}").parse())
            .map(Target)
            .map_err(|_| fault())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

/// Why a node gave no answer, in words for who typed the command.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens there.
    #[error("no node answers at {0}: start one with `tidegate run`, or name another with --admin")]
    Nobody(Target),
    /// The name has no address.
    #[error("cannot find the address of {0}: {1}; name another with --admin")]
    NoAddress(Target, String),
    /// The network does not lead there.
    #[error("cannot reach {0}: {1}; name another with --admin")]
    Unreachable(Target, io::Error),
    /// It did not answer in time.
    #[error("{0} did not answer within {1:?}; look at the node's log")]
    Silent(Target, Duration),
    /// Whatever listens there is something else.
    #[error(
        "what answers at {0} is not a tidegate admin listener ({1}); name another with --admin"
    )]
    Stranger(Target, String),
    /// A token is wanted, or another one.
    #[error("{0}: {1}; name the file that holds it with --token-file or TIDEGATE_TOKEN_FILE")]
    Token(Target, String),
    /// The node answered that it will not.
    #[error("{0} refused: {1}")]
    Refused(Target, String),
    /// `/readyz` said no.
    #[error("{0} is not ready: {1}")]
    NotReady(Target, String),
}

/// Asks one node.
#[derive(Clone, Debug)]
pub struct Client {
    target: Target,
    token: Option<String>,
    patience: Duration,
}

#[derive(Deserialize)]
struct Said {
    error: String,
}

#[derive(Deserialize)]
struct Done {
    done: String,
}

#[derive(Deserialize)]
struct Readiness {
    reasons: Vec<String>,
}

impl Client {
    /// A client of the node at `target`, with the token if there is one.
    pub fn new(target: Target, token: Option<String>) -> Self {
        Client { target, token, patience: PATIENCE }
    }

    /// Gives a whole answer this long, instead of 5 s.
    pub fn with_patience(self, patience: Duration) -> Self {
        Client { patience, ..self }
    }

    /// `GET path`: the JSON as the node wrote it, and what it says.
    ///
    /// # Errors
    /// Why there is no such answer.
    pub async fn view<T: DeserializeOwned>(&self, path: &str) -> Result<(String, T), ClientError> {
        let (status, body) = self.ask(Method::GET, path, None).await?;
        self.must_be(StatusCode::OK, status, &body)?;
        let parsed = serde_json::from_str(&body)
            .map_err(|error| ClientError::Stranger(self.target.clone(), error.to_string()))?;
        Ok((body, parsed))
    }

    /// Whether the node is alive and ready.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn ready(&self) -> Result<(), ClientError> {
        let (status, body) = self.ask(Method::GET, "/readyz", None).await?;
        if status == StatusCode::SERVICE_UNAVAILABLE
            && let Ok(said) = serde_json::from_str::<Readiness>(&body)
        {
            return Err(ClientError::NotReady(self.target.clone(), said.reasons.join("; ")));
        }
        self.must_be(StatusCode::OK, status, &body)
    }

    /// Asks the node to leave its cluster and stop.
    ///
    /// # Errors
    /// Why it will not.
    pub async fn leave(&self) -> Result<(), ClientError> {
        let (status, body) = self.ask(Method::POST, "/api/v1/leave", None).await?;
        self.must_be(StatusCode::ACCEPTED, status, &body)
    }

    /// Sends `body` to where orders of this kind are taken: what the node says it did.
    ///
    /// # Errors
    /// Why it did not.
    pub async fn order(&self, kind: Kind, body: &serde_json::Value) -> Result<String, ClientError> {
        let (status, body) = self.ask(Method::POST, kind.path(), Some(body)).await?;
        self.must_be(StatusCode::OK, status, &body)?;
        let done: Done = serde_json::from_str(&body)
            .map_err(|error| ClientError::Stranger(self.target.clone(), error.to_string()))?;
        Ok(done.done)
    }

    fn must_be(&self, want: StatusCode, is: StatusCode, body: &str) -> Result<(), ClientError> {
        if is == want {
            return Ok(());
        }
        let target = self.target.clone();
        Err(match serde_json::from_str::<Said>(body) {
            Ok(said) if is == StatusCode::UNAUTHORIZED => ClientError::Token(target, said.error),
            Ok(said) => ClientError::Refused(target, said.error),
            Err(_) => ClientError::Stranger(target, format!("it said {is}")),
        })
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<(StatusCode, String), ClientError> {
        tokio::time::timeout(self.patience, self.exchange(method, path, body))
            .await
            .unwrap_or_else(|_| Err(ClientError::Silent(self.target.clone(), self.patience)))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<(StatusCode, String), ClientError> {
        let stranger = |what: String| ClientError::Stranger(self.target.clone(), what);
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| stranger(error.to_string()))?;
        let exchange = async {
            let request = self.request(method, path, body)?;
            let answer =
                sender.send_request(request).await.map_err(|error| stranger(error.to_string()))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_BODY)
                .collect()
                .await
                .map_err(|error| stranger(error.to_string()))?
                .to_bytes();
            let text = String::from_utf8(body.into())
                .map_err(|_| stranger("its answer is not text".to_owned()))?;
            Ok((status, text))
        };
        // The connection moves only when polled; how it ends is told by the exchange.
        let mut connection = std::pin::pin!(connection);
        let mut ended = false;
        let mut exchange = std::pin::pin!(exchange);
        poll_fn(|context| {
            ended = ended || connection.as_mut().poll(context).is_ready();
            exchange.as_mut().poll(context)
        })
        .await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let text = body.map(ToString::to_string).unwrap_or_default();
        let mut request = Request::new(Full::new(Bytes::from(text)));
        if body.is_some() {
            request
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        *request.method_mut() = method;
        // Paths are ours and authorities were parsed, so neither fault can occur.
        if let Ok(uri) = path.parse() {
            *request.uri_mut() = uri;
        }
        if let Ok(host) = HeaderValue::from_str(&self.target.0.to_string()) {
            request.headers_mut().insert(HOST, host);
        }
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                let what = "the token has characters that a header cannot carry".to_owned();
                ClientError::Token(self.target.clone(), what)
            })?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(request)
    }

    async fn connect(&self) -> Result<TcpStream, ClientError> {
        let mut refused = None;
        for address in self.addresses().await? {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => refused = Some(error),
            }
        }
        Err(match refused {
            Some(error) if error.kind() != io::ErrorKind::ConnectionRefused => {
                ClientError::Unreachable(self.target.clone(), error)
            }
            _ => ClientError::Nobody(self.target.clone()),
        })
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, ClientError> {
        let Endpoint { host, port } = &self.target.0;
        let found = match host {
            Host::Ip(ip) => vec![*ip],
            // Known without asking anybody (RFC 6761).
            Host::Name(name) if &**name == "localhost" => {
                vec![IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)]
            }
            Host::Name(_) => {
                let fault = |what: String| ClientError::NoAddress(self.target.clone(), what);
                let resolver = Resolver::from_system().map_err(|error| fault(error.to_string()))?;
                let resolved = resolver.resolve(host).await;
                resolved.map_err(|error| fault(error.to_string()))?.addresses
            }
        };
        Ok(found.into_iter().map(|ip| SocketAddr::new(ip, *port)).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::fake::Fake;
    use super::super::orders::Order;
    use super::super::server::{ServerPlan, serve};
    use super::super::shapes::Members;
    use super::*;
    use crate::base::drain::{DrainSignal, drain_signal};

    async fn node(fake: Fake, token: Option<&str>) -> (Arc<Fake>, Target, DrainSignal) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target(listener.local_addr().unwrap().into());
        let fake = Arc::new(fake);
        let (signal, drain) = drain_signal();
        let plan = ServerPlan::new(token.map(str::to_owned));
        tokio::spawn(serve(plan, listener, Arc::clone(&fake) as _, drain));
        (fake, target, signal)
    }

    /// Answers every connection with `bytes` and closes.
    async fn stranger(bytes: &'static [u8]) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target(listener.local_addr().unwrap().into());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(bytes).await;
            }
        });
        target
    }

    #[test]
    fn a_target_is_written_as_an_url_or_short() {
        for (text, want) in [
            ("http://127.0.0.1:9900", "http://127.0.0.1:9900"),
            ("HTTP://node1:1/", "http://node1:1"),
            ("node1:9901", "http://node1:9901"),
            ("node1", "http://node1:9900"),
            ("http://10.0.0.1", "http://10.0.0.1:9900"),
            ("http://[::1]/", "http://[::1]:9900"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), want);
        }
        for text in ["", "http://", "https://node1:9900", "http://node1/api", "a b", "node1:99999"]
        {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_view_is_the_very_json_of_the_node() {
        let (fake, target, _signal) = node(Fake::busy(), Some("t")).await;
        let client = Client::new(target, Some("t".into()));
        let (text, members) = client.view::<Members>("/api/v1/members").await.unwrap();
        assert_eq!(members, fake.members);
        assert_eq!(text, serde_json::to_string(&fake.members).unwrap() + "\n");
    }

    #[tokio::test]
    async fn leave_and_ready_reach_the_node() {
        let (fake, target, _signal) = node(Fake::busy(), None).await;
        let client = Client::new(target, None);
        client.ready().await.unwrap();
        client.leave().await.unwrap();
        assert_eq!(fake.left.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_order_reaches_the_node_with_its_token_and_a_denial_comes_back_in_words() {
        let (fake, target, _signal) = node(Fake::busy(), Some("t")).await;
        let body = serde_json::json!({ "client": "203.0.113.7", "for": "10m", "cut": true });
        let error = Client::new(target.clone(), None).order(Kind::Ban, &body).await.unwrap_err();
        assert!(matches!(error, ClientError::Token(..)), "{error}");
        let client = Client::new(target, Some("t".into()));
        assert_eq!(client.order(Kind::Ban, &body).await.unwrap(), "done");
        let (client_net, length) = ("203.0.113.7/32".parse().unwrap(), Duration::from_secs(600));
        let want = Order::Ban { client: client_net, length: Some(length), cut: true };
        assert_eq!(fake.ordered.lock()[..], [want]);
        let error = client.order(Kind::Drain, &body).await.unwrap_err().to_string();
        assert!(error.contains("unknown field `client`"), "{error}");
    }

    #[tokio::test]
    async fn what_went_wrong_is_told_in_words() {
        let told = |error: ClientError| error.to_string();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = Target(free.local_addr().unwrap().into());
        drop(free);
        let error = Client::new(nobody, None).ready().await.unwrap_err();
        assert!(told(error).contains("start one with `tidegate run`"));

        let unready = Fake { not_ready: vec!["draining".into()], ..Fake::busy() };
        let (_fake, target, _signal) = node(unready, Some("t")).await;
        let client = Client::new(target, None);
        assert!(told(client.ready().await.unwrap_err()).ends_with("is not ready: draining"));
        let error = client.view::<Members>("/api/v1/members").await.unwrap_err();
        assert!(told(error).contains("--token-file"));
        let error = client.leave().await.unwrap_err();
        assert!(matches!(error, ClientError::Token(..)));

        for bytes in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"[..],
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{",
            b"SSH-2.0-OpenSSH\r\n",
            b"",
        ] {
            let client = Client::new(stranger(bytes).await, None);
            let error = client.view::<Members>("/api/v1/members").await.unwrap_err();
            assert!(matches!(error, ClientError::Stranger(..)), "{bytes:?}: {error}");
        }

        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target(mute.local_addr().unwrap().into());
        let client = Client::new(target, None).with_patience(Duration::from_millis(100));
        assert!(told(client.ready().await.unwrap_err()).contains("did not answer within 100ms"));
    }
}
