//! Sessions with a backend, to be resumed: no longer than its certificate is good.
//!
//! A resumed handshake shows no certificate and checks none. Sessions alone would hide an expired
//! one for as long as there is traffic, until a restart brings it to light on every node at another
//! time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, NamedGroup, SignatureScheme};

use super::names::Facts;
use crate::base::time;

/// `inner`, and `most` sessions that are resumed as long as what it has verified last is good.
pub(super) fn remembering(
    inner: Arc<dyn ServerCertVerifier>,
    most: usize,
) -> (Arc<dyn ServerCertVerifier>, Resumption) {
    let until_ms = Arc::new(AtomicU64::new(0));
    let sessions = ClientSessionMemoryCache::new(most);
    let remembered = Remembered { sessions, until_ms: Arc::clone(&until_ms) };
    (Arc::new(Noting { inner, until_ms }), Resumption::store(Arc::new(remembered)))
}

struct Remembered {
    sessions: ClientSessionMemoryCache,
    until_ms: Arc<AtomicU64>,
}

impl Remembered {
    fn are_good(&self) -> bool {
        time::unix_ms() < self.until_ms.load(Relaxed)
    }
}

impl fmt::Debug for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remembered").finish_non_exhaustive()
    }
}

impl ClientSessionStore for Remembered {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.sessions.set_kx_hint(name, group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.sessions.kx_hint(name)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.sessions.set_tls12_session(name, session);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.sessions.tls12_session(name).filter(|_| self.are_good())
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.sessions.remove_tls12_session(name);
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.sessions.insert_tls13_ticket(name, ticket);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.sessions.take_tls13_ticket(name).filter(|_| self.are_good())
    }
}

/// Notes until when the certificates are good that `inner` takes.
#[derive(Debug)]
struct Noting {
    inner: Arc<dyn ServerCertVerifier>,
    until_ms: Arc<AtomicU64>,
}

impl ServerCertVerifier for Noting {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(end_entity, intermediates, name, ocsp, now)?;
        let ends = |certificate| Facts::of(certificate).map_or(0, |facts| facts.not_after_ms);
        let until = intermediates.iter().map(ends).fold(ends(end_entity), u64::min);
        self.until_ms.store(until, Relaxed);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.inner.requires_raw_public_keys()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.inner.root_hint_subjects()
    }
}
