//! Why a handshake came to nothing.

use std::io;

use rustls::{CertificateError, Error, PeerIncompatible};

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeFault {
    /// The peer's connection failed, or ended before the handshake did.
    #[error("the peer is gone: {0}")]
    Gone(io::Error),
    /// No version, cipher suite or the like in common.
    #[error("nothing in common: {0}")]
    Incompatible(Error),
    /// A certificate is demanded and none was shown.
    #[error("no client certificate was shown")]
    NoCertificate,
    /// The certificate is no longer good, or not yet.
    #[error("the certificate is not valid now")]
    Expired,
    /// The certificate is on a revocation list.
    #[error("the certificate is revoked")]
    Revoked,
    /// Nobody who is trusted has signed the certificate, or it is for something else.
    #[error("the certificate is not trusted: {}", why(.0))]
    Untrusted(Error),
    /// The peer broke the handshake off: it does not trust ours, say.
    #[error("the peer refused: {0}")]
    Refused(Error),
    /// What the peer sent is not as TLS demands it.
    #[error("{0}")]
    Protocol(Error),
}

impl From<io::Error> for HandshakeFault {
    fn from(error: io::Error) -> Self {
        match error.downcast::<Error>() {
            Ok(error) => error.into(),
            Err(error) => HandshakeFault::Gone(error),
        }
    }
}

impl From<Error> for HandshakeFault {
    fn from(error: Error) -> Self {
        use CertificateError as Bad;
        match error {
            Error::NoCertificatesPresented
            | Error::PeerIncompatible(
                PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon,
            ) => HandshakeFault::NoCertificate,
            Error::InvalidCertificate(
                Bad::Expired
                | Bad::ExpiredContext { .. }
                | Bad::NotValidYet
                | Bad::NotValidYetContext { .. },
            ) => HandshakeFault::Expired,
            Error::InvalidCertificate(Bad::Revoked) => HandshakeFault::Revoked,
            Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_) => {
                HandshakeFault::Untrusted(error)
            }
            Error::AlertReceived(_) => HandshakeFault::Refused(error),
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => {
                HandshakeFault::Incompatible(error)
            }
            error => HandshakeFault::Protocol(error),
        }
    }
}

/// In words, where rustls has names.
fn why(error: &Error) -> String {
    use CertificateError as Bad;
    let words = match error {
        Error::InvalidCertRevocationList(error) => {
            return format!("the revocation list of its issuer is of no use: {error:?}");
        }
        Error::InvalidCertificate(Bad::UnknownIssuer) => "nobody who is trusted has signed it",
        Error::InvalidCertificate(Bad::UnknownRevocationStatus) => {
            "there is no revocation list of its issuer"
        }
        Error::InvalidCertificate(Bad::BadSignature) => "its signature is broken",
        Error::InvalidCertificate(Bad::BadEncoding) => "it is malformed",
        Error::InvalidCertificate(Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. }) => {
            "it is for another use (extended key usage)"
        }
        Error::InvalidCertificate(Bad::ApplicationVerificationFailure) => {
            "it is not the pinned one"
        }
        Error::InvalidCertificate(Bad::Other(error)) => return error.to_string(),
        Error::InvalidCertificate(error) => return error.to_string(),
        error => return error.to_string(),
    };
    words.to_owned()
}
