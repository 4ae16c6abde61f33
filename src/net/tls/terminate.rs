//! TLS of clients that ends here.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert,
    UnbufferedServerConnection,
};
use rustls::sign::CertifiedKey;
use rustls::{CommonState, Error, HandshakeKind, ServerConfig, SupportedProtocolVersion, version};
use tokio::net::TcpStream;

use super::clients::{self, Clients};
use super::fault::HandshakeFault;
use super::material::Certificate;
use super::plan::{ServedPlan, TerminatePlan, TlsVersion};
use super::provider;
use super::session::Session;
use crate::base::{Identity, time};

/// Terminates TLS as a rule asks for it.
pub struct Terminator {
    config: Arc<ServerConfig>,
    clients: Option<Arc<Clients>>,
}

/// Why a rule's TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The authorities or revocation lists for clients.
    #[error("`client_ca` or `client_crl` cannot be used: {0}")]
    Clients(String),
    /// There is no system to ask, or it knows nobody.
    #[error("this system has no certificate authorities; name some by `ca:`")]
    NoSystemRoots,
    /// Anything else.
    #[error(transparent)]
    Tls(#[from] Error),
}

impl Terminator {
    /// As `plan` asks for; sessions are resumed by `tickets`.
    ///
    /// # Errors
    /// What rustls does not take of it.
    pub fn new(
        plan: &TerminatePlan,
        tickets: Arc<dyn ProducesTickets>,
    ) -> Result<Terminator, SetupError> {
        let clients = plan.clients.as_ref().map(Clients::new).transpose()?.map(Arc::new);
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(versions(plan.min_version))?;
        let builder = match &clients {
            Some(clients) => {
                let clients: Arc<dyn ClientCertVerifier> = Arc::clone(clients) as _;
                builder.with_client_cert_verifier(clients)
            }
            None => builder.with_no_client_auth(),
        };
        let served = Served::new(&plan.certificates);
        let mut config = builder.with_cert_resolver(Arc::new(served));
        config.alpn_protocols = plan.alpn.clone();
        config.ticketer = tickets;
        // Nothing is remembered here: a session goes on wherever its ticket can be opened.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Terminator { config: Arc::new(config), clients })
    }

    /// Goes through the handshake with the client behind `stream`, which has sent `first` already, and
    /// says who it is; `None`: it has shown no certificate. A session that is resumed has its client's
    /// certificate checked again. The caller bounds the time.
    ///
    /// # Errors
    /// Why it came to nothing; the client was told by an alert, or by the end of a session that it
    /// may not resume.
    pub async fn accept(
        &self,
        stream: &mut TcpStream,
        first: Vec<u8>,
    ) -> Result<(Box<Session>, Option<Identity>), HandshakeFault> {
        let conn = UnbufferedServerConnection::new(Arc::clone(&self.config))
            .map_err(HandshakeFault::Protocol)?;
        let mut session = Box::new(Session::from(conn));
        session.shake_hands(stream, first).await?;
        match self.identity(session.agreed(), time::unix_ms()) {
            Ok(identity) => Ok((session, identity)),
            Err(fault) => {
                // A client that cannot be told is gone already.
                let _ = poll_fn(|cx| session.poll_end(cx, stream)).await;
                Err(fault)
            }
        }
    }

    /// As [`Terminator::accept`], for whoever reads and writes by the runtime's own traits: our own
    /// backend, to try things.
    ///
    /// # Errors
    /// As there.
    pub async fn accept_plainly(
        &self,
        stream: TcpStream,
    ) -> Result<(tokio_rustls::server::TlsStream<TcpStream>, Option<Identity>), HandshakeFault>
    {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&self.config));
        let stream = acceptor.accept(stream).await?;
        let identity = self.identity(stream.get_ref().1, time::unix_ms())?;
        Ok((stream, identity))
    }

    /// Who the client of a session is, as of `now` (milliseconds since 1970).
    fn identity(&self, agreed: &CommonState, now: u64) -> Result<Option<Identity>, HandshakeFault> {
        let Some(clients) = &self.clients else { return Ok(None) };
        let Some([certificate, rest @ ..]) = agreed.peer_certificates() else {
            return match clients.required {
                true => Err(HandshakeFault::NoCertificate),
                false => Ok(None),
            };
        };
        if agreed.handshake_kind() == Some(HandshakeKind::Resumed) {
            let now = UnixTime::since_unix_epoch(std::time::Duration::from_millis(now));
            clients.verify_client_cert(certificate, rest, now)?;
        }
        let identity = clients::identity(certificate).map_err(Error::InvalidCertificate)?;
        Ok(Some(identity))
    }
}

impl fmt::Debug for Terminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminator").finish_non_exhaustive()
    }
}

fn versions(least: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    match least {
        TlsVersion::Tls12 => BOTH,
        TlsVersion::Tls13 => &BOTH[..1],
    }
}

/// Certificates by the name that clients ask for.
#[derive(Debug, Default)]
struct Served {
    exact: HashMap<String, Vec<Arc<Certificate>>>,
    /// By what follows the `*`, the dot included.
    wild: HashMap<String, Vec<Arc<Certificate>>>,
    /// For whoever asks for none of them.
    others: Vec<Arc<Certificate>>,
}

impl Served {
    fn new(plans: &[ServedPlan]) -> Served {
        let mut served = Served::default();
        // Beside the first, those for the same names with another kind of key.
        let first = plans.first().map(names);
        let others = plans.iter().filter(|plan| Some(names(plan)) == first);
        served.others.extend(others.map(|plan| Arc::clone(&plan.certificate)));
        // A name that is configured is meant more than one that a certificate happens to hold.
        let (meant, held): (Vec<_>, Vec<_>) =
            plans.iter().partition(|plan| plan.server_name.is_some());
        for plan in meant.into_iter().chain(held) {
            for name in names(plan) {
                match name.strip_prefix('*') {
                    Some(rest) => served.wild.entry(rest.to_owned()),
                    None => served.exact.entry(name),
                }
                .or_default()
                .push(Arc::clone(&plan.certificate));
            }
        }
        served
    }

    /// In order of preference.
    fn of(&self, name: Option<&str>) -> &[Arc<Certificate>] {
        let Some(name) = name else { return &self.others };
        let name = name.to_ascii_lowercase();
        let wild = || name.find('.').and_then(|dot| self.wild.get(&name[dot..]));
        self.exact.get(&name).or_else(wild).unwrap_or(&self.others)
    }
}

/// As configured, else as the certificate has them.
fn names(plan: &ServedPlan) -> Vec<String> {
    let identity = &plan.certificate.facts.identity;
    let own = || match &identity.dns[..] {
        [] => identity.common_name.iter().map(|name| name.to_ascii_lowercase()).collect(),
        names => names.iter().map(|name| name.to_ascii_lowercase()).collect(),
    };
    plan.server_name.clone().map_or_else(own, |name| vec![name])
}

impl ResolvesServerCert for Served {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let shown = self.of(hello.server_name());
        let fits = |one: &&Arc<Certificate>| one.certified().key.choose_scheme(schemes).is_some();
        let one = shown.iter().find(fits).or_else(|| shown.first())?;
        Some(Arc::clone(one.certified_at(time::unix_ms())))
    }
}
