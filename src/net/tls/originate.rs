//! TLS towards a backend.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, UnbufferedClientConnection, WebPkiServerVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, IpAddr, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;

use super::fault::HandshakeFault;
use super::plan::{OriginatePlan, Trust};
use super::provider;
use super::remembered::remembering;
use super::session::Session;
use super::terminate::SetupError;
use crate::base::{Endpoint, Host};

/// Sessions remembered per backend, to be resumed.
const SESSIONS: usize = 32;

/// Begins TLS with one backend. Each has its own, for its sessions are its own.
pub struct Originator(Result<Parts, SetupError>);

struct Parts {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Originator {
    /// As `plan` asks for; `backend` is whom it goes to. What cannot be set up fails at every handshake;
    /// [`Originator::fault`] says so before.
    pub fn new(plan: &OriginatePlan, backend: &Endpoint) -> Originator {
        Originator(Parts::new(plan, backend))
    }

    /// Why no handshake will succeed.
    pub fn fault(&self) -> Option<&SetupError> {
        self.0.as_ref().err()
    }

    /// Goes through the handshake with the backend behind `stream`.
    ///
    /// # Errors
    /// Why it came to nothing; the backend was told by an alert.
    pub async fn connect(&self, stream: &mut TcpStream) -> Result<Box<Session>, HandshakeFault> {
        let Parts { config, name } = self.parts()?;
        let conn = UnbufferedClientConnection::new(Arc::clone(config), name.clone())?;
        let mut session = Box::new(Session::from(conn));
        session.shake_hands(stream, Vec::new()).await?;
        Ok(session)
    }

    /// As [`Originator::connect`], for whoever reads and writes by the runtime's own traits: checks, which
    /// are few.
    ///
    /// # Errors
    /// As there.
    pub async fn connect_plainly(
        &self,
        stream: TcpStream,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, HandshakeFault> {
        Ok(self.begin(stream)?.await?)
    }

    /// As [`Originator::connect_plainly`], with the error as rustls has it: our own client says all that
    /// can be said about it.
    ///
    /// # Errors
    /// TLS could not be set up.
    pub fn begin(
        &self,
        stream: TcpStream,
    ) -> Result<tokio_rustls::Connect<TcpStream>, HandshakeFault> {
        let Parts { config, name } = self.parts()?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
        Ok(connector.connect(name.clone(), stream))
    }

    fn parts(&self) -> Result<&Parts, HandshakeFault> {
        self.0.as_ref().map_err(|fault| Error::General(fault.to_string()).into())
    }
}

impl Parts {
    fn new(plan: &OriginatePlan, backend: &Endpoint) -> Result<Parts, SetupError> {
        let verifier = verifier(&plan.trust)?;
        let (verifier, resumption) = match &plan.trust {
            Trust::System | Trust::Roots(_) => remembering(verifier, SESSIONS),
            // Whose dates do not matter.
            Trust::Pinned(_) | Trust::Anybody => {
                (verifier, Resumption::in_memory_sessions(SESSIONS))
            }
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider()))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &plan.certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let key = SingleCertAndKey::from(Arc::clone(certificate.certified()));
                builder.with_client_cert_resolver(Arc::new(key))
            }
        };
        config.resumption = resumption;
        let name = match &plan.server_name {
            Some(name) => ServerName::try_from(name.clone())
                .map_err(|error| Error::General(format!("`{name}`: {error}")))?,
            None => of_host(&backend.host)?,
        };
        Ok(Parts { config: Arc::new(config), name })
    }
}

impl fmt::Debug for Originator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Originator").field(&self.0.as_ref().map(|parts| &parts.name)).finish()
    }
}

fn of_host(host: &Host) -> Result<ServerName<'static>, Error> {
    match host {
        Host::Ip(ip) => Ok(ServerName::IpAddress(IpAddr::from(*ip))),
        Host::Name(name) => ServerName::try_from(name.to_string())
            .map_err(|error| Error::General(format!("`{name}`: {error}"))),
    }
}

fn verifier(trust: &Trust) -> Result<Arc<dyn ServerCertVerifier>, SetupError> {
    let by_roots = |roots: Arc<RootCertStore>| {
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider()))
            .build()
            .map_err(|error| SetupError::Tls(Error::General(error.to_string())))
    };
    Ok(match trust {
        Trust::System => {
            let roots = system_roots();
            if roots.is_empty() {
                return Err(SetupError::NoSystemRoots);
            }
            by_roots(roots)?
        }
        Trust::Roots(roots) => by_roots(Arc::new(roots.store()))?,
        Trust::Pinned(pinned) => Arc::new(Known(Some(pinned.certificates.clone()))),
        Trust::Anybody => Arc::new(Known(None)),
    })
}

/// The machine's authorities, as they were when first asked for.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "some of the system's certificate authorities cannot be read");
        }
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(found.certs);
        Arc::new(store)
    });
    Arc::clone(roots)
}

/// Takes these certificates and no others, whatever their names and dates; `None`: takes all.
#[derive(Debug)]
struct Known(Option<Vec<CertificateDer<'static>>>);

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.0 {
            Some(pinned) if !pinned.iter().any(|pin| pin == end_entity) => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
