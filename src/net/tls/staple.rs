//! OCSP responses (RFC 6960) that are shown with a certificate: whether one is about it, and until
//! when. Its signature is the client's to judge.

use der::asn1::{Any, BitString, GeneralizedTime, Null, ObjectIdentifier, OctetString};
use der::{Choice, Decode as _, Enumerated, Error, ErrorKind, Sequence};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::base::hex;

/// `id-pkix-ocsp-basic`.
const BASIC: &str = "1.3.6.1.5.5.7.48.1.1";

/// What a response says of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) verdict: Verdict,
    /// From when on it is good, milliseconds since 1970.
    pub(super) from_ms: u64,
    /// When a newer one is due; `None`: it could be asked at any time.
    pub(super) until_ms: Option<u64>,
}

/// What a responder thinks of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    Revoked,
    /// The responder has never heard of it.
    Unknown,
}

impl Said {
    /// Whether a client may rely on it at `now_ms`.
    pub(super) fn is_good(&self, now_ms: u64) -> bool {
        let in_time = self.from_ms <= now_ms && self.until_ms.is_none_or(|until| now_ms < until);
        self.verdict == Verdict::Good && in_time
    }
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub(super) enum StapleFault {
    #[error("is no OCSP response in DER: {0}")]
    Malformed(#[from] Error),
    #[error("is no successful OCSP response: its status is {0:?}")]
    Unsuccessful(Status),
    #[error("is about another certificate, with the serial number {0}")]
    Another(String),
}

/// What `response` says of the certificate with this serial number, hex.
pub(super) fn said_of(response: &[u8], serial: &str) -> Result<Said, StapleFault> {
    let Response { status, body } = Response::from_der(response)?;
    let Some(body) = body.filter(|body| body.kind.to_string() == BASIC) else {
        return Err(match status {
            Status::Successful => StapleFault::Malformed(ErrorKind::Failed.into()),
            status => StapleFault::Unsuccessful(status),
        });
    };
    let basic = Basic::from_der(body.response.as_bytes())?;
    let number = |single: &Single| hex(single.about.serial.as_bytes());
    let Some(single) = basic.data.responses.iter().find(|single| number(single) == serial) else {
        let others: Vec<_> = basic.data.responses.iter().map(number).collect();
        return Err(StapleFault::Another(others.join(", ")));
    };
    let millis = |time: &GeneralizedTime| time.to_unix_duration().as_millis() as u64;
    Ok(Said {
        verdict: match single.status {
            CertStatus::Good(_) => Verdict::Good,
            CertStatus::Revoked(_) => Verdict::Revoked,
            CertStatus::Unknown(_) => Verdict::Unknown,
        },
        from_ms: millis(&single.this_update),
        until_ms: single.next_update.as_ref().map(millis),
    })
}

/// Whether the responder could answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumerated)]
#[repr(u8)]
pub(super) enum Status {
    Successful = 0,
    MalformedRequest = 1,
    InternalError = 2,
    TryLater = 3,
    SigRequired = 5,
    Unauthorized = 6,
}

/// `OCSPResponse`.
#[derive(Sequence)]
struct Response {
    status: Status,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    body: Option<Body>,
}

/// `ResponseBytes`.
#[derive(Sequence)]
struct Body {
    kind: ObjectIdentifier,
    response: OctetString,
}

/// `BasicOCSPResponse`.
#[derive(Sequence)]
struct Basic {
    data: Data,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    certs: Option<Any>,
}

/// `ResponseData`.
#[derive(Sequence)]
struct Data {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    version: Option<u8>,
    /// By name or by key.
    responder: Any,
    produced_at: GeneralizedTime,
    responses: Vec<Single>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Any>,
}

/// `SingleResponse`.
#[derive(Sequence)]
struct Single {
    about: CertId,
    status: CertStatus,
    this_update: GeneralizedTime,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    next_update: Option<GeneralizedTime>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Any>,
}

/// `CertID`.
#[derive(Sequence)]
struct CertId {
    hash: AlgorithmIdentifierOwned,
    issuer_name: OctetString,
    issuer_key: OctetString,
    serial: SerialNumber,
}

/// `CertStatus`.
#[derive(Choice)]
enum CertStatus {
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    Good(Null),
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", constructed = "true")]
    Revoked(Revoked),
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT")]
    Unknown(Null),
}

/// `RevokedInfo`.
#[derive(Sequence)]
struct Revoked {
    time: GeneralizedTime,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    reason: Option<Any>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::ocsp::{GOOD, REVOKED, UNKNOWN, response};

    #[test]
    fn a_response_tells_of_one_certificate_and_until_when() {
        let bytes = response(&[0x0a, 1], GOOD, Some("20300102030405Z"));
        let said = said_of(&bytes, "0a01").unwrap();
        assert_eq!((said.from_ms, said.until_ms), (1_704_067_200_000, Some(1_893_553_445_000)));
        assert!(said.is_good(1_893_553_444_999) && !said.is_good(1_893_553_445_000));
        assert!(!said.is_good(1_704_067_199_999), "it is of tomorrow");
        let endless = said_of(&response(&[1], GOOD, None), "01").unwrap();
        assert!(endless.is_good(u64::MAX), "a newer one may be had at any time");
        for (bytes, verdict) in [(REVOKED, Verdict::Revoked), (UNKNOWN, Verdict::Unknown)] {
            let said = said_of(&response(&[1], bytes, None), "01").unwrap();
            assert_eq!(said.verdict, verdict);
            assert!(!said.is_good(1_800_000_000_000));
        }
    }

    #[test]
    fn what_is_no_answer_about_the_certificate_is_told_apart() {
        let fault = |bytes: &[u8]| said_of(bytes, "0a01").unwrap_err().to_string();
        let another = fault(&response(&[0x0b], GOOD, None));
        assert_eq!(another, "is about another certificate, with the serial number 0b");
        let later = fault(&[0x30, 3, 0x0a, 1, 3]);
        assert_eq!(later, "is no successful OCSP response: its status is TryLater");
        let whole = response(&[0x0a, 1], GOOD, None);
        for cut in 0..whole.len() {
            let fault = fault(&whole[..cut]);
            assert!(fault.starts_with("is no OCSP response in DER: "), "{cut}: {fault}");
        }
        assert!(fault(&[0x30, 3, 0x0a, 1, 0]).starts_with("is no OCSP response in DER"));
    }
}
