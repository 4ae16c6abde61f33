//! Whose certificates are taken of clients, and who they then are.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::names::Facts;
use super::plan::ClientsPlan;
use super::provider;
use super::terminate::SetupError;
use crate::base::Identity;

/// Takes what the authorities have signed and not revoked, of whoever has a name.
#[derive(Debug)]
pub(super) struct Clients {
    by_authority: Arc<dyn ClientCertVerifier>,
    pub(super) required: bool,
}

/// Rules of authorization and limits go by names: a certificate without one would slip past them all.
#[derive(Debug, thiserror::Error)]
#[error("it names nobody: it has no common name, DNS name or URI")]
struct Nameless;

impl Clients {
    pub(super) fn new(plan: &ClientsPlan) -> Result<Clients, SetupError> {
        let roots = Arc::new(plan.ca.store());
        let provider = Arc::clone(provider());
        let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
        if let Some(revoked) = &plan.crl {
            // Of the whole chain, and who is on no list that could be found is refused: as OpenSSL does
            // it for whoever checks at all. A list that is out of date holds until a newer one comes.
            builder = builder.with_crls(revoked.lists.iter().cloned());
        }
        if !plan.required {
            builder = builder.allow_unauthenticated();
        }
        let by_authority =
            builder.build().map_err(|error| SetupError::Clients(error.to_string()))?;
        Ok(Clients { by_authority, required: plan.required })
    }
}

/// Who the holder of a client certificate is.
pub(super) fn identity(certificate: &CertificateDer<'_>) -> Result<Identity, CertificateError> {
    let facts = Facts::of(certificate).map_err(|_| CertificateError::BadEncoding)?;
    if facts.identity.names().all(str::is_empty) {
        return Err(CertificateError::Other(OtherError(Arc::new(Nameless))));
    }
    Ok(facts.identity)
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.by_authority.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.by_authority.verify_client_cert(end_entity, intermediates, now)?;
        identity(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authority.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authority.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authority.supported_verify_schemes()
    }
}
