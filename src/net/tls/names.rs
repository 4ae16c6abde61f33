//! What a certificate says of itself: whose it is, and until when.

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Error, Tag, asn1};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use crate::base::{Identity, hex, time};

/// The common name's object identifier.
const COMMON_NAME: &str = "2.5.4.3";

/// What is read off a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its names.
    pub identity: Identity,
    /// From when on it is good, milliseconds since 1970.
    pub not_before_ms: u64,
    /// When it ends to be, milliseconds since 1970.
    pub not_after_ms: u64,
    /// The serial number, hex.
    pub serial: String,
}

impl Facts {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// It is not one.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Facts, Error> {
        let certificate = Certificate::from_der(certificate)?;
        let certificate = certificate.tbs_certificate();
        let validity = certificate.validity();
        let millis = |time: &x509_cert::time::Time| time.to_unix_duration().as_millis() as u64;
        let mut identity =
            Identity { common_name: common_name(certificate.subject()), ..Identity::default() };
        if let Some((_, names)) = certificate.get_extension::<SubjectAltName>()? {
            for name in names.0 {
                match name {
                    GeneralName::DnsName(name) => identity.dns.push(name.as_str().to_owned()),
                    GeneralName::UniformResourceIdentifier(uri) => {
                        identity.uris.push(uri.as_str().to_owned());
                    }
                    _ => {}
                }
            }
        }
        let serial = certificate.serial_number().as_bytes();
        Ok(Facts {
            identity,
            not_before_ms: millis(&validity.not_before),
            not_after_ms: millis(&validity.not_after),
            serial: hex(serial),
        })
    }

    /// What is to be said of its dates at `now_ms`; `None`: nothing for the next two weeks.
    pub fn trouble(&self, now_ms: u64) -> Option<String> {
        const DAY: u64 = 24 * 3600 * 1000;
        const SOON: u64 = 14 * DAY;
        let day = |ms| time::rfc3339(ms)[..10].to_owned();
        let (from, until) = (self.not_before_ms, self.not_after_ms);
        if until <= now_ms {
            Some(format!("has expired on {}, and is believed no more", day(until)))
        } else if from > now_ms {
            Some(format!("is not good before {}", day(from)))
        } else if until - now_ms < SOON {
            Some(format!("expires on {}, in {} days", day(until), (until - now_ms) / DAY))
        } else {
            None
        }
    }
}

/// The last of them, which is the most specific.
fn common_name(subject: &Name) -> Option<String> {
    subject.iter().filter(|part| part.oid.to_string() == COMMON_NAME).last().and_then(|part| {
        use x509_cert::der::Tagged as _;
        let value = &part.value;
        match value.tag() {
            Tag::Utf8String => value
                .decode_as::<asn1::Utf8StringRef<'_>>()
                .ok()
                .map(|text| text.as_str().to_owned()),
            Tag::PrintableString => value
                .decode_as::<asn1::PrintableStringRef<'_>>()
                .ok()
                .map(|text| text.as_str().to_owned()),
            Tag::Ia5String => value
                .decode_as::<asn1::Ia5StringRef<'_>>()
                .ok()
                .map(|text| text.as_str().to_owned()),
            Tag::TeletexString => value
                .decode_as::<asn1::TeletexStringRef<'_>>()
                .ok()
                .map(|text| text.as_str().to_owned()),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_two_weeks_and_what_lies_outside_are_trouble() {
        const DAY: u64 = 24 * 3600 * 1000;
        let facts = Facts {
            identity: Identity::default(),
            not_before_ms: 1_000 * DAY,
            not_after_ms: 1_100 * DAY,
            serial: String::new(),
        };
        assert_eq!(facts.trouble(1_050 * DAY), None);
        assert_eq!(facts.trouble(1_086 * DAY), None);
        let soon = facts.trouble(1_086 * DAY + 1);
        assert_eq!(soon.as_deref(), Some("expires on 1973-01-05, in 13 days"));
        let over = facts.trouble(1_100 * DAY);
        assert_eq!(over.as_deref(), Some("has expired on 1973-01-05, and is believed no more"));
        let early = facts.trouble(999 * DAY);
        assert_eq!(early.as_deref(), Some("is not good before 1972-09-27"));
    }
}
